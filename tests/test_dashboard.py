"""What TensorBoard shows of a run, read back as it reads it; every tag stands in docs/tensorboard.md."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata, plugin_data_pb2
from tensorboard.util import tensor_util

from worldjepa.config import Config
from worldjepa.evaluation.dashboard import LAYOUT, compared_options, set_up, show_points, show_slices
from worldjepa.evaluation.gaussianity import random_basis
from worldjepa.limits import OBJECTIVES
from worldjepa.recipes import load_config
from worldjepa.run import Run

DOCUMENTED = Path(__file__).parents[1] / "docs" / "tensorboard.md"


def board(run: Run) -> EventAccumulator:
    run.close()
    return EventAccumulator(str(run.path), size_guidance={"tensors": 0, "histograms": 0}).Reload()


def documented() -> list[re.Pattern[str]]:
    """Tags of the page's first table; capitals stand for names and numbers."""
    scalars = DOCUMENTED.read_text("utf-8").split("\n## ")[1]
    tags = re.findall(r"`((?:train|perf|latent|eval|probe)/\w+)`", scalars)
    return [re.compile(re.sub("[A-Z]+", r"\\w+", tag)) for tag in tags]


# Scalars and their charts


@pytest.mark.parametrize("recipe", ["smoke", "images_smoke"])
def test_every_scalar_is_documented_and_has_a_chart(smoke_runs: dict[str, Path], recipe: str) -> None:
    tags = board(Run(smoke_runs[recipe])).Tags()["scalars"]
    assert len(tags) > 15
    assert [tag for tag in tags if not any(known.fullmatch(tag) for known in documented())] == []
    charts = [re.compile(tag) for kinds in LAYOUT.values() for tags in kinds.values() for tag in tags]
    single = (
        "latent/isotropy",
        "latent/rejected_slices",
        "latent/distance_correlation",
        "latent/near_correlation",
    )
    assert {tag for tag in tags if not any(chart.match(tag) for chart in charts)} <= set(single)


def test_what_is_documented_is_logged_somewhere(smoke_runs: dict[str, Path]) -> None:
    """But for the parts of rival losses, what several processes add, and what other commands find."""
    tags = [tag for path in smoke_runs.values() for tag in board(Run(path)).Tags()["scalars"]]
    missing = {known.pattern for known in documented() if not any(known.fullmatch(tag) for tag in tags)}
    parts = ("variance", "covariance", "smoothness", "inverse", "reconstruction", "accuracy")
    ranks = {"perf/data_share_max", "perf/slowest_rank", r"perf/frames_per_second_rank_\w+"}
    others = {tag for tag in missing if tag.startswith(("eval/surprise", "eval/decode", r"eval/\w+_success"))}
    assert missing - others == {f"train/{part}" for part in parts} | ranks


def test_the_layout_is_what_tensorboard_reads(empty_run: Run) -> None:
    set_up(empty_run, empty_run.config)
    (event,) = board(empty_run).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(event.tensor_proto).item())
    read = {c.title: {k.title: list(k.multiline.tag) for k in c.chart} for c in layout.category}
    assert read == LAYOUT
    assert list(read) == ["training", "collapse", "speed", "evaluation"]
    assert read["training"]["SIGReg, and what a perfect Gaussian gives"] == [
        "train/sigreg$",
        "train/sigreg_floor$",
    ]


# Options


def hparams(run: Run) -> tuple[dict[str, object], list[str]]:
    """A run's options and the scalars that they are set beside."""
    content = {
        tag: plugin_data_pb2.HParamsPluginData.FromString(data)
        for tag, data in board(run).PluginTagToContent(metadata.PLUGIN_NAME).items()
    }
    values = content[metadata.SESSION_START_INFO_TAG].session_start_info.hparams
    told = {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}
    return told, [m.name.tag for m in content[metadata.EXPERIMENT_TAG].experiment.metric_infos]


def test_a_run_is_one_entry_of_a_sweep(tmp_path: Path) -> None:
    for weight in (0.1, 0.5):
        run = Run.create_or_open(
            load_config("smoke", [f"run={tmp_path}/{weight}", f"model.sigreg.weight={weight}"])
        )
        set_up(run, run.config)
        told, metrics = hparams(run)
        assert told["model.sigreg.weight"] == weight
        assert told["model.objective"] == "jepa"
        assert told["train.learning_rate"] == 1e-3
        assert metrics[0] == "train/loss"
        # In the run itself, not in one of its own, as SummaryWriter.add_hparams has it.
        assert [p.name for p in run.path.iterdir() if p.is_dir()] == []


