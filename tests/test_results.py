"""What the pages say was measured is what results/ holds."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
RECIPE = (ROOT / "docs" / "recipe.md").read_text("utf-8")


def result(path: str) -> dict[str, Any]:
    return json.loads((ROOT / "results" / path).read_text("utf-8"))


def cells(page: str, first: str) -> list[str]:
    """The other cells of the one row of a page's tables that begins with `first`, without their bold."""
    (row,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", page, re.MULTILINE)
    return [cell.strip().replace("**", "") for cell in row.split("|")]


@pytest.mark.parametrize("protocol", ["near", "lewm", "lewm_planner"])
def test_the_recipe_says_what_reacher_reached(protocol: str) -> None:
    found = result("reacher/seed0.json")
    assert f"{found['steps']:,} steps" in RECIPE
    assert f"{found['seconds']['train'] / 60:.1f} minutes of training" in RECIPE
    rows = found["measured"][protocol]["rows"]
    low, high = rows["world model"]["interval"]
    truth = rows["same solver, true dynamics"]
    assert cells(RECIPE, f"`{protocol}`") == [
        *(f"{rows[n]['success']:.1f} %" for n in ("random actions", "behaviour cloning", "inverse dynamics")),
        f"{rows['world model']['success']:.1f} % ({low:.1f} to {high:.1f})",
        f"{truth['reached']} of {truth['goals']}",
    ]


@pytest.mark.parametrize(
    ("row", "name"),
    [("`images_cpu`", "trained"), ("the same encoder untrained", "untrained"), ("raw pixels", "raw pixels")],
)
def test_the_readme_says_what_images_reached(row: str, name: str) -> None:
    found = result("images_cpu.json")
    values = found["rows"][name]
    shots = [values["shots"][k]["mean"] for k in ("1", "5", "10", "100")]
    assert cells(README, row) == [f"{value:.1f} %" for value in (values["linear"], values["knn"], *shots)]
    head = (ROOT / "configs" / "images_cpu.yaml").read_text("utf-8").partition("\nname:")[0]
    assert f"{values['linear']:.1f}" in head
    assert f"{values['shots']['10']['mean']:.1f}" in head
    assert f"{found['step']:,} steps" in head
