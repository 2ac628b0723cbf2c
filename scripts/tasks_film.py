"""Keep the first planned episode of each task in results/film.json, which `make pictures` draws as
docs/planned_tasks.gif.

    python scripts/tasks_film.py runs/sweeps/tasks/*-jepa-seed0

No episode is chosen: it is the first held-out goal that `worldjepa plan RUN` tries. What is kept is the goal,
the start, and the actions that the planner took.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from worldjepa.commands.train import goal_env, open_store
from worldjepa.data.windows import split_episodes
from worldjepa.errors import UserError
from worldjepa.evaluation.goals import Policy, play, sample_goals
from worldjepa.evaluation.planner import latent_planner, prepare
from worldjepa.files import write_text
from worldjepa.pretrained import SUFFIX
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import choose_device

RESULTS = Path(__file__).parents[1] / "results" / "film.json"


class Recording:
    """A policy that keeps what it did in a single episode."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.actions = policy, []
        self.reset, self.keep = policy.reset, policy.keep

    def act(self, frames: np.ndarray, states: np.ndarray | None = None) -> np.ndarray:
        blocks = self.policy.act(frames, states)
        self.actions += blocks[0].tolist()
        return blocks


def record(run: str) -> tuple[str, dict[str, Any]]:
    """The recipe of a run, and its planner's first episode."""
    config = load_config(run)
    target, device = Run(config.run), choose_device(config.train)
    model = target.load_world_model(device)
    prepare(model, config, device)
    store, plan = open_store(config), config.plan
    env = goal_env(config, store)
    _, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    first = sample_goals(store, held_out, env, 1, plan.goal_offset, plan.seed, tolerance=plan.tolerance)
    policy = Recording(latent_planner(config, store, model, env.action_space))
    outcome = play(env, first, policy, plan.budget, 1, config.name, plan.tolerance, plan.hold)
    env.close()
    return config.name.removesuffix(SUFFIX), {
        "checkpoint": target.chosen_step(),
        "episode": int(first.episode[0]),
        "step": int(first.step[0]),
        "reached": bool(outcome.success[0]),
        "start": first.start[0].tolist(),
        "goal": first.goal[0].tolist(),
        # The last block is left where the goal was reached.
        "actions": policy.actions[: int(outcome.steps[0])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", help="trained runs, one of each recipe")
    films = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for run in parser.parse_args().runs:
        try:
            recipe, film = record(run)
        except UserError as error:
            parser.error(str(error))
        films[recipe] = film
        write_text(RESULTS, json.dumps(films, indent=1) + "\n")
        print(f"{recipe}: {'reached' if film['reached'] else 'not reached'}, {len(film['actions'])} steps")


if __name__ == "__main__":
    main()
