"""The class token alone read of a ViT: timm's outputs and gradients, with less arithmetic."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from worldjepa.encoders import build_encoder
from worldjepa.model_config import EncoderConfig
from worldjepa.vit import LastBlock, read_class_token_alone


def vit(**options: object) -> nn.Module:
    model = timm.create_model("test_vit", img_size=32, num_classes=0, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}, {"init_values": 0.1}, {"qk_norm": True}])
def test_features_and_gradients_are_timm_s(options: dict[str, object]) -> None:
    plain = vit(**options)
    ours = copy.deepcopy(plain)
    read_class_token_alone(ours)
    assert type(ours.blocks[-1]) is LastBlock
    images, weight = torch.randn(3, 3, 32, 32), torch.randn(3, 64)
    outputs = [model(images) for model in (plain, ours)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)
    for output in outputs:
        (output * weight).sum().backward()
    for parameter, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-4, atol=1e-5)


def test_it_computes_less() -> None:
    plain, images = vit(), torch.randn(1, 3, 32, 32)
    ours = copy.deepcopy(plain)
    read_class_token_alone(ours)
    work = []
    for model in (plain, ours):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(images)
        work.append(counter.get_total_flops())
    tokens, (hidden, width) = 5, plain.blocks[-1].mlp.fc1.weight.shape
    assert work[0] - work[1] == 2 * (tokens - 1) * 2 * width * hidden


@pytest.mark.parametrize(
    "options", [{"global_pool": "avg"}, {"global_pool": "map"}, {"class_token": False, "global_pool": "avg"}]
)
def test_models_that_pool_over_all_tokens_stay_as_they_are(options: dict[str, object]) -> None:
    model = vit(**options)
    read_class_token_alone(model)
    assert LastBlock not in {type(module) for module in model.modules()}


def test_encoders_are_made_so_but_where_several_layers_are_read() -> None:
    kinds = {
        layers: {type(m) for m in build_encoder(EncoderConfig(name="test_vit", layers=layers), 160).modules()}
        for layers in (1, 2)
    }
    assert LastBlock in kinds[1]
    assert LastBlock not in kinds[2]
