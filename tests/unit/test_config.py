"""Configs as values: frozen, hashable, written down and read back as what they were."""

import json
import os
import subprocess
import sys
from abc import abstractmethod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from unplateau.config import Config, Kind, parse
from unplateau.errors import SpecError


class Shape(Kind):
    """A family for these tests."""

    @abstractmethod
    def corners(self) -> int: ...


class Square(Shape):
    side: float = Field(1.0, gt=0)

    def corners(self) -> int:
        return 4


class LongBar(Shape):
    lengths: tuple[int, ...] = (1, 2)
    end: Shape = Square()

    def corners(self) -> int:
        return 4 + self.end.corners()


class Colour(Kind):
    """Another family."""


class Red(Colour):
    pass


class Drawing(Config):
    title: str = "untitled"
    shape: Shape = Square()
    parts: tuple[Shape, ...] = ()


squares = st.builds(Square, side=st.floats(0.1, 10))
shapes = st.recursive(
    squares, lambda inner: st.builds(LongBar, lengths=st.lists(st.integers(0, 9)).map(tuple), end=inner), max_leaves=3
)
drawings = st.builds(Drawing, title=st.text(max_size=8), shape=shapes, parts=st.lists(shapes, max_size=3).map(tuple))


@given(drawings)
def test_comes_back_from_json_as_what_it_was(drawing):
    assert Drawing.model_validate_json(drawing.model_dump_json()) == drawing
    assert Drawing.model_validate(json.loads(json.dumps(drawing.model_dump(mode="json")))) == drawing


@given(drawings, drawings)
def test_equal_values_and_only_they_have_equal_digests(one, other):
    assert (one == other) == (one.digest() == other.digest())
    if one == other:
        assert hash(one) == hash(other)


@given(drawings)
def test_a_variant_leaves_the_original_alone(drawing):
    before = drawing.digest()
    variant = drawing.model_copy(update={"title": drawing.title + "!"})
    assert drawing.digest() == before != variant.digest()


def test_digest_is_ten_hex_digits_that_depend_on_every_field():
    digests = {
        Drawing().digest(),
        Drawing(title="x").digest(),
        Drawing(shape=Square(side=2)).digest(),
        Drawing(shape=LongBar(end=Square(side=2))).digest(),
        Drawing(parts=(Square(),)).digest(),
    }
    assert len(digests) == 5
    assert all(len(digest) == 10 and int(digest, 16) >= 0 for digest in digests)


def test_digest_is_the_same_in_every_process():
    program = (
        "from unplateau.config import Config\n"
        "class Spec(Config):\n    name: str = 'a'\n    sizes: dict[str, int] = {'b': 1, 'a': 2}\n"
        "print(Spec().digest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert [run.stdout.strip() for run in runs] == ["603667f3ec"] * 2


def test_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Drawing().title = "other"


def test_kind_is_written_down():
    assert Square(side=2).model_dump() == {"kind": "Square", "side": 2.0}


@pytest.mark.parametrize("name", ["LongBar", "long-bar", "long_bar", "longbar", "Long-Bar"])
def test_spellings_of_a_kind(name):
    assert Shape.kind_named(name) is LongBar
    assert parse(Shape, {"kind": name}) == LongBar()


def test_families_do_not_know_each_other():
    assert set(Shape.kinds()) == {"Square", "LongBar"}
    assert "Square" not in Colour.kinds()
    with pytest.raises(SpecError, match="unknown Shape 'Red'"):
        parse(Shape, {"kind": "Red"})


def test_an_abstract_kind_cannot_be_built():
    with pytest.raises(TypeError):
        Shape()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"shap": {}}, "spec.yaml: unknown key 'shap' in Drawing; did you mean 'shape'?"),
        ({"shape": {"kind": "Sqare"}}, "spec.yaml: shape: unknown Shape 'Sqare'; did you mean 'Square'?"),
        (
            {"shape": {"kind": "Square", "sied": 1}},
            "spec.yaml: shape: unknown key 'sied' in Square; did you mean 'side'?",
        ),
        ({"shape": {}}, "spec.yaml: shape: Shape needs a 'kind': one of LongBar, Square"),
        (
            {"parts": [{"kind": "Square"}, {"kind": "Square", "side": -1}]},
            "spec.yaml: parts.1.side: Input should be greater than 0 (got -1)",
        ),
        ({"zzz": 1}, "spec.yaml: unknown key 'zzz' in Drawing; known: parts, shape, title"),
    ],
)
def test_a_wrong_spec_is_told_in_one_line(data, message):
    with pytest.raises(SpecError) as caught:
        parse(Drawing, data, where="spec.yaml")
    assert str(caught.value) == message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
near_misses = st.fixed_dictionaries(
    {}, optional={"title": json_values, "shape": json_values, "parts": json_values, "kind": json_values}
)


@given(json_values | near_misses)
def test_any_data_is_a_value_or_one_clear_line(data):
    try:
        outcome = parse(Drawing, data)
    except SpecError as error:
        outcome = str(error)
    assert isinstance(outcome, Drawing) or (outcome and "\n" not in outcome)
