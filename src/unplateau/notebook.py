"""How values show themselves in a notebook: small tables, and frames where pandas is installed."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from unplateau.errors import missing_extra

MOST_ROWS = 10
"""Rows of a table that are shown; of more, the first and the last."""


def table_html(columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "") -> str:
    """A table in the notebook's own style, everything escaped; in the middle of a long one rows are left out."""
    every: list[Sequence[object]] = [*rows]
    shown = every
    if len(every) > MOST_ROWS:
        shown = [*every[: MOST_ROWS // 2], ["…"] * len(columns), *every[-MOST_ROWS // 2 :]]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell_text(cell))}</td>' for cell in row)}</tr>" for row in shown)
    told = f'<caption style="text-align: left">{escape(caption)}</caption>' if caption else ""
    return f"<table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts_html(facts: Iterable[tuple[str, object]], *, caption: str = "") -> str:
    """Names and values in two columns."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left">{escape(name)}</th>'
        f'<td style="text-align: left">{escape(cell_text(value))}</td></tr>'
        for name, value in facts
    )
    told = f'<caption style="text-align: left">{escape(caption)}</caption>' if caption else ""
    return f"<table>{told}<tbody>{rows}</tbody></table>"


def cell_text(value: object) -> str:
    """Numbers with as many digits as one reads; nothing where there is no value."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """The rows as a pandas DataFrame. Raises MissingExtraError without pandas."""
    try:
        import pandas as pd  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra("to_frame needs pandas", "notebook") from error
    return pd.DataFrame([dict(row) for row in rows])
