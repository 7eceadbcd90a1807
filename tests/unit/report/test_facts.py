"""What a report says was run."""

from dataclasses import replace

from run_directories import MadeRun, make_run
from unplateau.analysis.runs import summarise_run
from unplateau.recipes import demo, shapes
from unplateau.report.facts import facts
from unplateau.train.spec import RunSpec


def told(folder, spec: RunSpec) -> dict[str, str]:
    run = summarise_run(make_run(folder, MadeRun("plain", 0, None, finished=False)))
    written = spec.model_dump(mode="json")
    record = replace(run.record, spec={**run.record.spec, "model": written["model"], "train": written["train"]})
    return dict(facts({"plain": [replace(run, record=record)]}))


def test_a_schedule_is_named_and_so_are_switches_that_are_on(tmp_path) -> None:
    found = told(tmp_path, demo())
    assert found["Model"].startswith("3 blocks, 64 wide, 4 heads, initialisation scaled, labels carry items; ")
    assert found["Training"] == "1,400 steps of 20 prompts, Adam, learning rate 0.003, cosine to 0"
    plain = told(tmp_path, shapes())
    assert plain["Model"].startswith("3 blocks, 64 wide, 2 heads, initialisation scaled; ")
    assert plain["Training"] == "1,500 steps of 64 prompts, Adam, learning rate 0.002"
