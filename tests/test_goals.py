"""Goal reaching: honest pairs, exact play, and an interval that SciPy and statsmodels agree on."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from moving_dot import SPEED, DotWorld, dot_episode, dot_frames, write_dots, write_episodes
from statsmodels.stats.proportion import proportion_confint

from worldjepa.data.shards import Store
from worldjepa.errors import UserError
from worldjepa.evaluation.goals import Goals, Outcome, play, require_goals, sample_goals, summary

OFFSET = 15


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six episodes of 40 frames of a moving dot."""
    return Store(write_dots(tmp_path_factory.mktemp("dots")))


def still_and_moving(folder: Path) -> Store:
    """Episode 0 rests, episode 1 moves steadily; 35 pairs five steps apart in each."""
    rest, along = np.zeros((40, 2), np.float32), np.full((40, 2), 0.5, np.float32)
    return Store(write_episodes(folder, [dot_episode(a, np.array([0.5, 0.5])) for a in (rest, along)]))


# Sampling


def test_pairs_come_from_the_given_episodes_and_are_the_offset_apart(store: Store) -> None:
    goals = sample_goals(store, np.array([1, 4]), DotWorld(), 45, OFFSET, seed=0)
    assert len(goals) == 45
    assert set(goals.episode) == {1, 4}
    assert goals.step.min() >= 0
    assert goals.step.max() + OFFSET <= 39
    assert len(set(zip(goals.episode, goals.step, strict=True))) == 45
    steps = np.stack([goals.step, goals.step + OFFSET], 1)
    states = store.gather("qpos", goals.episode, steps)
    assert np.array_equal(goals.start, states[:, 0])
    assert np.array_equal(goals.goal, states[:, 1])


def test_every_pair_can_be_drawn(tmp_path: Path) -> None:
    goals = sample_goals(still_and_moving(tmp_path), np.array([1]), DotWorld(), 35, 5, seed=0)
    assert sorted(goals.step) == list(range(35))
    assert goals.already_there == 0


def test_starts_already_at_their_goal_are_left_out_and_counted(tmp_path: Path) -> None:
    store = still_and_moving(tmp_path)
    draws = [sample_goals(store, np.array([0, 1]), DotWorld(), count, 5, seed=3) for count in range(1, 36)]
    assert all(set(goals.episode) == {1} for goals in draws)
    # More goals look at more pairs: the first ones stay, the count of the excluded grows with them.
    for fewer, more in pairwise(draws):
        assert np.array_equal(more.step[:-1], fewer.step)
        assert fewer.already_there <= more.already_there <= 35
    assert draws[0].already_there < 10
    assert draws[-1].already_there > 25


def test_one_seed_one_set_of_goals(store: Store) -> None:
    draws = [sample_goals(store, np.arange(6), DotWorld(), 20, OFFSET, seed) for seed in (1, 1, 2)]
    assert np.array_equal(draws[0].start, draws[1].start)
    assert not np.array_equal(draws[0].start, draws[2].start)


def test_the_first_goals_are_the_same_goals(store: Store) -> None:
    goals = sample_goals(store, np.arange(6), DotWorld(), 20, OFFSET, seed=0)
    few = goals.first(3)
    assert len(few) == 3
    for name in ("start", "goal", "episode", "step"):
        assert np.array_equal(getattr(few, name), getattr(goals, name)[:3])


def test_short_episodes_give_no_pairs(tmp_path: Path) -> None:
    actions = [np.full((length, 2), 0.5, np.float32) for length in (15, 16, 18)]
    store = Store(write_episodes(tmp_path, [dot_episode(a, np.zeros(2)) for a in actions]))
    goals = sample_goals(store, np.arange(3), DotWorld(), 4, OFFSET, seed=0)
    assert sorted(zip(goals.episode, goals.step, strict=True)) == [(1, 0), (2, 0), (2, 1), (2, 2)]


