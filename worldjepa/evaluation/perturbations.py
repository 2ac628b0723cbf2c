"""What should not happen, drawn: from one frame on bodies are elsewhere, or colours are others.

After LeWorldModel (arXiv 2603.19312, section 5.2 and appendix F.3): a teleport, a teleport that covers no
more than a usual step, and a change of colours, at the same frame of the same episode.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from ..config import EnvConfig
from ..data.environments import make_env
from ..notation import span
from .stretches import Stretches

# Physics states (T, n) of an episode, and its number, to its frames (T, H, W, 3) uint8.
Paint = Callable[[np.ndarray, int], np.ndarray]
COLOURS = ("red ", "green ", "blue ")


def draw(
    env: Any, stretches: Stretches, targets: dict[str, np.ndarray], paint: Paint, at: int, frameskip: int
) -> dict[str, np.ndarray]:
    """Every stretch unperturbed, and in each way perturbed from the same frame on.

    Args:
        env: `render` draws, `unwrapped.set_state` sets the state.
        stretches: E of (T-1)·k steps each.
        targets: by name, the states (E, n) in which the bodies are at the perturbed frame; from there the
            episode's own actions move them on.
        paint: draws in other colours.
        at: which frame is the first perturbed one, from 1 to T-1.
        frameskip: k, environment steps from frame to frame.

    Returns:
        Frames (E, T, H, W, 3) uint8 by name: "unperturbed", the teleports, "colour change".
    """
    since = at * frameskip
    frames: dict[str, list[np.ndarray]] = {name: [] for name in ("unperturbed", *targets, "colour change")}
    for i in tqdm(range(len(stretches)), desc="draw", unit=" episodes", leave=False):
        states, actions = stretches.states[i, ::frameskip], stretches.actions[i, since:]
        plain = still(env, states)
        after = {name: _moving(env, target[i], actions, frameskip) for name, target in targets.items()}
        after["colour change"] = paint(states[at:], i)
        frames["unperturbed"].append(plain)
        for name, changed in after.items():
            frames[name].append(np.concatenate([plain[:at], changed]))
    return {name: np.stack(each) for name, each in frames.items()}


def still(env: Any, states: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) of states (T, n)."""
    frames = []
    for state in states:
        env.unwrapped.set_state(state)
        frames.append(env.render().copy())
    return np.stack(frames)


def _moving(env: Any, state: np.ndarray, actions: np.ndarray, frameskip: int) -> np.ndarray:
    """Frames of a state (n,) and of what each block of actions (S, A) makes of it."""
    frames = [still(env, state[None])[0]]
    for number, action in enumerate(actions, 1):
        frame = env.step(action)[0]
        if number % frameskip == 0:
            frames.append(frame.copy())
    return np.stack(frames)


def teleports(
    env: Any, stretches: Stretches, at: int, frameskip: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Where bodies are put at frame `at`: as they are, velocities too, at some step of another episode.

    Args:
        env: the environment itself; what varies from episode to episode (`variation_names`) stays as it is.

    Returns:
        States (E, n) by name: of "teleport" a random one; of "small teleport" the one as far from the last
            frame as the frame that should have come, in any direction.
        By name the median distance from the last frame, in that of the unperturbed step.
    """
    before, there = (stretches.states[:, frame * frameskip] for frame in (at - 1, at))
    every = _places(env, np.concatenate([before, there, stretches.pool]))
    here, usual, pool = np.split(every, [len(before), 2 * len(before)])
    step = np.linalg.norm(usual - here, axis=-1)
    rng, far, near = np.random.default_rng(seed), [], []
    for i in range(len(stretches)):
        others = np.flatnonzero(stretches.owner != i)
        far.append(rng.choice(others))
        jumps = np.linalg.norm(pool[others] - here[i], axis=-1)
        near.append(others[np.abs(jumps - step[i]).argmin()])
    chosen = {"teleport": np.array(far), "small teleport": np.array(near)}
    # A state ends with the episode's variation, where there is one.
    bodies = stretches.pool.shape[1] - len(getattr(env, "variation_names", ()))
    states = {
        name: np.concatenate([stretches.pool[rows, :bodies], there[:, bodies:]], 1)
        for name, rows in chosen.items()
    }
    usual_size = max(float(np.median(step)), 1e-12)
    sizes = {
        name: float(np.median(np.linalg.norm(pool[rows] - here, axis=-1))) / usual_size
        for name, rows in chosen.items()
    }
    return states, sizes


def _places(env: Any, states: np.ndarray) -> np.ndarray:
    """Where bodies are in states (N, n), (N, c), each number in its standard deviations: the coordinates that
    the environment names, else qpos, else the state itself."""
    rows = env.qpos_of(states) if hasattr(env, "qpos_of") else states
    if hasattr(env, "qpos_of") and hasattr(env, "coordinates"):
        rows = np.stack(list(env.coordinates(rows).values()), -1)
    spread = rows.std(0)
    return rows / np.where(spread > 1e-9, spread, 1)


def painter(config: EnvConfig, env: Any, colour: str, seed: int) -> Paint:
    """Other colours, drawn for each episode from its number and the seed.

    Of `worldjepa.envs` every material gets its own factors on red, green and blue, as by
    `env.variations.colour`; of any other environment the whole frame is tinted.

    Args:
        colour: the range of the factors, "low..high".
    """
    if not config.id.startswith("worldjepa.envs:"):
        return _tinter(env, span(colour), seed)
    varied = dataclasses.replace(config, variations=dataclasses.replace(config.variations, colour=colour))
    painted: Any = make_env(varied).unwrapped
    names = painted.variation_names
    coloured = np.array([name.startswith(COLOURS) for name in names])

    def paint(states: np.ndarray, episode: int) -> np.ndarray:
        drawn = painted.reset(seed=_seed(seed, episode))[1]["variation"]
        if config.variations == type(config.variations)():
            values = np.broadcast_to(drawn, (len(states), len(names)))
        else:
            states, own = np.split(states, [-len(names)], axis=1)
            values = np.where(coloured, drawn, own)
        return still(painted, np.concatenate([states, values], 1))

    return paint


def _tinter(env: Any, factors: tuple[float, float], seed: int) -> Paint:
    def paint(states: np.ndarray, episode: int) -> np.ndarray:
        tint = np.random.default_rng(_seed(seed, episode)).uniform(*factors, 3)
        return (still(env, states) * tint).clip(0, 255).astype(np.uint8)

    return paint


def _seed(seed: int, episode: int) -> int:
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])
