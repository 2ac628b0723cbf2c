"""The command line: help, flags, exit codes, and the whole line of commands on the smoke recipe."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
from monitored import monitored

from worldjepa.cli import VERBS, main
from worldjepa.config import Config
from worldjepa.options import describe, options
from worldjepa.recipes import load_config, recipes, to_yaml

WORLDJEPA = Path(sys.executable).with_name("worldjepa")


def command(
    *words: str, cwd: Path, program: Sequence[str | Path] = (WORLDJEPA,)
) -> subprocess.CompletedProcess[str]:
    """What a user types, without a terminal."""
    return subprocess.run(
        [*program, *words],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Standard output of a command that succeeds and says nothing on standard error."""
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


# Help


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_every_verb_and_recipe(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    text = told(capsys, *words)
    for verb, (summary, *_) in VERBS.items():
        assert f"  {verb} " in text
        assert summary in " ".join(text.split())
    assert ", ".join(recipes()) in " ".join(text.split())


def test_every_verb_is_a_module_with_run() -> None:
    folder = Path(__file__).parents[1] / "worldjepa" / "commands"
    assert {path.stem for path in folder.glob("[!_]*.py")} == set(VERBS)


def test_a_verb_heeds_options_that_exist_and_every_option_is_heeded() -> None:
    for verb in VERBS.values():
        for name in verb.options:
            assert any(verb._replace(options=(name,)).heeds(option) for option in options()), name
    assert [option for option in options() if not any(v.heeds(option) for v in VERBS.values())] == []
    assert VERBS["train"].heeds("train.steps")
    assert not VERBS["collect"].heeds("names")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("columns", ["80", "132"])
def test_a_verbs_help_lists_its_options_with_default_and_meaning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = told(capsys, verb, "--help")
    assert max(map(len, text.splitlines())) <= int(columns)
    flowing = " ".join(text.split())
    for name, default, meaning in describe():
        assert (f"  {name}={default}" in text) == VERBS[verb].heeds(name)
        assert not VERBS[verb].heeds(name) or f"{name}={default} {meaning}" in flowing


def test_help_wins_over_what_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "train", "nonsense", "a=b", "-h").startswith("usage: worldjepa train ")


def test_show_prints_what_results_and_runs_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = told(capsys, "train", "smoke", "train.steps=9", "--show")
    assert text == to_yaml(load_config("smoke", ["train.steps=9"]))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine.yaml").write_text(text)
    assert told(capsys, "train", "mine.yaml", "--show") == text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--version") == f"worldjepa {version('worldjepa')}\n"


# What is wrong with a command


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (
            ["trane"],
            "trane: no such command; they are collect, data, train, plan, probe, surprise, decode, geometry, "
            "convert, export, report, monitor, doctor",
        ),
        (["smoke", "train"], "smoke: no such command"),
        (["train", "smoke", "--steps=3"], "--steps=3: no such flag; options are written name=value"),
        (["plan", "-v"], "-v: no such flag"),
        (["train", "smoke", "reacher"], "'reacher' is not an option; write it as name=value"),
        (["train", "smok"], "smok: no such recipe, YAML file or run folder; did you mean smoke?"),
        (["train", "smoke", "train.step=3"], "unknown option train.step; did you mean train.steps?"),
        (["train", "smoke", "plan.horizon=0"], "plan.horizon=0: must be at least 1"),
        (["collect", "smoke", "name=a\nb", "env.protocol=c\nd"], "env.protocol=c d: must be"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list,
    right: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("worldjepa: ")
    assert captured.err.count("\n") == 1
    assert right in captured.err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_command_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    told = {("collect", "smoke"): "goes on from there", ("doctor",): "begins anew"}
    for words, next_time in told.items():
        monkeypatch.setattr(f"worldjepa.commands.{words[0]}.run", interrupted)
        assert main(words) == 130
        assert capsys.readouterr().err == f"\n{words[0]}: interrupted; the same command {next_time}\n"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{WORLDJEPA} train --help | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) in ((1, ""), (0, ""))