def test_too_few_pairs_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 held-out episodes hold 50 pairs 15 steps apart"):
        sample_goals(store, np.array([0, 1]), DotWorld(), 51, OFFSET, seed=0)
    with pytest.raises(UserError, match=r"only 35 starts are not already at their goal"):
        sample_goals(still_and_moving(tmp_path), np.array([0, 1]), DotWorld(), 36, 5, seed=0)


def test_data_without_or_with_foreign_states_are_refused(store: Store, tmp_path: Path) -> None:
    episode = dot_episode(np.ones((40, 2), np.float32), np.zeros(2))
    del episode["state"]
    with pytest.raises(UserError, match="has no column state"):
        sample_goals(Store(write_episodes(tmp_path, [episode])), np.array([0]), DotWorld(), 1, OFFSET, seed=0)

    class Larger(DotWorld):
        def get_state(self) -> np.ndarray:
            return np.zeros(7)

    with pytest.raises(UserError, match="a state has 2 numbers, the environment's has 7"):
        sample_goals(store, np.array([0]), Larger(), 1, OFFSET, seed=0)


def test_an_environment_without_goals_is_refused() -> None:
    env = gymnasium.make("CartPole-v1")
    with pytest.raises(
        UserError, match=r"env\.id: CartPoleEnv has no set_state\(\); planning to goals needs"
    ):
        require_goals(env)
    env.close()
    assert isinstance(require_goals(DotWorld()), DotWorld)


# Playing


class Steady:
    """Moves every episode along by the same actions, and writes down what it is told."""

    def __init__(self, action: tuple[float, float] = (1.0, 0.0), frameskip: int = 5):
        self.block = np.tile(np.array(action, np.float32), (frameskip, 1))
        self.asked: list[int] = []
        self.kept: list[list[bool]] = []

    def reset(self, frames: np.ndarray, states: np.ndarray | None = None) -> None:
        self.goal_frames, self.goal_states = frames, states

    def act(self, frames: np.ndarray, states: np.ndarray | None = None) -> np.ndarray:
        self.seen = frames, states
        self.asked.append(len(frames))
        return np.repeat(self.block[None], len(frames), 0)

    def keep(self, mask: np.ndarray) -> None:
        self.kept.append(mask.tolist())


def along(*distances: float) -> Goals:
    """Episodes that start at 0.1 on the first axis, their goals that many steps of a tenth ahead."""
    count = len(distances)
    start = np.tile([0.1, 0.5], (count, 1))
    goal = start + np.array([[SPEED * d, 0] for d in distances])
    return Goals(start, goal, np.arange(count), np.zeros(count, int), 0)


def test_success_is_ever_being_there() -> None:
    # The second goal is reached in the middle of a block; the last lies between two steps, and never is.
    outcome = play(DotWorld(), along(5, 2, 7, 3.5), Steady(), budget=10)
    assert outcome.success.tolist() == [True, True, True, False]
    assert outcome.steps.tolist() == [5, 2, 7, 10]
    assert (outcome.error[:3] < 1e-6).all()
    # It ends 6.5 steps past its goal, on a torus ten steps long: 3.5 steps away, in tolerances.
    assert outcome.error[3] == pytest.approx(3.5 * SPEED / DotWorld.tolerance)


class ThereAndStay(Steady):
    """Moves for some steps, then rests."""

    def __init__(self, moves: int):
        super().__init__(frameskip=5)
        self.moves, self.used = moves, 0

    def act(self, frames: np.ndarray, states: np.ndarray | None = None) -> np.ndarray:
        blocks = super().act(frames, states)
        blocks[:, max(0, self.moves - self.used) :] = 0
        self.used += blocks.shape[1]
        return blocks


@pytest.mark.parametrize(("hold", "steps"), [(1, 4), (2, 5), (9, 12), (10, 12)])
def test_a_goal_to_hold_is_reached_when_it_was_held_in_a_row(hold: int, steps: int) -> None:
    passed = play(DotWorld(), along(4), Steady(), budget=12, hold=hold)
    assert passed.success.tolist() == [hold == 1], "passing by counts for one step alone"
    held = play(DotWorld(), along(4), ThereAndStay(4), budget=12, hold=hold)
    # There after four steps; of a budget of twelve, nine are spent there.
    assert held.success.tolist() == [hold <= 9]
    assert held.steps.tolist() == [steps]


