"""Numbers as people write them; a number that is written plainly is itself."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.logs import read_curve
from unplateau.logs.cells import EMPTY, Comma, Number, comma_in, number

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite)
def test_every_float_reads_back(value: float) -> None:
    assert number(repr(value)) == number(value) == Number(value)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["thousands", "decimal"]))
def test_separators_of_thousands(value: int, comma: Comma) -> None:
    mark = "," if comma == "thousands" else "\u202f"
    found = number(f"{value:,}".replace(",", mark), comma)
    assert found is not None
    assert found.value == value


@given(st.decimals(-(10**6), 10**6, places=3))
def test_decimal_commas(value: object) -> None:
    found = number(str(value).replace(".", ","), "decimal")
    assert found is not None
    assert found.value == float(str(value))


@pytest.mark.parametrize(
    ("cell", "value", "unit"),
    [
        ("12.3 %", 12.3, "%"),
        ("12.3%", 12.3, "%"),
        ("3k", 3000.0, ""),
        ("1.5M", 1.5e6, ""),
        ("36163ms", 36163.0, "ms"),
        ("2.5 GB", 2.5, "GB"),
        ("5.00it/s", 5.0, "it/s"),
        ("tensor(2.3, device='cuda:0')", 2.3, ""),
        ("np.float64(2.3)", 2.3, ""),
        ("array([2.3])", 2.3, ""),
        ("\u22122.5", -2.5, ""),
        ('"4"', 4.0, ""),
        (" 4 ", 4.0, ""),
    ],
)
def test_what_stands_around_a_number(cell: str, value: float, unit: str) -> None:
    found = number(cell)
    assert found is not None
    assert (found.value, found.unit) == (value, unit)


@pytest.mark.parametrize("cell", [*sorted(EMPTY), "NaN", "None", math.nan, None])
def test_gaps(cell: object) -> None:
    assert number(cell) is None


@pytest.mark.parametrize(
    "cell", [True, [1], {}, "high", "1.2.3", "1,2", "1,23,456", "2024-01-02", "12:30", "0x1f", "v2"]
)
def test_words(cell: object) -> None:
    with pytest.raises(ValueError, match="no number"):
        number(cell)


@pytest.mark.parametrize(
    ("cells", "likely", "meant"),
    [
        (["1,5", "2,25"], "thousands", "decimal"),
        (["0,345"], "thousands", "decimal"),
        (["1.234,5"], "thousands", "decimal"),
        (["1,234,567"], "decimal", "thousands"),
        (["1,234.5"], "decimal", "thousands"),
        (["1,234"], "decimal", "decimal"),
        (["1,234"], "thousands", "thousands"),
    ],
)
def test_what_commas_mean_is_seen_in_the_column(cells: list[str], likely: Comma, meant: Comma) -> None:
    assert comma_in(cells, likely=likely) == meant


@pytest.mark.parametrize(
    ("text", "values", "note"),
    [
        ('step,loss\n{},"1,{:03d}"\n', lambda k: 1000 + k, "commas read as separators of thousands"),
        ("step;loss\n{};1,{:03d}\n", lambda k: 1 + k / 1000, "commas read as decimal points"),
        ("step\tloss\n{}\t0,{:03d}\n", lambda k: k / 1000, "commas read as decimal points"),
        ("step,loss\n{},{:03d} %\n", lambda k: k, "'loss' is in %"),
        ("step,loss\n{},{}k\n", lambda k: 1000 * k, "'k' read as 1e3"),
        ("step {} loss 1,{:03d}\n", lambda k: 1000 + k, "commas read as separators of thousands"),
        ("step: {} loss: 0,{:03d}\n", lambda k: k / 1000, "commas read as decimal points"),
        ("step={} loss={}ms\n", lambda k: k, "'loss' is in ms"),
    ],
)
def test_what_was_understood_is_said(tmp_path: Path, text: str, values: object, note: str) -> None:
    *head, row = text.splitlines()
    (tmp_path / "log").write_text("\n".join([*head, *(row.format(k, k) for k in range(1, 20))]) + "\n")
    curve = read_curve(tmp_path / "log", value="loss", step="step")
    assert curve.values == pytest.approx([values(k) for k in range(1, 20)])  # type: ignore[operator]
    assert any(note in one for one in curve.notes), curve.notes
