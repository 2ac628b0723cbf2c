"""What the pages name exists: files, functions and classes as `file.py:name`, links, make's targets."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("worldjepa", "envs", "configs", "scripts", "tests", "docs", "results", r"\.ci", r"\.github")
MODULES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("worldjepa", "envs", "configs", "scripts", "tests")
    for path in (ROOT / folder).rglob("*.py")
]


def names_in(module: str) -> set[str]:
    """What a file defines at its top, and as Class.name within its classes."""
    found: set[str] = set()

    def look(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found.update(prefix + t.id for t in targets if isinstance(t, ast.Name))

    look(ast.parse((ROOT / module).read_text("utf-8")).body, "")
    return found


def anchors(text: str) -> set[str]:
    """What GitHub and MkDocs call the headings of a page."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing(text: str, folder: Path) -> list[str]:
    """Whatever a page in `folder` names that is not there."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        there = folder / path
        headings = anchors(there.read_text("utf-8") if there.suffix == ".md" and there.exists() else text)
        if (path and not there.exists()) or (anchor and anchor not in headings):
            wrong.append(target)
    for path in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./*-]*)`", text):
        # Neither what stands for a name, as results/GRID/, nor a Gymnasium id.
        if not re.search(r"/[A-Z]+\b|-v\d$", path) and not list(ROOT.glob(path.rstrip("/"))):
            wrong.append(path)
    for path, name in re.findall(r"`([\w./-]+\.py):([A-Za-z_][\w.]*)`", text):
        # As a page may: cem.py:CEM for worldjepa/planning/cem.py.
        found = [module for module in MODULES if f"/{module}".endswith(f"/{path}")]
        if not any(name in names_in(module) for module in found):
            wrong.append(f"{path}:{name}")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    assert missing(page.read_text("utf-8"), page.parent) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("## A heading, with dots\n[here](#a-heading-with-dots), [theirs](https://example.org/x)", []),
        ("see [it](docs/tensorboard.md#the-verdict) and [that](#nothing)", ["#nothing"]),
        ("see [this](docs/tensorboard.md#nothing)", ["docs/tensorboard.md#nothing"]),
        ("see [this](docs/nothing.md)", ["docs/nothing.md"]),
        ("`worldjepa/data/`, `scripts/figures/image_*.py`, `results/GRID/`, `worldjepa/Reacher-v0`", []),
        ("`worldjepa/nothing.py`, `scripts/nothing_*.py`", ["worldjepa/nothing.py", "scripts/nothing_*.py"]),
        ("`worldjepa/run.py:Run.save_checkpoint`, `trainer.py:train`, `device.py:GAINS`", []),
        ("`worldjepa/run.py:save_checkpoint`", ["worldjepa/run.py:save_checkpoint"]),
        ("`nothing.py:train`, `iner.py:train`", ["nothing.py:train", "iner.py:train"]),
    ],
)
def test_what_is_missing_is_found_and_nothing_else(text: str, wrong: list[str]) -> None:
    assert missing(text, ROOT) == wrong


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda path: path.name)
def test_every_block_of_code_is_run_by_a_test_or_its_commands_exist(page: Path) -> None:
    """README's and extending's are run from first to last, method's are held against the code
    (test_readme.py, test_extending.py, test_method.py); others have commands alone, which exist."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert text.count("```") == 2 * len(blocks)
    if page.name in ("extending.md", "method.md"):
        return
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for kind, block in blocks:
        assert kind == "sh"
        for line in block.splitlines():
            program, what, *_ = shlex.split(line, comments=True)
            if program == "make":
                assert re.search(rf"^{what}:", makefile, re.MULTILINE), line
            else:
                assert program in ("python", ".venv/bin/pytest", ".venv/bin/pre-commit"), line
                assert what == "install" or (ROOT / what).exists(), line


def test_the_pages_lead_to_one_another() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for page in ("CONTRIBUTING.md", "docs/extending.md", "docs/house.md"):
        assert f"({page})" in readme, page


def test_contributing_names_targets_that_make_has_and_all_that_test() -> None:
    text, makefile = ((ROOT / name).read_text("utf-8") for name in ("CONTRIBUTING.md", "Makefile"))
    named = set(re.findall(r"\bmake ([a-z][\w-]*)", text))
    assert named - set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE)) == set()
    assert {"test", "test-slow", "test-peer", "lint"} <= named
