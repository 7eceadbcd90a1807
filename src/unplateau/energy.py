"""Joules since a moment, from the hardware's own counters where there are any, else an estimate that says so.

Each reading names the method that produced it, because an estimate must never be mistaken for a measurement. Hardware
counters measure the whole machine or GPU, not this process alone.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unplateau.errors import MissingExtraError, SpecError, missing_extra, suggest

WATTS_PER_CORE = 12.0
"""Power of one busy core of an unknown processor, in watts: the figure for "any" processor in the tables of Green
Algorithms (Lannelongue et al. 2021, Advanced Science). Server processors in the same tables have 4 to 15."""
POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Reading:
    """Energy since the meter was made. ``joules`` is None where no figure exists; ``method`` says how it came about."""

    joules: float | None
    method: str


class Counter(Protocol):
    """One counter of joules. ``method`` says in words how its figure comes about."""

    method: str

    def joules(self) -> float:
        """Joules since it was made. Raises OSError when the counter has become unreadable."""


class EnergyMeter:
    """Cumulative energy since it was made, from the best source that this machine has.

    ``source``: ``auto`` (GPU counters where there are GPUs, plus RAPL, or the estimate where RAPL is not readable), or
    one of ``nvml``, ``rapl``, ``cpu-time``, ``none``, or several joined by ``+``. ``gpus``: NVML indices of the
    GPUs to count, None for those in CUDA_VISIBLE_DEVICES (all if that is unset), ``()`` for a run on the CPU.
    ``watts_per_core``: what the estimate multiplies CPU seconds with. Raises SpecError for a name that is unknown or
    that this machine cannot serve, MissingExtraError for ``nvml`` without its library; ``auto`` takes what there is.
    """

    def __init__(
        self,
        source: str = "auto",
        *,
        gpus: Sequence[int] | None = None,
        watts_per_core: float = WATTS_PER_CORE,
        powercap: Path = POWERCAP,
    ) -> None:
        openers: dict[str, Callable[[], Counter]] = {
            "nvml": lambda: NvmlCounter(gpus),
            "rapl": lambda: RaplCounter(powercap),
            "cpu-time": lambda: CpuTimeCounter(watts_per_core),
        }
        self._counters = _automatic(openers) if source == "auto" else _named(source, openers)

    @property
    def method(self) -> str:
        """How the figure comes about; ``none`` where there is none."""
        return " + ".join(counter.method for counter in self._counters) or "none"

    def read(self) -> Reading:
        """Joules since the meter was made; None without a source, or when a counter can no longer be read."""
        try:
            joules = sum(counter.joules() for counter in self._counters)
        except (OSError, ValueError):
            return Reading(None, f"{self.method} (unreadable)")
        return Reading(joules if self._counters else None, self.method)


class CpuTimeCounter:
    """The estimate: CPU seconds of this process (all threads, without child processes) times watts per core."""

    def __init__(self, watts_per_core: float = WATTS_PER_CORE, clock: Callable[[], float] = time.process_time) -> None:
        if watts_per_core <= 0:
            raise SpecError(f"watts_per_core: must be above 0 (got {watts_per_core})")
        self.method = f"estimate: CPU time x {watts_per_core:g} W per core"
        self._watts, self._clock, self._start = watts_per_core, clock, clock()

    def joules(self) -> float:
        """CPU seconds since the start x watts."""
        return (self._clock() - self._start) * self._watts


class RaplCounter:
    """Linux's RAPL counters: processor packages and their memory, of the whole machine.

    The counters wrap around (after 4 minutes to some hours, by machine and load); a wrap is seen as a step backwards,
    so read more often than that. Raises SpecError if no package can be read.
    """

    method = "RAPL"

    def __init__(self, powercap: Path = POWERCAP) -> None:
        try:
            zones = _rapl_zones(powercap)
            self._files = [zone / "energy_uj" for zone in zones]
            self._ranges = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]
            self._last = self._readings()
        except PermissionError as error:
            raise SpecError(
                f"energy source 'rapl': {error.filename} may not be read by this user; "
                f"an administrator can allow it with chmod a+r, or use 'auto'"
            ) from error
        except (OSError, ValueError) as error:
            raise SpecError(f"energy source 'rapl': {powercap} cannot be read ({error}); use 'auto'") from error
        if not zones:
            raise SpecError(f"energy source 'rapl': no intel-rapl package under {powercap}; use 'auto'")
        self._total = 0

    def joules(self) -> float:
        """Sum over packages and memory since the start."""
        before, self._last = self._last, self._readings()
        for old, new, wrap in zip(before, self._last, self._ranges, strict=True):
            self._total += new - old if new >= old else new - old + wrap
        return self._total / 1e6

    def _readings(self) -> list[int]:
        """Microjoules of each zone."""
        return [int(file.read_text()) for file in self._files]


class NvmlCounter:
    """Total-energy counters of NVIDIA GPUs (Volta and newer), through the optional ``pynvml``.

    Raises MissingExtraError without that library, SpecError without a GPU that has the counter.
    """

    def __init__(self, gpus: Sequence[int] | None = None, library: Any = None) -> None:
        self._library = library or _import_pynvml()
        try:
            self._library.nvmlInit()
            self._handles = [*_gpu_handles(self._library, gpus)]
            self._start = self._millijoules()
        except self._library.NVMLError as error:
            raise SpecError(f"energy source 'nvml': {error}; use 'auto'") from error
        if not self._handles:
            raise SpecError("energy source 'nvml': no GPU to count; use 'auto'")
        self.method = f"NVML ({len(self._handles)} GPU{'s' if len(self._handles) > 1 else ''})"

    def joules(self) -> float:
        """Sum over the GPUs since the start."""
        try:
            return (self._millijoules() - self._start) / 1e3
        except self._library.NVMLError as error:
            raise OSError(str(error)) from error

    def _millijoules(self) -> int:
        return sum(self._library.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in self._handles)


def kilograms_co2e(joules: float, *, grams_per_kwh: float) -> float:
    """Emissions of this energy; ``grams_per_kwh``: carbon intensity of the electricity, grams CO2e per kWh."""
    if grams_per_kwh < 0:
        raise SpecError(f"grams_per_kwh: must be at least 0 (got {grams_per_kwh})")
    kilowatt_hours = joules / 3.6e6
    return kilowatt_hours * grams_per_kwh / 1e3


def _automatic(openers: dict[str, Callable[[], Counter]]) -> list[Counter]:
    counters = []
    with suppress(SpecError, MissingExtraError):
        counters.append(openers["nvml"]())
    try:
        counters.append(openers["rapl"]())
    except SpecError:
        counters.append(openers["cpu-time"]())
    return counters


def _named(source: str, openers: dict[str, Callable[[], Counter]]) -> list[Counter]:
    names = source.split("+")
    known = (*openers, "none")
    for name in names:
        if name not in known:
            options = known if len(names) > 1 else ("auto", *known)
            raise SpecError(f"unknown energy source '{name}'{suggest(name, options)}")
    return [openers[name]() for name in dict.fromkeys(names) if name != "none"]


def _rapl_zones(powercap: Path) -> list[Path]:
    """Packages, and memory zones inside them. Core and uncore are parts of a package; psys would count it twice."""
    if not powercap.is_dir():
        return []
    zones = sorted(zone for zone in powercap.iterdir() if re.fullmatch(r"intel-rapl:\d+(:\d+)?", zone.name))
    return [zone for zone in zones if _zone_name(zone).startswith(("package", "dram"))]


def _zone_name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


def _gpu_handles(library: Any, gpus: Sequence[int] | None) -> list[Any]:
    if gpus is not None:
        return [library.nvmlDeviceGetHandleByIndex(index) for index in gpus]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return _gpu_handles(library, range(library.nvmlDeviceGetCount()))
    names = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [
        library.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else library.nvmlDeviceGetHandleByUUID(name)
        for name in names
    ]


def _import_pynvml() -> Any:
    try:
        import pynvml  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra("energy source 'nvml' needs pynvml", "energy") from error
    return pynvml
