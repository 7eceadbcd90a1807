"""Commands that look into models, ours and others: ``probe`` and ``diagnose`` at one, ``trajectory`` along training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from unplateau.cli.arguments import ASKED_PLAINLY, PromptOptions, TaskFile, Worded
from unplateau.cli.console import is_count, number, print_json, print_table
from unplateau.errors import SpecError, UnplateauError, in_words

if TYPE_CHECKING:
    from unplateau.decompose import Decomposable
    from unplateau.integrations.huggingface import Decoder, TokenTask
    from unplateau.integrations.scores import InContextAccuracy
    from unplateau.integrations.trajectory import MarkedPlateau
    from unplateau.probe.diagnosis import Diagnosis
    from unplateau.scores import Component, ProbeScore
    from unplateau.tasks.base import Sampler


FEWEST_PROMPTS = 64
"""Prompts from which a diagnosis is more than chance."""


def probe(
    model: Annotated[str, Positional, arg(metavar="RUN|MODEL")],
    /,
    *,
    task: TaskFile | None = None,
    wording: Worded = ASKED_PLAINLY,
    component: Literal["weights", "context", "hidden", "three-things"] = "weights",
    cut: Literal["self", "item", "identity", "zero"] | None = None,
    n_train: int = 4096,
    n_test: int = 4096,
    method: Literal["discriminant", "logistic"] = "discriminant",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Probes every layer of a trained model: accuracy of a linear read-out, with chance and control.

    The weights component is the hidden state that the same weights compute with no access to other positions; the cut
    says what "no access" means. The context component is the rest. Layer 0 is the embedding. No read-out is tested on
    items that it was fitted to; the model itself may have trained on them, where each has an embedding of its own.
    Every factor is listed; the mean is over those that a prompt may hide, as in reports.

    Below, the three things that in-context learning waits for: whether items stand out (an item's value is told by the
    nearest class mean among the other items of its prompt), whether labels are bound to their items, and whether
    queries look at the right labels. In brackets: the control.

    Args:
        model: a run directory (its newest checkpoint is taken), or one folder under its checkpoints; with --task the
            folder of a causal language model of transformers or of an adapter (peft), or its name on the hub
        task: the task to probe a language model on; its items must be words or sentences
        wording: how a language model is asked
        component: weights or hidden (read out: each factor of the item), context (read out: which factor is hidden), or
            three-things alone
        cut: self (a position sees itself only), item (its item), identity (attention returns its input), zero (none);
            default: the own one of a run, self for a language model
        n_train: examples (positions) that probes are fitted on
        n_test: examples that they are tested on, of other items
        method: linear discriminant analysis, or multinomial logistic regression, which takes some thirty times as long
        seed: decides which prompts are drawn
        json: print JSON instead of a table
    """
    from unplateau.probe import probe_components, probe_three_things  # noqa: PLC0415 (torch)
    from unplateau.train.checkpoint import load_model  # noqa: PLC0415

    _demand_task("probe", task, wording)
    trained: Decomposable
    sampler: Sampler
    if task is None:
        spec, trained = load_model(model)
        sampler, cut, measured = spec.task, cut or spec.cut, None
    else:
        from unplateau.integrations.scores import icl_accuracy  # noqa: PLC0415

        trained, tokens = _language_model(model, task, wording)
        sampler, cut, measured = tokens, cut or "self", (icl_accuracy(trained, tokens, seed=seed), tokens)
    scores, three = [], []
    if component != "three-things":
        scores = probe_components(
            trained, sampler, component=component, cut=cut, n_train=n_train, n_test=n_test, method=method, seed=seed
        )
    if component in ("weights", "three-things"):
        three = probe_three_things(trained, sampler, cut=cut, seed=seed)
    if json:
        listed = [asdict(score) for score in (scores or three)]
        print_json({**_facts(*measured), "scores": listed} if measured else listed)
        return
    if scores:
        seen = "" if task is not None or spec.task.holds_out_items else "; the model has trained on all items"
        print(f"{component} component of {model}, cut {cut}")
        _print_method(scores, method, "prompts" if component == "context" else "items", seen)
        print_scores(scores, [sampler.shape.factors[factor].name for factor in sampler.shape.asked])
    if three:
        start = "\n" if scores else ""
        print(f"{start}three things that in-context learning waits for: {model}, cut {cut}; in brackets: controls")
        print_three_things(three)
    if measured:
        _print_facts(*measured)


