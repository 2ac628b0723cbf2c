"""The pictures of the pages that the package alone can draw: `make pictures`.

docs/planned_episodes.gif is what `worldjepa plan reacher-pretrained` leaves, docs/tasks.png two starts and
goals of every task. docs/pictures.json says what each was drawn from; tests/test_page.py fails where that is
no longer what is there, or where a picture is not the one that was drawn.
"""

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import chdir
from importlib.resources import files
from pathlib import Path
from typing import Any

import gymnasium
from matplotlib.figure import Figure
from task_table import HELD_OUT, RECIPES, options
from worldjepa.envs.tasks import TASKS

from worldjepa.cli import main as worldjepa
from worldjepa.data.environments import make_env
from worldjepa.data.episodes import collect_episode
from worldjepa.files import write_text
from worldjepa.recipes import load_config

DOCS = Path(__file__).parents[1] / "docs"
FILM, SHEET, DRAWN = DOCS / "planned_episodes.gif", DOCS / "tasks.png", DOCS / "pictures.json"
PLANNED = ("plan", "reacher-pretrained", "plan.rival_steps=0", "plan.bound_goals=0")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def sources() -> dict[str, str]:
    """By the name of a picture a digest of what it is drawn from."""
    tasks = {}
    for recipe in RECIPES:
        config = load_config(recipe, HELD_OUT)
        task = TASKS[gymnasium.spec(config.env.id.partition(":")[2]).kwargs["task"]]
        about = options(config, task)
        tasks[recipe] = {name: about[name] for name in ("env", "collect", "task")}
    weights = (files("worldjepa.pretrained") / "reacher" / "model.safetensors").read_bytes()
    return {FILM.name: digest(weights), SHEET.name: digest(json.dumps(tasks, sort_keys=True).encode())}


def draw_film() -> None:
    """In a folder of its own, so that neither data nor a run of the clone's come into it."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        assert worldjepa(PLANNED) == 0
        shutil.copyfile(Path("runs", PLANNED[1], "evaluation", "plan.gif"), FILM)


def draw_sheet() -> None:
    """Two starts and the goals 25 steps later of every task, as a model sees them."""
    rows = {"start": 25, "goal": 50, "start ": 150, "goal ": 175}
    figure = Figure(figsize=(2 * len(RECIPES), 8.6), layout="constrained")
    axes = figure.subplots(len(rows), len(RECIPES))
    for column, recipe in zip(axes.T, RECIPES, strict=True):
        config = load_config(recipe, HELD_OUT)
        env = make_env(config.env)
        frames = collect_episode(env, config.collect, 0)["pixels"]
        env.close()
        for axis, number in zip(column, rows.values(), strict=True):
            axis.imshow(frames[number], interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        column[0].set_title(recipe, fontsize=13)
    for axis, label in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(label, fontsize=13)
    figure.savefig(SHEET, dpi=64, metadata={"Software": None})


def main() -> None:
    draw_film()
    draw_sheet()
    about: dict[str, Any] = {
        name: {"from": source, "sha256": digest((DOCS / name).read_bytes())}
        for name, source in sources().items()
    }
    write_text(DRAWN, json.dumps(about, indent=1) + "\n")
    print(os.path.relpath(FILM), os.path.relpath(SHEET), sep="\n")


if __name__ == "__main__":
    main()
