"""Exported programs: the model's outputs, in a process that has nothing but torch, and in ONNX's runtime."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from worldjepa.envs.rendering import OpenGLUnavailable

from worldjepa.cli import main
from worldjepa.commands import export
from worldjepa.config import Config, EnvConfig
from worldjepa.image_jepa import ImageJEPA
from worldjepa.planning.costs import COSTS
from worldjepa.planning.dynamics import LatentDynamics
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import initial_state
from worldjepa.world_model import WorldModel

# Two of each, so that everything which there can be more of is met.
OPTIONS = ["data.context=2", "plan.horizon=3", "model.predictor.depth=2"]
LOW, MEAN, STD = -1.0, [0.25, -0.5], [0.5, 2.0]


def saved(config: Config, model: WorldModel | ImageJEPA) -> Run:
    """A run whose only checkpoint is a model with no two weights alike, BatchNorm's statistics included."""
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.add_(0.05 * torch.rand_like(value))
    if isinstance(model, WorldModel):
        model.set_action_statistics(np.array(MEAN), np.array(STD))
    run = Run.create_or_open(config)
    run.save_checkpoint(model, initial_state(model, config.train) | {"step": 6}, keep=1)
    return run


def world_run(path: Path, *options: str) -> Run:
    config = load_config("smoke", [f"run={path}", *OPTIONS, *options])
    return saved(config, WorldModel(config, action_dim=2))


def image_run(path: Path) -> Run:
    config = load_config("images_smoke", [f"run={path}"])
    return saved(config, ImageJEPA(config))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run with relative positions and its export, ONNX included."""
    folder = tmp_path_factory.mktemp("export")
    run = world_run(folder / "run")
    assert main(["export", str(run.path), "export.onnx=true"]) == 0
    return run, run.path / "export" / "00000006"


def observed(
    model: WorldModel, cost: str, seen: int, plans: torch.Tensor
) -> tuple[LatentDynamics, np.ndarray]:
    """What an agent's dynamics know after so many random frames, and these frames, the goals last."""
    draw = np.random.default_rng(seen)
    frames = draw.integers(0, 256, (seen + 1, len(plans), 32, 32, 3), np.uint8)
    dynamics = LatentDynamics(model, COSTS[cost], torch.device("cpu"))
    dynamics.reset(frames[-1], None)
    for number in range(seen):
        dynamics.observe(frames[number], None)
        if number < seen - 1:
            dynamics.acted(torch.randn(len(plans), 10))
    return dynamics, frames


