"""worldjepa.data.behaviours: bounds, marginals, and correlation in time against its closed form."""

import gymnasium
import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import kstest

from worldjepa.config import CollectConfig, Config
from worldjepa.data.behaviours import BEHAVIOURS, behaviour, coloured, uniform
from worldjepa.errors import UserError
from worldjepa.limits import validate

LOW, HIGH = np.array([-1, 0, 10], np.float32), np.array([1, 3, 10.5], np.float32)
SPACE = gymnasium.spaces.Box(LOW, HIGH, dtype=np.float32)
EXPONENTS = [0.0, 0.5, 1.0, 2.0]


def drawn(name: str, episodes: int, steps: int, exponent: float) -> np.ndarray:
    """(episodes, steps, A) float32."""
    act = behaviour(name, SPACE)
    return np.stack([act(SPACE, steps, exponent, np.random.default_rng((7, i))) for i in range(episodes)])


def gaussian(actions: np.ndarray) -> np.ndarray:
    """Undo the map to uniform marginals."""
    return ndtri((actions.astype(np.float64) - LOW) / (HIGH - LOW)).clip(-6, 6)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_actions_lie_within_the_bounds_and_fill_them(name: str, exponent: float):
    actions = drawn(name, 50, 100, exponent)
    assert actions.shape == (50, 100, 3)
    assert actions.dtype == np.float32
    assert SPACE.contains(actions.min((0, 1)))
    assert SPACE.contains(actions.max((0, 1)))
    np.testing.assert_allclose(actions.min((0, 1)), LOW, atol=0.02 * (HIGH - LOW).max())
    np.testing.assert_allclose(actions.max((0, 1)), HIGH, atol=0.02 * (HIGH - LOW).max())


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("name", BEHAVIOURS)
@pytest.mark.parametrize("step", [0, 31, 63])
def test_every_steps_actions_are_uniform_over_episodes(name: str, exponent: float, step: int):
    """One sample of each episode: independent of one another, whatever the correlation in time."""
    share = (drawn(name, 2000, 64, exponent)[:, step] - LOW) / (HIGH - LOW)
    for axis in range(3):
        assert kstest(share[:, axis], "uniform").pvalue > 1e-3


def test_uniform_actions_are_independent():
    actions = drawn("uniform", 1, 20_000, 0.0)[0]
    centred = (actions - actions.mean(0)) / actions.std(0)
    for lag in (1, 2, 10):
        np.testing.assert_allclose((centred[lag:] * centred[:-lag]).mean(0), 0, atol=4 / np.sqrt(20_000))
    correlations = np.corrcoef(actions.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(correlations, 0, atol=4 / np.sqrt(20_000))


def closed_form(exponent: float, steps: int, lag: int) -> float:
    """Correlation of noise of spectrum 1/f^exponent at a lag, by Wiener and Khinchin, period 2 · steps."""
    frequencies = np.fft.rfftfreq(2 * steps)[1:]
    power = frequencies**-exponent
    power[-1] /= 4  # the last frequency has a real part only, and no mirror image
    return float((power * np.cos(2 * np.pi * frequencies * lag)).sum() / power.sum())


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_coloured_noise_has_the_closed_forms_correlations(exponent: float):
    signal = gaussian(drawn("coloured", 2000, 64, exponent))
    for lag in (1, 2, 5, 20, 63):
        product = signal[:, lag:] * signal[:, : 64 - lag]
        expected = closed_form(exponent, 64, lag)
        error = product.mean((1, 2)).std() / np.sqrt(2000)
        assert abs(product.mean() - expected) < 4 * error, lag


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_coloured_noise_has_the_exponents_spectrum(exponent: float):
    signal = gaussian(drawn("coloured", 400, 256, exponent))
    power = (np.abs(np.fft.rfft(signal * np.hanning(256)[:, None], axis=1)) ** 2).mean((0, 2))
    band = slice(4, 100)  # away from the window's own width and from the highest frequency
    slope, _ = np.polyfit(np.log(np.fft.rfftfreq(256)[band]), np.log(power[band]), 1)
    assert slope == pytest.approx(-exponent, abs=0.05)


def test_exponent_orders_the_correlation_of_neighbours():
    actions = (drawn("coloured", 200, 100, e) for e in EXPONENTS)
    neighbours = [np.corrcoef(a[:, 1:, 0].ravel(), a[:, :-1, 0].ravel())[0, 1] for a in actions]
    assert neighbours == sorted(neighbours)
    assert abs(neighbours[0]) < 0.03, "exponent 0 is white"
    assert neighbours[-1] > 0.9


def test_coloured_actions_do_not_depend_on_one_another():
    actions = drawn("coloured", 2000, 16, 1.0)[:, 5]
    correlations = np.corrcoef(actions.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(correlations, 0, atol=4 / np.sqrt(2000))


def test_an_episode_does_not_close_on_itself():
    signal = gaussian(drawn("coloured", 500, 64, 2.0))
    assert np.corrcoef(signal[:, 0, 0], signal[:, -1, 0])[0, 1] < 0


@pytest.mark.parametrize("name", BEHAVIOURS)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_episodes(name: str, steps: int):
    actions = drawn(name, 400, steps, 1.0)
    assert actions.shape == (400, steps, 3)
    for axis in range(3):
        assert kstest(((actions - LOW) / (HIGH - LOW))[:, -1, axis], "uniform").pvalue > 1e-3


def test_the_generator_alone_decides():
    for act in (uniform, coloured):
        one, same, other = (act(SPACE, 10, 1.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert (one != other).all()


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Discrete(4),
        gymnasium.spaces.MultiBinary(3),
        gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
        gymnasium.spaces.Box(np.zeros(2, np.float32), np.array([1, np.inf], np.float32)),
        gymnasium.spaces.Box(-1, 1, (2, 3)),
        gymnasium.spaces.Box(-1, 1, ()),
    ],
    ids=str,
)
def test_other_action_spaces_are_refused(space: gymnasium.Space):
    with pytest.raises(UserError, match="bounded Box") as caught:
        behaviour("uniform", space)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_behaviour_can_be_asked_for(name: str):
    validate(Config(collect=CollectConfig(behaviour=name)))
