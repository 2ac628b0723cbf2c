"""Collection: many processes, one shard at a time, the same data whatever their number."""

import dataclasses
import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import gymnasium
from tqdm import tqdm

from ..config import CollectConfig, EnvConfig
from ..errors import UserError
from ..files import sync
from ..notation import PLANNER, data_name, part
from .behaviours import check, parts
from .compression import filters
from .environments import described, make_env
from .episodes import collect_episode, common
from .shards import Shard, shard_path, write_shard
from .workers import cores, ctrl_c_noted, ctrl_c_waits, end_with_parent, one_thread_each
from .workplace import remove_left_overs, workplace

# Frames below which another worker does not pay: its start takes about as long as drawing them.
WORTH_A_WORKER = 500


def about(env: EnvConfig, collect: CollectConfig) -> dict[str, Any]:
    """What a shard says of its making: every option of both that changes what is in it."""
    making = dataclasses.asdict(collect)
    del making["workers"], making["episodes"], making["shard"]
    used = dict(parts(collect.behaviour))
    if "repeat" not in used:
        del making["repeat_steps"]
    # Wherever they lie: a run by its name and checkpoint, data by theirs.
    making["run"], making["goals"] = "/".join(Path(collect.run).parts[-3:]), data_name(collect.goals)
    if PLANNER not in used:
        del making["run"], making["goals"], making["nearest"], making["noise"]
    return {"env": described(env), "collect": making}


def collect(
    folder: Path, env: EnvConfig, config: CollectConfig, compression: str = "none"
) -> tuple[int, int]:
    """Collect what is missing of a data set, or of the part of it that `config.shard` names.

    Part k of n is every n-th shard from the k-th, whole: n machines that collect one part each leave what one
    run leaves. Any number of collections may write into one folder at a time.

    Args:
        folder: gets `shard-00000.h5` and so on; whole shards that it has are kept, the rest is collected, and
            a last shard that holds fewer episodes than are asked for now is collected again.
        compression: of the frames in the shards that are written now (`worldjepa.data.compression`).

    Returns:
        Frames collected now, and frames of this part there in the end.

    Raises:
        UserError: the folder holds another data set or can't be written, the environment shows no pictures or
            has no bounded actions, or a worker died.
    """
    expected, missing, frames = about(env, config), [], 0
    for index in shard_numbers(config):
        there = _frames(shard_path(folder, index), expected, len(_episodes(config, index)))
        frames += there
        missing += [] if there else [index]
    if not missing:
        # One may have been killed between its last shard and its end.
        remove_left_overs(folder)
        return 0, frames
    filters(compression, "pixels", ())
    with workplace(folder) as place:
        new = _run(folder, place, env, config, missing, frames, compression)
    return new, frames + new


def shard_numbers(config: CollectConfig) -> range:
    """Numbers of the shards that this part of the data set consists of.

    Raises:
        UserError: `config.shard` names no part.
    """
    try:
        k, n = part(config.shard)
    except ValueError as error:
        raise UserError(f"collect.shard: {error}; it is k/n with k from 1 to n") from None
    return range(-(-config.episodes // config.shard_episodes))[k - 1 :: n]


def _episodes(config: CollectConfig, index: int) -> range:
    first = index * config.shard_episodes
    return range(first, min(first + config.shard_episodes, config.episodes))


def _frames(path: Path, expected: dict[str, Any], episodes: int) -> int:
    """Frames of a shard that holds what it should; 0 where it is missing, or was a smaller set's last."""
    if not path.exists():
        return 0
    shard = Shard(path)
    if shard.about != expected:
        raise UserError(
            f"{path}: was collected with other options (env.*, collect.*); "
            "name another data.path, or remove it"
        )
    if len(shard.lengths) > episodes:
        raise UserError(
            f"{path}: holds {len(shard.lengths)} episodes, collect.episodes asks for {episodes} there; "
            "a data set can grow, not shrink: raise collect.episodes, or remove it"
        )
    return int(shard.lengths.sum()) if len(shard.lengths) == episodes else 0


def _run(
    folder: Path,
    place: Path,
    env: EnvConfig,
    config: CollectConfig,
    shards: list[int],
    frames_before: int,
    compression: str,
) -> int:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    new = sum(len(_episodes(config, i)) for i in shards) * config.episode_length
    workers = min(config.workers or min(cores(), -(-new // WORTH_A_WORKER)), len(shards))
    with (
        one_thread_each(),
        ctrl_c_noted() as ctrl_c,
        ProcessPoolExecutor(workers, context, _start_worker, (env, config, counter)) as pool,
        tqdm(
            total=frames_before + new,
            initial=frames_before,
            unit=" frames",
            desc="collect",
            smoothing=0.05,
            delay=3,
        ) as bar,
    ):
        try:
            with ctrl_c_waits():
                waiting = {pool.submit(_collect_shard, folder, place, i, compression) for i in shards}
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


class _Worker:
    """What a worker process keeps between shards; `failure` is why it has no environment, if so."""

    env: gymnasium.Env
    failure: Exception | None = None
    env_config: EnvConfig
    config: CollectConfig
    counter: Any


def _start_worker(env: EnvConfig, config: CollectConfig, counter: Any) -> None:
    end_with_parent()
    _Worker.env_config, _Worker.config, _Worker.counter = env, config, counter
    try:
        _Worker.env = make_env(env)
        check(config, _Worker.env.action_space)
    except Exception as error:
        # Raised where the parent hears of it: what an initializer raises is lost.
        _Worker.failure = error


def _count() -> None:
    with _Worker.counter.get_lock():
        _Worker.counter.value += 1


def _collect_shard(folder: Path, place: Path, index: int, compression: str) -> None:
    if _Worker.failure is not None:
        raise _Worker.failure
    config, path = _Worker.config, shard_path(folder, index)
    episodes = [collect_episode(_Worker.env, config, i, _count) for i in _episodes(config, index)]
    try:
        written = shard_path(place, index)
        write_shard(written, common(episodes), about(_Worker.env_config, config), compression=compression)
        os.replace(written, path)
        sync(folder)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: can't be written: {' '.join(str(error).split())}") from None
