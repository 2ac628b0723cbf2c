"""What a user can get wrong: one line that says what and where, exit code 2, and nothing half-written."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from worldjepa.cli import main
from worldjepa.limits import check_lengths
from worldjepa.optimizer import build_optimizer
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.world_model import WorldModel

Refused = Callable[..., str]
BEGUN = (
    "runs", "runs/new", "runs/new/config.yaml", "runs/new/about.json", "runs/new/metrics.jsonl"
)  # fmt: skip


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command in a temporary folder, sees that it is refused as it should be, and gives its line.

    Nothing is left behind but, where `train` `begins` a run, its folder: with other options it is begun anew.
    """
    monkeypatch.chdir(tmp_path)

    def run(*words: str, begins: bool = False) -> str:
        before = listing(tmp_path)
        capsys.readouterr()
        code = main(words)
        # What a progress bar leaves, it has wiped out again with a carriage return.
        error = re.sub(r"[^\n]*\r", "", capsys.readouterr().err)
        assert error.startswith("worldjepa: ")
        assert error.count("\n") == 1, error
        assert code == 2
        left = {name: size for name, size in listing(tmp_path).items() if not begins or name not in BEGUN}
        assert left == {name: size for name, size in before.items() if not begins or name not in BEGUN}
        return error.removeprefix("worldjepa: ").rstrip("\n")

    return run


def listing(folder: Path) -> dict[str, int]:
    """Files and folders, with the size of files; not TensorBoard's, of which each start may make another."""
    paths = (p for p in sorted(folder.rglob("*")) if not p.name.startswith("events.out."))
    return {str(p.relative_to(folder)): p.stat().st_size * p.is_file() for p in paths}


def trained(path: str = "runs/smoke", *options: str) -> Run:
    """A run of one checkpoint, of a model that learnt nothing."""
    run = Run.create_or_open(load_config("smoke", [f"run={path}", *options]))
    model = WorldModel(run.config, action_dim=2)
    optimizer = build_optimizer(model, run.config.train).state_dict()
    state = {"step": 6, "total": 6, "optimizer": optimizer, "rng": torch.get_rng_state()}
    run.save_checkpoint(model, state, keep=1)
    return run


