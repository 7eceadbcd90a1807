"""Writes a page for each command, docs/commands/NAME.md, from what its ``--help`` says; ``make figures`` runs it."""

import io
import os
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

from unplateau.cli.main import COMMANDS, run

FOLDER = Path(__file__).parent / "commands"
EXAMPLES = {
    "demo": "$ unplateau demo --seeds 1 --set train.steps=300",
    "reproduce": "$ unplateau reproduce language\n$ unplateau reproduce crossing --only recall",
    "train": "$ unplateau train demo --set strategy=unplateau --seed 3\n$ unplateau train mine.yaml --check\n"
    "$ torchrun --nproc-per-node 4 -m unplateau train demo",
    "sweep": "$ unplateau sweep demo --axis strategy=plain,mixed --axis train.lr=0.001,0.002 --seeds 3\n"
    "$ unplateau sweep demo --seeds 100 --engine slurm --option slurm_partition=gpu --gpus 1 --detach",
    "probe": "$ unplateau probe runs/demo/plain/seed-0-1234567890 --component context\n"
    "$ unplateau probe ./my-language-model --task words.yaml --cut item",
    "diagnose": "$ unplateau diagnose runs/demo/plain/seed-0-1234567890\n"
    "$ unplateau diagnose ./my-language-model --task words.yaml",
    "trajectory": "$ unplateau trajectory ./my-checkpoints --revisions all --task words.yaml",
    "plateaus": "$ unplateau plateaus log.csv --step iteration --value val_loss\n"
    "$ unplateau plateaus metrics.jsonl --value accuracy --direction max --json",
    "compare": "$ unplateau compare runs --baseline plain",
    "report": "$ unplateau report runs --out report.html --figures figures --csv",
    "ls": "$ unplateau ls runs",
    "show": "$ unplateau show runs/demo/plain/seed-0-1234567890",
    "data": "$ unplateau data list\n$ unplateau data get wordnet",
    "doctor": "$ unplateau doctor",
    "prepare": "$ unplateau prepare shapes3d --small",
}
READ = {
    "demo": "[A tour](../tour.md)",
    "reproduce": "[Cards](../cards/index.md) and [results](../results.md)",
    "train": "[A tour](../tour.md), [extending](../extending.md) and [more than one device](../concepts/devices.md)",
    "sweep": "[Many runs](../sweeps.md)",
    "probe": "[Probes](../concepts/probes.md) and [language models](../concepts/language_models.md)",
    "diagnose": "[What a plateau waits for](../concepts/three_things.md)",
    "trajectory": "[Language models](../concepts/language_models.md)",
    "plateaus": "[Plateaus](../concepts/plateaus.md) and [my loss is flat](../flat.md)",
    "compare": "[Reading results](../concepts/reading_results.md)",
    "report": "[Reading results](../concepts/reading_results.md)",
    "ls": "[A tour](../tour.md)",
    "show": "[Reading results](../concepts/reading_results.md)",
    "data": "[Data](../concepts/data.md)",
    "doctor": "[Installing](../install.md)",
    "prepare": "[Sources of items](../cards/sources.md)",
}
FRAME = re.compile(r"^[│╭╰][─ ]?|[│╮╯]\s*$|─+$")


def help_of(name: str) -> str:
    """What ``unplateau NAME --help`` prints where lines may be as long as they like."""
    shown = io.StringIO()
    with patch.dict(os.environ, {"COLUMNS": "5000", "NO_COLOR": "1"}), redirect_stdout(shown):
        run([name, "--help"])
    return shown.getvalue()


def sections(text: str) -> tuple[str, list[str], dict[str, list[tuple[str, str]]]]:
    """Usage, paragraphs, and by heading the arguments with what they mean."""
    usage, _, rest = text.partition("\n\n")
    paragraphs: list[str] = []
    found: dict[str, list[tuple[str, str]]] = {}
    heading = ""
    for raw in rest.splitlines():
        line = FRAME.sub("", raw).rstrip()
        if re.fullmatch(r" ?(positional arguments|options|[\w ]+ options)", line):
            heading = line.strip()
            found[heading] = []
        elif not line.strip("-─ "):
            continue
        elif not heading:
            paragraphs.append(line)
        elif re.match(r" {1,2}\S", line):
            argument, _, meaning = line.strip().partition("  ")
            found[heading].append((argument, meaning.strip()))
        else:
            argument, meaning = found[heading].pop()
            found[heading].append((argument, f"{meaning} {line.strip()}".strip()))
    return " ".join(usage.split()).removeprefix("usage: "), paragraphs, found


def meaning_of(text: str) -> str:
    """A sentence of the help in Markdown: options as code, other signs as they are; without a default that is none."""
    plain = re.sub(r" \(default: (None)?\)", "", text)
    return re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"`\1`", re.sub(r"([*_<>\[\]|])", r"\\\1", plain))


def listed(arguments: list[tuple[str, str]]) -> str:
    """A definition list."""
    own = [(argument, meaning) for argument, meaning in arguments if argument != "-h, --help"]
    return "\n\n".join(f"`{argument}`\n: {meaning_of(meaning)}" for argument, meaning in own)


def page(name: str) -> str:
    """The page of a command."""
    usage, paragraphs, found = sections(help_of(name))
    more = f" More: {READ[name]}." if name in READ else ""
    said = "\n\n".join(map(meaning_of, paragraphs))
    lists = "".join(
        f"## {heading.removeprefix('positional ').capitalize()}\n\n{listed(arguments)}\n\n"
        for heading, arguments in found.items()
        if listed(arguments)
    )
    return f"""\
# unplateau {name}

{said}

```console
{EXAMPLES.get(name, f"$ unplateau {name}")}
```

```text
{usage}
```

{lists}Exit codes: 0 done, 2 wrong input, 1 anything else ([errors](../errors/index.md)).{more}
"""


def index() -> str:
    """The page that lists all commands."""
    rows = "\n".join(f"| [`{name}`]({name}.md) | {what} |" for name, (_, what) in COMMANDS.items())
    return f"""\
# Commands

`unplateau COMMAND --help` says what stands on these pages, which are made from it. `--debug`, anywhere, shows the
traceback of an error; `--no-import`, anywhere, refuses specs that name code outside unplateau; `unplateau --version`
names the version.

```{{toctree}}
:hidden:

{chr(10).join(COMMANDS)}
```

| command | what it is for |
|---|---|
{rows}
"""


def pages() -> Mapping[str, str]:
    """The text of each file of the folder."""
    return {"index.md": index(), **{f"{name}.md": page(name) for name in COMMANDS}}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
    for stale in {path.name for path in FOLDER.glob("*.md")} - pages().keys():
        (FOLDER / stale).unlink()
