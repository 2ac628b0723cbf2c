"""The evaluations there are: what each leaves in evaluation/, how that is told, which command makes it."""

import dataclasses
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import UserError
from ..limits import check_lengths
from ..options import leaves
from ..protocols import PROTOCOLS
from ..recipes import load_config, recipes
from ..run import Run
from .decoder_figures import decode_table
from .figures import plan_table
from .geometry_figures import geometry_table
from .image_figures import image_probe_table
from .probe_figures import probe_table
from .surprise_figures import surprise_table

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
        captions: what its pictures show, by their whole name or their suffix.
    """

    name: str
    title: str
    table: Callable[[Results], str]
    command: str
    headline: Callable[[Results], Headline] | None = None
    captions: Mapping[str, str] = MappingProxyType({})


def plan_headline(results: Results) -> Headline:
    rows = results["rows"]
    low, high = rows["world model"]["interval"]
    floor_and_bound = [n for n in rows if n == "random actions" or n.endswith("true dynamics")]
    beside = "; ".join(f"{name} {rows[name]['success']:.0f} %" for name in floor_and_bound)
    of = f"of {rows['world model']['goals']} held-out goals reached ({low:.0f} to {high:.0f} %)"
    return Headline(f"{rows['world model']['success']:.1f} %", of, beside)


def probe_headline(results: Results) -> Headline:
    rank = f"effective rank {results['rank']:.0f} of {results['latent']} dimensions"
    return Headline(f"{results['mean_r2']['coordinates']:.3f}", "mean R² of coordinates, linear probe", rank)


def image_probe_headline(results: Results) -> Headline:
    trained, *others = results["rows"].items()
    beside = ", ".join(f"{name} {row['linear']:.1f} %" for name, row in others)
    return Headline(f"{trained[1]['linear']:.1f} %", f"right on {results['data']}, linear probe", beside)


FILMS = (
    "Held-out episodes, each as start, now and goal; a green border says that the goal was reached, a red "
    "one that it was not."
)
PLAN_CAPTIONS = {".png": "Share of held-out goals reached, with Wilson 95% intervals.", ".gif": FILMS}
PROBE_CAPTIONS = {
    "probe.png": "R² of probes on held-out episodes, by what they read from; 0 is no better than the mean.",
    "probe_depth.png": "The same from latents imagined ever farther ahead, and from those then seen.",
}
SURPRISE_CAPTIONS = {
    ".png": "Error of the predicted next latent along held-out episodes, disturbed at one frame and not."
}
GEOMETRY_CAPTIONS = {
    "geometry.png": "Spectrum, slices against the Gaussian, distances in latents and in the world.",
    "geometry_map.png": "Held-out latents in the plane, coloured by what they are of.",
}
DECODE_CAPTIONS = {
    ".png": "Held-out episodes as they were, from their own latents, and imagined from the first frames.",
    ".gif": "The same, moving.",
}
IMAGE_CAPTIONS = {
    ".png": "Accuracy with few labels, what is taken for what, and a map of the features.",
    "retrieval.png": "Test images, and beside each the training images whose features are nearest; framed "
    "where the class is another.",
}
GEOMETRY = Evaluation(
    "geometry", "Geometry of the latents", geometry_table, "geometry", captions=GEOMETRY_CAPTIONS
)
# Of each kind of run, in the order of a page; a new evaluation is a line here.
EVALUATIONS = {
    "world_model": [
        Evaluation("plan", "Planning to goal images", plan_table, "plan", plan_headline, PLAN_CAPTIONS),
        *(
            Evaluation(
                f"plan_{name}",
                f"Planning, protocol {name}",
                plan_table,
                f"plan plan.protocol={name}",
                captions=PLAN_CAPTIONS,
            )
            for name in PROTOCOLS
            if name != "near"
        ),
        Evaluation("probe", "Probes of the latents", probe_table, "probe", probe_headline, PROBE_CAPTIONS),
        Evaluation(
            "surprise", "Violated expectations", surprise_table, "surprise", captions=SURPRISE_CAPTIONS
        ),
        GEOMETRY,
        Evaluation("decode", "Imagined frames", decode_table, "decode", captions=DECODE_CAPTIONS),
    ],
    "images": [
        Evaluation(
            "probe",
            "Probes of the features",
            image_probe_table,
            "probe",
            image_probe_headline,
            IMAGE_CAPTIONS,
        ),
        GEOMETRY,
    ],
}


def owner(picture: Path, evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """Which evaluation a picture is of: one that knows its name, or the longest that its name begins with."""
    found = [e for e in evaluations if picture.stem.startswith(e.name) or picture.name in e.captions]
    return max(found, key=lambda e: (picture.name in e.captions, len(e.name)), default=None)


def caption(picture: Path, evaluation: Evaluation | None) -> str:
    """What a picture shows; its name in words where nothing says it."""
    known = evaluation.captions if evaluation else {}
    name = f"{picture.stem.replace('_', ' ').capitalize()}."
    whole = picture.name in known or (evaluation is not None and picture.stem == evaluation.name)
    return known.get(picture.name, known.get(picture.suffix, name)) if whole else name


def made_by(run: Run, evaluation: Evaluation, results: Results | None = None) -> str:
    """The command that makes an evaluation; where there are results, with the options that they say of
    themselves."""
    verb, *words = evaluation.command.split()
    results = results or {}
    ours = leaves(dataclasses.asdict(run.config))
    for name, _, value in (word.partition("=") for word in words):
        ours |= {name: value, **(PROTOCOLS[value] if name == "plan.protocol" else {})}
    for key, value in results.get("options", {}).items():
        # What success is belongs to the environment: a plan.json holds it in place of its own protocol.
        name = "env.protocol" if (verb, key) == ("plan", "protocol") else f"{verb}.{key}"
        if name in ours and _word(name, ours[name]) != _word(name, value):
            words.append(_word(name, value))
    data = "images.data" if run.config.mode == "images" else "data.path"
    for name, key in ((data, "data_path"), ("images.test", "test")):
        if results.get(key, ours[name]) != ours[name]:
            words.append(_word(name, results[key]))
    words += [_word(name, value) for name, value in results.get("otherwise", {}).items() if name in ours]
    newest = [int(path.name) for path in run.checkpoints()[-1:]]
    if newest and results.get("checkpoint", newest[0]) != newest[0]:
        words.append(f"checkpoint={results['checkpoint']}")
    return shlex.join(["worldjepa", verb, str(run.path), *words])


def possible(run: Run, evaluation: Evaluation) -> bool:
    """Whether the run's options let it be: of short episodes no goal is far ahead."""
    try:
        check_lengths(load_config(str(run.path), evaluation.command.split()[1:]))
    except UserError:
        return False
    return True


def trained_by(run: Run) -> str:
    """The command that begins such a run anew: the recipe that it is named for, or else the nearest, and what
    differs from it."""
    heeded = ("name", "run", "mode", "env.", "data.", "images.", "model.", "train.", "plan.")
    ours = leaves(dataclasses.asdict(run.config))
    found = []
    for recipe in [ours["name"]] if ours["name"] in recipes() else recipes():
        # Folders follow the name: they are no differences of their own.
        named = load_config(recipe, [_word("name", ours["name"])])
        base = leaves(dataclasses.asdict(named)) | {"name": recipe}
        changed = [key for key in ours if key.startswith(heeded) and ours[key] != base[key]]
        found.append((len(changed), [recipe, *(_word(key, ours[key]) for key in changed)]))
    return shlex.join(["worldjepa", "train", *min(found)[1]])


def _word(name: str, value: Any) -> str:
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"
