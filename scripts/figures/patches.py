"""What the patches of a ViT see: their principal components as colours, and the class token's attention as
masks, on images and on episodes of a dm-control task, where MuJoCo says what is there (LeJEPA, section 6.5).

    python scripts/figures/patches.py RUN
    python scripts/figures/patches.py RUN env.id=worldjepa.envs:worldjepa/Walker-v0 --frames 50

RUN is a run of a world model or of an image encoder whose encoder is a timm ViT with a class token. Its
folder gets evaluation/patches.json, .npz, .png, .gif and .mp4; what is there is not computed again.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _figure import ACCENT, INK, QUIET
from matplotlib.figure import Figure

from worldjepa.commands.train import open_images
from worldjepa.config import Config
from worldjepa.data.environments import make_env
from worldjepa.data.episodes import collect_episode
from worldjepa.encoders import Encoder
from worldjepa.errors import UserError
from worldjepa.evaluation.few_shot import interval
from worldjepa.evaluation.figures import save
from worldjepa.evaluation.image_probes import fit
from worldjepa.evaluation.patches import (
    Patches,
    attention_masks,
    best_overlap,
    compare_with_segmentation,
    component_colours,
    look,
)
from worldjepa.evaluation.pictures import enlarge, tile, write_film
from worldjepa.image_jepa import ImageJEPA
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import choose_device

BATCH, IMAGES, FPS = 64, 6, 20


def look_at(encoder: Encoder, pixels: np.ndarray) -> Patches:
    """`look` at images (N, H, W, C) uint8, some at a time."""
    device = encoder.mean.device
    parts = [look(encoder, torch.from_numpy(part).to(device)) for part in _parts(pixels)]
    return Patches(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _parts(pixels: np.ndarray) -> list[np.ndarray]:
    return np.array_split(pixels, -(-len(pixels) // BATCH))


def play(config: Config, episodes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Episodes that no training saw: of each its frames (T, H, W, 3) uint8 and what moves in them (T, H, W)
    bool.

    Raises:
        UserError: the environment does not tell what moves.
    """
    env: Any = make_env(config.env)
    own = env.unwrapped
    if not hasattr(own, "moving_parts"):
        raise UserError(f"env.id={config.env.id}: has no moving_parts(); name one of worldjepa.envs")
    found = []
    for number in range(episodes):
        columns = collect_episode(env, config.collect, number)
        truth = []
        for state in columns["state"]:
            own.set_state(state)
            truth.append(own.moving_parts())
        found.append((columns["pixels"], np.stack(truth)))
    env.close()
    return found


def judge(
    encoder: Encoder, episodes: list[tuple[np.ndarray, np.ndarray]], share: float
) -> tuple[dict[str, Any], Patches]:
    """The head is chosen on the first episode, its masks are judged on the others.

    Returns:
        "head"; "overlap" and "steadiness", each "mean", "low" and "high", Student's 95% interval over
        episodes; "frames", the overlap of each frame of each episode; and what is seen of the second episode.
    """
    first, *others = ((look_at(encoder, pixels), truth) for pixels, truth in episodes)
    head = compare_with_segmentation(first[0].attention, first[1], share)["head"]
    found = [compare_with_segmentation(seen.attention, truth, share, head) for seen, truth in others]
    row = {"head": head, "frames": [f["overlap"].tolist() for f in found]}
    row["overlap"] = mean_and_interval([f["overlap"].mean() for f in found])
    row["steadiness"] = mean_and_interval([f["steadiness"] for f in found])
    return row, others[0][0]


def mean_and_interval(values: list[float]) -> dict[str, float]:
    """Of shares, which lie between 0 and 1."""
    low, high = np.clip(interval(values), 0, 1).tolist()
    return {"mean": float(np.mean(values)), "low": low, "high": high}


