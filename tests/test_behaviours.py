"""worldjepa.data.behaviours: bounds, marginals, correlation in time in closed form; policies and mixtures."""

import zlib

import gymnasium
import numpy as np
import own_envs
import pytest
from scipy.special import ndtri
from scipy.stats import kstest

from worldjepa.config import CollectConfig, Config, EnvConfig
from worldjepa.data.behaviours import BEHAVIOURS, actor, check, choose, parts
from worldjepa.data.environments import make_env
from worldjepa.errors import UserError
from worldjepa.limits import validate
from worldjepa.notation import BEHAVIOURS as NAMES

LOW, HIGH = np.array([-1, 0, 10], np.float32), np.array([1, 3, 10.5], np.float32)
SPACE = gymnasium.spaces.Box(LOW, HIGH, dtype=np.float32)
EXPONENTS = [0.0, 0.5, 1.0, 2.0]
HELD = 3


def drawn(name: str, episodes: int, steps: int, exponent: float) -> np.ndarray:
    """(episodes, steps, A) float32."""
    options = CollectConfig(episode_length=steps, noise_exponent=exponent, repeat_steps=HELD)
    act = BEHAVIOURS[name]
    return np.stack([act(SPACE, options, np.random.default_rng((7, i))) for i in range(episodes)])


