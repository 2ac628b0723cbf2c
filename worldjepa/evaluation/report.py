"""One page of all that a run has left, in one file that needs no network and runs no script."""

import base64
import io
import statistics
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from ..data.pictures import DAMAGED_PICTURE, opened
from ..documents import OTHER_FORM, Unreadable, from_json
from ..files import write_text
from ..notation import data_name, paths
from ..recipes import to_yaml
from ..run import Run
from .catalogue import EVALUATIONS, Evaluation, Headline, caption, made_by, owner, possible, trained_by
from .curves import charts
from .tables import Table, blocks
from .verdict import verdict

# All pictures together, bytes: base64 makes four of three, and a page is to stay below 10 MB.
PICTURES = 6_500_000
NOT_MEASURED = "not measured"
PICTURE_KINDS = {".png": "image/png", ".gif": "image/gif"}


class Picture(NamedTuple):
    """A picture within the page; `uri` is empty where it is too large for that, or no picture."""

    path: Path
    caption: str
    uri: str
    width: int
    height: int


class Section(NamedTuple):
    """What one evaluation found."""

    name: str
    title: str
    step: int | None
    blocks: list[Table | str]
    pictures: list[Picture]
    command: str
    headline: Headline | None


class Missing(NamedTuple):
    """An evaluation without a result that can be told, and the command that makes it."""

    title: str
    reason: str
    command: str


def write_report(run: Run) -> Path:
    """The page as report.html in the run folder, from that folder alone."""
    source = (files(__package__) / "report.html").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(source, {"is_table": lambda block: isinstance(block, Table)})
    path = run.path / "report.html"
    write_text(path, template.render(_content(run)))
    return path