def test_what_is_compared_makes_the_weights() -> None:
    world, images = (set(compared_options(Config(mode=mode))) for mode in OBJECTIVES)
    assert {"train.seed", "train.steps", "model.latent", "data.frameskip", "env.id"} <= world
    assert {"images.data", "images.global_views", "model.latent"} <= images
    assert not {name for name in world if name.startswith(("images.", "plan.", "collect.", "name", "run"))}
    assert not {name for name in images if name.startswith(("env.", "data.context"))}


# Histograms


def test_slices_stand_beside_the_gaussian_in_the_same_bins(empty_run: Run) -> None:
    z = torch.randn(2000, 6) * torch.tensor([1.0, 1, 1, 1, 1, 9])
    for step in (5, 10):
        show_slices(empty_run, z, step)
    read = board(empty_run)
    assert sorted(read.Tags()["histograms"]) == [*(f"slices/{i}" for i in range(1, 5)), "slices/gaussian"]
    edges = np.linspace(-5, 5, 61)
    for tag in read.Tags()["histograms"]:
        assert [e.step for e in read.Histograms(tag)] == [5, 10]
        value = read.Histograms(tag)[0].histogram_value
        assert np.abs(np.subtract.outer(value.bucket_limit, edges)).min(1).max() < 1e-9
        assert sum(value.bucket) == value.num == 2000
    value = read.Histograms("slices/gaussian")[0].histogram_value
    expected = 2000 * np.diff(norm.cdf(value.bucket_limit, 0, 1), prepend=0)
    assert np.array(value.bucket) == pytest.approx(expected, abs=1)
    value = read.Histograms("slices/2")[0].histogram_value
    counts, _ = np.histogram(np.clip((z.double() @ random_basis(6, 0)[:, 1]).numpy(), -5, 5), edges)
    assert [n for n in value.bucket if n] == [n for n in counts if n]


@pytest.mark.parametrize("value", [0.0, 1e9, float("nan")])
def test_histograms_of_what_went_wrong_are_drawn(empty_run: Run, value: float) -> None:
    show_slices(empty_run, torch.full((30, 3), value), 1)
    assert len(board(empty_run).Tags()["histograms"]) == 4


# The projector


def test_points_have_their_frames_and_labels(empty_run: Run) -> None:
    z, pixels = np.arange(12, dtype=np.float32).reshape(4, 3), torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    pixels[2, ..., 0] = 255
    columns = {"sin wrist": np.array([0.1, 0.25, -1, 0.5]), "class": np.array([3, 1, 4, 1])}
    for _ in range(2):
        show_points(empty_run, z, columns, pixels, 7)
    config = (empty_run.path / "projector_config.pbtxt").read_text()
    folder = empty_run.path / re.search(r'tensor_path: "(.*)/tensors.tsv"', config)[1]
    assert np.array_equal(np.loadtxt(folder / "tensors.tsv"), z)
    assert (folder / "metadata.tsv").read_text().splitlines()[:2] == ["sin wrist\tclass", "0.100\t3"]
    assert len((folder / "metadata.tsv").read_text().splitlines()) == 5
    sprite = np.array(Image.open(folder / "sprite.png"))
    assert sprite.shape == (16, 16, 3)
    assert (sprite[8:, :8] == [255, 0, 0]).all()
    assert sprite.sum() == 255 * 64


def test_grey_large_and_nameless_points_are_shown_too(empty_run: Run) -> None:
    pixels = torch.full((5, 96, 96, 1), 51, dtype=torch.uint8)
    show_points(empty_run, np.zeros((5, 2), np.float32), {"class": np.arange(5)}, pixels, 1)
    (folder,) = (empty_run.path / "00001").iterdir()
    assert (folder / "metadata.tsv").read_text() == "0\n1\n2\n3\n4\n"
    sprite = np.array(Image.open(folder / "sprite.png"))
    assert sprite.shape == (3 * 48, 3 * 48, 3)
    assert set(sprite[:48].flat) == {51}
    show_points(empty_run, np.zeros((5, 2), np.float32), {}, pixels, 2)
    assert not list((empty_run.path / "00002").rglob("metadata.tsv"))
