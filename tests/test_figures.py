"""Tables and figures from what the commands leave: every row, every number, and a picture that opens."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from worldjepa.evaluation import figures
from worldjepa.evaluation.figures import plan_figure, plan_table
from worldjepa.evaluation.tables import Table, blocks


def row(
    success: float, low: float, high: float, reached: int, goals: int, error: float, seconds: float
) -> dict:
    return {
        "success": success, "interval": [low, high], "reached": reached, "goals": goals,
        "median_final_error": error, "median_steps": 12.0, "seconds_per_decision": seconds,
    }  # fmt: skip


PLAN: dict[str, Any] = {
    "environment": "worldjepa.envs:worldjepa/Reacher-v0",
    "goal_offset": 25,
    "budget": 50,
    "tolerance": 1.0,
    "hold": 1,
    "pairs": 200,
    "already_there": 7,
    "rows": {
        "random actions": row(0.0, 0.0, 1.9, 0, 200, 12.34, 0.00001),
        "world model": row(96.5, 93.1, 98.3, 193, 200, 0.56, 0.0031),
        "same solver, true dynamics": row(100.0, 92.9, 100.0, 50, 50, 0.43, 0.0127),
    },
}


def cells_of(text: str, name: str) -> list[str]:
    """What the table in a text tells of `name`."""
    (table,) = [block for block in blocks(text) if isinstance(block, Table)]
    (row,) = [row for row in table.rows if row[0] == name]
    return row[1:]


def test_the_table_of_plans_tells_every_number() -> None:
    table = plan_table(PLAN)
    expected = {
        "random actions": ["0.0 %", "0.0 to 1.9 %", "0 of 200", "12.34 ×", "0.0 ms"],
        "world model": ["96.5 %", "93.1 to 98.3 %", "193 of 200", "0.56 ×", "3.1 ms"],
        "same solver, true dynamics": ["100.0 %", "92.9 to 100.0 %", "50 of 50", "0.43 ×", "12.7 ms"],
    }
    for name, numbers in expected.items():
        assert cells_of(table, name) == numbers
    assert "7 of 207 starts were already at their goal and are left out" in table
    assert table.startswith("25 steps ahead, budget 50\n\n|")


def test_the_table_says_by_which_rule() -> None:
    harder = PLAN | {"goal_offset": 100, "budget": 200, "tolerance": 0.5, "hold": 10}
    assert plan_table(harder).startswith(
        "100 steps ahead, budget 200, within 0.5 × the tolerance, for 10 steps\n"
    )


def test_the_table_tells_errors_in_physical_units() -> None:
    errors = {"median_errors": {"shoulder [rad]": 0.01234, "hip [m]": 0.5}}
    rows = PLAN["rows"] | {"world model": PLAN["rows"]["world model"] | errors}
    told = plan_table(PLAN | {"rows": rows}).splitlines()[-1]
    assert told == "World model, median final error: shoulder [rad] 0.0123, hip [m] 0.5."


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn, to be looked into."""
    figures_drawn: list[Figure] = []
    save = figures.save
    monkeypatch.setattr(
        figures, "save", lambda figure, path: figures_drawn.append(figure) or save(figure, path)
    )
    return figures_drawn


def words(figure: Figure) -> set[str]:
    (axis,) = figure.axes
    ticks = [*axis.get_yticklabels(), *axis.get_xticklabels()]
    titles = [axis.get_title(loc) for loc in ("left", "center")]
    return {t.get_text() for t in (*axis.texts, *ticks)} | {axis.get_xlabel(), *titles}


def assert_png(path: Path) -> None:
    """It opens, and something is on it."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
    assert min(pixels.shape) > 100
    assert 0.01 < (pixels < 128).mean() < 0.9
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_the_figure_of_plans_shows_every_row(tmp_path: Path, drawn: list[Figure]) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    path = plan_figure(tmp_path / "plan.json")
    assert path == tmp_path / "plan.png"
    assert_png(path)
    said = words(drawn[0])
    assert said >= {*PLAN["rows"], "0.0 %", "96.5 %", "100.0 %"}
    title = next(text for text in said if "Reacher-v0" in text)
    assert "25 steps ahead" in title
    assert "budget 50" in title
    assert any("Wilson 95%" in text for text in said)
    lengths = [bar.get_width() for bar in drawn[0].axes[0].patches]
    assert lengths == [100, 96.5, 0], "the first row is on top, where y is largest"
