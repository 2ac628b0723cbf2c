"""Tables and figures of short image runs: what is there is not run again, what is said is in the numbers."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Results go to a folder of their own; a run takes no time, is noted, and is as good as its learning
    rate is near 2e-3; its loss is λ^0.4 times what that costs."""
    for folder in (SCRIPTS, SCRIPTS / "figures"):
        monkeypatch.syspath_prepend(str(folder))
    module = importlib.import_module("image_runs")
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
        return {"rows": rows, "last": {"train/loss": loss}, "steps": 1, "seconds": 0.0}

    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "train_and_probe", instead)
    return noted


def script(name: str) -> Any:
    return importlib.import_module(name)


def test_a_run_is_remembered(ran: list[str]) -> None:
    runs = script("image_runs").ImageRuns("these", ["a=1"])
    first = runs.run("b=2")
    assert ran == ["a=1 b=2"]
    again = script("image_runs").ImageRuns("these", ["a=1"])
    assert again.run("b=2") == first
    again.run("b=3")
    assert ran == ["a=1 b=2", "a=1 b=3"]
    with pytest.raises(SystemExit, match="holds runs with a=1; move it away"):
        script("image_runs").ImageRuns("these", ["a=2"])


def test_the_table_is_tuned_resumed_and_printed(
    ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = script("images_table")
    monkeypatch.setattr(sys, "argv", ["images_table.py", "--minutes", "1", "--seeds", "2"])
    table.main()
    # Five of a grid at the first seed, then the best of them at the second.
    assert len(ran) == len(table.RIVALS) * 6
    first = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in first[1:-1]] == ["raw", "untrained", *table.RIVALS]
    assert all(line.endswith(" 2") for line in first[1:-1])
    table.main()
    assert len(ran) == len(table.RIVALS) * 6
    monkeypatch.setattr(sys, "argv", ["images_table.py", "--minutes", "1", "--seeds", "2", "--print"])
    table.main()
    assert len(ran) == len(table.RIVALS) * 6
    printed = capsys.readouterr().out.splitlines()
    assert printed[: len(first)] == first
    assert printed[len(first) :] == first


@pytest.mark.parametrize("name", ["image_selection", "image_ablations", "image_views"])
def test_a_figure_says_what_its_runs_gave(ran: list[str], name: str) -> None:
    figure, numbers, caption = script(name).draw()
    assert "Measured" in caption
    assert json.dumps(numbers, default=lambda x: x.tolist())
    assert len(figure.axes) >= 1
    count = len(ran)
    script(name).draw()
    assert len(ran) == count
    if name == "image_selection":
        # Made to hold at 0.4.
        assert numbers["runs"] >= 24
        assert numbers["spearman_at_0.4"] > 0.85 > numbers["spearman_at_0"]


def test_words_of_the_ablations_are_options() -> None:
    sys.path.insert(0, str(SCRIPTS))
    sys.path.insert(0, str(SCRIPTS / "figures"))
    try:
        from worldjepa.recipes import load_config

        for values in script("image_ablations").ABLATIONS.values():
            for words in values:
                load_config("images_cpu", ["train.steps=400", "model.encoder.layers=1", *words.split()])
        for name, (option, values) in script("images_table").RIVALS.items():
            for value in values:
                load_config("images_cpu", [f"model.objective={name}", f"{option}={value}"])
    finally:
        del sys.path[:2]


def test_the_benchmarks_loss_is_stable_pretrainings() -> None:
    sys.path.insert(0, str(SCRIPTS))
    try:
        benchmark = script("benchmark_images")
    finally:
        del sys.path[0]
    from worldjepa.recipes import load_config

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
