"""What a report says about how its runs were made: task, model, training, machine, versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unplateau.report.curves import Groups
from unplateau.report.finding import seeds_words
from unplateau.report.style import printable, spoken


def facts(groups: Groups) -> list[tuple[str, str]]:
    """What was run: task, model, training, strategies."""
    runs = [run for members in groups.values() for run in members]
    spec, task = runs[0].record.spec, runs[0].record.task
    training = spec.get("train", {})
    factors = zip(task["factor_names"], task["factor_sizes"], strict=True)
    source = spec.get("task", {}).get("source", {})
    steps = sorted({run.record.spec.get("train", {}).get("steps", run.steps) for run in runs})
    return [
        ("Task", " over ".join(filter(None, [_kind(spec.get("task", {})), _kind(source)]))),
        ("Prompt", f"{task['n_pairs']} pairs of an item and one of {task['n_labels']} labels"),
        ("Hidden factor", f"one of {', '.join(map(spoken, task['hidden_factors']))}"),
        ("Factors and their sizes", ", ".join(f"{spoken(name)} {size}" for name, size in factors)),
        ("Mappings", _mappings(spec.get("task", {}))),
        ("Model", f"{_model(spec.get('model', {}))}; {task['parameters']:,} parameters"),
        (
            "Training",
            f"{' or '.join(f'{count:,}' for count in steps)} steps of {training.get('batch_size')} prompts, "
            f"Adam, learning rate {training.get('lr')}",
        ),
        ("Cut of all scores", runs[0].cut),
        ("Strategies", "; ".join(f"{printable(name)}: {seeds_words(members)}" for name, members in groups.items())),
    ]


def provenance(groups: Groups) -> list[tuple[str, list[str]]]:
    """Commands, versions and machines, each once."""
    runs = [run for members in groups.values() for run in members]
    environments = [run.record.env for run in runs]
    return [
        ("Commands", _once(str(env["run"].get("command", "not recorded")) for env in environments)),
        ("Versions", _once(_settings(env.get("versions", {})) for env in environments)),
        ("Machine", _once(_settings(env.get("machine", {})) for env in environments)),
        (
            "Seeds",
            _once(
                f"{printable(name)}: {', '.join(str(run.seed) for run in members)}" for name, members in groups.items()
            ),
        ),
        ("Run directories", [str(run.record.path) for run in runs]),
    ]


def _kind(config: Mapping[str, Any]) -> str:
    return str(config.get("kind", ""))


def _mappings(task: Mapping[str, Any]) -> str:
    count = task.get("n_mappings", "not recorded")
    return "a fresh one for each prompt" if count is None else f"{count} for each factor"


def _model(config: Mapping[str, Any]) -> str:
    named = {"n_layers": "blocks", "width": "wide", "n_heads": "heads"}
    known = [f"{config[key]} {word}" for key, word in named.items() if key in config]
    rest = {key.replace("init", "initialisation"): value for key, value in config.items() if key not in named}
    return ", ".join(filter(None, [*known, _settings(rest)]))


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _once(texts: Any) -> list[str]:
    return list(dict.fromkeys(texts))
