"""``unplateau probe``: what the layers of a trained model know, ours or a language model's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from unplateau.cli.console import number, print_json, print_table
from unplateau.cli.wording import ASKED_PLAINLY, TaskFile, Worded, Wording
from unplateau.errors import SpecError

if TYPE_CHECKING:
    from unplateau.decompose import Decomposable
    from unplateau.integrations.huggingface import TokenTask
    from unplateau.integrations.scores import InContextAccuracy
    from unplateau.layout import Cut
    from unplateau.scores import ProbeScore
    from unplateau.tasks.base import Sampler

Trained = Annotated[str, Positional, arg(metavar="RUN|MODEL")]


def probe(
    model: Trained,
    /,
    *,
    task: TaskFile | None = None,
    wording: Worded = ASKED_PLAINLY,
    component: Literal["weights", "context", "hidden"] = "weights",
    cut: Literal["self", "item", "identity", "zero"] | None = None,
    n_train: int = 4096,
    n_test: int = 4096,
    method: Literal["ridge", "logistic"] = "ridge",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Probes every layer of a trained model: held-out accuracy of a linear read-out, with chance and control.

    The weights component is the hidden state that the same weights compute with no access to other positions; the cut
    says what "no access" means. The context component is the rest. Layer 0 is the embedding.

    Args:
        model: a run directory (its newest checkpoint is taken), or one folder under its checkpoints; with --task the
            folder of a causal language model of transformers, or its name on the hub
        task: the task to probe a language model on; its items must be words or sentences
        wording: how a language model is asked
        component: weights or hidden (read out: each factor of the item), context (read out: which factor is hidden)
        cut: self (a position sees itself only), item (its item), identity (attention returns its input), zero (none);
            default: the own one of a run, self for a language model
        n_train: examples (positions) that probes are fitted on
        n_test: held-out examples
        method: ridge regression or multinomial logistic regression
        seed: decides which prompts are drawn
        json: print JSON instead of a table
    """
    from unplateau.probe import probe_components  # noqa: PLC0415 (torch)

    if task is None and wording != ASKED_PLAINLY:
        raise SpecError("probe: --template and --labels are for language models, and need --task")
    trained, sampler, measured, own = _ours(model) if task is None else _language_model(model, task, wording, seed)
    cut = cut or own
    scores = probe_components(
        trained, sampler, component=component, cut=cut, n_train=n_train, n_test=n_test, method=method, seed=seed
    )
    if json:
        listed = [asdict(score) for score in scores]
        print_json(listed if measured is None else {**measured.as_dict(), "scores": listed})
        return
    print(f"{component} component of {model}, cut {cut}: held-out accuracy of a {method} probe")
    print(f"in brackets: control with shuffled labels; {scores[0].n_test} test examples")
    print_scores(scores)
    if measured is not None:
        print("\n".join(measured.lines()))


@dataclass(frozen=True)
class _Measured:
    """What is known of a language model on a task beside its probes."""

    accuracy: InContextAccuracy
    tokens: TokenTask

    def as_dict(self) -> dict[str, Any]:
        return {
            "icl": asdict(self.accuracy),
            "labels": list(self.tokens.labels),
            "split_items": list(self.tokens.split_items),
            "items_seen": self.tokens.n_items_seen,
        }

    def lines(self) -> list[str]:
        found, n_split, n_seen = self.accuracy, len(self.tokens.split_items), self.tokens.n_items_seen
        told = (
            f"{n_split} of the {n_seen} words of items that were seen are several tokens: under cut self the weights "
            "component is that of the last token, cut item has the whole word"
        )
        return [
            f"in-context accuracy {number(found.accuracy)}, at the last pair {number(found.accuracy_by_position[-1])} "
            f"({found.n_prompts} prompts); without context {number(found.no_context_accuracy)}, "
            f"Bayes-optimal {number(found.bayes_accuracy)}",
            told if n_split else f"each of the {n_seen} words of items that were seen is one token",
        ]


def _ours(model: str) -> tuple[Decomposable, Sampler, None, Cut]:
    from unplateau.train.checkpoint import load_model  # noqa: PLC0415

    spec, trained = load_model(model)
    return trained, spec.task, None, spec.cut


def _language_model(
    model: str, task: Path, wording: Wording, seed: int
) -> tuple[Decomposable, Sampler, _Measured, Cut]:
    from unplateau.integrations.huggingface import load_decoder  # noqa: PLC0415 (transformers)
    from unplateau.integrations.scores import icl_accuracy  # noqa: PLC0415
    from unplateau.train.spec import read_task  # noqa: PLC0415

    decoder, tokens = load_decoder(model, read_task(task), template=wording.pair, labels=wording.label_words)
    return decoder, tokens, _Measured(icl_accuracy(decoder, tokens, seed=seed), tokens), "self"


def print_scores(scores: list[ProbeScore]) -> None:
    """A row for each layer, a column for each factor, chance in the last row."""
    factors = list(dict.fromkeys(score.factor for score in scores))
    cells = {(score.layer, score.factor): score for score in scores}
    layers = list(dict.fromkeys(score.layer for score in scores))

    def shown(layer: int, factor: str) -> str:
        score = cells[layer, factor]
        return f"{number(score.accuracy)} ({number(score.control_accuracy)})"

    def mean(layer: int) -> str:
        return number(sum(cells[layer, factor].accuracy for factor in factors) / len(factors))

    chances = [cells[layers[0], factor].chance for factor in factors]
    rows = [(f"layer {layer}", *(shown(layer, factor) for factor in factors), mean(layer)) for layer in layers]
    rows.append(("chance", *map(number, chances), number(sum(chances) / len(chances))))
    print_table(("", *factors, "mean"), rows)
