"""Geometry passes of the 3D Shapes stand-in: where each surface is seen and how bright it is, before any colour.

A pass is four one-channel maps (sky, floor, wall, object), shade times coverage. Under achromatic light an image is
linear in its colours, so 480 passes give all 480,000 images. The scene constants were fitted to frames of DeepMind's 3D
Shapes (Burgess and Kim 2018).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SURFACES = ("sky", "floor", "wall", "object")

SCALES = tuple(np.linspace(0.75, 1.25, 8).tolist())
"""Object sizes, relative to the fitted lengths below."""

ORIENTATIONS = tuple(np.linspace(-30, 30, 15).tolist())
"""Degrees by which the camera orbits the origin."""

# World units; the camera looks along +y at angle 0, z is up, the object stands on the floor near the origin.
CAMERA_DISTANCE, CAMERA_HEIGHT, CAMERA_PITCH, FIELD_OF_VIEW = 5.276, 1.881, -5.212, 43.866
ROOM_HALF_WIDTH, BACK_WALL, WALL_HEIGHT = 4.539, 4.32, 2.747
OBJECT_CENTRE = np.array([0.0, -0.012, 0.0])
LIGHT = np.array([-3.128, 0.466, 14.801])
AMBIENT, DIFFUSE, HEADLIGHT = 0.409, 0.369, 0.502

SUPERSAMPLING = 2


class Solid(NamedTuple):
    """A convex solid on the floor: ``distance`` along rays to it (inf: missed) and outward ``normal`` at its surface.

    Points and origins are relative to the foot of the object; arrays are (N, 3) in, (N,) or (N, 3) out.
    """

    distance: Callable[[Array, Array], Array]
    normal: Callable[[Array], Array]


def render(image_size: int, scale: float, shape: int, orientation: float) -> npt.NDArray[np.float32]:
    """(4, image_size, image_size): shade times coverage of sky, floor, wall and object; they sum to at most 1.

    ``image_size``: pixels. ``scale``: object size (see ``SCALES``). ``shape``: index into ``SOLIDS``. ``orientation``:
    degrees. The four maps of a pixel partition it, so colours in [0, 1] never have to be clipped.
    """
    eye, rays = camera(image_size * SUPERSAMPLING, orientation)
    solid = SOLIDS[shape](scale)
    distance, surface, normal = _room_hits(eye, rays)
    object_distance = solid.distance(eye - OBJECT_CENTRE, rays)
    is_object = object_distance < distance
    points = eye + np.minimum(distance, object_distance)[:, None] * rays
    normal[is_object] = solid.normal(points[is_object] - OBJECT_CENTRE)
    surface[is_object] = SURFACES.index("object")
    value = _shade(points, normal, eye, _lit(points, surface, solid))
    value[surface == SURFACES.index("sky")] = 1.0
    maps = np.stack([value * (surface == number) for number in range(len(SURFACES))])
    grid = maps.reshape(len(SURFACES), image_size, SUPERSAMPLING, image_size, SUPERSAMPLING)
    return grid.mean(axis=(2, 4)).astype(np.float32)


def camera(size: int, orientation: float) -> tuple[Array, Array]:
    """Position (3,) of the camera and directions (size * size, 3) of its rays, rows from the top."""
    angle, pitch = math.radians(orientation), math.radians(CAMERA_PITCH)
    eye = np.array([CAMERA_DISTANCE * math.sin(angle), -CAMERA_DISTANCE * math.cos(angle), CAMERA_HEIGHT])
    ahead, right = np.array([-math.sin(angle), math.cos(angle), 0]), np.array([math.cos(angle), math.sin(angle), 0])
    zenith = np.array([0.0, 0.0, 1.0])
    forward = math.cos(pitch) * ahead + math.sin(pitch) * zenith
    upward = math.cos(pitch) * zenith - math.sin(pitch) * ahead
    offset = ((np.arange(size) + 0.5) / size * 2 - 1) * math.tan(math.radians(FIELD_OF_VIEW) / 2)
    rays = forward + offset[None, :, None] * right - offset[:, None, None] * upward
    return eye, rays.reshape(-1, 3)


def _room_hits(eye: Array, rays: Array) -> tuple[Array, npt.NDArray[np.int64], Array]:
    """Distance (N,), surface number (N,) and inward normal (N, 3) of the room where each ray meets it."""
    planes = (  # axis, position, normal: floor, back wall, left wall, right wall
        (2, 0.0, (0, 0, 1)),
        (1, BACK_WALL, (0, -1, 0)),
        (0, -ROOM_HALF_WIDTH, (1, 0, 0)),
        (0, ROOM_HALF_WIDTH, (-1, 0, 0)),
    )
    reach = np.stack([(position - eye[axis]) / _nonzero(rays[:, axis]) for axis, position, _ in planes])
    reach[reach <= 0] = np.inf  # behind the camera
    nearest, distance = reach.argmin(axis=0), reach.min(axis=0)
    surface = np.where(nearest == 0, SURFACES.index("floor"), SURFACES.index("wall"))
    surface[eye[2] + distance * rays[:, 2] > WALL_HEIGHT] = SURFACES.index("sky")
    return distance, surface, np.array([normal for _, _, normal in planes], dtype=np.float64)[nearest]


def _lit(points: Array, surface: npt.NDArray[np.int64], solid: Solid) -> npt.NDArray[np.bool_]:
    """(N,): False in the shadow that the object casts on floor and walls."""
    lit = np.ones(len(points), dtype=np.bool_)
    room = (surface == SURFACES.index("floor")) | (surface == SURFACES.index("wall"))
    start = points[room]
    lit[room] = solid.distance(start - OBJECT_CENTRE, LIGHT - start) > 1
    return lit


def _shade(points: Array, normal: Array, eye: Array, lit: npt.NDArray[np.bool_]) -> Array:
    def facing(target: Array) -> Array:
        way = target - points
        cosine: Array = np.einsum("ij,ij->i", normal, way) / np.sqrt(np.einsum("ij,ij->i", way, way))
        return cosine.clip(min=0.0)

    value: Array = AMBIENT + (DIFFUSE * facing(LIGHT) + HEADLIGHT * facing(eye)) * lit
    return value.clip(max=1.0)


def _cube(scale: float) -> Solid:
    half = 0.645 * scale

    def distance(origin: Array, rays: Array) -> Array:
        spans = [_slab(origin, rays, axis, low, low + 2 * half) for axis, low in ((0, -half), (1, -half), (2, 0.0))]
        return _entry(*spans)

    def normal(points: Array) -> Array:
        offset = points - (0, 0, half)
        axis = np.abs(offset).argmax(axis=1)
        facing: Array = np.eye(3)[axis] * np.sign(np.take_along_axis(offset, axis[:, None], axis=1))
        return facing

    return Solid(distance, normal)


def _cylinder(scale: float) -> Solid:
    radius, half = 0.684 * scale, 0.667 * scale

    def distance(origin: Array, rays: Array) -> Array:
        return _entry(_round(origin[..., :2], rays[:, :2], radius), _slab(origin, rays, 2, 0.0, 2 * half))

    def normal(points: Array) -> Array:
        side = points * (1, 1, 0) / radius
        on_lid = np.abs(points[:, 2] - half) / half > np.linalg.norm(side, axis=1)
        return np.where(on_lid[:, None], (0, 0, 1) * np.sign(points[:, 2:] - half), side)

    return Solid(distance, normal)


def _pill(radius: float, height: float) -> Solid:
    """A vertical capsule of this total height; a sphere if the height is twice the radius."""
    low, high = radius, height - radius

    def distance(origin: Array, rays: Array) -> Array:
        ends = [_entry(_round(origin - (0, 0, end), rays, radius)) for end in {low, high}]
        middle = _entry(_round(origin[..., :2], rays[:, :2], radius), _slab(origin, rays, 2, low, high))
        return np.asarray(np.minimum.reduce([*ends, middle]))

    def normal(points: Array) -> Array:
        axis = np.zeros_like(points)
        axis[:, 2] = points[:, 2].clip(low, high)
        return (points - axis) / radius

    return Solid(distance, normal)


SOLIDS: tuple[Callable[[float], Solid], ...] = (
    _cube,
    _cylinder,
    lambda scale: _pill(0.791 * scale, 2 * 0.791 * scale),  # a sphere
    lambda scale: _pill(0.594 * scale, 2 * 1.201 * scale),  # a capsule
)
"""The four shapes, each a function of its size."""

_Span = tuple[Array, Array]


def _slab(origin: Array, rays: Array, axis: int, low: float, high: float) -> _Span:
    """Distances at which rays enter and leave the space between two parallel planes."""
    step = _nonzero(rays[:, axis])
    first, second = (low - origin[..., axis]) / step, (high - origin[..., axis]) / step
    return np.minimum(first, second), np.maximum(first, second)


def _round(origin: Array, rays: Array, radius: float) -> _Span:
    """The same for a ball around the origin; given x and y alone, for an endless vertical cylinder."""
    a = _nonzero(np.einsum("ij,ij->i", rays, rays))
    b = np.einsum("...j,...j->...", origin, rays)
    c = np.einsum("...j,...j->...", origin, origin) - radius**2
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0.0))
    missed = square < 0
    return np.where(missed, np.inf, (-b - root) / a), np.where(missed, -np.inf, (-b + root) / a)


def _entry(*spans: _Span) -> Array:
    """Where rays enter the intersection of convex bodies; inf if they miss it or it lies behind them."""
    enter = np.maximum.reduce([span[0] for span in spans])
    leave = np.minimum.reduce([span[1] for span in spans])
    return np.where((enter < leave) & (enter > 0), enter, np.inf)


def _nonzero(values: Array) -> Array:
    return np.where(np.abs(values) < 1e-12, 1e-12, values)
