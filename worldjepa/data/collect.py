"""Collection: many processes, one shard at a time, the same data whatever their number."""

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from ..config import CollectConfig, EnvConfig
from ..errors import UserError
from .behaviours import behaviour
from .shards import Shard, shard_path, write_shard

# What an environment's info may tell of a frame; kept when it is there.
INFO_COLUMNS = ("observation", "qpos", "qvel", "state")


def make_env(config: EnvConfig) -> gymnasium.Env:
    """The environment that a configuration names.

    Raises:
        UserError: there is no such environment, or it does not take these options.
    """
    ours = config.id.startswith("worldjepa.envs:")
    options: dict[str, Any] = (
        {
            "image_size": config.image_size,
            "render_quality": config.render_quality,
            "protocol": config.protocol,
        }
        if ours
        else {}
    )
    try:
        return gymnasium.make(config.id, **options)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(f"env.id={config.id}: {' '.join(str(error).split())}") from None


def about(env: EnvConfig, collect: CollectConfig) -> dict[str, Any]:
    """What a shard says of its making: every option of both that changes what is in it."""
    world, making = dataclasses.asdict(env), dataclasses.asdict(collect)
    del world["protocol"], making["workers"], making["episodes"]
    return {"env": world, "collect": making}


def collect(folder: Path, env: EnvConfig, config: CollectConfig) -> tuple[int, int]:
    """Collect what is missing of a data set.

    Args:
        folder: gets `shard-00000.h5` and so on; whole shards that it has are kept, the rest is collected.

    Returns:
        Frames collected now, and frames there in the end.

    Raises:
        UserError: the folder holds another data set or can't be written, the environment shows no pictures or
            has no bounded actions, or a worker died.
    """
    numbers = range(-(-config.episodes // config.shard_episodes))
    present = [i for i in numbers if shard_path(folder, i).exists()]
    expected = about(env, config)
    frames = sum(_checked(shard_path(folder, i), expected, _episodes(config, i)) for i in present)
    missing = [i for i in numbers if i not in present]
    if not missing:
        return 0, frames
    # Made once here, so that the workers find the choice of OpenGL in their environment.
    world = make_env(env)
    _check_spaces(world, env.id)
    world.close()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(".shard-*.tmp"):
            left_over.unlink()
    except OSError as error:
        raise UserError(f"data.path={folder}: can't be written: {error.strerror}") from None
    new = _run(folder, env, config, missing, frames)
    return new, frames + new


def _episodes(config: CollectConfig, index: int) -> range:
    first = index * config.shard_episodes
    return range(first, min(first + config.shard_episodes, config.episodes))


def _checked(path: Path, expected: dict[str, Any], episodes: range) -> int:
    shard = Shard(path)
    if shard.about != expected or len(shard.lengths) != len(episodes):
        raise UserError(
            f"{path}: was collected with other options (env.*, collect.*); "
            "name another data.path, or remove it"
        )
    return int(shard.lengths.sum())


def _run(folder: Path, env: EnvConfig, config: CollectConfig, shards: list[int], frames_before: int) -> int:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    workers = min(config.workers or os.cpu_count() or 1, len(shards))
    total = frames_before + sum(len(_episodes(config, i)) for i in shards) * config.episode_length
    with (
        _one_thread_each(),
        _ctrl_c_noted() as ctrl_c,
        ProcessPoolExecutor(workers, context, _start_worker, (env, config, counter)) as pool,
        tqdm(total=total, initial=frames_before, unit=" frames", desc="collect", smoothing=0.05) as bar,
    ):
        try:
            with _ctrl_c_waits():
                waiting = {pool.submit(_collect_shard, folder, i) for i in shards}
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                if ctrl_c:
                    raise KeyboardInterrupt
                for future in done:
                    future.result()
                bar.update(frames_before + counter.value - bar.n)
        except BrokenProcessPool:
            raise UserError("collect: a worker process died; run the same command again to go on") from None
        except BaseException:
            # The unfinished shards are lost, as after SIGKILL; what is renamed is whole.
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return int(counter.value)


def _check_spaces(env: gymnasium.Env, name: str) -> None:
    seen = env.observation_space
    if seen.dtype != np.uint8 or seen.shape is None or len(seen.shape) != 3 or seen.shape[-1] != 3:
        raise UserError(f"env.id={name}: shows {seen}, not pictures, uint8 (H, W, 3)")
    behaviour("uniform", env.action_space)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Processes started in here never see Ctrl-C, which goes to the whole group, not even while they start.

    The parent decides what it means; it sees it at the end of this context at the latest.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ctrl_c_noted() -> Iterator[list[int]]:
    """A list that gets the signal's number at Ctrl-C, in place of an exception at whatever line is under way.

    One in the middle of `wait` would leave locks of futures held, and the pool would wait for them for ever.
    """
    noted: list[int] = []
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Environment for workers: a process per core leaves no core for a library's own threads."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Worker:
    """What a worker process keeps between shards."""

    env: gymnasium.Env
    env_config: EnvConfig
    config: CollectConfig
    counter: Any


def _start_worker(env: EnvConfig, config: CollectConfig, counter: Any) -> None:
    # A killed parent must not leave workers waiting for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _Worker.env, _Worker.env_config, _Worker.config, _Worker.counter = make_env(env), env, config, counter


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _collect_shard(folder: Path, index: int) -> None:
    config = _Worker.config
    path = shard_path(folder, index)
    episodes = [collect_episode(_Worker.env, config, i, _Worker.counter) for i in _episodes(config, index)]
    try:
        write_shard(path, episodes, about(_Worker.env_config, config))
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: can't be written: {' '.join(str(error).split())}") from None


def collect_episode(
    env: gymnasium.Env, config: CollectConfig, index: int, counter: Any = None
) -> dict[str, np.ndarray]:
    """Episode `index` of a data set: its columns, each (T, ...); depends on (config.seed, index) alone."""
    seeds = np.random.SeedSequence([config.seed, index])
    rng = np.random.default_rng(seeds)
    act = behaviour(config.behaviour, env.action_space)
    assert isinstance(env.action_space, gymnasium.spaces.Box)
    actions = act(env.action_space, config.episode_length, config.noise_exponent, rng)
    frame, info = env.reset(seed=int(seeds.generate_state(1)[0]))
    frames: list[np.ndarray] = []
    infos: dict[str, list[np.ndarray]] = {name: [] for name in INFO_COLUMNS if name in info}
    ended = False
    for step in range(config.episode_length):
        frames.append(frame)
        for name, values in infos.items():
            values.append(info[name])
        if counter is not None:
            with counter.get_lock():
                counter.value += 1
        if ended or step + 1 == config.episode_length:
            break
        frame, _, terminated, truncated, info = env.step(actions[step])
        ended = terminated or truncated
    return {
        "pixels": np.stack(frames),
        "action": actions[: len(frames)],
        **{name: np.stack(values) for name, values in infos.items()},
    }