def gaussian(actions: np.ndarray) -> np.ndarray:
    """Undo the map to uniform marginals."""
    return ndtri((actions.astype(np.float64) - LOW) / (HIGH - LOW)).clip(-6, 6)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_actions_lie_within_the_bounds_and_fill_them(name: str, exponent: float):
    actions = drawn(name, 100, 100, exponent)
    assert actions.shape == (100, 100, 3)
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
    options = CollectConfig(episode_length=10)
    for act in BEHAVIOURS.values():
        one, same, other = (act(SPACE, options, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert (one != other).all()


def test_the_actions_of_a_seed_stay():
    """Data sets that were begun with an earlier version go on in this one."""
    first = np.random.SeedSequence([0, 0])
    drawn = {n: act(SPACE, CollectConfig(), np.random.default_rng(first)) for n, act in BEHAVIOURS.items()}
    assert zlib.crc32(drawn["uniform"]) == 3517431896
    assert zlib.crc32(drawn["repeat"]) == 501012411
    # Of what goes through a Fourier transform the last bit is the library's.
    expected = [[1.86553627e-01, 3.02208483e-01, 1.02898207e01], [3.22871715e-01, 1.33770955, 1.02573223e01]]
    np.testing.assert_allclose(drawn["coloured"][:2], expected, rtol=1e-6)


def test_repeated_actions_are_held_and_then_drawn_anew():
    actions = drawn("repeat", 200, 8, 0.0)
    for start, end in ((0, 3), (3, 6), (6, 8)):
        assert (actions[:, start:end] == actions[:, start : start + 1]).all()
    assert (actions[:, 2] != actions[:, 3]).all()
    neighbours = np.corrcoef(actions[:, 2, 0], actions[:, 3, 0])[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(200)


# Mixtures


def test_shares_are_read_and_sum_to_1():
    assert parts("coloured") == [("coloured", 1.0)]
    assert parts("uniform=3, coloured=1") == [("uniform", 0.75), ("coloured", 0.25)]
    assert parts("uniform,repeat,a.b:c.d=2") == [("uniform", 0.25), ("repeat", 0.25), ("a.b:c.d", 0.5)]


WRONG = [
    "",
    "clever",
    "uniform=",
    "uniform=0",
    "uniform=-1,coloured=2",
    "uniform=nan",
    "uniform=inf",
    "uniform,",
]
WRONG += ["a:", ":a", "a:b:c", "a-b:c", "uniform:0.5,coloured:0.3", "uniform=1=2"]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_behaviour_is_refused(text: str):
    with pytest.raises(UserError, match=r"collect\.behaviour="):
        parts(text)
    with pytest.raises(UserError, match=r"collect\.behaviour="):
        validate(Config(collect=CollectConfig(behaviour=text)))


def test_the_part_that_acts_depends_on_seed_and_episode_alone():
    options = CollectConfig(behaviour="uniform=6,coloured=3,repeat=1")
    chosen = np.array([choose(options, episode) for episode in range(3000)])
    assert [choose(options, episode) for episode in reversed(range(50))] == chosen[:50][::-1].tolist()
    other = np.array([choose(CollectConfig(behaviour=options.behaviour, seed=1), e) for e in range(50)])
    assert (other != chosen[:50]).any()
    share = np.bincount(chosen) / 3000
    np.testing.assert_allclose(share, [0.6, 0.3, 0.1], atol=4 * 0.5 / np.sqrt(3000))


# Who acts in an episode

GAUGE, KEYS = (make_env(EnvConfig(id=f"own_envs:{name}-v0")) for name in ("Gauge", "Keys"))
BLACK = np.zeros((64, 64, 3), np.uint8)


def rows(name: str, env: gymnasium.Env, frames: list[np.ndarray]) -> np.ndarray:
    """What acts on these frames."""
    options = CollectConfig(episode_length=len(frames))
    act = actor(name, env, options, np.random.default_rng(5))
    return np.stack([act(frame, {}) for frame in frames])


def test_a_policy_acts_on_what_it_sees_within_the_bounds():
    dark, bright = (rows("own_envs:to_the_middle", GAUGE, 50 * [BLACK + light]) for light in (0, 255))
    assert dark.shape == (50, 1)
    assert dark.dtype == np.float32
    # Far beyond the bounds of -2 and 3 without clipping.
    assert (dark == 3).all()
    assert (bright == -2).all()
    middle = rows("own_envs:to_the_middle", GAUGE, 50 * [BLACK + 128])
    assert np.ptp(middle) > 1
    np.testing.assert_array_equal(middle, rows("own_envs:to_the_middle", GAUGE, 50 * [BLACK + 128]))


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_discrete_actions_are_one_hot_and_equally_likely(name: str):
    options = CollectConfig(episode_length=60, repeat_steps=HELD)
    episodes = []
    for seed in range(200):
        act = actor(name, KEYS, options, np.random.default_rng(seed))
        episodes.append(np.stack([act(BLACK, {}) for _ in range(60)]))
    actions = np.stack(episodes)
    assert actions.dtype == np.float32
    assert set(np.unique(actions)) == {0, 1}
    assert (actions.sum(-1) == 1).all()
    held = (actions[:, 1:] * actions[:, :-1]).sum(-1).mean()
    np.testing.assert_allclose(actions.mean((0, 1)), 1 / 3, atol=0.05)
    # Drawn anew, the same key follows in a third of the cases.
    low, high = {"uniform": (0.31, 0.36), "repeat": (0.75, 0.81), "coloured": (0.45, 0.95)}[name]
    assert low < held < high


def test_a_policy_names_discrete_actions_by_number():
    np.testing.assert_array_equal(rows("own_envs:key_up", KEYS, 2 * [BLACK]), [[0, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize("env", [GAUGE, KEYS], ids=["box", "discrete"])
def test_what_is_no_action_is_refused(env: gymnasium.Env):
    with pytest.raises(
        UserError, match=r"own_envs:too_many gave array\(\[0\..*, which is no action of"
    ) as caught:
        rows("own_envs:too_many", env, [BLACK])
    assert "\n" not in str(caught.value)
    if env is KEYS:
        assert "Discrete(3" in str(caught.value)
    else:
        for bad in (np.array([np.nan]), "left", None, [[0.0]]):
            own_envs.said = bad
            with pytest.raises(UserError, match="own_envs:as_said gave"):
                rows("own_envs:as_said", env, [BLACK])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_package:policy", "No module named 'no_such_package'; is it installed"),
        ("own_envs:no_such_policy", "no_such_policy"),
        ("own_envs:Gauge.nothing", "nothing"),
        ("own_envs:not_callable", "own_envs:not_callable is not callable"),
    ],
)
def test_a_policy_that_is_not_there(name: str, words: str):
    with pytest.raises(UserError, match=words):
        check(CollectConfig(behaviour=f"uniform,{name}"), SPACE)


@pytest.mark.parametrize(
    "space", [gymnasium.spaces.MultiBinary(3), gymnasium.spaces.Box(-np.inf, np.inf, (2,))], ids=str
)
def test_other_action_spaces_are_refused(space: gymnasium.Space):
    with pytest.raises(UserError, match="bounded Box") as caught:
        check(CollectConfig(), space)
    assert "\n" not in str(caught.value)


def test_every_behaviour_can_be_asked_for():
    assert tuple(BEHAVIOURS) == NAMES
    for name in (*NAMES, "uniform=0.5,coloured=0.3,my_package.policies:expert=0.2"):
        validate(Config(collect=CollectConfig(behaviour=name)))
