"""Runs of image encoders by the command: stopped and gone on with, watched, probed, begun with an encoder."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_model import send

import worldjepa
from worldjepa import cli
from worldjepa.commands.train import open_images
from worldjepa.data.image_sources import load_images
from worldjepa.data.images import Images
from worldjepa.data.views import MultiCrop
from worldjepa.image_jepa import ImageJEPA
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import train

# A probe of the encoder alone.
QUICK = "probe.baselines=false", "probe.shots=1", "probe.draws=1", "probe.map=pca"


def train_digits(folder: Path, stop_at: tuple[int, ...]) -> dict[str, Any]:
    """What 12 steps leave, stopped after some of them and begun again."""
    words = [f"run={folder}", "train.steps=12", "train.log_every=1", "images.blur=0.5"]
    config, stops = load_config("images_smoke", words), set(stop_at)
    images, _ = load_images("digits")
    data = MultiCrop(images, config.images, torch.device("cpu"))

    def stop(_: Any, step: int) -> None:
        if step in stops:
            stops.remove(step)
            send(signal.SIGTERM)

    received: int | None = signal.SIGTERM
    while received is not None:
        run = Run.create_or_open(config)
        torch.manual_seed(5)
        received = train(ImageJEPA(config), data, config.train, run, [(1, stop)])
        run.close()
    newest = run.checkpoints()[-1]
    metrics = [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in run.metrics()]
    state = run.load_trainer_state(newest)
    return {"weights": run.load_weights(newest), "optimizer": state["optimizer"]["state"], "metrics": metrics}


def test_a_stopped_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    straight = train_digits(tmp_path / "straight", ())
    stopped = train_digits(tmp_path / "stopped", (1, 7))
    assert stopped["metrics"] == straight["metrics"]
    assert [row["step"] for row in straight["metrics"]] == list(range(1, 13))
    for name in ("weights", "optimizer"):
        torch.testing.assert_close(stopped[name], straight[name], rtol=0, atol=0)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `worldjepa train images_smoke` leaves."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert cli.main(["train", "images_smoke", f"run={folder}"]) == 0
    return folder


def test_a_run_is_watched(digits: Path) -> None:
    logged: dict[str, list[int]] = {}
    for row in Run(digits).metrics():
        for name in row:
            logged.setdefault(name, []).append(row["step"])
    assert logged["train/loss"] == logged["train/invariance"] == logged["train/sigreg"] == [2, 4, 6]
    watched = [
        "latent/rank",
        "latent/std_min",
        "latent/std_mean",
        "latent/feature_rank",
        "probe/knn",
        "probe/linear",
    ]
    assert {name: logged[name] for name in watched} == {name: [3, 6] for name in watched}
    rows = [row for row in Run(digits).metrics() if "probe/knn" in row]
    assert all(0 <= row["probe/knn"] <= 100 and 50 < row["probe/linear"] <= 100 for row in rows)
    board = EventAccumulator(str(digits)).Reload()
    (sheet,) = board.Images("data/views")
    # Eight images, each beside two global and two local views of 16 pixels, four times as large.
    assert (sheet.height, sheet.width) == (8 * 66, 5 * 66)


def test_a_run_is_probed(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["probe", str(digits)]) == 0
    table = capsys.readouterr().out
    results = json.loads((digits / "evaluation" / "probe.json").read_text())
    assert list(results["rows"]) == ["trained", "untrained", "raw pixels"]
    assert results["rows"]["raw pixels"]["linear"] > 80
    assert f"{results['rows']['trained']['knn']:.2f} %" in table
    before = (digits / "evaluation" / "probe.json").stat().st_mtime_ns
    assert cli.main(["probe", str(digits)]) == 0
    assert (digits / "evaluation" / "probe.json").stat().st_mtime_ns == before


def test_a_probe_without_baselines_is_of_the_encoder_alone(digits: Path) -> None:
    assert cli.main(["probe", str(digits)]) == 0
    path = digits / "evaluation" / "probe.json"
    beside = json.loads(path.read_text())["rows"]
    assert cli.main(["probe", str(digits), "probe.baselines=false"]) == 0
    assert json.loads(path.read_text())["rows"] == {"trained": beside["trained"]}


def test_what_tunes_leaves_the_test_images_unseen(tmp_path: Path) -> None:
    # Of 1797 digits a tenth are test images, a tenth of the others are held out of training.
    own, tuning = (
        open_images(load_config("images_smoke", [f"images.test={test}"])) for test in ("own", "held_out")
    )
    assert [len(images) for images in (*own, *tuning)] == [1617, 180, 1455, 162]

    def seen(images: Images) -> list[bytes]:
        return [image.tobytes() for image in images.batch(np.arange(len(images)))["pixels"].numpy()]

    kept, others = map(seen, tuning)
    assert sorted(kept + others) == sorted(seen(own[0]))
    labels = dict(zip(seen(own[0]), list(own[0].labels), strict=True))
    assert [labels[image] for image in others] == list(tuning[1].labels)
    run = f"run={tmp_path / 'tuned'}"
    assert cli.main(["train", "images_smoke", run, "images.test=held_out"]) == 0
    everything = "probe.train_frames=2000", "probe.test_frames=2000", *QUICK
    assert cli.main(["probe", str(tmp_path / "tuned"), *everything]) == 0
    found = Run(tmp_path / "tuned").evaluation / "probe.json"
    first = json.loads(found.read_text())
    assert (first["test"], first["test_images"], first["train_images"]) == ("held_out", 162, 1455)
    # The other images are another result, and another training.
    assert cli.main(["probe", str(tmp_path / "tuned"), *everything, "images.test=own"]) == 0
    assert json.loads(found.read_text())["test_images"] == 180
    assert cli.main(["train", "images_smoke", run]) == 2


def test_a_run_trained_anew_is_another_result(tmp_path: Path) -> None:
    """Of the same name and number of steps."""
    folder = tmp_path / "again"
    found = []
    for seed in (0, 1):
        assert cli.main(["train", "images_smoke", f"run={folder}", f"train.seed={seed}"]) == 0
        assert cli.main(["probe", str(folder), *QUICK]) == 0
        found.append(json.loads((folder / "evaluation" / "probe.json").read_text()))
        for left in ("checkpoints", "metrics.jsonl"):
            (folder / left).rename(tmp_path / f"{left}{seed}")
    assert found[0]["checkpoint"] == found[1]["checkpoint"]
    assert found[0]["weights"] != found[1]["weights"]
    assert found[0]["rows"]["trained"] != found[1]["rows"]["trained"]


def test_a_run_is_loaded_as_what_it_is(digits: Path) -> None:
    model = worldjepa.load(digits)
    assert isinstance(model, ImageJEPA)
    assert not model.training
    assert model.features(torch.zeros(2, 16, 16, 3, dtype=torch.uint8)).shape == (2, model.num_features)


def test_plans_need_a_world_model(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(digits)]) == 2
    assert "00000006: holds no world model" in capsys.readouterr().err


def test_a_world_model_begins_with_the_encoder_of_an_image_run(
    digits: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A learning rate too small to move a weight shows what the training began with.
    words = [f"data.path={tiny_data}", "train.steps=1", "train.learning_rate=1e-30", "train.evaluate_goals=0"]
    encoder = ["model.encoder.name=resnet", f"model.encoder.init={digits}"]
    assert cli.main(["train", "smoke", f"run={tmp_path}/world", *words, *encoder]) == 0
    ours, theirs = (worldjepa.load(path).encoder for path in (tmp_path / "world", digits))
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other), name
    source = shutil.copytree(digits, tmp_path / "source")
    taught = ["model.encoder.name=resnet", f"model.encoder.init={source}", "model.objective=ema"]
    assert cli.main(["train", "smoke", f"run={tmp_path}/taught", *words, *taught]) == 0
    # What was begun needs the other run no more.
    shutil.rmtree(source)
    assert cli.main(["train", "smoke", f"run={tmp_path}/taught", *words, *taught]) == 0
    teacher = worldjepa.load(tmp_path / "taught").teacher.copies[0]
    for mine, other in zip(teacher.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    wider = [*encoder, "model.encoder.width=16"]
    capsys.readouterr()
    assert cli.main(["train", "smoke", f"run={tmp_path}/wide", *words, *wider]) == 2
    assert f"{digits}/checkpoints/00000006: of another model" in capsys.readouterr().err
    assert not (tmp_path / "wide").exists()


def test_frames_of_rollouts_pretrain_an_encoder(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={tmp_path}/run", f"images.data={tiny_data}", "images.global_size=32"]
    assert cli.main(["train", "images_smoke", *words]) == 0
    assert "probe/knn" not in {name for row in Run(tmp_path / "run").metrics() for name in row}
    capsys.readouterr()
    assert cli.main(["probe", f"{tmp_path}/run"]) == 2
    assert "its images have no labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("images.data=nowhere", "images.data=nowhere: neither digits"),
        ("train.batch_size=5000", "digits: 1617 images are fewer than train.batch_size=5000"),
        ("model.encoder.init=nowhere", "nowhere: no run there"),
        ("model.encoder.name=conv images.local_size=32", "the conv encoder takes one image size"),
        ("model.sigreg.weight=1.5", "model.sigreg.weight=1.5: must be at most 1 for images"),
        ("images.local_views=0 images.global_views=1", "there is nothing to predict"),
        ("images.local_scale_min=0.9", "must be at most images.local_scale_max=0.3"),
        ("mode=video", "mode=video: must be world_model or images"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, right: str
) -> None:
    assert cli.main(["train", "images_smoke", f"run={tmp_path}/run", *word.split()]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("worldjepa: ")
    assert right in error


def test_the_recipe_for_fashion_mnist_takes_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise of its shape in place of the data set, which may not be installed."""
    from worldjepa.commands import train as command
    from worldjepa.data.images import from_arrays

    noise = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), dtype=np.uint8)
    sides = from_arrays("noise", noise, np.arange(64) % 10), from_arrays("noise", noise, np.arange(64) % 10)
    monkeypatch.setattr(command, "load_images", lambda *_: sides)
    words = [f"run={tmp_path}/run", "train.steps=2", "train.batch_size=16", "train.log_every=1"]
    assert cli.main(["train", "images_cpu", *words]) == 0
    assert len([row for row in Run(tmp_path / "run").metrics() if "train/loss" in row]) == 2
