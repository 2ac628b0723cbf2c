"""The page of a run: everything that the run left is on it, it needs nothing else, and text stays text."""

import base64
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest

from worldjepa import cli
from worldjepa.evaluation import report
from worldjepa.evaluation.catalogue import EVALUATIONS, made_by, owner, trained_by
from worldjepa.evaluation.curves import charts
from worldjepa.evaluation.probe_figures import probe_table
from worldjepa.evaluation.report import write_report
from worldjepa.evaluation.tables import Table, blocks
from worldjepa.recipes import load_config, to_yaml
from worldjepa.run import Run

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """A page taken apart; fails where an element is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(" ".join(data.split()))
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data.strip()

    def found(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(run: Path) -> Page:
    return Page(write_report(Run(run)).read_text("utf-8"))


def assert_stands_alone(page: Page) -> None:
    """It runs nothing and fetches nothing, and what is within it is told apart and named."""
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed"}
    targets = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href", "xlink:href", "srcset")]
    assert targets
    assert [t[:60] for t in targets if not t.startswith(("data:", "#"))] == []
    assert [name for _, a in page.tags for name in a if name.startswith("on")] == []
    assert [text for text in page.texts["style"] if "@import" in text or "url(" in text] == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {t[1:] for t in targets if t.startswith("#")} <= set(ids)
    assert all(image["alt"] for image in page.found("img"))
    assert len(page.found("h1")) == 1


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A run of the smoke recipe, planned with and probed."""
    run = tmp_path_factory.mktemp("runs") / "smoke"
    words = [f"run={run}", f"data.path={tiny_data}"]
    assert cli.main(["train", "smoke", "train.evaluate_goals=0", *words]) == 0
    for command in ("probe", "plan"):
        assert cli.main([command, str(run), "plan.rival_steps=0", "plan.goals=3"]) == 0
    return run


@pytest.fixture
def run(line: Path, tmp_path: Path) -> Path:
    """A copy, to change; without metrics, since charts take most of the time."""
    ignore = shutil.ignore_patterns("metrics.jsonl", "events.*", "report.html")
    return Path(shutil.copytree(line, tmp_path / "smoke", ignore=ignore))


@pytest.fixture(scope="module")
def page(line: Path) -> Page:
    return page_of(line)


def test_the_command_writes_the_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(run)]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"{run}/report.html\n", "")
    assert (run / "report.html").read_text("utf-8").startswith("<!doctype html>")


def test_it_stands_alone(page: Page) -> None:
    assert_stands_alone(page)


def test_it_holds_every_picture(line: Path, page: Page) -> None:
    shown = {base64.b64decode(image["src"].split(",")[1]) for image in page.found("img")}
    lying = {p.read_bytes() for p in (line / "evaluation").iterdir() if p.suffix in (".png", ".gif")}
    assert shown == lying
    assert len(shown) >= 3


def test_its_tables_hold_the_numbers_of_the_json(line: Path, page: Page) -> None:
    plan, probe = (json.loads((line / f"evaluation/{name}.json").read_text()) for name in ("plan", "probe"))
    cells = {row[0]: row[1:] for table in page.tables for row in table}
    for name, row in plan["rows"].items():
        low, high = row["interval"]
        assert cells[name][:2] == [f"{row['success']:.1f} %", f"{low:.1f} to {high:.1f} %"]
        assert cells[name][2] == f"{row['reached']} of {row['goals']}"
    for block in (b for b in blocks(probe_table(probe)) if isinstance(b, Table)):
        assert [block.head, *block.rows] in page.tables
    assert f"{plan['rows']['world model']['success']:.1f} %" in page.texts["b"]
    assert f"{probe['mean_r2']['coordinates']:.3f}" in page.texts["b"]


def test_it_says_what_was_trained_on_what(line: Path, page: Page, tiny_data: Path) -> None:
    facts = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    about = json.loads((line / "about.json").read_text())
    assert facts["Model"] == f"conv encoder, latent of 16, {about['parameters']} parameters"
    assert facts["Data"] == f"{tiny_data}, 34 % of the episodes held out"
    assert facts["Trained on"] == about["data"]
    assert facts["Training"].startswith("6 steps of 16 windows")
    assert facts["Objective"] == "prediction + 0.1 · SIGReg, 16 slices"
    said = " ".join(page.texts["p"])
    assert all(f"{name} {number}" in said for name, number in about["versions"].items())
    assert {"worldjepa", "torch", "mujoco"} <= set(about["versions"])
    assert to_yaml(load_config(f"{line}/")).strip().split() == page.texts["pre"][-1].split()


