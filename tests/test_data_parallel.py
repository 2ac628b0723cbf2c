"""Several processes make the training steps of one: the trainer whole, world models and images, and torchrun.

A world size is spawned once: its ranks train every case into run folders, compared with one process's.
"""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moving_dot import dot_windows, write_dots
from torch import Tensor, nn
from toy_model import options, send

from worldjepa.cli import main
from worldjepa.config import Config, TrainConfig
from worldjepa.data.images import from_arrays
from worldjepa.data.order import WHOLE, Part, rows
from worldjepa.data.views import MultiCrop
from worldjepa.data.windows import Windows
from worldjepa.distributed import global_mean, process_group, rank
from worldjepa.errors import UserError
from worldjepa.image_jepa import ImageJEPA
from worldjepa.profiling import Profile
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import train
from worldjepa.world_model import WorldModel

WORLDS = [2, pytest.param(4, marks=pytest.mark.slow)]
STEPS = 20
NO_DROPOUT = ["model.predictor.dropout=0", "train.batch_size=16"]
# Tolerance and learning rate. Where float32's rounding flips many ReLUs at once (one dark background, a
# residual net on sixteen tiny images), it grows tenfold from step to step, in one process as in several: so
# float32 is compared on frames of noise, at a lower rate, with the conv encoder.
DTYPES = {"float64": (torch.float64, 1e-9, 1e-3), "float32": (torch.float32, 1e-5, 1e-4)}


class Noise:
    """Endless batches of random frames and actions, in the shapes of windows."""

    def batches(
        self, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE
    ) -> Iterator[dict[str, Tensor]]:
        for number in itertools.count(first):
            draw = torch.Generator().manual_seed(number % 5)
            pixels = torch.randint(0, 256, (batch_size, 4, 32, 32, 3), dtype=torch.uint8, generator=draw)
            batch = {"pixels": pixels, "action": torch.randn(batch_size, 3, 10, generator=draw)}
            yield {name: value[rows(batch_size, part)] for name, value in batch.items()}


class Slow(nn.Module):
    """Mean brightness over all ranks' frames; the second rank dawdles."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        time.sleep(0.2 if rank() == 1 else 0.0)
        return {"loss": global_mean(self.weight * batch["pixels"].float())}


class In:
    """Batches with their floating numbers in another dtype."""

    def __init__(self, data: Any, dtype: torch.dtype):
        self.data, self.dtype = data, dtype

    def batches(
        self, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE
    ) -> Iterator[dict[str, Tensor]]:
        for batch in self.data.batches(batch_size, seed, first, part):
            yield {n: v.to(self.dtype) if v.is_floating_point() else v for n, v in batch.items()}


def options_of(mode: str, folder: Path, name: str) -> Config:
    recipe = "smoke" if mode == "world_model" else "images_smoke"
    encoder = "resnet" if (mode, name) == ("images", "float64") else "conv"
    return load_config(recipe, [f"run={folder}", f"model.encoder.name={encoder}", *NO_DROPOUT])


def job(mode: str, folder: Path, dots: Windows, name: str) -> tuple[nn.Module, In, Run]:
    """A model of random weights, its data, and its run folder."""
    config, dtype = options_of(mode, folder, name), DTYPES[name][0]
    torch.manual_seed(3)
    if mode == "world_model":
        model, data = WorldModel(config, action_dim=2), dots if name == "float64" else Noise()
    else:
        pixels = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 1), np.uint8)
        model = ImageJEPA(config)
        data = MultiCrop(from_arrays("these", pixels), config.images, torch.device("cpu"))
    run = Run.create_or_open(config) if rank() == 0 else Run(folder)
    return model.to(dtype), In(data, dtype), run


def schedule(name: str) -> TrainConfig:
    """The clip is one that is felt."""
    return options(steps=STEPS, batch_size=16, clip=0.3, learning_rate=DTYPES[name][2])


def train_case(mode: str, folder: Path, dots: Windows, name: str) -> None:
    model, data, run = job(mode, folder, dots, name)
    train(model, data, schedule(name), run)
    run.close()


def as_rank(number: int, world: int, port: int, folder: str) -> None:
    """One process of a world: every case in turn."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    root = Path(folder)
    dots = dot_windows(root / "dots", frames=4, frameskip=5)
    with process_group():
        for mode in ("world_model", "images"):
            for name in DTYPES:
                train_case(mode, made(root / f"{mode}-{name}"), dots, name)
        train_case("world_model", root / "begun-alone", dots, "float64")
        data = Noise()
        run = Run.create_or_open(load_config("smoke", [f"run={root}/slow"])) if number == 0 else None
        torch.distributed.barrier()
        run = run or Run(root / "slow")
        Profile.untimed = Profile.timed = Profile.warming = Profile.profiled = 1
        train(Slow(), data, options(steps=5, batch_size=2 * world, profile=True), run)
        run.close()
        wrong = options(batch_size=15)
        model, data, run = job("world_model", root / "begun-alone", dots, "float64")
        with pytest.raises(UserError, match=rf"batch_size=15: must be a multiple of the {world} processes"):
            train(model, data, wrong, run)


