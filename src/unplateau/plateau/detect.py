"""Plateaus of a learning curve."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from unplateau.errors import SpecError
from unplateau.plateau.fit import Fit, Floats, Points, near
from unplateau.plateau.noise import Fitted, fitted
from unplateau.plateau.prepare import Direction, Prepared, binned, checked, prepare
from unplateau.plateau.shape import Knee, knees, rounded_off

FEWEST = 8
EVIDENCE = 16.0
ARRIVED = 0.9


@dataclass(frozen=True)
class Plateau:
    start: float
    end: float
    level: float
    ended: bool
    interval: tuple[float, float]


def doubt_of(f: Fitted) -> Floats:
    """SE of the change over each piece."""
    out = []
    k = f.fit.knots
    for a, b in zip(k[:-1], k[1:], strict=True):
        x = f.points.x[(f.points.x >= a) & (f.points.x <= b)]
        ss = float(np.sum((x - x.mean()) ** 2)) if x.size > 1 else 0.0
        out.append((b - a) * np.sqrt(f.long_run / ss) if ss > 0 else np.inf)
    return np.array(out)


def convex_misfit(x: Floats, y: Floats, w: Floats, corners: Floats) -> float:
    hinges = np.unique(np.concatenate([corners, x[:: max(1, x.size // 80)]]))
    hinges = hinges[(hinges > x[0]) & (hinges < x[-1])]
    columns = [np.ones_like(x), -np.ones_like(x), x - x[0], x[0] - x]
    design = np.column_stack([*columns, *(np.maximum(x - h, 0.0) for h in hinges)])
    root = np.sqrt(w)
    design = design * root[:, None]
    design = design / np.maximum(np.sqrt((design**2).sum(0)), 1e-300)
    return float(nnls(design, y * root, maxiter=50 * design.shape[1])[1]) ** 2


def evidence(curve: Prepared, f: Fitted, knee: Knee) -> float:
    k = f.fit.knots
    last = min(knee.bottom + 1, k.size - 1)
    inside = (f.points.x >= k[knee.start]) & (f.points.x <= k[last])
    x, y, w = binned(curve.time[inside], curve.y[inside], curve.w[inside])
    _, residual, _ = binned(curve.time[inside], (curve.y - f.fit(f.points.x))[inside], curve.w[inside])
    return (convex_misfit(x, y, w, np.interp(k, f.points.x, curve.time)) - float(np.sum(w * residual**2))) / f.long_run


def lasting(f: Fitted, knee: Knee) -> bool:
    below = f.fit(f.points.x) <= f.fit.values[knee.knee] - knee.fall / 2
    below = below[f.points.x > f.fit.knots[knee.knee]]
    first = int(np.argmax(below))
    back = np.flatnonzero(~below[first:])
    if back.size == 0:
        return below.size - first >= 3
    return bool(back[0] >= max(3, 0.05 * f.points.x.size))


def interval(f: Fitted, knee: int) -> tuple[float, float]:
    points, fit, k = f.points, f.fit, f.fit.knots
    lo, hi = k[knee - 1], k[knee + 1]
    inside = points.x[(points.x > lo) & (points.x < hi)]
    base = np.concatenate([near(points.x, k[knee], 40), inside[:: max(1, inside.size // 100)], [k[knee]]])
    base = np.unique(base[(base > lo) & (base < hi)])
    if knee + 2 < k.size:
        nxt = points.x[(points.x > k[knee]) & (points.x < k[knee + 2])]
        nxt = np.unique(np.concatenate([near(points.x, k[knee + 1], 10), nxt[:: max(1, nxt.size // 30)], [k[knee + 1]]]))
        nxt = nxt[nxt < k[knee + 2]]
    else:
        nxt = k[[knee + 1]]
    a, b = np.meshgrid(base, nxt, indexing="ij")
    ok = (a < b)
    cand = np.repeat(k[None], int(ok.sum()), 0); cand[:, knee] = a[ok]; cand[:, knee + 1] = b[ok]
    _, rss = points.solve(cand)
    table = np.full(a.shape, np.inf); table[ok] = rss
    profile = table.min(1)
    inside_ = base[profile <= min(profile.min(), fit.rss) + 3.84 * f.long_run]
    return min(inside_.min(), k[knee]), max(inside_.max(), k[knee])


def find_plateaus(steps, values, *, floor=None, ceiling=None, direction="min", debug=False):
    s, v = checked(steps, values)
    if direction not in ("min", "max"):
        raise SpecError(f"direction must be 'min' or 'max', got {direction!r}")
    if np.unique(s).size < FEWEST:
        return []
    c = prepare(s, v, direction)
    f = fitted(c)
    if debug: print('fit0', f.fit.knots.round(4), f.fit.values.round(3), 'sd',f.sd,'lr',f.long_run**.5, 'clock', f.points.x is c.time)
    f = replace(f, fit=rounded_off(f.points, f.fit))
    fit, points = f.fit, f.points
    found = knees(fit, [np.interp(fit.knots, points.x, clock) for clock in c.clocks], doubt_of(f))
    if debug: print('fit', fit.knots.round(4), fit.values.round(3)); print([(k, evidence(c, f, k), lasting(f,k)) for k in found])
    out = []
    for k in found:
        rows = (points.x >= fit.knots[k.start]) & (points.x <= fit.knots[k.knee])
        if rows.sum() < 5 or not lasting(f, k) or evidence(c, f, k) < EVIDENCE:
            continue
        st=lambda z: float(np.interp(z, points.x, c.steps))
        lo, hi = interval(f, k.knee)
        out.append(Plateau(st(fit.knots[k.start]), st(fit.knots[k.knee]), c.value_of(float(points.y[rows].mean())), True, (st(lo), st(hi))))
    return out