# The whole line


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which the commands ran one after another, and what each told."""
    folder = tmp_path_factory.mktemp("line")
    outputs = {}
    for words in (("collect", "smoke"), ("train", "smoke"), ("probe", "runs/smoke"), ("plan", "runs/smoke")):
        done = command(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        outputs[words[0]] = done.stdout
    return folder, outputs


def test_the_line_leaves_what_it_says(line: tuple[Path, dict[str, str]]) -> None:
    folder, outputs = line
    assert outputs["collect"] == "data/smoke: 6 episodes, 360 frames (360 new)\n"
    assert outputs["train"].endswith("runs/smoke: trained, 6 steps\n")
    for name in ("config.yaml", "metrics.jsonl", "checkpoints/00000006/model.safetensors"):
        assert (folder / "runs" / "smoke" / name).stat().st_size > 0
    assert "mean of coordinates" in outputs["probe"]
    for row in ("random actions", "world model", "same solver, true dynamics"):
        assert row in outputs["plan"]
    for verb in ("probe", "plan"):
        paths = [text for text in outputs[verb].splitlines() if text.startswith("runs/")]
        assert {Path(path).suffix for path in paths} >= {".json", ".png"}
        assert all((folder / path).stat().st_size > 0 for path in paths)
    assert outputs["plan"].splitlines()[-2:] == [
        f"runs/smoke/evaluation/plan.{kind}" for kind in ("mp4", "gif")
    ]
    left_over = [str(p) for p in folder.rglob("*") if p.name.startswith(".") or p.suffix == ".tmp"]
    assert left_over == []


def test_a_solver_that_descends_is_bounded_by_one_that_samples(
    line: tuple[Path, dict[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The simulator that gives the bound has no gradients."""
    shutil.copytree(line[0], tmp_path / "line")
    monkeypatch.chdir(tmp_path / "line")
    assert main(["plan", "runs/smoke", "plan.solver=cem_gradient", "plan.videos=0"]) == 0
    told = capsys.readouterr().out
    assert "cem, true dynamics" in told
    assert "same solver" not in told


def test_a_second_run_of_each_skips_what_is_done(
    line: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, outputs = line
    monkeypatch.chdir(folder)
    results = ("*.h5", "*.safetensors", "*.pt", "*.json", "config.yaml", "*.mp4", "*.gif")
    files = sorted(p for pattern in results for p in folder.rglob(pattern))
    assert len(files) == 3 + 2 + 3 + 1 + 2
    before = [(p.stat().st_mtime_ns, p.stat().st_ino) for p in files]
    metrics = (folder / "runs/smoke/metrics.jsonl").read_text()

    assert main(["collect", "smoke"]) == 0
    assert capsys.readouterr().out == "data/smoke: 6 episodes, 360 frames (nothing was missing)\n"
    assert main(["train", "smoke"]) == 0
    assert capsys.readouterr().out.endswith("runs/smoke: trained, 6 steps\n")
    for verb in ("probe", "plan"):
        assert main([verb, "runs/smoke"]) == 0
        assert capsys.readouterr().out == outputs[verb]

    assert [(p.stat().st_mtime_ns, p.stat().st_ino) for p in files] == before
    assert (folder / "runs/smoke/metrics.jsonl").read_text() == metrics


def test_monitor_takes_a_run_or_a_folder_of_runs(
    line: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def show(config: Config) -> int:
        shown.append(config.run)
        return 0

    monkeypatch.setattr("worldjepa.commands.monitor.run", show)
    monkeypatch.chdir(line[0])
    for words in (["runs/smoke"], ["runs"], ["run=runs"], ["smoke"]):
        assert main(["monitor", *words]) == 0
    assert shown == ["runs/smoke", "runs", "runs", "runs/smoke"]


def test_doctor_tells_what_a_report_needs(tmp_path: Path) -> None:
    done = command("doctor", "smoke", cwd=tmp_path, program=[sys.executable, "-m", "worldjepa"])
    assert (done.returncode, done.stderr) == (0, "")
    labels = [row.split()[0] for row in done.stdout.splitlines()]
    assert labels == ["worldjepa", "Python", "torch", "device", "packages", "OpenGL"]
    assert "frames/s" in done.stdout


def test_monitor_serves_the_run_until_ctrl_c(line: tuple[Path, dict[str, str]]) -> None:
    folder, _ = line
    assert b"TensorBoard" in monitored(["runs/smoke"], folder)
