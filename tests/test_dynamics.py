"""Latent dynamics: what was seen and done, lined up as the world model wants it, and plans scored on it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from worldjepa.planning.costs import closest, last, mean
from worldjepa.planning.dynamics import LatentDynamics
from worldjepa.recipes import load_config
from worldjepa.world_model import WorldModel

EPISODES, SAMPLES, HORIZON, BLOCK, CONTEXT = 3, 5, 4, 10, 3


@pytest.fixture(scope="module")
def model() -> WorldModel:
    """The smoke recipe's model, in which frames, actions and the order of both matter."""
    torch.manual_seed(0)
    model = WorldModel(load_config("smoke"), action_dim=2)
    with torch.no_grad():
        for parameter in model.predictor.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    for _ in range(30):
        model.encode(torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8))
    return model.eval()


def frames(rng: np.random.Generator, count: int = EPISODES) -> np.ndarray:
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8)


def act_randomly(dynamics: LatentDynamics, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
    """See `steps` frames, with an action block after each but the last; both, (E, steps, ...) each."""
    seen, blocks = [], [torch.empty(EPISODES, 0, BLOCK)]
    for step in range(steps):
        seen.append(frames(rng))
        dynamics.observe(seen[-1], None)
        if step + 1 < steps:
            blocks.append(torch.randn(EPISODES, 1, BLOCK))
            dynamics.acted(blocks[-1][:, 0])
    return np.stack(seen, 1), torch.cat(blocks, 1)


def distances_by_hand(
    model: WorldModel, goal: np.ndarray, seen: np.ndarray, blocks: Tensor, plan: Tensor
) -> Tensor:
    """Of one episode and one plan: encode all that was seen, predict block by block, measure; (H,)."""
    latents = list(model.encode(torch.from_numpy(seen)))
    done = [*blocks]
    target = model.encode(torch.from_numpy(goal)[None])[0]
    result = []
    for action in plan:
        done.append(action)
        assert len(done) == len(latents)
        window = slice(-CONTEXT, None)
        ahead = model.predict(torch.stack(latents[window])[None], torch.stack(done[window])[None])[0, -1]
        latents.append(ahead)
        result.append(((ahead - target) ** 2).mean())
    return torch.stack(result)


@torch.no_grad()
@pytest.mark.parametrize("steps", range(1, CONTEXT + 3))
@pytest.mark.parametrize("cost", [closest, last])
def test_costs_equal_a_rollout_by_hand(model: WorldModel, steps: int, cost) -> None:
    rng = np.random.default_rng(steps)
    dynamics = LatentDynamics(model, cost, torch.device("cpu"))
    goals = frames(rng)
    dynamics.reset(goals, None)
    seen, blocks = act_randomly(dynamics, steps, rng)
    plans = torch.randn(EPISODES, SAMPLES, HORIZON, BLOCK)
    costs = dynamics.cost(plans)
    assert costs.shape == (EPISODES, SAMPLES)
    for e in range(EPISODES):
        for s in range(SAMPLES):
            by_hand = distances_by_hand(model, goals[e], seen[e], blocks[e], plans[e, s])
            torch.testing.assert_close(costs[e, s], cost(by_hand), rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("steps", range(2, CONTEXT + 3))
def test_the_order_of_past_actions_matters(model: WorldModel, steps: int) -> None:
    """Or the test above could not tell a wrong alignment."""
    rng = np.random.default_rng(steps)
    goal, seen = frames(rng)[0], frames(rng, steps)
    blocks, plan = torch.randn(steps - 1, BLOCK), torch.randn(HORIZON, BLOCK)
    right = distances_by_hand(model, goal, seen, blocks, plan)
    shifted = distances_by_hand(model, goal, seen, blocks.roll(1, 0) + (steps == 2), plan)
    assert (right - shifted).abs().max() > 1e-3 * right.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2, CONTEXT + 2])
def test_what_is_kept_goes_on_as_before(model: WorldModel, steps: int) -> None:
    rng = np.random.default_rng(0)
    dynamics = LatentDynamics(model, closest, torch.device("cpu"))
    dynamics.reset(frames(rng), None)
    act_randomly(dynamics, steps, rng)
    plans = torch.randn(EPISODES, SAMPLES, HORIZON, BLOCK)
    before = dynamics.cost(plans)
    mask = np.array([True, False, True])
    dynamics.keep(mask)
    torch.testing.assert_close(dynamics.cost(plans[mask]), before[mask])


@torch.no_grad()
def test_a_reset_forgets(model: WorldModel) -> None:
    rng = np.random.default_rng(0)
    used, new = (LatentDynamics(model, closest, torch.device("cpu")) for _ in range(2))
    used.reset(frames(rng), None)
    act_randomly(used, 5, rng)
    goals, now = frames(rng), frames(rng)
    plans = torch.randn(EPISODES, SAMPLES, HORIZON, BLOCK)
    costs = []
    for dynamics in (used, new):
        dynamics.reset(goals, None)
        dynamics.observe(now, None)
        costs.append(dynamics.cost(plans))
    assert torch.equal(*costs)


