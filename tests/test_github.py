"""What GitHub reads: a workflow that runs what a fresh clone has to pass, forms that ask for what helps."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.fixture
def jobs() -> dict[str, Any]:
    workflow = read(ROOT / ".github" / "workflows" / "ci.yml")
    # YAML 1.1 reads the key on as true.
    assert set(workflow[True]) == {"push", "pull_request"}
    assert workflow["permissions"] == {"contents": "read"}
    return workflow["jobs"]


def test_the_tests_run_as_in_a_fresh_clone_on_every_python_that_is_served(jobs: dict[str, Any]) -> None:
    job = jobs["test"]
    assert commands(job)[-1] == "bash .ci/run"
    packages = set(re.findall(r"\blib\w+", commands(job)[0]))
    readme = (ROOT / "README.md").read_text("utf-8")
    assert packages == {"libegl1", "libgl1", "libosmesa6"}
    assert packages <= set(re.findall(r"\blib\w+", readme))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    served = [c.rpartition(" :: ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert job["strategy"]["matrix"]["python"] == served
    # make takes the first python that it finds, unless PYTHON names one.
    assert job["env"]["PYTHON"] == "python${{ matrix.python }}"
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(r"^PYTHON \?=", makefile, re.MULTILINE)


def test_the_package_is_built_and_tried_and_the_site_made(jobs: dict[str, Any]) -> None:
    assert commands(jobs["package"])[-2:] == ["make try-wheel", "make docs"]


@pytest.fixture
def nightly() -> dict[str, Any]:
    workflow = read(ROOT / ".github" / "workflows" / "nightly.yml")
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}
    return workflow["jobs"]


def test_what_takes_long_is_tested_every_night(nightly: dict[str, Any]) -> None:
    assert commands(nightly["slow"])[-1] == "make test-slow"
    assert nightly["slow"]["timeout-minutes"] <= 180


def test_every_job_gets_the_code_and_a_python_first(jobs: dict[str, Any], nightly: dict[str, Any]) -> None:
    for job in (jobs | nightly).values():
        used = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
        assert used == ["actions/checkout", "actions/setup-python"]
        assert all("uses" in step for step in job["steps"][:2])
    assert all(job["timeout-minutes"] <= 60 for job in jobs.values())


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_what_github_takes(path: Path) -> None:
    form = read(path)
    assert set(form) == {"name", "description", "labels", "body"}
    assert {item["type"] for item in form["body"]} == {"textarea"}
    assert all(item["attributes"]["label"] for item in form["body"])
    ids = [item["id"] for item in form["body"]]
    assert len(set(ids)) == len(ids)
    assert any(item.get("validations") == {"required": True} for item in form["body"])


def test_the_forms_ask_for_what_a_report_needs() -> None:
    assert [path.stem for path in FORMS] == ["bug", "question"]
    for path in FORMS:
        text = path.read_text("utf-8")
        assert "`worldjepa doctor`" in text
        assert "config.yaml" in text
    required = {item["id"] for item in read(FORMS[0])["body"] if "validations" in item}
    assert required == {"happened", "expected", "doctor"}
