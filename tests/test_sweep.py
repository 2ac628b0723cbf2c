"""A queue of runs: what a grid asks for, what is done and left, what stops it and what does not."""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from worldjepa.errors import UserError
from worldjepa.options import leaves

SCRIPTS = Path(__file__).parents[1] / "scripts"
GRIDS = sorted(path.stem for path in (SCRIPTS / "grids").glob("*.yaml"))
# A run of these takes a second.
SMALL = {
    "train.steps": 2,
    "train.evaluate_goals": 0,
    "plan.rival_steps": 0,
    "plan.bound_goals": 0,
    "plan.videos": 0,
}


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scripts/sweep.py as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("sweep")


@pytest.fixture
def grid(tmp_path: Path) -> Callable[..., str]:
    """Writes a grid, two seeds of the smoke recipe where nothing else is said; gives its path."""

    def write(**changes: Any) -> str:
        usual = {
            "recipe": "smoke",
            "options": SMALL,
            "axes": {"train.seed": [0, 1]},
            "evaluate": {"near": "plan"},
        }
        path = tmp_path / "small.yaml"
        path.write_text(
            yaml.safe_dump({k: v for k, v in (usual | changes).items() if v is not None}, sort_keys=False)
        )
        return str(path)

    return write


@pytest.fixture
def where(tmp_path: Path, tiny_data: Path) -> list[str]:
    """The words that send a sweep into a folder of its own; the smoke recipe's data are there."""
    return ["--data", str(tiny_data.parent), "--runs", f"{tmp_path}/runs", "--results", f"{tmp_path}/results"]


def places(sweep: Any, where: list[str]) -> Any:
    return sweep.Places(*(Path(word) for word in where[1::2]))


def result(tmp_path: Path, name: str) -> dict[str, Any]:
    return json.loads((tmp_path / "results" / "small" / f"{name}.json").read_text("utf-8"))


# What a grid asks for


def test_every_combination_is_a_run_and_the_first_axis_changes_last(
    sweep: Any, grid: Callable[..., str]
) -> None:
    axes = {
        "train.seed": [0, 1],
        "model.objective": ["jepa", "pldm"],
        "size": {"small": {"model.latent": 8, "train.steps": 3}, "usual": {}},
    }
    runs = sweep.read_grid(grid(axes=axes))
    names = ["jepa-small", "jepa-usual", "pldm-small", "pldm-usual"]
    assert [run.name for run in runs] == [f"{name}-seed{seed}" for seed in (0, 1) for name in names]
    one = runs[6]
    assert one.axes == {"train.seed": 1, "model.objective": "pldm", "size": "small"}
    # A setting goes before the options of the whole grid.
    config = one.config()
    assert (config.train.seed, config.model.objective, config.model.latent, config.train.steps) == (
        1,
        "pldm",
        8,
        3,
    )
    assert config.train.evaluate_goals == 0


def test_recipes_are_an_axis_and_runs_share_the_data_that_are_alike(
    sweep: Any, grid: Callable[..., str]
) -> None:
    axes = {"recipe": ["reacher", "walker"], "collect.behaviour": ["uniform", "coloured"]}
    runs = sweep.read_grid(grid(recipe=None, axes=axes))
    assert [run.name for run in runs] == [
        "reacher-uniform",
        "reacher-coloured",
        "walker-uniform",
        "walker-coloured",
    ]
    assert [run.data() for run in runs] == [
        "reacher",
        "reacher-behaviourcoloured",
        "walker",
        "walker-behaviourcoloured",
    ]
    # An evaluation may ask for others; what makes no frame different does not count.
    assert runs[1].data(["collect.behaviour=uniform", "collect.workers=3", "plan.protocol=lewm"]) == "reacher"
    assert runs[0].data(["collect.seed=1", "collect.episodes=20"]) == "reacher-episodes20-seed1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": None}, "name a recipe, or an axis of recipes"),
        ({"axes": {"recipe": ["smoke"]}}, "name a recipe, or an axis of recipes"),
        ({"axis": {}}, "a grid has axes, data, evaluate, options, recipe, not axis"),
        ({"options": [1]}, "options: must be a mapping"),
        (
            {"axes": {"train.sead": [1]}},
            "axes: train.sead: must be an option with a list of values, or a name",
        ),
        ({"axes": {"size": {"small": 3}}}, "axes: size: must be"),
        ({"axes": {"train.seed": []}}, "axes: train.seed: must be"),
        ({"data": {}}, "data: must be a list, of each data set the options of its own"),
        ({"data": ["collect.sead=1"]}, "seed0: command line: unknown option collect.sead"),
        ({"data": ["recipe=nothing"]}, "seed0: nothing: no such recipe"),
        ({"axes": {"train.seed": [1, 1]}, "recipe": "smoke"}, ""),
        ({"options": {"train.stepz": 1}}, "seed0: command line: unknown option train.stepz"),
        (
            {"evaluate": {"near": "plan plan.goals=none"}},
            "seed0: command line: plan.goals=none: must be a whole number",
        ),
        ({"evaluate": {"near": "dance"}}, "evaluate: near: must begin with plan or probe"),
        (
            {"axes": {"a": {"one": {}}, "b": {"one": {}}, "c": {"x/y": {}, "x y": {}}}},
            "several runs are called one-one-x_y",
        ),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_runs(
    changes: dict[str, Any], said: str, sweep: Any, grid: Callable[..., str]
) -> None:
    if not said:
        # The same value twice is one run.
        assert len(sweep.read_grid(grid(**changes))) == 1
        return
    with pytest.raises(UserError) as raised:
        sweep.read_grid(grid(**changes))
    assert said in str(raised.value)
    assert str(raised.value).startswith(grid())