def test_what_is_missing_is_named_with_its_command(line: Path, page: Page) -> None:
    rows = {row[0]: row[1:] for row in page.tables[-1]}
    expected = {f"worldjepa plan {line} plan.protocol={p}" for p in ("far50", "hold", "tight", "lewm")}
    # Of 60 frames, none is 100 steps ahead.
    assert "Planning, protocol far100" not in rows
    assert expected <= {row[1] for row in rows.values()}
    assert rows["Planning, protocol hold"][0] == "not measured"
    assert "Planning to goal images" not in rows


def test_a_run_that_was_only_begun_has_a_page(empty_run: Run) -> None:
    page = Page(write_report(empty_run).read_text("utf-8"))
    assert_stands_alone(page)
    (table,) = page.tables
    assert {row[2].split()[1] for row in table[1:]} >= {"plan", "probe"}
    assert page.found("svg") == page.found("img") == page.found("aside") == []


def test_damaged_results_are_named_and_the_rest_is_told(run: Path) -> None:
    (run / "evaluation" / "plan.json").write_text('{"rows": ')
    (run / "evaluation" / "probe.json").write_text('{"checkpoint": 6, "coordinates": 3}')
    (run / "evaluation" / "plan.png").write_bytes(b"no picture")
    (run / "about.json").write_text("[")
    page = page_of(run)
    rows = {row[0]: row[1] for row in page.tables[-1]}
    assert rows["Planning to goal images"] == "plan.json is damaged"
    assert rows["Probes of the latents"] == "probe.json is of another version"
    assert_stands_alone(page)


def test_a_verdict_stands_at_the_top(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "verdict", lambda run: "")
    assert page_of(run).found("aside") == []
    monkeypatch.setattr(report, "verdict", lambda run: f"Collapsed: {run.path.name}, λ < 0.")
    text = write_report(Run(run)).read_text("utf-8")
    assert len(Page(text).found("aside")) == 1
    assert text.index("Collapsed: smoke, λ &lt; 0.") < text.index("<main>")


