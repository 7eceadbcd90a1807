"""Columns are found by their names, or asked for with what there is to choose from."""

import json
from pathlib import Path

import pytest

from log_formats import lines
from unplateau.errors import DataError
from unplateau.logs import Wanted, read_curves, read_log
from unplateau.logs.names import direction_of, words_of

N = 20


def log_of(folder: Path, columns: list[str], n: int = N, **given: list[float]) -> Path:
    """A table in which each column goes down from its place, and ``step`` and those like it up."""
    counters = ("step", "epoch", "iter", "batch", "index", "time", "seed")
    cells = {
        name: given.get(name, [float(k) if name.split("/")[-1] in counters else 9 - at - k / N for k in range(n)])
        for at, name in enumerate(columns)
    }
    path = folder / "log.csv"
    path.write_text(lines(",".join(columns), *(",".join(str(cells[name][k]) for name in columns) for k in range(n))))
    return path


@pytest.mark.parametrize(
    ("columns", "value", "step"),
    [
        (["step", "lr", "loss", "grad_norm"], "loss", "step"),
        (["loss", "eval_loss", "step"], "loss", "step"),
        (["step", "eval_loss", "train_loss"], "train_loss", "step"),
        (["step", "eval/loss", "eval/runtime"], "eval/loss", "step"),
        (["global_step", "Train Loss"], "Train Loss", "global_step"),
        (["trainer/global_step", "valLoss"], "valLoss", "trainer/global_step"),
        (["epoch", "loss", "accuracy"], "loss", "epoch"),
        (["epoch", "iter", "loss_scale", "lm loss"], "lm loss", "iter"),
        (["step", "accuracy", "time"], "accuracy", "step"),
        (["time", "lr", "quality"], "quality", None),
        (["lr", "reward"], "reward", None),
        (["Step", "run one - loss", "run one - loss__MIN", "run one - loss__MAX"], "run one - loss", "Step"),
    ],
)
def test_the_likeliest_columns(tmp_path: Path, columns: list[str], value: str, step: str | None) -> None:
    (curve,) = read_curves(read_log(log_of(tmp_path, columns)), Wanted())
    assert (curve.value, curve.step) == (value, step)
    assert f"value '{value}'" in curve.guessed
    assert ("the number of the row as step" if step is None else f"step '{step}'") in curve.guessed
    assert all(
        f"'{other}' (" in curve.guessed for other in columns if other not in (value, step) and "__M" not in other
    )


@pytest.mark.parametrize(
    ("columns", "choices"),
    [
        (["step", "alpha", "beta"], ("'alpha' (", "'beta' (", "'step' (0 to 19)")),
        (["step", "loss/a", "loss/b"], ("'loss/a' (", "'loss/b' (")),
        (["step", "red - loss", "blue - loss"], ("'red - loss' (", "'blue - loss' (")),
        ([f"x{k}" for k in range(40)], ("'x0' (", "and 28 more")),
    ],
)
def test_what_is_not_clear_is_asked_with_ranges(tmp_path: Path, columns: list[str], choices: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="which column") as caught:
        read_curves(read_log(log_of(tmp_path, columns)), Wanted())
    assert all(choice in str(caught.value) for choice in choices), caught.value


def test_more_numbers_decide_between_equals(tmp_path: Path) -> None:
    rows = [
        {"step": k, "train_loss_step": 3 - k / 50} | ({"train_loss_epoch": 2.0 - k} if k % 9 == 0 else {})
        for k in range(99)
    ]
    (tmp_path / "log").write_text(lines(*map(json.dumps, rows)))
    (curve,) = read_curves(read_log(tmp_path / "log"), Wanted())
    assert curve.value == "train_loss_step"


def test_a_name_that_w_and_b_has_put_a_run_before(tmp_path: Path) -> None:
    log = read_log(log_of(tmp_path, ["step", "red - loss", "blue - loss", "blue - acc"]))
    assert read_curves(log, Wanted(("acc",)))[0].value == "blue - acc"
    with pytest.raises(DataError, match="several runs have 'loss'; --value one of: 'red - loss', 'blue - loss'"):
        read_curves(log, Wanted(("loss",)))


def test_several_columns_at_once_and_columns_by_place(tmp_path: Path) -> None:
    log = read_log(log_of(tmp_path, ["step", "loss", "acc"]))
    assert [curve.value for curve in read_curves(log, Wanted(("loss", "acc")))] == ["loss", "acc"]
    (tmp_path / "bare").write_text(lines(*(f"{k} {9 - k} {k * k}" for k in range(9))))
    (curve,) = read_curves(read_log(tmp_path / "bare"), Wanted(("3",), "1"))
    assert (curve.value, curve.step) == ("column 3", "column 1")


def test_steps_given_and_counted(tmp_path: Path) -> None:
    log = read_log(log_of(tmp_path, ["step", "loss", "epoch"], step=[10.0 * k for k in range(N)]))
    assert read_curves(log, Wanted(step="epoch"))[0].step == "epoch"
    counted = read_curves(log, Wanted(step="row"))[0]
    assert (counted.step, counted.steps) == (None, list(range(N)))
    with pytest.raises(DataError, match="no column 'stpe'; did you mean 'step'"):
        read_curves(log, Wanted(step="stpe"))


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("loss", "min"), ("val_loss", "min"), ("perplexity", "min"), ("test/error", "min"), ("accuracy_loss", "min"),
        ("accuracy", "max"), ("eval_acc", "max"), ("ep_rew_mean", "max"), ("valAcc", "max"), ("r", "max"),
        ("F1", "max"), ("quality", None), ("column 2", None),
    ],
)  # fmt: skip
def test_directions_by_name(name: str, direction: str | None) -> None:
    assert direction_of(name) == direction


def test_words_of_a_name() -> None:
    assert words_of("my run - train/valLoss_step__MIN") == ["train", "val", "loss", "step"]


@pytest.mark.parametrize(
    ("column", "rises", "given", "direction", "warned"),
    [
        ("loss", False, None, "min", False),
        ("accuracy", True, None, "max", False),
        ("accuracy", True, "min", "min", True),
        ("accuracy", False, "min", "min", True),
        ("loss", True, None, "min", True),
        ("loss", False, "max", "max", True),
        ("quality", True, None, "max", False),
        ("quality", False, None, "min", False),
    ],
)
def test_a_direction_that_the_curve_contradicts(
    tmp_path: Path, column: str, rises: bool, given: str | None, direction: str, warned: bool
) -> None:
    values = [k / N if rises else 1 - k / N for k in range(N)]
    log = read_log(log_of(tmp_path, ["step", column], **{column: values}))
    (curve,) = read_curves(log, Wanted(direction=given))  # type: ignore[arg-type]
    assert curve.direction == direction
    assert any("warning" in note and "--direction" in note for note in curve.notes) == warned
