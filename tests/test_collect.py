"""worldjepa.data.collect: the same bytes however many processes collect them, and whatever kills those."""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import counting_env
import gymnasium
import numpy as np
import pytest

from worldjepa.config import CollectConfig, EnvConfig
from worldjepa.data.collect import collect, collect_episode, make_env
from worldjepa.data.shards import Shard, Store, shard_path
from worldjepa.errors import UserError
from worldjepa.recipes import load_config

COUNTING = EnvConfig(id="counting_env:Counting-v0")
SMALL = CollectConfig(episodes=7, episode_length=30, shard_episodes=2, workers=2)


def changed(config, **changes):
    return dataclasses.replace(config, **changes)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a shard is written again, even with the same bytes."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("shard-*.h5")}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SMALL, undisturbed: shards of 2, 2, 2 and 1 episodes."""
    folder = tmp_path_factory.mktemp("collect") / "small"
    collect(folder, COUNTING, SMALL)
    return folder


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy"))


# What is collected


def test_row_t_holds_frame_t_and_the_action_that_leads_to_frame_t_plus_1(tiny_data: Path):
    """Every frame of the collected file is drawn again from its state, every state reached again."""
    store, config = Store(tiny_data), load_config("smoke").env
    assert store.lengths.tolist() == [60] * 6
    world = make_env(config).unwrapped
    shard = store.shards[0]
    columns = shard.columns
    assert set(columns) == {"pixels", "action", "observation", "qpos", "qvel", "state", "step_idx"}
    for t in range(60):
        frame, info = world.reset(options={"state": columns["state"][t]})
        np.testing.assert_array_equal(frame, columns["pixels"][t])
        np.testing.assert_array_equal(info["qpos"], columns["qpos"][t])
        np.testing.assert_array_equal(info["qvel"], columns["qvel"][t])
        if t < 59:
            _, _, _, _, info = world.step(columns["action"][t])
            np.testing.assert_array_equal(info["state"], columns["state"][t + 1])
    world.close()


def test_an_episode_depends_on_seed_and_number_alone(small: Path):
    """Collected here, one by one and backwards, they are those of the shards."""
    world, store = gymnasium.make(COUNTING.id), Store(small)
    for number in reversed(range(SMALL.episodes)):
        episode = collect_episode(world, SMALL, number)
        steps = np.arange(store.lengths[number])[None]
        for name, values in episode.items():
            np.testing.assert_array_equal(store.gather(name, np.array([number]), steps)[0], values)
        other = collect_episode(world, changed(SMALL, seed=1), number)
        assert (other["pixels"][0] != episode["pixels"][0]).any(), "another seed starts elsewhere"
        assert (other["action"][0] != episode["action"][0]).any()


@pytest.mark.parametrize("behaviour", ["uniform", "coloured"])
def test_who_acts(behaviour: str):
    world = gymnasium.make(COUNTING.id)
    options = changed(SMALL, behaviour=behaviour, noise_exponent=2.0, episode_length=200)
    actions = np.concatenate([collect_episode(world, options, number)["action"] for number in range(40)])
    space = counting_env.Counting.action_space
    assert space.contains(actions.min(0))
    assert space.contains(actions.max(0))
    neighbours = np.corrcoef(actions[1:, 1], actions[:-1, 1])[0, 1]
    assert (neighbours > 0.8) == (behaviour == "coloured")


def test_terminated_episodes_end_with_the_frame_that_ended_them(counting_data: Path):
    store = Store(counting_data)
    assert len(set(store.lengths)) > 3
    for number, length in enumerate(store.lengths):
        frames = store.gather("pixels", np.array([number]), np.arange(length)[None])[0]
        above = counting_env.read(frames)[:, 0] > counting_env.ENDS_ABOVE
        assert not above[:-1].any()
        assert above[-1] == (length < 40)


def test_frames_are_counted(small: Path, tmp_path: Path):
    frames = int(Store(small).lengths.sum())
    assert collect(tmp_path / "new", COUNTING, SMALL) == (frames, frames)
    assert collect(tmp_path / "new", COUNTING, SMALL) == (0, frames)


# The same bytes


