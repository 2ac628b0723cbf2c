"""make: one installation, taken up again where it failed, and commands that exist."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make") or "make"
# Stands for an interpreter and for what it installs: it makes .venv, and notes what pip is asked for.
FAKE = """#!/bin/sh
echo "$@" >> calls
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip install "*) test ! -e pip_fails ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile, and an interpreter called python3.12 that only notes what it is asked."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3.12").write_text(FAKE)
    (tmp_path / "bin" / "python3.12").chmod(0o755)
    return tmp_path


def make(project: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{project}/bin:/usr/bin:/bin", "HOME": str(project)}
    return subprocess.run(
        [MAKE, *words], cwd=project, env=environment | variables, capture_output=True, text=True
    )


def installs(project: Path) -> int:
    """How often pip was asked for the project itself."""
    return (project / "calls").read_text().count("--editable .[dev]") if (project / "calls").exists() else 0


def test_it_installs_once_and_again_where_the_requirements_changed(project: Path) -> None:
    for expected in (1, 1):
        done = make(project, ".venv/.installed")
        assert done.returncode == 0, done.stderr
        assert installs(project) == expected
    for count, name in enumerate(("pyproject.toml", "constraints.txt"), 2):
        later = (project / ".venv" / ".installed").stat().st_mtime + 10
        os.utime(project / name, (later, later))
        assert make(project, ".venv/.installed").returncode == 0
        assert installs(project) == count
        os.utime(project / ".venv" / ".installed", (later + 10, later + 10))
    assert "--constraint constraints.txt" in (project / "calls").read_text()


def test_a_failed_installation_leaves_no_stamp_and_is_taken_up_again(project: Path) -> None:
    (project / "pip_fails").touch()
    assert make(project, ".venv/.installed").returncode != 0
    assert not (project / ".venv" / ".installed").exists()
    (project / "pip_fails").unlink()
    assert make(project, ".venv/.installed").returncode == 0
    # So does one that fails later, after a change.
    (project / "pip_fails").touch()
    later = (project / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(project / "pyproject.toml", (later, later))
    assert make(project, ".venv/.installed").returncode != 0
    assert not (project / ".venv" / ".installed").exists()


def test_without_a_python_it_says_so_in_one_line(project: Path) -> None:
    for name in ("python3.12", "python3.11", "python3"):
        (project / "bin" / name).write_text("#!/bin/sh\nexit 127\n")
        (project / "bin" / name).chmod(0o755)
    done = make(project, "test")
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if "***" not in line]
    assert ours == [
        "make: no Python 3.11 or 3.12 here; install one, or name it: make PYTHON=/path/to/python3.12"
    ]


def test_another_python_may_be_named_but_not_any(project: Path) -> None:
    (project / "bin" / "python3.12").rename(project / "mine")
    assert make(project, ".venv/.installed", f"PYTHON={project}/mine").returncode == 0
    (project / ".venv" / ".installed").unlink()
    (project / "old").write_text("#!/bin/sh\nexit 1\n")
    (project / "old").chmod(0o755)
    done = make(project, ".venv/.installed", f"PYTHON={project}/old")
    assert f"make: PYTHON={project}/old must be Python 3.11 or 3.12" in done.stderr


def test_a_python_without_venv_names_the_package(project: Path) -> None:
    fake = project / "bin" / "python3.12"
    fake.write_text(fake.read_text().replace('case "$*" in', 'case "$*" in\n  *ensurepip*) exit 1 ;;'))
    assert "apt-get install python3-venv" in make(project, "test").stderr


def test_what_each_target_runs(project: Path) -> None:
    def recipe(target: str) -> list[str]:
        dry = make(project, "-n", "-o", ".venv/.installed", target)
        assert dry.returncode == 0, dry.stderr
        return [line.removeprefix(".venv/bin/") for line in dry.stdout.splitlines()]

    assert recipe("demo") == [
        "worldjepa doctor",
        "worldjepa collect reacher",
        "worldjepa train reacher train.minutes=4.5",
        "worldjepa probe runs/reacher probe.seeds=1",
        "worldjepa plan runs/reacher",
    ]
    assert recipe("test") == ["pytest --numprocesses 2 --dist loadfile"]
    assert recipe("test-slow") == ["pytest -m slow"]
    assert recipe("lint") == ["ruff check .", "ruff format --check .", "mypy"]
    assert "mkdocs build --strict" in recipe("docs")
    assert recipe("page") == ["python scripts/page.py"]
    assert recipe("dist")[-2:] == ["python -m build --no-isolation", "python -m twine check --strict dist/*"]
    (extra,) = (line for line in recipe("dist") if "pip install" in line)
    assert "--editable '.[release]'" in extra


def test_help_names_every_target_and_comes_first(project: Path) -> None:
    phony = re.search(r"^\.PHONY: help (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    said = make(project).stdout
    assert re.findall(r"^make ([\w-]+)", said, re.MULTILINE) == phony[1].split()


def test_ci_lints_and_ends_on_the_tests() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert script[-2:] == ["make --no-print-directory lint", "exec make --no-print-directory test"]
