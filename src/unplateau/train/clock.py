"""Seconds and joules, those of training and those of observing kept apart; they survive a resume."""

import time
from collections.abc import Mapping
from typing import Any, Literal

import torch

from unplateau.energy import EnergyMeter


class CostClock:
    """Adds what passed since the last lap to ``training`` or to ``observers``."""

    def __init__(self, device: torch.device) -> None:
        self._meter = EnergyMeter(gpus=None if device.type == "cuda" else ())
        self._costs: dict[str, Any] = {"seconds": 0.0, "observer_seconds": 0.0, "joules": 0.0, "observer_joules": 0.0}
        self._then, self._then_joules = time.perf_counter(), self._meter.read().joules
        self._others = 0.0

    def others(self, seconds: float) -> None:
        """So much of the time since the last lap went to other runs, and of its energy in proportion."""
        self._others += seconds

    def lap(self, account: Literal["training", "observers"]) -> None:
        """Books the time and energy since the last lap."""
        now, joules = time.perf_counter(), self._meter.read().joules
        share = "" if account == "training" else "observer_"
        before = self._costs[f"{share}joules"]
        elapsed = now - self._then
        mine = max(0.0, elapsed - self._others)
        self._costs[f"{share}seconds"] += mine
        if joules is None or self._then_joules is None or before is None:
            self._costs[f"{share}joules"] = None
        else:
            self._costs[f"{share}joules"] = before + (joules - self._then_joules) * (mine / elapsed if elapsed else 1)
        self._then, self._then_joules, self._others = now, joules, 0.0

    def add(self, costs: Mapping[str, Any]) -> None:
        """Continues from the costs that an earlier process read."""
        self._costs = {name: costs[name] for name in self._costs}

    def read(self) -> dict[str, Any]:
        """Cumulative ``seconds``, ``joules`` (null if unknown), the observers' share apart, and the method."""
        return {**self._costs, "energy_method": self._meter.method}
