"""The world model: frames, latents and actions in step; the loss and its gradients; learning, no collapse."""

from pathlib import Path

import numpy as np
import pytest
import torch
from moving_dot import dot_windows, write_dots
from torch import Tensor

from worldjepa.errors import UserError
from worldjepa.evaluation.geometry import rank_me, spread
from worldjepa.recipes import load_config
from worldjepa.world_model import WorldModel

BATCH, CONTEXT, LATENT, BLOCK = 4, 3, 16, 10  # of the smoke recipe: context 3, 5 actions of 2 numbers


def build(*overrides: str) -> WorldModel:
    """The smoke recipe's model in evaluation mode, its gates opened so that every path carries something."""
    torch.manual_seed(0)
    model = WorldModel(load_config("smoke", overrides), action_dim=2)
    with torch.no_grad():
        for parameter in model.predictor.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    # Running statistics of BatchNorm as after a while, or latents of random frames would hardly differ.
    for _ in range(30):
        model.encode(frames(8))
    return model.eval()


def frames(*axes: int, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (*axes, size, size, 3), dtype=torch.uint8)


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return build()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return {"pixels": frames(BATCH, CONTEXT + 1), "action": torch.randn(BATCH, CONTEXT, BLOCK)}


# Encode


@pytest.mark.parametrize("axes", [(), (5,), (2, 3), (2, 1, 3), (1, 1)])
def test_encode_takes_any_leading_axes(model: WorldModel, axes: tuple[int, ...]) -> None:
    pixels = frames(*axes)
    z = model.encode(pixels)
    assert z.shape == (*axes, LATENT)
    one_by_one = [model.encode(frame[None])[0] for frame in pixels.reshape(-1, 32, 32, 3)]
    torch.testing.assert_close(z.reshape(-1, LATENT), torch.stack(one_by_one))


@pytest.mark.parametrize(
    "bad",
    [
        frames(2, size=48),
        frames(2).float(),
        frames(2).permute(0, 3, 1, 2),
        frames(2)[..., :1],
        frames(2, size=32)[0, 0],
    ],
    ids=["size", "dtype", "channels first", "grey", "no frame"],
)
def test_encode_refuses_other_frames(model: WorldModel, bad: Tensor) -> None:
    with pytest.raises(UserError, match=r"encode: frames are .* not uint8 \(\.\.\., 32, 32, 3\)"):
        model.encode(bad)


# Predict


@pytest.mark.parametrize("position", range(CONTEXT))
def test_predict_sees_no_future(model: WorldModel, position: int) -> None:
    z, actions = torch.randn(BATCH, CONTEXT, LATENT), torch.randn(BATCH, CONTEXT, BLOCK)
    before = model.predict(z, actions)
    assert before.shape == (BATCH, CONTEXT, LATENT)
    for changed in (z, actions):
        kept = changed.clone()
        changed[:, position] += 2
        after = model.predict(z, actions)
        assert torch.equal(after[:, :position], before[:, :position])
        assert ((after - before)[:, position:].abs().amax((0, 2)) > 1e-4).all()
        changed.copy_(kept)


def test_a_future_frame_changes_no_earlier_prediction(model: WorldModel, batch: dict[str, Tensor]) -> None:
    def predictions(pixels: Tensor) -> Tensor:
        return model.predict(model.encode(pixels)[:, :-1], batch["action"])

    before = predictions(batch["pixels"])
    changed = batch["pixels"].clone()
    changed[:, 1] = 255 - changed[:, 1]
    after = predictions(changed)
    assert torch.equal(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1], before[:, 1])


def test_actions_are_taken_in_the_units_of_the_environment() -> None:
    ours, plain = build(), build()
    mean, std = np.array([0.5, -1.0], np.float32), np.array([2.0, 0.25], np.float32)
    ours.set_action_statistics(mean, std)
    z, actions = torch.randn(BATCH, CONTEXT, LATENT), torch.randn(BATCH, CONTEXT, BLOCK)
    standard = (actions - torch.from_numpy(np.tile(mean, 5))) / torch.from_numpy(np.tile(std, 5))
    torch.testing.assert_close(ours.predict(z, actions), plain.predict(z, standard))
    assert not torch.allclose(ours.predict(z, actions), plain.predict(z, actions), atol=1e-2)


def test_action_statistics_are_saved_with_the_weights() -> None:
    ours, other = build(), build()
    ours.set_action_statistics(np.array([0.5, -1.0]), np.array([2.0, 0.25]))
    other.load_state_dict(ours.state_dict())
    assert other.action_encoder.mean.tolist() == [0.5, -1.0]
    assert other.action_encoder.std.tolist() == [2.0, 0.25]


# Rollout


