"""The predictor: causal to the bit, the identity when new, conditioned on standardised action blocks."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from worldjepa.model_config import PredictorConfig
from worldjepa.predictor import ActionEncoder, Block, Predictor

CONTEXT, LATENT = 4, 6
SMALL = PredictorConfig(depth=2, width=8, heads=2, head_width=4, mlp_width=16)


def opened(module: nn.Module) -> nn.Module:
    """Gates and all else moved away from their initial values, so that every path carries something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def predictor(config: PredictorConfig = SMALL, latent: int = LATENT) -> Predictor:
    torch.manual_seed(0)
    return opened(Predictor(config, latent, CONTEXT, projector_hidden=12))


def with_positions(positions: str, **sizes: Any) -> PredictorConfig:
    return dataclasses.replace(SMALL, positions=positions, **sizes)


each_position = pytest.mark.parametrize("positions", ["relative", "learnt"])


def inputs(batch: int = 3, tokens: int = CONTEXT) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, tokens, LATENT, generator=generator), torch.randn(
        batch, tokens, 8, generator=generator
    )


def test_action_encoder_standardises_each_action_of_a_block() -> None:
    encoder = ActionEncoder(action_dim=2, frameskip=3, width=5)
    encoder.mean.copy_(torch.tensor([1.0, -2.0]))
    encoder.std.copy_(torch.tensor([0.5, 4.0]))
    blocks = torch.randn(7, 4, 6)
    standard = torch.stack(
        [(blocks[..., i] - encoder.mean[i % 2]) / encoder.std[i % 2] for i in range(6)], -1
    )
    torch.testing.assert_close(encoder(blocks), encoder.mlp(standard))


@pytest.mark.parametrize("training", [False, True])
def test_a_new_block_is_the_identity(training: bool) -> None:
    block = Block(SMALL, CONTEXT).train(training)
    x, condition = torch.randn(2, CONTEXT, 8), torch.randn(2, CONTEXT, 8)
    assert torch.equal(block(x, block.modulate(condition))[0], x)
    opened(block)
    assert not torch.allclose(block(x, block.modulate(condition))[0], x, atol=1e-2)


def test_a_new_block_learns_through_its_gates() -> None:
    block = Block(SMALL, CONTEXT)
    tokens, _ = block(torch.randn(2, CONTEXT, 8), block.modulate(torch.randn(2, CONTEXT, 8)))
    tokens.square().sum().backward()
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation.weight.grad.chunk(6)
    assert all(gate.abs().max() > 0 for gate in (gate1, gate2))
    assert all(other.abs().max() == 0 for other in (shift1, scale1, shift2, scale2))


@pytest.mark.parametrize("projector", [False, True])
def test_a_new_predictor_says_that_nothing_changes(projector: bool) -> None:
    config = dataclasses.replace(SMALL, projector=projector, residual=True)
    model, (z, condition) = Predictor(config, LATENT, CONTEXT, projector_hidden=12), inputs()
    assert torch.equal(model(z, condition), z)
    # It learns from there: the way out first, then what leads to it.
    model(z, condition).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in list(model.outward.parameters())[-2:])
    plain = Predictor(dataclasses.replace(config, residual=False), LATENT, CONTEXT, projector_hidden=12)
    assert not torch.allclose(plain(z, condition), z, atol=1e-2)


def test_what_is_added_is_what_a_plain_predictor_says() -> None:
    (z, condition), plain = inputs(), predictor()
    model = Predictor(dataclasses.replace(SMALL, residual=True), LATENT, CONTEXT, projector_hidden=12).eval()
    model.load_state_dict(plain.state_dict())
    torch.testing.assert_close(model(z, condition), z + plain(z, condition))


@pytest.mark.parametrize("which", ["latent", "condition"])
@pytest.mark.parametrize("position", range(CONTEXT))
def test_the_future_changes_no_bit_of_an_earlier_output(which: str, position: int) -> None:
    model, (z, condition) = predictor(), inputs()
    before = model(z, condition)
    changed = z.clone(), condition.clone()
    changed[0 if which == "latent" else 1][:, position] += 3
    after = model(*changed)
    assert torch.equal(after[:, :position], before[:, :position])
    # From there on every output sees the change.
    assert ((after - before)[:, position:].abs().amax((0, 2)) > 1e-4).all()


def test_every_output_sees_its_whole_past_and_nothing_else() -> None:
    model, (z, condition) = predictor().double(), inputs(batch=1)
    for argument, jacobian in enumerate(
        torch.autograd.functional.jacobian(model, (z.double(), condition.double()))
    ):
        # (1, T, D, 1, T', D') to the largest entry for each pair of times.
        influence = jacobian[0, :, :, 0].abs().amax((1, 3))
        assert influence.shape == (CONTEXT, CONTEXT)
        assert (influence.triu(1) == 0).all(), f"argument {argument} leaks"
        assert (influence[torch.ones(CONTEXT, CONTEXT).tril().bool()] > 1e-6).all(), (
            f"argument {argument} is not seen"
        )