@pytest.mark.parametrize(
    "words", [["nothing"], ["GRID", "--part", "3/2"], ["GRID", "--only", "x"], ["GRID", "train.steps=1"]]
)
def test_wrong_words_are_told_in_a_line(
    words: list[str], sweep: Any, grid: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([grid() if word == "GRID" else word for word in words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("sweep.py: ")


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_ours_is_possible_and_opens_with_what_it_is(name: str, sweep: Any) -> None:
    runs = sweep.read_grid(name)
    assert len({run.name for run in runs}) == len(runs) > 0
    assert {run.options["train.seed"] for run in runs} == ({0} if name == "understanding" else {0, 1, 2})
    text = (SCRIPTS / "grids" / f"{name}.yaml").read_text("utf-8")
    assert text.startswith("# ")
    # No run may take the other's data for its own.
    for run in runs:
        assert run.data().split("-")[0] == run.recipe
        assert 0 < run.config().train.minutes <= 30


def test_there_are_the_controls_the_tasks_and_the_curves_that_were_asked_for(sweep: Any) -> None:
    controls, tasks, curves = (sweep.read_grid(name) for name in ("controls", "tasks", "curves"))
    assert {r.options["model.objective"] for r in controls} == {
        "jepa",
        "none",
        "pldm",
        "frozen",
        "ema",
        "decoder",
    }
    assert len({run.recipe for run in controls}) == 3
    assert {run.config().train.minutes for run in controls} == {20}
    assert len({run.recipe for run in tasks}) == 9
    assert {run.axes["setting"].split("-")[0] for run in curves} == {"usual", "steps", "episodes", "size"}
    # All try the same goals.
    assert all("data.held_out=0.1" in words for run in curves for words in run.evaluate.values())


def test_one_model_for_eight_tasks_is_looked_at_as_the_eight_are(sweep: Any) -> None:
    eight, tasks = sweep.read_grid("eight")[0], sweep.read_grid("tasks")
    # Not the ninth, which shows one of the eight from elsewhere.
    tasks = [run for run in tasks if run.recipe != "swimmer_aboard"]
    sets = [eight.data(words) for words in eight.trained_on]
    assert ",".join(f"data/{name}" for name in sets) == eight.config().data.path
    assert sets == list(dict.fromkeys(run.recipe for run in tasks))
    for single in tasks:
        of = [name for name, words in eight.evaluate.items() if f"recipe={single.recipe}" in words]
        assert of == [f"{single.recipe} {name}" for name in single.evaluate]
        for name, own in single.evaluate.items():
            words = eight.evaluate[f"{single.recipe} {name}"]
            ours, theirs = eight.config(words[1:]), single.config(own[1:])
            assert (words[0], ours.env, ours.probe) == (own[0], theirs.env, theirs.probe)
            # The same held-out goals and frames of the same data.
            assert eight.data(words[1:]) == single.data(own[1:])
            for options in ("held_out", "split_seed", "frameskip", "context"):
                assert getattr(ours.data, options) == getattr(theirs.data, options)
            assert dataclasses.replace(theirs.plan, bound_goals=ours.plan.bound_goals) == ours.plan
    # Results from before say nothing of several data sets, and stay what they are.
    assert "trained_on" in sweep.asked(eight)
    assert "trained_on" not in sweep.asked(tasks[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_ours_runs(name: str, sweep: Any, tmp_path: Path) -> None:
    """Its first and last run, with small models and a few goals."""
    small = yaml.safe_load((SCRIPTS.parent / "configs" / "smoke.yaml").read_text("utf-8"))
    less = ["plan.goals=4", "plan.bound_goals=0", "plan.iterations=1", "plan.rival_steps=2", "plan.videos=0"]
    chosen = sweep.Places(tmp_path, tmp_path, tmp_path)
    options = leaves(small["model"], "model.") | {"train.steps": 2, "train.batch_size": 4}
    options |= {"collect.episodes": 8, "collect.episode_length": 120, "env.image_size": 32}
    runs = sweep.read_grid(name)
    for run in (runs[0], runs[-1]):
        evaluate = {key: [*words, *less] for key, words in run.evaluate.items()}
        run = dataclasses.replace(run, options=options | run.options | {"train.steps": 2}, evaluate=evaluate)
        found = sweep.execute(run, chosen)
        assert set(found["measured"]) == set(evaluate)


# Running it


def test_a_run_leaves_one_small_file_that_says_what_it_was(
    sweep: Any, grid: Callable[..., str], where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    evaluate = {"near": "plan plan.goals=5", "hold": "plan plan.protocol=hold", "probe": "probe"}
    run = sweep.read_grid(
        grid(evaluate=evaluate, options=SMALL | {"plan.rival_steps": 5, "plan.bound_goals": 2})
    )[1]
    assert sweep.state(run, places(sweep, where)) == "left"
    assert sweep.attempt(run, places(sweep, where), ["train.threads=1"]) == 0
    found, text = result(tmp_path, "seed1"), (tmp_path / "results/small/seed1.json").read_text("utf-8")
    assert sweep.state(run, places(sweep, where)) == "done"
    assert str(tmp_path) not in text
    assert len(text) < 25_000
    assert (found["sweep"], found["name"], found["recipe"], found["seed"]) == ("small", "seed1", "smoke", 1)
    assert (found["steps"], found["attempts"], found["frames"]) == (2, 1, 4 * 60)
    assert found["config"]["train.steps"] == 2
    assert not [name for name in found["config"] if "path" in name or name.startswith(("plan.", "images."))]
    assert set(found["seconds"]) == {"collect", "train", "near", "hold", "probe"}
    assert found["versions"]["torch"]
    assert found["parameters"]["encoder"] > 10_000
    assert found["last"]["train/loss"] > 0
    assert found["watched"]["latent/rank"] > 0
    near, hold = found["measured"]["near"], found["measured"]["hold"]
    assert (near["evaluation"]["goals"], near["hold"], hold["hold"]) == (5, 1, 10)
    for row in near["rows"].values():
        low, high = row["interval"]
        assert low <= row["success"] <= high
        assert len(row["each"]) == row["goals"]
        assert row["each"].count("1") == row["reached"]
    assert set(near["rows"]) >= {"world model", "random actions", "inverse dynamics"}
    assert found["measured"]["probe"]["rank"] > 0


def test_a_run_on_several_data_sets_is_looked_at_on_one(
    sweep: Any, grid: Callable[..., str], where: list[str], tmp_path: Path
) -> None:
    evaluate = {"smoke near": "plan recipe=smoke plan.goals=3"}
    path = grid(data=["", "recipe=smoke collect.seed=1"], axes={"train.seed": [0]}, evaluate=evaluate)
    (run,) = sweep.read_grid(path)
    assert sweep.attempt(run, places(sweep, where), []) == 0
    found = result(tmp_path, "seed0")
    assert found["trained_on"] == [[], ["recipe=smoke", "collect.seed=1"]]
    # Of each of the two sets the episodes that are not held out.
    assert found["frames"] == 2 * 4 * 60
    assert found["measured"]["smoke near"]["rows"]["world model"]["goals"] == 3
    assert sweep.state(run, places(sweep, where)) == "done"
    assert str(tmp_path) not in json.dumps(found)
    assert (tmp_path / "runs/small/seed0/evaluation/smoke/plan.json").is_file()


def test_what_is_there_is_not_run_again_unless_the_grid_changes(
    sweep: Any, grid: Callable[..., str], where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    monkeypatch.setattr(
        sweep, "attempt_apart", lambda run, *rest: ran.append(run.name) or sweep.attempt(run, *rest)
    )
    fake_training(sweep, monkeypatch)
    path = grid(axes={"train.seed": [0, 1, 2, 3]})
    assert sweep.main([path, *where, "--part", "2/2"]) == 0
    assert ran == ["seed1", "seed3"]
    assert sweep.main([path, *where, "--only", "seed[01]"]) == 0
    assert ran == ["seed1", "seed3", "seed0"]
    assert sweep.main([path, *where]) == 0
    assert sweep.main([path, *where]) == 0
    assert ran == ["seed1", "seed3", "seed0", "seed2"]
    # More of the same asks for nothing new, other options do.
    grid(axes={"train.seed": [0, 1, 2, 3, 4]})
    assert sweep.main([path, *where]) == 0
    assert ran[4:] == ["seed4"]
    grid(options=SMALL | {"train.steps": 3})
    runs = sweep.read_grid(path)
    assert [sweep.state(run, places(sweep, where)) for run in runs] == ["changed", "changed"]
    assert sweep.main([path, *where]) == 0
    assert ran[5:] == ["seed0", "seed1"]
    assert result(tmp_path, "seed0")["options"]["train.steps"] == 3


def fake_training(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run takes 90 seconds, at once; seed 3 is as the word BROKEN says."""

    def execute(run: Any, where: Any, machine: list[str]) -> dict[str, Any]:
        if os.environ.get("BROKEN") and run.axes["train.seed"] == 3:
            raise {"user": UserError("no\nsuch thing"), "bug": ZeroDivisionError("by 0")}[
                os.environ["BROKEN"]
            ]
        where.run(run).mkdir(parents=True, exist_ok=True)
        rows = {
            "near": {"rows": {"world model": {"success": 75.0}}},
            "probe": {"mean_r2": {"coordinates": 0.5}},
        }
        values = sweep.asked(run) | {"seconds": {"train": 60, "near": 30}, "measured": rows}
        where.result(run).parent.mkdir(parents=True, exist_ok=True)
        where.result(run).write_text(json.dumps(values))
        return values

    monkeypatch.setattr(sweep, "execute", execute)


def test_a_run_that_fails_is_told_and_the_others_go_on(
    sweep: Any,
    grid: Callable[..., str],
    where: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_training(sweep, monkeypatch)
    monkeypatch.setattr(sweep, "attempt_apart", sweep.attempt)
    path, error = grid(axes={"train.seed": [3, 0, 1]}), tmp_path / "runs/small/seed3.error"
    monkeypatch.setenv("BROKEN", "user")
    assert sweep.main([path, *where]) == 1
    out = capsys.readouterr()
    assert "seed3: failed: no such thing" in out.err
    assert "2 of 3 runs done" in out.out
    assert sweep.main([path, *where, "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["failed", "seed3"],
        ["done", "seed0"],
        ["done", "seed1"],
    ]
    assert lines[0].endswith("no such thing")
    assert lines[1].endswith("near 75.0 %, probe R² 0.50, 1.5 min")
    # Two took 90 seconds each.
    assert lines[3] == "2 of 3 done, 1 left: about 0 h 2 min"
    monkeypatch.setenv("BROKEN", "bug")
    assert sweep.main([path, *where]) == 1
    assert error.read_text().startswith("Traceback")
    assert error.read_text().endswith("ZeroDivisionError: by 0\n")
    monkeypatch.setenv("BROKEN", "")
    assert sweep.main([path, *where, "--remove"]) == 0
    assert not error.exists()
    # Removed is what was run now; its result stays.
    assert not (tmp_path / "runs/small/seed3").exists()
    assert (tmp_path / "runs/small/seed0").exists()
    assert (tmp_path / "results/small/seed3.json").exists()


def started(path: str, where: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPTS / "sweep.py"), path, *where]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_terminated_it_leaves_a_checkpoint_and_goes_on_from_there(
    sweep: Any, grid: Callable[..., str], where: list[str], tmp_path: Path
) -> None:
    """As a scheduler does it, which tells the first process alone."""
    options = SMALL | {"train.steps": 100_000, "train.log_every": 1}
    path, run = grid(options=options, axes={"train.seed": [0]}), tmp_path / "runs/small/seed0"

    def steps() -> list[int]:
        lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
        return [json.loads(line)["step"] for line in lines if line.endswith("}") and "train/loss" in line]

    last = 0
    for attempts in (1, 2):
        process = started(path, where)
        wait_for(lambda least=last: max(steps(), default=0) > least, process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 143, (out, err)
        assert "stopped; the same command goes on from there" in err
        last = max(int(folder.name) for folder in (run / "checkpoints").glob("[0-9]*"))
        # Every step once: the second began after the first one's last.
        assert steps() == list(range(1, last + 1))
        progress = json.loads((run / "sweep.json").read_text())
        assert progress["attempts"] == attempts
        assert progress["seconds"]["train"] > 0
    assert sweep.state(sweep.read_grid(path)[0], places(sweep, where)) == "begun"


def test_a_process_that_is_killed_is_a_failure_of_its_run_alone(
    sweep: Any, grid: Callable[..., str], where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed:
        exitcode = -9

        def __init__(self, **_: Any): ...

        def start(self) -> None: ...

        def join(self) -> None: ...

    context = type("Context", (), {"Process": Killed})
    monkeypatch.setattr(sweep.multiprocessing, "get_context", lambda _: context)
    assert sweep.main([grid(), *where]) == 1
    for seed in (0, 1):
        assert (
            "killed by SIGKILL; memory may have run out"
            in (tmp_path / f"runs/small/seed{seed}.error").read_text()
        )
