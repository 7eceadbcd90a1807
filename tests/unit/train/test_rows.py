"""Which rows a process computes; what they are together is in tests/runs/test_devices.py."""

from hypothesis import given
from hypothesis import strategies as st

from unplateau.torchrun import Place
from unplateau.train.rows import own_rows


@given(n_rows=st.integers(1, 40), size=st.integers(1, 9))
def test_every_row_is_computed_in_turn_and_all_have_as_many(n_rows: int, size: int) -> None:
    parts = [own_rows(n_rows, Place(rank=rank, size=size)).tolist() for rank in range(size)]
    together = [row for turn in zip(*parts, strict=True) for row in turn]
    assert together[:n_rows] == list(range(n_rows))
    assert set(together[n_rows:]) <= {n_rows - 1}
    assert len(together) - n_rows < size
