"""scripts/close_loop.py: three models that differ in their data alone, and try the same goals."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from worldjepa.config import Config

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def close_loop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scripts/close_loop.py as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("close_loop")


def test_the_three_differ_in_their_data_alone(close_loop: Any) -> None:
    first, more, planned = close_loop.loop("walker", 1, 200, 3000)
    assert [run.name for run in (first, more, planned)] == [
        "walker-first-seed1",
        "walker-more-seed1",
        "walker-planned-seed1",
    ]
    assert first.options == more.options == planned.options
    assert first.evaluate == more.evaluate == planned.evaluate
    for run in (first, more, planned):
        # All are looked at on the first data, whose held-out episodes no model has seen.
        assert run.trained_on[0] == []
        assert {run.data(words[1:]) for words in run.evaluate.values()} == {"walker"}
    assert [len(run.trained_on) for run in (first, more, planned)] == [1, 2, 2]
    new, by_planner = more.config(more.trained_on[1]), planned.config(planned.trained_on[1])
    assert (new.collect.behaviour, by_planner.collect.behaviour) == ("uniform", "planner")
    for config in (new, by_planner):
        assert (config.collect.episodes, config.collect.seed) == (200, 2)
        assert config.collect.seed != Config().collect.seed
    assert by_planner.collect.run == "{runs}/walker-first-seed1"
    names = [run.data(run.trained_on[1]) for run in (more, planned)]
    assert names == [
        "walker-episodes200-seed2",
        "walker-episodes200-behaviourplanner-runwalker-first-seed1-seed2",
    ]


@pytest.mark.parametrize("words", [["nothing"], ["smoke", "train.steps=3"], ["smoke", "--steps", "0"]])
def test_wrong_words_are_told_in_a_line(
    close_loop: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert close_loop.main([*words, "--list"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("close_loop.py: ")


def test_a_list_says_what_is_left(
    close_loop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs", str(tmp_path), "--results", str(tmp_path)]
    assert close_loop.main(["walker", "--seeds", "0", "1", "--list", *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["left", f"walker-{kind}-seed0"] for kind in ("first", "more", "planned")
    ]
    assert lines[-1].startswith("0 of 6 done, 6 left: about 1 h")


@pytest.mark.slow
def test_it_goes_from_data_to_a_table(
    close_loop: Any,
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(close_loop, "EVALUATE", {"near": "plan", "probe": "probe"})
    where = [
        "--data",
        str(tiny_data.parent),
        "--runs",
        f"{tmp_path}/runs",
        "--results",
        f"{tmp_path}/results",
    ]
    assert close_loop.main(["smoke", "--episodes", "4", "--steps", "6", *where]) == 0
    text = capsys.readouterr().out
    for kind in ("first", "more", "planned"):
        assert f"| `near` | `smoke` | `{kind}` |" in text
    results = {
        kind: json.loads((tmp_path / f"results/close_loop/smoke-{kind}-seed0.json").read_text())
        for kind in ("first", "more", "planned")
    }
    assert str(tmp_path) not in json.dumps(results)
    # Of four new episodes one is held out by the share of 0.34.
    assert [results[kind]["frames"] for kind in results] == [4 * 60, 7 * 60, 7 * 60]
    # The same starts and goals: random actions, which do not depend on a model, fare alike.
    floors = [result["measured"]["near"]["rows"]["random actions"] for result in results.values()]
    assert [(row["each"], row["median_final_error"]) for row in floors] == [
        (floors[0]["each"], floors[0]["median_final_error"])
    ] * 3
    ran = (tmp_path / "runs/close_loop/smoke-planned-seed0/config.yaml").stat().st_mtime_ns
    assert close_loop.main(["smoke", "--episodes", "4", "--steps", "6", *where]) == 0
    assert (tmp_path / "runs/close_loop/smoke-planned-seed0/config.yaml").stat().st_mtime_ns == ran