def evaluate(config: Config, run: Run, episodes: int, share: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What patches.json says, and the arrays that the pictures need."""
    device = choose_device(config.train)
    model = run.load_model(device)
    played = play(config, episodes)
    torch.manual_seed(config.train.seed)
    untrained = Encoder(run.config.model.encoder, config.env.image_size).to(device).eval()
    own, seen = judge(model.encoder, played, share)
    before, _ = judge(untrained, played, share)
    measured = [truth for _, truth in played[1:]]
    grid = seen.attention.shape[-2:]
    steady = [
        compare_with_segmentation(seen.attention, truth, share)["steadiness_of_truth"] for truth in measured
    ]
    limits = {
        "whole frame": mean_and_interval([truth.mean() for truth in measured]),
        "best mask of patches": mean_and_interval([best_overlap(truth, grid).mean() for truth in measured]),
    }
    results = {
        "environment": config.env.id,
        "patches": list(grid),
        "rows": {"trained": own, "untrained": before},
        "limits": limits,
        "steadiness_of_truth": mean_and_interval(steady),
    }
    frames, truth = played[1]
    arrays = {
        "frames": frames,
        "truth": truth,
        "colours": component_colours(seen.tokens),
        "masks": attention_masks(seen.attention[:, own["head"]], share),
    }
    if isinstance(model, ImageJEPA):
        arrays |= look_at_images(config, model, share)
    return results, arrays


def look_at_images(config: Config, model: ImageJEPA, share: float) -> dict[str, np.ndarray]:
    """Held-out images (n, H, W, C) uint8 in the model's size with their colours and masks, those of all
    heads' attention together, (n, h, w, ...)."""
    _, images = open_images(config)
    chosen = np.random.default_rng(0).permutation(len(images))[:IMAGES]
    pixels = fit(images.batch(chosen)["pixels"], model.image_size).round().to(torch.uint8).numpy()
    seen = look_at(model.encoder, pixels)
    masks = attention_masks(seen.attention.mean(1), share)
    return {"images": pixels, "image_colours": component_colours(seen.tokens), "image_masks": masks}


def shown(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture (h, w, 1 or 3) uint8 as RGB, enlarged to about `side` pixels."""
    rgb = np.broadcast_to(picture, (*picture.shape[:2], 3))
    return enlarge(rgb, max(1, side // len(picture)))


def cut_out(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture (H, W, C) uint8, faint where a mask (h, w) of patches, or of pixels, is not."""
    mask = enlarge(mask, len(picture) // len(mask))
    return np.where(mask[..., None], picture, 255 - (255 - picture) // 4).astype(np.uint8)


def cells(picture: np.ndarray, colours: np.ndarray, *masks: np.ndarray) -> list[np.ndarray]:
    """Side by side: the picture, its patches' colours, and what each mask shows of it."""
    side = max(128, len(picture))
    side -= side % len(picture)
    row = [picture, enlarge(colours, len(picture) // len(colours)), *(cut_out(picture, m) for m in masks)]
    return [shown(cell, side) for cell in row]


def draw(path: Path, results: dict[str, Any]) -> list[Path]:
    """patches.png, .mp4 and .gif beside patches.json, from it and patches.npz."""
    with np.load(path.with_suffix(".npz")) as file:
        arrays = dict(file)
    names = ("frames", "colours", "masks", "truth")
    film = [tile([cells(*values)], gap=4) for values in zip(*(arrays[name] for name in names), strict=True)]
    rows = [("picture, components, attention, what moves", film[:: max(1, len(film) // 4)][:4])]
    if "images" in arrays:
        names = ("images", "image_colours", "image_masks")
        pictures = zip(*(arrays[name] for name in names), strict=True)
        rows.append(
            ("picture, components, attention", [tile([cells(*values)], gap=4) for values in pictures])
        )
    figure = Figure(figsize=(9, 5.5 if len(rows) == 1 else 9.5), layout="constrained")
    *sheets, curve = figure.subplots(
        len(rows) + 1, 1, height_ratios=[*(len(pictures) for _, pictures in rows), 3.5]
    )
    for axis, (title, pictures) in zip(sheets, rows, strict=True):
        # Two beside one another.
        axis.imshow(tile([pictures[i : i + 2] for i in range(0, len(pictures), 2)], gap=8))
        axis.set_title(title, loc="left", fontsize=10)
        axis.axis("off")
    for (name, row), colour in zip(results["rows"].items(), (INK, QUIET), strict=True):
        curve.plot(row["frames"][0], color=colour, label=name)
    for (name, row), style in zip(results["limits"].items(), (":", "--"), strict=True):
        curve.axhline(row["mean"], color=ACCENT, linestyle=style, linewidth=1, label=name)
    curve.set(xlabel="frame", ylabel="overlap with what moves", ylim=(0, None))
    curve.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.2))
    curve.spines[["top", "right"]].set_visible(False)
    return [save(figure, path.with_suffix(".png")), *write_film(film, path, FPS)]


def table(results: dict[str, Any]) -> str:
    """patches.json in Markdown."""

    def cell(row: dict[str, float]) -> str:
        return f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"

    lines = ["| masks | overlap with what moves | steadiness |", "|---|---|---|"]
    for name, row in results["rows"].items():
        label = f"{name}, head {row['head']}"
        lines.append(f"| {label} | {cell(row['overlap'])} | {cell(row['steadiness'])} |")
    whole, best = results["limits"].values()
    lines.append(f"| whole frame | {cell(whole)} | 1 |")
    lines.append(f"| best of whole patches | {cell(best)} | |")
    lines.append(f"| MuJoCo's own | 1 | {cell(results['steadiness_of_truth'])} |")
    count, frames = len(results["rows"]["trained"]["frames"]), len(results["rows"]["trained"]["frames"][0])
    name = results["environment"].split("/")[-1]
    lines.append(
        f"\n{name}, {count} episodes of {frames} frames, {' × '.join(map(str, results['patches']))} patches; "
        "intersection over union, mean and 95% interval over episodes; steadiness: a frame's mask with the "
        "next one's. The head is chosen on one more episode."
    )
    return "\n".join(lines)


def configured(folder: Path, words: list[str], frames: int) -> Config:
    """The run's configuration for episodes of frames that its encoder takes, from a seed of their own."""
    config = load_config(f"{folder}/", words)
    size = config.images.global_size if config.mode == "images" else config.env.image_size
    env = dataclasses.replace(config.env, image_size=size)
    collect = dataclasses.replace(
        config.collect, seed=config.collect.seed + 1, episode_length=frames, behaviour="uniform"
    )
    return dataclasses.replace(config, env=env, collect=collect)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument(
        "options", nargs="*", metavar="name=value", help="as of the commands: env.id, images.data"
    )
    parser.add_argument("--episodes", type=int, default=5, help="of which the first one chooses the head")
    parser.add_argument("--frames", type=int, default=100, help="of each episode")
    parser.add_argument("--share", type=float, default=0.6, help="of the attention that a mask holds")
    chosen = parser.parse_args(words)
    if chosen.episodes < 2 or chosen.frames < 2 or not 0 < chosen.share < 1:
        parser.error("needs --episodes and --frames of at least 2, and a --share between 0 and 1")
    try:
        run = Run(chosen.run)
        config = configured(chosen.run, chosen.options, chosen.frames)
        run.choice = config.checkpoint
        asked = {
            "env": dataclasses.asdict(config.env),
            "images": config.images.data,
            "episodes": chosen.episodes,
            "frames": chosen.frames,
            "share": chosen.share,
        }
        about = {"options": asked, "checkpoint": run.chosen_step()}
        results = run.result("patches", about)
        if results is None:
            found, arrays = evaluate(config, run, chosen.episodes, chosen.share)
            results = {**about, **found}
            run.evaluation.mkdir(exist_ok=True)
            np.savez_compressed(run.evaluation / "patches.npz", **arrays)
            run.write_json("patches", results)
    except UserError as error:
        parser.exit(2, f"patches.py: {error}\n")
    path = run.evaluation / "patches.json"
    print(table(results), path, *draw(path, results), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
