"""Markdown tables: every cell comes back, columns stand under one another, odd rows do no harm."""

from worldjepa.evaluation.tables import Table, blocks, markdown

HEAD, ROWS = ["", "R²", "a|b"], [["sin shoulder", "0.987", "1"], ["x", "-0.3", ""]]


def test_what_is_written_is_read_again() -> None:
    assert blocks(markdown(HEAD, ROWS)) == [Table(HEAD, ROWS)]
    assert blocks(markdown(["only head"], [])) == [Table(["only head"], [])]


def test_columns_stand_under_one_another() -> None:
    lines = markdown(HEAD, ROWS).splitlines()
    assert lines == [
        r"|              |    R² | a\|b |",
        r"| :----------- | ----: | ---: |",
        r"| sin shoulder | 0.987 |    1 |",
        r"| x            |  -0.3 |      |",
    ]


def test_lines_and_tables_come_in_their_order() -> None:
    text = "## Found `it`\n\n|a|b|\n|---|:---:|\n| **1** | 2 |\n|-|\n|4|5|6|\nA note.\n| c |\n|---|\n"
    table = Table(["a", "b"], [["1", "2"], ["-", ""], ["4", "5"]])
    assert blocks(text) == ["Found it", table, "A note.", Table(["c"], [])]
    assert blocks("") == []
