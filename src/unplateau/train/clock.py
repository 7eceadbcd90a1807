"""Seconds and joules, those of training and those of observing kept apart; they survive a resume."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import torch

from unplateau.energy import EnergyMeter


class CostClock:
    """Adds what passed since the last lap to ``training`` or to ``observers``."""

    def __init__(self, device: torch.device) -> None:
        self._meter = EnergyMeter(gpus=None if device.type == "cuda" else ())
        self._seconds = {"training": 0.0, "observers": 0.0}
        self._joules: dict[str, float | None] = {"training": 0.0, "observers": 0.0}
        self._then, self._then_joules = time.perf_counter(), self._meter.read().joules

    def lap(self, account: Literal["training", "observers"]) -> None:
        """Books the time and energy since the last lap."""
        now, joules, before = time.perf_counter(), self._meter.read().joules, self._joules[account]
        self._seconds[account] += now - self._then
        known = joules is not None and self._then_joules is not None and before is not None
        self._joules[account] = before + joules - self._then_joules if known else None  # type: ignore[operator]
        self._then, self._then_joules = now, joules

    def add(self, costs: Mapping[str, Any]) -> None:
        """Continues from the costs that an earlier process read."""
        self._seconds = {"training": costs["seconds"], "observers": costs["observer_seconds"]}
        self._joules = {"training": costs["joules"], "observers": costs["observer_joules"]}

    def read(self) -> dict[str, Any]:
        """Cumulative ``seconds``, ``joules`` (null if unknown), the observers' share apart, and the method."""
        return {
            "seconds": self._seconds["training"],
            "observer_seconds": self._seconds["observers"],
            "joules": self._joules["training"],
            "observer_joules": self._joules["observers"],
            "energy_method": self._meter.method,
        }
