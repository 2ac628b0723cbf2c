"""Goal reaching: start and goal pairs from held-out episodes, played by a policy, and what came of it."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
import numpy as np
from tqdm import tqdm

from ..data.environments import GOALS, Frames, GoalFrames, OneHot, is_bounded
from ..data.shards import Store
from ..errors import UserError


class Policy(Protocol):
    """Acts in E episodes at once; an agent is one."""

    def reset(self, frames: np.ndarray, states: np.ndarray | None = None) -> None: ...

    def act(self, frames: np.ndarray, states: np.ndarray | None = None) -> np.ndarray: ...

    def keep(self, mask: np.ndarray) -> None: ...


@dataclass
class Goals:
    """Start and goal states, (E, n) each, with the episode and step (E,) of the data that they come from."""

    start: np.ndarray
    goal: np.ndarray
    episode: np.ndarray
    step: np.ndarray
    already_there: int

    def first(self, count: int) -> "Goals":
        return self.part(slice(count))

    def part(self, part: slice) -> "Goals":
        return Goals(
            self.start[part], self.goal[part], self.episode[part], self.step[part], self.already_there
        )

    def __len__(self) -> int:
        return len(self.start)


@dataclass
class Outcome:
    """What came of E episodes.

    Attributes:
        success: (E,) bool, the goal was reached at some step within the budget.
        steps: (E,) environment steps until then, or the budget.
        error: (E,) largest coordinate error at the end, in tolerances of the task: below 1 is there.
        physical: by coordinate, "wrist [rad]", the error (E,) at the end in that unit, where the environment
            names its coordinates.
        decisions, seconds: how many action blocks were asked for, one for each episode still under way, and
            the time that took.
        frames: of each recorded episode, what was seen, each (H, W, 3) uint8, first to last.
        goal_frames: (E, H, W, 3).
    """

    success: np.ndarray
    steps: np.ndarray
    error: np.ndarray
    decisions: int
    seconds: float
    frames: list[list[np.ndarray]]
    goal_frames: np.ndarray
    physical: dict[str, np.ndarray] = field(default_factory=dict)


def why_no_goals(env: gymnasium.Env) -> str:
    """What an environment lacks for planning to goals, in words; empty where it lacks nothing."""
    inner = env.unwrapped
    name = type(inner).__name__
    missing = [method for method in GOALS if not hasattr(inner, method)]
    if missing:
        return f"{name} has no {missing[0]}(); planning to goals needs {', '.join(GOALS)}"
    if not is_bounded(inner.action_space):
        return f"{name} has actions {inner.action_space}; planning to goals needs a bounded Box of shape (A,)"
    return ""


def require_goals(env: gymnasium.Env) -> Any:
    """The environment itself, if states can be set and goals given, in frames of one size.

    Args:
        env: as `make_env` gives it.

    Raises:
        UserError: they can't.
    """
    if reason := why_no_goals(env):
        raise UserError(f"env.id: {reason}")
    return without_counting(env)


def without_counting(env: gymnasium.Env) -> Any:
    """The environment that `make_env` gave without wrappers that count steps or check them, its states set by
    hand; in frames of one size, and with the actions of the data."""
    if isinstance(env, OneHot):
        return OneHot(without_counting(env.env))
    return GoalFrames(env.unwrapped, env.size) if isinstance(env, Frames) else env.unwrapped


def sample_goals(
    store: Store,
    episodes: np.ndarray,
    env: Any,
    count: int,
    offset: int,
    seed: int,
    option: str = "plan.goals",
    tolerance: float = 1.0,
) -> Goals:
    """Pairs of states `offset` steps apart in the given episodes, drawn without repetition; pairs whose start
    is already at the goal are left out and counted.

    Args:
        option: what set `count`, for the messages.
        tolerance: as in `play`.

    Raises:
        UserError: the data hold no physics states, no such pairs, or states of another environment.
    """
    if not store.has("state"):
        raise UserError(
            f"{store.path}: has no column state (whole physics states), which starts and goals are made of"
        )
    counts = np.maximum(store.lengths[episodes] - offset, 0)
    pairs = np.stack([np.repeat(episodes, counts), np.concatenate([np.arange(c) for c in counts])], 1)
    if len(pairs) < count:
        raise UserError(
            f"{store.path}: {len(episodes)} held-out episodes hold {len(pairs)} pairs {offset} steps apart, "
            f"{option}={count}; collect more, or lower {option} or plan.goal_offset"
        )
    pairs = np.random.default_rng(seed).permutation(pairs)
    states = store.gather("state", pairs[:, 0], pairs[:, 1:] + np.array([[0, offset]]))
    if states.shape[-1] != len(env.get_state()):
        raise UserError(
            f"{store.path}: a state has {states.shape[-1]} numbers, "
            f"the environment's has {len(env.get_state())}"
        )
    qpos = env.qpos_of(states)
    there = (env.goal_error(qpos[:, 0], qpos[:, 1]) < tolerance).all(-1)
    order = np.flatnonzero(~there)[:count]
    if len(order) < count:
        raise UserError(
            f"{store.path}: only {len(order)} starts are not already at their goal, {option}={count}"
        )
    # Counted over the pairs that were looked at, so that the share means something.
    excluded = int(there[: order[-1] + 1].sum())
    return Goals(states[order, 0], states[order, 1], pairs[order, 0], pairs[order, 1], excluded)


def play(
    env: Any,
    goals: Goals,
    policy: Policy,
    budget: int,
    record: int = 0,
    label: str = "play",
    tolerance: float = 1.0,
    hold: int = 1,
) -> Outcome:
    """Play every episode until its goal is reached or the budget is used.

    One environment plays them all, an action block at a time: its whole state is swapped in and out, exactly.

    Args:
        env: what `require_goals` gave.
        goals: E pairs.
        policy: acts in all episodes that are still under way, at once.
        budget: environment steps for each.
        record: of how many episodes, the first ones, the frames are kept.
        label: of the progress bar.
        tolerance: how close counts as there, as a multiple of the task's own tolerance.
        hold: for how many environment steps, one after another.
    """
    count = len(goals)
    states, shown = goals.start.copy(), []
    goal_frames = np.stack([env.set_goal(goal) for goal in goals.goal])
    for state in states:
        env.set_state(state)
        shown.append(env.render())
    frames = np.stack(shown)
    recorded = [[frames[i].copy()] for i in range(min(record, count))]
    success, steps, error = np.zeros(count, bool), np.full(count, budget), np.zeros(count)
    decisions, seconds, held = 0, 0.0, np.zeros(count, np.int64)
    physical = {name: np.zeros(count) for name in getattr(env, "error_names", ())}
    active, used = np.arange(count), 0
    policy.reset(goal_frames, goals.goal)
    with tqdm(total=count, desc=label, unit=" goals", leave=False) as bar:
        while len(active) and used < budget:
            began = time.perf_counter()
            blocks = policy.act(frames[active], states[active])
            seconds, decisions = seconds + time.perf_counter() - began, decisions + len(active)
            blocks = blocks[:, : budget - used]
            for i, block in zip(active, blocks, strict=True):
                env.set_goal(goals.goal[i], draw=False)
                env.set_state(states[i])
                for number, action in enumerate(block, 1):
                    frame, _, _, _, info = env.step(action)
                    if i < len(recorded):
                        recorded[i].append(frame)
                    error[i] = env.goal_error(info["qpos"], env.qpos_of(goals.goal[i])).max()
                    held[i] = held[i] + 1 if error[i] < tolerance else 0
                    if held[i] == hold:
                        success[i], steps[i] = True, used + number
                        break
                states[i], frames[i] = info["state"], frame
                for name, value in zip(physical, info["error"] if physical else (), strict=True):
                    physical[name][i] = value
            used += blocks.shape[1]
            under_way = ~success[active]
            policy.keep(under_way)
            bar.update(int((~under_way).sum()))
            active = active[under_way]
    return Outcome(success, steps, error, decisions, seconds, recorded, goal_frames, physical)


def summary(outcome: Outcome) -> dict[str, Any]:
    """Success with its Wilson 95% interval, in percent, and the rest of a table's row."""
    # SciPy's statistics are slow to import.
    from scipy.stats import binomtest

    reached, count = int(outcome.success.sum()), len(outcome.success)
    interval = binomtest(reached, count).proportion_ci(0.95, "wilson")
    return {
        "success": 100 * reached / count,
        "interval": [100 * interval.low, 100 * interval.high],
        "reached": reached,
        "goals": count,
        "median_final_error": float(np.median(outcome.error)),
        "median_errors": {name: float(np.median(values)) for name, values in outcome.physical.items()},
        "median_steps": float(np.median(outcome.steps)),
        "seconds_per_decision": outcome.seconds / max(outcome.decisions, 1),
    }
