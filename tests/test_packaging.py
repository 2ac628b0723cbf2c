"""What is installed, in which way, and that importing it does nothing."""

import json
import os
import site
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """A command's standard output; fails with both outputs where the command does."""
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=variables | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_package_list_is_the_folders() -> None:
    library = [p.parent for p in (ROOT / "worldjepa").rglob("__init__.py")]
    names = {".".join(p.relative_to(ROOT).parts) for p in library}
    names |= {
        f"worldjepa.{folder}" for folder in ("envs", "configs") if (ROOT / folder / "__init__.py").exists()
    }
    assert sorted(names) == PROJECT["tool"]["setuptools"]["packages"]
    flat = [p for folder in ("envs", "configs") for p in (ROOT / folder).iterdir() if p.is_dir()]
    assert [p for p in flat if p.name != "__pycache__"] == [], (
        "folders within envs/ or configs/ are not installed"
    )
    code = {p.parent for p in (ROOT / "worldjepa").rglob("*.py")}
    assert code == set(library), "a folder of modules lacks its __init__.py"


def test_every_file_of_the_packages_is_code_or_declared_data() -> None:
    declared = PROJECT["tool"]["setuptools"]["package-data"]
    for folder, package in (
        ("worldjepa", "worldjepa"),
        ("envs", "worldjepa.envs"),
        ("configs", "worldjepa.configs"),
    ):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert any(path.match(pattern) for pattern in declared.get(package, [])), path


def test_the_version_is_said_in_one_way() -> None:
    version = PROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_dependency_has_a_tested_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line[:1] != "#"]
    assert [line for line in lines if line.count("==") != 1] == []
    tested = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(name for extra in extras for name in extra)]
    assert {name.split(">")[0] for name in wanted} - tested == set()


def test_importing_does_nothing(tmp_path: Path) -> None:
    program = """
import json, logging, os, sys, warnings
import gymnasium, omegaconf  # what they change is not ours
before = dict(os.environ), list(warnings.filters), logging.root.handlers[:]
import worldjepa, worldjepa.config, worldjepa.recipes, worldjepa.cli, worldjepa.envs
after = dict(os.environ), list(warnings.filters), logging.root.handlers[:]
heavy = {"torch", "timm", "mujoco", "dm_control", "matplotlib", "tensorboard"}
print(json.dumps({
    "changed": [name for name, a, b in zip(("environ", "warnings", "logging"), before, after) if a != b],
    "heavy": sorted(heavy & set(sys.modules)),
    "bare": sorted({"envs", "configs", "scripts", "tests"} & set(sys.modules)),
}))
"""
    told = json.loads(run(sys.executable, "-W", "error", "-c", program, cwd=tmp_path))
    assert told == {"changed": [], "heavy": [], "bare": []}


def test_importing_all_of_it_sets_no_environment_variable(tmp_path: Path) -> None:
    modules = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in sorted((ROOT / "worldjepa").rglob("*.py"))
        if p.name not in ("__init__.py", "__main__.py")
    ]
    program = f"""
import importlib, json, os, sys
before = dict(os.environ)
for name in {modules}:
    importlib.import_module(name)
# KMP_*: scikit-learn and torch tell OpenMP. TORCHINDUCTOR_*: torchvision brings torch's compiler along.
theirs = ("KMP_", "TORCHINDUCTOR_")
changed = [k for k, v in os.environ.items() if before.get(k) != v and not k.startswith(theirs)]
print(json.dumps([changed, sorted({{"mujoco", "dm_control", "envs", "configs"}} & set(sys.modules))]))
"""
    assert json.loads(run(sys.executable, "-c", program, cwd=tmp_path)) == [[], []]


def clone(folder: Path) -> Path:
    """What git would clone, with the present content of its files; neither build litter nor data."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from that distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=folder)
    return folder


def environment(folder: Path, source: str, *flags: str) -> Path:
    """A virtual environment that finds the dependencies where they are; worldjepa is installed into it."""
    # Without a pip and a setuptools of its own: the tested ones are among the dependencies.
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    purelib = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    (purelib / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed")
    run(*pip, "install", *options, *flags, source, cwd=folder)
    return python


@pytest.mark.slow
@pytest.mark.parametrize("way", ["wheel", "source distribution", "plain", "editable"])
def test_an_installation_works_outside_the_clone(way: str, source: Path, built: Path, tmp_path: Path) -> None:
    what = {
        "wheel": [str(next(built.glob("*.whl")))],
        "source distribution": [str(next(built.glob("*.tar.gz")))],
        "plain": [str(source)],
        "editable": [str(source), "--editable"],
    }[way]
    python = environment(tmp_path, what[0], *what[1:])
    where = run(
        python,
        "-c",
        "import worldjepa, worldjepa.envs as e; print(worldjepa.__file__, e.__file__)",
        cwd=tmp_path,
    )
    home = source if way == "editable" else tmp_path / "venv"
    assert [Path(path).is_relative_to(home) for path in where.split()] == [True, True]
    command = python.with_name("worldjepa")
    assert "collect" in run(command, "--help", cwd=tmp_path)
    assert (
        run(python, "-m", "worldjepa", "--version", cwd=tmp_path)
        == f"worldjepa {PROJECT['project']['version']}\n"
    )
    told = run(command, "collect", "smoke", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert told == "data/smoke: 6 episodes, 360 frames (360 new)\n"
    assert len(list((tmp_path / "data" / "smoke").glob("shard-*.h5"))) == 3
    program = (
        "import importlib.util as u; print([n for n in ('envs', 'configs', 'scripts') if u.find_spec(n)])"
    )
    assert run(python, "-c", program, cwd=tmp_path) == "[]\n"


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_else(built: Path) -> None:
    listed = run(sys.executable, "-m", "zipfile", "-l", next(built.glob("*.whl")), cwd=built).splitlines()[1:]
    names = {line.split()[0] for line in listed}
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"worldjepa"}
    expected = {f"worldjepa/{p.relative_to(ROOT / 'worldjepa')}" for p in (ROOT / "worldjepa").rglob("*.py")}
    for folder, pattern in (("envs", "*.py"), ("configs", "*.py"), ("configs", "*.yaml")):
        expected |= {f"worldjepa/{folder}/{p.name}" for p in (ROOT / folder).glob(pattern)}
    trained = (ROOT / "worldjepa" / "pretrained").glob("[a-z]*/*")
    expected |= {f"worldjepa/{p.relative_to(ROOT / 'worldjepa')}" for p in trained}
    assert {n for n in names if ".dist-info/" not in n} == expected | {
        "worldjepa/py.typed",
        "worldjepa/evaluation/report.html",
    }
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)