def by_hand(model: WorldModel, z: Tensor, past: Tensor, actions: Tensor) -> Tensor:
    """A rollout as one would explain it: block i leads on from latent i; predict from all that the last C
    latents began, or, where positions are learnt, from the last C."""
    learnt, first = model.predictor.position is not None, max(0, z.shape[1] - model.context)
    latents, blocks = list(z.unbind(1)), list(past.unbind(1))
    for action in actions.unbind(1):
        blocks.append(action)
        assert len(latents) == len(blocks)
        window = slice(-model.context if learnt else first, None)
        condition = model.action_encoder(torch.stack(blocks[window], 1))
        latents.append(model.predictor(torch.stack(latents[window], 1), condition)[:, -1])
    return torch.stack(latents[z.shape[1] :], 1)


@pytest.mark.parametrize("positions", ["relative", "learnt"])
@pytest.mark.parametrize("seen", range(1, CONTEXT + 3))
@pytest.mark.parametrize("horizon", [1, 2, CONTEXT + 4])
def test_rollout_equals_a_loop_written_by_hand(positions: str, seen: int, horizon: int) -> None:
    model = build(f"model.predictor.positions={positions}", "model.predictor.depth=2")
    z, past = torch.randn(BATCH, seen, LATENT), torch.randn(BATCH, seen - 1, BLOCK)
    actions = torch.randn(BATCH, horizon, BLOCK)
    imagined = model.rollout(z, past, actions)
    assert imagined.shape == (BATCH, horizon, LATENT)
    torch.testing.assert_close(imagined, by_hand(model, z, past, actions))
    plans = torch.stack([actions, actions.flip(0)], 1)
    several = model.rollout(z, past, plans)
    torch.testing.assert_close(several[:, 0], imagined)
    torch.testing.assert_close(several[:, 1], by_hand(model, z, past, plans[:, 1]))


def test_a_rollout_in_bfloat16_is_nearly_the_same_and_keeps_the_latents_dtype() -> None:
    model = build()
    z, past, plans = torch.randn(4, 2, LATENT), torch.randn(4, 1, BLOCK), torch.randn(4, 3, 5, BLOCK)
    exact = model.rollout(z, past, plans)
    model.predictor.bfloat16()
    rounded = model.rollout(z, past, plans)
    assert rounded.dtype == exact.dtype == torch.float32
    assert 0 < (rounded - exact).square().mean() < 1e-3 * exact.var()


@pytest.mark.parametrize("seen", range(1, CONTEXT + 1))
def test_a_rollout_of_one_step_is_predict(model: WorldModel, seen: int) -> None:
    z, blocks = torch.randn(BATCH, seen, LATENT), torch.randn(BATCH, seen, BLOCK)
    imagined = model.rollout(z, blocks[:, :-1], blocks[:, -1:])
    torch.testing.assert_close(imagined, model.predict(z, blocks)[:, -1:])


@pytest.mark.parametrize("block", range(5))
def test_an_action_changes_the_imagined_future_and_not_what_comes_before_it(
    model: WorldModel, block: int
) -> None:
    z, past, actions = (
        torch.randn(BATCH, 2, LATENT),
        torch.randn(BATCH, 1, BLOCK),
        torch.randn(BATCH, 5, BLOCK),
    )
    before = model.rollout(z, past, actions)
    actions[:, block] += 2
    after = model.rollout(z, past, actions)
    assert torch.equal(after[:, :block], before[:, :block])
    assert ((after - before)[:, block:].abs().amax((0, 2)) > 1e-4).all()


def test_samples_do_not_see_each_other(model: WorldModel, batch: dict[str, Tensor]) -> None:
    def everything() -> list[Tensor]:
        z = model.encode(batch["pixels"])
        past, actions = batch["action"][:, :1], batch["action"][:, 1:]
        return [z, model.predict(z[:, :-1], batch["action"]), model.rollout(z[:, :2], past, actions)]

    before = everything()
    batch["pixels"][1], batch["action"][1] = 0, 7
    for one, other in zip(before, everything(), strict=True):
        assert torch.equal(one[[0, 2, 3]], other[[0, 2, 3]])
        assert not torch.allclose(one[1], other[1])


# Loss


def epps_pulley_by_hand(x: np.ndarray, t_max: float, knots: int) -> float:
    """N ∫ |φ_N(t) - exp(-t²/2)|² exp(-t²/2) dt over [-t_max, t_max], with complex numbers."""
    t = np.linspace(-t_max, t_max, 2 * knots - 1)
    error = np.abs(np.exp(1j * np.outer(x, t)).mean(0) - np.exp(-(t**2) / 2)) ** 2
    return len(x) * float(np.trapezoid(error * np.exp(-(t**2) / 2), t))


