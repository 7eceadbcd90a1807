"""What ``same.py`` runs: scenarios on the command line, with spec files, and recorded in the working folder.

    PYTHONPATH=CHECKOUT/src UNPLATEAU_CACHE=FOLDER python benchmarks/same_scenarios.py NAME

What enters: the name of a scenario, and in ``runs`` what earlier scenarios trained. What leaves: files in the working
folder, among them ``transcript.txt``. Only names that outlive a rearrangement of the code are used: commands, keys of
specs, and, in ``same_tokens.py``, the public classes.
"""

from __future__ import annotations

import json
import math
import os
import random
import runpy
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

PRELOADED = (
    *("torch.utils.flop_counter", "scipy.stats", "sklearn.datasets", "safetensors.torch", "matplotlib.figure"),
    *("pydantic", "yaml", "tyro", "jinja2", "rich.console"),
)
"""Imported once, before the processes of the commands are forked off: they take longer than most commands."""
COMMANDS = (
    *("demo", "reproduce", "train", "sweep", "probe", "trajectory", "plateaus"),
    *("compare", "report", "ls", "show", "data", "doctor", "prepare"),
)
CUTS = ("self", "item", "identity", "zero")
PROBED = (*(("weights", cut) for cut in CUTS), ("context", "item"), ("hidden", "self"))
Json = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """``needs``: scenarios whose runs, as OLD trained them, lie in ``runs``. ``resumes``: it has to end as that one."""

    name: str
    run: Callable[[], None]
    needs: tuple[str, ...] = ()
    resumes: str | None = None


def record(text: str) -> None:
    """Adds a line to the transcript."""
    with Path("transcript.txt").open("a") as file:
        file.write(text + "\n")


def unplateau(*arguments: str) -> None:
    """Runs ``unplateau ARGUMENTS`` and records all that it says."""
    code, out, err = told_by(arguments)
    places = {"<here>": Path.cwd(), "<cache>": os.environ["UNPLATEAU_CACHE"], "<code>": os.environ["PYTHONPATH"]}
    for name, place in places.items():
        out, err = out.replace(str(place), name), err.replace(str(place), name)
    record(f"$ unplateau {' '.join(arguments)}\n{out}---\n{err}--- exit code {code}\n")


def train(command: str, *arguments: str) -> None:
    """Runs a command that trains, whose messages are full of times; it must succeed."""
    code, _, err = told_by((command, *arguments))
    record(f"$ unplateau {command} {' '.join(arguments)}: exit code {code}")
    if code:
        raise RuntimeError(f"unplateau {command} {' '.join(arguments)}: {err}")