def _print_method(scores: Sequence[ProbeScore], method: str, others: str, seen: str) -> None:
    """How the scores were found, on what; ``seen``: what else is to be known of that."""
    error = max((score.error for score in scores if score.error is not None), default=None)
    within = "" if error is None else f", standard errors up to {number(error)}"
    print(f"accuracy of a {method} probe on {others} that it was not fitted to{seen}")
    first = scores[0]
    print(
        f"in brackets: control with shuffled labels; {first.n_test} test examples of {first.n_items} {others}{within}"
    )


def diagnose(
    model: Annotated[str, Positional, arg(metavar="RUN|MODULE:FUNCTION|MODEL")],
    /,
    *,
    task: TaskFile | None = None,
    wording: Worded = ASKED_PLAINLY,
    cut: Literal["self", "item", "identity", "zero"] | None = None,
    n_prompts: int = 512,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Says in plain sentences what a model is waiting for, each with its number and its control, and what to try.

    Do items stand out, by which factors; are labels bound to their items, and kept beside them; do queries look at the
    right labels; is what a prompt hides inferred, or learnt for some factors and not for others? Where nobody can tell,
    it says so.

    Args:
        model: a run directory (its newest checkpoint is taken), one folder under its checkpoints, or package.module:
            function of yours that returns (model, task), such as a ModuleReader and what its prompts are drawn from;
            with --task the folder of a causal language model of transformers, or its name on the hub
        task: the task that a language model is asked; its items must be words or sentences
        wording: how a language model is asked
        cut: self (a position sees itself only), item (its item), identity (attention returns its input), zero (none);
            default: the own one of a run, self otherwise
        n_prompts: held-out prompts
        seed: decides which prompts are drawn
        json: print JSON instead of sentences
    """
    from unplateau.probe.diagnose import diagnose as found_by  # noqa: PLC0415 (torch)
    from unplateau.train.checkpoint import load_model  # noqa: PLC0415

    if n_prompts < FEWEST_PROMPTS:
        raise SpecError(f"--n-prompts: must be at least {FEWEST_PROMPTS} (got {n_prompts})")
    _demand_task("diagnose", task, wording)
    ask = partial(found_by, n_prompts=n_prompts, seed=seed)
    if task is not None:
        found = ask(*_language_model(model, task, wording), cut=cut or "self")
    elif ":" in model:
        found = _of_ones_own(model, partial(ask, cut=cut or "self"))
    else:
        spec, trained = load_model(model)
        found = ask(trained, spec.task, cut=cut or spec.cut, asked_for=spec.strategy.asked_for)
    if json:
        print_json(found.as_dict())
        return
    for sentence in found.sentences:
        print(sentence)


def _of_ones_own(address: str, diagnose: Callable[[Any, Any], Diagnosis]) -> Diagnosis:
    """Of what a function returns; whatever goes wrong in it, or because its model and task do not fit, names it."""
    from unplateau.config import made_at  # noqa: PLC0415 (pydantic)
    from unplateau.decompose import require_readable  # noqa: PLC0415 (torch)

    both = made_at(address, tuple) or ()
    if len(both) != 2:
        raise SpecError(f"'{address}' must be a function without arguments that returns (model, task)")
    model, task = both
    if not (hasattr(task, "sample") and hasattr(task, "shape")):
        raise SpecError(
            f"'{address}': {type(task).__name__} is no task: it has no sample and shape (docs/extending.md)"
        )
    require_readable(model)
    try:
        return diagnose(model, task)
    except UnplateauError:
        raise
    except Exception as error:
        raise SpecError(f"'{address}': the model cannot read the prompts of the task ({in_words(error)})") from error


def _demand_task(command: str, task: Path | None, wording: PromptOptions) -> None:
    if task is None and wording != ASKED_PLAINLY:
        raise SpecError(f"{command}: --template and --labels are for language models, and need --task")


def _language_model(model: str, task: Path, wording: PromptOptions) -> tuple[Decoder, TokenTask]:
    from unplateau.integrations.huggingface import load_decoder  # noqa: PLC0415 (transformers)
    from unplateau.train.spec import read_task  # noqa: PLC0415

    return load_decoder(model, read_task(task), template=wording.pair, labels=wording.label_words)


def _facts(found: InContextAccuracy, tokens: TokenTask) -> dict[str, Any]:
    """What is known of a language model on a task beside its probes."""
    return {
        "icl": asdict(found),
        "labels": list(tokens.labels),
        "split_items": list(tokens.split_items),
        "items_seen": tokens.n_items_seen,
    }


def _print_facts(found: InContextAccuracy, tokens: TokenTask) -> None:
    n_split, n_seen = len(tokens.split_items), tokens.n_items_seen
    print(
        f"in-context accuracy {number(found.accuracy)}, at the last pair {number(found.accuracy_by_position[-1])} "
        f"({found.n_prompts} prompts); without context {number(found.no_context_accuracy)}, "
        f"Bayes-optimal {number(found.bayes_accuracy)}"
    )
    if n_split:
        print(
            f"{n_split} of the {n_seen} words of items that were seen are several tokens: under cut self the weights "
            "component is that of the last token, cut item has the whole word"
        )
    else:
        print(f"each of the {n_seen} words of items that were seen is one token")


def print_three_things(scores: list[ProbeScore]) -> None:
    """A row for each thing and factor, a column for each layer, chance in the last one; shares are in JSON alone."""
    words = {
        "few-shot": "{} stands out",
        "binding": "labels are bound",
        "keep": "labels are kept",
        "look": "queries look",
    }
    layers = sorted({score.layer for score in scores})
    things: dict[str, dict[int, ProbeScore]] = {}
    for score in scores:
        if score.kind in words:
            things.setdefault(words[score.kind].format(score.factor), {})[score.layer] = score
    rows = []
    for thing, found in things.items():
        cells = [_with_control(one.accuracy, one.control_accuracy) if (one := found.get(at)) else "" for at in layers]
        rows.append([thing, *cells, number(found[layers[-1]].chance)])
    print_table(["", *(f"layer {layer}" for layer in layers), "chance"], rows)


def print_scores(scores: list[ProbeScore], asked: Sequence[str]) -> None:
    """A row for each layer, a column for each factor, then the mean of those in ``asked``; chance in the last row."""
    by_layer = [list(of_layer) for _, of_layer in groupby(scores, key=lambda score: score.layer)]
    hidden = [score.factor for score in by_layer[0] if score.factor in asked]
    rows = []
    for of_layer in by_layer:
        cells = [_with_control(score.accuracy, score.control_accuracy) for score in of_layer]
        of_hidden = [score.accuracy for score in of_layer if score.factor in hidden]
        rows.append([f"layer {of_layer[0].layer}", *cells, *_mean(of_hidden)])
    of_hidden = [score.chance for score in by_layer[0] if score.factor in hidden]
    rows.append(["chance", *(number(score.chance) for score in by_layer[0]), *_mean(of_hidden)])
    if hidden:
        print(f"mean: over the factors that a prompt may hide ({', '.join(hidden)})")
    print_table(["", *(score.factor for score in by_layer[0]), *(["mean"] if hidden else [])], rows)


def _mean(values: Sequence[float]) -> list[str]:
    """One cell; none of no values."""
    return [number(sum(values) / len(values))] if values else []


def _with_control(score: float, control: float) -> str:
    return f"{number(score)} ({number(control)})"


def trajectory(  # noqa: PLR0913 (an option each)
    model: Annotated[str, Positional, arg(metavar="MODEL")],
    /,
    *,
    revisions: Annotated[str, arg(metavar="STEP0,STEP512,...|all")],
    task: TaskFile,
    wording: Worded = ASKED_PLAINLY,
    cut: Literal["self", "item", "identity", "zero"] = "self",
    layer: Annotated[str, arg(metavar="N|all")] = "all",
    n_test: int = 4096,
    out: Annotated[Path, arg(metavar="FILE.jsonl")] = Path("trajectory.jsonl"),
    device: str = "cpu",
    force: bool = False,
    json: bool = False,
) -> None:
    """Measures a language model at several steps of its training: in-context accuracy, weights score, context score.

    Finds the plateaus of the accuracy and shows the weights score at their ends. Every revision is asked the same
    prompts. The rows are written as they come; the same command again goes on where it stopped.

    Revisions whose weights are those of a later one, tensor by tensor, are named and left out of the curve: some suites
    serve the same weights under many steps.

    Args:
        model: a folder with a sub-folder for each revision, whole models or adapters, or a name on the hub
        revisions: names that end in the training step, with commas; all: every such sub-folder
        task: the task; its items must be words or sentences
        wording: how the model is asked
        cut: self (a position sees itself only), item (its item), identity (attention returns its input), zero (nothing)
        layer: the layer to probe; all of them by default
        n_test: examples (positions) that a probe is tested on, and as many of other items that it is fitted on
        out: file of rows, one per revision
        device: cpu, cuda, cuda:1 ...
        force: begin the file anew if it holds anything but rows of this command
        json: print JSON instead of a table
    """
    from unplateau.integrations import trajectory as along  # noqa: PLC0415 (transformers)
    from unplateau.train.loop import choose_device  # noqa: PLC0415
    from unplateau.train.spec import read_task  # noqa: PLC0415

    measurement = along.Measurement(
        read_task(task), wording.pair, wording.label_words, cut=cut, layer=_layer(layer), n_train=n_test, n_test=n_test
    )
    chosen = along.find_revisions(model, [name.strip() for name in revisions.split(",") if name.strip()])
    device = str(choose_device(device))
    rows = along.mark_repeats(
        list(along.measure_revisions(model, chosen, measurement, out=out, device=device, force=force))
    )
    found = along.accuracy_plateaus(rows)
    if json:
        print_json({"rows": rows, "plateaus": [plateau.as_dict() for plateau in found]})
        return
    components: tuple[Component, ...] = ("weights", "context")
    probed = [name for name in components if f"{name}_score" in rows[-1]]
    _print_rows(rows, found, {name: along.best_layer(rows, name) for name in probed})


def _layer(text: str) -> int | None:
    if text == "all":
        return None
    if not is_count(text):
        raise SpecError(f"--layer: expected a number or all, got '{text}'")
    return int(text)


def _print_rows(
    rows: Sequence[dict[str, Any]], plateaus: Sequence[MarkedPlateau], best: Mapping[Component, int]
) -> None:
    """``best``: of each component that was probed, the index of its best layer."""
    from unplateau.plateau.progress import FEWEST_POINTS  # noqa: PLC0415 (numpy)

    last, different = rows[-1], [row for row in rows if "repeats" not in row]
    layers = ", ".join(f"layer {last['layers'][layer]} for the {name} score" for name, layer in best.items())
    print(f"cut {last['cut']}; {layers}:")
    print("where it is highest in the last row; in brackets: control with shuffled labels")
    columns = ("step", "in-context accuracy", *(f"{name} score" for name in best))
    print_table(columns, [_row(row, best) for row in rows])
    _print_repeats(rows)
    chances = ", ".join(f"of the {name} score {number(last[f'{name}_chance'])}" for name in best)
    print(
        f"in-context accuracy without context {number(last['icl']['no_context_accuracy'])}, Bayes-optimal "
        f"{number(last['icl']['bayes_accuracy'])}; chance {chances}"
    )
    for one in plateaus:
        start, end = (number(score) for score in one.weights_score)
        print(f"{one.plateau}; weights score from {start} to {end} (layer {one.layer}, cut {last['cut']})")
    if not plateaus:
        print(
            "no plateau found"
            if len(different) >= FEWEST_POINTS
            else f"plateaus need at least {FEWEST_POINTS} revisions"
        )


def _print_repeats(rows: Sequence[dict[str, Any]]) -> None:
    """Which revisions are left out of the curve, and why."""
    repeated: dict[str, list[str]] = {}
    for row in rows:
        if "repeats" in row:
            repeated.setdefault(row["repeats"], []).append(row["revision"])
    for name, others in repeated.items():
        have = "has" if len(others) == 1 else "have"
        print(f"left out of the curve: {', '.join(others)} {have} the weights of {name}, tensor by tensor")


def _row(row: dict[str, Any], best: Mapping[Component, int]) -> list[str]:
    scores = [_with_control(row[f"{name}_score"][layer], row[f"{name}_control"][layer]) for name, layer in best.items()]
    step = f"{row['step']} (repeated)" if "repeats" in row else str(row["step"])
    return [step, number(row["icl"]["accuracy"]), *scores]
