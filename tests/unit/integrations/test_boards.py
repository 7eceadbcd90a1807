"""Rows as TensorBoard and W&B runs: written, and read back."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from run_directories import MadeRun, make_run
from unplateau.errors import DataError, MissingExtraError, RunDirectoryError
from unplateau.history import History
from unplateau.integrations.boards import lines_of, rows_of, scalars, write_tensorboard, write_wandb
from unplateau.integrations.watch import Watch
from unplateau.plateau.detect import Plateau

ROWS = [
    {"step": 0, "cut": "self", "loss": 2.5, "weights_score": [0.25, 0.5], "guesses": [[1, 2]]},
    {"step": 10, "loss": None, "weights_by_factor": {"kind": [0.75, 1.0]}},
    {"step": 20, "loss": 1.5, "ended": True},
]
WANTED = {
    ("loss", 0): 2.5,
    ("loss", 20): 1.5,
    ("weights_score/layer_0", 0): 0.25,
    ("weights_score/layer_1", 0): 0.5,
    ("weights_by_factor/kind/layer_0", 10): 0.75,
    ("weights_by_factor/kind/layer_1", 10): 1.0,
}
PLATEAUS = [Plateau(0, 10, 2.5, True, (8, 12)), Plateau(15, 20, 1.5, False, (20, float("inf")))]


def test_numbers_of_a_row_by_tag() -> None:
    assert {(tag, row["step"]): value for row in ROWS for tag, value in scalars(row).items()} == WANTED


def test_a_run_directory_is_taken_as_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, MadeRun(steps=100))
    assert list(rows_of(run.path)) == list(rows_of(str(run.path))) == list(run.history)
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        rows_of(tmp_path)
    pytest.importorskip("tensorboard", reason="needs tensorboard (extra tensorboard)")
    assert [*write_tensorboard(run.path, tmp_path / "events").glob("events.*")]


def test_rows_come_from_a_run_a_file_or_as_they_are(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "metrics.jsonl")
    watch.record(1, loss=2.0)
    assert list(rows_of(tmp_path / "metrics.jsonl")) == list(rows_of([{"step": 1, "loss": 2.0}])) == list(watch.rows)
    with pytest.raises(DataError, match="no such file"):
        rows_of(tmp_path / "other.jsonl")


def test_plateaus_in_words() -> None:
    assert lines_of(PLATEAUS, History(ROWS)) == (
        "plateau from 0 to 10 (95 % interval of the end: 8 to 12) at 2.5\n"
        "plateau from 15 to 20 at 1.5: not over where the curve stops"
    )
    assert lines_of(None, History(ROWS)) == "no plateau found"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_every_number_and_the_plateaus(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    assert write_tensorboard(ROWS, tmp_path / "events", plateaus=PLATEAUS) == tmp_path / "events"
    events: Any = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    found = {(tag, one.step): one.value for tag in events.Tags()["scalars"] for one in events.Scalars(tag)}
    assert found == WANTED
    (text,) = events.Tensors("plateaus/text_summary")
    assert b"not over where the curve stops" in text.tensor_proto.string_val[0]


@pytest.fixture
def _quiet_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.mark.usefixtures("_quiet_wandb")
@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_every_number_offline(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    path = write_wandb(ROWS, tmp_path / "board", name="trial", config={"lr": 0.1}, plateaus=PLATEAUS)
    assert path.is_relative_to(tmp_path / "board")
    assert path.name.startswith("offline-run")
    wandb.teardown()  # its process closes the file after `finish` has returned
    found, texts = read_wandb(path)
    assert found == WANTED
    assert any("not over where the curve stops" in text for text in texts)


def read_wandb(path: Path) -> tuple[dict[tuple[str, int], float], list[str]]:
    """Numbers by name and step, and texts of the summary, from the file of an offline run."""
    datastore = importlib.import_module("wandb.sdk.internal.datastore")
    proto = importlib.import_module("wandb.proto.wandb_internal_pb2")
    import json  # noqa: PLC0415

    (file,) = path.glob("*.wandb")
    store = datastore.DataStore()
    store.open_for_scan(str(file))
    found: dict[tuple[str, int], float] = {}
    texts: list[str] = []
    while (data := store.scan_data()) is not None:
        record = proto.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            step = record.history.step.num
            found |= {(key, step): value for key, value in items.items() if not key.startswith("_")}
        if record.WhichOneof("record_type") == "summary":
            texts += [item.value_json for item in record.summary.update]
    return found, texts


@pytest.mark.parametrize(
    ("module", "missing", "write"),
    [("torch.utils.tensorboard", "tensorboard", write_tensorboard), ("wandb", "wandb", write_wandb)],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, missing: str, write: Any
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'unplateau\[{missing}\]'"):
        write(ROWS, tmp_path)
