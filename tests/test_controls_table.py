"""SIGReg beside its controls: points ahead and their interval against SciPy's, and only what is whole."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def controls(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scripts/controls_table.py as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("controls_table")


def result(task: str, name: str, each: np.ndarray, seed: int = 0) -> dict[str, Any]:
    success = 100 * float(each.mean())
    row = {"success": success, "interval": [success - 1, success + 1], "each": "".join(map(str, each))}
    goals = {"rows": {"world model": row}}
    probe = {"mean_r2": {"coordinates": 0.5}, "rank": 30.0}
    axes = {"recipe": task, "model.objective": name, "train.seed": seed}
    measured = {"near": goals, "far50": goals, "probe": probe}
    return {"recipe": task, "seed": seed, "axes": axes, "steps": 1500, "measured": measured}


@pytest.fixture
def made(controls: Any) -> list[dict[str, Any]]:
    """Two tasks; what stands in SIGReg's place reaches fewer goals, one after the other."""
    rng = np.random.default_rng(0)
    shares = np.linspace(0.9, 0.4, len(controls.CONTROLS))
    return [
        result(task, name, (rng.random(200) < share).astype(int))
        for task in ("reacher", "swimmer")
        for name, share in zip(controls.CONTROLS, shares, strict=True)
    ]


def each(made: list[dict[str, Any]], task: str, name: str) -> np.ndarray:
    (found,) = (r for r in made if r["recipe"] == task and r["axes"]["model.objective"] == name)
    return np.array(list(found["measured"]["near"]["rows"]["world model"]["each"]), dtype=float)


def test_points_ahead_are_the_mean_over_tasks_with_the_interval_of_paired_goals(
    controls: Any, made: list[dict[str, Any]]
) -> None:
    mean, half = controls.ahead(made, "near", "none")
    apart = [each(made, task, "jepa") - each(made, task, "none") for task in ("reacher", "swimmer")]
    assert mean == pytest.approx(100 * np.mean(apart))
    error = np.hypot(*(stats.sem(values) for values in apart)) / 2
    assert half == pytest.approx(100 * 1.96 * error)
    assert mean - half > 0
    assert controls.ahead(made, "near", "jepa") == (0, 0)


def test_a_seed_counts_for_the_controls_that_have_every_task_in_it(
    controls: Any, made: list[dict[str, Any]]
) -> None:
    assert controls.whole(made) == made
    ones = np.ones(200, dtype=int)
    whole = [result(task, "ema", ones, seed=1) for task in ("reacher", "swimmer")]
    more = [*made, *whole, result("reacher", "jepa", ones, seed=1)]
    assert controls.whole(more) == [*made, *whole]


def test_seeds_are_averaged_goal_by_goal_and_told_one_by_one(
    controls: Any, made: list[dict[str, Any]]
) -> None:
    rng, tasks = np.random.default_rng(1), ("reacher", "swimmer")
    drawn = {(task, name): (rng.random(200) < 0.7).astype(int) for task in tasks for name in ("jepa", "pldm")}
    more = [*made, *(result(*place, reached, seed=1) for place, reached in drawn.items())]
    first = [each(made, task, "jepa") - each(made, task, "pldm") for task in tasks]
    second = [drawn[task, "jepa"] - drawn[task, "pldm"] for task in tasks]
    over = [(one + other) / 2 for one, other in zip(first, second, strict=True)]
    mean, half = controls.ahead(more, "near", "pldm")
    assert mean == pytest.approx(100 * np.mean(over))
    assert half == pytest.approx(100 * 1.96 * np.hypot(*map(stats.sem, over)) / 2)
    said = controls.verdict(more)
    seeds = ", ".join(f"{100 * np.mean(apart):+.1f}" for apart in (first, second))
    assert f"PLDM's terms {mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f}; {seeds})" in said
    alone = controls.ahead(made, "near", "ema")
    assert controls.ahead(more, "near", "ema") == alone
    assert f"averaged encoder {alone[0]:+.1f} ({alone[0] - alone[1]:+.1f} to {sum(alone):+.1f})" in said
    assert controls.table(more).splitlines()[-1] == "| training seeds |  | 2 | 2 | 1 | 1 | 1 | 1 |"


def test_the_table_has_every_control_and_the_verdict_each_rival(
    controls: Any, made: list[dict[str, Any]]
) -> None:
    head, _, *lines = controls.table(made).splitlines()
    assert head == f"|  | task | {' | '.join(controls.CONTROLS.values())} |"
    means = next(line for line in lines if line.startswith("| `near` | mean |")).split("|")[3:-1]
    for name, cell in zip(controls.CONTROLS, means, strict=True):
        expected = 50 * (each(made, "reacher", name).mean() + each(made, "swimmer", name).mean())
        assert float(cell.strip(" *%")) == pytest.approx(expected, abs=0.051)
    said = controls.verdict(made)
    mean, half = controls.ahead(made, "near", "pldm")
    assert f"PLDM's terms {mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})" in said
    assert "mean over reacher, swimmer at 1,500 steps" in said


def test_a_control_without_results_has_no_column_and_is_not_spoken_of(
    controls: Any, made: list[dict[str, Any]]
) -> None:
    few = [r for r in made if r["axes"]["model.objective"] != "decoder"]
    assert controls.table(few).splitlines()[0] == (
        "|  | task | SIGReg | PLDM's terms | averaged encoder | untrained, frozen | nothing |"
    )
    assert "a decoder" not in controls.verdict(few)
    assert controls.verdict(few).count("nothing") == 2


def test_pairs_are_of_tasks_that_have_both_and_of_no_other_loss(
    controls: Any, made: list[dict[str, Any]]
) -> None:
    alone = [result("finger", "jepa", np.ones(200, int)), result("cheetah", "pldm", np.ones(200, int))]
    found = controls.pairs([*made, *alone], "pldm")
    assert {(r["recipe"], r["axes"]["model.objective"]) for r in found} == {
        (task, name) for task in ("reacher", "swimmer") for name in ("jepa", "pldm")
    }
