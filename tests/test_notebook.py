"""The notebook runs from top to bottom, and shows what it says."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from worldjepa.cli import main

PAGE = json.loads((Path(__file__).parents[1] / "docs" / "first_look.ipynb").read_text("utf-8"))
CODE = ["".join(cell["source"]) for cell in PAGE["cells"] if cell["cell_type"] == "code"]


def test_it_runs_on_fewer_goals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    few = ["collect.episodes=6", "collect.workers=1", "plan.goals=4", "plan.bound_goals=1", "plan.videos=2"]
    assert main(["plan", "reacher-pretrained", *few]) == 0
    names: dict[str, Any] = {}
    for number, text in enumerate(CODE):
        # What is planned already is only printed, in the cell that would plan to 50 goals.
        text = text.replace('["plan", "reacher-pretrained"]', f'["plan", "reacher-pretrained", *{few}]')
        exec(compile(text, f"cell {number}", "exec"), names)
    assert names["code"] == 0
    assert names["correlation"] > 0.7, "near latents are near joints"
    assert (names["imagined"] < 0.5 * names["still"]).all()
    assert names["far"][-1] < 0.3 * names["far"][0], "the arm goes where the picture says"


def test_its_outputs_are_of_the_cells_in_order() -> None:
    cells = [cell for cell in PAGE["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    pictures = [sum("image/png" in output.get("data", {}) for output in cell["outputs"]) for cell in cells]
    assert pictures == [text.count("plt.show()") for text in CODE]
    assert "/home/" not in json.dumps(PAGE)
    assert "/tmp/" not in json.dumps(PAGE)
