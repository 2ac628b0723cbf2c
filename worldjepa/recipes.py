"""Recipes, run folders and overrides, read into a configuration; OmegaConf stays in this module."""

import contextlib
import copy
import dataclasses
import difflib
import functools
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from .config import Config
from .documents import Unreadable, from_yaml
from .errors import UserError
from .limits import validate
from .options import options
from .pretrained import configuration, pretrained
from .protocols import PROTOCOLS


def recipes() -> list[str]:
    """Names of the recipes that are installed."""
    return sorted(
        f.name.removesuffix(".yaml") for f in files("worldjepa.configs").iterdir() if f.name.endswith(".yaml")
    )


def load_config(what: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Defaults, then what `what` says, then `overrides`.

    Args:
        what: a recipe's name, a model that comes with the package, a YAML file, or a run folder (its
            config.yaml); None: the defaults alone.
        overrides: "dotted.name=value".

    Raises:
        UserError: a file or recipe is missing or damaged, a key is unknown, a value has the wrong type or is
            impossible.
    """
    # A copy of the defaults takes a fifth of the time that making them takes.
    tree, source = copy.deepcopy(_defaults()), ""
    if what is not None:
        source, text, folder = _find(what)
        for dotted, value in sorted(_stated(_parse(source, text)).items(), key=_presets_first):
            _set(tree, dotted, value, source)
        if folder is not None:
            # A run that was moved is where it is now.
            tree.run = str(folder)
    for override in sorted(overrides, key=lambda text: _presets_first(text.partition("="))):
        dotted, separator, value = override.partition("=")
        if not separator:
            raise UserError(f"{override!r} is not an option; write it as name=value")
        _set(tree, dotted, value if _kind(dotted, "command line") is str else _number(value), "command line")
    try:
        config = OmegaConf.to_object(tree)
        assert isinstance(config, Config)
        validate(config)
    except OmegaConfBaseException as error:
        raise UserError(_of(source, overrides, f"{error.full_key}: {str(error).splitlines()[0]}")) from None
    except RecursionError:
        raise UserError(_of(source, overrides, "an option is said by itself, as in name=${name}")) from None
    except UserError as error:
        raise UserError(_of(source, overrides, str(error))) from None
    return config


@functools.cache
def _defaults() -> DictConfig:
    return OmegaConf.structured(Config)


def _of(source: str, overrides: Sequence[str], message: str) -> str:
    """A message with the file that it is of; of what the command line says, it is not."""
    typed = any(override.partition("=")[0] in message for override in overrides)
    return message if typed or not source else f"{source}: {message}"


def to_yaml(config: Config) -> str:
    """Every option and its value, as YAML that `load_config` reads back."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def _find(what: str) -> tuple[str, str, Path | None]:
    """How messages name what was found, its text, and the run folder where it is one."""
    path = Path(what)
    if (path / "config.yaml").is_file():
        return str(path / "config.yaml"), _text(path / "config.yaml"), path
    if what in recipes():
        return f"recipe {what}", (files("worldjepa.configs") / f"{what}.yaml").read_text("utf-8"), None
    if what in pretrained():
        return what, configuration(what), None
    if path.is_dir():
        raise UserError(f"{what}: not a run folder (it has no config.yaml)")
    if not path.is_file():
        close = difflib.get_close_matches(what, [*recipes(), *pretrained()], 1)
        hint = f"did you mean {close[0]}?" if close else f"the recipes are {', '.join(recipes())}"
        raise UserError(f"{what}: no such recipe, YAML file or run folder; {hint}")
    return str(path), _text(path), None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file that can be read ({error})") from None


def _parse(source: str, text: str) -> dict[str, Any]:
    try:
        values = from_yaml(text)
    except Unreadable as error:
        raise UserError(f"{source}: not YAML: {error}") from None
    if not isinstance(values, dict):
        found = "empty" if values is None else f"a {type(values).__name__}"
        raise UserError(f"{source}: {found}; a recipe is a mapping of options, as `--show` prints it")
    return values


def _number(text: str) -> Any:
    """A number, true or false where the text is one in YAML, else the text."""
    try:
        return from_yaml(text)
    except Unreadable:
        return text


def _stated(values: dict[Any, Any], group: str = "") -> dict[str, Any]:
    """Options by their dotted names. Only what can be a group is looked into: YAML can say a tree that has
    no end, or more branches than memory holds."""
    rows: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{group}{key}"
        inner = isinstance(value, dict) and any(known.startswith(f"{name}.") for known in options())
        rows |= _stated(value, f"{name}.") if inner else {name: value}
    return rows


def _kind(dotted: str, source: str) -> type:
    known = options()
    if dotted not in known:
        close = difflib.get_close_matches(dotted, known, 1)
        hint = f"did you mean {close[0]}?" if close else "`--help` lists the options"
        raise UserError(f"{source}: unknown option {dotted}; {hint}")
    kind = known[dotted].type
    assert isinstance(kind, type)
    return kind


def _presets_first(option: Sequence[Any]) -> bool:
    """For sorting (name, ...): `plan.protocol` sets other options, unless they are named beside it."""
    return option[0] != "plan.protocol"


def _set(tree: Any, dotted: str, value: Any, source: str) -> None:
    kind = _kind(dotted, source)
    # YAML 1.1 reads 1e-3 as text; every number that a user would write should work.
    if kind is float and isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    # Where auto stands beside true and false, the option is text, which YAML does not read them as.
    if isinstance(value, bool) and options()[dotted].default == "auto":
        value = str(value).lower()
    try:
        if value is None or isinstance(value, dict | list) or isinstance(value, bool) != (kind is bool):
            raise ValidationError
        OmegaConf.update(tree, dotted, value)
        for name, preset in PROTOCOLS.get(value, {}).items() if dotted == "plan.protocol" else ():
            OmegaConf.update(tree, name, preset)
    except (OmegaConfBaseException, ValueError, OverflowError, RecursionError):
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
        found = type(value).__name__ if isinstance(value, dict | list) else f"{value!s:.100}"
        raise UserError(f"{source}: {dotted}={found}: must be {words}") from None