def test_each_frame_is_encoded_once() -> None:
    class Counting:
        """A world model that counts; its latent is the first pixel."""

        context, latent, encoded = CONTEXT, 1, 0

        def encode(self, pixels: Tensor) -> Tensor:
            self.encoded += len(pixels)
            return pixels[:, 0, 0, :1].float()

        def rollout(self, z: Tensor, past: Tensor, actions: Tensor) -> Tensor:
            assert z.shape[1] == past.shape[1] + 1 <= self.context
            return z[:, -1:, None] + actions.cumsum(2)[..., :1]

    model = Counting()
    dynamics = LatentDynamics(model, last, torch.device("cpu"))
    rng = np.random.default_rng(0)
    dynamics.reset(frames(rng), None)
    for _ in range(7):
        dynamics.observe(frames(rng), None)
        dynamics.cost(torch.zeros(EPISODES, SAMPLES, HORIZON, BLOCK))
        dynamics.acted(torch.zeros(EPISODES, BLOCK))
    assert model.encoded == EPISODES * (1 + 7)


def test_costs_have_gradients_where_plans_ask_for_them(model: WorldModel) -> None:
    """Equal to differences of costs, and the costs to those without gradients."""
    rng = np.random.default_rng(0)
    dynamics = LatentDynamics(model, mean, torch.device("cpu"))
    dynamics.reset(frames(rng), None)
    act_randomly(dynamics, CONTEXT + 1, rng)
    plans = torch.randn(EPISODES, SAMPLES, HORIZON, BLOCK)
    plain = dynamics.cost(plans)
    assert not plain.requires_grad
    with torch.no_grad():
        costs = dynamics.cost(plans.clone().requires_grad_())
    torch.testing.assert_close(costs, plain)
    asking = plans.clone().requires_grad_()
    (slope,) = torch.autograd.grad(dynamics.cost(asking).sum(), asking)
    direction = torch.randn_like(plans)
    ahead, behind = (dynamics.cost(plans + step * direction).double() for step in (0.01, -0.01))
    expected = (ahead - behind) / 0.02
    torch.testing.assert_close((slope * direction).sum((2, 3)).double(), expected, rtol=0.02, atol=2e-3)
    assert expected.abs().max() > 0.05, "or the comparison would say nothing"
    assert all(parameter.grad is None for parameter in model.parameters())


@torch.no_grad()
def test_of_several_goal_frames_the_nearest_counts(model: WorldModel) -> None:
    rng = np.random.default_rng(1)
    goals = np.stack([frames(rng) for _ in range(3)], 1)
    plans = torch.randn(EPISODES, SAMPLES, HORIZON, BLOCK)
    seen = frames(rng)

    def costs(goal: np.ndarray, cost=last) -> Tensor:
        dynamics = LatentDynamics(model, cost, torch.device("cpu"))
        dynamics.reset(goal, None)
        dynamics.observe(seen, None)
        return dynamics.cost(plans)

    each = torch.stack([costs(goals[:, g]) for g in range(3)])
    assert len(each.argmin(0).unique()) > 1, "not always the same one"
    torch.testing.assert_close(costs(goals), each.amin(0))
    assert torch.equal(costs(goals[:, :1]), each[0])
    # Over the horizon each block has its own nearest goal.
    assert (costs(goals, mean) <= torch.stack([costs(goals[:, g], mean) for g in range(3)]).amin(0)).all()


def test_many_candidates_are_rolled_out_in_parts(model: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    dynamics = LatentDynamics(model, closest, torch.device("cpu"))
    dynamics.reset(frames(rng), None)
    act_randomly(dynamics, 2, rng)
    plans = torch.randn(EPISODES, SAMPLES, HORIZON, BLOCK)
    together = dynamics.cost(plans)
    counted = []
    monkeypatch.setattr(
        model, "rollout", lambda *inputs: counted.append(1) or WorldModel.rollout(model, *inputs)
    )
    for at_once, parts in ((2 * SAMPLES, 2), (1, EPISODES)):
        monkeypatch.setattr("worldjepa.planning.dynamics.AT_ONCE", at_once)
        counted.clear()
        torch.testing.assert_close(dynamics.cost(plans), together)
        assert len(counted) == parts


@torch.no_grad()
def test_a_metric_measures_the_mapped_difference(model: WorldModel) -> None:
    rng = np.random.default_rng(4)
    metric = torch.randn(model.latent, model.latent)
    metric = metric + metric.T
    plain, mapped = (LatentDynamics(model, mean, torch.device("cpu"), w) for w in (None, metric))
    goals, seen = frames(rng), frames(rng)
    plans = torch.randn(EPISODES, SAMPLES, HORIZON, BLOCK)
    for dynamics in (plain, mapped):
        dynamics.reset(goals, None)
        dynamics.observe(seen, None)
    ahead = model.rollout(plain.seen, plans.new_empty(EPISODES, 0, BLOCK), plans)
    goal = model.encode(torch.from_numpy(goals))[:, None, None]
    expected = torch.einsum("eshd,dc->eshc", ahead - goal, metric).square().mean((2, 3))
    torch.testing.assert_close(mapped.cost(plans), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain.cost(plans), expected, rtol=0.01)
