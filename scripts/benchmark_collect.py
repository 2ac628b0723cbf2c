"""How fast reacher is collected at 64 px with two processes, against bare drawing and stable-worldmodel.

    python scripts/benchmark_collect.py
    python scripts/benchmark_collect.py --peer-python /path/to/an/environment/bin/python

Bare are two processes that step the physics, draw with mujoco.Renderer and keep nothing. Ours is the whole
command `worldjepa collect reacher`, from the start of Python to the last shard on the disk. The peer is
stable-worldmodel's World.collect with two environments, also to HDF5, its imports and construction not
counted; it needs an environment of its own with mujoco<4, dm-control and h5py in it. It draws dm-control's
full scene at 224 px and scales that down. Each round takes the sides in turn, so that what else the machine
does meets all of them; the medians are compared.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark_results import add_keep, keep
from worldjepa.envs.rendering import choose_backend

SIZE, LENGTH, PROCESSES = 64, 200, 2

PEER = f"""
import sys, time, h5py, stable_worldmodel as swm, stable_worldmodel.envs
from stable_worldmodel.policy import RandomPolicy
path, episodes = sys.argv[1], int(sys.argv[2])
world = swm.World("swm/ReacherDMControl-v0", num_envs={PROCESSES}, image_shape=({SIZE}, {SIZE}),
                  max_episode_steps={LENGTH})
world.set_policy(RandomPolicy(seed=0))
world.reset(seed=0)
began = time.perf_counter()
world.collect(path, episodes=episodes, seed=0, format="hdf5", progress=False)
seconds = time.perf_counter() - began
with h5py.File(path) as file:
    print(len(file["pixels"]) / seconds)
"""


def draw(quality: str, seconds: float, ready: Any, rates: Any) -> None:
    """One bare process: frames per second, put into `rates`."""
    import mujoco
    import numpy as np
    from dm_control import suite

    env = suite.load("reacher", "hard")
    model, data = env.physics.model.ptr, env.physics.data.ptr
    substeps = round(env.control_timestep() / env.physics.timestep())
    if quality == "fast":
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
    renderer = mujoco.Renderer(model, SIZE, SIZE)
    if quality == "fast":
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = 0
    rng = np.random.default_rng(os.getpid())

    def frames(seconds: float) -> float:
        """How many are drawn in a second."""
        count, began = 0, time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            data.ctrl[:] = rng.uniform(-1, 1, model.nu)
            mujoco.mj_step(model, data, nstep=substeps)
            renderer.update_scene(data, camera="fixed")
            renderer.render()
            count += 1
        return count / (now - began)

    frames(0.5)
    ready.wait()
    rates.put(frames(seconds))


def bare(quality: str, seconds: float) -> float:
    """Frames per second of all processes together."""
    context = multiprocessing.get_context("spawn")
    ready, rates = context.Barrier(PROCESSES), context.SimpleQueue()
    processes = [
        context.Process(target=draw, args=(quality, seconds, ready, rates)) for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    total = sum(rates.get() for _ in processes)
    for process in processes:
        process.join()
    return total


def ours(quality: str, episodes: int, folder: Path) -> float:
    """Frames per second of the whole command."""
    options = {
        "data.path": folder,
        "env.image_size": SIZE,
        "env.render_quality": quality,
        "collect.episodes": episodes,
        "collect.episode_length": LENGTH,
        "collect.shard_episodes": min(20, max(1, episodes // PROCESSES)),
        "collect.workers": PROCESSES,
    }
    words = [f"{name}={value}" for name, value in options.items()]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "worldjepa", "collect", "reacher", *words], check=True, capture_output=True
    )
    return episodes * LENGTH / (time.perf_counter() - began)


def peer(python: str, episodes: int, folder: Path) -> float:
    """Frames per second of World.collect."""
    folder.mkdir()
    words = [python, "-W", "ignore", "-c", PEER, str(folder / "peer.h5"), str(episodes)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        sys.exit(f"{python}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=400, help=f"of {LENGTH} frames, ours at fast")
    parser.add_argument("--full-episodes", type=int, default=16, help="the same at full; 0: not at full")
    parser.add_argument("--bare-seconds", type=float, default=10)
    parser.add_argument("--peer-python", help="of an environment that stable-worldmodel is installed in")
    parser.add_argument("--peer-episodes", type=int, default=4, help="an even number")
    add_keep(parser, "collect")
    options = parser.parse_args()
    # Found once, for all sides.
    print(f"OpenGL: {choose_backend()}; {SIZE} px, {PROCESSES} processes, {os.cpu_count()} cores")
    if not options.peer_python:
        print("stable-worldmodel: not measured; --peer-python names an environment that it is installed in")

    rates: dict[str, list[float]] = {}

    def note(name: str, rate: float) -> None:
        rates.setdefault(name, []).append(rate)
        print(f"{name:<28}{rate:>9.1f} frames/s", flush=True)

    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            # Bare on both sides of ours.
            note("bare, fast", bare("fast", options.bare_seconds / 2))
            note("worldjepa, fast", ours("fast", options.episodes, folder / "fast"))
            note("bare, fast", bare("fast", options.bare_seconds / 2))
            if options.full_episodes:
                note("bare, full", bare("full", options.bare_seconds))
                note("worldjepa, full", ours("full", options.full_episodes, folder / "full"))
            if options.peer_python:
                note("stable-worldmodel", peer(options.peer_python, options.peer_episodes, folder / "peer"))
    print()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name:<28}{rate:>9.1f} frames/s, median of {len(rates[name])}")
    if options.keep:
        about = {"size": SIZE, "processes": PROCESSES, "rounds": options.rounds}
        keep("collect", {**about, "frames_per_second": medians})
    compare = [("fast", "bare, fast"), ("full", "bare, full"), ("full", "stable-worldmodel")]
    compare.append(("fast", "stable-worldmodel"))
    words = ["", "", " (quality equal)", " (as each ships)"]
    for (quality, other), said in zip(compare, words, strict=True):
        if f"worldjepa, {quality}" in medians and other in medians:
            ratio = medians[f"worldjepa, {quality}"] / medians[other]
            print(f"worldjepa, {quality} / {other}: {ratio:.2f}{said}")


if __name__ == "__main__":
    main()
