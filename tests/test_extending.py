"""docs/extending.md: every block is short, runs as it is printed, and makes what the page says it makes."""

import importlib
import json
import math
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import worldjepa
from worldjepa.cli import main
from worldjepa.config import EnvConfig
from worldjepa.data.environments import make_env
from worldjepa.data.shards import Store
from worldjepa.recipes import load_config
from worldjepa.run import Run

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# By heading its blocks, each (kind, text).
SECTIONS = {
    part.split("\n", 1)[0]: BLOCK.findall(part) for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
# What a command is given besides, here: one worker is started faster than two.
BESIDE = {"collect": ["collect.workers=1"]}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_data: Path) -> Any:
    """A folder with the data of the recipe, in which modules are found, and out of which none stays."""
    shutil.copytree(tiny_data, tmp_path / "data" / "smoke")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


def run_section(title: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the blocks of a section from first to last; the names that its last code left."""
    names: dict[str, Any] = {}
    for kind, block in SECTIONS[title]:
        text = re.sub(r"\breacher\b", "smoke", block)
        if named := re.match(r"# (\w+\.py)\n", text):
            Path(named[1]).write_text(text, "utf-8")
            importlib.invalidate_caches()
        elif kind == "python":
            names = {"__name__": "__main__"}
            exec(compile(text, "docs/extending.md", "exec"), names)
        else:
            for line in text.splitlines():
                run_command(shlex.split(line, comments=True), monkeypatch)
    return names


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of a shell, in this process."""
    if words[0] == "export":
        return
    program, (verb, *others) = (words[:2], words[2:]) if words[0] == "python" else (words[:1], words[1:])
    arguments = [verb, *others, *BESIDE.get(verb, [])]
    if program == ["worldjepa"]:
        assert main(arguments) == 0, words
        return
    monkeypatch.setattr(sys, "argv", [program[1], *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(program[1], run_name="__main__")
    assert ended.value.code == 0, words


def losses(run: str) -> list[dict[str, float]]:
    """What was logged of a run's loss, all of it finite, up to the recipe's last step."""
    rows = [row for row in Run(run).metrics() if "train/loss" in row]
    assert rows[-1]["step"] == load_config("smoke").train.steps
    assert all(math.isfinite(value) for row in rows for value in row.values())
    return rows


def test_every_block_is_short_and_of_a_kind_that_is_run() -> None:
    blocks = [block for section in SECTIONS.values() for block in section]
    assert PAGE.count("```") == 2 * len(blocks)
    assert {kind for kind, _ in blocks} == {"python", "sh"}
    assert {block: n for _, block in blocks if (n := block.count("\n")) >= 30} == {}
    lines = [line for kind, block in blocks if kind == "sh" for line in block.splitlines()]
    assert [line for line in lines if not re.match(r"(worldjepa|python|export) ", line)] == []
    assert list(SECTIONS) == ["An environment", "Data", "An encoder", "A solver", "A loss"]


def test_an_environment_is_drawn_collected_trained_on_and_planned_in(monkeypatch: pytest.MonkeyPatch) -> None:
    run_section("An environment", monkeypatch)
    env = make_env(EnvConfig(id="puck_goals:PuckWithGoals-v0", image_size=64))
    frame, info = env.reset(seed=3)
    rows, columns = np.nonzero(frame[..., 0])
    assert frame.shape == (64, 64, 3)
    # The middle of what is white, as far as the table's edge does not cut it off.
    seen = np.array([columns.mean(), rows.mean()]) / 63
    assert np.clip(info["qpos"], 0.1, 0.9) == pytest.approx(seen, abs=0.1)
    store = Store("data/puck")
    assert store.lengths.tolist() == [60] * 6
    assert store.has("qpos")
    assert store.has("state")
    losses("runs/puck")
    plan = json.loads(Path("runs/puck/evaluation/plan.json").read_text("utf-8"))
    assert plan["environment"] == "puck_goals:PuckWithGoals-v0"
    assert plan["rows"]["world model"]["goals"] == 4

    # A goal's picture is drawn, and the present state stays.
    puck, present, goal = env.unwrapped, env.unwrapped.get_state(), np.array([0.25, 0.5])
    picture = puck.set_goal(goal)
    assert (puck.get_state() == present).all()
    assert puck.set_goal(goal, draw=False) is None
    puck.set_state(goal)
    assert (puck.render() == picture).all()
    assert puck.goal_error(np.add(goal, [0.015, 0]), goal) == pytest.approx([0.5, 0])


def test_data_of_arrays_and_of_a_file_become_a_store_and_are_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_section("Data", monkeypatch)
    lamp = Store("data/lamp")
    assert lamp.lengths.tolist() == [100] * 40
    assert len(lamp.shards) == 2
    assert lamp.about == {"source": "a lamp"}
    everything = np.array([7]), np.arange(100)[None]
    pixels, light, action = (lamp.gather(name, *everything)[0] for name in ("pixels", "qpos", "action"))
    assert (pixels[:, 24, 24, 0] == (255 * light[:, 0]).astype(np.uint8)).all()
    assert (pixels[:, 0] == 0).all()
    # Row t's action leads to row t+1, but where the lamp is full on or off.
    moved, free = np.diff(light[:, 0]), (light[1:, 0] > 0) & (light[1:, 0] < 1) & (light[:-1, 0] % 1 > 0)
    assert free.any()
    assert moved[free] == pytest.approx(0.1 * action[:-1, 0][free], abs=1e-5)
    losses("runs/lamp")

    file, shards = Store("recorded.h5"), Store("data/recorded")
    assert file.lengths.tolist() == shards.lengths.tolist()
    for episode, length in enumerate(file.lengths):
        rows = np.array([episode]), np.arange(length)[None]
        for name in ("pixels", "action"):
            assert (file.gather(name, *rows) == shards.gather(name, *rows)).all()
    losses("runs/recorded")


def test_an_encoder_is_named_on_the_command_line_and_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    run_section("An encoder", monkeypatch)
    losses("runs/points")
    assert Run("runs/points").config.model.encoder.name == "points"
    model = worldjepa.load("runs/points")
    encoder = model.encoder.backbone
    assert type(encoder).__name__ == "Points"
    assert model.encoder.num_features == 128
    # Moved to the right a picture's features move in width and stay in height, where no edge is near.
    spot = torch.zeros(2, 3, 64, 64)
    spot[0, :, 28:34, 20:26] = spot[1, :, 28:34, 40:46] = 3
    with torch.no_grad():
        moved = (encoder(spot)[1] - encoder(spot)[0]).abs()
    assert moved[64:].max() > 100 * moved[:64].max()


def test_a_solver_finds_what_is_cheap_and_its_agent_plays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "smoke", "train.evaluate_goals=0"]) == 0
    names = run_section("A solver", monkeypatch)
    assert re.search(r"^\d+ of 20 goals, 0\.\d{3} s for a decision$", capsys.readouterr().out, re.MULTILINE)
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])
    solver = names["Climb"](low, high, seed=0)
    best = torch.tensor([0.5, 7.0])
    plan = solver.solve(lambda plans: (plans - best).square().sum((2, 3)), solver.centre(3, 2))
    assert plan.shape == (3, 2, 2)
    assert ((low <= plan) & (plan <= high)).all()
    # The best within the bounds is (0.5, 4); it began at (0, 2).
    assert (plan - torch.tensor([0.5, 4.0])).abs().max() < 0.5


def test_a_loss_is_trained_with_logged_and_leaves_a_world_model(monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_section("A loss", monkeypatch)
    for row in losses("runs/straight"):
        parts = row["train/prediction"] + 0.1 * row["train/sigreg"] + 0.1 * row["train/bend"]
        assert row["train/loss"] == pytest.approx(parts, rel=1e-2)
    assert any("latent/rank" in row for row in Run("runs/straight").metrics())
    loaded, trained = worldjepa.load("runs/straight"), names["model"]
    assert type(loaded).__name__ == "WorldModel"
    for name, weights in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weights), name
    # Latents on a line at even steps do not bend.
    even = torch.arange(4.0)[None, :, None].expand(2, 4, trained.latent)
    monkeypatch.setattr(trained, "encode", lambda pixels: even)
    actions = torch.zeros(2, 3, trained.frameskip * trained.action_dim)
    assert trained.loss({"pixels": torch.zeros(2), "action": actions})["bend"] == 0
