"""Which columns are the value, the step, the epoch and the learning rate: by their names where they are not given."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from unplateau.errors import DataError, suggest
from unplateau.logs.log import Log
from unplateau.logs.names import EXTREMES, is_no_curve, rank_of, words_of
from unplateau.logs.text import COUNT
from unplateau.plateau.progress import FEWEST_POINTS


def _in_order(names: str) -> tuple[str, ...]:
    return tuple(names.split())


ROW = "row"
"""What ``--step`` says for the number of the row."""
SINCE_1970 = 1e8
"""Seconds; larger numbers are times."""
MOST_SHOWN = 12
"""Columns that are listed; more are counted."""

_STEPS = _in_order(
    "step globalstep trainstep trainglobalstep trainerglobalstep steps iteration iter iters iterations it "
    "itr update updates numupdates nupdates timestep timesteps totaltimesteps timetotaltimesteps "
    "timestepstotal batch batchidx batchnum nbatch minibatch tokens consumedtokens samples "
    "consumedsamples seentokens ntokens count epoch epochs ep trainepoch episode episodes "
    "trainingiteration t s n index x"
)
"""Names of step columns without case and punctuation, the likeliest first."""
_EPOCHS = ("epoch", "epochs", "trainepoch", "currentepoch", "ep", "epochnum", "époque", "epoca", "época")
_RATES = ("lr", "learningrate", "trainlr", "trainlearningrate", "currentlr", "baselr", "optimlr", "optimizerlr")


def values(log: Log, asked: Sequence[str]) -> list[str]:
    """The columns asked for, as the log names them, or the likeliest one.

    Raises DataError with the numeric columns and their ranges if there is no likeliest one, or one is not there.
    """
    return [_known(log, name, "--value") for name in asked] if asked else [_likeliest(log)]


def _known(log: Log, name: str, option: str) -> str:
    """The column of this name, its W&B name without the run's, or its place. Raises DataError if it is not one."""
    if name in log.repeated:
        raise DataError(f"{log.name}: columns {log.repeated[name]} are all called '{name}'; rename them")
    if name in log.names:
        return name
    ending = [one for one in log.names if one.endswith(f" - {name}")]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise DataError(f"{log.name}: several runs have '{name}'; {option} one of: {_quoted(ending)}")
    if f"column {name}" in log.names:
        return f"column {name}"
    raise DataError(f"{log.name}: has no column '{name}'{suggest(name, log.names[:40])}")


def _likeliest(log: Log) -> str:
    numeric = _curves(log)
    repeated = [name for name in log.repeated if rank_of(name) is not None]
    ranks = {name: rank for name in numeric if (rank := rank_of(name)) is not None}
    if ranks:
        best = min(ranks.values())
        if taken := [name for name in repeated if (rank_of(name) or 0) <= best]:
            _known(log, taken[0], "--value")
        found = [name for name, rank in ranks.items() if rank == best]
        most = max(found, key=lambda name: log.columns[name].n)
        rest = [log.columns[name].n for name in found if name != most]
        if not rest or log.columns[most].n >= 2 * max(rest):
            return most
    others = [name for name in numeric if not is_no_curve(name)]
    if not ranks and len(others) == 1:
        return others[0]
    if not ranks and (bare := _bare(log)) is not None:
        return bare[1]
    if not ranks and len(numeric) == 1 and len(log.names) == 1:
        return numeric[0]
    raise DataError(_no_likeliest(log, numeric))


def _bare(log: Log) -> tuple[str, str] | None:
    """Step and value where columns have no names and, times left out, two have numbers, of which one only rises."""
    if not all(name.startswith("column ") for name in log.names):
        return None
    pair = [name for name in _curves(log) if log.columns[name].low < SINCE_1970]
    rising = [name for name in pair if _rises(log, name)]
    if len(pair) != 2 or not rising:
        return None
    return rising[0], next(name for name in pair if name != rising[0])


