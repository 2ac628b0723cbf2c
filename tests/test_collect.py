"""worldjepa.data.collect: the same bytes however many processes collect them, and whatever kills those."""

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path

import counting_env
import gymnasium
import h5py
import numpy as np
import pytest

from worldjepa.config import CollectConfig, Config, EnvConfig
from worldjepa.data.behaviours import choose
from worldjepa.data.collect import collect, shard_numbers
from worldjepa.data.environments import make_env
from worldjepa.data.episodes import collect_episode
from worldjepa.data.shards import Shard, Store, shard_path
from worldjepa.errors import UserError
from worldjepa.limits import validate
from worldjepa.recipes import load_config

COUNTING = EnvConfig(id="counting_env:Counting-v0", image_size=4)
GAUGE = EnvConfig(id="own_envs:Gauge-v0", image_size=10)
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


def test_terminated_episodes_end_with_the_frame_that_ended_them(counting_data: Path):
    store = Store(counting_data)
    assert len(set(store.lengths)) > 3
    for number, length in enumerate(store.lengths):
        frames = store.gather("pixels", np.array([number]), np.arange(length)[None])[0]
        above = counting_env.read(frames)[:, 0] > counting_env.ENDS_ABOVE
        assert not above[:-1].any()
        assert above[-1] == (length < 40)


def test_episodes_are_those_that_are_collected_one_by_one(small: Path):
    world, store = gymnasium.make(COUNTING.id), Store(small)
    for number in reversed(range(SMALL.episodes)):
        steps = np.arange(store.lengths[number])[None]
        for name, values in collect_episode(world, SMALL, number).items():
            np.testing.assert_array_equal(store.gather(name, np.array([number]), steps)[0], values)


def test_a_mixture_says_of_every_frame_who_acted(tmp_path: Path):
    mixed = changed(SMALL, behaviour="uniform=2,own_envs:to_the_middle", repeat_steps=3)
    collect(tmp_path, GAUGE, mixed)
    store = Store(tmp_path)
    assert "repeat_steps" not in store.about["collect"]
    for number, length in enumerate(store.lengths):
        who = store.gather("behaviour", np.array([number]), np.arange(length)[None])[0]
        assert set(who) == {choose(mixed, number)}
    collect(tmp_path / "held", GAUGE, changed(SMALL, behaviour="repeat", repeat_steps=3))
    held = Store(tmp_path / "held")
    assert held.about["collect"]["repeat_steps"] == 3
    assert not held.has("behaviour")
    actions = held.gather("action", np.arange(7), np.tile(np.arange(30), (7, 1))).reshape(7, 10, 3)
    assert (actions == actions[..., :1]).all()


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


@pytest.mark.parametrize("lost", [(), (0,), (1, 3), (0, 1, 2, 3)])
def test_what_is_missing_is_collected_and_nothing_else(small: Path, copy: Path, lost: tuple[int, ...]):
    for index in lost:
        shard_path(copy, index).unlink()
    left_over = copy / ".collect-x"
    left_over.mkdir()
    (left_over / "lock").touch()
    (left_over / "shard-00001.h5").write_bytes(b"what a killed worker left")
    kept = stamps(copy)
    new, frames = collect(copy, COUNTING, SMALL)
    assert contents(copy) == contents(small)
    assert kept.items() <= stamps(copy).items()
    assert new == sum(int(Shard(shard_path(copy, index)).lengths.sum()) for index in lost)
    assert frames == Store(copy).lengths.sum()


@pytest.mark.parametrize("whole", [True, False])
def test_a_data_set_can_grow(small: Path, copy: Path, tmp_path: Path, whole: bool):
    """From whole shards, and from a last one of one episode, which is collected again."""
    shard_path(copy, 3).unlink()
    kept = stamps(copy)
    if not whole:
        shutil.copy(shard_path(small, 3), copy)
    new, frames = collect(copy, COUNTING, changed(SMALL, episodes=10))
    straight = changed(SMALL, episodes=10)
    assert collect(tmp_path / "straight", COUNTING, straight)[1] == frames
    assert contents(copy) == contents(tmp_path / "straight")
    assert kept.items() <= stamps(copy).items()
    assert new == sum(int(Shard(shard_path(copy, index)).lengths.sum()) for index in (3, 4))


def test_a_data_set_can_not_shrink(copy: Path):
    before = contents(copy)
    with pytest.raises(
        UserError, match=r"shard-00002.h5: holds 2 episodes, collect.episodes asks for 1 there"
    ):
        collect(copy, COUNTING, changed(SMALL, episodes=5))
    assert contents(copy) == before


# In parts


