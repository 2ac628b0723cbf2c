"""The verdict: what collapsed or diverged is named, with step and number, and what is healthy is not."""

import json
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from worldjepa.cli import main
from worldjepa.evaluation.verdict import constant_latents, verdict
from worldjepa.model_config import SIGRegConfig
from worldjepa.recipes import load_config
from worldjepa.run import Run

# Any encoder takes these.
SIZES = "images.local_views=0"


def row(step: int, rank: float = 42.0, std: float = 0.98, **more: float) -> dict[str, float]:
    """What an evaluation logs of a run of the recipe `reacher`."""
    return {"step": step, "latent/rank": rank, "latent/std_mean": std, **more}


def loss(step: int, value: float, sigreg: float = 1.5) -> dict[str, float]:
    return {"step": step, "train/loss": value, "train/sigreg": sigreg}


def judged(folder: Path, rows: list[dict[str, float]], *overrides: str) -> str:
    run = Run.create_or_open(load_config("reacher", [f"run={folder}/run", *overrides]))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run.path / "metrics.jsonl").write_text(text)
    return verdict(run)


HEALTHY = [loss(10, 3.8, 33.0), loss(400, 0.3), row(400, 35.4), loss(800, 0.2), row(800)]


def test_a_healthy_run_has_no_verdict(tmp_path: Path) -> None:
    assert judged(tmp_path, HEALTHY) == ""
    assert judged(tmp_path, []) == ""
    assert judged(tmp_path, [loss(10, 3.8)]) == ""


def test_constant_latents_have_the_largest_sigreg_of_narrow_ones() -> None:
    """128 · ∫ (1 - exp(-t²/2))² exp(-t²/2) dt over all t is 128 · √(2π) · (1 - √2 + 1/√3)."""
    expected = 128 * (2 * math.pi) ** 0.5 * (1 - 2**0.5 + 3**-0.5)
    assert constant_latents(SIGRegConfig(t_max=8.0, knots=200)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "since", "sign"),
    [
        ([row(400, rank=1.2), row(800, rank=1.1)], 400, "RankMe 1.1 of 112"),
        ([row(400), row(800, rank=9.0)], 800, "RankMe 9.0 of 112"),
        ([row(400, std=0.02), row(800, std=0.004)], 400, "mean standard deviation 0.004 (target 1)"),
        ([loss(400, 1e-3, 45.6), row(400)], 400, "SIGReg 45.6 (constant latents: 51.5)"),
        # It came back in between.
        ([row(400, rank=2), row(800), row(1200, rank=3)], 1200, "RankMe 3.0 of 112"),
    ],
)
def test_a_collapse_is_named_with_its_step_and_number(
    tmp_path: Path, rows: list, since: int, sign: str
) -> None:
    told = judged(tmp_path, rows)
    assert told.startswith(
        f"Collapsed from step {since} on: at step {rows[-1]['step']} held-out latents have "
    )
    assert sign in told
    assert told.count(".\n") == 0
    assert told.endswith(".")


def test_every_sign_is_told(tmp_path: Path) -> None:
    told = judged(tmp_path, [loss(400, 1e-4, 51.0), row(400, rank=1.5, std=0.01)])
    assert all(sign in told for sign in ("RankMe 1.5", "standard deviation 0.01", "SIGReg 51.0"))


def test_what_recovered_or_has_hardly_begun_is_healthy(tmp_path: Path) -> None:
    assert judged(tmp_path, [row(400, rank=1.2), row(800)]) == ""
    # BatchNorm's running statistics are not yet those of the data.
    assert judged(tmp_path, [row(20, rank=3.7, std=0.03), row(90, rank=3.7, std=0.03)]) == ""


@pytest.mark.parametrize(
    ("objective", "mode", "called"),
    [
        ("none", "world_model", True), ("pldm", "world_model", True), ("decoder", "world_model", False),
        ("simclr", "images", False), ("vicreg", "images", True), ("supervised", "images", False),
    ],
)  # fmt: skip
def test_a_scale_is_asked_of_those_that_have_one(
    tmp_path: Path, objective: str, mode: str, called: bool
) -> None:
    told = judged(tmp_path, [row(400, std=0.05)], f"mode={mode}", f"model.objective={objective}", SIZES)
    assert told.startswith("Collapsed") == called


