"""A grid: a YAML file that says which runs a sweep has, and how each is evaluated after training.

    recipe: reacher                     # or an axis
    options: {train.minutes: 20}        # of all runs
    axes:                               # every combination is a run; the first axis changes last
      train.seed: [0, 1, 2]             # an option and its values
      size:                             # a name, and settings of several options
        small: {model.encoder.width: 8, model.predictor.width: 64}
        usual: {}
    data: ["recipe=reacher", "collect.seed=1"]    # trained on several data sets: how each is collected
    evaluate:                           # by name a verb and its options; recipe= looks at another one's data
      near: plan plan.goals=500
      probe: probe

Every option is checked before anything is run.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldjepa.config import Config
from worldjepa.documents import Unreadable, from_yaml
from worldjepa.errors import UserError
from worldjepa.options import leaves, options
from worldjepa.recipes import load_config

GRIDS = Path(__file__).parent / "grids"
KEYS = {"recipe", "options", "axes", "data", "evaluate"}
VERBS = ("plan", "probe", "surprise", "geometry", "decode")
SEED, OF = "train.seed", "recipe="
# Of env and collect, what makes no difference to the frames.
NOT_IN_DATA = ("env.protocol", "collect.workers", "collect.shard")


@dataclass(frozen=True)
class Planned:
    """A run that a grid asks for.

    Attributes:
        sweep, name: which names its result, results/SWEEP/NAME.json.
        axes: by axis the value, or the name of the setting.
        options: by dotted name, of the whole grid and of the axes.
        evaluate: by name the words of a command, the verb first.
        trained_on: of each data set the words that it is collected with beside the options, as in `data`; in
            these {runs} stands for the folder that the sweep's runs lie in.
    """

    sweep: str
    name: str
    recipe: str
    axes: dict[str, Any]
    options: dict[str, Any]
    evaluate: dict[str, list[str]]
    trained_on: list[list[str]] = field(default_factory=lambda: [[]])

    @property
    def words(self) -> list[str]:
        """The options as on the command line."""
        return [f"{name}={_text(value)}" for name, value in self.options.items()]

    def config(self, extra: Sequence[str] = ()) -> Config:
        """With the options of the recipe, of the run, and these; to be read only. "recipe=NAME" among these
        puts another recipe in the place of the run's."""
        return _loaded(recipe_of(extra, self.recipe), *self.words, *options_of(extra))

    def data(self, extra: Sequence[str] = ()) -> str:
        """Which data it takes: the folder of the recipe, or one that says what else it was collected with."""
        recipe, words = recipe_of(extra, self.recipe), [*self.words, *options_of(extra)]
        words = [w for w in words if not w.startswith(("model.", "train."))]
        mine, usual = (leaves(dataclasses.asdict(_loaded(recipe, *more))) for more in (words, ()))
        names = (name for name in mine if name.startswith(("env.", "collect.")) and name not in NOT_IN_DATA)
        # Of a path its end.
        changed = [
            f"{_last(name)}{Path(str(mine[name])).name}" for name in names if mine[name] != usual[name]
        ]
        return _safe("-".join([Path(recipe).stem, *changed]))


def recipe_of(words: Sequence[str], usual: str) -> str:
    """The recipe that words name."""
    return next((word.removeprefix(OF) for word in words if word.startswith(OF)), usual)


def options_of(words: Sequence[str]) -> list[str]:
    """The words that are options."""
    return [word for word in words if not word.startswith(OF)]


@functools.cache
def _loaded(recipe: str, *words: str) -> Config:
    """A grid's runs ask for the same again and again."""
    return load_config(recipe, words)


