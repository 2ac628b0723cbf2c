"""`worldjepa geometry` as a user has it: a table, figures, JSON, and what a second call does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worldjepa.cli import main
from worldjepa.evaluation.geometry_figures import geometry_figures, geometry_table
from worldjepa.run import Run


@pytest.fixture(scope="module")
def runs(smoke_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of both kinds of model, to be written to."""
    folder = tmp_path_factory.mktemp("copies")
    kept = shutil.ignore_patterns("evaluation", "events*")
    return {name: shutil.copytree(path, folder / name, ignore=kept) for name, path in smoke_runs.items()}


@pytest.fixture(scope="module")
def smoke(runs: dict[str, Path], tiny_data: Path) -> Path:
    """The geometry.json of the world model."""
    geometry(runs["smoke"], f"data.path={tiny_data}")
    return runs["smoke"] / "evaluation" / "geometry.json"


def geometry(run: Path, *words: str) -> dict:
    assert main(["geometry", str(run), *words]) == 0
    return json.loads((run / "evaluation" / "geometry.json").read_text())


def test_of_a_world_model_everything_is_told(
    runs: dict[str, Path], tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = geometry(runs["smoke"], f"data.path={tiny_data}")
    told = capsys.readouterr().out
    assert told.startswith(geometry_table(results))
    paths = [Path(line) for line in told.splitlines() if line.startswith("/")]
    assert [path.name for path in paths] == ["geometry.json", "geometry.png", "geometry_map.png"]
    assert all(path.stat().st_size > 0 for path in paths)
    assert (results["frames"], results["latent"], results["verdict"]) == (60, 16, "")
    assert results["columns"] == ["sin shoulder", "cos shoulder", "sin wrist", "cos wrist"]
    assert [row["samples"] for row in results["slices"]] == [16, 60]
    assert results["history"]["step"] == [3, 6]
    assert len(results["history"]["straightness"]) == 2
    for name in ("straightness", "pixel_straightness", "distance_correlation", "near_correlation"):
        assert -1 <= results[name] <= 1
    with np.load(runs["smoke"] / "evaluation" / "geometry.npz") as arrays:
        assert arrays["map"].shape == (20, 2)
        assert arrays["map_values"].shape == (20, 4)
        angles = arrays["map_values"][:, :2]
        assert np.square(angles).sum(1) == pytest.approx(1)
        assert arrays["latent_distance"].shape == (200,)


def test_of_an_image_encoder_what_makes_sense_is_told(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    results = geometry(runs["images_smoke"])
    told = capsys.readouterr().out
    assert "60 held-out images" in told
    assert "straightness" not in told + json.dumps(results)
    assert "distance" not in told + json.dumps(results)
    assert results["columns"] == ["class"]
    assert (runs["images_smoke"] / "evaluation" / "geometry_map.png").stat().st_size > 0


def test_a_second_call_prints_and_other_options_measure_anew(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs["images_smoke"]
    geometry(run)
    first, files = capsys.readouterr().out, sorted([*run.rglob("geometry.[jn]*"), *run.glob("events*")])
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
    geometry(run)
    assert capsys.readouterr().out == first
    assert sorted([*run.rglob("geometry.[jn]*"), *run.glob("events*")]) == files
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in files] == before
    assert geometry(run, "geometry.frames=30")["frames"] == 30


def test_figures_are_drawn_from_the_files_alone(smoke: Path, tmp_path: Path) -> None:
    for name in ("geometry.json", "geometry.npz"):
        shutil.copy(smoke.with_name(name), tmp_path)
    verdict = "Collapsed from step 400 on: at step 800 held-out latents have RankMe 1.2 of 16."
    path = tmp_path / "geometry.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verdict": verdict}))
    named, mapped = (np.array(Image.open(p))[..., :3].astype(int) for p in geometry_figures(path))
    assert mapped.std() > 10
    plain = np.array(Image.open(smoke.with_name("geometry.png")))[..., :3].astype(int)
    in_colour = [(picture[:25, ..., 0] - picture[:25, ..., 2] > 80).sum() for picture in (named, plain)]
    assert in_colour[0] > 200 > in_colour[1], "the verdict stands above in a colour of its own"


def test_the_table_is_markdown_that_ends_with_the_verdict(smoke: Path) -> None:
    results = json.loads(smoke.read_text())
    table = geometry_table(results)
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert {line.count("|") for line in lines} == {4}
    (rank,) = [line for line in lines if line.startswith("| RankMe, of 16 ")]
    assert float(rank.split("|")[2]) == round(results["rank"], 1)
    assert geometry_table(results | {"verdict": "It fell."}) == f"{table}\n\n**It fell.**"


def test_a_run_that_has_no_checkpoint_is_refused(empty_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["geometry", str(empty_run.path)]) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err
