"""One curve in the formats of many programs is read as the same curve, its columns found by their names."""

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from log_formats import CURVE, FORMATS, Format, lines
from unplateau.errors import DataError, MissingExtraError
from unplateau.logs import Wanted, read_curve, read_curves, read_log

STEPS, LOSSES = ([float(pair[place]) for pair in CURVE] for place in (0, 1))


@pytest.mark.parametrize("known", FORMATS.values(), ids=FORMATS)
def test_each_format_is_recognised_by_what_is_in_it(tmp_path: Path, known: Format) -> None:
    path = tmp_path / "log"  # a name that says nothing
    path.write_text(known.write(CURVE), encoding="utf-8", newline="")
    (curve,) = read_curves(read_log(path), Wanted())
    assert (curve.value, curve.step, curve.direction) == (known.value, known.step, known.direction)
    assert curve.steps == pytest.approx([step if known.steps is None else known.steps(step) for step, _ in CURVE])
    assert curve.values == pytest.approx(LOSSES, abs=1e-3)
    assert f"value '{known.value}'" in curve.guessed


def encoded(encoding: str) -> Callable[[str], bytes]:
    return lambda text: text.encode(encoding)


@pytest.mark.parametrize(
    "stored",
    [
        encoded("utf-8-sig"),
        encoded("utf-16"),
        encoded("utf-16-le"),
        encoded("utf-16-be"),
        encoded("utf-32"),
        encoded("latin-1"),
        lambda text: gzip.compress(text.encode()),
        lambda text: gzip.compress(text[:50].encode()) + gzip.compress(text[50:].encode()),
        lambda text: gzip.compress(text.encode("utf-16")),
    ],
)
@pytest.mark.parametrize("name", ["csv", "trainer state", "nanoGPT"])
def test_encodings_and_compression_change_nothing(tmp_path: Path, stored: Callable[[str], bytes], name: str) -> None:
    text = FORMATS[name].write(CURVE)
    text = text if name == "trainer state" else text + "# fertig für heute\n"
    path = tmp_path / "log"
    path.write_bytes(stored(text))
    assert read_curve(path).values == pytest.approx(LOSSES, abs=1e-3)


def test_what_is_not_utf_8_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes((FORMATS["csv"].write(CURVE) + "# für\n").encode("latin-1"))
    assert any("read as Latin-1" in note for note in read_curve(tmp_path / "log").notes)


def test_a_compressed_log_that_is_still_written(tmp_path: Path) -> None:
    whole = gzip.compress(FORMATS["csv"].write([(k, 1 / (k + 1)) for k in range(3000)]).encode())
    (tmp_path / "log.gz").write_bytes(whole[: len(whole) // 2])
    curve = read_curve(tmp_path / "log.gz")
    assert 100 < len(curve.steps) < 3000
    assert any("cut off" in note for note in curve.notes)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FORMATS["csv"].write(CURVE).encode())))
    curve = read_curve("-")
    assert curve.values == LOSSES
    assert curve.source == "standard input"


@pytest.mark.parametrize("name", ["metrics.jsonl", "trainer_state.json", "progress.csv"])
def test_a_folder_is_the_log_in_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMATS["json lines"].write(CURVE))
    (tmp_path / "spec.json").write_text("{}")
    assert read_curve(tmp_path).values == LOSSES


def test_a_folder_without_a_log_or_with_two(tmp_path: Path) -> None:
    (tmp_path / "version_0").mkdir()
    (tmp_path / "version_0" / "metrics.csv").write_text("x")
    with pytest.raises(DataError, match=r"without a log.*there is version_0/metrics\.csv"):
        read_log(tmp_path)
    for name in ("metrics.csv", "trainer_state.json"):
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=r"several logs; name one: trainer_state\.json, metrics\.csv"):
        read_log(tmp_path)


@pytest.mark.parametrize("as_tensors", [False, True])
def test_tensorboard_s_event_files(tmp_path: Path, as_tensors: bool) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    with SummaryWriter(str(tmp_path)) as writer:
        for step, loss in CURVE:
            writer.add_scalar("train/loss", loss, step, new_style=as_tensors)
            writer.add_scalar("train/epoch", step / 50, step, new_style=as_tensors)
    (events,) = tmp_path.iterdir()
    for path in (tmp_path, events):
        curve = read_curve(path)
        assert (curve.value, curve.step, curve.steps) == ("train/loss", "step", STEPS)
        assert curve.values == pytest.approx(LOSSES)


