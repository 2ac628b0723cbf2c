"""Layers that train through oneDNN: the same outputs and gradients as torch's, wherever they stand."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from worldjepa.linear import Linear, fuse_attention, through_onednn
from worldjepa.recipes import load_config
from worldjepa.world_model import WorldModel

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")


@pytest.fixture(autouse=True)
def _not_intel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldjepa.linear._intel", lambda: False)


def operations(call: object) -> set[str]:
    """Names of what a call runs."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call()  # type: ignore[operator]
    return {event.key for event in profiler.key_averages()}


def gradients(layer: nn.Module, x: Tensor, weight: Tensor) -> list[Tensor]:
    """Output, and gradients of a weighted sum of it."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad((weight * y).sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "width_in", "width_out"),
    [
        ((5,), 7, 3),
        ((1,), 7, 3),
        ((2, 3, 4), 6, 1),
        ((4, 3), 1, 5),
        ((300,), 8, 20),
        ((300,), 20, 8),
        ((), 4, 2),
    ],
)
def test_outputs_and_gradients_are_torch_s(
    shape: tuple[int, ...], width_in: int, width_out: int, bias: bool
) -> None:
    plain = nn.Linear(width_in, width_out, bias)
    ours = through_onednn(copy.deepcopy(plain))
    x, weight = torch.randn(*shape, width_in), torch.randn(*shape, width_out)
    for value, expected in zip(gradients(ours, x, weight), gradients(plain, x, weight), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


def test_inputs_need_not_lie_side_by_side_and_gradients_may_be_one_number() -> None:
    ours = Linear(6, 4)
    plain = nn.Linear(6, 4)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(6, 5, 3).permute(1, 2, 0)
    for layer in (ours, plain):
        layer(x).mean().backward()
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)
    torch.testing.assert_close(ours.bias.grad, plain.bias.grad)


def test_only_the_input_may_need_a_gradient() -> None:
    layer = Linear(3, 2).requires_grad_(False)
    x = torch.randn(4, 3, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(4, 3))


@needs_onednn
def test_float32_in_training_goes_through_onednn_and_all_else_as_before() -> None:
    layer, x = Linear(8, 4), torch.randn(16, 8)
    pointwise = "mkldnn::_linear_pointwise"
    assert pointwise in operations(lambda: layer(x).sum().backward())
    with torch.no_grad():
        assert pointwise not in operations(lambda: layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert pointwise not in operations(lambda: layer(x))
    assert pointwise not in operations(lambda: copy.deepcopy(layer).double()(x.double()))


def test_on_intel_all_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldjepa.linear._intel", lambda: True)
    layer, x = Linear(8, 4), torch.randn(16, 8)
    assert "mkldnn::_linear_pointwise" not in operations(lambda: layer(x).sum().backward())


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    (first,) = torch.autograd.grad(Linear(3, 2)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_gradients_in_float64_are_right() -> None:
    layer = Linear(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w, b: nn.functional.linear(x, w, b), (x, layer.weight, layer.bias)
    )
    assert torch.autograd.gradcheck(layer, (x,))


# A model whose every linear layer and attention is one of these

SMALL = ["env.image_size=32", "model.encoder.name=test_vit", "model.encoder.patch_size=16", "model.latent=24",
         "model.predictor.dropout=0"]  # fmt: skip


def model_and_batch() -> tuple[WorldModel, dict[str, Tensor]]:
    model = WorldModel(load_config("smoke", SMALL), action_dim=2).train()
    frames = torch.randint(0, 256, (6, 4, 32, 32, 3), dtype=torch.uint8)
    return model, {"pixels": frames, "action": torch.randn(6, 3, 10)}


def test_a_model_has_no_other_linear_layers_and_its_loss_is_torch_s() -> None:
    model, batch = model_and_batch()
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if type(module) is Linear:
            module.__class__ = nn.Linear
    assert nn.Linear not in {type(module) for module in model.modules()}
    losses = [m.loss(batch)["loss"] for m in (model, plain)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0)
    for loss in losses:
        loss.backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        if ours.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_attention_is_fused_but_in_half_precision_on_a_cpu() -> None:
    model, batch = model_and_batch()

    def fused() -> bool:
        return any("scaled_dot_product" in name for name in operations(lambda: model.encode(batch["pixels"])))

    assert fused()
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused()
    assert fused()


def test_attention_one_by_one_is_attention() -> None:
    model = model_and_batch()[0].eval()
    images = torch.randn(3, 3, 32, 32)
    fuse_attention(model.encoder.backbone, True)
    expected = model.encoder.backbone(images)
    fuse_attention(model.encoder.backbone, False)
    torch.testing.assert_close(model.encoder.backbone(images), expected, rtol=1e-5, atol=1e-5)