def test_loss_equals_its_parts_written_out(batch: dict[str, Tensor]) -> None:
    model = build("model.predictor.dropout=0", "model.sigreg.weight=0.3", "model.sigreg.num_slices=5").train()
    directions = model.sigreg.directions(LATENT, torch.device("cpu"), torch.float32)
    losses = model.loss(batch)
    # In training mode too, the same frames give the same latents: BatchNorm's statistics are the batch's.
    z = model.encode(batch["pixels"])
    predicted = model.predict(z[:, :CONTEXT], batch["action"])
    errors = [((predicted[b, t] - z[b, t + 1]) ** 2).mean() for b in range(BATCH) for t in range(CONTEXT)]
    statistics = [
        epps_pulley_by_hand((z[:, t] @ directions[:, k]).detach().double().numpy(), 3.0, 17)
        for t in range(CONTEXT + 1)
        for k in range(5)
    ]
    # SIGReg's default: a reference batch of 128 in place of N.
    sigreg = torch.tensor(128 / BATCH * np.mean(statistics), dtype=torch.float32)
    prediction = torch.stack(errors).mean()
    torch.testing.assert_close(losses["prediction"], prediction)
    torch.testing.assert_close(losses["sigreg"], sigreg, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses["loss"], prediction + 0.3 * sigreg, rtol=1e-5, atol=1e-5)
    assert losses.keys() == {"loss", "prediction", "sigreg"}


@pytest.mark.parametrize("projector", ["true", "false"])
def test_gradients_reach_every_parameter(batch: dict[str, Tensor], projector: str) -> None:
    model = build(f"model.predictor.projector={projector}").train()
    model.loss(batch)["loss"].backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # BatchNorm, in the projector, would take this bias off again: it is not trained.
    assert idle == ({"predictor.norm.bias"} if projector == "true" else set())
    assert idle == {name for name, p in model.named_parameters() if not p.requires_grad}
    rooms = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert rooms == {"encoder", "projector", "action_encoder", "predictor"}


def test_there_is_no_stop_gradient(batch: dict[str, Tensor]) -> None:
    model = build("model.predictor.dropout=0", "model.sigreg.weight=0").train()

    def gradient(loss) -> Tensor:
        model.zero_grad()
        loss().backward()
        return torch.cat([p.grad.flatten().clone() for p in model.encoder.parameters()])

    def prediction(detach: str) -> Tensor:
        z = model.encode(batch["pixels"])
        present, target = z[:, :-1], z[:, 1:]
        present, target = (present.detach(), target) if detach == "present" else (present, target.detach())
        return (model.predict(present, batch["action"]) - target).square().mean()

    whole = gradient(lambda: model.loss(batch)["loss"])
    without_target = gradient(lambda: prediction(detach="target"))
    by_target_alone = gradient(lambda: prediction(detach="present"))
    assert by_target_alone.norm() > 0.1 * whole.norm()
    assert (whole - without_target).norm() > 0.1 * whole.norm()
    torch.testing.assert_close(
        whole, without_target + by_target_alone, rtol=1e-3, atol=1e-5 * float(whole.abs().max())
    )


# Learning


def train_on_dots(folder: Path, weight: float) -> tuple[list[float], Tensor]:
    """60 steps on a moving dot: the losses, and latents (N, T, D) of what it saw."""
    windows = dot_windows(folder, frames=4, frameskip=2)
    model = WorldModel(
        load_config("smoke", ["data.frameskip=2", f"model.sigreg.weight={weight}"]), action_dim=2
    )
    model.set_action_statistics(*windows.action_statistics())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batches, losses = windows.batches(64, seed=0), []
    for _ in range(60):
        loss = model.loss(next(batches))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        return losses, model.eval().encode(windows.batch(np.arange(0, len(windows), 5))["pixels"])


def test_it_learns_and_sigreg_alone_keeps_it_from_collapse(tmp_path: Path) -> None:
    folder = write_dots(tmp_path, episodes=20)
    losses, z = train_on_dots(folder, weight=0.1)
    assert np.mean(losses[-5:]) < 0.4 * losses[0]
    smallest, mean = spread(z.flatten(0, 1))
    assert smallest > 0.2
    assert mean > 0.6
    assert rank_me(z.flatten(0, 1)) > LATENT / 3
    losses, z = train_on_dots(folder, weight=0.0)
    assert np.mean(losses[-5:]) < 0.02 * losses[0], (
        "without SIGReg the prediction error is made small by shrinking"
    )
    assert spread(z.flatten(0, 1))[1] < 0.1


def test_wrong_lengths_are_refused(model: WorldModel) -> None:
    context, block = model.context, model.frameskip * model.action_dim
    with pytest.raises(ValueError, match=f"takes 1 to {context} latents"):
        model.predict(torch.zeros(1, context + 1, model.latent), torch.zeros(1, context + 1, block))
    with pytest.raises(ValueError, match="not 2 and 1"):
        model.predict(torch.zeros(1, 2, model.latent), torch.zeros(1, 1, block))
    with pytest.raises(ValueError, match="2 latents have 1 action blocks between them, not 2"):
        model.rollout(torch.zeros(1, 2, model.latent), torch.zeros(1, 2, block), torch.zeros(1, 3, block))
