"""Who acts while rollouts are collected."""

from collections.abc import Callable

import gymnasium
import numpy as np
from scipy.special import ndtr

from ..errors import UserError

# (action space, steps, exponent, generator) to actions (steps, A) float32 within the space's bounds.
Behaviour = Callable[[gymnasium.spaces.Box, int, float, np.random.Generator], np.ndarray]


def uniform(space: gymnasium.spaces.Box, steps: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Independent and uniform over the bounds at each step; `exponent` is not used."""
    return rng.uniform(space.low, space.high, (steps, *space.shape)).astype(np.float32)


def coloured(
    space: gymnasium.spaces.Box, steps: int, exponent: float, rng: np.random.Generator
) -> np.ndarray:
    """Correlated in time: Gaussian noise of power spectrum 1/f^exponent, mapped to uniform marginals.

    The noise is drawn in the frequency domain (Timmer and König 1995), scaled to unit variance, and sent
    through the normal distribution function, so that every action is as likely as under `uniform`.
    """
    # Twice the length: a window of a periodic signal that does not close on itself.
    frequencies = np.fft.rfftfreq(2 * steps)[1:]
    amplitude = frequencies ** (-exponent / 2)
    size = (*space.shape, len(frequencies))
    spectrum = amplitude * (rng.standard_normal(size) + 1j * rng.standard_normal(size))
    signal = np.fft.irfft(np.concatenate([np.zeros((*space.shape, 1)), spectrum], -1), 2 * steps)[..., :steps]
    # Each frequency but the last, which has no imaginary part, gives power 2 · 2 amplitude² / (2 steps)².
    power = (4 * (amplitude[:-1] ** 2).sum() + amplitude[-1] ** 2) / (2 * steps) ** 2
    share = ndtr(np.moveaxis(signal, -1, 0) / np.sqrt(power))
    return (space.low + share * (space.high - space.low)).astype(np.float32)


BEHAVIOURS: dict[str, Behaviour] = {"uniform": uniform, "coloured": coloured}


def behaviour(name: str, space: gymnasium.Space) -> Behaviour:
    """The behaviour of that name.

    Raises:
        UserError: the action space is not a bounded Box of shape (A,).
    """
    if not isinstance(space, gymnasium.spaces.Box) or not space.is_bounded() or len(space.shape) != 1:
        raise UserError(
            f"collect: the action space {space} is not a bounded Box of shape (A,), which behaviours need"
        )
    return BEHAVIOURS[name]