@pytest.mark.parametrize("tokens", range(1, CONTEXT + 1))
def test_a_shorter_past_gives_the_same_as_the_longer_one_cut(tokens: int) -> None:
    model, (z, condition) = predictor(), inputs()
    assert model(z[:, :tokens], condition[:, :tokens]).shape == (3, tokens, LATENT)
    torch.testing.assert_close(model(z[:, :tokens], condition[:, :tokens]), model(z, condition)[:, :tokens])


def test_samples_do_not_see_each_other() -> None:
    model, (z, condition) = predictor(), inputs()
    before = model(z, condition)
    z[1], condition[1] = 5, -5
    after = model(z, condition)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert not torch.allclose(after[1], before[1])


@each_position
def test_the_order_of_the_past_counts(positions: str) -> None:
    model, (z, condition) = predictor(with_positions(positions)), inputs()
    order = [1, 0, 2, 3]
    change = model(z[:, order], condition[:, order])[:, -1] - model(z, condition)[:, -1]
    assert change.abs().amax(-1).min() > 1e-3


def test_relative_positions_count_from_each_token_back() -> None:
    model = predictor(with_positions("relative", depth=1))
    z, condition = inputs(tokens=3 * CONTEXT)
    longer = model(z, condition)
    for t in range(CONTEXT - 1, 3 * CONTEXT):
        # One block looks back over the context, wherever in a sequence that is, and no further.
        window = slice(t - CONTEXT + 1, t + 1)
        torch.testing.assert_close(longer[:, t], model(z[:, window], condition[:, window])[:, -1])


@each_position
@pytest.mark.parametrize("also", ["", "inner_norms", "residual"])
@pytest.mark.parametrize("seen", range(1, CONTEXT + 1))
@pytest.mark.parametrize("horizon", [1, 3, 2 * CONTEXT])
def test_a_rollout_is_the_predictor_on_what_was_seen_and_imagined(
    positions: str, also: str, seen: int, horizon: int
) -> None:
    # In float64, since rounding grows from step to step.
    model, samples = predictor(with_positions(positions, **({also: True} if also else {}))).double(), 2
    z, past = (x.double() for x in inputs(tokens=seen))
    past, plans = past[:, 1:], torch.randn(3, samples, horizon, 8, dtype=torch.float64)
    imagined = model.rollout(z, past, plans)
    assert imagined.shape == (3, samples, horizon, LATENT)
    for sample in range(samples):
        latents, condition = z, torch.cat([past, plans[:, sample]], 1)
        for last in range(seen, seen + horizon):
            # Learnt positions are those of a window's places, so it starts where they start.
            first = max(0, last - CONTEXT) if positions == "learnt" else 0
            ahead = model(latents[:, first:last], condition[:, first:last])[:, -1:]
            latents = torch.cat([latents, ahead], 1)
        torch.testing.assert_close(imagined[:, sample], latents[:, seen:])


def test_a_rollout_computes_every_token_once() -> None:
    model, counted = predictor(), []
    model.blocks[0].mlp.register_forward_hook(lambda module, inputs, output: counted.append(inputs[0]))
    z, past = inputs(batch=2)
    model.rollout(z, past[:, 1:], torch.randn(2, 5, 6, 8))
    # What was seen before the present, once for all five plans; then each plan's six steps.
    assert sum(tokens.shape[0] * tokens.shape[1] for tokens in counted) == 2 * (CONTEXT - 1) + 2 * 5 * 6


def test_inner_norms_make_attention_and_mlp_blind_to_the_scale_of_their_inputs() -> None:
    block = opened(Block(with_positions("relative", inner_norms=True), CONTEXT))
    x, modulation = torch.randn(2, CONTEXT, 8), torch.randn(2, CONTEXT, 48)
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, -1)
    larger = torch.cat([3 * shift1, 3 * scale1 + 2, gate1, 3 * shift2, 3 * scale2 + 2, gate2], -1)
    torch.testing.assert_close(block(x, larger)[0], block(x, modulation)[0], rtol=1e-4, atol=1e-4)
    plain = opened(Block(SMALL, CONTEXT))
    assert not torch.allclose(plain(x, larger)[0], plain(x, modulation)[0], atol=0.1)


@each_position
def test_gradients_reach_the_plans(positions: str) -> None:
    model, (z, past) = predictor(with_positions(positions)).double(), inputs(batch=1, tokens=2)
    z, past = z.double(), past[:, 1:].double()
    plans = torch.randn(1, 1, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda plans: model.rollout(z, past, plans), plans)


@pytest.mark.parametrize(
    ("config", "latent"),
    [
        (PredictorConfig(depth=1, width=8, heads=3, head_width=2, mlp_width=4, projector=True), LATENT),
        (SMALL, 8),
    ],
)
def test_other_shapes(config: PredictorConfig, latent: int) -> None:
    model = predictor(config, latent)
    z, condition = torch.randn(2, CONTEXT, latent), torch.randn(2, CONTEXT, config.width)
    assert model(z, condition).shape == (2, CONTEXT, latent)
    assert any(isinstance(m, nn.BatchNorm1d) for m in model.outward.modules()) == config.projector


def test_dropout_acts_in_training_alone() -> None:
    model, (z, condition) = predictor(PredictorConfig(**{**vars(SMALL), "dropout": 0.5})), inputs()
    assert torch.equal(model(z, condition), model(z, condition))
    model.train()
    assert not torch.equal(model(z, condition), model(z, condition))
