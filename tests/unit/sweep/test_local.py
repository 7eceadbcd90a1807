"""What is refused before any run begins; real runs are in tests/runs."""

from importlib import import_module
from pathlib import Path

import pytest

from small_runs import SPEC
from unplateau import store
from unplateau.errors import SpecError
from unplateau.files import write_json
from unplateau.items.codes import RandomCodes
from unplateau.strategies.losses import ComponentLoss
from unplateau.strategies.strategy import Strategy
from unplateau.sweep.failure import RunFailure
from unplateau.sweep.local import run_many
from unplateau.sweep.stacked import train_many
from unplateau.tasks.factors import FactorTask
from unplateau.train.loop import train
from unplateau.train.spec import RunSpec

FAULTY = """
import unplateau as up


class Faulty(up.FactorTask):
    def sample(self, step, **how):
        if step == 2:
            raise ZeroDivisionError("not this one")
        return super().sample(step, **how)
"""
PLAIN = RunSpec(task=FactorTask(source=RandomCodes(), n_pairs=4))


@pytest.mark.parametrize("numbers", [{"workers": 0}, {"threads": 0}])
def test_no_workers_or_threads(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(SpecError, match="at least 1"):
        run_many([PLAIN], out=tmp_path, **numbers)


def test_the_same_run_twice(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="twice"):
        run_many([PLAIN, PLAIN], out=tmp_path)


def test_a_run_waits_for_the_one_whose_weights_it_takes(tmp_path: Path) -> None:
    """Whoever else trains that: another worker, or an earlier stack of this process.

    Of one donor, which is in the list, children stand before and after it; of the other, which is not, there are two.
    """
    plain = SPEC.with_strategy("plain")
    listed, absent = plain.with_seed(8), plain.with_seed(9)
    early, late = (plain.with_seed(seed).init_from(listed) for seed in (0, 1))
    one, other = (plain.with_seed(seed).init_from(absent) for seed in (2, 3))
    specs = [one, other, early, listed, late]
    for found in (
        run_many(specs, out=tmp_path / "workers", workers=2, progress=False),
        train_many(specs, out=tmp_path / "stack", stacked=True, progress=False),
    ):
        assert not any(isinstance(one, RunFailure) for one in found)


def test_nothing_to_do(tmp_path: Path) -> None:
    assert run_many([], out=tmp_path) == []


def test_a_finished_run_that_is_damaged_costs_no_other(tmp_path: Path) -> None:
    spec = PLAIN.with_settings({"train.steps": 2, "train.eval_every": 1, "train.probe_every": 2})
    specs = [spec, spec.with_seed(1)]
    whole, hurt = (train(one, out=tmp_path, progress=False).path for one in specs)
    (hurt / store.METRICS).write_text('{"step": ["no"]}\n')
    found, failure = run_many(specs, out=tmp_path)
    assert found.path == whole
    assert isinstance(failure, RunFailure)
    assert failure.message.startswith(f"{hurt}: ")


@pytest.mark.parametrize(("progress", "said"), [(True, "plain, seed 0: step 2/2  progress"), (False, ""), (None, "")])
def test_how_far_runs_are_is_told_where_somebody_looks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], progress: bool | None, said: str
) -> None:
    spec = PLAIN.with_settings({"train.steps": 2, "train.eval_every": 1, "train.probe_every": 2})
    train(spec, out=tmp_path, progress=False)
    run_many([spec], out=tmp_path, progress=progress)
    err = capsys.readouterr().err
    assert said in err
    assert bool(err) == bool(said)


def test_what_a_failed_run_has_said_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With workers and in a stack; of a failure that is one line there is nothing more to keep."""
    (tmp_path / "own_faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(str(tmp_path))
    task = import_module("own_faulty").Faulty(**dict(SPEC.task))
    short = SPEC.with_strategy("plain").with_settings({"train.eval_every": 1})
    specs = [short.model_copy(update={"task": task}), short.with_settings({"train.lr": 1e30})]
    for out, train_all in ((tmp_path / "workers", run_many), (tmp_path / "stack", train_many)):
        faulty, diverged = train_all(specs, out=out, progress=False)
        log = out / ".logs" / specs[0].directory("").with_suffix(".log")
        assert isinstance(faulty, RunFailure)
        assert faulty.message == f"ZeroDivisionError: not this one (its log: {log})"
        assert 'raise ZeroDivisionError("not this one")' in log.read_text()
        assert isinstance(diverged, RunFailure)
        assert "became NaN or infinite" in diverged.message
        assert [*log.parent.iterdir()] == [log]


def test_classes_of_a_script_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(RandomCodes, "__module__", "__main__")
    with pytest.raises(SpecError, match="RandomCodes is defined in the script itself"):
        run_many([PLAIN], out=tmp_path)


def test_every_combination_is_checked_once_before_the_first_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checked: list[str] = []

    def check(spec: RunSpec) -> None:
        checked.append(spec.strategy.name)
        if spec.strategy.parts:
            raise SpecError("layer 9 is beyond")

    monkeypatch.setattr(RunSpec, "check", check)
    monkeypatch.setattr("unplateau.sweep.local.RunProcess", lambda *_, **__: pytest.fail("nothing may be started"))
    wrong = PLAIN.with_strategy(Strategy(ComponentLoss(layer=9)))
    finished = PLAIN.with_strategy("mixed")
    figures = {"step": PLAIN.train.steps, "test_loss": 1.0, "test_progress": 0.0}
    write_json(finished.directory(tmp_path) / store.DONE, figures)
    specs = [one.with_seed(seed) for one in (PLAIN, wrong) for seed in range(3)]
    with pytest.raises(SpecError, match="layer 9"):
        run_many([finished, *specs], out=tmp_path)
    assert checked == ["plain", "component-loss[layer=9]"]
