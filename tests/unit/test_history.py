"""History: rows that nobody can change, and columns read from them."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.history import History

measurements = st.dictionaries(st.sampled_from(["loss", "accuracy", "test_loss"]), st.floats(allow_nan=False))
tables = st.lists(measurements, max_size=8).map(
    lambda rows: [{"step": 10 * index, **row} for index, row in enumerate(rows)]
)


@given(tables)
def test_is_a_sequence_of_its_rows(rows):
    history = History(rows)
    assert [dict(row) for row in history] == rows
    assert len(history) == len(rows)
    assert [dict(history[index]) for index in range(len(rows))] == rows


@given(tables)
def test_extending_row_by_row_is_the_same_as_all_at_once(rows):
    grown = History()
    for row in rows:
        grown = grown.extended(row)
    assert list(grown) == list(History(rows))


@given(tables)
def test_extending_leaves_the_shorter_one_alone(rows):
    history = History(rows)
    longer = history.extended({"step": 1_000, "loss": 0.5})
    assert list(history) == rows
    assert list(longer[:-1]) == rows
    assert longer.last("step") == 1_000


@given(tables, st.sampled_from(["loss", "accuracy", "test_loss"]))
def test_column_has_the_rows_that_measured_it(rows, name):
    steps, values = History(rows).column(name)
    assert list(zip(steps, values, strict=True)) == [(row["step"], row[name]) for row in rows if name in row]
    assert History(rows).last(name, "never") == (values[-1] if values else "never")


@given(tables, st.integers(0, 8), st.integers(0, 8))
def test_a_slice_is_a_history(rows, start, stop):
    part = History(rows)[start:stop]
    assert isinstance(part, History)
    assert list(part) == rows[start:stop]


@given(tables)
def test_another_process_gets_the_same(rows):
    assert list(pickle.loads(pickle.dumps(History(rows)))) == list(History(rows))


def test_rows_cannot_be_changed():
    history = History([{"step": 0, "loss": 1.4}])
    with pytest.raises(TypeError):
        history[0]["loss"] = 0.0
    with pytest.raises(TypeError):
        history[0] = {"step": 1}


def test_rows_do_not_follow_what_they_were_made_from():
    row = {"step": 0, "loss": 1.4}
    history, longer = History([row]), History().extended(row)
    row["loss"] = 0.0
    assert history.last("loss") == longer.last("loss") == 1.4


def test_an_index_past_the_end_is_an_error():
    with pytest.raises(IndexError):
        History([{"step": 0}])[1]
