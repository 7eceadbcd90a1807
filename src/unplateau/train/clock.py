"""Seconds and joules, those of training and those of observing kept apart; they survive a resume."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch

from unplateau.energy import EnergyMeter


@dataclass(frozen=True)
class Spent:
    """Time and energy. ``joules``: None where they are not known."""

    seconds: float = 0.0
    joules: float | None = 0.0

    def __add__(self, other: Self) -> Self:
        known = self.joules is not None and other.joules is not None
        return type(self)(self.seconds + other.seconds, self.joules + other.joules if known else None)  # type: ignore[operator]

    def __mul__(self, times: float) -> Self:
        return type(self)(self.seconds * times, None if self.joules is None else self.joules * times)


class Stopwatch:
    """What passes between two laps, with all that the device was asked for in it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._meter = EnergyMeter(gpus=None if device.type == "cuda" else ())
        self._then, self._then_joules = time.perf_counter(), self._meter.read().joules

    @property
    def method(self) -> str:
        """How the joules come about."""
        return self._meter.method

    def lap(self) -> Spent:
        """Since the last lap, or since it was made."""
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        now, joules = time.perf_counter(), self._meter.read().joules
        known = joules is not None and self._then_joules is not None
        spent = Spent(now - self._then, joules - self._then_joules if known else None)  # type: ignore[operator]
        self._then, self._then_joules = now, joules
        return spent


class CostClock:
    """Adds what passed since the last lap to ``training`` or to ``observers``."""

    def __init__(self, device: torch.device) -> None:
        self._watch = Stopwatch(device)
        self._costs: dict[str, Any] = {"seconds": 0.0, "observer_seconds": 0.0, "joules": 0.0, "observer_joules": 0.0}
        self._others = 0.0

    def others(self, seconds: float) -> None:
        """So much of the time since the last lap went to other runs, and of its energy in proportion."""
        self._others += seconds

    def lap(self, account: Literal["training", "observers"]) -> None:
        """Books the time and energy since the last lap."""
        spent, share = self._watch.lap(), "" if account == "training" else "observer_"
        mine = spent * (max(0.0, 1 - self._others / spent.seconds) if spent.seconds else 1)
        before = Spent(self._costs[f"{share}seconds"], self._costs[f"{share}joules"])
        booked = before + mine
        self._costs[f"{share}seconds"], self._costs[f"{share}joules"] = booked.seconds, booked.joules
        self._others = 0.0

    def add(self, costs: Mapping[str, Any]) -> None:
        """Continues from the costs that an earlier process read."""
        self._costs = {name: costs[name] for name in self._costs}

    def read(self) -> dict[str, Any]:
        """Cumulative ``seconds``, ``joules`` (null if unknown), the observers' share apart, and the method."""
        return {**self._costs, "energy_method": self._watch.method}
