"""Packed linear layers: the same outputs as those they stand for, wherever they stand."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from worldjepa.model_config import PredictorConfig
from worldjepa.planning.packed import PackedLinear, pack
from worldjepa.predictor import Predictor

CONTEXT, LATENT = 3, 6
SIZES = {"depth": 2, "width": 16, "heads": 2, "head_width": 8, "mlp_width": 24}


def predictor(**options: object) -> Predictor:
    """In evaluation mode, with no two weights alike, BatchNorm's statistics included."""
    model = Predictor(PredictorConfig(**SIZES, **options), LATENT, CONTEXT, projector_hidden=12)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.add_(0.3 * torch.rand_like(value))
    return model.eval()


@pytest.mark.parametrize("positions", ["relative", "learnt"])
@pytest.mark.parametrize("projector", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_a_packed_predictor_rolls_out_the_same(
    positions: str, projector: bool, dtype: torch.dtype, tolerance: float
) -> None:
    model = predictor(positions=positions, projector=projector).to(dtype)
    packed = copy.deepcopy(model)
    pack(packed)
    inputs = torch.randn(4, 2, LATENT), torch.randn(4, 1, 16), torch.randn(4, 9, 5, 16)
    inputs = tuple(x.to(dtype) for x in inputs)
    with torch.inference_mode():
        ahead, expected = packed.rollout(*inputs), model.rollout(*inputs)
    assert ahead.dtype == dtype
    assert (ahead - expected).abs().max() <= tolerance * expected.abs().max()


def test_every_linear_layer_is_packed_and_what_is_done_on_the_way_is_gone() -> None:
    model = predictor(projector=True)
    pack(model)
    kinds = [type(module) for module in model.modules()]
    # Query, keys and values, output, modulation, and two of the MLP in each block; three beside them.
    assert kinds.count(PackedLinear) == 2 * 6 + 3
    assert not {nn.Linear, nn.GELU, nn.BatchNorm1d, nn.Dropout} & set(kinds)


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        ([nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)], [PackedLinear, PackedLinear]),
        ([nn.Linear(4, 5), nn.GELU("tanh")], [PackedLinear, nn.GELU]),
        ([nn.Linear(4, 5, bias=False), nn.SiLU()], [PackedLinear, nn.SiLU]),
        ([nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU()], [PackedLinear, nn.ReLU]),
        ([nn.GELU(), nn.Linear(4, 5), nn.Dropout(0.5)], [nn.GELU, PackedLinear]),
    ],
)
def test_layers_in_a_row(layers: list[nn.Module], left: list[type]) -> None:
    module = nn.Sequential(nn.Sequential(*copy.deepcopy(layers))).eval()
    x = torch.randn(7, 4)
    expected = module(x)
    pack(module)
    assert [type(layer) for layer in module[0]] == left
    torch.testing.assert_close(module(x), expected)


def elsewhere() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Linear(4, 5, device="meta")))


def without_onednn(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    return nn.Sequential(nn.Sequential(nn.Linear(4, 5)))


@pytest.mark.parametrize("make", [lambda _: elsewhere(), without_onednn])
def test_where_it_can_not_be_nothing_changes(
    make: Callable[[pytest.MonkeyPatch], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make(monkeypatch)
    pack(module)
    assert [type(layer) for layer in module[0]] == [nn.Linear]
