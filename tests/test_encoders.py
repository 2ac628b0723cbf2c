"""Encoders: shapes, refusals, normalisation, and no bias in front of a BatchNorm."""

import dataclasses

import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as vision

from worldjepa.encoders import PIXEL_MEAN, PIXEL_STD, ConvEncoder, Encoder, build_encoder, projector
from worldjepa.errors import UserError
from worldjepa.model_config import EncoderConfig
from worldjepa.recipes import load_config
from worldjepa.world_model import WorldModel

TIMM = [
    ("vit_tiny_patch16_224", 0, 64, 192),
    ("vit_tiny_patch16_224", 14, 56, 192),
    ("resnet10t", 0, 64, 512),
    ("mobilenetv3_small_050", 0, 48, 1024),
]


def frames(count: int, size: int) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("size", [32, 64, 96])
def test_conv_encoder_halves_the_frame_four_times(size: int) -> None:
    encoder = ConvEncoder(size, width=4, features=10)
    x = torch.randn(2, 3, size, size)
    assert encoder.stages(x).shape == (2, 32, size // 16, size // 16)
    assert encoder(x).shape == (2, encoder.num_features) == (2, 10)


@pytest.mark.parametrize("size", [8, 40, 100])
def test_conv_encoder_names_the_sizes_that_it_takes(size: int) -> None:
    with pytest.raises(UserError, match=rf"env\.image_size={size}: .* multiple of 16"):
        build_encoder(EncoderConfig(), size)


@pytest.mark.parametrize(("name", "patch_size", "size", "features"), TIMM)
def test_timm_backbones_give_one_vector_a_frame(name: str, patch_size: int, size: int, features: int) -> None:
    encoder = Encoder(EncoderConfig(name=name, patch_size=patch_size), size)
    assert encoder.training
    assert encoder.backbone.training, "probing the shape must not leave the backbone in evaluation mode"
    assert encoder(frames(2, size)).shape == (2, encoder.num_features) == (2, features)


def test_patch_size_sets_the_number_of_tokens() -> None:
    counts = [
        build_encoder(EncoderConfig(name="vit_tiny_patch16_224", patch_size=side), 64).patch_embed.num_patches
        for side in (0, 8, 32)
    ]
    assert counts == [16, 64, 4]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("resnet10", "resnet10t"), ("vit_tiny_patch16_225", "vit_tiny_patch16_224"), ("zzz", "neither")],
)
def test_an_unknown_name_is_refused_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(
        UserError, match=rf"model\.encoder\.name={name}: neither conv, resnet nor a timm model.*"
    ) as raised:
        build_encoder(EncoderConfig(name=name), 64)
    assert hint in str(raised.value)


@pytest.mark.parametrize(
    ("patch_size", "size", "why"),
    [
        (0, 8, "does not take it"),
        (0, 60, "multiple of its patch size, 16"),
        (14, 64, "multiple of its patch size, 14"),
    ],
)
def test_a_size_that_the_backbone_can_not_take_is_refused(patch_size: int, size: int, why: str) -> None:
    with pytest.raises(UserError, match=rf"env\.image_size={size}: vit_tiny_patch16_224 .*{why}") as raised:
        build_encoder(EncoderConfig(name="vit_tiny_patch16_224", patch_size=patch_size), size)
    assert "\n" not in str(raised.value)


def test_normalisation_is_that_of_imagenet() -> None:
    encoder = Encoder(EncoderConfig(width=4), 32)
    encoder.backbone = nn.Identity()
    pixels = frames(3, 32)
    scaled = pixels.permute(0, 3, 1, 2).double() / 255
    torch.testing.assert_close(
        encoder(pixels).double(),
        vision.normalize(scaled, list(PIXEL_MEAN), list(PIXEL_STD)),
        rtol=0,
        atol=1e-5,
    )


def test_the_projector_ends_in_a_free_linear_layer() -> None:
    head = projector(6, 8, 5)
    assert head(torch.randn(4, 6)).shape == (4, 5)
    assert isinstance(head[-1], nn.Linear)
    assert head[-1].bias is not None


def biases_into_batch_norm(model: nn.Module, run) -> tuple[int, list[str]]:
    """How many layers feed a BatchNorm directly while `run()` runs the model; which of them have a bias."""
    names = {module: name for name, module in model.named_modules()}
    makers: dict[int, tuple[torch.Tensor, nn.Module]] = {}
    fed: list[nn.Module] = []

    def made(module: nn.Module, _: tuple, output: torch.Tensor) -> None:
        makers[id(output)] = output, module  # the tensor is kept, so that its id stays its own

    def normalises(_: nn.Module, inputs: tuple) -> None:
        if id(inputs[0]) in makers:
            fed.append(makers[id(inputs[0])][1])

    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(made)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_pre_hook(normalises)
    run()
    return len(fed), [names[module] for module in fed if module.bias is not None]


@pytest.mark.parametrize("encoder", ["conv", "resnet10t"])
def test_no_bias_feeds_a_batch_norm(encoder: str) -> None:
    config = load_config("smoke", [f"model.encoder.name={encoder}", "model.predictor.projector=true"])
    model = WorldModel(config, action_dim=2)
    norms = sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules())
    batch = {"pixels": frames(16, 32).unflatten(0, (4, 4)), "action": torch.randn(4, 3, 10)}
    fed, biased = biases_into_batch_norm(model, lambda: model.loss(batch))
    assert fed == norms >= 6
    assert biased == []


