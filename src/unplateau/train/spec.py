"""A run as a value: everything that decides its numbers, and nothing else; and how it is read, changed and multiplied.

A spec is data: making one computes nothing and reads no data; ``RunSpec.check`` does. It hashes to its run directory;
devices, threads and output folders are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from unplateau.config import Config, Kind, parse, parts_of, placed
from unplateau.decompose import Architecture
from unplateau.errors import DataError, SpecError, suggest
from unplateau.files import name_problem
from unplateau.inputs import MOST_DOCUMENT, json_value, read_file, yaml_value
from unplateau.layout import Cut
from unplateau.limits import refuse_memory, refuse_runs
from unplateau.models.transformer import ModelConfig
from unplateau.store import RunRecord
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.base import Task
from unplateau.train.estimate import Batches, Estimate, data_bytes, estimate
from unplateau.train.host import TaskHost
from unplateau.train.optimisers import Adam, GradientFilter, Optimiser


class TrainConfig(Config):
    """How long and how to train, and how often to look."""

    steps: int = Field(2000, ge=1, description="updates of the weights")
    batch_size: int = Field(64, ge=1, description="prompts in a batch (rows); the same for every strategy")
    lr: float = Field(1e-3, gt=0, description="learning rate")
    schedule: Literal["constant", "cosine", "warm-up-stable-decay"] = Field(
        "constant",
        description="of the learning rate; cosine: a warm-up, then down to a twentieth; warm-up-stable-decay: a "
        "warm-up, then constant, over the last fifth of the steps down to a twentieth",
        exclude_if=lambda schedule: schedule == "constant",  # as specs of before there was a choice
    )
    warm_up: int | None = Field(
        None,
        ge=0,
        description="steps over which the learning rate rises; null: a twentieth of them, none where it is constant",
        exclude_if=lambda warm_up: warm_up is None,
    )
    optimiser: Optimiser = Field(
        default_factory=Adam,
        description="what steps the weights: Adam, AdamW, Muon, SOAP, ScheduleFree, or one of your own",
        exclude_if=lambda optimiser: optimiser == Adam(),
    )
    gradient_filter: GradientFilter | None = Field(
        None,
        description="what changes gradients before they are clipped: Grokfast, or one of your own; null: nothing",
        exclude_if=lambda gradient_filter: gradient_filter is None,
    )
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="norm of all gradients together (heads included) above which they are scaled down to it; null: any",
        exclude_if=lambda clip_norm: clip_norm is None,
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of matrix products in training; bfloat16: PyTorch's autocast, weights and looks stay in float32",
        exclude_if=lambda precision: precision == "float32",
    )
    execution: Literal["eager", "graphed", "compiled"] = Field(
        "eager",
        description="of an update on a GPU; graphed: recorded once as a CUDA graph and replayed, so that small models "
        "do not wait for Python; compiled: also translated by torch.compile, which takes a minute first and changes "
        "the rounding. Elsewhere graphed is as eager",
        exclude_if=lambda execution: execution == "eager",
    )
    steps_per_draw: int = Field(
        1,
        ge=1,
        description="steps whose batches are drawn at once, which takes less time; other numbers give other batches",
        exclude_if=lambda steps: steps == 1,
    )
    frozen: tuple[str, ...] = Field(
        (),
        description="names of modules whose weights stay as they are at first, such as item_embedding",
        exclude_if=lambda frozen: not frozen,
    )
    sharded: bool = Field(
        False,
        description="whether processes that torchrun has started keep a part of the weights each (FSDP2), for models "
        "that fill a GPU; false: all of them (DDP). In one process it means nothing",
        exclude_if=lambda sharded: not sharded,
    )
    eval_every: int = Field(20, ge=1, description="steps between two rows of the history")
    eval_prompts: int = Field(64, ge=1, description="fresh prompts of the target task for each row")
    probe_every: int = Field(200, ge=0, description="steps between two probings, a multiple of eval_every; 0: never")
    probe_prompts: int = Field(64, ge=8, description="prompts to fit a probe on, and as many held-out ones")
    checkpoint_every: int = Field(250, ge=1, description="steps between two checkpoints; the last two are kept")
    final_prompts: int = Field(1024, ge=1, description="held-out prompts for the figures at the end")

    @model_validator(mode="after")
    def _probes_fall_on_rows(self) -> Self:
        if self.probe_every % self.eval_every:
            raise ValueError(f"probe_every {self.probe_every} is not a multiple of eval_every {self.eval_every}")
        return self

    @model_validator(mode="after")
    def _optimiser_takes_parts(self) -> Self:
        if self.sharded and self.optimiser.multiplies:
            raise ValueError(
                f"sharded does not go with {type(self.optimiser).__name__}, whose steps need whole matrices: leave it "
                f"false, or choose Adam, AdamW or ScheduleFree"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.warm_up is not None and self.warm_up >= self.steps:
            raise ValueError(f"warm_up {self.warm_up} must be less than steps {self.steps}")
        if self.optimiser.averages and self.schedule != "constant":
            raise ValueError(
                f"schedule {self.schedule} does not go with {type(self.optimiser).__name__}, which averages weights in "
                f"the place of a falling learning rate: leave it constant (warm_up may be set)"
            )
        return self


class Graft(Config):
    """Weights that a run begins with, in the place of fresh ones: those that another run has ended with."""

    donor: RunSpec = Field(description="the other run; it is trained first, into the same folder, unless it is there")
    modules: tuple[str, ...] = Field(
        ("",), description="names of modules whose weights are taken, such as blocks.0.attention; empty: all weights"
    )


class RunSpec(Config):
    """One training run."""

    recipe: str = Field("run", pattern=r"^[\w.-]+$", description="name under which runs are kept together")
    task: Task = Field(description="the target task, on which progress is measured")
    model: Architecture = Field(default_factory=ModelConfig, description="size and initialisation of the Transformer")
    strategy: Strategy = Field(default_factory=Strategy, description="curricula and loss terms; none: plain training")
    train: TrainConfig = Field(default_factory=TrainConfig, description="length, batch, learning rate, cadence")
    cut: Cut = Field("self", description="cut under which the scores of this run are taken")
    seed: int = Field(0, ge=0, description="decides initial weights and batches")
    grafts: tuple[Graft, ...] = Field(
        (),
        description="weights of other runs to begin with, one after the other; what the donors cost is not counted",
        exclude_if=lambda grafts: not grafts,
    )

    @field_validator("recipe")
    @classmethod
    def _names_a_folder(cls, recipe: str) -> str:
        if problem := name_problem(recipe):
            raise ValueError(problem)
        return recipe

    def digest(self) -> str:
        """As of any value; but recorded steps have the bits of others, so that it does not tell them apart."""
        return super().digest() if self.train.execution != "graphed" else self.alike()[0].digest()

    def alike(self) -> tuple[RunSpec, ...]:
        """The runs that have the same bits: with steps made kernel by kernel, and recorded."""
        if self.train.execution == "compiled":
            return (self,)
        return tuple(self.with_settings({"train.execution": execution}) for execution in ("eager", "graphed"))

    def with_strategy(self, strategy: Strategy | str) -> RunSpec:
        """The same run with another strategy (or the name of one, such as ``mixed+component-loss``)."""
        return self.model_copy(update={"strategy": strategy})

    def with_seed(self, seed: int) -> RunSpec:
        """The same run with another seed."""
        return self.model_copy(update={"seed": seed})

    def with_settings(self, settings: Mapping[str, Any]) -> RunSpec:
        """The same run with these keys changed, in order: ``spec.with_settings({"train.steps": 600, "seed": 3})``.

        Keys are those of ``--set``, with dots, and reach into parts: ``strategy.parts.0.fraction``. Raises SpecError,
        naming the key, if there is no such one, or the result is no valid spec.
        """
        return with_settings(self, settings.items())

    def init_from(self, donor: RunSpec | RunRecord, *modules: str) -> RunSpec:
        """The same run, beginning with the last weights of another: of these modules, all of them if none is named.

        The other run is looked for in the same folder ``out``, and trained first if it is not there (see ``grafts``).
        """
        spec = donor if isinstance(donor, RunSpec) else spec_of(dict(donor.spec), where=str(donor.path))
        graft = Graft(donor=spec, modules=modules or ("",))
        return self.model_copy(update={"grafts": (*self.grafts, graft)})

    def directory(self, out: str | Path) -> Path:
        """``<out>/<recipe>/<strategy>/seed-<n>-<digest>``.

        Raises SpecError for a strategy whose parts have settings that cannot stand in the name of a folder.
        """
        if problem := name_problem(self.strategy.name):
            raise SpecError(f"strategy: {problem}; give the part a `name` of its own")
        return Path(out) / self.recipe / self.strategy.name / f"seed-{self.seed}-{self.digest()}"

    def check(self, *, where: str = "") -> None:
        """Reads the data that the run needs, and refuses parts that do not go together, or sizes that cannot work here.

        ``where``: put in front of messages, such as the file that the spec is from. Raises SpecError, one line with the
        path of keys, or DataError.
        """
        self.directory("")
        with placed(where):
            refuse_memory("task: its data", self._data_bytes())
        for path, part in parts_of(self):
            if isinstance(part, Kind):
                with placed(where, path):
                    part.check()
        with placed(where):
            self.estimate().refuse()
            for term in self.strategy.loss_terms:
                term.check_host(self.host)
                if self.train.execution != "eager" and not term.recordable:
                    raise SpecError(
                        f"train.execution={self.train.execution}: {type(term).__name__} does not say that it is "
                        f"recordable; leave it eager"
                    )
            if self.train.execution == "compiled" and type(self.model) is not ModelConfig:
                raise SpecError(
                    f"train.execution=compiled is for the Transformer of ModelConfig, not {type(self.model).__name__}"
                )

    def estimate(self) -> Estimate:
        """What the run will take at least: memory, and hours at a rate that few models reach.

        Of a task of words or texts this reads them. Raises SpecError or DataError if they cannot be had.
        """
        config = self.train
        batches = Batches(
            update=config.batch_size,
            look=max(config.eval_prompts, config.final_prompts),
            probe=config.probe_prompts if config.probe_every else 0,
            steps=config.steps,
            drawn=config.batch_size * config.steps_per_draw if config.steps_per_draw > 1 else 0,
            partly=bool(config.frozen),
            per_weight=2 + config.optimiser.kept + (config.gradient_filter is not None),
        )
        return estimate(self._data_bytes(), self.task.shape, self.model, batches)

    def _data_bytes(self) -> int:
        return data_bytes(part for _, part in parts_of(self) if isinstance(part, Kind))

    @property
    def host(self) -> TaskHost:
        """What loss terms may know of this run."""
        return TaskHost(self.model.n_layers, self.model.width, self.task.shape, self.model.shows_attention)


Graft.model_rebuild()


def split_setting(text: str) -> tuple[str, str]:
    """Key and value of ``a.b=value``. Raises SpecError if there is no key or no ``=``."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"'{text}': a setting is written KEY=VALUE, such as train.steps=300")
    return key.strip(), value.strip()


