"""`train.recompute`: the same gradients and statistics from less memory."""

import copy
import subprocess
import sys

import pytest
import torch
from test_accumulation import MEMORY, image_model, loss_and_gradients, world_model
from torch import nn

from worldjepa.recomputation import recompute_blocks

BACKBONES = ["conv", "test_vit", "test_resnet"]
DROPOUT = ["model.predictor.dropout=0.3", "train.recompute=true"]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("parts", [1, 3])
def test_gradients_and_statistics_are_those_of_what_is_kept(name: str, parts: int) -> None:
    backbone = f"model.encoder.name={name}"
    plain, batch = world_model(parts, backbone, DROPOUT[0])
    again, _ = world_model(parts, backbone, *DROPOUT)
    expected, found = loss_and_gradients(plain, batch), loss_and_gradients(again, batch)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9, msg=key)
    torch.testing.assert_close(dict(again.named_buffers()), dict(plain.named_buffers()), rtol=1e-9, atol=1e-9)
    assert again.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("name", ["resnet", "test_vit"])
def test_images_too(name: str) -> None:
    expected = loss_and_gradients(*image_model(1, f"model.encoder.name={name}"))
    found = loss_and_gradients(*image_model(1, f"model.encoder.name={name}", "train.recompute=true"))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9, msg=key)


@pytest.mark.parametrize("name", ["conv", "test_vit", "resnet"])
def test_between_blocks_little_is_kept(name: str) -> None:
    def kept(*overrides: str) -> int:
        model, batch = world_model(1, f"model.encoder.name={name}", *overrides)
        sizes: dict[int, int] = {}

        def pack(x: torch.Tensor) -> torch.Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            features = model.encoder(batch["pixels"].flatten(0, 1))
        assert features.requires_grad
        return sum(size for pointer, size in sizes.items() if pointer not in weights)

    assert kept("train.recompute=true") < 0.7 * kept()


def test_a_copy_computes_with_its_own_weights() -> None:
    model = recompute_blocks(nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))))
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    x = torch.ones(1, 2)
    assert torch.equal(other(x), torch.zeros(1, 2))
    assert not torch.equal(model(x), torch.zeros(1, 2))


def test_evaluation_computes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = world_model(1, "train.recompute=true")
    monkeypatch.setattr("worldjepa.recomputation.checkpoint", lambda *_, **__: pytest.fail("recomputed"))
    model.eval().encode(batch["pixels"])
    with torch.no_grad():
        model.train().encode(batch["pixels"])


@pytest.mark.slow
def test_the_memory_of_a_step_falls() -> None:
    def used(*overrides: str) -> int:
        command = [sys.executable, "-c", MEMORY, "1", "model.encoder.name=vit_tiny_patch16_224", *overrides]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert used("train.recompute=true") < 0.5 * used()
