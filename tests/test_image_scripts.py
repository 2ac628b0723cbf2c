"""Tables and figures of short image runs: what is there is not run again, what is said is in the numbers."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from worldjepa.recipes import load_config
from worldjepa.run import Run

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import their neighbours by their bare names."""
    for folder in (SCRIPTS, SCRIPTS / "figures"):
        monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def ran(scripts: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run takes no time, is noted, and is as good as its learning rate is near 2e-3; its loss is λ^0.4
    times what that costs."""
    noted: list[str] = []

    def instead(folder: Path, words: list[str]) -> dict[str, Any]:
        noted.append(" ".join(words))
        given = dict(word.split("=", 1) for word in words)
        weight = float(given.get("model.sigreg.weight", 0.05))
        rate = float(given.get("train.learning_rate", 2e-3))
        off = abs(np.log(rate / 2e-3))
        row = {
            "linear": 90 - off,
            "knn": 80.0,
            "shots": {n: {"mean": 60 - off, "low": 0.0, "high": 99.0} for n in ("1", "10", "100")},
        }
        loss = weight**0.4 * (1 + off)
        rows = {"trained": row, "untrained": row, "raw pixels": row}
        return {"rows": rows, "last": {"train/loss": loss}, "steps": 1, "seconds": 120.0}

    monkeypatch.setattr(importlib.import_module("image_runs"), "train_and_probe", instead)
    return noted


def script(name: str) -> Any:
    return importlib.import_module(name)


def arguments(folder: Path, *words: str, steps: int = 0) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    script("image_runs").add_options(parser, steps)
    return parser.parse_args(["--results", str(folder), "--data", "digits", *words])


def test_a_run_is_remembered(ran: list[str], tmp_path: Path) -> None:
    def runs(*words: str) -> Any:
        return script("image_runs").ImageRuns("these", arguments(tmp_path), words)

    first = runs("train.steps=7").run("model.latent=3")
    assert ran == ["images.data=digits train.steps=7 model.latent=3"]
    assert runs("train.steps=7").run("model.latent=3") == first
    runs("train.steps=7").run("model.latent=4")
    assert ran[1:] == ["images.data=digits train.steps=7 model.latent=4"]
    with pytest.raises(SystemExit, match=r"these\.json: holds runs with train\.steps=7, now 8; move it away"):
        runs("train.steps=8")
    # As where the recipe has changed.
    with pytest.raises(SystemExit, match=r"model\.encoder\.width=32, now 16"):
        runs("train.steps=7", "model.encoder.width=16")
    runs("train.steps=7", "train.log_every=1")


def test_how_long_the_rest_takes_is_said(
    ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = script("image_runs").ImageRuns("these", arguments(tmp_path))
    plan = [f"model.latent={n}" for n in (1, 2, 3)]
    assert not runs.run_all(plan, True, 60.0, 120.0)
    assert capsys.readouterr().out == "these: 0 runs are there, 3 of 3 to do, about 5 min\n"
    assert ran == []
    assert not runs.run_all(plan, True)
    assert "the first one will tell" in capsys.readouterr().out
    assert runs.run_all(plan, False)
    told = [line for line in capsys.readouterr().out.splitlines() if "to do" in line]
    assert [line.rsplit(", ", 1)[1] for line in told[1:]] == ["about 4 min", "about 2 min"]
    assert len(ran) == 3
    assert runs.run_all(plan, False)
    assert len(ran) == 3


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import image_runs
from worldjepa.run import Run

save, saves = Run.save_checkpoint, []

def then_killed(*values, **named):
    saves.append(save(*values, **named))
    if len(saves) == 3:
        os.kill(os.getpid(), 9)

Run.save_checkpoint = then_killed
import argparse, pathlib
parser = argparse.ArgumentParser()
image_runs.add_options(parser)
arguments = parser.parse_args(["--results", "results", "--data", "digits"])
image_runs.ImageRuns("these", arguments).run(sys.argv[2])
"""


@pytest.mark.slow
def test_a_run_killed_half_way_goes_on(
    scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "images.global_size=16 model.encoder.width=4 model.projector_hidden=8 train.batch_size=32 "
        "train.steps=5 train.log_every=1 train.checkpoint_minutes=1e-9 train.seed=3"
    )
    monkeypatch.setattr(
        script("image_runs"), "PROBE", ("probe.train_frames=200", "probe.shots=1", "probe.map=pca")
    )
    command = [sys.executable, "-c", KILLED, str(SCRIPTS), words]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == -9
    (left,) = (tmp_path / "runs" / "these").iterdir()
    assert [p.name for p in (left / "checkpoints").iterdir() if p.name.isdecimal()] == [
        "00000002",
        "00000003",
    ]
    monkeypatch.chdir(tmp_path)
    trained: list[int] = []
    monkeypatch.setattr(Run, "forget_after", lambda self, step: trained.append(step))
    found = script("image_runs").ImageRuns("these", arguments(tmp_path / "results")).run(words)
    assert trained == [3]
    assert found["steps"] == 5
    assert list((tmp_path / "runs" / "these").iterdir()) == []
    held = json.loads((tmp_path / "results" / "these.json").read_text())
    assert held["runs"] == {words: found}


def test_the_table_is_tuned_resumed_and_printed(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = script("images_table")

    def printed(*more: str) -> list[str]:
        words = ["--minutes", "1", "--seeds", "2", "--results", str(tmp_path), *more]
        monkeypatch.setattr(sys, "argv", ["images_table.py", *words])
        table.main()
        return capsys.readouterr().out.splitlines()

    assert "0 runs are there, 30 of 30 to do, about 48 min" in printed("--print")[0]
    assert ran == []
    rows = [line for line in printed() if line.startswith("| ")]
    # Five of a grid, then the best of them at two seeds, for each alike.
    assert len(ran) == len(table.RIVALS) * 7
    for name in table.RIVALS:
        own = [words for words in ran if f"model.objective={name} " in words]
        assert ["train.minutes=0.25" in words for words in own] == 5 * [True] + 2 * [False]
        assert all("train.learning_rate=1.5e-3" in words for words in own[5:])
        # No test image has a say in what is tuned.
        assert ["images.test=held_out" in words for words in own] == 5 * [True] + 2 * [False]
    assert [line.split()[1] for line in rows[1:]] == ["raw", "untrained", *table.RIVALS]
    assert "0.0 points more at 10 shots; the best self-supervised rival there" in "\n".join(printed())
    # Raw pixels know no seed.
    assert ["±" in line and line.endswith("| 2 |") for line in rows[1:]] == [False] + 7 * [True]
    assert rows[1].endswith("| 1 |")
    for more in ((), ("--print",)):
        assert [line for line in printed(*more) if line.startswith("| ")] == rows
    assert len(ran) == len(table.RIVALS) * 7


@pytest.mark.parametrize("name", ["image_selection", "image_ablations", "image_views"])
def test_a_figure_says_what_its_runs_gave(ran: list[str], tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit):
        script(name).draw(arguments(tmp_path, "--print", steps=40))
    assert ran == []
    asked = arguments(tmp_path, steps=40)
    figure, numbers, caption = script(name).draw(asked)
    assert "Measured" in caption
    assert json.dumps(numbers, default=lambda x: x.tolist())
    assert len(figure.axes) >= 1
    count = len(ran)
    script(name).draw(asked)
    assert len(ran) == count
    if name == "image_selection":
        # Made to hold at 0.4.
        assert numbers["runs"] >= 24
        assert numbers["spearman_at_0.4"] > 0.85 > numbers["spearman_at_0"]


def test_words_of_runs_are_options_that_fit_together(ran: list[str], tmp_path: Path) -> None:
    asked = arguments(tmp_path, steps=40)
    for name in ("image_views", "image_ablations"):
        script(name).draw(asked)
    for name in script("images_table").RIVALS:
        ran += script("images_table").tries(name)
    for words in ran:
        images = load_config("images_cpu", words.split()).images
        assert images.local_size < images.global_size


def test_the_benchmarks_loss_is_stable_pretrainings() -> None:
    sys.path.insert(0, str(SCRIPTS))
    try:
        benchmark = script("benchmark_images")
    finally:
        del sys.path[0]
    words = ["images.global_size=32", "images.local_size=16", "train.batch_size=6", "images.local_views=2"]
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    ours = benchmark.Ours(load_config("images_smoke", words), pixels)
    value = ours.loss()
    z = ours.model.embed_views([ours.fixed["global"], ours.fixed["local"]]).detach()
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(z.shape[-1], benchmark.SLICES, generator=generator)
    x = (z.flatten(0, 1) @ (directions / directions.norm(dim=0)))[..., None] * torch.linspace(0, 3, 17)
    target = torch.exp(-torch.linspace(0, 3, 17).square() / 2)
    error = (x.cos().mean(0) - target).square() + x.sin().mean(0).square()
    weight = torch.full((17,), 2 * 3 / 16)
    weight[[0, -1]] = 3 / 16
    sigreg = (error @ (weight * target)).mean() * len(z) * z.shape[1]
    expected = (z - z[:2].mean(0)).square().mean() + benchmark.LAMBDA * sigreg
    assert value == pytest.approx(float(expected), rel=1e-4)
