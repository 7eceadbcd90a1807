"""A fuzzer over every command: each malformed input is one clear line, code 2 or 1, with nothing lost or left behind.

Inputs are generated from a fixed seed, kind by kind, and go through the program's own entry in this process; what needs
a process of its own is in ``test_limits``.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runs.conftest import TINY
from unplateau.cli.main import COMMANDS, main

SEED = 12
ROOM = 3_000_000_000
"""Bytes of address space that all of it may add to the process."""
LONGEST = 1100
"""Characters of an answer."""
ESCAPES = ("\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\x08\x08", "\r", "\u202e", "\x7f")


@dataclass(frozen=True)
class Case:
    """A command, and the files that it finds beside ``tiny.json``."""

    arguments: list[str]
    files: dict[str, bytes] = field(default_factory=dict)


def settings(draw: random.Random) -> Iterator[Case]:
    """Values that no field of this type can have, and sizes that no machine can."""
    whole = [f"train.{name}" for name in TINY["train"]] + ["seed", "model.n_layers", "model.width", "model.n_heads"]
    whole += ["task.n_pairs", "task.source.width", "task.source.copies", "task.source.split_seed"]
    wrong = ["-1", "2.5", "true", "false", "yes", "on", "1:30", "1e400", ".nan", ".inf", "[1]", "{a: 1}", "x", "''"]
    wrong += [
        "null",
        "2020-01-01",
        "0b101",
        str(10**30),
        "9" * 5000,
        f'"{"9" * 5000}"',
        "[" * 300,
        "&a [*a]",
        "!!int x",
    ]
    wrong += [json.dumps(f"{escape}5") for escape in ESCAPES]
    for _ in range(110):
        yield setting(f"{draw.choice(whole)}={draw.choice(wrong)}")
    sizes = ["train.batch_size", "train.eval_prompts", "train.final_prompts", "train.steps", "task.source.copies"]
    sizes += ["task.source.width", "task.source.hidden", "task.n_mappings", "model.n_layers", "task.n_pairs"]
    for _ in range(30):
        yield setting(f"{draw.choice(sizes)}={10 ** draw.randint(13, 18)}")
    numbers = ["train.lr", "task.source.twist", "task.source.test_fraction"]
    for _ in range(15):
        yield setting(f"{draw.choice(numbers)}={draw.choice(['-1', 'true', '.nan', '-.inf', 'x', '[]', '{}', '1:30'])}")
    keys = [*whole, *numbers, "recipe", "strategy", "cut", "task.hidden"]
    for _ in range(30):
        key = mangled(draw, draw.choice(keys))
        yield setting(f"{key}=1")
    for escape in ESCAPES:
        yield setting(f"recipe={json.dumps(escape)}")
        yield setting(f"strategy={json.dumps(escape)}")


def setting(text: str) -> Case:
    return Case(["train", "tiny.json", "--set", text])


def mangled(draw: random.Random, word: str) -> str:
    """With something in it that no name has."""
    at = draw.randint(0, len(word))
    return word[:at] + draw.choice([*ESCAPES, "?", "..", " ", "é", "x" * 3000, "\udcff"]) + word[at:]


def specs(draw: random.Random) -> Iterator[Case]:
    """Files that are no spec."""
    whole = json.dumps(TINY)
    for _ in range(15):
        yield spec("cut.json", whole[: draw.randint(1, len(whole) - 1)].encode())
    for _ in range(10):
        at = draw.randint(1, len(whole) - 2)
        yield spec("odd.json", whole[:at].encode() + draw.choice([b"\xff", b"\x00", b"\x1b"]) + whole[at:].encode())
    for _ in range(8):
        name = draw.choice(list(TINY))
        yield spec("twice.json", f'{whole[:-1]}, "{name}": {json.dumps(TINY[name])}}}'.encode())
        yield spec("twice.yaml", f"{whole[:-1]}, {name}: 1}}".encode())
    for depth in (70, 900, 100_000):
        yield spec("deep.json", b'{"a":' * depth + b"1" + b"}" * depth)
        yield spec("deep.yaml", b"[" * depth + b"]" * depth)
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    yield spec("laughs.yaml", f"a0: &a0 [x, x, x, x, x, x, x, x, x]\n{laughs}".encode())
    for text in (
        "",
        "[]",
        "3",
        "null",
        "a: 1\n---\nb: 2\n",
        "? [a]\n: 1",
        "x: !!python/object/apply:os.abort []",
        "a: b: c",
    ):
        yield spec("foreign.yaml", text.encode())
    for escape in ESCAPES:
        yield spec("escape.json", json.dumps({escape: 1}).encode())
    yield spec("long.json", whole[:-1].encode() + b', "recipe2": "' + b"x" * 900_000 + b'"}')
    yield spec("large.yaml", b"# " + b"x" * 2_000_000)


def spec(name: str, content: bytes) -> Case:
    return Case(["train", name], {name: content})


def logs(draw: random.Random) -> Iterator[Case]:
    """Files that are no log."""
    starts = [
        b"\x89PNG",
        b"PK\x03\x04",
        b"\x80\x04",
        b"SQLite format 3",
        b"%PDF",
        b"\x00\x01\x02",
        b"<!doctype html>",
        b"",
    ]
    for start in starts:
        yield log(start + draw.randbytes(200) if start else b"")
    for depth in (80, 3_000, 100_000):
        yield log(b"[" * depth + b"]" * depth)
        yield log(b'{"a":' * depth + b"1" + b"}" * depth + b"\n")
        yield log(b'{"step": 1, "loss": 2}\n{"rows":' + b"[" * depth + b"]" * depth + b"}\n")
    row = '{"step": %d, "loss": %f}\n'
    for _ in range(12):
        rows = [row % (n, draw.random()) for n in range(30)]
        place = draw.randint(1, 28)
        rows[place] = draw.choice(
            ['{"step": 1,\n', '{"a": 1, "a": 2}\n', '{"step": %s}\n' % ("9" * 5000), '{"\x1b": }\n']
        )
        yield log("".join(rows).encode(), "--value", "loss")
    for _ in range(8):
        cells = [draw.choice(["words", *ESCAPES, "--", "nan"]) for _ in range(30)]
        yield log("".join(f"{n},{cell}\n" for n, cell in enumerate(cells)).encode(), "--value", "column 2")
    for name in (*ESCAPES, "x" * 50_000, "\udcff"):
        yield log(b"step,loss\n" + b"".join(b"%d,1.5\n" % n for n in range(20)), "--value", name)
    yield log(gzip.compress(bytes(30_000_000)))
    yield log(gzip.compress(b"step,loss\n" + b"1,2\n" * 3) + b"\x1f\x8bgarbage")
    yield log(b"loss: " + b"1" * 11_000_000)
    yield log(b"step,loss\n1,2\n" + b"3," + b"x" * 11_000_000 + b"\n")
    for option in ("--floor", "--ceiling", "--segment", "--direction", "--repeats", "--step", "--by", "--nothing"):
        yield log(
            b"step,loss\n" + b"".join(b"%d,1.5\n" % n for n in range(20)), option, draw.choice(["", "x\x1b", "\r"])
        )


def log(content: bytes, *options: str) -> Case:
    return Case(["plateaus", "some.log", *options], {"some.log": content})


def tables(draw: random.Random) -> Iterator[Case]:
    """Files of words and of texts that are not right in every row."""
    good = "word,topic\n" + "".join(f"{letter * 4},{'ab'[n % 2]}\n" for n, letter in enumerate("abcdefghijklmnop"))
    wrong = ["x\n", "x,y,z\n", '"x\n', "aaaa,b\n", ",a\n", "zzzz,\n", "\x00,a\n", f"{'x' * 10_000_001},a\n"]
    for _ in range(12):
        lines = good.splitlines(keepends=True)
        lines.insert(draw.randint(1, len(lines)), draw.choice(wrong))
        yield words("".join(lines).encode())
    for content in (b"", b"word\n", b"word,word\na,b\n", b"\xff\xfe\x00", b"\xffword,topic\n", good.encode("utf-16")):
        yield words(content)
    rows = [json.dumps({"text": f"one {n}", "label": "ab"[n % 2]}) + "\n" for n in range(20)]
    broken = [
        '{"text": "x"}\n',
        "[]\n",
        '{"text": "x", "label": "a", "text": "y"}\n',
        "{\n",
        '{"a":' * 5000 + "\n",
        "\x1b\n",
    ]
    for _ in range(12):
        changed = list(rows)
        changed[draw.randint(1, 19)] = draw.choice(broken)
        source = "task.source={kind: LabelledText, corpus: texts.jsonl}"
        yield Case(["train", "labelled-text", "--set", source], {"texts.jsonl": "".join(changed).encode()})


def words(content: bytes) -> Case:
    source = "task.source={kind: Words, lexicon: words.csv, attributes: [topic]}"
    return Case(["train", "words", "--set", source], {"words.csv": content})


def arguments(draw: random.Random) -> Iterator[Case]:
    """What no command understands, and things in the place of files and folders."""
    names = list(COMMANDS)
    for _ in range(25):
        yield Case([mangled(draw, draw.choice(names))])
    for _ in range(25):
        yield Case([draw.choice(names), "--" + mangled(draw, "option")])
    places = ["fifo", "socket", "tiny.json", "nowhere", "/dev/zero", "fifo/x", *(f"{escape}x" for escape in ESCAPES)]
    places += ["x" * 5000, "\udcff", "a\0b"]
    for command in ("ls", "show", "compare", "report", "probe", "diagnose", "train"):
        for place in draw.sample(places, 7):
            if (command, place) != ("train", "tiny.json"):
                yield Case([command, place])
    for place in ("fifo", "socket", "/dev/zero", "folder", "nowhere", *ESCAPES):
        yield Case(["plateaus", place])
        yield Case(["train", "words", "--set", f"task.source.lexicon={json.dumps(place)}"])
        yield Case(["reproduce", "crossing", "--results", place])
        yield Case(["probe", "model", "--task", place])
    yield from options_of_training()


def options_of_training() -> Iterator[Case]:
    """Numbers, devices and folders that no training can have."""
    for option in ("--seeds", "--first-seed", "--workers", "--threads"):
        for value in ("-1", "x", "1.5", "9" * 30, "9" * 5000, "", "\x1b"):
            yield Case(["sweep", "tiny.json", option, value])
    for value in ("meta", "hpu", "cuda:99", "cpu:3", "lazy", "\x1b", "", "cud"):
        yield Case(["train", "tiny.json", "--device", value])
        yield Case(["prepare", "shapes3d", "--small", "--encoder", "vae", "--device", value])
    for command in ("demo", "sweep tiny.json", "train tiny.json", "reproduce language", "reproduce crossing"):
        for place in ("tiny.json", "tiny.json/runs", "/dev/null/x", "fifo", "a\0b"):
            yield Case([*command.split(), "--out", place])
    yield Case(["sweep", "tiny.json", "--seeds", str(10**9)])
    yield Case(["demo", "--seeds", str(10**12)])
    yield Case(
        ["sweep", "tiny.json", *(word for key in "abcdefghij" for word in ("--axis", f"{key}={','.join('12345678')}"))]
    )
    yield Case(["data", "get", "\x1b[31m"])
    yield Case(["doctor", "more"])


KINDS: dict[str, Callable[[random.Random], Iterator[Case]]] = {
    "settings": settings,
    "specs": specs,
    "logs": logs,
    "tables": tables,
    "arguments": arguments,
}
FEWEST = {"settings": 190, "specs": 60, "logs": 50, "tables": 30, "arguments": 180}
"""Inputs of each kind: more than 500 in all."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the program is called: with a spec, a named pipe that nobody writes, a socket and a folder."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.json").write_text(json.dumps(TINY))
    os.mkfifo("fifo")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        yield tmp_path


