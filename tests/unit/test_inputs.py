"""What users hand in: files that cannot hang, documents that mean one thing."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unplateau import inputs
from unplateau.errors import DataError
from unplateau.inputs import MOST_DEEP, json_value, read_file, yaml_value

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_json_is_read_as_it_was_written(value: object) -> None:
    assert json_value(json.dumps(value)) == value


@given(plain)
def test_yaml_is_read_as_it_was_written(value: object) -> None:
    assert yaml_value(yaml.safe_dump(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("010", "010"),
        ("true", True),
        ("0x1f", 31),
        ("0o17", 15),
        ("1e-3", 0.001),
        ("-3", -3),
        (".5", 0.5),
        ("~", None),
        ("{a: &x [1, 2], b: *x}", {"a": [1, 2], "b": [1, 2]}),
        ("a: {<<: {b: 1, c: 2}, c: 3}", {"a": {"b": 1, "c": 3}}),
    ],
)
def test_words_and_numbers_are_those_of_today(text: str, value: object) -> None:
    found = yaml_value(text)
    assert (found, type(found)) == (value, type(value))


LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' comes twice"),
        ("{a: {b: 1, b: 2}}", "the key 'b' comes twice"),
        ("? [a]\n: 1", "a key must be a word"),
        ("[" * 100, "nested too deeply"),
        ("[" * 20_000, "nested too deeply"),
        ("&a [*a]", "an alias stands inside"),
        ("&a {b: {c: *a}}", "an alias stands inside"),
        (f"a0: &a0 [x, x]\n{LAUGHS}", "its aliases repeat each other"),
        ("9" * 5000, "an integer has 5,000 digits"),
        ("!!int 1:30", "is no integer"),
        ("!!bool yes", "neither true nor false"),
        ("!!python/object/apply:os.abort []", "could not determine a constructor"),
        ("!!timestamp 2020", "could not determine a constructor"),
        ("a: b: c", "not allowed here"),
        ("\x01", "not allowed"),
        ("*nobody", "undefined alias"),
    ],
)
def test_yaml_that_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        yaml_value(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 1}', "the key 'a' comes twice"),
        ('[{"b": {"c": 1, "c": 2}}]', "the key 'c' comes twice"),
        ("[" * (MOST_DEEP + 1) + "]" * (MOST_DEEP + 1), "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ("9" * 5000, "thousands of digits"),
        ("{", "Expecting"),
    ],
)
def test_json_that_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        json_value(text)


def test_many_brackets_are_not_many_levels() -> None:
    assert len(json_value("[" + ",".join(["[[]]"] * 10_000) + "]")) == 10_000
    assert json_value("[" * MOST_DEEP + "]" * MOST_DEEP)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")  # the name of a socket is short
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fifo", "a named pipe"),
        ("link", "a named pipe"),
        ("loop", "symbolic links"),
        ("folder", "a folder"),
        ("socket", "a socket"),
        ("/dev/zero", "a device"),
        ("nowhere", "No such file"),
        ("a\0b", "null byte"),
        ("x" * 300, "too long"),
    ],
)
def test_what_is_no_file_is_refused_at_once(places: Path, name: str, said: str) -> None:
    start = time.process_time()
    with pytest.raises(DataError, match=rf"cannot be read \(.*{said}"):
        read_file(places / name)
    assert time.process_time() - start < 1


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_file_is_read_whole_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, most: int) -> None:
    path = tmp_path_factory.mktemp("file") / "one"
    path.write_bytes(content)
    assert read_file(path) == content
    if len(content) > most:
        with pytest.raises(DataError, match="is too large"):
            read_file(path, most=most)
    else:
        assert read_file(path, most=most) == content


def test_a_file_that_memory_cannot_hold_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10**12)  # takes no room on the disk
    with pytest.raises(DataError, match=r"is too large \(1,000 GB or more take at least 4,000 GB of memory"):
        read_file(tmp_path / "large")
    monkeypatch.setattr(inputs, "memory", lambda: 40)
    (tmp_path / "small").write_bytes(b"x" * 11)
    with pytest.raises(DataError, match="is too large"):
        read_file(tmp_path / "small")


def test_what_a_shell_hands_on_is_read() -> None:
    code = "import sys; from unplateau.inputs import read_file; print(len(read_file(sys.argv[1])))"
    command = f"{sys.executable} -c '{code}' <(printf abc; sleep 0.2; printf def)"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "6\n"
