"""The evaluations there are: what each leaves in evaluation/, how that is told, which command makes it."""

import dataclasses
import json
import shlex
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from ..options import leaves
from ..protocols import PROTOCOLS
from ..recipes import load_config, recipes
from ..run import Run
from .figures import plan_table, probe_table
from .image_figures import image_probe_table

Results = dict[str, Any]


class Headline(NamedTuple):
    """A number that a reader looks for first, what it is of, and what to hold it against."""

    value: str
    of: str
    beside: str = ""


class Evaluation(NamedTuple):
    """An evaluation that leaves evaluation/`name`.json, with pictures whose names begin in that way.

    Attributes:
        table: from the JSON's content to what the command prints.
        command: verb and options that make it.
        headline: from the JSON's content, where it has a number for the top of a page.
        pictures: further beginnings of its pictures' names.
    """

    name: str
    title: str
    table: Callable[[Results], str]
    command: str
    headline: Callable[[Results], Headline] | None = None
    pictures: tuple[str, ...] = ()


def _plan_headline(results: Results) -> Headline:
    rows = results["rows"]
    low, high = rows["world model"]["interval"]
    floor_and_bound = [n for n in rows if n == "random actions" or n.endswith("true dynamics")]
    beside = ", ".join(f"{name} {rows[name]['success']:.0f} %" for name in floor_and_bound)
    of = f"of {rows['world model']['goals']} held-out goals reached ({low:.0f} to {high:.0f} %)"
    return Headline(f"{rows['world model']['success']:.1f} %", of, beside)


def _probe_headline(results: Results) -> Headline:
    rank = f"effective rank {results['rank']:.0f} of {results['latent']} dimensions"
    return Headline(f"{results['mean_r2']['coordinates']:.3f}", "mean R² of coordinates, linear probe", rank)


def _image_probe_headline(results: Results) -> Headline:
    trained, *others = results["rows"].items()
    beside = ", ".join(f"{name} {row['linear']:.1f} %" for name, row in others)
    return Headline(f"{trained[1]['linear']:.1f} %", f"right on {results['data']}, linear probe", beside)


PLANS = [
    Evaluation(f"plan_{name}", f"Planning, protocol {name}", plan_table, f"plan plan.protocol={name}")
    for name in PROTOCOLS
    if name != "near"
]
# Of each kind of run, in the order of a page. A new evaluation is a line here, and if it draws in CAPTIONS.
EVALUATIONS = {
    "world_model": [
        Evaluation("plan", "Planning to goal images", plan_table, "plan", _plan_headline),
        *PLANS,
        Evaluation("probe", "Linear probes of the latents", probe_table, "probe", _probe_headline),
    ],
    "images": [
        Evaluation(
            "probe",
            "Probes of the features",
            image_probe_table,
            "probe",
            _image_probe_headline,
            ("retrieval",),
        ),
    ],
}
CAPTIONS = {
    "plan*.png": "Share of held-out goals reached, with Wilson 95% intervals.",
    "plan*.gif": "Held-out episodes, each as start, now and goal; a green border says that the goal was "
    "reached, a red one that it was not.",
    "probe.png": "What linear probes on frozen features read.",
    "retrieval.png": "Test images, and beside each the training images whose features are nearest; framed "
    "where the class is another.",
}


def caption(path: Path) -> str:
    """What a picture shows; of one that CAPTIONS does not know, its name."""
    found = [text for pattern, text in CAPTIONS.items() if fnmatch(path.name, pattern)]
    return found[0] if found else f"{path.stem.replace('_', ' ').capitalize()}."


def owner(picture: Path, evaluations: list[Evaluation]) -> str:
    """The name of the evaluation that a picture is of: the longest that its name begins with, or none."""
    starts = {start: e.name for e in evaluations for start in (e.name, *e.pictures)}
    return starts.get(max((s for s in starts if picture.stem.startswith(s)), key=len, default=""), "")


def made_by(run: Run, evaluation: Evaluation, results: Results | None = None) -> str:
    """The command that makes an evaluation; where there are results, with the options that they say of
    themselves."""
    verb, *words = evaluation.command.split()
    results = results or {}
    ours = leaves(dataclasses.asdict(load_config(str(run.path), words)))
    for key, value in results.get("options", {}).items():
        # What success is belongs to the environment: a plan.json holds it in place of its own protocol.
        name = "env.protocol" if (verb, key) == ("plan", "protocol") else f"{verb}.{key}"
        if name in ours and ours[name] != value:
            words.append(_word(name, value))
    newest = [int(path.name) for path in run.checkpoints()[-1:]]
    if newest and results.get("checkpoint", newest[0]) != newest[0]:
        words.append(f"checkpoint={results['checkpoint']}")
    return shlex.join(["worldjepa", verb, str(run.path), *words])


def trained_by(run: Run) -> str:
    """The command that begins such a run anew: the recipe that is nearest, and what differs from it."""
    heeded = ("name", "run", "mode", "env.", "data.", "images.", "model.", "train.", "plan.")
    ours = leaves(dataclasses.asdict(run.config))
    found = []
    for recipe in recipes():
        base = leaves(dataclasses.asdict(load_config(recipe)))
        if base["name"] != ours["name"]:
            base = leaves(dataclasses.asdict(load_config(recipe, [f"name={ours['name']}"]))) | {
                "name": recipe
            }
        changed = [key for key in ours if key.startswith(heeded) and ours[key] != base[key]]
        found.append((len(changed), [recipe, *(_word(key, ours[key]) for key in changed)]))
    return shlex.join(["worldjepa", "train", *min(found)[1]])


def _word(name: str, value: Any) -> str:
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"