def read_value(text: str, *, where: str) -> Any:
    """A YAML value: number, text, null, true, [list] or {mapping}. Raises SpecError if it is none."""
    try:
        return yaml_value(text)
    except ValueError as error:
        raise SpecError(f"{where}: '{text}' is not a YAML value ({error}); quotes may help") from error


def with_settings(spec: RunSpec, settings: Iterable[tuple[str, Any]]) -> RunSpec:
    """``spec`` with these keys changed, in order. Raises SpecError, naming the key, if the result is no valid spec."""
    data: Any = _opened(spec)
    for given_key, value in settings:
        short = given_key.removesuffix(".kind")  # of another kind nothing is kept
        key = short if short in _BY_NAME else given_key
        *parents, last = key.split(".")
        inner = data
        for depth, name in enumerate(parents):
            inner = inner[_place(inner, name, key, depth)]
        # What is given by its name becomes its parts at once, so that a later setting can reach into them.
        given = parse(_BY_NAME[key], value, where=key) if key in _BY_NAME and value is not None else value
        inner[_place(inner, last, key, len(parents))] = _opened(given)
    return parse(RunSpec, data)


_BY_NAME: dict[str, type[Config]] = {
    "strategy": Strategy,
    "train.optimiser": Optimiser,
    "train.gradient_filter": GradientFilter,
}


