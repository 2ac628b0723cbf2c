"""The table and the figures of state probes: every row and number, from probe.json alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_figures import assert_png

from worldjepa.evaluation import probe_figures
from worldjepa.evaluation.probe_figures import probe_table
from worldjepa.evaluation.tables import Table, blocks


def kinds(r2: float, accuracy: float = 0.5) -> dict[str, Any]:
    around = [r2 - 0.05, r2 + 0.02]
    row = {"r2": r2, "seeds": around, "episodes": around, "r": 0.5}
    share = {"accuracy": accuracy, "seeds": [0.4, 0.6], "episodes": [0.45, 0.55], "chance": 0.25}
    return {"ridge": row, "mlp": row, "knn": row, "logistic": share}


def source(first: float) -> dict[str, Any]:
    return {
        "coordinates": {"sin shoulder": kinds(first), "cos shoulder": kinds(0.876)},
        "velocities": {"velocity 0": kinds(-0.321, 0.26)},
        "changes": {"sin shoulder": kinds(0.4), "cos shoulder": kinds(0.3)},
    }


MEANS = {"coordinates": kinds(0.9315, 0.51), "velocities": kinds(-0.321, 0.26), "changes": kinds(0.35)}
PROBE: dict[str, Any] = {
    "options": {"seeds": 3},
    "mean_r2": {"coordinates": 0.9315, "velocities": -0.321, "changes": 0.35},
    "probes": {"latent": source(0.987), "true coordinates": source(1.0)},
    "means": {"latent": MEANS, "true coordinates": MEANS},
    "of_truth": {
        "coordinates": {"ridge": 1.0, "mlp": 0.912, "knn": 1.0},
        "velocities": {"ridge": None, "mlp": None, "knn": None},
        "changes": {"ridge": 1.0, "mlp": 1.0, "knn": 1.0},
    },
    "rollouts": {
        "coordinates": {
            "ridge, imagined": [kinds(r2)["ridge"] for r2 in (0.95, 0.9, 0.811)],
            "mlp, seen": [kinds(0.99)["mlp"]] * 3,
        }
    },
    "train_frames": 20000,
    "test_frames": 5000,
    "test_episodes": 40,
    "frameskip": 5,
    "rank": 23.45,
    "latent": 64,
}


def cells(table: str, name: str) -> list[str]:
    (row,) = [r for b in blocks(table) if isinstance(b, Table) for r in b.rows if r[0] == name]
    return row[1:]


def test_the_table_tells_every_number() -> None:
    table = probe_table(PROBE)
    assert cells(table, "sin shoulder") == ["0.987 [0.937, 1.007]"] * 3 + ["50.0"]
    assert cells(table, "velocity 0") == ["-0.321 [-0.371, -0.301]"] * 3 + ["26.0"]
    assert cells(table, "Δ cos shoulder")[0].startswith("0.300")
    assert cells(table, "mean of coordinates")[3] == "51.0"
    assert cells(table, "coordinates, MLP, R²") == ["0.931", "0.931", "0.912"]
    assert cells(table, "velocities, ridge, R²") == ["-0.321", "-0.321", ""]
    assert cells(table, "coordinates: ridge, imagined") == ["0.950", "0.900", "0.811"]
    assert "20000 training frames, 3 times" in table
    assert "5000 frames of 40 held-out episodes" in table
    assert table.splitlines()[-1] == "RankMe 23.4 of 64 dimensions"
    without = probe_table({name: value for name, value in PROBE.items() if name != "rollouts"})
    assert "depth" not in without


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn, to be looked into."""
    figures: list[Figure] = []
    save = probe_figures.save
    monkeypatch.setattr(
        probe_figures, "save", lambda figure, path: figures.append(figure) or save(figure, path)
    )
    return figures


def test_the_figures_show_every_point(tmp_path: Path, drawn: list[Figure]) -> None:
    (tmp_path / "probe.json").write_text(json.dumps(PROBE))
    paths = probe_figures.probe_figures(tmp_path / "probe.json")
    assert [path.name for path in paths] == ["probe.png", "probe_depth.png"]
    for path in paths:
        assert_png(path)
    probes, depths = drawn
    assert len(probes.axes) == 3 * 4
    first = probes.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["sin shoulder", "cos shoulder"]
    (legend,) = probes.legends
    assert [text.get_text() for text in legend.get_texts()] == ["latent", "true coordinates"]
    # The lines of points: what lies below 0 stands at the edge.
    points = [container[0].get_xdata() for container in first.containers]
    assert np.allclose(points, [[0.987, 0.876], [1.0, 0.876]])
    assert probes.axes[4].containers[0][0].get_xdata() == [0]
    lines = {line.get_label(): list(line.get_ydata()) for line in depths.axes[0].lines}
    assert lines == {"ridge, imagined": [0.95, 0.9, 0.811], "MLP, seen": [0.99] * 3}


def test_without_rollouts_there_is_one_figure(tmp_path: Path) -> None:
    short = {name: value for name, value in PROBE.items() if name != "rollouts"}
    (tmp_path / "probe.json").write_text(json.dumps(short))
    assert probe_figures.probe_figures(tmp_path / "probe.json") == [tmp_path / "probe.png"]