def _rises(log: Log, name: str) -> bool:
    found = [one.value for one in log.numbers(name) if one is not None]
    return all(later > earlier for earlier, later in pairwise(found))


def _no_likeliest(log: Log, numeric: Sequence[str]) -> str:
    if numeric:
        return f"{log.name}: which column? --value one of: {listed(log, numeric)}"
    some = [name for name, column in log.columns.items() if column.n > column.words]
    if not some:
        return f"{log.name}: looks like {log.form}, and none of its columns has numbers: {_quoted(log.names)}"
    most = max(some, key=lambda name: log.columns[name].n)
    n = log.columns[most].n
    return f"{log.name}: looks like {log.form} with {n} points at most (in '{most}'); at least {FEWEST_POINTS} needed"


def _curves(log: Log) -> list[str]:
    """Columns with numbers enough for a curve."""
    return [
        name
        for name, column in log.columns.items()
        if column.n >= FEWEST_POINTS and column.n > column.words and not EXTREMES.search(name)
    ]


def listed(log: Log, names: Iterable[str]) -> str:
    """Columns with their ranges, those beyond a dozen counted."""
    each = [f"'{name}' ({log.columns[name]})" for name in names]
    rest = len(each) - MOST_SHOWN
    return ", ".join([*each[:MOST_SHOWN], *([f"and {rest} more"] if rest > 0 else [])])


def _quoted(names: Sequence[str]) -> str:
    shown = [f"'{name}'" for name in names[:MOST_SHOWN]]
    return ", ".join([*shown, *([f"and {len(names) - MOST_SHOWN} more"] if len(names) > MOST_SHOWN else [])])


def step_for(log: Log, value: str, asked: str | None, is_good: Callable[[str], bool]) -> tuple[str | None, bool]:
    """The step column and whether it was asked for; None for the number of the row.

    The first that is named like one and stands beside the values; in a text log also one that stands before them. A
    column of epochs, or of numbers without a name, gives way to one that ``is_good`` if it is not.
    """
    if asked == ROW and ROW not in log.names:
        return None, True
    if asked is not None:
        return _known(log, asked, "--step"), True
    named = [name for name in step_columns(log, value) if name != value]
    beside = [name for name in named if log.is_beside(name, value)]
    found = [*beside, *(name for name in named if log.carried and name not in beside)]
    if not found and (bare := _bare(log)) is not None and bare[1] == value:
        found = [bare[0]]
    if found and "".join(words_of(found[0])) in (*_EPOCHS, COUNT) and not is_good(found[0]):
        return next(filter(is_good, found[1:]), found[0]), False
    return (found[0] if found else None), False


def step_columns(log: Log, value: str = "") -> list[str]:
    """Columns that are named like steps, the likeliest first; of W&B's those of the run that the value belongs to."""
    return _named(log, _STEPS, value)


def column_like(log: Log, asked: str | None, option: str, names: Sequence[str]) -> str | None:
    """The column asked for, or the first that is named like this."""
    if asked is not None:
        return _known(log, asked, option)
    return next(iter(_named(log, names)), None)


def epoch_column(log: Log, asked: str | None) -> str | None:
    """The column of the epoch."""
    return column_like(log, asked, "--epoch", _EPOCHS)


def rate_column(log: Log, asked: str | None) -> str | None:
    """The column of the learning rate."""
    return column_like(log, asked, "--lr", _RATES)


def by_column(log: Log, asked: str) -> str:
    """The column that tells runs apart."""
    return _known(log, asked, "--by")


def _named(log: Log, names: Sequence[str], prefer_run: str = "") -> list[str]:
    """Numeric columns with one of these names, in the order of the names."""
    run = prefer_run.rpartition(" - ")[0]
    plain = {name: "".join(words_of(name)) for name in log.names if not EXTREMES.search(name)}
    numeric = [name for name in plain if log.columns[name].n > log.columns[name].words and name not in log.repeated]
    found = [name for wanted in names for name in numeric if plain[name] == wanted]
    return sorted(found, key=lambda name: name.rpartition(" - ")[0] not in ("", run))