def read_grid(what: str) -> list[Planned]:
    """The runs of a grid, checked.

    Args:
        what: the name of a file in scripts/grids, or a YAML file.

    Raises:
        UserError: it is not there or no grid, or one of its runs or evaluations is not possible.
    """
    path = GRIDS / f"{what}.yaml" if (GRIDS / f"{what}.yaml").is_file() else Path(what)
    grid = _read(path)
    axes = {str(axis): _settings(path, str(axis), values) for axis, values in grid["axes"].items()}
    runs = [
        _planned(path, grid, dict(zip(axes, chosen, strict=True)))
        for chosen in itertools.product(*(settings.items() for settings in axes.values()))
    ]
    if twice := {run.name for run in runs if sum(run.name == other.name for other in runs) > 1}:
        raise UserError(
            f"{path}: several runs are called {', '.join(sorted(twice))}; name the settings apart"
        )
    _check(path, runs)
    return runs


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in GRIDS.glob("*.yaml")))
        raise UserError(f"{path}: no such grid; there are {there}, or name a YAML file")
    try:
        grid = from_yaml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, Unreadable) as error:
        raise UserError(f"{path}: no YAML that can be read: {' '.join(str(error).split())}") from None
    if not isinstance(grid, dict) or set(grid) - KEYS:
        found = ", ".join(map(str, set(grid) - KEYS)) if isinstance(grid, dict) else type(grid).__name__
        raise UserError(f"{path}: a grid has {', '.join(sorted(KEYS))}, not {found}")
    for key in ("options", "axes", "evaluate"):
        if not isinstance(grid.setdefault(key, {}), dict):
            raise UserError(f"{path}: {key}: must be a mapping")
    if not isinstance(grid.setdefault("data", [""]), list) or not grid["data"]:
        raise UserError(f"{path}: data: must be a list, of each data set the options of its own")
    if ("recipe" in grid) == ("recipe" in grid["axes"]):
        raise UserError(f"{path}: name a recipe, or an axis of recipes")
    return grid


def _settings(path: Path, axis: str, values: Any) -> dict[Any, dict[str, Any]]:
    """By value, or name of the setting, what it sets; "recipe" stands among the options here."""
    simple = isinstance(values, list) and not any(isinstance(value, dict | list) for value in values)
    if simple and values and (axis == "recipe" or axis in options()):
        return {value: {axis: value} for value in values}
    if isinstance(values, dict) and values and all(isinstance(v, dict) for v in values.values()):
        return values
    raise UserError(
        f"{path}: axes: {axis}: must be an option with a list of values, "
        "or a name with settings, a mapping each"
    )


def _planned(path: Path, grid: dict[str, Any], chosen: dict[str, tuple[Any, dict[str, Any]]]) -> Planned:
    stated = {"recipe": grid.get("recipe")} | grid["options"]
    for _, setting in chosen.values():
        stated |= setting
    if trees := [name for name, value in stated.items() if isinstance(value, dict | list)]:
        raise UserError(f"{path}: {trees[0]}: must be an option, by its whole name, and its value")
    recipe = str(stated.pop("recipe"))
    # The seed comes last in a name wherever it stands.
    parts = [_part(axis, value) for axis, (value, _) in sorted(chosen.items(), key=lambda i: i[0] == SEED)]
    evaluate = {
        str(name): text.split() if isinstance(text, str) else [] for name, text in grid["evaluate"].items()
    }
    for name, words in evaluate.items():
        if not words or words[0] not in VERBS:
            raise UserError(f"{path}: evaluate: {name}: must begin with {' or '.join(VERBS)}")
    axes = {axis: value for axis, (value, _) in chosen.items()}
    sets = [str(text).split() for text in grid["data"]]
    return Planned(path.stem, "-".join(parts) or recipe, recipe, axes, stated, evaluate, sets)


def _check(path: Path, runs: list[Planned]) -> None:
    """Every run's configuration, and each evaluation's on each recipe."""
    seen = set()
    for run in runs:
        try:
            run.config()
            for words in (*run.trained_on, *(words[1:] for words in run.evaluate.values())):
                if (key := (run.recipe, *words)) not in seen:
                    seen.add(key)
                    run.config(words)
        except UserError as error:
            raise UserError(f"{path}: {run.name}: {error}") from None


def _part(axis: str, value: Any) -> str:
    """A value in a name: a word for itself, a number after its option."""
    text = Path(str(value)).stem if axis == "recipe" else _text(value)
    return _safe(text if isinstance(value, str) else _last(axis) + text)


def _last(dotted: str) -> str:
    return dotted.rpartition(".")[2]


def _text(value: Any) -> str:
    """As on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _safe(text: str) -> str:
    return re.sub(r"[^\w.+-]", "_", text)