@pytest.mark.parametrize("seen", [1, 2])
def test_the_programs_plan_as_the_agent_does(exported: tuple[Run, Path], seen: int) -> None:
    run, folder = exported
    plans = torch.randn(4, 9, 3, 10)
    dynamics, frames = observed(run.load_world_model(), run.config.plan.cost, seen, plans)
    encoder, planner = (
        torch.export.load(folder / f"{name}.pt2").module() for name in ("encoder", f"planner_{seen}")
    )
    latents = torch.stack([encoder(torch.from_numpy(x)) for x in frames], 1)
    past = plans.new_empty(4, 0, 10) if dynamics.past is None else dynamics.past
    costs, ahead = planner(latents[:, :-1], past, plans, latents[:, -1])
    torch.testing.assert_close(latents[:, :-1], dynamics.seen, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(costs, dynamics.cost(plans), rtol=1e-5, atol=1e-5)
    assert ahead.shape == (4, 9, 3, 16)


ONLY_TORCH = """
import json, sys, torch
folder, results = sys.argv[1:]
about, results = json.load(open(f"{folder}/export.json")), {}
inputs = torch.load(f"{folder}/../inputs.pt")
for name in about["programs"]:
    outputs = torch.export.load(f"{folder}/{name}.pt2").module()(*inputs[name])
    results[name] = outputs if isinstance(outputs, tuple) else (outputs,)
assert not {"worldjepa", "timm", "einops", "gymnasium"} & set(sys.modules)
torch.save(results, sys.argv[2])
"""


def test_a_process_with_torch_alone_gets_the_same(exported: tuple[Run, Path], tmp_path: Path) -> None:
    run, folder = exported
    model, torch_inputs = run.load_world_model(), {}
    z, past, plans = torch.randn(3, 2, 16), torch.randn(3, 1, 10), torch.randn(3, 5, 3, 10)
    frames = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    torch_inputs = {
        "encoder": (frames,),
        "planner_1": (z[:, 1:], past[:, 1:], plans, z[:, 0]),
        "planner_2": (z, past, plans, z[:, 0]),
    }
    torch.save(torch_inputs, folder.parent / "inputs.pt")
    command = [sys.executable, "-I", "-c", ONLY_TORCH, str(folder), str(tmp_path / "results.pt")]
    subprocess.run(command, check=True, cwd=tmp_path)
    results = torch.load(tmp_path / "results.pt")
    with torch.no_grad():
        torch.testing.assert_close(results["encoder"][0], model.encode(frames), rtol=1e-5, atol=1e-5)
        for name, seen in (("planner_1", slice(1, None)), ("planner_2", slice(None))):
            ahead = model.rollout(z[:, seen], past[:, seen], plans)
            torch.testing.assert_close(results[name][1], ahead, rtol=1e-5, atol=1e-5)


def test_onnx_gives_the_same(exported: tuple[Run, Path]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run, folder = exported
    session = onnxruntime.InferenceSession(folder / "planner_2.onnx", providers=["CPUExecutionProvider"])
    z, past, plans = torch.randn(2, 2, 16), torch.randn(2, 1, 10), torch.randn(2, 6, 3, 10)
    names = ("seen", "past", "plans", "goal")
    given = dict(zip(names, (x.numpy() for x in (z, past, plans, z[:, 0])), strict=True))
    costs, ahead = session.run(["costs", "ahead"], given)
    assert costs.shape == (2, 6)
    with torch.no_grad():
        expected = run.load_world_model().rollout(z, past, plans)
    torch.testing.assert_close(torch.from_numpy(ahead), expected, rtol=1e-5, atol=1e-5)


def test_what_lies_beside_them_says_all_that_a_robot_needs(exported: tuple[Run, Path]) -> None:
    run, folder = exported
    about = json.loads((folder / "export.json").read_text())
    assert {p.name for p in folder.iterdir()} == {*about["files"], "export.json"}
    assert about["checkpoint"] == 6
    assert about["programs"]["planner_2"] == {
        "inputs": {"seen": ["B", 2, 16], "past": ["B", 1, 10], "plans": ["B", "S", 3, 10], "goal": ["B", 16]},
        "outputs": {"costs": ["B", "S"], "ahead": ["B", "S", 3, 16]},
    }
    assert about["programs"]["encoder"] == {
        "inputs": {"frames": ["B", 32, 32, 3]}, "outputs": {"latent": ["B", 16]}
    }  # fmt: skip
    assert (about["frameskip"], about["action_dim"], about["context"], about["horizon"]) == (5, 2, 2, 3)
    assert (about["action_mean"], about["action_std"]) == (MEAN, STD)
    assert (about["action_low"], about["action_high"]) == ([-1.0, -1.0], [1.0, 1.0])
    assert about["cost"] == run.config.plan.cost


def test_learnt_positions_and_a_transformer_for_an_encoder(tmp_path: Path) -> None:
    options = ["model.encoder.name=test_vit", "model.encoder.patch_size=16", "data.context=1"]
    learnt = ["model.predictor.positions=learnt", "model.predictor.projector=true"]
    run = world_run(tmp_path / "run", *options, *learnt)
    # The command compares the outputs itself.
    assert main(["export", str(run.path), f"export.to={tmp_path}/robot"]) == 0
    assert {p.name for p in (tmp_path / "robot").iterdir()} == {"encoder.pt2", "planner_1.pt2", "export.json"}


def test_of_an_image_run_the_encoder_alone(tmp_path: Path) -> None:
    run = image_run(tmp_path / "run")
    assert main(["export", str(run.path)]) == 0
    folder = run.path / "export" / "00000006"
    assert {p.name for p in folder.iterdir()} == {"encoder.pt2", "export.json"}
    images = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    features = torch.export.load(folder / "encoder.pt2").module()(images)
    expected = run.load_image_model().features(images)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    assert "horizon" not in json.loads((folder / "export.json").read_text())


def test_again_nothing_is_written_and_nothing_else_is_overwritten(
    exported: tuple[Run, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = exported
    times = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert main(["export", str(run.path), "export.onnx=true"]) == 0
    assert capsys.readouterr().out.split() == [
        str(folder / name)
        for name in (
            *(f"{name}.{kind}" for name in ("encoder", "planner_1", "planner_2") for kind in ("pt2", "onnx")),
            "export.json",
        )
    ]
    assert main(["export", str(run.path), "export.onnx=true", "plan.horizon=4"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == times


def test_a_program_that_gives_something_else_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Biased(nn.Module):
        def __init__(self, module: nn.Module):
            super().__init__()
            self.module = module

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return self.module(frames) * 1.0001

    def other(program: export.Program) -> torch.export.ExportedProgram:
        return exported(program._replace(module=Biased(program.module)))

    exported = export._exported
    monkeypatch.setattr(export, "_exported", other)
    run = image_run(tmp_path / "run")
    assert main(["export", str(run.path)]) == 2
    assert "encoder.pt2: its outputs are not the model's" in capsys.readouterr().err
    assert list((run.path / "export").iterdir()) == []


def test_without_onnx_one_line_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())
    run = image_run(tmp_path / "run")
    assert main(["export", str(run.path), "export.onnx=true"]) == 2
    expected = 'worldjepa: export.onnx=true: onnxscript is missing; pip install "worldjepa[onnx]"\n'
    assert capsys.readouterr().err == expected
    assert not (run.path / "export").exists()


def test_distances_that_need_data_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = world_run(tmp_path / "run")
    assert main(["export", str(run.path), "plan.distance=whitened"]) == 2
    assert "plan.distance=whitened: export writes plain distances alone" in capsys.readouterr().err


def test_an_environment_that_is_not_here_leaves_the_bounds_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = world_run(tmp_path / "run", "env.id=my_robot:Arm-v0", "data.context=1")
    monkeypatch.setattr(export, "FrameEncoder", lambda model: nn.Identity())
    about = export._about(run.config, run, run.load_world_model())
    assert about["action_low"] is None
    assert about["action_high"] is None
    assert "my_robot" in capsys.readouterr().out


def test_a_machine_that_can_not_draw_leaves_the_bounds_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def blind(config: EnvConfig) -> None:
        raise OpenGLUnavailable("nothing draws here")

    monkeypatch.setattr(export, "make_env", blind)
    assert export._bounds(load_config("smoke"), 2) == (None, None)
    assert "nothing draws here" in capsys.readouterr().out