def _opened(value: Any) -> Any:
    """The value as data that a setting can reach into, with what a dump leaves out where it is the default."""
    if isinstance(value, Config):
        fields = {name: _opened(getattr(value, name)) for name in type(value).model_fields}
        named = isinstance(value, Kind) and value.written_as() != value.usual
        return {"kind": value.written_as(), **fields} if named else fields  # type: ignore[attr-defined]
    if isinstance(value, list | tuple):
        return [*map(_opened, value)]
    return {key: _opened(inside) for key, inside in value.items()} if isinstance(value, dict) else value


def _place(data: Any, name: str, key: str, depth: int) -> str | int:
    """``name`` as an index into ``data``. Raises SpecError if there is no such place."""
    parent = ".".join(key.split(".")[:depth]) or "the spec"
    if isinstance(data, dict):
        if name not in data:
            raise SpecError(f"{key}: unknown key '{name}' in {parent}{suggest(name, data)}")
        return name
    if isinstance(data, list):
        if not name.isdecimal() or len(name) > 18 or int(name) >= len(data):
            have = f"0 to {len(data) - 1}" if data else "none: it is empty"
            raise SpecError(f"{key}: no element '{name}' in {parent}; there is {have}")
        return int(name)
    raise SpecError(f"{key}: {parent} is {data!r} and has no key '{name}'")