def made(folder: Path) -> Path:
    """The folder of a run, made by rank 0 before another looks for it."""
    if rank() == 0:
        mode, name = folder.name.split("-")
        Run.create_or_open(options_of(mode, folder, name))
    torch.distributed.barrier()
    return folder


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def dots_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dots(tmp_path_factory.mktemp("dots") / "dots")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, dots_folder: Path) -> Path:
    """The run folders of one process."""
    root = tmp_path_factory.mktemp("alone")
    dots = dot_windows(dots_folder, frames=4, frameskip=5)
    for mode in ("world_model", "images"):
        for name in DTYPES:
            train_case(mode, root / f"{mode}-{name}", dots, name)
    return root


@pytest.fixture(scope="module", params=WORLDS, ids=lambda world: f"{world} processes")
def together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dots_folder: Path
) -> Path:
    """The run folders of several; one was begun by one process and stopped after seven steps."""
    root: Path = tmp_path_factory.mktemp("together")
    (root / "dots").symlink_to(dots_folder)
    dots = dot_windows(dots_folder, frames=4, frameskip=5)
    model, data, run = job("world_model", root / "begun-alone", dots, "float64")
    stop = [(1, lambda _, step: send(signal.SIGTERM) if step == 7 else None)]
    assert train(model, data, schedule("float64"), run, stop) == signal.SIGTERM
    run.close()
    torch.multiprocessing.spawn(as_rank, (request.param, free_port(), str(root)), nprocs=request.param)
    return root


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    found, expected = found.double(), expected.double()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-300))


def weights_and_curve(folder: Path) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    run = Run(folder)
    return run.load_weights(run.newest_checkpoint()), run.metrics()


def assert_same_training(found: Path, expected: Path, dtype: str) -> None:
    (weights, curve), (right, right_curve) = weights_and_curve(found), weights_and_curve(expected)
    tolerance = DTYPES[dtype][1]
    assert weights.keys() == right.keys()
    if dtype == "float64":
        for name, value in right.items():
            assert difference(weights[name], value) <= tolerance, name
    assert [row["step"] for row in curve] == [row["step"] for row in right_curve] == list(range(1, STEPS + 1))
    for row, right_row in zip(curve, right_curve, strict=True):
        for name in (n for n in right_row if n.startswith("train/") and n != "train/grad_norm"):
            assert row[name] == pytest.approx(right_row[name], rel=tolerance), (row["step"], name)
    losses = [row["train/loss"] for row in right_curve]
    assert min(losses) < 0.95 * max(losses), "or the comparison would say little"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["world_model", "images"])
def test_they_train_as_one_process_on_the_whole_batch(
    together: Path, alone: Path, mode: str, dtype: str
) -> None:
    assert_same_training(together / f"{mode}-{dtype}", alone / f"{mode}-{dtype}", dtype)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["world_model", "images"])
def test_what_they_trained_sees_held_out_frames_as_one_process_does(
    together: Path, alone: Path, mode: str
) -> None:
    outputs = []
    for root in (together, alone):
        model = Run(root / f"{mode}-float32").load_model()
        size = 32 if mode == "world_model" else 16
        frames = torch.from_numpy(np.random.default_rng(9).integers(0, 256, (40, size, size, 3), np.uint8))
        outputs.append(model.encode(frames) if mode == "world_model" else model.features(frames))
    assert difference(*outputs) <= 1e-5


def test_several_processes_go_on_where_one_stopped(together: Path, alone: Path) -> None:
    assert_same_training(together / "begun-alone", alone / "world_model-float64", "float64")