def test_event_files_need_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(b"\x18\0\0\0\0\0\0\0brain.Event:2")
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    with pytest.raises(MissingExtraError, match=r"unplateau\[tensorboard\]"):
        read_log(tmp_path)


def test_damaged_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    (tmp_path / "events.out.tfevents.1").write_bytes(b"\x18\0\0\0\0\0\0\0" + b"brain.Event:2" * 9)
    with pytest.raises(DataError, match="event file"):
        read_log(tmp_path)


def test_lines_between_rows_of_json_are_counted(tmp_path: Path) -> None:
    rows = FORMATS["json lines"].write(CURVE).splitlines()
    (tmp_path / "log").write_text(lines("", rows[0], "warning: slow disk", *rows[1:], "done"))
    curve = read_curve(tmp_path / "log")
    assert curve.values == LOSSES
    assert "2 lines that are not JSON left out" in curve.notes


def test_a_header_in_the_middle_and_a_last_line_cut_off(tmp_path: Path) -> None:
    rows = FORMATS["csv"].write(CURVE).splitlines()
    (tmp_path / "log").write_text("\n".join([*rows[:5], rows[0], *rows[5:], "120,1."]))
    curve = read_curve(tmp_path / "log")
    assert curve.values == LOSSES
    assert curve.notes == ("1 repeated headers left out", "the last line is cut off: left out")


def test_lists_in_rows_are_columns(tmp_path: Path) -> None:
    rows = [{"step": step, "scores": [1.0, loss]} for step, loss in CURVE]
    (tmp_path / "log").write_text(lines(*map(json.dumps, rows)))
    assert read_curve(tmp_path / "log", value="scores.1").values == LOSSES


ROWS = "".join(f"{step},{2 - step / 100}\n" for step in range(40))


def test_a_compressed_log_may_be_dull_and_not_a_bomb(tmp_path: Path) -> None:
    """Rows without end that hardly differ are read; zeros that unpack to a thousand times their size are not."""
    dull = "step,loss,host\n" + "".join(f"{step},{2 - step / 1e5},{'x' * 200}\n" for step in range(20_000))
    (tmp_path / "dull.csv.gz").write_bytes(gzip.compress(dull.encode()))
    assert len(dull) > 30 * (tmp_path / "dull.csv.gz").stat().st_size
    assert len(read_curve(tmp_path / "dull.csv.gz").steps) == 20_000
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"step,loss\n" + bytes(30_000_000)))
    with pytest.raises(DataError, match="unpacks to more than 300 times its size"):
        read_log(tmp_path / "bomb.csv.gz")


@pytest.mark.parametrize("end", ["", "\n1,2\n"])
def test_a_line_has_an_end(tmp_path: Path, end: str) -> None:
    (tmp_path / "log").write_text(f"step,loss\n{ROWS}41,{'1' * 10_000_001}{end}")
    with pytest.raises(DataError, match=r"log: line 42 has more than 10,000,000 characters"):
        read_log(tmp_path / "log")


def test_json_may_stand_on_one_line(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 2 - step / 1e4, "note": "x" * 1000} for step in range(11_000)]
    (tmp_path / "log").write_text(json.dumps(rows))
    assert len(read_curve(tmp_path / "log").steps) == 11_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"step": 1, "loss": 2}\n' + '{"rows":' + "[" * 300 + "]" * 300 + "}\n",
        '{"step": ' + "9" * 5000 + ', "loss": 1}\n',
        json.dumps({"9" * 5000: {"loss": 1}, "8": {"loss": 2}}),
        "".join(f"step {'9' * 5000} loss {step}\n" for step in range(3)),
    ],
    ids=lambda text: text[:30],
)
def test_depth_and_digits_without_end_are_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(DataError) as caught:
        read_curve(tmp_path / "log")
    assert "\n" not in str(caught.value)
