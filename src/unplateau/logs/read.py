"""Opens a log: its format is recognised by what is in it, each by one function, the surest first."""

from functools import partial
from pathlib import Path

from unplateau.logs.dense import SUREST, dense_table
from unplateau.logs.events import read_events
from unplateau.logs.log import Log
from unplateau.logs.source import is_events, log_in, read_source
from unplateau.logs.tables import table_without_header
from unplateau.logs.text import text_log, what_it_looks_like

FORMATS = (*SUREST, text_log, table_without_header)


def read_log(path: str | Path) -> Log:
    """The rows of a log, in whatever format: a file, a compressed one, ``-``, an event file, the folder of a run.

    Raises DataError, one line about this very file, if it is none of these.
    """
    place = log_in(Path(path))
    if is_events(place):
        return read_events(place)
    return dense_table(place, partial(_read_rows, place)) or _read_rows(place)


def _read_rows(path: Path) -> Log:
    source = read_source(path)
    for recognised in FORMATS:
        if (log := recognised(source)) is not None:
            return log
    raise what_it_looks_like(source)