def test_one_worker_and_several_collect_the_same_bytes(tiny_data: Path, tmp_path: Path):
    config = load_config("smoke")
    cores = os.cpu_count() or 1  # as many collected tiny_data
    collect(tmp_path, config.env, changed(config.collect, workers=1 if cores > 1 else 2))
    assert contents(tmp_path) == contents(tiny_data)


@pytest.mark.parametrize("lost", [(0,), (1, 3), (0, 1, 2, 3)])
def test_what_is_missing_is_collected_and_nothing_else(small: Path, copy: Path, lost: tuple[int, ...]):
    for index in lost:
        shard_path(copy, index).unlink()
    (copy / ".shard-00001.h5.4711.tmp").write_bytes(b"what a killed worker left")
    kept = stamps(copy)
    new, frames = collect(copy, COUNTING, SMALL)
    assert contents(copy) == contents(small)
    assert kept.items() <= stamps(copy).items()
    assert new == sum(int(Shard(shard_path(copy, index)).lengths.sum()) for index in lost)
    assert frames == Store(copy).lengths.sum()


def test_a_data_set_can_grow(copy: Path, tmp_path: Path):
    shard_path(copy, 3).unlink()  # 6 whole episodes, 3 whole shards
    kept = stamps(copy)
    collect(copy, COUNTING, changed(SMALL, episodes=10))
    collect(tmp_path / "straight", COUNTING, changed(SMALL, episodes=10))
    assert contents(copy) == contents(tmp_path / "straight")
    assert kept.items() <= stamps(copy).items()


# What is wrong is named


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"behaviour": "coloured"},
        {"noise_exponent": 2.0},
        {"episode_length": 31},
        {"shard_episodes": 3},
        {"image_size": 32},
        {"render_quality": "full"},
        {"id": "counting_env:Dying-v0"},
        {"episodes": 8},
    ],
    ids=str,
)
def test_a_folder_collected_with_other_options_is_refused(copy: Path, change: dict):
    before = contents(copy)
    of_env = change.keys() <= {field.name for field in dataclasses.fields(EnvConfig)}
    env = changed(COUNTING, **change) if of_env else COUNTING
    options = SMALL if of_env else changed(SMALL, **change)
    with pytest.raises(UserError, match=rf"{copy}/shard-0000\d\.h5: was collected with other options"):
        collect(copy, env, options)
    assert contents(copy) == before


def test_options_that_change_no_shard_are_free(copy: Path):
    assert collect(copy, changed(COUNTING, protocol="lewm"), changed(SMALL, workers=1))[0] == 0


def test_a_damaged_shard_is_named(copy: Path):
    shard_path(copy, 2).write_bytes(b"")
    with pytest.raises(UserError, match=r"shard-00002\.h5: not a whole HDF5 file"):
        collect(copy, COUNTING, SMALL)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Nothing-v0", "Nothing"),
        ("no_such_module:Env-v0", "no_such_module"),
        ("counting_env:Counting-v9", "Counting"),
        ("CartPole-v1", "not pictures"),
        ("counting_env:Buttons-v0", "bounded Box"),
        ("counting_env:Dying-v0", "worker process died"),
    ],
)
def test_environments_that_can_not_be_collected(tmp_path: Path, name: str, words: str):
    with pytest.raises(UserError, match=words) as caught:
        collect(tmp_path, EnvConfig(id=name), SMALL)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("shard-*"))


def test_a_folder_that_can_not_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=rf"data\.path={tmp_path}/file.*can't be written"):
        collect(tmp_path / "file" / "data", COUNTING, SMALL)


# The command, killed

LONGER = ["collect.episodes=16", "collect.episode_length=100", "collect.workers=2"]
SHARDS = 8


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "worldjepa", "collect", "smoke", f"data.path={folder}", *LONGER, *more]