@pytest.mark.parametrize("n", [2, 3, 6])
def test_parts_are_together_the_whole(small: Path, tmp_path: Path, n: int):
    """Each part is its own shards; of four shards, two of six parts are none."""
    frames = 0
    for k in range(n, 0, -1):
        part = changed(SMALL, shard=f"{k}/{n}", workers=1)
        before = stamps(tmp_path)
        new, there = collect(tmp_path, COUNTING, part)
        assert new == there
        assert collect(tmp_path, COUNTING, part) == (0, there)
        assert stamps(tmp_path).keys() - before.keys() == {
            shard_path(tmp_path, i).name for i in shard_numbers(part)
        }
        frames += new
    assert contents(tmp_path) == contents(small)
    assert frames == Store(small).lengths.sum()


def test_parts_have_nothing_in_common():
    many = CollectConfig(episodes=1003, shard_episodes=10)
    for n in (1, 7, 16, 101):
        found = [shard_numbers(changed(many, shard=f"{k}/{n}")) for k in range(1, n + 1)]
        assert sorted(chain(*found)) == list(range(101))
        assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "1.5/4", "1/4/2", "a/b", "٣/٤"])
def test_what_is_no_part_is_refused(tmp_path: Path, text: str):
    with pytest.raises(UserError, match=r"collect\.shard"):
        collect(tmp_path, COUNTING, changed(SMALL, shard=text))
    with pytest.raises(UserError, match=r"collect\.shard=.*k/n with k from 1 to n, as in 3/16"):
        validate(Config(collect=CollectConfig(shard=text)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("parts", [("1/1", "1/1"), ("1/2", "2/2")])
def test_two_collections_into_one_folder_at_a_time(undisturbed: Path, tmp_path: Path, parts: tuple[str, str]):
    """The second begins while the first is under way, and finds its folder; neither disturbs the other."""
    first = subprocess.Popen(
        command(tmp_path, f"collect.shard={parts[0]}", "collect.workers=1"), stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: list(tmp_path.glob(".collect-*/lock")) or first.poll() is not None)
        done = subprocess.run(command(tmp_path, f"collect.shard={parts[1]}", "collect.workers=1"))
        assert done.returncode == 0
        assert first.wait(60) == 0
    finally:
        first.kill()
    assert contents(tmp_path) == contents(undisturbed)


def test_the_array_script_collects_what_one_run_collects(tiny_data: Path, tmp_path: Path):
    """As SLURM runs it, task by task; three shards are all in the first three of its parts."""
    script = Path(__file__).parents[1] / "scripts" / "slurm_collect.sh"
    text = script.read_text("utf-8")
    tasks = re.search(r"^#SBATCH --array=1-(\d+)$", text, re.MULTILINE)
    assert tasks
    last = int(tasks[1])
    assert f"\nparts={last}\n" in text
    given = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "1"}

    def run(**variables: str) -> subprocess.CompletedProcess:
        words = ["bash", str(script), "smoke", f"data.path={tmp_path}"]
        return subprocess.run(words, capture_output=True, text=True, env=os.environ | given | variables)

    for done, task in enumerate((2, last, 3, 1)):
        ended = run(SLURM_ARRAY_TASK_ID=str(task))
        assert ended.returncode == 0, ended.stderr
        assert f"part {task}/{last} of 6 episodes, {120 * (task < 4)} frames" in ended.stdout
        assert len(stamps(tmp_path)) == (1, 1, 2, 3)[done]
    assert contents(tmp_path) == contents(tiny_data)
    outside = run()
    assert outside.returncode != 0
    assert "SLURM_ARRAY_TASK_ID: is set by sbatch" in outside.stderr


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
        {"behaviour": "uniform,coloured"},
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
    assert (
        collect(copy, changed(COUNTING, protocol="lewm"), changed(SMALL, workers=1, repeat_steps=2))[0] == 0
    )


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
        ("own_envs:Blind-v0", "not pictures"),
        ("own_envs:Undrawable-v0", "crayons are not installed"),
        ("own_envs:Switches-v0", "bounded Box"),
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

LONGER = ["collect.episodes=16", "collect.episode_length=300", "collect.workers=2"]
SHARDS = 8


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "worldjepa", "collect", "smoke", f"data.path={folder}", *LONGER, *more]


def finish(folder: Path) -> None:
    done = subprocess.run(command(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{folder}: 16 episodes, 4800 frames" in done.stdout


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
    """Every shard opens, here and in plain h5py, and is what it would have been."""
    for name in stamps(folder):
        Shard(folder / name)
        with h5py.File(folder / name) as file:
            assert file["pixels"].shape == (file["ep_len"][:].sum(), 32, 32, 3)
            assert file["pixels"][-1].any()
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
@pytest.mark.parametrize("seed", range(25))
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
