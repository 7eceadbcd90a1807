"""What the small files and the rows of a run directory must hold, so that a damaged one is told before it is used.

Keys that are not named here are free: later versions and observers of one's own add some.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from unplateau.config import one_line
from unplateau.errors import RunDirectoryError
from unplateau.layout import Cut
from unplateau.plateau.floors import Floors

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, StringConstraints(min_length=1)]
Number = float | None
Scores = list[float]
_HOW = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
_EXACTLY = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@with_config(_HOW)
class Identity(TypedDict):
    """``run`` of ``env.json``."""

    recipe: Name
    strategy: Name
    seed: Count
    digest: Name
    cut: Cut
    command: NotRequired[str]


@with_config(_HOW)
class Machine(TypedDict):
    """``machine`` of ``env.json``."""

    cpu: str


@with_config(_HOW)
class Versions(TypedDict):
    """``versions`` of ``env.json``."""

    commit: str | None


@with_config(_HOW)
class Environment(TypedDict):
    """``env.json``."""

    run: Identity
    versions: Versions
    machine: Machine


@with_config(_HOW)
class Length(TypedDict):
    """``train`` of ``spec.json``."""

    steps: Count


@with_config(_HOW)
class Spec(TypedDict):
    """``spec.json``, as far as it is read without the classes that it names."""

    recipe: Name
    seed: Count
    task: dict[str, Any]
    model: dict[str, Any]
    strategy: dict[str, Any]
    train: Length
    cut: Cut


@with_config(_EXACTLY)
class FloorsTold(TypedDict):
    """``floors`` of ``task.json``."""

    no_context_loss: Annotated[Scores, Field(min_length=1)]
    no_context_accuracy: Scores | None
    bayes_loss: Annotated[Scores, Field(min_length=1)]
    bayes_accuracy: Scores | None
    bayes_loss_error: float
    n_prompts: Positive
    progress: NotRequired[Literal["loss", "accuracy"]]


@with_config(_HOW)
class TaskFacts(TypedDict):
    """``task.json``."""

    n_pairs: Positive
    n_labels: Count
    factor_names: list[str]
    factor_sizes: list[int]
    hidden_factors: list[str]
    hidden_names: NotRequired[list[str]]
    holds_out_items: NotRequired[bool]
    floors: FloorsTold
    parameters: Count


@with_config(_HOW)
class Done(TypedDict):
    """``DONE.json``."""

    step: Count
    test_progress: float
    test_loss: float
    test_accuracy: NotRequired[float]
    train_flops: NotRequired[Number]
    seconds: NotRequired[Number]
    joules: NotRequired[Number]
    observer_seconds: NotRequired[Number]
    observer_joules: NotRequired[Number]
    energy_method: NotRequired[str]


@with_config(_HOW)
class RowTold(TypedDict):
    """A row of ``metrics.jsonl`` with what belongs to it of ``costs.jsonl``."""

    step: Count
    loss: NotRequired[Number]
    accuracy: NotRequired[Number]
    progress: NotRequired[Number]
    train_loss: NotRequired[Number]
    test_loss: NotRequired[Number]
    test_accuracy: NotRequired[Number]
    test_progress: NotRequired[Number]
    rows: NotRequired[Count]
    tokens: NotRequired[Count]
    train_flops: NotRequired[Number]
    seconds: NotRequired[Number]
    joules: NotRequired[Number]
    observer_seconds: NotRequired[Number]
    observer_joules: NotRequired[Number]
    energy_method: NotRequired[str]
    cut: NotRequired[Cut]
    weights_score: NotRequired[Scores]
    weights_control: NotRequired[Scores]
    weights_chance: NotRequired[float]
    hidden_score: NotRequired[Scores]
    context_score: NotRequired[Scores]
    context_control: NotRequired[Scores]
    context_chance: NotRequired[float]
    few_shot_score: NotRequired[Scores]
    few_shot_control: NotRequired[Scores]
    few_shot_chance: NotRequired[float]
    binding_score: NotRequired[Scores]
    binding_control: NotRequired[Scores]
    binding_chance: NotRequired[float]
    keep_score: NotRequired[Scores]
    keep_control: NotRequired[Scores]
    keep_chance: NotRequired[float]
    look_score: NotRequired[Scores]
    look_control: NotRequired[Scores]
    look_chance: NotRequired[float]
    factor_share: NotRequired[Scores]
    weights_by_factor: NotRequired[dict[str, Scores]]
    guesses: NotRequired[list[list[int]]]


_environment: TypeAdapter[Environment] = TypeAdapter(Environment)
_spec: TypeAdapter[Spec] = TypeAdapter(Spec)
_task: TypeAdapter[TaskFacts] = TypeAdapter(TaskFacts)
_done: TypeAdapter[Done] = TypeAdapter(Done)
_rows: TypeAdapter[list[RowTold]] = TypeAdapter(list[RowTold])


def check_environment(value: Mapping[str, Any], where: object) -> None:
    """Raises RunDirectoryError, one line that begins with ``where``, for what is no ``env.json``."""
    run = value.get("run")
    if not isinstance(run, dict) or not {"recipe", "strategy", "seed", "cut"} <= set(run):
        raise RunDirectoryError(f"{where}: 'run' must name recipe, strategy, seed and cut")
    _check(_environment, value, where)


def check_spec(value: Mapping[str, Any], where: object) -> None:
    """The same for ``spec.json``."""
    _check(_spec, value, where)


def check_task(value: Mapping[str, Any], where: object) -> None:
    """The same for ``task.json``."""
    _check(_task, value, where)
    found = value["floors"]
    known = [found[name] for name in _PER_POSITION if found[name] is not None]
    if len({len(one) for one in known}) > 1 or len(known) % 2:
        raise RunDirectoryError(f"{where}: floors: not one value for each position")
    told = floors_in(value)
    if told.progress == "accuracy" and told.bayes_accuracy is None:
        raise RunDirectoryError(f"{where}: floors: progress is read from an accuracy that there is not")
    if told.progress_start == told.progress_end:
        raise RunDirectoryError(f"{where}: floors: nothing is between them")


def floors_in(task: Mapping[str, Any]) -> Floors:
    """What ``task.json`` says of the exact predictors."""
    given: dict[str, Any] = task["floors"]
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Floors(**given)


_PER_POSITION = ("no_context_loss", "no_context_accuracy", "bayes_loss", "bayes_accuracy")


def check_done(value: Mapping[str, Any], where: object, *, steps: int) -> None:
    """The same for ``DONE.json`` of a run of so many steps."""
    _check(_done, value, where)
    if value["step"] != steps:
        raise RunDirectoryError(f"{where}: says {value['step']} steps, the spec {steps}")


def check_rows(rows: Sequence[Mapping[str, Any]], where: object, *, steps: int) -> None:
    """The same for rows, of which ``where`` names the file: their columns are what readers take them for.

    Steps only rise, and none is beyond ``steps``.
    """
    try:
        _rows.validate_python(rows)
    except ValidationError as error:
        number = error.errors(include_url=False)[0]["loc"][0]
        told = one_line(error).split(".", 1)[-1]
        raise RunDirectoryError(f"{where}: line {int(number) + 1}: {told}") from error
    before = -1
    for number, row in enumerate(rows, start=1):
        if not before < row["step"] <= steps:
            expected = f"must be above {before} and at most {steps}"
            raise RunDirectoryError(f"{where}: line {number}: step {row['step']} {expected}")
        before = row["step"]


def _check(adapter: TypeAdapter[Any], value: Mapping[str, Any], where: object) -> None:
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        raise RunDirectoryError(f"{where}: {one_line(error)}") from error