def test_a_collapsed_run_and_a_diverged_one_are_called_out(run: Path) -> None:
    rows = [
        {"step": 400 * i, "latent/rank": 1.0, "latent/std_mean": 1e-4, "latent/std_min": 1e-5} for i in (1, 2)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "ollapsed" in " ".join(page_of(run).texts["p"][:3])
    Run(run).save_failure("step_807_rank_0", {})
    assert "iverged" in " ".join(page_of(run).texts["p"][:3])


def test_text_stays_text(run: Path) -> None:
    named = run.rename(run.with_name("<b>bold & co"))
    config = load_config(f"{named}/", ["data.path=<script>x</script>"])
    (named / "config.yaml").write_text(to_yaml(config))
    results = json.loads((named / "evaluation" / "plan.json").read_text())
    results["rows"]["<i>odd</i> | row"] = results["rows"]["random actions"]
    (named / "evaluation" / "plan.json").write_text(json.dumps(results))
    page = page_of(named)
    assert_stands_alone(page)
    assert page.texts["h1"] == ["<b>bold & co"]
    assert page.texts["dd"].count("<script>x</script>, 34 % of the episodes held out") == 1
    assert "<i>odd</i> | row" in {row[0] for table in page.tables for row in table}
    assert page.found("i") == []


def test_pictures_that_do_not_fit_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PICTURES", (run / "evaluation" / "plan.png").stat().st_size)
    page = page_of(run)
    assert len(page.found("img")) == 1
    said = " ".join(page.texts["figcaption"])
    assert "It is too large for this page: plan.gif." in said
    assert "It is too large for this page: probe.png." in said


def test_pictures_of_nobody_are_shown_at_the_end(run: Path) -> None:
    imageio.imwrite(run / "evaluation" / "new_idea.png", np.zeros((8, 8, 3), np.uint8))
    page = page_of(run)
    assert page.found("img")[-1]["alt"] == "New idea."
    evaluations = EVALUATIONS["world_model"]
    for name, expected in (("plan_hold.gif", "plan_hold"), ("plan_x.png", "plan"), ("probe_2.png", "probe")):
        found = owner(Path(name), evaluations)
        assert found is not None
        assert found.name == expected
    found = owner(Path("retrieval.png"), EVALUATIONS["images"])
    assert found is not None
    assert found.name == "probe"


# Commands


def command_of(run: Run, name: str, results: dict[str, Any] | None = None) -> str:
    (evaluation,) = [e for e in EVALUATIONS["world_model"] if e.name == name]
    return made_by(run, evaluation, results)


def test_a_results_command_has_its_options(line: Path) -> None:
    run = Run(line)
    results = json.loads((line / "evaluation" / "plan.json").read_text())
    assert command_of(run, "plan", results) == f"worldjepa plan {line} plan.goals=3 plan.rival_steps=0"
    results["options"] |= {"protocol": "lewm", "hold": 10, "no longer there": 3}
    results["checkpoint"] = 3
    results["otherwise"] = {"env.render_quality": "full", "env.no_longer_there": 3}
    told = command_of(run, "plan_hold", results).split()[3:]
    expected = {
        "plan.protocol=hold",
        "plan.goals=3",
        "plan.rival_steps=0",
        "env.protocol=lewm",
        "env.render_quality=full",
        "checkpoint=3",
    }
    assert set(told) == expected
    # Given again, it finds what is there.
    config = load_config(str(line), command_of(run, "plan", results).split()[3:-1])
    assert (config.plan.goals, config.plan.hold, config.env.protocol) == (3, 10, "lewm")


def test_a_command_names_data_that_are_not_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run.create_or_open(load_config("images_cpu", []))
    (probe,) = [e for e in EVALUATIONS["images"] if e.name == "probe"]
    own = {"data_path": run.config.images.data, "test": run.config.images.test}
    assert made_by(run, probe, own) == f"worldjepa probe {run.path}"
    told = made_by(run, probe, {"data_path": "digits", "test": "held_out"})
    assert told == f"worldjepa probe {run.path} images.data=digits images.test=held_out"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("reacher", []),
        ("cheetah", ["train.steps=5", "model.latent=32", "train.best=-eval/rollout_error_5"]),
        ("images_cpu", ["name=my run", "images.flip=0.25", "model.predictor.projector=true"]),
    ],
)
def test_the_command_that_trained_gives_the_same_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Run.create_or_open(load_config(recipe, words))
    program, verb, what, *given = shlex.split(trained_by(made))
    assert (program, verb, what) == ("worldjepa", "train", recipe)
    assert sorted(given) == sorted(words)
    assert load_config(what, given) == load_config(recipe, words)


# Charts


def test_charts_are_of_what_was_logged(page: Page) -> None:
    expected = {
        "Loss",
        "Prediction error",
        "SIGReg",
        "Effective rank (RankMe)",
        "Spread of the latents' axes",
    }
    expected |= {"Rollout gain (1: perfect)", "Speed, frames a second", "Learning rate"}
    assert expected <= set(page.texts["h3"])
    # No goals were tried, and it is no image run.
    assert not {"Held-out goals reached, %", "Invariance", "Diverged"} & set(page.texts["h3"])
    assert len(page.found("svg")) == len(page.texts["h3"])
    assert {"floor, a perfect Gaussian", "SIGReg", "smallest"} <= set(page.texts["text"])


def test_a_chart_tells_its_ends_and_its_floor_in_words() -> None:
    rows = [{"step": 10 * i, "train/sigreg": 30 / i, "train/odd_part": 2.0} for i in range(1, 7)]
    drawn = charts([*rows, {"step": 60, "train/sigreg_floor": 1.05, "train/loss": float("nan")}])
    told = {chart.title: chart.told for chart in drawn}
    assert told == {
        "SIGReg": "Floor, a perfect Gaussian: 1.05; SIGReg: 30 at first, 5 at last.",
        "Odd part": "Value: 2 at first, 2 at last.",
    }
    assert charts([]) == []


def test_a_long_run_gets_small_charts() -> None:
    rows = [{"step": i, "perf/frames_per_second": 5000.0 + i % 7} for i in range(1, 50_001)]
    (chart,) = charts(rows)
    assert len(chart.svg) < 30_000
    assert chart.told == "Frames/s: 5,001 at first, 5,006 at last."


def test_charts_have_the_colours_of_the_page(page: Page) -> None:
    styles = " ".join(a["style"] for tag, a in page.tags if tag in ("path", "text", "use") and "style" in a)
    assert {"var(--first)", "var(--second)", "var(--text)", "var(--line)"} <= set(
        re.findall(r"var\(.*?\)", styles)
    )
    assert re.findall(r"#0\d0\d0\d", styles) == []
