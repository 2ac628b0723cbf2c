"""Markdown tables: written so that a terminal shows them in columns, and read again."""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Cells as text; every row is as long as the head."""

    head: list[str]
    rows: list[list[str]]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is what the others, which are set to the right, tell about."""
    head, *rows = ([cell.replace("|", r"\|") for cell in cells] for cells in (head, *rows))
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
    line = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]

    def laid(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)]) + " |"

    return "\n".join([laid(head), laid(line), *map(laid, rows)])


def blocks(text: str) -> list[Table | str]:
    """What stands in a text of Markdown tables and lines between them, in its order.

    A line is one block, without the signs of a heading or of bold type; an empty one is none. A row that is
    shorter than its head is filled up with empty cells, a longer one cut.
    """
    found: list[Table | str] = []
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines):
        if not line.startswith("|"):
            found += [_plain(line.lstrip("#"))] if line else []
        elif number == 0 or not lines[number - 1].startswith("|"):
            found.append(Table(_cells(line), []))
        elif not re.fullmatch(r"[|:\s]*(-{3,}[|:\s]*)+", line):
            table = found[-1]
            assert isinstance(table, Table)
            width = len(table.head)
            table.rows.append((_cells(line) + [""] * width)[:width])
    return found


def _cells(line: str) -> list[str]:
    return [_plain(cell.replace(r"\|", "|")) for cell in re.split(r"(?<!\\)\|", line.strip("|"))]


def _plain(text: str) -> str:
    return text.replace("**", "").replace("`", "").strip()
