"""The pages show what results/ holds: every table that was measured, and the numbers in sentences."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "docs/recipe.md")}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scripts/page.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("page")


def result(path: str) -> Any:
    return json.loads((ROOT / "results" / path).read_text("utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_no_table_is_stale(page: Any, name: str) -> None:
    assert set(page.PAGES) == set(PAGES)
    assert page.filled(PAGES[name]) == PAGES[name], "make page"


def test_every_table_stands_on_a_page(page: Any) -> None:
    shown = [found[2] for text in PAGES.values() for found in page.BLOCK.finditer(text)]
    assert sorted(shown) == sorted(page.TABLES)
    for text in PAGES.values():
        assert text.count("<!-- results: ") == text.count("<!-- end of results -->")


def test_a_table_that_says_something_else_is_found(page: Any) -> None:
    text = PAGES["README.md"]
    number = re.search(r"\*\*(\d\d)\.\d %\*\*", text)
    assert number is not None
    changed = text[: number.start(1)] + "12" + text[number.end(1) :]
    assert page.filled(changed) == text


def test_the_page_of_results_is_not_stale(page: Any, tmp_path: Path) -> None:
    assert page.results_tables.main(["--to", str(tmp_path)]) == 0
    made = {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "results.md").read_text("utf-8") == (ROOT / "docs" / "results.md").read_text("utf-8")
    assert all((ROOT / "docs" / name).exists() for name in made), "make page"


def test_the_pictures_were_drawn_from_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    pictures = importlib.import_module("pictures")
    drawn = json.loads(pictures.DRAWN.read_text("utf-8"))
    assert {name: of["from"] for name, of in drawn.items()} == pictures.sources(), "make pictures"
    for name, of in drawn.items():
        assert of["sha256"] == pictures.digest((ROOT / "docs" / name).read_bytes()), name


def test_the_recipe_of_images_says_what_it_reached() -> None:
    found = result("images_cpu.json")
    head = (ROOT / "configs" / "images_cpu.yaml").read_text("utf-8").partition("\nname:")[0]
    for name in ("trained", "untrained", "raw pixels"):
        row = found["rows"][name]
        for value in (row["linear"], row["knn"], row["shots"]["10"]["mean"]):
            assert f"{value:.1f}" in head, name
    assert f"{found['step']:,} steps" in head