def test_the_first_rank_alone_writes(together: Path) -> None:
    for folder in (*together.glob("*-*"), together / "slow"):
        events = list(folder.glob("events.out.tfevents.*"))
        # The run that was begun alone has those of both.
        assert len(events) <= (4 if folder.name == "begun-alone" else 2), folder
        assert [p.name for p in Run(folder).checkpoints()] in (
            [f"{STEPS:08d}"],
            ["00000005"],
        ) or folder.name == "begun-alone"


def test_every_ranks_own_speed_is_logged(together: Path) -> None:
    for row in Run(together / "world_model-float64").metrics():
        speeds = [row[name] for name in row if name.startswith("perf/frames_per_second_rank_")]
        assert len(speeds) in (2, 4)
        assert row["perf/slowest_rank"] == speeds.index(min(speeds))
        assert row["perf/data_share"] <= row["perf/data_share_max"] <= 1


def test_a_rank_that_computes_slowly_is_seen_though_all_steps_take_as_long(together: Path) -> None:
    rows = Run(together / "slow").metrics()
    assert len(rows) == 5
    for row in rows[1:]:
        assert row["perf/slowest_rank"] == 1
        slow = row.pop("perf/frames_per_second_rank_1")
        others = [row[name] for name in row if name.startswith("perf/frames_per_second_rank_")]
        # Eight frames in at least a fifth of a second.
        assert slow < 40 < 2 * slow < min(others)


def test_a_world_size_without_a_rank_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(UserError, match="WORLD_SIZE is set, RANK is not: start with torchrun"),
        process_group(),
    ):
        pytest.fail("entered")


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"])
def test_a_rank_that_is_no_number_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "::1", "MASTER_PORT": "1"}
    for variable, value in (told | {name: "two"}).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert main(["train", "smoke", f"run={tmp_path}/run"]) == 2
    assert capsys.readouterr().err == (
        f"worldjepa: {name}=two: no whole number; start with torchrun, or unset {name}\n"
    )


def test_every_rank_leaves_a_trace_and_the_first_the_table(together: Path) -> None:
    values = json.loads((together / "slow" / "evaluation" / "profile.json").read_text())
    traces = sorted(path.name.split(".")[0] for path in (together / "slow" / "profile").iterdir())
    assert traces == [f"rank_{number}" for number in range(values["processes"])]
    assert values["seconds"] > 0.2


# The command


def torchrun(*words: str, processes: int = 2) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run([*command, "-m", "worldjepa", *words], capture_output=True, text=True)


def test_torchrun_trains_watches_and_plans(tmp_path: Path, tiny_data: Path) -> None:
    words = ["train", "smoke", f"data.path={tiny_data}", "train.device=cpu"]
    done = torchrun(*words, f"run={tmp_path}/two")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"{tmp_path}/two")]
    assert len(lines) == 2
    assert ", 2 processes; " in lines[0]
    assert lines[1] == f"{tmp_path}/two: trained, 6 steps"
    run = Run(tmp_path / "two")
    assert {"eval/success", "latent/rank"} <= {name for row in run.metrics() for name in row}
    done = torchrun("plan", str(run.path), f"data.path={tiny_data}", "plan.goals=5", "plan.rival_steps=0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("world model") == 1
    results = json.loads((run.evaluation / "plan.json").read_text())
    assert len(results["episodes"]) == results["rows"]["world model"]["goals"] == 5
    assert (run.evaluation / "plan.mp4").exists()


def test_torchrun_collects_what_one_process_collects(tmp_path: Path, tiny_data: Path) -> None:
    done = torchrun("collect", "smoke", f"data.path={tmp_path}")
    assert done.returncode == 0, done.stderr
    shards = sorted(path.name for path in tiny_data.glob("*.h5"))
    assert sorted(path.name for path in tmp_path.iterdir()) == shards
    for name in shards:
        assert (tmp_path / name).read_bytes() == (tiny_data / name).read_bytes()


def test_a_mistake_under_torchrun_is_said_once(tmp_path: Path, tiny_data: Path) -> None:
    done = torchrun("train", "smoke", f"data.path={tiny_data}", f"run={tmp_path}/bad", "train.batch_size=15")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("worldjepa:")]
    assert len(said) == 1
    assert "train.batch_size=15: must be a multiple of the 2 processes that share it" in said[0]
    # The launcher has a traceback of its own for a process that failed.
    assert "worldjepa/trainer.py" not in done.stderr
