"""The table of damage: each file of a run, each way to harm it, and what happens then.

There are two ends and no third: the run ends as the undisturbed one, bit for bit, or is refused in one line and nothing
is touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import unplateau as up
from small_runs import contents, copied, trained, trained_or_refused, trajectory
from unplateau.errors import RunDirectoryError, UnplateauError

Harm = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("whole")).path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A run whose process was killed before its last file."""
    return copied(whole, tmp_path, unfinished=True)


# Ways to harm a file.


def missing(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def zeros(path: Path) -> None:
    """As some file systems leave a file after a power cut."""
    path.write_bytes(bytes(path.stat().st_size))


def noise(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


def a_list(path: Path) -> None:
    path.write_text("[1, 2]\n")


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def long_number(path: Path) -> None:
    path.write_text('{"step": ' + "9" * 5000 + "}\n")


def not_a_number(path: Path) -> None:
    path.write_text('{"step": NaN}\n')


def folder(path: Path) -> None:
    missing(path)
    path.mkdir()


def fifo(path: Path) -> None:
    missing(path)
    os.mkfifo(path)


def link_to_nothing(path: Path) -> None:
    missing(path)
    path.symlink_to(path.parent / "nothing")


ALL: tuple[Harm, ...] = (
    *(missing, empty, half, zeros, noise, a_list, deep, long_number, not_a_number, folder, fifo, link_to_nothing),
)


def edited(**changes: Any) -> Harm:
    """A JSON file with other values; keys such as ``run__seed``; ``...`` takes one out."""

    def harm(path: Path) -> None:
        value = json.loads(path.read_text())
        for key, new in changes.items():
            *parents, last = key.split("__")
            inside = value
            for parent in parents:
                inside = inside[parent]
            if new is ...:
                del inside[last]
            else:
                inside[last] = new
        path.write_text(json.dumps(value))

    harm.__name__ = ",".join(f"{key}={'gone' if new is ... else new}" for key, new in changes.items())
    return harm


def named(harms: tuple[Harm, ...]) -> list[Any]:
    return [pytest.param(one, id=one.__name__) for one in harms]


# Checkpoints: the one before is taken.


def tensors_edited(change: Callable[[dict[str, torch.Tensor]], object], *, name: str) -> Harm:
    """Other tensors under a checksum that is right, as an earlier version or a careless hand may leave them."""

    def harm(checkpoint: Path) -> None:
        tensors = load_file(checkpoint / "tensors.safetensors")
        change(tensors)
        save_file(tensors, checkpoint / "tensors.safetensors")
        state = json.loads((checkpoint / "state.json").read_text())
        state["sha256"] = hashlib.sha256((checkpoint / "tensors.safetensors").read_bytes()).hexdigest()
        for later in ("checksum", "tensors"):
            del state[later]
        (checkpoint / "state.json").write_text(json.dumps(state))

    harm.__name__ = name
    return harm


def state_edited(**changes: Any) -> Harm:
    """``state.json`` of an earlier version, which has no checksum, with other values."""

    def harm(checkpoint: Path) -> None:
        edited(checksum=..., **changes)(checkpoint / "state.json")

    harm.__name__ = f"state {edited(**changes).__name__}"
    return harm


WEIGHT = "model/read_out.weight"
CHECKPOINT_HARMS: tuple[Harm, ...] = (
    state_edited(step=10**9),
    state_edited(step=-1),
    state_edited(step=6),
    state_edited(step="7"),
    state_edited(step=7.0),
    state_edited(step=True),
    state_edited(step=...),
    state_edited(sums=...),
    state_edited(sums=[]),
    state_edited(sums={"train_loss": 1.0}),
    state_edited(sums={"steps": 1, "train_loss": "1"}),
    state_edited(metrics_bytes=...),
    state_edited(metrics_bytes=-5),
    state_edited(metrics_bytes=10**12),
    state_edited(metrics_bytes=7),
    state_edited(costs_bytes=0),
    state_edited(metrics_sha256="0"),
    state_edited(costs=...),
    state_edited(costs={}),
    state_edited(costs__seconds=None),
    state_edited(row_is_missing="no"),
    state_edited(format=2),
    state_edited(format=...),
    state_edited(digest="0123456789"),
    state_edited(digest=None),
    state_edited(sha256=...),
    state_edited(sha256=5),
    state_edited(tensors=3),
    state_edited(another_key=1),
    tensors_edited(lambda t: t.pop(WEIGHT), name="a weight is missing"),
    tensors_edited(lambda t: t.update({"model/extra": torch.zeros(1)}), name="a weight too many"),
    tensors_edited(lambda t: t.update({WEIGHT: torch.zeros(2, 2)}), name="a weight of another shape"),
    tensors_edited(lambda t: t.update({WEIGHT: t[WEIGHT].double()}), name="a weight of another type"),
    tensors_edited(lambda t: t.pop(next(k for k in t if k.startswith("heads/"))), name="a head is missing"),
    tensors_edited(lambda t: t.pop("optimiser/0/exp_avg"), name="a part of Adam is missing"),
    tensors_edited(lambda t: t.update({"optimiser/0/exp_avg": torch.zeros(1)}), name="Adam of another shape"),
    tensors_edited(lambda t: t.update({"optimiser/0/step": torch.zeros(3)}), name="steps of Adam of another shape"),
    tensors_edited(lambda t: t.update({"optimiser/99/step": torch.zeros(())}), name="Adam of no parameter"),
    tensors_edited(lambda t: t.update({"optimiser/x/step": torch.zeros(())}), name="Adam of a parameter x"),
    tensors_edited(lambda t: t.update({"optimiser/0": torch.zeros(())}), name="Adam of nothing"),
)


def check_that_it_goes_back(run: Path, whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    ended, said = trained_or_refused(run.parents[2], whole, caplog)
    assert ended, said
    assert said.splitlines()[-1].startswith(str(run / "checkpoints" / "step-00000007"))
    assert said.endswith("; going back to step 6")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("harm", named(ALL))
def test_a_damaged_file_of_a_checkpoint(
    harm: Harm, name: str, run: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harm(run / "checkpoints" / "step-00000007" / name)
    check_that_it_goes_back(run, whole, caplog)


@pytest.mark.parametrize("harm", named(CHECKPOINT_HARMS))
def test_a_checkpoint_that_is_not_what_it_should_be(
    harm: Harm, run: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harm(run / "checkpoints" / "step-00000007")
    check_that_it_goes_back(run, whole, caplog)


@pytest.mark.parametrize("both", [missing, half])
def test_checkpoints_that_are_all_damaged_or_gone_are_no_reason_to_start_over(
    both: Harm, run: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if both is missing:
        shutil.rmtree(run / "checkpoints")
    for folder_ in run.glob("checkpoints/*"):
        half(folder_ / "tensors.safetensors")
    ended, said = trained_or_refused(run.parents[2], whole, caplog)
    assert not ended
    assert "to start over" in said


def test_what_is_no_folder_of_checkpoints_is_left_alone(
    run: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("mine")
    assert trained_or_refused(run.parents[2], whole, caplog) == (
        False,
        f"{run / 'checkpoints'}: is no folder; remove it",
    )


# Rows.


@pytest.mark.parametrize("name", ["metrics.jsonl", "costs.jsonl"])
@pytest.mark.parametrize("harm", named(ALL))
def test_damaged_rows(harm: Harm, name: str, run: Path, whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of rows that are all gone nothing is made up."""
    harm(run / name)
    ended, said = trained_or_refused(run.parents[2], whole, caplog)
    assert not ended
    assert name in said or "missing" in said or "damaged" in said


@pytest.mark.parametrize("name", ["metrics.jsonl", "costs.jsonl"])
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda rows: rows[:-1], "rows that are missing"),
        (lambda rows: [*rows[:-1], rows[-1][:9]], "rows that are missing"),
        (lambda rows: [*rows[:-1], b"x\n" * len(rows[-1])], "rows that are damaged"),
        (lambda rows: [*rows[:-1], rows[-1].replace(b"7", b"8")], "rows that are damaged"),
        (lambda rows: [*rows[:-1], rows[-1].replace(b":0.", b":1.")], "rows that were changed"),
    ],
    ids=["the last is gone", "the last is cut", "the last is none", "a step too far", "a digit is another"],
)
def test_rows_of_the_last_steps(
    edit: Callable[[list[bytes]], list[bytes]],
    words: str,
    name: str,
    run: Path,
    whole: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = (run / name).read_bytes().splitlines(keepends=True)
    (run / name).write_bytes(b"".join(edit(rows)))
    ended, said = trained_or_refused(run.parents[2], whole, caplog)
    assert ended
    assert words in said
    assert said.endswith("going back to step 6")


@pytest.mark.parametrize("name", ["metrics.jsonl", "costs.jsonl"])
def test_what_a_link_leads_to_is_never_touched(name: str, run: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.txt"
    theirs.write_bytes(b"mine, and longer than any row\n" * 1000)
    (run / name).unlink()
    (run / name).symlink_to(theirs)
    before = contents(run)
    with pytest.raises(UnplateauError, match=rf"{name}: is a symbolic link, which is never written to"):
        trained(run.parents[2])
    assert contents(run) == before
    assert theirs.read_bytes() == b"mine, and longer than any row\n" * 1000


# Small files.

SMALL = ("env.json", "task.json", "shape.json", "prompts.npz")


@pytest.mark.parametrize("name", SMALL)
def test_a_missing_small_file_is_told_and_written_before_training(
    name: str, run: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run / name).unlink()
    ended, said = trained_or_refused(run.parents[2], whole, caplog)
    assert ended
    assert said == f"{run / name}: was missing and is written again"


@pytest.mark.parametrize("name", ["spec.json", *SMALL])
@pytest.mark.parametrize("harm", named(ALL[1:]))
def test_a_damaged_small_file_is_refused_before_training(
    harm: Harm, name: str, run: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harm(run / name)
    ended, said = trained_or_refused(run.parents[2], whole, caplog)
    assert not ended
    assert str(run / name) in said or "another spec" in said


@pytest.mark.parametrize("name", ["spec.json", *SMALL])
def test_its_way_out_works(name: str, run: Path, whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    zeros(run / name)
    assert trained_or_refused(run.parents[2], whole, caplog)[1].endswith(
        "remove this file, and the same command writes it again"
    )
    (run / name).unlink()
    assert trained_or_refused(run.parents[2], whole, caplog)[0]


READ_HARMS = [
    ("env.json", edited(run=...), "'run' must name recipe"),
    ("env.json", edited(run__seed="0"), "run.seed"),
    ("env.json", edited(run__seed=-1), "run.seed"),
    ("env.json", edited(run__seed=True), "run.seed"),
    ("env.json", edited(run__cut="none"), "run.cut"),
    ("env.json", edited(run__digest=...), "run.digest"),
    ("env.json", edited(run__recipe=5), "run.recipe"),
    ("env.json", edited(versions=[]), "versions"),
    ("env.json", edited(machine=...), "machine"),
    ("spec.json", edited(train=...), "train"),
    ("spec.json", edited(train__steps="7"), "train.steps"),
    ("spec.json", edited(train__steps=-7), "train.steps"),
    ("spec.json", edited(task=3), "task"),
    ("spec.json", edited(recipe=None), "recipe"),
    ("task.json", edited(floors=...), "floors"),
    ("task.json", edited(floors__bayes_loss=[]), "floors.bayes_loss"),
    ("task.json", edited(floors__bayes_loss=[0.1]), "floors"),
    ("task.json", edited(floors__bayes_loss="low"), "floors.bayes_loss"),
    ("task.json", edited(floors__progress="speed"), "floors.progress"),
    ("task.json", edited(floors__another=1), "floors.another"),
    ("task.json", edited(n_pairs=0), "n_pairs"),
    ("task.json", edited(factor_names="ab"), "factor_names"),
    ("task.json", edited(parameters=1.5), "parameters"),
    ("DONE.json", edited(step=10**9), "steps"),
    ("DONE.json", edited(step=-1), "step"),
    ("DONE.json", edited(step=3), "says 3 steps"),
    ("DONE.json", edited(step=...), "step"),
    ("DONE.json", edited(test_progress="good"), "test_progress"),
    ("DONE.json", edited(test_loss=...), "test_loss"),
    ("DONE.json", edited(seconds="long"), "seconds"),
]


@pytest.mark.parametrize(
    ("name", "harm", "words"), [pytest.param(*case, id=f"{case[0]} {case[1].__name__}") for case in READ_HARMS]
)
def test_a_reader_names_what_is_wrong_in_one_line(
    name: str, harm: Harm, words: str, whole: Path, tmp_path: Path
) -> None:
    run = copied(whole, tmp_path, unfinished=False)
    harm(run / name)
    with pytest.raises(RunDirectoryError) as caught:
        up.load_run(run)
    assert str(caught.value).startswith(str(run / name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["env.json", "spec.json", "task.json", "DONE.json", "metrics.jsonl", "costs.jsonl"])
@pytest.mark.parametrize("harm", named(ALL))
def test_a_reader_knows_damage_of_all_kinds(harm: Harm, name: str, whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path, unfinished=False)
    harm(run / name)
    may_do = name.endswith(".jsonl") or (name == "DONE.json" and harm is missing)  # fewer rows, or not yet done
    with suppress(RunDirectoryError) if may_do else pytest.raises(RunDirectoryError, match=r"^[^\n]+$"):
        up.load_run(run)


@pytest.mark.parametrize(
    "row",
    [
        {"step": "1"},
        {"step": True},
        {"step": -1},
        {"step": 10**9},
        {"step": 7},
        {"step": 7.5},
        {"progress": "good"},
        {"progress": [1]},
        {"loss": {}},
        {"weights_score": 0.5},
        {"weights_score": ["x"]},
        {"guesses": [1]},
        {"energy_method": None},
    ],
    ids=str,
)
def test_a_row_that_is_none_is_named_by_its_line(row: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path, unfinished=False)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), **row})
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(RunDirectoryError, match=r"metrics\.jsonl: line [34]"):
        up.load_run(run)


# The last file.


@pytest.mark.parametrize("harm", named((*ALL[:9], edited(step=10**9), edited(step=...), edited(test_loss="x"))))
def test_damaged_final_figures_are_made_again(
    harm: Harm, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copied(whole, tmp_path, unfinished=False)
    harm(run / "DONE.json")
    ended, said = trained_or_refused(tmp_path, whole, caplog)
    assert ended
    assert said.endswith("the end of the run is made again") or harm is missing


@pytest.mark.parametrize("harm", named(ALL[9:]))
def test_what_is_no_file_is_left_in_its_place(
    harm: Harm, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copied(whole, tmp_path, unfinished=False)
    harm(run / "DONE.json")
    assert not trained_or_refused(tmp_path, whole, caplog)[0]


# Chance.

N_FLIPS = 12


@pytest.mark.parametrize(
    "name",
    [
        *("env.json", "task.json", "shape.json", "spec.json", "DONE.json", "prompts.npz"),
        *("metrics.jsonl", "costs.jsonl", "checkpoints/step-00000007/state.json"),
        "checkpoints/step-00000007/tensors.safetensors",
    ],
)
def test_flipped_bits_are_told_or_do_no_harm(
    name: str, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a text that nobody computes with, such as a version, a flip is not seen: the trajectory is the same."""
    places = random.Random(name)
    for number in range(N_FLIPS):
        run = copied(whole, tmp_path / str(number), unfinished=name != "DONE.json")
        data = bytearray((run / name).read_bytes())
        data[places.randrange(len(data))] ^= 1 << places.randrange(8)
        (run / name).write_bytes(data)
        seen = bytes(data)
        before = contents(run)
        refused = ""
        try:
            trained(tmp_path / str(number))
        except UnplateauError as error:
            refused = str(error)
        if refused:
            assert "\n" not in refused
            assert contents(run) == before
        else:
            found, wanted = trajectory(run), trajectory(whole)
            assert found[:2] == wanted[:2]
            assert found[3:] == wanted[3:] or (run / name).read_bytes() == seen


# What killed processes have left.


def test_leftovers_of_killed_processes_go_at_the_next_start(
    run: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead, alive = 2**22 + 1, os.getppid()  # no system has as many processes
    (run / f".DONE.json.{dead}.part").write_text("{")
    (run / f".DONE.json.{alive}.part").write_text("{")
    for name in (".step-00000005.part", "step-00000001", "step-00000003"):
        (run / "checkpoints" / name).mkdir()
        (run / "checkpoints" / name / "state.json").write_text("{")
    trained(run.parents[2])
    assert (run / f".DONE.json.{alive}.part").read_text() == "{"
    (run / f".DONE.json.{alive}.part").unlink()
    assert trajectory(run) == trajectory(whole)