def test_a_rank_is_asked_of_those_that_should_have_one(tmp_path: Path) -> None:
    contrastive, told = (
        judged(tmp_path / name, [row(400, rank=2)], "mode=images", f"model.objective={name}", SIZES)
        for name in ("simclr", "supervised")
    )
    assert contrastive.startswith("Collapsed")
    assert told == ""


@pytest.mark.parametrize("value", [80.0, float("inf"), float("nan")])
def test_an_exploded_loss_is_a_divergence(tmp_path: Path, value: float) -> None:
    rows = [loss(10, 3.8), loss(20, 5.0), loss(30, 60.0), loss(40, value)]
    assert judged(tmp_path, rows) == (
        f"Diverged from step 30 on: the loss is {value:.3g} at step 40, where it began with 3.8."
    )
    assert judged(tmp_path, [*rows, loss(50, 4.0)]) == ""


def test_a_small_loss_may_grow(tmp_path: Path) -> None:
    """An averaged encoder's latents find their scale as they are trained, and the loss with them."""
    assert judged(tmp_path, [loss(10, 0.01), loss(400, 0.6), row(400)], "model.objective=ema") == ""


def test_a_step_that_was_not_finite_is_a_divergence(tmp_path: Path) -> None:
    judged(tmp_path, HEALTHY)
    run = Run(tmp_path / "run")
    run.save_failure("step_812_rank_1", {})
    assert verdict(run) == (
        "Diverged at step 812: the loss or its gradient was not finite (failures/step_812_rank_1.pt has the "
        "batch)."
    )
    # It was trained beyond that: the failure was overcome, or was of a run begun anew in the same folder.
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(loss(820, 0.2)) + "\n")
    assert verdict(run) == ""


# Trained


def trained(folder: Path, data: Path, *overrides: str) -> int:
    words = [f"run={folder}", f"data.path={data}", "train.evaluate_goals=0", "train.evaluate_every=50"]
    return main(["train", "smoke", *words, *overrides])


def texts(folder: Path) -> list[tuple[int, str]]:
    board = EventAccumulator(str(folder)).Reload()
    events = board.Tensors("verdict/text_summary")
    return [(e.step, tensor_util.make_ndarray(e.tensor_proto).item().decode()) for e in events]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(e.step, e.value) for e in EventAccumulator(str(folder)).Reload().Scalars(name)]


def test_without_sigreg_a_training_collapses_and_says_so(
    tmp_path: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model.sigreg.weight=0", "train.steps=100", "train.learning_rate=1e-2"]
    assert trained(tmp_path / "run", tiny_data, *words) == 0
    told = verdict(Run(tmp_path / "run"))
    assert told.startswith("Collapsed from step 100 on: at step 100 held-out latents have ")
    assert f"{tmp_path}/run: {told}" in capsys.readouterr().err.splitlines()
    assert scalars(tmp_path / "run", "latent/collapsed") == [(50, 0), (100, 1)]
    assert texts(tmp_path / "run")[-1] == (100, told)


def test_with_sigreg_it_does_not(tmp_path: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(tmp_path / "run", tiny_data, "train.steps=100") == 0
    assert verdict(Run(tmp_path / "run")) == ""
    assert "ollapsed" not in capsys.readouterr().err
    assert {value for _, value in scalars(tmp_path / "run", "latent/collapsed")} == {0}
    assert texts(tmp_path / "run") == [(100, "Neither collapsed nor diverged.")]


def test_with_an_absurd_learning_rate_a_training_diverges_and_says_so(
    tmp_path: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(tmp_path / "run", tiny_data, "train.learning_rate=100", "train.steps=60") == 2
    told = verdict(Run(tmp_path / "run"))
    assert told.startswith("Diverged at step ")
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("worldjepa: train: the ")
    step = int(told.split()[3].rstrip(":"))
    assert f"at step {step};" in error
    assert texts(tmp_path / "run")[-1][1] == told
    assert scalars(tmp_path / "run", "train/diverged")[-1][1] == 1


def test_a_verdict_needs_the_run_folder_alone(tmp_path: Path) -> None:
    told = judged(tmp_path, [row(400, rank=1.2)])
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert verdict(Run(moved)) == told
