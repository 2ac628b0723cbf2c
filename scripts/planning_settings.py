"""Success against the planner's settings: candidates, iterations, blocks between decisions, solvers.

    python scripts/planning_settings.py RUN [--data FOLDER] [--protocol far50] [--goals 300]
        [--only iCEM,MPPI]

Every setting tries the same held-out goals, so that settings are compared goal by goal: the last column is
the difference to the best setting in points with its 95 % interval (normal, paired). What is finished is in
results/planning_settings.json and is not run again.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from task_table import unchanged

from worldjepa.commands.train import goal_env, open_store
from worldjepa.data.windows import split_episodes
from worldjepa.errors import UserError
from worldjepa.evaluation.goals import play, sample_goals, summary
from worldjepa.evaluation.planner import latent_planner, prepare
from worldjepa.files import write_text
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import choose_device

RESULTS = Path(__file__).parents[1] / "results" / "planning_settings.json"

# What differs from the recipe's 64 candidates, 8 elites, 4 iterations, every block decided anew, CEM.
SETTINGS: dict[str, dict[str, Any]] = {
    "the recipe's": {},
    "16 candidates": {"num_samples": 16, "num_elites": 4},
    "32 candidates": {"num_samples": 32, "num_elites": 4},
    "128 candidates": {"num_samples": 128, "num_elites": 16},
    "1 iteration": {"iterations": 1},
    "2 iterations": {"iterations": 2},
    "8 iterations": {"iterations": 8},
    "2 blocks carried out": {"replan_every": 2},
    "5 blocks carried out": {"replan_every": 5},
    "cost: last step": {"cost": "last"},
    "cost: mean": {"cost": "mean"},
    "distance: whitened": {"distance": "whitened"},
    "stops when settled": {"stop_below": 0.01},
    "shooting": {"solver": "shooting"},
    "iCEM": {"solver": "icem"},
    "MPPI": {"solver": "mppi"},
    "gradient": {"solver": "gradient"},
    "CEM, then gradient": {"solver": "cem_gradient"},
}


def evaluate(config: Any, about: dict[str, Any]) -> dict[str, Any]:
    """The summary of one setting, and which goals were reached."""
    run = Run(config.run)
    device = choose_device(config.train)
    model = run.load_world_model(device)
    prepare(model, config, device)
    store, plan = open_store(config), config.plan
    env = goal_env(config, store)
    _, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    goals = sample_goals(
        store, held_out, env, plan.goals, plan.goal_offset, plan.seed, tolerance=plan.tolerance
    )
    agent = latent_planner(config, store, model, env.action_space)
    outcome = play(env, goals, agent, plan.budget, 0, about["setting"], plan.tolerance, plan.hold)
    env.close()
    reached = "".join("01"[int(success)] for success in outcome.success)
    return {**about, **summary(outcome), "each": reached}


def same(row: dict[str, Any], about: dict[str, Any]) -> bool:
    """Whether a row is of this setting; options that came or went do not count."""
    named = all(row[key] == about[key] for key in ("setting", "protocol", "checkpoint"))
    return named and unchanged(row["options"], about["options"])


def table(rows: list[dict[str, Any]]) -> str:
    """The settings of one protocol in Markdown, with paired differences to the best one."""
    each = {row["setting"]: np.array([int(c) for c in row["each"]]) for row in rows}
    best = max(each.values(), key=np.mean)
    lines = [
        "| setting | success | 95% interval | median steps | per decision | behind the best |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        difference = 100 * (each[row["setting"]] - best)
        error = 1.96 * difference.std() / len(difference) ** 0.5
        low, high = row["interval"]
        milliseconds = 1e3 * row["seconds_per_decision"]
        lines.append(
            f"| {row['setting']} | {row['success']:.1f} % | {low:.1f} to {high:.1f} % | "
            f"{row['median_steps']:.1f} | {milliseconds:.1f} ms | "
            f"{difference.mean():+.1f} ± {error:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", help="a trained run")
    parser.add_argument("--data", help="its data, if they were moved")
    parser.add_argument("--protocol", default="far50")
    parser.add_argument("--goals", type=int, default=300)
    parser.add_argument("--only", help="names of settings, with commas between")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(SETTINGS)
    if unknown := [name for name in names if name not in SETTINGS]:
        parser.error(f"--only {', '.join(unknown)}: the settings are {', '.join(SETTINGS)}")
    try:
        compare(options, names)
    except UserError as error:
        parser.error(str(error))


def compare(options: argparse.Namespace, names: list[str]) -> None:
    """Evaluate the settings of these names that are not there yet, and print the table of all of them."""
    overrides = [f"plan.protocol={options.protocol}", f"plan.goals={options.goals}"]
    overrides += [f"data.path={options.data}"] if options.data else []
    rows = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []
    checkpoint = Run(options.run).newest_checkpoint().name
    mine: list[dict[str, Any]] = []
    for name in names:
        changes = SETTINGS[name]
        config = load_config(options.run, [*overrides, *(f"plan.{k}={v}" for k, v in changes.items())])
        about = {
            "setting": name,
            "protocol": options.protocol,
            "checkpoint": int(checkpoint),
            "options": dataclasses.asdict(config.plan),
        }
        done = [row for row in rows if same(row, about)]
        if not done:
            done = [evaluate(config, about)]
            rows = [r for r in rows if (r["setting"], r["protocol"]) != (name, options.protocol)] + done
            RESULTS.parent.mkdir(exist_ok=True)
            write_text(RESULTS, json.dumps(rows, indent=1) + "\n")
        mine += done
        print(table(mine).splitlines()[-1], flush=True)
    print(f"\n{options.protocol}, {options.goals} held-out goals\n\n{table(mine)}")


if __name__ == "__main__":
    main()