def test_the_tolerance_counts_in_those_of_the_task() -> None:
    # It passes by at 1.5 of the task's tolerances, 0.3 of a step.
    for tolerance, reached in ((1.0, False), (1.4, False), (1.6, True), (3.0, True)):
        outcome = play(DotWorld(), along(3.3), Steady(), budget=5, tolerance=tolerance)
        assert outcome.success.tolist() == [reached]


class Measured(DotWorld):
    """Tells its error in metres, by coordinate."""

    error_names = ("across [m]", "along [m]")

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        frame, reward, ended, truncated, info = super().step(action)
        return (
            frame,
            reward,
            ended,
            truncated,
            info | {"error": self.goal_error(self.state, self.goal) * self.tolerance},
        )


def test_final_errors_are_told_in_physical_units_where_the_environment_has_names() -> None:
    outcome = play(Measured(), along(5, 2, 7, 3.5), Steady(), budget=10)
    assert outcome.physical["across [m]"] == pytest.approx([0, 0, 0, 3.5 * SPEED], abs=1e-6)
    assert outcome.physical["along [m]"] == pytest.approx([0, 0, 0, 0], abs=1e-6)
    errors = summary(play(Measured(), along(3.5, 4.5, 5), Steady(), budget=3))["median_errors"]
    assert errors == pytest.approx({"across [m]": 1.5 * SPEED, "along [m]": 0}, abs=1e-6)
    assert summary(play(DotWorld(), along(5), Steady(), budget=10))["median_errors"] == {}


def test_a_tighter_rule_leaves_fewer_starts_out(tmp_path: Path) -> None:
    store, episodes = still_and_moving(tmp_path), np.array([0, 1])
    # In episode 1 a start is 0.25 from its goal, 12.5 tolerances; in episode 0 it is there.
    for tolerance, episode in ((0.5, {1}), (12.0, {1})):
        goals = sample_goals(store, episodes, DotWorld(), 30, 5, seed=3, tolerance=tolerance)
        assert set(goals.episode) == episode
    with pytest.raises(UserError, match="only 0 starts are not already at their goal"):
        sample_goals(store, episodes, DotWorld(), 30, 5, seed=3, tolerance=13)


def test_finished_episodes_are_dropped() -> None:
    policy = Steady()
    outcome = play(DotWorld(), along(2, 8, 50.5, 3), policy, budget=15)
    assert policy.asked == [4, 2, 1]
    assert policy.kept == [[False, True, True, False], [False, True], [True]]
    assert outcome.decisions == 7
    assert outcome.seconds > 0


@pytest.mark.parametrize("budget", [3, 5, 7, 8])
def test_the_budget_is_never_exceeded(budget: int) -> None:
    world = DotWorld()
    outcome = play(world, along(3.5, 4.5), Steady(), budget)
    assert world.steps == 2 * budget
    assert outcome.steps.tolist() == [budget, budget]
    assert not outcome.success.any()
    within, without = along(budget), along(budget + 1)
    assert play(DotWorld(), within, Steady(), budget).success.all()
    assert not play(DotWorld(), without, Steady(), budget).success.any()


def test_the_policy_is_told_its_goals_and_sees_pictures_of_them() -> None:
    policy, goals = Steady(), along(2, 8)
    outcome = play(DotWorld(), goals, policy, budget=10)
    frames, states = policy.seen
    assert np.array_equal(frames, dot_frames(states)), "a frame shows the state that comes with it"
    assert states == pytest.approx(np.array([[0.6, 0.5]]))
    assert np.array_equal(policy.goal_frames, dot_frames(goals.goal))
    assert np.array_equal(policy.goal_states, goals.goal)
    assert np.array_equal(outcome.goal_frames, policy.goal_frames)


