"""Configs as values: frozen, hashable, written down and read back as what they were."""

import importlib
import json
import logging
import os
import pkgutil
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

import unplateau
from unplateau.config import Config, Kind, at_address, parse, parts_of, placed, refuse_imports
from unplateau.errors import SpecError
from unplateau.strategies.base import Part
from unplateau.strategies.losses import LossTerm, WeightsLoss
from unplateau.tasks.base import Task


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
    drawing = Drawing()
    with pytest.raises(SpecError, match=r"^Drawing\.title: values are never changed"):
        drawing.title = "other"
    assert drawing == Drawing()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Drawing(titel="x"), "unknown key 'titel' in Drawing; did you mean 'title'?"),
        (lambda: Square(side=0), "side: Input should be greater than 0 (got 0)"),
        (lambda: Drawing(parts=({"kind": f"{__name__}:Square", "side": -1},)), "parts.0.side: Input should be greater"),
        (lambda: Drawing.model_validate({"shape": {"kind": "x:y"}}), "shape: module 'x' cannot be imported"),
        (lambda: Drawing.model_validate_json("{"), "Invalid JSON: EOF while parsing an object"),
        (lambda: Drawing().model_copy(update={"titel": "x"}), "unknown key 'titel' in Drawing; did you mean 'title'?"),
        (lambda: Square().model_copy(update={"side": "many"}), "side: Input should be a valid number"),
    ],
)
def test_one_line_however_a_value_is_made(make, message):
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_kind_is_written_down():
    assert Square(side=2).model_dump() == {"kind": f"{__name__}:Square", "side": 2.0}
    assert WeightsLoss().model_dump()["kind"] == "WeightsLoss"


@pytest.mark.parametrize("name", ["WeightsLoss", "weights-loss", "weights_loss", "weightsloss", "Weights-Loss"])
def test_spellings_of_a_kind(name):
    assert Part.named(name) is LossTerm.named(name) is WeightsLoss
    assert parse(Part, {"kind": name}) == parse(Part, name) == WeightsLoss()


@pytest.mark.parametrize("name", ["Red", "write-report", "RunSpec", "task", f"{__name__}:Red"])
def test_families_do_not_know_each_other(name):
    with pytest.raises(SpecError, match=r"unknown task '.*'; known: AssociativeRecall|is no task"):
        parse(Task, {"kind": name})


def test_nobody_can_take_a_name():
    class WeightsLoss(Part):
        pass

    assert Part.named("weights-loss") is not WeightsLoss
    assert WeightsLoss.written_as() != "WeightsLoss"


