"""Put a trained run into the package, with a card: `worldjepa plan reacher-pretrained` then plans with it.

python scripts/ship.py runs/sweeps/reacher/seed0 results/reacher/seed0.json

The second file is what scripts/sweep.py left of the same run: the card says what it measured, nothing else.
"""

import argparse
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from worldjepa.config import Config
from worldjepa.files import write_text
from worldjepa.options import leaves
from worldjepa.pretrained import SUFFIX
from worldjepa.run import Run

FOLDER = Path(__file__).parents[1] / "worldjepa" / "pretrained"
# Of a configuration, what is of the machine and the place it was trained at.
PLACES = (
    "run",
    "checkpoint",
    "data.path",
    "train.threads",
    "train.device",
    "train.compile",
    "train.checkpoint_minutes",
)
# What a model is.
MODEL = ("env.", "data.", "model.", "collect.behaviour", "collect.noise_exponent", "collect.episode_length")
# On what it is shown: new episodes, none of which was trained on, half of them for what probes learn from.
# Who wants rivals or more of the bound asks for them.
SHOWN = {
    "collect.episodes": 40,
    "collect.seed": 1000,
    "data.held_out": 0.5,
    "plan.goals": 50,
    "plan.bound_goals": 10,
    "plan.rival_steps": 0,
}

CARD = """# {name}{suffix}

A world model of `{environment}`, trained from pixels by `worldjepa train {name}`.
It comes with the package, for a look at a planning agent within a minute of installation, and as something to
start from. MIT licence, as the code.

- **Data**: {frames:,} frames of {size} px under {behaviour} actions, as `worldjepa collect {name}` draws them
  with mujoco, seed {data_seed}. No other data, no other weights.
- **Model**: {count:,} parameters, {latent} numbers a latent, {context} frames of context, action blocks of
  {frameskip} steps.
- **Training**: {steps:,} steps in {minutes:.1f} minutes on {cores} CPU cores, seed {seed}. The loss is
  prediction + {weight} · SIGReg (LeWorldModel, arXiv 2603.19312; LeJEPA, arXiv 2511.08544); `config.yaml` has
  the options.
- **Versions**: {versions}.

| success on held-out goals | world model | random actions | same solver, true dynamics |
|---|---|---|---|
{rows}

In brackets the 95 % interval (Wilson). {chosen}

**Limits**: this arm, this camera, these colours, at this size; one seed; goals {offset} steps ahead, most of
them near. Nothing here is evidence about a robot.
"""


def card(run: Run, result: dict[str, Any], name: str, chosen: str) -> str:
    """The card of a run, from its configuration and from what was measured."""
    config, measured = run.config, result["measured"]
    plans = {key: values for key, values in measured.items() if "rows" in values}
    return CARD.format(
        name=name,
        suffix=SUFFIX,
        environment=config.env.id,
        frames=result["frames"],
        size=config.env.image_size,
        behaviour=config.collect.behaviour,
        data_seed=config.collect.seed,
        count=sum(result["parameters"].values()),
        latent=config.model.latent,
        context=config.data.context,
        frameskip=config.data.frameskip,
        steps=result["steps"],
        minutes=result["seconds"]["train"] / 60,
        cores=result["machine"]["cores"],
        seed=result["seed"],
        weight=config.model.sigreg.weight,
        versions=", ".join(f"{k} {v}" for k, v in result["versions"].items()),
        rows="\n".join(_row(key, values["rows"]) for key, values in plans.items()),
        offset=config.plan.goal_offset,
        chosen=chosen,
    )


def _row(protocol: str, rows: dict[str, Any]) -> str:
    bound = next((row for row in rows if row.endswith("true dynamics")), "")
    cells = [_cell(rows[name]) if name in rows else "" for name in ("world model", "random actions", bound)]
    return f"| `{protocol}` | {' | '.join(cells)} |"


def _cell(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['success']:.1f} % [{low:.1f}, {high:.1f}], {row['reached']} of {row['goals']}"


def configuration(run: Run, name: str) -> str:
    """How it was trained and on what it is shown, as YAML: all that makes a model, whatever the defaults will
    be, and what else is not the default."""
    mine, usual = (leaves(dataclasses.asdict(c)) for c in (run.config, Config()))
    without = (*PLACES, "plan.", "probe.")
    changed = {
        k: v for k, v in mine.items() if (v != usual[k] or k.startswith(MODEL)) and not k.startswith(without)
    }
    own = f"{name}{SUFFIX}"
    changed |= SHOWN | {"name": own, "run": f"runs/{own}", "data.path": f"data/{own}"}
    tree: dict[str, Any] = {}
    for dotted, value in changed.items():
        *groups, last = dotted.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[last] = value
    return f"# What {own} is, and on what it is shown; see card.md.\n{yaml.safe_dump(tree, sort_keys=False)}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--chosen", default="", help="a sentence for the card: how this run was chosen")
    given = parser.parse_args(arguments)
    run, result = Run(given.run), json.loads(given.result.read_text("utf-8"))
    name = result["recipe"]
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(run.chosen_checkpoint() / "model.safetensors", folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)
    write_text(folder / "step", f"{run.chosen_checkpoint().name}\n")
    write_text(folder / "config.yaml", configuration(run, name))
    write_text(folder / "card.md", card(run, result, name, given.chosen))
    print(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
