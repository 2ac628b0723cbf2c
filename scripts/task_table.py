"""The goal tasks measured: how many goals random actions reach, and how many a planner on the true dynamics.

    python scripts/task_table.py                    # what is not yet in results/tasks.json; prints the table
    python scripts/task_table.py finger --again     # one task anew

Of each recipe 20 episodes are collected under a seed that its training data do not have; starts and goals are
pairs of their states 25 steps apart. A row is measured again when its task or its recipe has changed. No
model is involved.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from worldjepa.config import Config
from worldjepa.data.collect import collect
from worldjepa.data.environments import make_env
from worldjepa.data.shards import Store
from worldjepa.evaluation.goals import play, sample_goals, summary
from worldjepa.evaluation.policies import RandomPolicy, TrueDynamics
from worldjepa.files import write_text
from worldjepa.options import leaves
from worldjepa.planning.agent import build_agent
from worldjepa.planning.costs import COSTS
from worldjepa.recipes import load_config

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "tasks.json"
RECIPES = (
    *("reacher", "point_mass", "swimmer", "cartpole", "ball_in_cup", "finger", "cheetah", "walker"),
    "swimmer_aboard",
)
HELD_OUT = ("collect.seed=1", "collect.episodes=20", "collect.shard_episodes=10", "plan.goals=100")


def options(config: Config, task: Any) -> dict[str, Any]:
    """Everything that a row depends on."""
    groups = {name: dataclasses.asdict(getattr(config, name)) for name in ("env", "collect", "plan")}
    del groups["collect"]["workers"]
    for name in ("bound_goals", "videos"):
        del groups["plan"][name]
    return json.loads(
        json.dumps(groups | {"frameskip": config.data.frameskip, "task": dataclasses.asdict(task)})
    )


def unchanged(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the options of a row have the values that they had; those that came or went do not count."""
    old, new = leaves(before), leaves(now)
    return all(old[name] == new[name] for name in old.keys() & new.keys())


def measure(config: Config, env: Any) -> dict[str, Any]:
    """One row: the floor, the bound, and how many starts were at their goal already."""
    plan, space, frameskip = config.plan, env.action_space, config.data.frameskip
    with tempfile.TemporaryDirectory() as folder:
        collect(Path(folder), config.env, config.collect)
        store = Store(Path(folder))
        goals = sample_goals(
            store, np.arange(len(store.lengths)), env, plan.goals, plan.goal_offset, plan.seed
        )
    floor = RandomPolicy(space.low, space.high, frameskip, plan.seed)
    truth = TrueDynamics(env, COSTS[plan.cost], frameskip)
    bound = build_agent(plan, frameskip, space, truth, torch.device("cpu"))
    rows = {
        name: summary(play(env, goals, policy, plan.budget, label=name))
        for name, policy in (("random actions", floor), ("true dynamics", bound))
    }
    for row in rows.values():
        del row["seconds_per_decision"]
    return {"already_there": goals.already_there, "pairs": len(goals), "rows": rows}


def table(results: dict[str, Any]) -> str:
    """results/tasks.json as the README's Markdown table."""
    lines = [
        "| recipe | goal is reached when | control step | random actions | true dynamics | already there |",
        "|---|---|---|---|---|---|",
    ]
    for recipe, result in results.items():
        floor, bound = (
            f"{row['success']:.0f} % ({row['interval'][0]:.0f} to {row['interval'][1]:.0f})"
            for row in result["rows"].values()
        )
        there = result["already_there"]
        step = result["options"]["task"]["control_step"]
        share = f"{there} of {there + result['pairs']}"
        lines.append(f"| `{recipe}` | {result['rule']} | {step:g} s | {floor} | {bound} | {share} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES, metavar="RECIPE", help="default: all of them")
    parser.add_argument("--again", action="store_true", help="measure what is there already")
    chosen = parser.parse_args()
    if wrong := set(chosen.recipes) - set(RECIPES):
        parser.error(f"{', '.join(sorted(wrong))}: the recipes with goals are {', '.join(RECIPES)}")
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    for recipe in tqdm(chosen.recipes, unit=" tasks"):
        config = load_config(recipe, HELD_OUT)
        env = make_env(config.env).unwrapped
        about = options(config, env.task)
        if chosen.again or recipe not in results or not unchanged(results[recipe]["options"], about):
            results[recipe] = {"rule": env.task.rule(), "options": about, **measure(config, env)}
            ordered = {name: results[name] for name in RECIPES if name in results}
            write_text(RESULTS, json.dumps(ordered, indent=1) + "\n")
        env.close()
    print(table({name: results[name] for name in RECIPES if name in results}))


if __name__ == "__main__":
    main()
