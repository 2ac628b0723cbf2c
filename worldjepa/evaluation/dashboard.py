"""TensorBoard's page on a run beside its plain scalars: charts put together, histograms of slices, the
options that a sweep compares, latents as points with thumbnails, the verdict (docs/tensorboard.md)."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from ..config import Config
from ..distributed import rank
from ..options import leaves
from ..run import FREE_OPTIONS, Run
from .gaussianity import random_basis
from .image_probes import fit
from .verdict import Judge, failure, verdict

# TensorBoard's page "custom scalars": what belongs in one chart, by regular expressions of tags.
LAYOUT = {
    "training": {
        "the loss and its parts": [
            "train/(loss|prediction|invariance|variance|covariance|smoothness|inverse|reconstruction)$"
        ],
        "SIGReg, and what a perfect Gaussian gives": ["train/sigreg$", "train/sigreg_floor$"],
        "norm of the gradient, before it is clipped": ["train/grad_norm$"],
        "learning rate": ["train/lr$"],
    },
    "collapse": {
        "RankMe of held-out latents (images: and of features)": ["latent/rank$", "latent/feature_rank$"],
        "standard deviation of an axis, mean and least; the target is 1": ["latent/std_(mean|min)$"],
        "straightness: 1 a line, 0 a random walk, -0.5 no order": ["latent/straightness$"],
        "1 where it collapsed, or diverged": ["latent/collapsed$", "train/diverged$"],
    },
    "speed": {
        "frames a second": ["perf/frames_per_second$"],
        "share of a step in which it waits for data": ["perf/data_share(_max)?$"],
    },
    "evaluation": {
        "rollout error by horizon": [r"eval/rollout_error_\d+$"],
        "what a rollout gains over standing still, by horizon": [r"eval/rollout_gain_\d+$"],
        "goals reached, %": ["eval/success$"],
        "median final distance to the goal, in tolerances": ["eval/median_final_error$"],
        "probes: R², or % right": ["probe/"],
    },
}
# What a sweep's page sets beside the options.
COMPARED = {
    "world_model": ("eval/success", "eval/median_final_error", "latent/rank", "latent/straightness"),
    "images": ("probe/knn", "latent/rank", "latent/feature_rank"),
}
SHOWN_SLICES, EDGES = 4, np.linspace(-5, 5, 61)
THUMBNAIL = 48


def set_up(run: Run, config: Config) -> None:
    """The layout of charts, and the run's options for the page that compares runs."""
    if rank() > 0:
        return
    charts = {
        category: {title: ["Multiline", tags] for title, tags in kinds.items()}
        for category, kinds in LAYOUT.items()
    }
    run.writer.add_custom_scalars(charts)
    metrics = dict.fromkeys(("train/loss", *COMPARED[config.mode]), 0.0)
    # SummaryWriter.add_hparams would open a run of its own for them.
    for summary in hparams(compared_options(config), metrics):
        run.writer._get_file_writer().add_summary(summary)


def compared_options(config: Config) -> dict[str, Any]:
    """Options that make the weights, by name: those that may not change when a run goes on, and of the other
    mode none."""
    other = ("env.", "data.frameskip", "data.context") if config.mode == "images" else ("images.",)
    values = leaves(dataclasses.asdict(config))
    return {name: value for name, value in values.items() if not name.startswith((*FREE_OPTIONS, *other))}


def show_slices(run: Run, z: Tensor, step: int) -> None:
    """Histograms of latents (N, D) along a few directions that stay the same, and of as many quantiles of
    N(0, 1), in the same bins; what lies outside is counted in the last one."""
    directions = random_basis(z.shape[1], seed=0)[:, :SHOWN_SLICES]
    slices = (z.cpu().double() @ directions).T.numpy()
    gaussian = ndtri((np.arange(len(z)) + 0.5) / len(z))
    named = {"gaussian": gaussian, **{str(i): values for i, values in enumerate(slices, 1)}}
    for name, values in named.items():
        inside = np.clip(np.nan_to_num(values), EDGES[0], EDGES[-1])
        run.writer.add_histogram(f"slices/{name}", inside, step, bins=EDGES)


def watch_verdict(run: Run) -> Callable[[Any, int], None]:
    """At every evaluation whether the run has collapsed or diverged, as scalars; and in words where that has
    changed. To come after what logs the latents."""
    judge = Judge(run.config)
    told = ""

    def callback(_: Any, step: int) -> None:
        nonlocal told
        # What was logged before this process began: after that, the last values are all that a judge needs.
        for row in run.metrics() if judge.step == 0 else ({"step": step, **run.latest},):
            judge.read(row)
        found = {"train/diverged": judge.diverged, "latent/collapsed": judge.collapsed}
        run.log(step, {name: float(bool(words)) for name, words in found.items()})
        words = judge.diverged or judge.collapsed
        if words != told:
            tell(run, words, step)
        told = words

    return callback


def tell(run: Run, words: str, step: int) -> None:
    """A verdict as text; "" is a healthy run's."""
    run.writer.add_text("verdict", words or "Neither collapsed nor diverged.", step)


def conclude(run: Run) -> str:
    """The verdict on a run whose training ends, for whoever started it; in TensorBoard too, where no
    evaluation can have said it."""
    words, step = verdict(run), max((int(row["step"]) for row in run.metrics()), default=0)
    if failure(run, step):
        run.writer.add_scalar("train/diverged", 1, step)
        tell(run, words, step)
    elif not words:
        tell(run, words, step)
    return words


def show_points(run: Run, z: np.ndarray, columns: dict[str, np.ndarray], pixels: Tensor, step: int) -> None:
    """Latents (N, D) for the page "projector", each with its frame (H, W, C) uint8 of `pixels` (N, ...) as a
    thumbnail and with its entry of each column (N,)."""
    tag = "latents"
    shutil.rmtree(Path(run.writer.log_dir) / f"{step:05d}", ignore_errors=True)
    size = min(THUMBNAIL, pixels.shape[1])
    images = (fit(pixels, size).float() / 255).clamp(0, 1).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
    rows = [[_label(value) for value in row] for row in zip(*columns.values(), strict=True)]
    # With one column the projector reads no heading.
    header = list(columns) if len(columns) > 1 else None
    metadata: Any = rows if header else [row[0] for row in rows] or None
    run.writer.add_embedding(torch.from_numpy(z), metadata, images, step, tag, header)


def _label(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, np.floating | float) else str(value)