def told_by(arguments: tuple[str, ...]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the program, in a process of its own."""
    with TemporaryFile() as out, TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            become(arguments)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(), err.read().decode()


def become(arguments: tuple[str, ...]) -> NoReturn:
    """What ``python -m unplateau ARGUMENTS`` does, in this process."""
    sys.argv, sys.path[0], code = ["unplateau", *arguments], str(Path.cwd()), 1
    try:
        runpy.run_module("unplateau", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def preload() -> None:
    """Imports what is public before the forks, and what an optimiser imports: three seconds of each command."""
    package = import_module("unplateau")
    for name in package.__all__:
        getattr(package, name)
    import_module("torch._dynamo")


# ---- training

QUICK: Json = {
    "steps": 40,
    "batch_size": 12,
    "eval_every": 10,
    "eval_prompts": 16,
    "probe_every": 20,
    "probe_prompts": 24,
    "checkpoint_every": 20,
    "final_prompts": 64,
}
SETTINGS = tuple(text for key, value in QUICK.items() for text in ("--set", f"train.{key}={value}"))
TINY: Json = {  # the spec of the tests of the command line
    "recipe": "tiny",
    "task": {
        "kind": "FactorTask",
        "source": {"kind": "RandomCodes", "sizes": [3, 3], "width": 8, "copies": 4},
        "n_pairs": 4,
    },
    "model": {"n_layers": 2, "width": 16, "n_heads": 2},
    "train": {
        "steps": 240,
        "batch_size": 8,
        "eval_every": 20,
        "eval_prompts": 8,
        "probe_every": 80,
        "probe_prompts": 16,
        "checkpoint_every": 50,
        "final_prompts": 16,
    },
}
CODES = TINY["task"]
SHAPES: Json = {"kind": "Shapes3D", "image_size": 16, "grid": {"floor_hue": [0, 5], "orientation": [0, 7, 14]}}


def kind(name: str, **fields: Any) -> Json:
    """Something that a spec names."""
    return {"kind": name, **fields}


def task(source: str, n_pairs: int = 4, hidden: Any = None, n_mappings: int | None = None, **fields: Any) -> Json:
    """A factor task over a source with these fields."""
    return kind("FactorTask", source=kind(source, **fields), n_pairs=n_pairs, hidden=hidden, n_mappings=n_mappings)


def component(**fields: Any) -> Json:
    """The loss on the weights component."""
    return kind("ComponentLoss", **fields)


WARM_UP, MIXED, WEIGHTS, CONTEXT = kind("WarmUp", steps=15), kind("Mixed"), kind("WeightsLoss"), kind("ContextLoss")
CHANGING, SHUFFLED = (kind("WarmUp", steps=15, mapping=mapping) for mapping in ("changing", "shuffled"))
BOTH = task("Words", attributes=["topic", "length"])
TEXT = {"n_words": 6, "most_pieces": 5, "n_pieces": 150}
SELECTION = kind("WordSelection", n_pairs=3)
Run = tuple[str | Json, tuple[Json, ...], Json]
"""A recipe or a task; the parts of the strategy; other keys of the spec."""
RUNS: dict[str, list[Run]] = {
    "images": [
        ("demo", (WARM_UP,), {}),
        ("demo", (WARM_UP, WEIGHTS), {"seed": 1}),
        (kind("FactorTask", source=SHAPES, n_pairs=4), (component(factors="all"),), {}),
        (kind("FactorTask", source={**SHAPES, "encoder": "pixels"}, n_pairs=3), (MIXED,), {"cut": "identity"}),
    ],
    "words": [
        *(("words", parts, {}) for parts in ((), (kind("Mixed", fraction=0.3),), (component(items=32),))),
        *(("words", (kind(term, factors="identity"),), {}) for term in ("ComponentLoss", "WeightsLoss")),
        ("words", (component(items=16, factors="identity"),), {"cut": "zero", "recipe": "words-zero"}),
    ],
    "selection": [
        *(("word-selection", parts, {}) for parts in ((), (MIXED,), (component(items=32),), (CHANGING,), (CONTEXT,))),
        (SELECTION, (SHUFFLED, WEIGHTS), {"cut": "item"}),
        (kind("WordSelection", n_pairs=2, n_words=2, n_mappings=3), (component(rows=3, factors="identity"),), {}),
    ],
    "digits": [("digits", parts, {}) for parts in ((), (WARM_UP,), (WEIGHTS,))],
    "codes": [
        *((CODES, (part,), {}) for part in (CONTEXT, CHANGING, SHUFFLED, component(rows=4), component(items=32))),
        *((CODES, (component(cut=cut, layer=1),), {"cut": cut}) for cut in CUTS),
        (CODES, (component(cut="item", items=5, weight=0.3), kind("WeightsLoss", weight=0)), {}),
        (CODES, (WARM_UP, MIXED, component(), CONTEXT), {"seed": 3}),
        ({**CODES, "n_mappings": 3, "mapping_seed": 2, "shuffle_factors": True}, (MIXED,), {}),
        (task("RandomCodes", sizes=[2, 5], hidden=["b"], test_fraction=0.4), (WEIGHTS,), {}),
    ],
    "models": [
        (CODES, (component(),), {"model": {"n_layers": 2, "width": 16, "init": "gpt2"}}),
        (BOTH, (WEIGHTS,), {"model": {"n_layers": 2, "width": 16, "n_heads": 4, "labels_carry_items": True}}),
        (SELECTION, (), {"model": {"n_layers": 1, "width": 32, "init": "gpt2"}}),
    ],
    "spellings": [
        *((task("Words", written=way), (component(),), {}) for way in ("characters", "pieces")),
        (task("Words", written="pieces", n_pieces=80), (WARM_UP, component(items=9)), {}),
        (task("Words", plurals=True, per_topic=12, topics=["animal", "food"]), (SHUFFLED,), {}),
    ],
    "sentences": [
        (task("LabelledText", written="pieces", **TEXT), (component(cut="item"),), {"cut": "item"}),
        (task("LabelledText", written="pieces", **TEXT), (component(cut="item", items=6), MIXED), {"cut": "item"}),
        (task("LabelledText", written="pieces", **TEXT), (WEIGHTS,), {}),
        (task("LabelledText", written="bag", n_pieces=200), (component(),), {}),
        (task("LabelledText", width=16), (WARM_UP,), {}),
    ],
    "mixtures": [
        (kind("Mixture", tasks=[CODES, {**CODES, "n_mappings": 1}], shares=[0.7, 0.3]), (component(items=8),), {}),
        (kind("Mixture", tasks=[BOTH, {**BOTH, "n_mappings": 2}], shares=[0.45, 0.55]), (MIXED,), {}),
        (kind("Mixture", tasks=[SELECTION, {**SELECTION, "n_mappings": 1}], shares=[0.5, 0.5]), (WARM_UP,), {}),
    ],
}


def train_runs(name: str) -> None:
    """All runs of this name, recipes by settings and others by a spec file."""
    preload()
    for number, (what, parts, others) in enumerate(RUNS[name]):
        if isinstance(what, str):
            given = {"strategy": {"parts": parts}, **others}
            changes = [text for key, value in given.items() for text in ("--set", f"{key}={json.dumps(value)}")]
            train("train", what, *SETTINGS, *changes)
        else:
            spec = {"recipe": name, "task": what, "model": TINY["model"], "strategy": {"parts": parts}, "train": QUICK}
            Path(f"{number}.json").write_text(json.dumps({**spec, **others}))
            train("train", f"{number}.json")


def train_demo() -> None:
    """The demo: five strategies in processes of their own, and a sweep."""
    train("demo", "--seeds", "1", "--workers", "1", *SETTINGS, "--out", "runs")
    Path("tiny.json").write_text(json.dumps(TINY))
    axes = ("--axis", "strategy=plain,weights-loss+mixed", "--axis", "train.lr=1e-2")
    train("sweep", "tiny.json", *axes, *SETTINGS, "--workers", "1", "--out", "runs")
    for name in ("report.html", "summary.json"):  # these have times in them
        Path("runs", name).unlink()


# ---- reading


def read_trained() -> None:
    """Everything that reads run directories, of runs that are finished; training them again only tells the story."""
    unplateau("demo", "--seeds", "1", *SETTINGS, "--out", "runs")
    unplateau("train", "words", *SETTINGS)
    unplateau("ls", "runs")
    for spec in sorted(Path("runs").rglob("spec.json")):
        unplateau("show", str(spec.parent))
    unplateau("report", "runs/tiny", "--out", "sweep.html")
    unplateau("report", "runs/words", "--out", "words.html", "--figures", "words", "--format", "svg", "--csv")
    unplateau("report", "runs/selection", "runs/word-selection/plain", "--out", "refused.html")
    unplateau("report", "runs/word-selection", "--out", "selection.html")
    shutil.rmtree("runs/words")  # the same bytes as before


def read_made() -> None:
    """The same of run directories with made-up curves that have plateaus."""
    for strategy, falls, seed in product(("plain", "warm-up", "mixed", "component-loss"), (0.9, 0.35), (0, 1)):
        recipe = "early" if falls < 0.5 else "late"
        make_run(Path("runs", recipe, strategy, f"seed-{seed}-{recipe}"), recipe, strategy, seed, falls)
    Path("runs/late/mixed/seed-1-late/DONE.json").unlink()
    unplateau("ls", "runs")
    for recipe in ("early", "late"):
        unplateau("compare", f"runs/{recipe}")
        unplateau("compare", f"runs/{recipe}", "--json", "--baseline", "mixed")
        figures = ("--figures", f"figures-{recipe}", "--csv", "--format", "svg")
        unplateau("report", f"runs/{recipe}", "--out", f"{recipe}.html", *figures)
        unplateau("show", f"runs/{recipe}/mixed/seed-1-{recipe}")
    unplateau("report", "runs/late", "--out", "png.html", "--figures", "png")
    import unplateau as package  # noqa: PLC0415 (only here and of the checkout)

    record(json.dumps(package.summarise(Path("runs")).as_dict(), indent=1))


def make_run(path: Path, recipe: str, strategy: str, seed: int, falls: float) -> None:
    """The files of a run of 1,500 steps whose loss falls at this share of them, earlier with a strategy."""
    rng, top, end = random.Random(f"{recipe}{strategy}{seed}"), math.log(4), 0.3
    middle = 1500 * falls * (1.2 if strategy == "plain" else 0.6) + 60 * seed
    rows, costs = [], []
    for step in range(0, 1501, 10):
        done = 1 / (1 + math.exp((middle - step) / 25))
        loss = top + 0.3 * math.exp(-step / 15) - done * (top - end) * 0.95 + rng.gauss(0, 0.012)
        row: Json = {"step": step, **({"train_loss": loss} if step else {}), "loss": loss}
        row |= {"accuracy": 0.25 + 0.6 * done, "progress": (top - loss) / (top - end), "train_flops": 2_500_000 * step}
        if step % 100 == 0:
            scores = {name: [0.4 + 0.1 * layer * (1 + done) for layer in range(4)] for name in ("weights", "context")}
            row |= {"cut": "self", "weights_chance": 0.27, "context_chance": 0.5, "hidden_score": scores["weights"]}
            row |= {f"{name}_score": score for name, score in scores.items()}
            row |= {f"{name}_control": [0.3] * 4 for name in scores} | {"weights_by_factor": {"a": scores["weights"]}}
            row |= {"test_loss": loss, "test_accuracy": row["accuracy"], "test_progress": row["progress"]}
        rows.append(row)
        spent = {"seconds": 0.03 * step, "joules": 0.4 * step, "observer_seconds": 0.01, "observer_joules": 0.1}
        costs.append({"step": step, **spent, "energy_method": "estimate: CPU time x 12 W per core"})
    final = {key: rows[-1][key] for key in ("step", "test_loss", "test_accuracy", "test_progress", "train_flops")}
    floors = {"no_context_loss": [top] * 4, "no_context_accuracy": [0.25] * 4, "bayes_loss": [end] * 4}
    floors |= {"bayes_accuracy": [0.85] * 4, "bayes_loss_error": 0.001, "n_prompts": 4096, "progress": "loss"}
    run = {"recipe": recipe, "strategy": strategy, "seed": seed, "digest": "0123456789", "cut": "self", "command": "x"}
    facts = {"n_pairs": 4, "n_labels": 4, "factor_names": ["a"], "factor_sizes": [4], "hidden_factors": ["a"]}
    budget = {"rows": 64, "tokens": 512, "flops": {"forward+backward": 2_500_000}}
    whole: Json = {
        "spec.json": {**TINY, "recipe": recipe, "seed": seed, "train": {**TINY["train"], "steps": 1500}, "cut": "self"},
        "task.json": {**facts, "floors": floors, "parameters": 1234, "budget_per_step": budget},
        "env.json": {"run": run, "versions": {"unplateau": "0.1.0"}, "machine": {"cpu": "x", "device": "cpu"}},
        "DONE.json": {**final, **costs[-1], "finished": "2026-01-01T00:00:00+00:00"},
    }
    path.mkdir(parents=True)
    for name, value in whole.items():
        (path / name).write_text(json.dumps(value))
    for name, table in (("metrics.jsonl", rows), ("costs.jsonl", costs)):
        (path / name).write_text("".join(json.dumps(row) + "\n" for row in table))


def plateaus() -> None:
    """Plateaus of made-up logs: rounded, sharp, two drops, noise, rising, few rows, holes."""
    rng = random.Random(0)
    for number, (drops, noise, rows) in enumerate(product(((0.5,), (0.3, 0.7), ()), (0.01, 0.1), (60, 400))):
        lines = ["step,loss,accuracy"]
        for at in range(rows):
            done = sum(1 / (1 + math.exp((drop - at / rows) * 80)) for drop in drops)
            loss = 1.4 - 0.5 * done + rng.gauss(0, noise)
            lines.append(f"{10 * at},{'' if at % 37 == 5 else loss},{0.2 + 0.3 * done + rng.gauss(0, noise)}")
        Path(f"{number}.csv").write_text("\n".join(lines) + "\n")
        unplateau("plateaus", f"{number}.csv", "--value", "loss", "--json")
        unplateau("plateaus", f"{number}.csv", "--value", "loss", "--floor", "1.4", "--ceiling", "0.4")
        unplateau("plateaus", f"{number}.csv", "--value", "accuracy", "--direction", "max", "--json")
    Path("log.jsonl").write_text("".join(json.dumps({"step": n, "loss": 2 / (1 + n)}) + "\n" for n in range(50)))
    unplateau("plateaus", "log.jsonl", "--value", "loss", "--json")
    unplateau("plateaus", "log.jsonl", "--value", "los")


def probe() -> None:
    """Trained runs under every component, cut and method."""
    preload()
    few = ("--json", "--n-train", "128", "--n-test", "128")
    runs = [next(Path("runs", name, "plain").iterdir()) for name in ("demo", "words", "word-selection")]
    runs.append(sorted(Path("runs", "sentences").rglob("spec.json"))[0].parent)
    for run in runs:
        for name, cut in PROBED:
            unplateau("probe", str(run), *few, "--component", name, "--cut", cut)
        unplateau("probe", str(run), *few, "--method", "logistic", "--seed", "2")
        unplateau("probe", str(run / "checkpoints" / "step-00000020"), *few[1:])
    shutil.rmtree("runs")


def language_models() -> None:
    """``probe --task`` and ``trajectory`` on random language models."""
    import_module("same_tokens").save_models(Path("models"))
    source = kind("Words", attributes=["initial", "length"])
    Path("words.json").write_text(json.dumps(kind("FactorTask", n_pairs=4, source=source)))
    Path("selection.json").write_text(json.dumps(SELECTION))
    few, asked = ("--n-train", "64", "--n-test", "64"), ("--labels", "W,X,Y,Z", "--template", r"{item}\n{label}\n")
    for name, cut in PROBED:
        model = ("models/gpt2/step0", "--task", "words.json")
        unplateau("probe", *model, *few, "--json", "--component", name, "--cut", cut)
    for model in ("models/gpt2/step8", "models/bytes", "models/llama"):
        unplateau("probe", model, "--task", "words.json", *few, "--method", "logistic")
        unplateau("probe", model, "--task", "words.json", *few, "--json", "--cut", "item", *asked)
        unplateau("probe", model, "--task", "selection.json", *few, "--json", "--cut", "item")
    common = ("models/gpt2", "--task", "words.json", "--n-test", "64")
    unplateau("trajectory", *common, "--revisions", "step8,step0", "--out", "rows.jsonl", "--cut", "item")
    unplateau("trajectory", *common, "--revisions", "all", "--layer", "1", "--out", "one.jsonl", "--json")
    unplateau("trajectory", *common, "--revisions", "step0,step2,step8", "--out", "two.jsonl", *asked)
    shutil.rmtree("models")


def caches() -> None:
    """Encoded images as they are kept."""
    os.environ["UNPLATEAU_CACHE"] = str(Path("cache").resolve())
    for arguments in ((), ("--width", "5"), ("--encoder", "vae", "--width", "8", "--epochs", "1")):
        train("prepare", "shapes3d", "--small", *arguments)


def bad_input() -> None:
    """What is said about wrong input."""
    Path("tiny.json").write_text(json.dumps(TINY))
    Path("spec.yaml").write_text("{")
    Path("tusk.yaml").write_text("task: {kind: FactorTusk}")
    Path("text.h5").write_text("not HDF5 at all")
    for line in BAD_INPUT.strip().splitlines():
        unplateau(*line.split())
    for name in ("text", "missing"):
        unplateau("train", "tiny.json", "--set", f"task.source={{kind: Shapes3DFile, path: {name}.h5}}")


BAD_INPUT = """
train dmo
train nowhere.yaml
train spec.yaml
train tusk.yaml
train tiny.json --set train.stepz=3
train tiny.json --set strategy=mixt
train tiny.json --set task.hidden=[bb]
train tiny.json --set task.n_pairs=400
train tiny.json --set model.n_heads=3
train tiny.json --set strategy=mixed --set strategy.parts.0.fraction=1.5
train tiny.json --device gpu
sweep tiny.json --engine rya
sweep tiny.json --axis train.steps=
probe nowhere
probe nowhere/model --task tiny.json
data get wordnett
reproduce langauge
train words --set task.source.attributes=[topik]
train words --set task.source.lexicon=mine.tsv
train tiny.json --set task.n_pairs=1
probe runs --labels a,b
train words --set task.n_pairs=200
train word-selection --set task.n_words=7
train words --set strategy=component-loss --set strategy.parts.0.layer=9
show nowhere
ls nowhere
compare nowhere
report nowhere
demo --seeds 0
trian tiny.json
train tiny.json --sead 3
train tiny.json --seed x
probe runs --cut selv
train tiny.json --set strategy=component-loss --set strategy.parts.0.factors=identity
train tiny.json --set train.probe_every=30
train digits --set strategy=context-loss
train labelled-text
train tiny.json --set task.source={kind:LabelledText,corpus:nowhere}
train tiny.json --threads 0
"""


def help_texts() -> None:
    """Help of the program and of every command, and the list of language data."""
    unplateau("--help")
    for command in COMMANDS:
        unplateau(command, "--help")
    unplateau("data", "list", "--json")


def recorded(name: str) -> None:
    """Records the lines that a function of ``same_tokens`` gives."""
    lines: Iterator[str] = getattr(import_module("same_tokens"), name)()
    for line in lines:
        record(line)


TRAINED = {"train-demo": train_demo, **{f"train-{name}": partial(train_runs, name) for name in RUNS}}
ALL = (
    *(Scenario(name, run) for name, run in TRAINED.items()),
    *(Scenario(name.replace("train", "resume"), run, (name,), name) for name, run in TRAINED.items()),
    Scenario("read-trained", read_trained, ("train-demo", "train-words", "train-selection")),
    Scenario("read-made", read_made),
    Scenario("plateaus", plateaus),
    Scenario("probe", probe, ("train-demo", "train-words", "train-selection", "train-sentences")),
    Scenario("language-models", language_models),
    Scenario("caches", caches),
    Scenario("bad-input", bad_input),
    Scenario("help", help_texts),
    *(
        Scenario(name.replace("_", "-"), partial(recorded, name))
        for name in ("token_losses", "architectures", "scores", "trainer", "datasets")
    ),
)
SCENARIOS = {one.name: one for one in ALL}


if __name__ == "__main__":
    for module in PRELOADED:
        import_module(module)
    place = import_module("unplateau").__file__
    if not str(place).startswith(os.environ["PYTHONPATH"]):
        sys.exit(f"{place}: not the code that was meant")
    SCENARIOS[sys.argv[1]].run()
