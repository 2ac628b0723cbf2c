"""What several test files share. Data sets are made once per session; tests only read them."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from worldjepa.envs.rendering import OpenGLUnavailable, choose_backend

from worldjepa.cli import main
from worldjepa.config import CollectConfig
from worldjepa.data.collect import collect, collect_episode, make_env
from worldjepa.data.shards import shard_path, write_shard
from worldjepa.recipes import load_config
from worldjepa.run import Run

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Begun in the background of a shell, where Ctrl-C is ignored, the tests send it all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Looked for once, not again by every process that a test starts.
with suppress(OpenGLUnavailable):
    choose_backend()

# Its other side is a program of its own: `make test-peer` names one.
collect_ignore = [] if os.environ.get("PEER_PYTHON") else ["test_peer.py"]


@pytest.fixture(autouse=True)
def _alike() -> None:
    """Every test begins with the same random numbers, on one thread: more cost more than they give here."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def empty_run(tmp_path: Path) -> Iterator[Run]:
    """A new run folder of the smoke recipe."""
    run = Run.create_or_open(load_config("smoke", [f"run={tmp_path}/run"]))
    yield run
    run.close()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `worldjepa collect smoke` collects: reacher at 32 px, 3 shards of 2 episodes of 60 frames."""
    folder = tmp_path_factory.mktemp("data") / "smoke"
    config = load_config("smoke")
    collect(folder, config.env, config.collect)
    return folder


@pytest.fixture(scope="session")
def smoke_runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of both kinds of model, by their recipe, which the commands trained, looked at and probed."""
    folder = tmp_path_factory.mktemp("runs")
    for recipe in ("smoke", "images_smoke"):
        run, data = str(folder / recipe), f"data.path={tiny_data}"
        for words in (["train", recipe, f"run={run}"], ["geometry", run], ["probe", run]):
            assert main([*words, data]) == 0
    return {recipe: folder / recipe for recipe in ("smoke", "images_smoke")}


@pytest.fixture(scope="session")
def reacher() -> Iterator[Any]:
    """The environment that `tiny_data` come from. Whoever uses it sets state and goal first."""
    env = make_env(load_config("smoke").env).unwrapped
    yield env
    env.close()


@pytest.fixture(scope="session")
def counting_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 episodes of tests/counting_env.py, of 2 to 40 frames, in 3 shards."""
    folder = tmp_path_factory.mktemp("data") / "counting"
    folder.mkdir()
    env = gymnasium.make("counting_env:Counting-v0")
    config = CollectConfig(episode_length=40)
    for shard in range(3):
        episodes = [collect_episode(env, config, 4 * shard + i) for i in range(4)]
        write_shard(shard_path(folder, shard), episodes, {})
    return folder
