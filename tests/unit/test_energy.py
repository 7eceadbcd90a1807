from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unplateau.energy import CpuTimeCounter, EnergyMeter, NvmlCounter, RaplCounter, Reading, kilograms_co2e
from unplateau.errors import MissingExtraError, SpecError

RANGE = 262_143_328_850


def write_zone(root: Path, zone: str, name: str, microjoules: int) -> Path:
    folder = root / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


class FakeNvml:
    """As much of pynvml as the meter asks for: GPUs whose counters a test can move."""

    class NVMLError(Exception):
        pass

    def __init__(self, *millijoules: int, broken: bool = False) -> None:
        self.counters, self.broken = list(millijoules), broken

    def nvmlInit(self) -> None:  # noqa: N802
        if self.broken:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.counters)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= len(self.counters):
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        return {"GPU-a": 0, "GPU-b": 1}[uuid]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        if self.broken:
            raise self.NVMLError("GPU is lost")
        return self.counters[handle]


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(broken=True))


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    library = FakeNvml(1_000, 2_000)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return library


def test_rapl_adds_packages_and_memory_and_nothing_twice(tmp_path: Path) -> None:
    counted = [
        write_zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000),
        write_zone(tmp_path, "intel-rapl:1", "package-1", 0),
        write_zone(tmp_path, "intel-rapl:0:1", "dram", 7_000_000),
    ]
    ignored = [
        write_zone(tmp_path, "intel-rapl:0:0", "core", 0),
        write_zone(tmp_path, "intel-rapl:2", "psys", 0),
        write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    (tmp_path / "intel-rapl").mkdir()
    source = RaplCounter(tmp_path)
    assert source.joules() == 0
    for file in (*counted, *ignored):
        file.write_text(str(int(file.read_text()) + 1_500_000))
    assert source.joules() == pytest.approx(4.5)
    assert source.joules() == pytest.approx(4.5)


def test_rapl_survives_two_wraps(tmp_path: Path) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_000_000)
    source = RaplCounter(tmp_path)
    counter.write_text("2000000")
    assert source.joules() == pytest.approx(3)
    counter.write_text(str(RANGE - 3_000_000))
    counter_total = source.joules()
    counter.write_text("1000000")
    assert source.joules() == pytest.approx(counter_total + 4)


def test_unreadable_rapl_is_an_error_by_name_and_silent_in_auto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_gpu: None
) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    read_text = Path.read_text

    def refuse(path: Path, *arguments: Any) -> str:
        if path == counter:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SpecError, match="energy_uj may not be read by this user"):
        EnergyMeter("rapl", powercap=tmp_path)
    assert EnergyMeter(powercap=tmp_path).method == "estimate: CPU time x 12 W per core"


@pytest.mark.parametrize("content", ["", "not a number"])
def test_garbage_in_a_counter_is_one_clear_line(tmp_path: Path, content: str) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 1).write_text(content)
    with pytest.raises(SpecError, match=r"energy source 'rapl': .* cannot be read"):
        EnergyMeter("rapl", powercap=tmp_path)


def test_a_machine_without_rapl(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no intel-rapl package under"):
        EnergyMeter("rapl", powercap=tmp_path / "missing")


def test_a_counter_that_disappears_gives_no_figure_and_no_crash(tmp_path: Path) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    meter = EnergyMeter("rapl", powercap=tmp_path)
    assert meter.read() == Reading(0.0, "RAPL")
    counter.unlink()
    assert meter.read() == Reading(None, "RAPL (unreadable)")


def test_auto_sums_gpu_and_processor_and_says_both(tmp_path: Path, two_gpus: FakeNvml) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(powercap=tmp_path)
    two_gpus.counters = [2_000, 4_000]
    counter.write_text("500000")
    assert meter.read() == Reading(3.5, "NVML (2 GPUs) + RAPL")


def test_a_run_on_the_cpu_counts_no_gpu(tmp_path: Path, two_gpus: FakeNvml) -> None:
    assert EnergyMeter(gpus=(), powercap=tmp_path).method == "estimate: CPU time x 12 W per core"
    with pytest.raises(SpecError, match="no GPU to count"):
        EnergyMeter("nvml", gpus=())


@pytest.mark.parametrize(
    ("visible", "joules"), [("1", 20.0), ("0,1", 30.0), ("GPU-a", 10.0), (" 0 , GPU-b", 30.0), (None, 30.0)]
)
def test_only_visible_gpus_count(monkeypatch: pytest.MonkeyPatch, visible: str | None, joules: float) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    library = FakeNvml(0, 0)
    source = NvmlCounter(library=library)
    library.counters = [10_000, 20_000]
    assert source.joules() == joules


def test_chosen_gpus_and_their_errors() -> None:
    library = FakeNvml(0, 0)
    source = NvmlCounter([1], library=library)
    assert source.method == "NVML (1 GPU)"
    library.broken = True
    with pytest.raises(OSError, match="GPU is lost"):
        source.joules()
    with pytest.raises(SpecError, match="'nvml': Invalid Argument"):
        NvmlCounter([7], library=FakeNvml(0))
    with pytest.raises(SpecError, match="'nvml': Driver Not Loaded"):
        NvmlCounter(library=FakeNvml(broken=True))


def test_without_pynvml_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "pynvml":
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"unplateau\[energy\]"):
        EnergyMeter("nvml")
    assert EnergyMeter(powercap=tmp_path).method.startswith("estimate")


def test_the_estimate_is_seconds_times_watts() -> None:
    clock = SimpleNamespace(now=100.0)
    source = CpuTimeCounter(7.5, clock=lambda: clock.now)
    clock.now = 104.0
    assert source.joules() == 30.0
    assert source.method == "estimate: CPU time x 7.5 W per core"


def test_the_meter_never_runs_backwards(without_gpu: None, tmp_path: Path) -> None:
    meter = EnergyMeter(powercap=tmp_path)
    readings = [meter.read().joules or 0.0 for _ in range(5)]
    assert readings == sorted(readings)
    assert readings[0] >= 0


def test_no_meter_gives_no_figure() -> None:
    assert EnergyMeter("none").read() == Reading(None, "none")


def test_joined_names_and_repetitions(tmp_path: Path, two_gpus: FakeNvml) -> None:
    assert EnergyMeter("nvml+cpu-time+nvml", powercap=tmp_path).method.count("NVML") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("rappl", "did you mean 'rapl'"), ("", "known: auto"), ("nvml+auto", "known: cpu-time"), ("solar", "known: ")],
)
def test_unknown_names_are_refused(name: str, message: str, two_gpus: FakeNvml) -> None:
    with pytest.raises(SpecError, match=message):
        EnergyMeter(name)


@pytest.mark.parametrize("watts", [0, -1.0])
def test_watts_must_be_positive_even_in_auto(watts: float, without_gpu: None, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="watts_per_core"):
        EnergyMeter(watts_per_core=watts, powercap=tmp_path)


def test_carbon_is_kilowatt_hours_times_intensity() -> None:
    assert kilograms_co2e(3.6e6, grams_per_kwh=400) == pytest.approx(0.4)
    assert kilograms_co2e(0, grams_per_kwh=400) == 0
    with pytest.raises(SpecError, match="grams_per_kwh"):
        kilograms_co2e(1, grams_per_kwh=-1)


def test_importing_it_needs_neither_torch_nor_pynvml() -> None:
    check = "import sys, unplateau.energy; sys.exit(bool({'torch', 'pynvml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
