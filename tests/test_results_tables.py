"""Tables and curves of sweeps: what stands in them is what stands in the results."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

SCRIPTS = Path(__file__).parents[1] / "scripts"
AXES: dict[str, Any] = {"train.seed": 0}


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scripts/results_tables.py as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("results_tables")


def row(success: float, goals: int = 200) -> dict[str, Any]:
    return {"success": success, "interval": [success - 5, success + 5], "goals": goals, "reached": 0}


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """Writes a made-up result."""

    def write(sweep: str, axes: dict[str, Any], success: float, **changes: Any) -> None:
        name = "-".join(map(str, axes.values()))
        rows = {"random actions": row(12.0), "inverse dynamics": row(50.0), "world model": row(success)}
        rows["same solver, true dynamics"] = row(99.0, 50)
        near = {"goal_offset": 25, "budget": 50, "tolerance": 1.0, "hold": 1, "rows": rows}
        r2 = {"coordinates": success / 100, "velocities": 0.0}
        result = {
            "name": name,
            "recipe": axes.get("recipe", "reacher"),
            "axes": axes,
            "seed": axes["train.seed"],
            "config": {"train.minutes": 20.0},
            "machine": {"device": "cpu", "cores": 2},
            "parameters": {"encoder": 1_000_000, "predictor": 500_000, "decoder": 9_000_000, "sigreg": 0},
            "frames": 72_000,
            "steps": 1000,
            "seconds": {"train": 600.0, "near": 60.0},
            "measured": {"near": near, "probe": {"mean_r2": r2, "rank": 40.0}},
        }
        (tmp_path / sweep).mkdir(exist_ok=True)
        (tmp_path / sweep / f"{name}.json").write_text(json.dumps(result | changes))

    return write


def cells(text: str, first: str) -> list[str]:
    """Of the rows of Markdown that begin with these cells, the first one's other cells."""
    found = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in found[0].removeprefix(f"| {first} |").rstrip("|").split("|")]


