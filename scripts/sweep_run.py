"""One run of a sweep: data, training, evaluations, and what is remembered of it, one small JSON."""

import dataclasses
import importlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep_grid import Planned, options_of

from worldjepa.config import Config
from worldjepa.data.provenance import made_here
from worldjepa.data.workers import cores
from worldjepa.documents import Unreadable, from_json
from worldjepa.errors import UserError
from worldjepa.notation import paths
from worldjepa.options import leaves
from worldjepa.recipes import load_config

ROOT = Path(__file__).parents[1]
# Options that say how a machine does it, and may differ from run to run of a sweep.
MACHINE = ("train.device", "train.threads", "train.compile", "train.checkpoint_minutes", "collect.workers")
# Of a configuration what is not remembered: places, and what evaluations and machines set.
FORGOTTEN = ("name", "run", "checkpoint", "data.path", "images.root", "plan.", "probe.", "store.", "convert.")
FORGOTTEN += ("export.", "monitor.", "env.protocol", "collect.shard", *MACHINE)
# Of an evaluation's result, likewise; who wants them runs it again with the options that are there.
LARGE = ("options", "checkpoint", "episodes", "confusion", "probes", "rollouts")


def check_machine(words: Sequence[str]) -> None:
    """Raises UserError where one of "name=value" is none of MACHINE's options."""
    for word in words:
        if word.partition("=")[0] not in MACHINE:
            raise UserError(f"{word}: what a run is, is fixed; here may stand {', '.join(MACHINE)}")


class Stopped(Exception):
    """By Ctrl-C or SIGTERM, after a checkpoint; `code` as a shell says it, 130 or 143."""

    def __init__(self, code: int):
        super().__init__(f"stopped ({code})")
        self.code = code


@dataclasses.dataclass(frozen=True)
class Places:
    """Folders: data sets, run folders, results."""

    data: Path
    runs: Path
    results: Path

    def run(self, planned: Planned) -> Path:
        return self.runs / planned.sweep / planned.name

    def error(self, planned: Planned) -> Path:
        """What went wrong when it was run last; not there where nothing did."""
        return self.runs / planned.sweep / f"{planned.name}.error"

    def result(self, planned: Planned) -> Path:
        return self.results / planned.sweep / f"{planned.name}.json"


def asked(planned: Planned) -> dict[str, Any]:
    """What a result says of the run that it is of; where a grid now says otherwise, it is of another."""
    names = ("recipe", "axes", "options", "evaluate")
    # Results from before runs had several data sets do not say that they had one.
    names += ("trained_on",) if planned.trained_on != [[]] else ()
    return json.loads(json.dumps({name: getattr(planned, name) for name in names}))


def execute(planned: Planned, places: Places, machine: Sequence[str] = ()) -> dict[str, Any]:
    """Collect what is missing, train from the newest checkpoint on, evaluate, write the result.

    Args:
        machine: options of MACHINE, "name=value".

    Raises:
        Stopped: by a signal; the same call goes on from there.
        UserError, and whatever else the commands raise.
    """
    folder, result = places.run(planned), places.result(planned)
    progress = Progress(folder / "sweep.json")
    with progress.stage("collect"):
        collect(planned, places, machine)
    path = "data.path=" + ",".join(str(places.data / planned.data(words)) for words in planned.trained_on)
    with progress.stage("train"):
        command("train", planned.config([path, f"run={folder}", *machine]))
    for name, (verb, *words) in planned.evaluate.items():
        where = [f"data.path={places.data / planned.data(words)}", f"env.id={planned.config(words).env.id}"]
        with progress.stage(name):
            ours = [word for word in machine if word.startswith("train.")]
            config = load_config(str(folder), [*where, *options_of(words), *ours])
            command(verb, config)
            progress.values["measured"] |= {name: measured(verb, config)}
    values = {"sweep": planned.sweep, "name": planned.name, **asked(planned)}
    values |= {**about(planned.config(machine)), **trained(folder), **progress.values}
    # Evaluations that the grid had before are not its own.
    values["measured"] = {name: values["measured"][name] for name in planned.evaluate}
    result.parent.mkdir(parents=True, exist_ok=True)
    write(result, json.loads(json.dumps(values), parse_float=lambda text: float(f"{float(text):.6g}")))
    return values


def collect(planned: Planned, places: Places, machine: Sequence[str] = ()) -> None:
    """What is missing of the data of a run and of its evaluations."""
    every = (*planned.trained_on, *(words[1:] for words in planned.evaluate.values()))
    sets = {planned.data(words): words for words in every}
    for name, words in sets.items():
        words = [word.replace("{runs}", str(places.runs / planned.sweep)) for word in words]
        config = planned.config([*words, *machine, f"data.path={places.data / name}"])
        if config.mode == "world_model":
            command("collect", config)


