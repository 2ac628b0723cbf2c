"""What the README says holds: its commands run, with the smoke recipe for reacher's; its links lead on."""

import re
import shlex
from pathlib import Path

import pytest
from monitored import monitored

from worldjepa.cli import main
from worldjepa.pretrained import pretrained
from worldjepa.recipes import load_config, recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
# What starts processes: tests/test_data_parallel.py runs it, with as many as two cores bear.
LAUNCHER = ["torchrun", "--standalone", "--nproc-per-node", "8", "-m"]


def commands(block: str) -> list[list[str]]:
    """The words of each command of a shell block; lines that end in a backslash go on."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def in_small(text: str) -> str:
    """The same with the recipes that take seconds; reacher_gpu and other names stay."""
    few = "collect.episodes=2 plan.goals=4 plan.bound_goals=1 plan.videos=1"
    text = re.sub(r"\breacher\b(?!-pretrained)", "smoke", text).replace(
        "reacher-pretrained", f"reacher-pretrained {few}"
    )
    return re.sub(r"\bimages_cpu\b", "images_smoke", text)


def targets() -> set[str]:
    return set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_every_block_is_shell_or_python_and_each_kind_is_there() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python"}
    assert README.count("```") == 2 * len(BLOCKS)


def test_every_command_is_one_that_is_tested() -> None:
    for kind, block in BLOCKS:
        for words in commands(block) if kind == "sh" else []:
            assert words[0] in ("make", "worldjepa", "torchrun"), words
            assert words[0] != "torchrun" or words[: len(LAUNCHER) + 1] == [*LAUNCHER, "worldjepa"], words
            assert words[0] != "make" or set(words[1:]) <= targets(), words


def test_the_verbs_are_all_shown() -> None:
    from worldjepa.cli import VERBS

    assert [verb for verb in VERBS if f"worldjepa {verb}" not in README] == []


def test_commands_and_code_run_from_first_to_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(in_small(block), "README.md", "exec"), {})
            continue
        for words in commands(in_small(block)):
            if words[:2] == ["worldjepa", "monitor"]:
                assert b"TensorBoard" in monitored(words[2:], tmp_path)
            elif words[0] == "worldjepa":
                assert main(words[1:]) == 0, words
                ran += 1
    assert ran >= 4


def test_what_would_run_in_full_is_possible() -> None:
    """The same commands as they are printed: their recipes and options exist."""
    for kind, block in BLOCKS:
        for words in commands(block.replace(" ".join(LAUNCHER) + " ", "")) if kind == "sh" else []:
            if words[0] == "worldjepa" and len(words) > 2:
                what = [words[2]] if words[2] in (*recipes(), *pretrained()) else []
                assert load_config(*what or [None], [w for w in words[2:] if "=" in w])


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for path in re.findall(r"`((?:worldjepa|envs|configs|tests|scripts)/[\w./-]*)`", README):
        assert (ROOT / path).exists(), path


def test_nothing_is_left_to_fill_in() -> None:
    assert re.findall(r"@[A-Z]+@|TODO|TBD", README) == []
