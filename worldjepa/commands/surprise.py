"""`worldjepa surprise`: whether a trained model is surprised by what can not happen, and by what can."""

from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import torch

from ..config import Config
from ..evaluation.damage import told_from
from ..evaluation.goals import without_counting
from ..evaluation.perturbations import draw, painter, teleports
from ..evaluation.stretches import sample_stretches
from ..evaluation.surprise import summarise, surprise
from ..evaluation.surprise_figures import surprise_figure, surprise_table
from ..files import write_arrays
from ..run import Run
from ..trainer import choose_device
from .train import data_env, open_store, require_actions

# Of an episode in the figure, how many frames before and after the perturbed one.
SHOWN = 2, 6


def run(config: Config) -> int:
    target = Run(config.run, config.checkpoint, config.data.path)
    device = choose_device(config.train)
    about = target.about(config, config.surprise)
    results = target.result("surprise", about)
    if results is None:
        results, arrays = _evaluate(config, target, device)
        results = about | results
        write_arrays(target.evaluation / "surprise.npz", arrays)
        path = target.write_json("surprise", results)
        _to_tensorboard(target, results, surprise_figure(path), about["checkpoint"])
    path = target.evaluation / "surprise.json"
    with told_from(path):
        print(surprise_table(results))
        print(path, surprise_figure(path), sep="\n")
    return 0


def _evaluate(
    config: Config, target: Run, device: torch.device
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    model, store, options = target.load_world_model(device), open_store(config), config.surprise
    at, frameskip = options.before, config.data.frameskip
    steps = (options.before + options.after) * frameskip
    env = data_env(config, store)
    require_actions(model, store, target)
    stretches = sample_stretches(config, store, env, options.episodes, steps, options.seed)
    shown = without_counting(env)
    targets, jumps = teleports(env.unwrapped, stretches, at, frameskip, options.seed)
    paint = painter(config.env, shown, options.colour, options.seed)
    frames = draw(shown, stretches, targets, paint, at, frameskip)
    # One block of actions for each frame.
    blocks = stretches.actions.reshape(len(stretches), steps // frameskip, -1)
    surprises = {name: surprise(model, each, blocks) for name, each in frames.items()}
    first, last = max(0, at - SHOWN[0]), at + SHOWN[1] + 1
    results = {
        "environment": config.env.id,
        "episodes": len(stretches),
        "new_episodes": stretches.new,
        "frameskip": frameskip,
        "film_from": first - at,
        **summarise(surprises, at, jumps),
    }
    arrays = {
        "surprises": np.stack(list(surprises.values())),
        "film": np.stack([each[0, first:last] for each in frames.values()]),
    }
    return results, arrays


def _to_tensorboard(target: Run, results: dict[str, Any], figure: Path, step: int) -> None:
    for name, row in results["rows"].items():
        for key in ("at", "auc", "p"):
            if key in row:
                tag = f"eval/surprise_{key}_{name.replace(' ', '_')}"
                target.writer.add_scalar(tag, row[key], step)
    target.writer.add_image("eval/surprise", imageio.imread(figure)[..., :3], step, dataformats="HWC")
    target.close()
