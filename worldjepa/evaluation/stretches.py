"""Stretches of episodes that no model was trained on, as physics states and actions, to be drawn again."""

import dataclasses

import gymnasium
import numpy as np
from tqdm import tqdm

from ..config import CollectConfig, Config
from ..data.behaviours import parts
from ..data.episodes import collect_episode
from ..data.shards import Store
from ..data.windows import split_episodes
from ..errors import UserError
from ..limits import validate
from ..notation import PLANNER

# New episodes are numbered from here on: no data set holds so many.
NEW = 1_000_000


@dataclasses.dataclass
class Stretches:
    """One stretch of each of E episodes.

    Attributes:
        states: (E, S+1, n) float64, whole physics states at every environment step.
        actions: (E, S, A), what led from each to the next.
        new: how many of the episodes, the last ones, are not of the data.
        pool, owner: every state of those episodes (M, n), and of which of them it is (M,).
    """

    states: np.ndarray
    actions: np.ndarray
    new: int
    pool: np.ndarray
    owner: np.ndarray

    def __len__(self) -> int:
        return len(self.states)


def sample_stretches(
    config: Config, store: Store, env: gymnasium.Env, count: int, steps: int, seed: int
) -> Stretches:
    """Stretches of held-out episodes, one of each; where there are too few, new episodes are played.

    Args:
        config: which episodes are held out; and how the data were collected, where they do not say so.
        env: as `make_env` gives it; states must be known of it and settable.
        count: E, how many. steps: S, environment steps of each.
        seed: which episodes, and where in them.

    Raises:
        UserError: states can't be set or are not known, or episodes are too short.
    """
    _require_states(env, store)
    rng = np.random.default_rng(seed)
    _, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    long_enough = held_out[store.lengths[held_out] > steps]
    episodes = [_stored(store, i) for i in np.sort(rng.permutation(long_enough)[:count])]
    stored = len(episodes)
    collect = _collected(config, store)
    if stored < count and PLANNER in dict(parts(collect.behaviour)):
        raise UserError(
            f"{store.path}: {stored} held-out episodes are long enough, and more were a planner's to play, "
            f"which is not done here; surprise.episodes={count} may be {stored} at most"
        )
    episodes += _played(collect, env, count - stored, steps)
    if len(episodes) < count:
        raise UserError(
            f"{store.path}: a stretch of {steps + 1} frames is longer than held-out episodes and than those "
            "that the environment plays; lower surprise.before or surprise.after"
        )
    width = episodes[0][0].shape[1]
    if width != len(env.unwrapped.get_state()):  # type: ignore[attr-defined]
        raise UserError(
            f"{store.path}: a state has {width} numbers, "
            f"the environment's has {len(env.unwrapped.get_state())}"  # type: ignore[attr-defined]
        )
    states, actions = [], []
    for state, action in episodes:
        first = int(rng.integers(len(state) - steps))
        states.append(state[first : first + steps + 1])
        actions.append(action[first : first + steps])
    pool = np.concatenate([state for state, _ in episodes])
    owner = np.repeat(np.arange(count), [len(state) for state, _ in episodes])
    return Stretches(np.stack(states), np.stack(actions), count - stored, pool, owner)


def _require_states(env: gymnasium.Env, store: Store) -> None:
    name = type(env.unwrapped).__name__
    for method in ("set_state", "get_state"):
        if not hasattr(env.unwrapped, method):
            raise UserError(f"env.id: {name} has no {method}(), which bodies are put elsewhere with")
    if not store.has("state"):
        raise UserError(
            f"{store.path}: has no column state (whole physics states), which frames are drawn of"
        )


def _stored(store: Store, episode: int) -> tuple[np.ndarray, np.ndarray]:
    steps = np.arange(store.lengths[episode])[None]
    states, actions = (store.gather(name, np.array([episode]), steps)[0] for name in ("state", "action"))
    return states, actions


def _collected(config: Config, store: Store) -> CollectConfig:
    """How the data say that they were collected, else how the run's configuration collects."""
    about = store.about or {}
    said = about.get("collect", {}) if about.get("env", {}).get("id") == config.env.id else {}
    try:
        collect = dataclasses.replace(config.collect, **said)
        validate(dataclasses.replace(config, collect=collect))
    except (TypeError, ValueError, AttributeError, UserError) as error:
        raise UserError(
            f"{store.path}: does not say how it was collected as this version does ({error})"
        ) from None
    if ":" in collect.behaviour and collect.behaviour != config.collect.behaviour:
        # A policy is a program: what data name is not run for that.
        raise UserError(
            f"{store.path}: was collected by {collect.behaviour}, which new episodes would be played by; "
            f"say collect.behaviour={collect.behaviour} to run it"
        )
    return collect


def _played(
    collect: CollectConfig, env: gymnasium.Env, count: int, steps: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """States and actions of up to `count` new episodes of more than `steps` steps; of twice as many, shorter
    ones are left out."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    with tqdm(total=count, desc="play new episodes", unit=" episodes", leave=False, disable=not count) as bar:
        for index in range(NEW, NEW + 2 * count):
            if len(found) == count:
                break
            episode = collect_episode(env, collect, index)
            if "state" in episode and len(episode["state"]) > steps:
                found.append((episode["state"], episode["action"]))
                bar.update()
    return found