def command(verb: str, config: Config) -> None:
    """As `worldjepa VERB`; loaded when it is needed, since a list of what is left need not wait for torch."""
    if code := importlib.import_module(f"worldjepa.commands.{verb}").run(config):
        raise Stopped(code)


def held(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none.

    Raises:
        UserError: it is damaged.
    """
    try:
        values = from_json(path.read_bytes()) if path.exists() else {}
    except Unreadable as error:
        raise damaged(path, error) from None
    if not isinstance(values, dict):
        raise damaged(path, f"a {type(values).__name__}")
    return values


def damaged(path: Path, reason: object) -> UserError:
    """What to say of a file that is not as this version writes it."""
    return UserError(f"{path}: damaged, or of another version ({reason}); move it away")


class Progress:
    """What is known of a run that is under way, kept in its folder: seconds of each stage over all attempts
    (of one that was killed nothing is known), the number of attempts, what was measured."""

    def __init__(self, path: Path):
        self.path = path
        usual: dict[str, Any] = {"attempts": 0, "seconds": {}, "measured": {}}
        self.values = usual | held(path)
        if wrong := [name for name in usual if type(self.values[name]) is not type(usual[name])]:
            raise damaged(path, wrong[0])
        self.values["attempts"] += 1

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = self.values["seconds"]
            seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - began, 2)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write(self.path, self.values)


def measured(verb: str, config: Config) -> dict[str, Any]:
    """What a command left in evaluation/, without what is large; of planning "each", the goals reached, of
    probes of rollouts R² by depth alone."""
    from worldjepa.commands.plan import file_name
    from worldjepa.run import Run

    name = file_name(config.plan) if verb == "plan" else verb
    folder = Run(config.run, data=config.data.path).evaluation
    found = json.loads((folder / f"{name}.json").read_text("utf-8"))
    kept = {key: value for key, value in found.items() if key not in LARGE or isinstance(value, int)}
    if "rollouts" in found:
        kept["rollouts"] = {
            task: {reader: [depth["r2"] for depth in depths] for reader, depths in readers.items()}
            for task, readers in found["rollouts"].items()
        }
    if verb == "plan":
        kept["evaluation"] = found["options"]
        for row in kept["rows"]:
            tried = (e[f"{row}: success"] for e in found["episodes"] if f"{row}: success" in e)
            kept["rows"][row]["each"] = "".join("01"[reached] for reached in tried)
    return kept


def about(config: Config) -> dict[str, Any]:
    """What it was made with: options, seed, machine, versions."""
    from worldjepa.device import choose_device

    options = leaves(dataclasses.asdict(config))
    forgotten = (*FORGOTTEN, *(("images.",) if config.mode == "world_model" else ("env.", "collect.")))
    device = choose_device(config.train)
    return {
        "seed": config.train.seed,
        "config": {name: value for name, value in options.items() if not name.startswith(forgotten)},
        "machine": {"device": device.type, "cores": cores()},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages, and the commit where this is a clone of the repository."""
    import torch

    found = {**made_here({}).versions, "torch": torch.__version__}
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        code = [*git, "status", "--porcelain", "--", "worldjepa", "envs", "configs"]
        changed = subprocess.run(code, capture_output=True, text=True).stdout
        found["commit"] = head.stdout.strip() + (" with changes" if changed else "")
    return found


def trained(folder: Path) -> dict[str, Any]:
    """Steps, parameters of each part, frames of the training episodes, the last tenth of the metrics."""
    from worldjepa.data.shards import Store
    from worldjepa.data.windows import split_episodes
    from worldjepa.run import Run

    run = Run(folder)
    values: dict[str, Any] = {"steps": run.chosen_step()}
    parts = run.load_model().named_children()
    values["parameters"] = {name: sum(p.numel() for p in part.parameters()) for name, part in parts}
    if run.config.mode == "world_model":
        data, values["frames"] = run.config.data, 0
        for path in paths(data.path):
            lengths = Store(path).lengths
            training, _ = split_episodes(len(lengths), data.held_out, data.split_seed)
            values["frames"] += int(lengths[training].sum())
    metrics = [row for row in run.metrics() if "train/loss" in row]
    # One batch is noise.
    last = metrics[-max(1, len(metrics) // 10) :]
    names = [name for name in last[-1] if name.startswith(("train/", "perf/"))]
    values["last"] = {name: sum(row[name] for row in last) / len(last) for name in names}
    watched: dict[str, float] = {}
    for row in run.metrics():
        watched |= {name: v for name, v in row.items() if name.startswith(("latent/", "eval/"))}
    return values | {"watched": watched}


def write(path: Path, values: dict[str, Any]) -> None:
    from worldjepa.files import write_text

    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
