"""Markdown tables, written so that a terminal shows them in columns."""

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is what the others, which are set to the right, tell about."""
    head, *rows = ([cell.replace("|", r"\|") for cell in cells] for cells in (head, *rows))
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
    line = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]

    def laid(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)]) + " |"

    return "\n".join([laid(head), laid(line), *map(laid, rows)])
