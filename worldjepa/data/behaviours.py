"""Who acts while rollouts are collected."""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from ..config import CollectConfig
from ..errors import UserError
from ..notation import PLANNER, shares
from .environments import OneHot, is_bounded

# (action space, options, generator) to an episode's actions, (episode_length, A) float32 within the bounds.
Behaviour = Callable[[Box, CollectConfig, np.random.Generator], np.ndarray]
# A frame (H, W, 3) uint8 and the info that came with it to an action.
Act = Callable[[np.ndarray, dict[str, Any]], Any]


class Policy(Protocol):
    """A scripted or learnt policy, named as `package:callable`; called at the start of each episode.

    What is costly to load it keeps between episodes; what it draws it draws from `rng`, and nothing else of
    one episode may be seen in another, so that each can be collected alone.
    """

    def __call__(self, env: gymnasium.Env, rng: np.random.Generator) -> Act:
        """Who acts in this episode.

        Args:
            env: the environment, not yet reset; `env.unwrapped` is the user's own, with all that it offers.
            rng: the episode's generator, which depends on (collect.seed, episode) alone.

        Returns:
            act(frame, info), called once for each frame, in order: (H, W, 3) uint8 and the info that came
            with it to an action (A,), which is clipped to the bounds, or to a number where actions are
            discrete.
        """


def uniform(space: Box, options: CollectConfig, rng: np.random.Generator) -> np.ndarray:
    """Independent and uniform over the bounds at each step."""
    return _uniform(space, options.episode_length, rng)


def repeat(space: Box, options: CollectConfig, rng: np.random.Generator) -> np.ndarray:
    """Uniform over the bounds, each action held for `options.repeat_steps` steps."""
    drawn = _uniform(space, -(-options.episode_length // options.repeat_steps), rng)
    return np.repeat(drawn, options.repeat_steps, 0)[: options.episode_length]


def _uniform(space: Box, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)


def coloured(space: Box, options: CollectConfig, rng: np.random.Generator) -> np.ndarray:
    """Correlated in time: Gaussian noise of spectrum 1/f^options.noise_exponent, mapped to uniform marginals.

    The noise is drawn in the frequency domain (Timmer and König 1995), scaled to unit variance, and sent
    through the normal distribution function, so that every action is as likely as under `uniform`.
    """
    # SciPy takes longer to import than the rest; only this behaviour waits for it.
    from scipy.special import ndtr

    steps = options.episode_length
    # Twice the length: a window of a periodic signal that does not close on itself.
    frequencies = np.fft.rfftfreq(2 * steps)[1:]
    amplitude = frequencies ** (-options.noise_exponent / 2)
    size = (*space.shape, len(frequencies))
    spectrum = amplitude * (rng.standard_normal(size) + 1j * rng.standard_normal(size))
    signal = np.fft.irfft(np.concatenate([np.zeros((*space.shape, 1)), spectrum], -1), 2 * steps)[..., :steps]
    # Each frequency but the last, which has no imaginary part, gives power 2 · 2 amplitude² / (2 steps)².
    power = (4 * (amplitude[:-1] ** 2).sum() + amplitude[-1] ** 2) / (2 * steps) ** 2
    share = ndtr(np.moveaxis(signal, -1, 0) / np.sqrt(power))
    return (space.low + share * (space.high - space.low)).astype(np.float32)


# The names are those of worldjepa.notation.BEHAVIOURS.
BEHAVIOURS: dict[str, Behaviour] = {"uniform": uniform, "coloured": coloured, "repeat": repeat}
# A policy that is given the options too; by its name, since what trains and plans is no part of data.
SEEKER = "worldjepa.evaluation.goal_seeker:seek"


def parts(behaviour: str) -> list[tuple[str, float]]:
    """The names in `collect.behaviour` and their shares, which sum to 1.

    Raises:
        UserError: it is not written as `worldjepa.notation.shares` reads it.
    """
    try:
        return shares(behaviour)
    except ValueError as error:
        raise UserError(f"collect.behaviour={behaviour}: {error}") from None


def choose(options: CollectConfig, episode: int) -> int:
    """Which part of `options.behaviour` acts in an episode; depends on (options.seed, episode) alone."""
    each = parts(options.behaviour)
    # Beside the generator that the actions are drawn from, which is the same in a mixture and outside.
    rng = np.random.default_rng(np.random.SeedSequence([options.seed, episode], spawn_key=(0,)))
    return int(rng.choice(len(each), p=[share for _, share in each]))


def check(options: CollectConfig, space: gymnasium.Space) -> None:
    """Refuse what can't act.

    Raises:
        UserError: the action space is not a bounded Box of shape (A,), or a policy is not found.
    """
    if not is_bounded(space):
        raise UserError(
            f"collect: the action space {space} is neither discrete nor a bounded Box of real numbers "
            "of shape (A,), which behaviours need"
        )
    for name, _ in parts(options.behaviour):
        if name not in BEHAVIOURS:
            _policy(SEEKER if name == PLANNER else name)


def actor(name: str, env: gymnasium.Env, options: CollectConfig, rng: np.random.Generator) -> Act:
    """Who acts in one episode; its actions are rows (A,) float32 in the bounds, one-hot where discrete."""
    space = env.action_space
    assert isinstance(space, Box)
    if name == PLANNER:
        return _checked(name, _policy(SEEKER)(env, rng, options), env)
    if name not in BEHAVIOURS:
        return _checked(name, _policy(name)(env, rng), env)
    actions = BEHAVIOURS[name](space, options, rng)
    rows = iter(env.one_hot(actions) if isinstance(env, OneHot) else actions)
    return lambda frame, info: next(rows)


def _policy(name: str) -> Callable[..., Act]:
    module, _, path = name.partition(":")
    try:
        found = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"collect.behaviour: {name}: {error}; is it installed, or its folder in PYTHONPATH?"
        ) from None
    if not callable(found):
        raise UserError(f"collect.behaviour: {name} is not callable")
    return found


def _checked(name: str, act: Act, env: gymnasium.Env) -> Act:
    """A policy's actions as rows.

    Raises, when it acts:
        UserError: what it gives is no action of the environment.
    """

    def checked(frame: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        action = act(frame, info)
        row = _row(action, env)
        if row is None:
            wanted = env.env.action_space if isinstance(env, OneHot) else env.action_space
            given = " ".join(repr(action).split())
            raise UserError(f"collect.behaviour: {name} gave {given}, which is no action of {wanted}")
        return row

    return checked


def _row(action: Any, env: gymnasium.Env) -> np.ndarray | None:
    if isinstance(env, OneHot):
        row = env.row(action) if np.ndim(action) == 0 else np.zeros(1)
        return row if row.sum() == 1 else None
    space = env.action_space
    assert isinstance(space, Box)
    try:
        row = np.asarray(action, np.float32)
    except (TypeError, ValueError):
        return None
    return row.clip(space.low, space.high) if row.shape == space.shape and np.isfinite(row).all() else None