def _content(run: Run) -> dict[str, Any]:
    """All that the template shows."""
    evaluations, rows = EVALUATIONS[run.config.mode], run.metrics()
    looks = _looks(run)
    pictures = {path: _pictures(look, evaluations, PICTURES // len(looks)) for path, look in looks.items()}
    sections: list[Section] = []
    missing: list[Missing] = []
    for evaluation in evaluations:
        told = [_told(look, evaluation, pictures[path], path) for path, look in looks.items()]
        found = [one for one in told if isinstance(one, Section)]
        sections += found
        unmeasured = [one for one in told if isinstance(one, Missing) and one.reason == NOT_MEASURED]
        unreadable = [one for one in told if isinstance(one, Missing) and one.reason != NOT_MEASURED]
        # What was found on one of several data sets need not be on all.
        left = unreadable or ([] if found else unmeasured[:1])
        missing += left if possible(run, evaluation) else []
    about, images = _about(run), run.config.mode == "images"
    environment = run.config.env.id.split("/")[-1] if len(looks) == 1 else f"{len(looks)} data sets"
    return {
        "name": run.path.resolve().name,
        "kind": "Image encoder" if images else "World model",
        "subject": run.config.images.data if images else environment,
        "verdict": verdict(run),
        "headlines": [section.headline for section in sections if section.headline],
        "facts": _facts(run, about, rows),
        "charts": charts(rows),
        "newest": max((int(row["step"]) for row in rows), default=0),
        "sections": sections,
        "others": [picture for of_one in pictures.values() for picture in of_one.get("", [])],
        "missing": missing,
        "files": [name for path, look in looks.items() for name in _other_files(look, evaluations, path)],
        "trained_by": trained_by(run),
        "options": to_yaml(run.config),
        "versions": about.get("versions", {}),
        "made_with": version("worldjepa"),
    }


def _looks(run: Run) -> dict[str, Run]:
    """By data set the run as looked at with it; "": of a run on one, the run."""
    several = paths(run.config.data.path) if run.config.mode == "world_model" else []
    return {path: Run(run.path, data=path) for path in several} if len(several) > 1 else {"": run}


def _told(
    run: Run, evaluation: Evaluation, pictures: dict[str, list[Picture]], data: str
) -> Section | Missing:
    """Args: data: the data set that it is of, where there are several."""
    name, of = evaluation.name, data_name(data) if data else ""
    title = f"{evaluation.title}: {of}" if of else evaluation.title
    by = made_by(run, evaluation, {"data_path": data} if data else None)
    results = run.result(name, {})
    if results is None:
        there = (run.evaluation / f"{name}.json").exists()
        return Missing(title, f"{name}.json is damaged" if there else NOT_MEASURED, by)
    try:
        told = blocks(evaluation.table(results))
        headline = evaluation.headline(results) if evaluation.headline else None
        command = made_by(run, evaluation, results)
    except OTHER_FORM:
        # A page on an older run is better than none.
        return Missing(title, f"{name}.json is of another version", by)
    if headline and of:
        headline = headline._replace(of=f"{of}: {headline.of}")
    anchor = f"{of}-{name}" if of else name
    return Section(anchor, title, results.get("checkpoint"), told, pictures.get(name, []), command, headline)


def _pictures(run: Run, evaluations: list[Evaluation], left: int) -> dict[str, list[Picture]]:
    """By the evaluation that they are of, still ones first, no more than `left` bytes of them in the page;
    "": of none that is known."""
    found: dict[str, list[Picture]] = {}
    paths = [p for p in run.evaluation.glob("*") if p.suffix in PICTURE_KINDS and not p.name.startswith(".")]
    for path in sorted(paths, key=lambda p: (p.suffix == ".gif", p.name)):
        size = path.stat().st_size
        evaluation = owner(path, evaluations)
        picture = _picture(path, caption(path, evaluation), size <= left)
        left -= size if picture.uri else 0
        found.setdefault(evaluation.name if evaluation else "", []).append(picture)
    return found


def _picture(path: Path, shows: str, fits: bool) -> Picture:
    """At the size that it was drawn at: 96 points to an inch, where it says how many of its own make one."""
    content = path.read_bytes()
    try:
        with opened(io.BytesIO(content)) as image:
            scale = 96 / image.info.get("dpi", (96, 96))[0]
            width, height = (round(scale * side) for side in image.size)
    except DAMAGED_PICTURE:
        return Picture(path, f"{path.name} is damaged.", "", 0, 0)
    if not fits:
        return Picture(path, f"{shows} It is too large for this page: {path.name}.", "", width, height)
    uri = f"data:{PICTURE_KINDS[path.suffix]};base64,{base64.b64encode(content).decode()}"
    return Picture(path, shows, uri, width, height)


def _other_files(run: Run, evaluations: list[Evaluation], data: str) -> list[str]:
    """What else lies in evaluation/, by name, or in the folder of one of several data sets."""
    told = {f"{e.name}.json" for e in evaluations}
    names = sorted(p.name for p in run.evaluation.glob("[!.]*") if p.suffix not in PICTURE_KINDS)
    # TensorBoard's own, which of several data sets lie there too.
    left = [name for name in names if name not in told and not name.startswith("events.out.")]
    return [f"{data_name(data)}/{name}" for name in left] if data else left


def _about(run: Run) -> dict[str, Any]:
    """What `worldjepa train` wrote beside the configuration, as texts; nothing where it didn't."""
    try:
        about = from_json((run.path / "about.json").read_bytes())
        return {**about, "versions": dict(about["versions"]), "processes": int(about["processes"])}
    except (OSError, Unreadable, *OTHER_FORM):
        return {}


def _facts(run: Run, about: dict[str, Any], rows: list[dict[str, float]]) -> list[tuple[str, str]]:
    """What was trained, on what, and how, as pairs of a word and what is to be said of it."""
    facts = _image_facts(run) if run.config.mode == "images" else _world_facts(run)
    train, model = run.config.train, run.config.model
    size = f", {about['parameters']} parameters" if "parameters" in about else ""
    facts.insert(0, ("Model", f"{model.encoder.name} encoder, latent of {model.latent}{size}"))
    if "data" in about:
        facts.append(("Trained on", about["data"]))
    steps = max((int(row["step"]) for row in rows), default=0)
    what = "images" if run.config.mode == "images" else "windows"
    took = _minutes(run, rows, steps)
    facts.append(("Training", f"{steps:,} steps of {train.batch_size} {what}{took}; seed {train.seed}"))
    if "device" in about:
        processes = f", {about['processes']} processes" if about["processes"] > 1 else ""
        facts.append(("Device", f"{about['device']}, {about.get('precision', '')}{processes}"))
    return facts


def _world_facts(run: Run) -> list[tuple[str, str]]:
    config = run.config
    model, data, predictor = config.model, config.data, config.model.predictor
    loss = f"prediction + {model.sigreg.weight:g} · SIGReg, {model.sigreg.num_slices} slices"
    return [
        ("Predictor", f"{predictor.depth} blocks of width {predictor.width}"),
        ("Objective", loss if model.objective == "jepa" else f"{model.objective}"),
        ("Environment", f"{config.env.id}, {config.env.image_size} px, drawn {config.env.render_quality}"),
        ("Data", f"{data.path}, {100 * data.held_out:g} % of the episodes held out"),
        ("Windows", f"{data.context} frames and the next, {data.frameskip} steps apart"),
    ]


def _image_facts(run: Run) -> list[tuple[str, str]]:
    model, images = run.config.model, run.config.images
    weight = model.sigreg.weight
    loss = f"{1 - weight:g} · invariance + {weight:g} · SIGReg, {model.sigreg.num_slices} slices"
    views = f"{images.global_views} global of {images.global_size} px"
    if images.local_views:
        views += f", {images.local_views} local of {images.local_size} px"
    return [
        ("Objective", loss if model.objective == "jepa" else f"{model.objective}"),
        ("Images", images.data),
        ("Views of each", views),
    ]


def _minutes(run: Run, rows: list[dict[str, float]], steps: int) -> str:
    """About how long the steps took, from the median speed; without evaluations and checkpoints."""
    speeds = [row["perf/frames_per_second"] for row in rows if "perf/frames_per_second" in row]
    if not speeds:
        return ""
    frames = 1 if run.config.mode == "images" else run.config.data.context + 1
    seconds = steps * run.config.train.batch_size * frames / statistics.median(speeds)
    return f", about {seconds / 60:.0f} minutes" if seconds > 90 else f", about {seconds:.0f} seconds"