def test_a_bias_in_front_of_a_batch_norm_would_be_found() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert biases_into_batch_norm(model, lambda: model(torch.randn(5, 3))) == (1, ["0"])


def test_features_of_the_last_blocks_lie_side_by_side() -> None:
    config = EncoderConfig(name="resnet", width=4)
    torch.manual_seed(0)
    one = build_encoder(config, 28).eval()
    torch.manual_seed(0)
    three = build_encoder(dataclasses.replace(config, layers=3), 28).eval()
    x = torch.randn(2, 3, 28, 28)
    assert (one.num_features, three.num_features) == (32, 32 + 16 + 8)
    torch.testing.assert_close(three(x)[:, :32], one(x))
    second = one.blocks[1](one.blocks[0](one.stem(x)))
    torch.testing.assert_close(three(x)[:, 48:], second.mean((2, 3)))
    torch.testing.assert_close(three(x, last=True), one(x))


def test_deviations_over_positions_lie_behind_the_averages() -> None:
    config = EncoderConfig(name="resnet", width=4, layers=2)
    torch.manual_seed(0)
    averages = build_encoder(config, 28).eval()
    torch.manual_seed(0)
    both = build_encoder(dataclasses.replace(config, pooling="mean_std"), 28).eval()
    x = torch.randn(2, 3, 28, 28)
    assert both.num_features == 2 * averages.num_features == 2 * (32 + 16)
    torch.testing.assert_close(both(x)[:, :48], averages(x))
    maps: list[torch.Tensor] = []
    for block in both.blocks:
        block.register_forward_hook(lambda _, __, y: maps.append(y))
    deviations = both(x)[:, 48:]
    expected = [torch.from_numpy(y.detach().numpy().std((2, 3))) for y in reversed(maps[-2:])]
    torch.testing.assert_close(deviations, torch.cat(expected, 1), atol=4e-3, rtol=1e-3)


def test_a_map_of_one_position_has_a_gradient() -> None:
    encoder = build_encoder(EncoderConfig(name="resnet", width=4, pooling="mean_std"), 16)
    encoder(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def vit(**options: object) -> nn.Module:
    torch.manual_seed(0)
    config = EncoderConfig(name="test_vit", patch_size=8, **options)  # type: ignore[arg-type]
    return build_encoder(config, 32, {"images.global_size": 32, "images.local_size": 16})


def test_class_tokens_of_the_last_layers_lie_side_by_side() -> None:
    one, two = vit().eval(), vit(layers=2).eval()
    for side in (32, 16):
        x = torch.randn(2, 3, side, side)
        tokens: list[torch.Tensor] = []
        hook = one.blocks[-2].register_forward_hook(lambda _, __, y, tokens=tokens: tokens.append(y))
        last = one(x)
        hook.remove()
        assert two.num_features == two(x).shape[1] == 2 * one.num_features
        torch.testing.assert_close(two(x), torch.cat([last, one.norm(tokens[0])[:, 0]], 1))
        torch.testing.assert_close(two(x, last=True), last)


def test_register_tokens_are_beside_the_patches_and_learn() -> None:
    model = vit(register_tokens=4, layers=2)
    lengths: list[int] = []
    model.model.blocks[0].register_forward_hook(lambda _, x, __: lengths.append(x[0].shape[1]))
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert lengths == [1 + 4 + 16]
    assert model.model.reg_token.grad.norm() > 0


@pytest.mark.parametrize(
    ("name", "options", "right"),
    [
        ("resnet10t", {"layers": 2}, r"model\.encoder\.layers=2: resnet10t has no class token"),
        ("resnet10t", {"register_tokens": 4}, "resnet10t does not take .* 'reg_tokens'"),
        ("resnet", {"layers": 5}, r"model\.encoder\.layers=5: resnet has 4 blocks"),
        ("vit_tiny_patch16_224", {"layers": 13}, r"model\.encoder\.layers=13: vit_tiny_patch16_224 has 12"),
        ("cait_xxs24_224", {"layers": 2}, "cait_xxs24_224 does not give the class token of each layer"),
    ],
)
def test_layers_and_registers_that_are_not_there_are_named(
    name: str, options: dict[str, int], right: str
) -> None:
    with pytest.raises(UserError, match=right):
        build_encoder(EncoderConfig(name=name, **options), 64)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [3, 1])
def test_frames_are_normalised_channel_by_channel(dtype: torch.dtype, channels: int) -> None:
    encoder = Encoder(EncoderConfig(), 32)
    frames = torch.randint(0, 256, (2, 32, 48, channels), generator=torch.Generator().manual_seed(0)).to(
        dtype
    )
    before = frames.clone()
    mean, std = (255 * torch.tensor(value).view(3, 1, 1) for value in (PIXEL_MEAN, PIXEL_STD))
    expected = (frames.permute(0, 3, 1, 2).float() - mean) / std
    found = encoder.normalise(frames)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(frames, before)
