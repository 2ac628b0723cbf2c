"""Folders of small valid files, one for each kind of thing that commands read; tests copy and spoil them."""

import gzip
import json
import math
import shutil
import struct
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from test_hugging_face import rows, write
from test_lerobot import write_three, write_two
from test_lewm_weights import published

from worldjepa.cli import main
from worldjepa.config import Config
from worldjepa.data.environments import described
from worldjepa.data.image_sources import load_images
from worldjepa.data.provenance import Origin
from worldjepa.data.rewrite import write_file
from worldjepa.data.shards import Store, shard_path, write_shard
from worldjepa.data.views import MultiCrop
from worldjepa.data.windows import Windows
from worldjepa.files import write_text
from worldjepa.image_baselines import build_image_model
from worldjepa.optimizer import build_optimizer
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import Batches
from worldjepa.world_baselines import build_world_model

ROOT = Path(__file__).parents[1]
SIDE, LENGTH = 16, 30
# What makes a training take a second.
QUICK = ["train.steps=3", "train.batch_size=4", "train.evaluate_goals=0"]
WORLD = [f"env.image_size={SIDE}", *QUICK]


def episode(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "pixels": rng.integers(0, 256, (LENGTH, SIDE, SIDE, 3), np.uint8),
        "action": rng.uniform(-1, 1, (LENGTH, 2)).astype(np.float32),
        "qpos": rng.normal(size=(LENGTH, 2)),
        "qvel": rng.normal(size=(LENGTH, 2)),
    }


def data(folder: Path) -> None:
    """Shards, a merged file, one as stable-worldmodel writes it; a recipe."""
    about = {
        "env": described(load_config("smoke", WORLD).env),
        "collect": {"behaviour": "uniform", "seed": 0},
    }
    (folder / "data").mkdir()
    for shard in range(2):
        write_shard(shard_path(folder / "data", shard), [episode(2 * shard + i) for i in range(2)], about)
    episodes = [episode(i) for i in range(2)]
    write_file(folder / "merged.h5", episodes, Origin(about, {}), 2 * LENGTH, "gzip")
    write_file(folder / "theirs.h5", episodes, None, None)
    write_file(folder / "other.h5", [episode(9), episode(8)], None, 2 * LENGTH)
    (folder / "other.bin").write_bytes(bytes(10**5))
    shutil.copy(ROOT / "configs" / "smoke.yaml", folder / "recipe.yaml")


def world(folder: Path) -> None:
    """The same, and a run on the shards that has made two steps of three."""
    data(folder)
    config = load_config("smoke", [*WORLD, f"data.path={folder}/data", f"run={folder}/run"])
    windows = Windows(Store(folder / "data"), np.arange(4), config.data.context + 1, config.data.frameskip)
    trained(config, build_world_model(config, 2), windows)


def images(folder: Path) -> None:
    """Pictures of two classes, and such a run on them, which was looked at."""
    for number in range(12):
        path = folder / "pictures" / ("cats" if number < 6 else "dogs") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    words = [f"run={folder}/seen", f"images.data={folder}/pictures", "data.held_out=0.34", *QUICK]
    config = load_config("images_smoke", words)
    train, _ = load_images(config.images.data)
    trained(config, build_image_model(config, 2), MultiCrop(train, config.images, torch.device("cpu")))
    assert main(["geometry", f"{folder}/seen"]) == 0


def trained(config: Config, model: Any, batches: Batches) -> None:
    """A run folder that training left after two steps."""
    run, optimizer = Run.create_or_open(config), build_optimizer(model, config.train)
    for step, batch in zip((1, 2), batches.batches(4, 0), strict=False):
        loss = model.loss(batch)["loss"]
        loss.backward()
        optimizer.step()
        logged = {"train/loss": loss.item(), "train/sigreg": 1.5, "latent/rank": 7.5, "latent/std_mean": 0.9}
        run.log(step, logged | {"perf/frames_per_second": 100.0})
    state = {"step": 2, "total": 3, "best": -math.inf, "optimizer": optimizer.state_dict()}
    run.save_checkpoint(model, state)
    about = {"parameters": "0.1M", "data": "12 windows", "device": "cpu", "precision": "float32"}
    write_text(run.path / "about.json", json.dumps(about | {"processes": 1, "versions": {"torch": "2.6"}}))
    run.close()


def recorded(folder: Path) -> None:
    """A folder of frames with an npz, and a video with a csv."""
    rng = np.random.default_rng(0)
    frames, actions = rng.integers(0, 256, (12, SIDE, SIDE, 3), np.uint8), rng.normal(size=(12, 2))
    (folder / "recorded" / "a").mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "recorded" / "a" / f"{number}.png")
    np.savez(folder / "recorded" / "a.npz", action=actions, reward=np.arange(12.0))
    video = folder / "recorded" / "b.mp4"
    imageio.imwrite(video, frames, fps=10, codec="libx264", macro_block_size=2, plugin="FFMPEG")
    lines = [f"{x!r},{y!r},{i}" for i, (x, y) in enumerate(actions.tolist())]
    (folder / "recorded" / "b.csv").write_text("\n".join(["action_x,action_y,reward", *lines]))


def robots(folder: Path) -> None:
    """LeRobot's layouts, with videos and with pictures in the rows."""
    write_two(folder / "two", kind="image")
    write_three(folder / "three")


def hub(folder: Path) -> None:
    """Hugging Face's files."""
    write(folder / "parquet" / "train-0.parquet", rows([10 * i for i in range(12)]))
    write(folder / "arrow" / "train-0.arrow", rows([10 * i for i in range(12)]))


def fashion(folder: Path) -> None:
    """MNIST's files, gzipped as Debian has them, and as torchvision has them."""
    rng = np.random.default_rng(0)
    for split in ("train", "t10k"):
        for name, array in (
            ("images", rng.integers(0, 256, (12, SIDE, SIDE), np.uint8)),
            ("labels", np.arange(12, dtype=np.uint8) % 10),
        ):
            header = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
            path = folder / "fashion-mnist" / f"{split}-{name}-idx{array.ndim}-ubyte.gz"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(gzip.compress(header + array.tobytes()))
            plain = folder / "mnist" / "MNIST" / "raw" / path.stem
            plain.parent.mkdir(parents=True, exist_ok=True)
            plain.write_bytes(header + array.tobytes())


def lewm(folder: Path) -> None:
    """LeWM's weights in both forms."""
    torch.save(published(), folder / "lewm.pt")
    save_file(published(), folder / "lewm.safetensors")


def sweep(folder: Path) -> None:
    """A grid, and what a run of it left."""
    (folder / "reacher.yaml").write_text((ROOT / "scripts" / "grids" / "reacher.yaml").read_text("utf-8"))
    (folder / "results" / "reacher").mkdir(parents=True)
    for path in sorted((ROOT / "results" / "reacher").glob("*.json"))[:1]:
        shutil.copy(path, folder / "results" / "reacher")