def test_the_first_episodes_are_recorded_from_start_to_end() -> None:
    goals = along(2, 8, 3)
    outcome = play(DotWorld(), goals, Steady(), budget=10, record=2)
    assert [len(frames) for frames in outcome.frames] == [3, 9]
    for frames, start, goal in zip(outcome.frames, goals.start, goals.goal, strict=False):
        assert np.array_equal(frames[0], dot_frames(start[None])[0])
        # Adding a tenth eight times rounds; a pixel may differ by one grey level.
        assert np.abs(frames[-1].astype(int) - dot_frames(goal[None])[0]).max() <= 1
    assert play(DotWorld(), goals, Steady(), budget=10).frames == []


def test_episodes_are_as_if_played_alone(reacher: Any, tiny_data: Path) -> None:
    goals = sample_goals(Store(tiny_data), np.arange(6), reacher, 3, OFFSET, seed=0)
    together = play(reacher, goals, Steady((0.4, -0.7)), budget=12, record=3)
    for i in range(3):
        one = Goals(goals.start[[i]], goals.goal[[i]], goals.episode[[i]], goals.step[[i]], 0)
        alone = play(reacher, one, Steady((0.4, -0.7)), budget=12, record=1)
        assert (alone.success[0], alone.steps[0], alone.error[0]) == (
            together.success[i], together.steps[i], together.error[i]
        )  # fmt: skip
        assert np.array_equal(alone.frames[0], together.frames[i])


class Replay:
    """The data's own actions from each pair's start on."""

    def __init__(self, store: Store, goals: Goals, frameskip: int):
        steps = goals.step[:, None] + np.arange(25)
        self.blocks = store.gather("action", goals.episode, steps).reshape(
            len(goals), -1, frameskip, store.action_dim
        )
        self.number = -1

    def reset(self, frames: np.ndarray, states: np.ndarray | None = None) -> None:
        pass

    def act(self, frames: np.ndarray, states: np.ndarray | None = None) -> np.ndarray:
        self.number += 1
        return self.blocks[:, self.number]

    def keep(self, mask: np.ndarray) -> None:
        self.blocks = self.blocks[mask]


def test_replaying_the_actions_of_the_data_reaches_every_goal(reacher: Any, tiny_data: Path) -> None:
    store = Store(tiny_data)
    goals = sample_goals(store, np.arange(6), reacher, 30, 25, seed=0)
    outcome = play(reacher, goals, Replay(store, goals, frameskip=5), budget=25, record=30)
    assert outcome.success.all()
    # What was seen on the way is what was recorded, byte for byte.
    for frames, episode, step, steps in zip(
        outcome.frames, goals.episode, goals.step, outcome.steps, strict=True
    ):
        recorded = store.gather("pixels", np.array([episode]), step + np.arange(steps + 1)[None])[0]
        assert np.array_equal(np.stack(frames), recorded)


# Summary


@pytest.mark.parametrize(("reached", "count"), [(0, 5), (5, 5), (47, 50), (1, 1), (0, 1), (193, 200), (3, 7)])
def test_the_interval_is_wilsons(reached: int, count: int) -> None:
    success = np.arange(count) < reached
    row = summary(Outcome(success, np.arange(count), np.linspace(0, 3, count), 4, 2.0, [], np.empty(0)))
    low, high = proportion_confint(reached, count, alpha=0.05, method="wilson")
    assert row["interval"] == pytest.approx([100 * low, 100 * high], abs=1e-9)
    assert row["success"] == pytest.approx(100 * reached / count)
    assert (row["reached"], row["goals"]) == (reached, count)
    assert row["median_steps"] == (count - 1) / 2
    assert row["median_final_error"] == pytest.approx(1.5 if count > 1 else 0)
    assert row["seconds_per_decision"] == 0.5


def test_nothing_decided_took_no_time() -> None:
    outcome = Outcome(np.array([True]), np.zeros(1), np.zeros(1), 0, 0.0, [], np.empty(0))
    assert summary(outcome)["seconds_per_decision"] == 0
