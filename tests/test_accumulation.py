"""A batch in parts: loss and gradients of the whole batch, in the memory of a part."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from worldjepa.image_jepa import ImageJEPA
from worldjepa.recipes import load_config
from worldjepa.world_model import WorldModel

PARTS = [2, 5, 16]
VIT = ["model.encoder.name=test_vit"]


def world_model(parts: int, *overrides: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    config = load_config("smoke", [f"train.accumulate={parts}", *overrides])
    model = WorldModel(config, action_dim=2).double().train()
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (16, 4, 32, 32, 3), dtype=torch.uint8, generator=draw)
    action = torch.randn(16, 3, 10, dtype=torch.float64, generator=draw)
    return model, {"pixels": pixels, "action": action}


def image_model(parts: int, *overrides: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    config = load_config(
        "images_smoke", [f"train.accumulate={parts}", "model.encoder.patch_size=8", *overrides]
    )
    views = 255 * torch.rand(4, 16, 16, 16, 1, dtype=torch.float64)
    return ImageJEPA(config).double().train(), {"global": views[:2], "local": views[2:]}


def loss_and_gradients(model: nn.Module, batch: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    losses = model.loss(batch)
    losses["loss"].backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": losses["loss"].detach(), "sigreg": losses["sigreg"].detach(), **gradients}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("make", [world_model, image_model])
def test_parts_give_the_loss_and_gradients_of_the_whole_batch(make, parts: int) -> None:
    """With a backbone that knows no batch; SIGReg, the projector's BatchNorm and dropout see all of it."""
    expected = loss_and_gradients(*make(1, *VIT))
    found = loss_and_gradients(*make(parts, *VIT))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-9 * value.norm().clamp_min(1e-12), name


def test_a_mean_of_the_parts_losses_would_be_another_objective() -> None:
    """What accumulating losses, as for other objectives, gives: a SIGReg of small samples."""
    model, batch = world_model(1, *VIT)
    whole = loss_and_gradients(model, batch)
    model, batch = world_model(1, *VIT)
    losses = []
    for part in range(4):
        share = {name: value[4 * part : 4 * part + 4] for name, value in batch.items()}
        losses.append(model.loss(share)["loss"] / 4)
        model.sigreg.step.zero_()
    sum(losses).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    right = torch.cat([v.flatten() for n, v in whole.items() if n not in ("loss", "sigreg")])
    assert (gradient - right).norm() > 0.1 * right.norm()


@pytest.mark.parametrize("parts", PARTS)
def test_running_statistics_count_every_part_once(parts: int) -> None:
    """Of a backbone with BatchNorm: the recomputation for the gradient leaves them alone."""
    model, batch = world_model(parts)
    by_hand, _ = world_model(1)
    loss_and_gradients(model, batch)
    by_hand.double()
    with torch.no_grad():
        for part in batch["pixels"].flatten(0, 1).tensor_split(parts):
            by_hand.encoder(part)
    found, expected = (dict(m.encoder.named_buffers()) for m in (model, by_hand))
    assert int(found["backbone.stages.0.1.num_batches_tracked"]) == parts
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


def test_evaluation_takes_a_batch_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = world_model(4)
    monkeypatch.setattr("worldjepa.recomputation.checkpoint", lambda *_, **__: pytest.fail("in parts"))
    assert model.eval().encode(batch["pixels"]).shape == (16, 4, model.latent)


MEMORY = """
import resource, sys, torch
from worldjepa.recipes import load_config
from worldjepa.world_model import WorldModel
torch.set_num_threads(2)
config = load_config("smoke", [f"train.accumulate={sys.argv[1]}", "env.image_size=64", *sys.argv[2:]])
model = WorldModel(config, action_dim=2).train()
batch = {"pixels": torch.zeros(64, 4, 64, 64, 3, dtype=torch.uint8), "action": torch.randn(64, 3, 10)}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.loss(batch)["loss"].backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_the_memory_is_that_of_a_part() -> None:
    def used(parts: int) -> int:
        command = [sys.executable, "-c", MEMORY, str(parts), "model.encoder.name=vit_tiny_patch16_224"]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert used(8) < 0.3 * used(1)