def test_every_kind_of_ours_is_found_by_its_name():
    def below(kind):
        return [one for child in kind.__subclasses__() for one in (child, *below(child))]

    for found in pkgutil.walk_packages(unplateau.__path__, "unplateau."):
        if not found.name.startswith(("unplateau.integrations", "unplateau.__main__", "unplateau.cli")):
            importlib.import_module(found.name)
    ours = {kind for kind in below(Kind) if kind.__module__.startswith("unplateau.") and Kind._has_member(kind)}
    ours = {kind for kind in ours if not kind.__module__.startswith("unplateau.integrations")}  # no spec names these
    assert len(ours) >= 14
    for kind in ours:
        assert kind.written_as() == kind.__name__
        assert kind.named(kind.__name__) is kind


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere.at_all:Thing", r"module 'nowhere.at_all' cannot be imported \(ModuleNotFoundError: No module named"),
        ("broken_module:Thing", r"module 'broken_module' cannot be imported \(ValueError: two lines\)"),
        ("leaving_module:Thing", r"module 'leaving_module' cannot be imported \(SystemExit: 3\)"),
        ("json:Thing", "module 'json' has no 'Thing'"),
        ("json:JSONDecoder", "'json:JSONDecoder' is no Shape: it must be a class below Shape and not abstract"),
        (f"{__name__}:Shape", "is no Shape"),
        (f"{__name__}:Red", "is no Shape"),
        (f"{__name__}:squares", "is no Shape"),
        (":Thing", "':Thing' is no address: it is written package.module:Class"),
        ("a b:Thing", "is no address"),
        ("json:", "is no address"),
        ("__main__:Gone", "Gone is defined in the script itself; move it to a module that can be imported"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line(address, message, tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("raise ValueError('two\\nlines')")
    (tmp_path / "leaving_module.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpecError, match=message) as caught:
        parse(Drawing, {"shape": {"kind": address}})
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("shape: ")


def test_what_is_imported_is_said_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "own_shapes.py").write_text(f"from {__name__} import Square\nclass Mine(Square): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with caplog.at_level(logging.INFO, "unplateau.config"):
        mine = parse(Shape, {"kind": "own_shapes:Mine", "side": 3})
        assert parse(Shape, mine.model_dump()) == mine
        assert parse(Shape, {"kind": f"{__name__}:Square"}) == Square()
    assert caplog.messages == ["importing own_shapes, which 'own_shapes:Mine' names (--no-import refuses it)"]


def test_imports_can_be_refused(monkeypatch):
    monkeypatch.setattr(Kind, "may_import", True)  # put back afterwards
    refuse_imports()
    with pytest.raises(ValueError, match="'nowhere:Mine' would have to be imported, which --no-import refuses"):
        at_address("nowhere:Mine")
    assert Part.named("mixed") is unplateau.Mixed


def test_a_kind_may_be_usual():
    model = unplateau.RunSpec.model_fields["model"].annotation
    assert (
        parse(model, {"width": 8})
        == unplateau.ModelConfig(width=8)
        == parse(model, {"kind": "model-config", "width": 8})
    )
    assert "kind" not in unplateau.ModelConfig().model_dump()
    with pytest.raises(SpecError, match="unknown key 'widht' in ModelConfig"):
        parse(model, {"widht": 8})


def test_parts_come_inside_out_with_their_paths():
    drawing = Drawing(shape=LongBar(end=Square(side=2)), parts=(Square(side=3), Square(side=4)))
    paths = [path for path, _ in parts_of(drawing)]
    assert paths == ["shape.end", "shape", "parts.0", "parts.1", ""]


def test_a_value_error_gets_its_place():
    with pytest.raises(SpecError, match=r"^spec.yaml: task.source: too few$"), placed("spec.yaml", "task.source"):
        raise ValueError("too few")
    with pytest.raises(SpecError, match=r"^task: side: Input should be greater than 0"), placed("", "task"):
        Square.inside({"side": 0})


def test_an_abstract_kind_cannot_be_built():
    with pytest.raises(TypeError):
        Shape()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"shap": {}}, "spec.yaml: unknown key 'shap' in Drawing; did you mean 'shape'?"),
        ({"shape": {"kind": "Sqare"}}, "spec.yaml: shape: unknown Shape 'Sqare'; your own: package.module:Class"),
        (
            {"shape": {"kind": f"{__name__}:Square", "sied": 1}},
            "spec.yaml: shape: unknown key 'sied' in Square; did you mean 'side'?",
        ),
        ({"shape": {}}, "spec.yaml: shape: Shape needs a 'kind': one of package.module:Class"),
        (
            {"parts": [{"kind": f"{__name__}:Square"}, {"kind": f"{__name__}:Square", "side": -1}]},
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


@pytest.mark.parametrize(
    "value",
    [True, False, [True], "5 ", "\r5", 2**63, -(2**63), 10**30, 10**5000, "9" * 30, "9" * 5000],
    ids=lambda value: type(value).__name__,
)
def test_numbers_are_numbers_of_64_bits(value):
    with pytest.raises(SpecError, match=r"^count: ") as caught:
        Numbers(count=value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [[1, True], (2**70,), [[3]]])
def test_so_are_those_in_lists(value):
    with pytest.raises(SpecError, match=r"^sizes"):
        Numbers(count=1, sizes=value)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_all_others_are_taken(value):
    assert Numbers(count=value, sizes=(value,)).count == value
    assert Numbers(count=str(value), flag=True, either=True) == Numbers(count=value, flag=True, either=True)


class Numbers(Config):
    count: int
    sizes: tuple[int, ...] = ()
    flag: bool = False
    either: bool | int = 0


class Odd(Config):
    """Annotations of all sorts, which a config of somebody's own may have."""

    made: Callable[[int], str] = str
    chosen: Literal["a", 1, True] = "a"
    nested: tuple[Annotated[int, Field(gt=0)], ...] = ()
    by_name: dict[str, int] = Field(default_factory=dict)
    anything: Any = None


def test_annotations_of_all_sorts_are_understood():
    odd = Odd(made=repr, chosen=True, nested=[3], by_name={"a": 1}, anything=True)
    assert (odd.chosen, odd.nested, odd.anything) == (True, (3,), True)
    with pytest.raises(SpecError, match="nested: expected a number, got"):
        Odd(nested=[True])
