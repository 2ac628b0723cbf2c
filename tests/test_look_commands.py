"""`worldjepa surprise` and `worldjepa decode`: what they leave, that once is enough, what they refuse."""

import json
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from worldjepa.cli import main
from worldjepa.evaluation import decoder
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.world_model import WorldModel


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_data: Path) -> Run:
    """runs/smoke, of a model that learnt nothing, and data/smoke, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "smoke"
    folder.mkdir(parents=True)
    for path in tiny_data.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return untrained(load_config("smoke"))


def untrained(config: Any, action_dim: int = 2) -> Run:
    torch.manual_seed(0)
    target = Run.create_or_open(config)
    target.save_checkpoint(WorldModel(config, action_dim), {"step": 6})
    return target


def result(verb: str) -> dict[str, Any]:
    """Strictly JSON."""
    text = Path(f"runs/smoke/evaluation/{verb}.json").read_text("utf-8")
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def tags(kind: str) -> set[str]:
    found = set()
    for path in Path("runs/smoke").glob("events.out.*"):
        events = EventAccumulator(str(path))
        events.Reload()
        found |= set(events.Tags()[kind])
    return found


LEFT = {
    "surprise": {"json", "npz", "png"},
    "decode": {"json", "npz", "png", "mp4", "gif"},
}


@pytest.mark.parametrize("verb", LEFT)
def test_a_second_call_prints_what_the_first_left(
    verb: str, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([verb, "runs/smoke"]) == 0
    first = capsys.readouterr().out
    files = {p: p.stat().st_mtime_ns for p in run.evaluation.iterdir() if p.suffix != ".png"}
    assert {p.suffix[1:] for p in run.evaluation.glob(f"{verb}.*")} == LEFT[verb]
    assert not list(run.evaluation.glob(".*"))
    assert first.startswith("| ")
    for line in first.splitlines():
        assert not line.startswith("runs/") or Path(line).stat().st_size > 0
    assert result(verb)["checkpoint"] == 6
    images = {"surprise": {"eval/surprise"}, "decode": {"eval/decode", "eval/decode_episodes"}}
    assert tags("images") == images[verb]
    monkeypatch.setattr(WorldModel, "encode", None)
    assert main([verb, "runs/smoke"]) == 0
    assert capsys.readouterr().out == first
    assert {p: p.stat().st_mtime_ns for p in files} == files


@pytest.mark.parametrize(
    "verb", ["geometry", *(pytest.param(v, marks=pytest.mark.slow) for v in ("surprise", "probe"))]
)
def test_on_other_data_the_result_is_another(verb: str, run: Run) -> None:
    """Held-out episodes of another collection; not what the first call left."""
    assert main([verb, "runs/smoke"]) == 0
    first = result(verb)
    assert first["data_path"] == "data/smoke"
    assert main(["collect", "smoke", "data.path=data/other", "collect.seed=1"]) == 0
    assert main([verb, "runs/smoke", "data.path=data/other"]) == 0
    other = result(verb)
    assert other["data_path"] == "data/other"
    assert {**other, "data_path": "data/smoke"} != first


def test_a_film_that_a_killed_call_left_out_is_made(run: Run) -> None:
    assert main(["decode", "runs/smoke"]) == 0
    film = run.evaluation / "decode.gif"
    film.unlink()
    assert main(["decode", "runs/smoke"]) == 0
    assert film.stat().st_size > 0


def test_surprise_tells_of_every_condition(run: Run) -> None:
    assert main(["surprise", "runs/smoke", "surprise.episodes=4"]) == 0
    found = result("surprise")
    assert (found["episodes"], found["new_episodes"]) == (4, 2)
    assert list(found["rows"]) == ["unperturbed", "teleport", "small teleport", "colour change"]
    assert {len(curve["median"]) for curve in found["curves"].values()} == {6}
    before = {row["before"] for row in found["rows"].values()}
    assert len(before) == 1, "until the perturbation all are alike"
    for name in ("teleport", "small_teleport", "colour_change"):
        assert {f"eval/surprise_{key}_{name}" for key in ("at", "auc", "p")} <= tags("scalars")


def test_the_decoder_is_kept_while_nothing_it_learnt_from_changes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["decode", "runs/smoke"]) == 0
    first = result("decode")["mse"]
    assert {f"eval/decode_psnr_imagined_{h}" for h in range(1, 6)} <= tags("scalars")
    assert first["mean frame"] == pytest.approx(first["mean frame"][:1] * 5, rel=0.2)
    weights = run.evaluation / "decoder.safetensors"
    before = weights.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr("worldjepa.commands.decode.fit_decoder", None)
        assert main(["decode", "runs/smoke", "decode.episodes=1", "decode.horizon=2"]) == 0
    assert weights.stat().st_mtime_ns == before
    assert len(result("decode")["mse"]["imagined"]) == 2
    assert main(["decode", "runs/smoke", "decode.steps=1"]) == 0
    assert weights.stat().st_mtime_ns > before
    assert decoder.read_tensors(weights)[0]["mean_frame"].shape == (32, 32, 3)


def test_bodies_of_an_environment_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    own = ["env.id=moving_dot:DotKeys-v0", "name=own", "env.image_size=16"]
    assert main(["collect", "smoke", *own]) == 0
    untrained(load_config("smoke", own), action_dim=4)
    assert main(["surprise", "runs/own"]) == 0
    assert "held-out episodes, 1 of them played anew" in capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(words) == 2
    return capsys.readouterr().err.rsplit("\r", 1)[-1].strip()


def test_what_is_wrong_is_one_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "decode", "runs/smoke", "decode.horizon=30")
    assert said.endswith("the longest held-out episode has 60; lower decode.horizon=30")
    assert said.startswith("worldjepa: data/smoke: 33 frames, 5 steps apart, span 161 frames")
    said = refused(capsys, "surprise", "runs/smoke", "surprise.after=20")
    assert "a stretch of 116 frames is longer than held-out episodes" in said
    assert said.endswith("lower surprise.before or surprise.after")
    said = refused(capsys, "surprise", "runs/smoke", "surprise.colour=-1..1")
    assert said.endswith("must be a range low..high of factors above 0, as 0.3..1.7")
    for shard in Path("data/smoke").iterdir():
        with h5py.File(shard, "r+") as file:
            del file["state"]
    assert "has no column state" in refused(capsys, "surprise", "runs/smoke")
    assert not run.evaluation.exists()
