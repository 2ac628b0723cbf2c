"""The pictures of the pages that the package alone can draw: `make pictures`.

docs/planned_episodes.gif is what `worldjepa plan reacher-pretrained` leaves, docs/planned_tasks.gif the
episodes of results/film.json (scripts/tasks_film.py) played again, docs/tasks.png two starts and goals of
every task, docs/tensorboard.png the scalars of results/dashboard/ as TensorBoard shows them (it needs
Chromium). docs/pictures.json says what each was drawn from; tests/test_page.py fails where that is
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

import dashboard_picture
import gymnasium
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from sweep_run import held
from task_table import HELD_OUT, RECIPES, options
from worldjepa.envs.tasks import TASKS

from worldjepa.cli import main as worldjepa
from worldjepa.data.environments import make_env
from worldjepa.data.episodes import collect_episode
from worldjepa.evaluation import dashboard
from worldjepa.evaluation.goals import without_counting
from worldjepa.evaluation.pictures import film, gif_bytes, tile
from worldjepa.files import whole, write_text
from worldjepa.metric_log import read_metrics
from worldjepa.recipes import load_config

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS.parent / "results"
FILM, TASKS_FILM, SHEET = DOCS / "planned_episodes.gif", DOCS / "planned_tasks.gif", DOCS / "tasks.png"
DRAWN = DOCS / "pictures.json"
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
    scalars = [read_metrics(path) for path in sorted(dashboard_picture.RESULTS.glob("*.jsonl"))]
    looks = {recipe: {name: about[name] for name in ("env", "task")} for recipe, about in tasks.items()}
    return {
        FILM.name: digest(weights),
        TASKS_FILM.name: _digest_of([looks, held(RESULTS / "film.json")]),
        SHEET.name: _digest_of(tasks),
        dashboard_picture.PICTURE.name: _digest_of([dashboard.LAYOUT, scalars]),
    }


def _digest_of(tree: Any) -> str:
    return digest(json.dumps(tree, sort_keys=True).encode())


def draw_film() -> None:
    """In a folder of its own, so that neither data nor a run of the clone's come into it."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        assert worldjepa(PLANNED) == 0
        shutil.copyfile(Path("runs", PLANNED[1], "evaluation", "plan.gif"), FILM)


def draw_tasks_film() -> None:
    """Every task's kept episode, played again: start, now, goal."""
    kept = held(RESULTS / "film.json")
    films = {recipe: played_again(recipe, kept[recipe]) for recipe in RECIPES}
    longest, columns = max(map(len, films.values())), 3
    pictures = []
    for t in range(0, longest, 2):
        cells = [_titled(film[min(t, len(film) - 1)], recipe) for recipe, film in films.items()]
        cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
        pictures.append(tile([cells[i : i + columns] for i in range(0, len(cells), columns)], gap=6))
    with whole(TASKS_FILM) as temporary:
        temporary.write_bytes(gif_bytes(pictures, fps=10))


def played_again(recipe: str, kept: dict[str, Any]) -> list[np.ndarray]:
    """The film of one episode.

    Raises:
        ValueError: its goal is not reached, or missed, as it was.
    """
    env = make_env(load_config(recipe).env)
    inner = without_counting(env)
    goal = inner.set_goal(np.array(kept["goal"]))
    inner.set_state(np.array(kept["start"]))
    frames, reached = [inner.render()], False
    for action in kept["actions"]:
        frame, _, reached, _, _ = inner.step(np.array(action))
        frames.append(frame)
    env.close()
    if reached != kept["reached"]:
        raise ValueError(
            f"{recipe}: played again, the episode ends otherwise; scripts/tasks_film.py keeps a new one"
        )
    return film([frames], goal[None], np.array([reached]), scale=2)


def _titled(picture: np.ndarray, title: str, height: int = 22) -> np.ndarray:
    """With a line of text above."""
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + height), "white")
    canvas.paste(Image.fromarray(picture), (0, height))
    ImageDraw.Draw(canvas).text((2, 3), title, fill="black", font_size=15)
    return np.asarray(canvas)


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
    # First, as Chromium may be missing.
    dashboard_picture.draw()
    draw_film()
    draw_tasks_film()
    draw_sheet()
    about: dict[str, Any] = {
        name: {"from": source, "sha256": digest((DOCS / name).read_bytes())}
        for name, source in sources().items()
    }
    write_text(DRAWN, json.dumps(about, indent=1) + "\n")
    print(*(os.path.relpath(DOCS / name) for name in about), sep="\n")


if __name__ == "__main__":
    main()