Axis = tuple[str, tuple[Any, ...]]


def read_axis(text: str) -> Axis:
    """Key and values of ``a.b=v1,v2``; the values form a YAML list, so brackets and quotes protect a comma."""
    key, values = split_setting(text)
    found = read_value(f"[{values}]", where=f"axis {key}")
    if not found:
        raise SpecError(f"axis {key}: it needs at least one value, such as {key}=1,2")
    return key, tuple(found)


def expand(spec: RunSpec, axes: Sequence[Axis], seeds: Iterable[int]) -> list[RunSpec]:
    """The specs of all combinations, without repetitions. Raises SpecError if an axis comes twice or one is invalid."""
    keys = [key for key, _ in axes]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise SpecError(f"axis {twice[0]}: given twice; write all its values in one, separated by commas")
    if "seed" in keys:
        raise SpecError("axis seed: each combination is trained with every seed asked for (--seeds, --first-seed)")
    seeds = seeds if isinstance(seeds, range) else list(seeds)
    refuse_runs(*_counted(axes, len(seeds)))
    combinations = [with_settings(spec, zip(keys, values, strict=True)) for values in product(*(v for _, v in axes))]
    every = [one.with_seed(seed) for one in combinations for seed in seeds]
    return list({one.digest(): one for one in every}.values())


def _counted(axes: Sequence[Axis], n_seeds: int) -> tuple[str, int]:
    """The number of runs, in words and as it is."""
    sizes = [len(values) for _, values in axes]
    words = " x ".join([*(f"{size:,} values" for size in sizes), f"{n_seeds:,} seeds"])
    return words, prod(sizes) * n_seeds


def spec_of(data: object, *, where: str = "") -> RunSpec:
    """Plain data as a spec. Raises SpecError, one line, if it is none."""
    return parse(RunSpec, data, where=where)


def read_spec(path: str | Path) -> RunSpec:
    """The spec in a YAML or JSON file. Raises SpecError, naming the file, if it cannot be read or is no spec."""
    return spec_of(_read(Path(path), f"the keys of a run: {', '.join(RunSpec.model_fields)}"), where=str(path))


def read_task(path: str | Path) -> Task:
    """The task in a YAML or JSON file. Raises SpecError, naming the file, if it cannot be read or is no task."""
    data = _read(Path(path), "the keys of a task, such as kind: FactorTask")
    return parse(Task, data, where=str(path))  # type: ignore[type-abstract]


def _read(path: Path, keys: str) -> dict[str, Any]:
    language = "JSON" if path.suffix == ".json" else "YAML"
    try:
        text = read_file(path, most=MOST_DOCUMENT).decode("utf-8")
        data = json_value(text) if language == "JSON" else yaml_value(text)
    except DataError as error:
        raise SpecError(str(error)) from error
    except ValueError as error:
        raise SpecError(f"{path}: not a {language} file ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict):
        raise SpecError(f"{path}: must hold {keys}")
    return data