def test_objectives_are_columns_and_ours_is_the_first(
    tables: Any, put: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1, 2):
        for recipe, shift in (("walker", 0), ("reacher", 10)):
            for objective, success in (("decoder", 30 + 10 * seed), ("jepa", 80.0)):
                axes = {"train.seed": seed, "recipe": recipe, "model.objective": objective}
                put("controls", axes, success + shift)
    assert tables.main(["controls", "--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "12 runs, 2.2 hours (cpu, 2 cores)" in text
    assert "- `near`: 200 held-out goals, 25 steps ahead, budget 50." in text
    floor, ours, theirs, bound, seeds = cells(text, "`near` | `walker`")
    assert cells(text, "goals | recipe") == [
        "random actions", "jepa", "decoder", "same solver, true dynamics", "seeds"
    ]  # fmt: skip
    assert floor == "12.0 % (7 to 17)"
    assert bound == "99.0 % (94 to 100)"
    assert ours == "80.0 % (80.0 to 80.0)"
    half = stats.t.ppf(0.975, 2) * 10 / np.sqrt(3)
    assert theirs == f"40.0 % ({40 - half:.0f} to {40 + half:.0f})"
    assert seeds == "3"
    assert [line.split("|")[2].strip() for line in text.splitlines() if "| `near`" in line] == [
        "`reacher`",
        "`walker`",
    ]


def test_without_objectives_every_policy_is_a_column_and_one_seed_has_wilsons_interval(
    tables: Any, put: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put("reacher", {"train.seed": 0}, 98.0)
    assert tables.main(["--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    expected = ["50.0 % (45 to 55)", "98.0 % (93 to 100)", "99.0 % (94 to 100)", "1"]
    assert cells(text, "`near` | 12.0 % (7 to 17)") == expected
    # A decoder is no part of what plans.
    assert cells(text, "0.98") == ["0.00", "40.0", "1.50 M", "72,000", "1,000", "10.0", "1"]


def test_what_is_not_finished_is_counted_and_not_made_up(
    tables: Any, put: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        put("tasks", {"train.seed": seed, "recipe": "finger", "model.objective": "jepa"}, 70.0)
    put("tasks", {"train.seed": 0, "recipe": "finger", "model.objective": "pldm"}, 60.0)
    put("tasks", {"train.seed": 0, "recipe": "walker", "model.objective": "jepa"}, 50.0)
    assert tables.main(["tasks", "--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert cells(text, "`near` | `finger`")[1:] == [
        "70.0 % (70.0, 70.0)",
        "60.0 % (55 to 65)",
        "99.0 % (94 to 100)",
        "1 to 2",
    ]
    assert cells(text, "`near` | `walker`")[2] == ""
    assert tables.main(["nothing", "--results", str(tmp_path)]) == 2
    assert tables.main(["--results", str(tmp_path / "empty")]) == 2


def test_curves_have_the_points_of_their_settings_and_the_usual_one(
    tables: Any, put: Callable[..., None], tmp_path: Path
) -> None:
    points = {
        "usual": (1500, 72_000),
        "steps-250": (250, 72_000),
        "steps-3000": (3000, 72_000),
        "episodes-10": (1500, 2_000),
        "size-tiny": (1500, 72_000),
    }
    for recipe in ("reacher", "swimmer"):
        for seed in (0, 1):
            for number, (setting, (steps, frames)) in enumerate(points.items()):
                parameters = {"encoder": 10_000 if setting == "size-tiny" else 900_000}
                changes = {"steps": steps, "frames": frames, "parameters": parameters}
                axes = {"recipe": recipe, "setting": setting, "train.seed": seed}
                put("curves", axes, 40.0 + 5 * number + seed, **changes)
    curves = importlib.import_module("results_curves")
    results = tables.read("curves", tmp_path)
    assert curves.curve(results, "steps", "near")["reacher"] == [
        (250, [45, 46]),
        (1500, [40, 41]),
        (3000, [50, 51]),
    ]
    assert curves.curve(results, "episodes", "near")["swimmer"] == [(2_000, [55, 56]), (72_000, [40, 41])]
    assert curves.curve(results, "size", "near")["reacher"] == [(10_000, [60, 61]), (900_000, [40, 41])]
    assert curves.drawn(results) == ["steps", "episodes", "size"]
    table = importlib.import_module("curves_table").table(results)
    assert cells(table, "250 steps of training")[0] == "45.5 % (45.0, 46.0)"
    places = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert places == [
        "random actions",
        *("250 steps of training", "**1.5k steps of training**", "3k steps of training"),
        *("2k frames of data", "**72k frames of data**"),
        *("10k parameters", "**900k parameters**"),
    ]
    few = [r for r in results if r["axes"]["setting"] in ("steps-250", "usual")]
    assert curves.drawn(few) == ["steps"]
    assert curves.drawn([r for r in few if r["axes"]["setting"] == "steps-250"]) == []
    assert tables.main(["curves", "--results", str(tmp_path), "--to", str(tmp_path / "docs")]) == 0
    assert (tmp_path / "docs" / "curves.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "docs" / "results.md").read_text("utf-8")
    assert "](curves.png)" in text
    assert text.startswith("# Results\n")
    # Numbers in names count as numbers.
    settings = [line.split("`")[5] for line in text.splitlines() if line.startswith("| `near` | `reacher`")]
    assert settings[:3] == ["episodes-10", "size-tiny", "steps-250"]


def test_one_model_for_several_tasks_stands_beside_their_own(
    tables: Any, put: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        for objective, success in (("jepa", 80.0), ("pldm", 70.0)):
            axes = {"train.seed": seed, "recipe": "walker", "model.objective": objective}
            put("tasks", axes, success + 2 * seed)
    near = {"goal_offset": 25, "budget": 50, "tolerance": 1.0, "hold": 1}
    rows = {"random actions": row(11.0), "world model": row(60.0)}
    measured = {"finger near": near | {"rows": rows}, "walker near": near | {"rows": rows}}
    measured["walker probe"] = {"mean_r2": {"coordinates": 0.55}}
    evaluate = {name: ["plan", f"recipe={name.split()[0]}"] for name in measured}
    put("eight", {"train.seed": 0}, 0.0, recipe="eight", evaluate=evaluate, measured=measured)
    assert tables.main(["eight", "--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    ours = ["11.0 % (6 to 16)", "60.0 % (55 to 65)"]
    # Of two seeds each is told: Student's interval of two is no knowledge.
    theirs = ["81.0 % (80.0, 82.0)", "99.0 % (94 to 100)"]
    assert cells(text, "`walker`") == [*ours, *theirs, "0.55", "0.81 (0.80, 0.82)", "1, 2"]
    # What was not measured is not made up.
    assert cells(text, "`finger`") == [*ours, "", "", "", "", "1, 0"]
    assert "| one model | a model each |" in text