def finish(folder: Path) -> None:
    done = subprocess.run(command(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{folder}: 16 episodes, 1600 frames" in done.stdout


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def running(group: int) -> bool:
    """Whether a process of the group lives; one that is dead and that nobody has asked after does not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    after_name = [_read(path).rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    states = [fields[0] for fields in after_name if fields and int(fields[2]) == group]
    return any(state != "Z" for state in states)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def disturbed(
    command: list[str], when: Callable[[], bool], seconds: float, send: Callable[[int], None]
) -> tuple[int, str]:
    """A command to which a signal is sent, `seconds` after `when()`: its exit code and what it said.

    It leads a process group of its own; none of that lives when this returns.
    """
    # Where a worker finds tests/counting_env.py.
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        until(lambda: when() or process.poll() is not None)
        time.sleep(seconds)
        send(process.pid)
        # The pipe closes when the last of the group has gone.
        _, said = process.communicate(timeout=60)
        until(lambda: not running(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            kill_group(process.pid)
    return process.returncode, said


def killed(folder: Path, shards: int, seconds: float, kill: Callable[[int], None]) -> int:
    """The exit code of the command, killed `seconds` after `shards` shards were there."""
    return disturbed(command(folder), lambda: len(stamps(folder)) >= shards, seconds, kill)[0]


def kill_group(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)


def kill_parent(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def ctrl_c(pid: int) -> None:
    """As a terminal sends it: to every process of the group."""
    os.killpg(pid, signal.SIGINT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collect") / "undisturbed"
    finish(folder)
    assert len(stamps(folder)) == SHARDS
    return folder


def assert_whole(folder: Path, undisturbed: Path) -> None:
    """Every shard opens, and is what it would have been."""
    for name in stamps(folder):
        Shard(folder / name)
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()


def test_killed_three_times_it_goes_on(undisturbed: Path, tmp_path: Path):
    """While it starts, after the first shard, and about half-way."""
    rng = np.random.default_rng(0)
    moments = [(0, rng.uniform(0, 3), kill_group), (1, rng.uniform(0, 0.1), kill_parent)]
    moments += [(4, rng.uniform(0, 0.1), kill_group)]
    kept: list[dict] = [{}]
    for shards, seconds, kill in moments:
        assert killed(tmp_path, shards, seconds, kill) == -signal.SIGKILL
        assert_whole(tmp_path, undisturbed)
        kept.append(stamps(tmp_path))
    assert len(kept[-1]) < SHARDS, "it was killed before it was done"
    finish(tmp_path)
    kept.append(stamps(tmp_path))
    assert all(before.items() <= after.items() for before, after in pairwise(kept)), "whole shards are kept"
    assert contents(tmp_path) == contents(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [kill_group, kill_parent])
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_a_random_moment(undisturbed: Path, tmp_path: Path, seed: int, kill: Callable):
    rng = np.random.default_rng((seed, kill is kill_group))
    shards = int(rng.integers(0, 6))
    killed(tmp_path, shards, rng.uniform(0, 3 if shards == 0 else 0.3), kill)
    assert_whole(tmp_path, undisturbed)
    kept = stamps(tmp_path)
    finish(tmp_path)
    assert kept.items() <= stamps(tmp_path).items()
    assert contents(tmp_path) == contents(undisturbed)


def assert_stopped_cleanly(code: int, said: str) -> None:
    assert code == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "collect: interrupted; the same command goes on from there"


@pytest.mark.parametrize("seconds", [0.1, 0.6, 1.1])
def test_ctrl_c_while_workers_start(tmp_path: Path, seconds: float):
    folder = tmp_path / "data"
    longest = command(folder, f"env.id={COUNTING.id}", "collect.episodes=999", "collect.episode_length=5000")
    assert_stopped_cleanly(*disturbed(longest, folder.exists, seconds, ctrl_c))


def test_ctrl_c_keeps_whole_shards(undisturbed: Path, tmp_path: Path):
    assert_stopped_cleanly(*disturbed(command(tmp_path), lambda: len(stamps(tmp_path)) >= 2, 0.05, ctrl_c))
    assert 2 <= len(stamps(tmp_path)) < SHARDS
    assert_whole(tmp_path, undisturbed)
    finish(tmp_path)
    assert contents(tmp_path) == contents(undisturbed)


def test_a_full_disk_is_one_line(tmp_path: Path):
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "-", *command(tmp_path)]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "can't be written" in done.stderr.splitlines()[-1]
    assert "File too large" in done.stderr.splitlines()[-1]
    assert not stamps(tmp_path)