@pytest.fixture
def _little_room() -> Iterator[None]:
    """Less memory than the machine has, so that what would eat it fails here first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if (used := Path("/proc/self/statm")).exists():  # elsewhere the limit is not heeded
        now = int(used.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def answer(given: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(given)
    return code, out.getvalue(), err.getvalue()


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that lies there."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def complaint(case: Case, folder: Path) -> str:
    """What is wrong with the answer; empty if it is as promised."""
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    before = contents(folder)
    code, out, err = answer(case.arguments)
    lines = err.split("\n")
    promised = {
        f"code {code}": code in (1, 2),
        "something on standard output": not out,
        "not one line": len(lines) == 2 and lines[0].startswith("unplateau: ") and not lines[1],
        "control characters": not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", err),
        "unexpected": "(--debug shows where)" not in err,
        "endless": len(err) <= LONGEST,
        "files are not as before": contents(folder) == before,
    }
    return ", ".join(what for what, kept in promised.items() if not kept)


@pytest.mark.usefixtures("_little_room")
@pytest.mark.parametrize("kind", KINDS)
def test_every_malformed_input_is_one_clear_line(folder: Path, kind: str) -> None:
    cases = list(KINDS[kind](random.Random(f"{SEED}/{kind}")))
    wrong = [
        (found, case.arguments, {n: c[:80] for n, c in case.files.items()})
        for case in cases
        if (found := complaint(case, folder))
    ]
    assert not wrong, f"{len(wrong)} of {len(cases)}: {str(wrong[:8])[:4000]}"
    assert len(cases) >= FEWEST[kind]