def change(folder: Path, column: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put another column in the place of one, in every shard of a data folder."""
    for shard in folder.iterdir():
        with h5py.File(shard, "r+") as file:
            values = function(file[column][:])
            del file[column]
            file[column] = values


@pytest.fixture
def smoke_data(tmp_path: Path, tiny_data: Path) -> Path:
    """A copy of the collected data where the smoke recipe looks for them."""
    folder = tmp_path / "data" / "smoke"
    folder.mkdir(parents=True)
    for path in tiny_data.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


# Data


@pytest.mark.parametrize("verb", ["train", "plan", "probe"])
def test_data_that_are_missing(refused: Refused, verb: str) -> None:
    what = "smoke"
    if verb != "train":
        trained()
        what = "runs/smoke"
    assert (
        refused(verb, what) == "data.path=data/smoke: no such folder or file; `worldjepa collect` makes one"
    )


def test_a_data_folder_that_is_empty(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "data" / "smoke").mkdir(parents=True)
    assert (
        refused("train", "smoke")
        == "data.path=data/smoke: holds no shard-*.h5; `worldjepa collect` makes them"
    )


@pytest.mark.parametrize("verb", ["train", "collect"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_shard_that_is_empty_or_cut_short(
    refused: Refused, smoke_data: Path, verb: str, kept: float
) -> None:
    shard = smoke_data / "shard-00001.h5"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])
    message = refused(verb, "smoke")
    assert message.startswith("data/smoke/shard-00001.h5: not a whole HDF5 file (")
    assert message.endswith("; collect it again")


def test_a_file_that_is_no_hdf5(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not frames\n" * 1000)
    assert "notes.txt: not a whole HDF5 file" in refused("train", "smoke", "data.path=notes.txt")


def test_hdf5_of_another_kind(refused: Refused, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["observations/images"] = np.zeros((10, 4))
    assert "other.h5: has no column pixels" in refused("train", "smoke", "data.path=other.h5")


def test_frames_of_another_size(refused: Refused, smoke_data: Path) -> None:
    trained("runs/smoke", "env.image_size=48")
    for words in (("train", "smoke", "env.image_size=48"), ("plan", "runs/smoke"), ("probe", "runs/smoke")):
        assert refused(*words) == "data/smoke: frames are 32 × 32, env.image_size=48"


def test_actions_of_another_size(refused: Refused, smoke_data: Path) -> None:
    change(smoke_data, "action", lambda action: np.pad(action, ((0, 0), (0, 1))))
    trained()
    theirs = "env.id=worldjepa.envs:worldjepa/Reacher-v0: an action has 2 numbers, in data/smoke it has 3"
    assert refused("train", "smoke", "run=runs/new") == theirs
    assert refused("probe", "runs/smoke") == theirs
    assert refused("plan", "runs/smoke") == (
        "data/smoke: an action has 3 numbers, the model of runs/smoke takes 2"
    )


def test_states_of_another_environment(refused: Refused, smoke_data: Path) -> None:
    change(smoke_data, "state", lambda state: state[:, :2])
    trained()
    words = "data/smoke: a state has 2 numbers, the environment's has "
    assert refused("train", "smoke", "run=runs/new", begins=True).startswith(words)
    assert refused("plan", "runs/smoke").startswith(words)


@pytest.mark.parametrize(
    ("verb", "column"), [("train", "action"), ("plan", "state"), ("probe", "qpos"), ("probe", "qvel")]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(
    refused: Refused, smoke_data: Path, verb: str, column: str, bad: float
) -> None:
    trained()
    change(smoke_data, column, lambda values: np.where(np.arange(len(values))[:, None] % 7 == 3, bad, values))
    message = refused(verb, *(("smoke", "run=runs/new") if verb == "train" else ("runs/smoke",)))
    assert re.fullmatch(
        rf"data/smoke: episode \d has a number in {column} that is not finite; remove or mend it", message
    )


def test_a_column_that_a_command_needs(refused: Refused, smoke_data: Path) -> None:
    trained()
    for shard in smoke_data.iterdir():
        with h5py.File(shard, "r+") as file:
            for column in ("state", "qpos", "observation"):
                del file[column]
    missing = "data/smoke: has no column state (whole physics states), which starts and goals are made of"
    assert refused("plan", "runs/smoke") == missing
    assert refused("probe", "runs/smoke") == (
        "data/smoke: has no column qpos, observation or state, which probes read"
    )


def test_more_than_the_data_hold(refused: Refused, smoke_data: Path) -> None:
    trained()
    assert "windows are fewer than train.batch_size=1000" in refused(
        "train", "smoke", "train.batch_size=1000", "run=runs/new", begins=True
    )
    assert "plan.goals=1000" in refused("plan", "runs/smoke", "plan.goals=1000")
    assert "lower data.context or data.frameskip" in refused(
        "train", "smoke", "data.frameskip=30", "run=runs/new"
    )


# Collection


def test_episodes_too_short_for_what_comes_after(refused: Refused) -> None:
    assert refused("collect", "smoke", "data.context=60") == (
        "data.context=60 × data.frameskip=5: a window spans 301 frames, an episode has "
        "collect.episode_length=60; shorten the window"
    )
    assert refused("collect", "smoke", "plan.goal_offset=60") == (
        "plan.goal_offset=60: must be less than collect.episode_length=60"
    )


@pytest.mark.parametrize("option", ["data.frameskip=19", "plan.goal_offset=59"])
def test_episodes_just_long_enough(option: str) -> None:
    check_lengths(load_config("smoke", [option]))


def test_data_of_another_collection(refused: Refused, smoke_data: Path) -> None:
    for other in ("collect.seed=1", "env.image_size=48", "collect.behaviour=repeat"):
        assert "was collected with other options" in refused("collect", "smoke", other)
    assert "a data set can grow, not shrink" in refused("collect", "smoke", "collect.episodes=5")
    assert "collect.shard=4/3: must be k/n" in refused("collect", "smoke", "collect.shard=4/3")


@pytest.mark.parametrize(
    ("env", "right"),
    [
        ("Nothing-v0", "env.id=Nothing-v0: "),
        ("no_such_module:Nothing-v0", "No module named 'no_such_module'"),
        ("own_envs:Blind-v0", "not pictures, uint8 (H, W, 3)"),
        ("own_envs:Switches-v0", "bounded Box"),
    ],
)
def test_an_environment_that_can_not_be_collected(refused: Refused, env: str, right: str) -> None:
    message = refused("collect", "smoke", f"env.id={env}")
    assert right in message


@pytest.mark.parametrize("verb", ["train", "doctor", "plan", "probe"])
def test_no_opengl(refused: Refused, smoke_data: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    trained()
    monkeypatch.delenv("WORLDJEPA_GL_CHECKED", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr("worldjepa.envs.rendering._draws", lambda variables: False)
    message = refused(verb, *(("runs/smoke",) if verb in ("plan", "probe") else ("smoke", "run=runs/new")))
    assert message.startswith("no OpenGL back end works here")
    assert "apt-get install" in message


def test_no_opengl_on_a_real_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worldjepa", "collect", "smoke"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "WORLDJEPA_GL_CHECKED"} | {"MUJOCO_GL": "crayons"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"worldjepa: no OpenGL .*apt-get install.*, or unset MUJOCO_GL=crayons\n", done.stderr
    )
    assert list(tmp_path.iterdir()) == []


# Runs


def test_a_run_without_a_checkpoint(refused: Refused) -> None:
    Run.create_or_open(load_config("smoke"))
    for verb in ("plan", "probe"):
        assert refused(verb, "runs/smoke") == (
            "runs/smoke: has no checkpoint yet; `worldjepa train runs/smoke` makes one"
        )


def test_a_folder_that_is_no_run(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for verb in ("plan", "probe", "train", "monitor"):
        assert refused(verb, "folder") == "folder: not a run folder (it has no config.yaml)"
    for verb in ("plan", "probe", "monitor"):
        assert refused(verb, "smoke") == "runs/smoke: no run there; `worldjepa train` makes one"


@pytest.mark.parametrize("file", ["model.safetensors", "trainer.pt"])
@pytest.mark.parametrize("kept", [0, 20, 2000])
def test_a_checkpoint_that_is_damaged(refused: Refused, smoke_data: Path, file: str, kept: int) -> None:
    checkpoint = trained().checkpoints()[-1]
    (checkpoint / file).write_bytes((checkpoint / file).read_bytes()[:kept])
    for words in (("train", "smoke"), ("plan", "runs/smoke")):
        if words[0] == "train" or file == "model.safetensors":
            message = refused(*words)
            assert message.startswith("runs/smoke/checkpoints/00000006: damaged (")
            assert message.endswith("; remove it, and an older one serves")


def test_a_checkpoint_that_lacks_a_file(refused: Refused, smoke_data: Path) -> None:
    checkpoint = trained().checkpoints()[-1]
    for file in ("trainer.pt", "model.safetensors"):
        (checkpoint / file).unlink()
        assert refused("train", "smoke").startswith("runs/smoke/checkpoints/00000006: damaged (")


def test_a_configuration_that_is_cut_short(refused: Refused) -> None:
    path = trained().path / "config.yaml"
    text = path.read_text()
    for kept in (0, text.index("model:") + 3):
        path.write_text(text[:kept])
        assert refused("plan", "runs/smoke").startswith("runs/smoke/config.yaml: ")


def test_a_run_with_other_options(refused: Refused, smoke_data: Path) -> None:
    trained()
    message = refused("train", "smoke", "model.latent=8", "train.batch_size=8")
    assert message == (
        "runs/smoke: was begun with other options (model.latent: 16, now 8; train.batch_size: 16, now 8); "
        "name another run="
    )


def test_weights_of_another_model(refused: Refused, smoke_data: Path) -> None:
    ours, other = trained(), trained("runs/other", "model.latent=8")
    weights = ours.checkpoints()[-1] / "model.safetensors"
    weights.write_bytes((other.checkpoints()[-1] / "model.safetensors").read_bytes())
    assert "of another model: " in refused("plan", "runs/smoke")


# Machine and paths


@pytest.mark.parametrize(
    "option", ["model.encoder.name=resnet1", "model.encoder.name=vit_tiny_patch16_224", "train.device=abacus"]
)
def test_what_this_machine_or_model_does_not_take(refused: Refused, smoke_data: Path, option: str) -> None:
    patch = ["model.encoder.patch_size=7"] if "vit" in option else []
    message = refused("train", "smoke", option, *patch)
    assert ("env.image_size=32" if patch else option) in message


def test_a_path_that_can_not_be_written(refused: Refused, smoke_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "data.path=file/data: can't be written" in refused("collect", "smoke", "data.path=file/data")
    assert "data.path=file: can't be written" in refused("collect", "smoke", "data.path=file")
    assert "run=file/run: can't be written" in refused("train", "smoke", "run=file/run")
    assert "run=file: can't be written" in refused("train", "smoke", "run=file")


def test_results_that_can_not_be_written(refused: Refused, smoke_data: Path) -> None:
    (trained().path / "evaluation").write_text("in the way")
    for verb in ("probe", "plan"):
        assert refused(verb, "runs/smoke") == "runs/smoke/evaluation: File exists"


def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: TensorBoard leaves a thread that goes on to look at the run."""
    monkeypatch.chdir(tmp_path)
    trained()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ["monitor", "runs/smoke", "monitor.host=127.0.0.1", f"monitor.port={port}"]
        done = subprocess.run([sys.executable, "-m", "worldjepa", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"worldjepa: monitor.port={port}: ")
    assert done.stderr.count("\n") == 1, done.stderr
