"""`worldjepa VERB [WHAT] key=value ...`: WHAT is a recipe's name, a YAML file, or a run folder."""

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version

from .config import describe, load_config, recipes, to_yaml
from .envs.rendering import OpenGLUnavailable
from .errors import UserError

VERBS = ("collect", "train", "plan", "probe", "monitor", "doctor")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit code 0, 2 for what the user can put right, 130 where it was interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        print(f"worldjepa {version('worldjepa')}")
        return 0
    try:
        return _command(arguments[0], arguments[1:])
    except KeyboardInterrupt:
        print(f"\n{arguments[0]}: interrupted; the same command goes on from there", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"worldjepa: {error}", file=sys.stderr)
        return 2


def _command(verb: str, arguments: list[str]) -> int:
    if verb not in VERBS:
        raise UserError(f"{verb}: no such command; they are {', '.join(VERBS)}")
    flags = {a for a in arguments if a.startswith("-")}
    unknown = sorted(flags - {"-h", "--help", "--show"})
    if unknown:
        raise UserError(f"{unknown[0]}: no such flag; options are written name=value, flags are --help and --show")
    command = importlib.import_module(f"worldjepa.commands.{verb}")
    if flags & {"-h", "--help"}:
        print(help_of(verb, command.SUMMARY, command.SECTIONS))
        return 0
    words = [a for a in arguments if not a.startswith("-")]
    what = words.pop(0) if words and "=" not in words[0] else None
    config = load_config(what, words)
    if "--show" in flags:
        print(to_yaml(config), end="")
        return 0
    try:
        return command.run(config)
    except OpenGLUnavailable as error:
        raise UserError(str(error)) from None


def overview() -> str:
    """What `worldjepa --help` prints."""
    lines = ["usage: worldjepa VERB [WHAT] name=value ... [--show] [--help]", ""]
    for verb in VERBS:
        summary = importlib.import_module(f"worldjepa.commands.{verb}").SUMMARY
        lines.append(f"  {verb:<9} {summary}")
    return "\n".join([*lines, "", *_what()])


def help_of(verb: str, summary: str, sections: Sequence[str]) -> str:
    """What `worldjepa VERB --help` prints: every option that the verb heeds, its default, its meaning."""
    rows = [row for row in describe() if row[0].startswith(tuple(sections))]
    width = max(len(f"{name}={default}") for name, default, _ in rows)
    lines = [f"usage: worldjepa {verb} [WHAT] name=value ... [--show] [--help]", "", summary, "", *_what(), "", "options:"]
    lines += [f"  {f'{name}={default}':<{width}}  {meaning}" for name, default, meaning in rows]
    return "\n".join(lines)


def _what() -> list[str]:
    return [
        f"WHAT is a recipe ({', '.join(recipes())}), a YAML file, or a run folder; without it, the defaults.",
        "--show prints the configuration that results, and stops.",
    ]
