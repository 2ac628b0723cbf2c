"""`worldjepa VERB [WHAT] name=value ...`: WHAT is a recipe's name, a YAML file, or a run folder."""

import importlib
import io
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from .config import Config
from .envs.rendering import OpenGLUnavailable
from .errors import UserError
from .options import describe
from .pretrained import SUFFIX, pretrained, unpack
from .recipes import load_config, recipes, to_yaml


class Verb(NamedTuple):
    """What a verb does, and the options that it heeds: names, or beginnings of names that end in a dot.

    Its module in `worldjepa.commands` offers run(config) -> exit code, or run(config, part) where the verb
    has parts, each with its summary. It is imported when it is run: help, and most of what can be wrong with
    a command, need not wait for torch.
    """

    summary: str
    options: tuple[str, ...]
    parts: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default, never written to

    def heeds(self, option: str) -> bool:
        return any(
            option == name or (name.endswith(".") and option.startswith(name)) for name in self.options
        )


# What every verb heeds that looks at a model in its environment.
LOOKING = ("run", "checkpoint", "env.", "data.path", "train.device", "train.threads")
VERBS = {
    "collect": Verb(
        "collect pixel rollouts of a task", ("name", "env.", "collect.", "data.path", "store.compression")
    ),
    "data": Verb(
        "look at data, and bring them into other forms",
        ("name", "data.path", "data.split_seed", "collect.shard_episodes", "store."),
        {
            "info": "size, columns, statistics, how it was collected; a picture of what it covers",
            "show": "a contact sheet and a GIF of some episodes",
            "merge": "shards, and further data, into one .h5 file that stable-worldmodel reads, or a folder",
            "split": "into a new folder of shards, or two with a share of the episodes each",
            "convert": "from recordings or stable-worldmodel's HDF5 to shards; to its own layout (.h5)",
            "verify": "read every byte: checksums, schema, finite values",
        },
    ),
    "train": Verb(
        "pretrain a world model on collected rollouts, or an encoder on images",
        ("name", "run", "mode", "env.", "data.", "images.", "model.", "train.", "plan."),
    ),
    "plan": Verb("plan to held-out goal images and report success", (*LOOKING, "plan.", "train.precision")),
    "probe": Verb(
        "read physical quantities from frozen latents, or classes from image features",
        (*LOOKING, "images.root", "images.test", "probe.", "train.precision"),
    ),
    "surprise": Verb(
        "see whether teleported bodies or other colours surprise the model", (*LOOKING, "surprise.")
    ),
    "decode": Verb(
        "frames from frozen latents: true, reconstructed and imagined side by side",
        ("run", "checkpoint", "data.path", "decode.", "train.device", "train.threads"),
    ),
    "geometry": Verb(
        "the shape of the latents: rank, spectrum, Gaussianity, straightness, maps",
        (*LOOKING, "images.root", "images.test", "geometry."),
    ),
    "convert": Verb(
        "published LeWorldModel weights into a run folder",
        ("name", "run", "env.", "data.frameskip", "data.context", "model.", "train.", "convert."),
    ),
    "export": Verb(
        "a trained model as programs (torch.export, ONNX) for other machines",
        ("run", "checkpoint", "env.", "plan.horizon", "plan.cost", "plan.distance", "export."),
    ),
    "report": Verb("one page, in one file, of all that a run has left", ("run",)),
    "monitor": Verb("watch runs in TensorBoard", ("run", "monitor.")),
    "doctor": Verb(
        "check this machine: versions, device, OpenGL and its speed",
        ("env.", "train.device", "train.precision"),
    ),
}
FLAGS = {"-h", "--help", "--show"}
# Verbs that keep what an interrupted call has done.
GOING_ON = {"collect", "train"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit code 0, 2 for what the user can put right, 130 where it was interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb, *rest = arguments or ["--help"]
    _mend_streams()
    try:
        code = _command(verb, rest)
        # What can't be said is found here, not by Python at its end.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Who read our output has gone, as in `worldjepa train --help | head`.
        _let_go_of_output()
        return 1
    except KeyboardInterrupt:
        next_time = "goes on from there" if verb in GOING_ON else "begins anew"
        print(f"\n{verb}: interrupted; the same command {next_time}", file=sys.stderr)
        return 130
    except (UserError, OpenGLUnavailable) as error:
        return _complain(str(error))
    except OSError as error:
        # A full disk, a path without permission: what the operating system says of it.
        _let_go_of_output()
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (MemoryError, RuntimeError) as error:
        if not _of_memory(error):
            raise
        return _complain(f"{verb}: memory is not enough ({' '.join(str(error).split())[:200]})")


def _of_memory(error: Exception) -> bool:
    """Python's and NumPy's, or torch's, of which that of the CPU has no type of its own."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or any(text in str(error) for text in words)


def _mend_streams() -> None:
    """Output that is closed goes nowhere; of a letter that it does not take, a question mark is shown."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # In its place: else the next file that is opened gets its number, and what C libraries say.
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115 - until the end
        elif isinstance(stream, io.TextIOWrapper) and name != "stdin":
            stream.reconfigure(errors="replace")


def _let_go_of_output() -> None:
    """Where output can't be written, Python must not try it again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> int:
    if os.environ.get("RANK", "0") != "0":
        # What all ranks complain of, rank 0 says; torchrun ends the others before they say it too.
        time.sleep(5)
    print(f"worldjepa: {' '.join(message.splitlines())}", file=sys.stderr)
    return 2


def _command(verb: str, arguments: list[str]) -> int:
    if verb in ("-h", "--help"):
        print(overview())
        return 0
    if verb == "--version":
        print(f"worldjepa {version('worldjepa')}")
        return 0
    if verb not in VERBS:
        raise UserError(f"{verb}: no such command; they are {', '.join(VERBS)}")
    flags = {a for a in arguments if a.startswith("-")}
    for flag in sorted(flags - FLAGS):
        raise UserError(f"{flag}: no such flag; options are written name=value, flags are --help and --show")
    if flags & {"-h", "--help"}:
        print(help_of(verb))
        return 0
    words = [a for a in arguments if not a.startswith("-")]
    parts = [_part(verb, words)] if VERBS[verb].parts else []
    what = words.pop(0) if words and "=" not in words[0] else None
    if parts and what is not None and _is_data(what):
        what, words = None, [f"data.path={what}", *words]
    if verb == "monitor" and what is not None and any(Path(what).glob("*/config.yaml")):
        # A folder of runs, to compare them.
        what, words = None, [f"run={what}", *words]
    config = load_config(what, words)
    if "--show" in flags:
        print(to_yaml(config), end="")
        return 0
    if not sys.stderr.isatty():
        # Without a terminal a progress bar is a line of a log; tqdm reads this when it is imported.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    if what in pretrained():
        _prepare(what, verb, config)
    return importlib.import_module(f"worldjepa.commands.{verb}").run(config, *parts)


def _prepare(what: str, verb: str, config: Config) -> None:
    """What a command on a model that comes with the package needs: its run folder, and new data."""
    if verb == "train":
        raise UserError(f"{what}: is trained; `worldjepa train {what.removesuffix(SUFFIX)}` trains another")
    unpack(what, Path(config.run))
    # Its own data are completed, where an earlier command was interrupted too; others are the user's.
    own = verb != "collect" and "data.path" in VERBS[verb].options
    if own and config.data.path == load_config(what).data.path:
        importlib.import_module("worldjepa.commands.collect").run(config)


def _part(verb: str, words: list[str]) -> str:
    """Takes the first word, which says which part of the verb is meant."""
    if not words or words[0] not in VERBS[verb].parts:
        found = words[0] if words and "=" not in words[0] else "nothing"
        raise UserError(f"{verb}: say what to do, {' or '.join(VERBS[verb].parts)}, not {found}")
    return words.pop(0)


def _is_data(what: str) -> bool:
    """Whether WHAT is a data folder or file, not a recipe, YAML file or run folder."""
    path = Path(what)
    if path.is_dir():
        return not (path / "config.yaml").is_file() and what not in (*recipes(), *pretrained())
    # What is not there but reads like a path, too: then it is the data that are missed.
    return path.suffix not in (".yaml", ".yml") and (
        path.suffix == ".h5" or path.is_file() or len(path.parts) > 1
    )


def overview() -> str:
    """What `worldjepa --help` prints."""
    verbs = [line for name, verb in VERBS.items() for line in _row(name, verb.summary, 12)]
    last = _wrap("worldjepa VERB --help lists the options that the verb heeds.")
    return "\n".join([*_usage("VERB"), "", *verbs, "", *_what(), "", *last])


def help_of(verb: str) -> str:
    """What `worldjepa VERB --help` prints: every option that the verb heeds, its default, its meaning."""
    rows = [
        line
        for name, default, meaning in describe()
        if VERBS[verb].heeds(name)
        for line in _row(f"{name}={default}", meaning, 34 if _columns() >= 80 else 8)
    ]
    parts = [line for name, summary in VERBS[verb].parts.items() for line in _row(name, summary, 12)]
    what = [*_what(), *(_wrap("Here WHAT may also be a folder or file of data.") if parts else [])]
    what += ["Here WHAT may also be a folder of runs."] if verb == "monitor" else []
    parts = ["", "PART is one of", *parts] if parts else []
    top = [*_usage(verb), "", *_wrap(VERBS[verb].summary), *parts, "", *what]
    return "\n".join([*top, "", "options:", *rows])


def _usage(verb: str) -> list[str]:
    part = " PART" if verb in VERBS and VERBS[verb].parts else ""
    return _wrap(f"usage: worldjepa {verb}{part} [WHAT] name=value ... [--show] [--help]")


def _what() -> list[str]:
    return _wrap(
        f"WHAT is a recipe ({', '.join(recipes())}), a YAML file, or a run folder; without it, the defaults. "
        f"{', '.join(pretrained())} comes trained, in the package. "
        "--show prints the configuration that results, and stops."
    )


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _columns())


def _row(option: str, meaning: str, indent: int) -> list[str]:
    """An option and its meaning beside it, or below it where there is no room."""
    lines = textwrap.wrap(meaning, _columns() - indent)
    if len(option) + 4 > indent:
        return [f"  {option}", *(" " * indent + line for line in lines)]
    return [f"  {option:<{indent - 2}}{lines[0]}", *(" " * indent + line for line in lines[1:])]


def _columns() -> int:
    return max(40, shutil.get_terminal_size().columns)
