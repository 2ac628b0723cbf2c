"""The pages of docs/ as a site: each is in mkdocs.yml, links lead on, and the modules of the API exist."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
MODULES = re.findall(r"^::: ([\w.]+)$", (DOCS / "api.md").read_text("utf-8"), re.MULTILINE)


def test_every_page_is_in_the_menu_and_every_entry_is_a_page() -> None:
    assert sorted(page for entry in SITE["nav"] for page in entry.values()) == PAGES


def test_each_module_of_the_api_is_there_once() -> None:
    assert len(MODULES) > 20
    assert sorted(set(MODULES)) == sorted(MODULES)
    undocumented = [name for name in MODULES if not (importlib.import_module(name).__doc__ or "").strip()]
    assert undocumented == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (DOCS / page).read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith("https://") or (DOCS / target).exists(), target


def test_what_pages_link_to_outside_docs_is_copied_beside_the_site() -> None:
    copied = re.search(
        r"^\ttar -c .*?((?:\w+ )+)\*\.md", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    assert copied is not None
    linked = {
        top for page in PAGES for top in re.findall(r"\]\(\.\./(\w+)/", (DOCS / page).read_text("utf-8"))
    }
    assert linked <= set(copied[1].split())


def test_pages_load_no_script_but_the_one_for_mathematics() -> None:
    outside = [script for script in SITE["extra_javascript"] if script.startswith("https://")]
    assert len(outside) == 1
    assert "mathjax" in outside[0]
    assert [s for s in SITE["extra_javascript"] if s not in outside and not (DOCS / s).exists()] == []
    assert SITE["theme"]["font"] is False
