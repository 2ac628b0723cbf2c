"""The rival losses: numpy's second opinion, closed forms, gradients, and the models trained with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from worldjepa import cli
from worldjepa.baselines import Averaged, covariance, direction_error, nt_xent, variance, view_pairs
from worldjepa.errors import UserError
from worldjepa.image_baselines import build_image_model
from worldjepa.image_jepa import ImageJEPA
from worldjepa.limits import OBJECTIVES
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.world_baselines import Doubling, FrameDecoder, build_world_model


def test_variance_and_covariance_are_those_of_numpy() -> None:
    z = torch.randn(3, 40, 5, dtype=torch.float64) * torch.tensor([0.2, 0.5, 1.0, 2.0, 0.9]).double()
    for part, v, c in zip(z.numpy(), variance(z), covariance(z), strict=True):
        matrix = np.cov(part, rowvar=False)
        np.testing.assert_allclose(v, np.maximum(0, 1 - np.sqrt(matrix.diagonal() + 1e-4)).mean())
        np.testing.assert_allclose(c, (matrix**2).sum() / 5 - (matrix.diagonal() ** 2).sum() / 5)


def test_variance_and_covariance_know_the_ends() -> None:
    # Collapsed: no spread at all, hence nothing that correlates. White: neither term is left.
    collapsed = torch.ones(50, 4, dtype=torch.float64)
    torch.testing.assert_close(variance(collapsed), torch.tensor(0.99).double())
    torch.testing.assert_close(covariance(collapsed), torch.zeros(()).double())
    white = torch.linalg.qr(torch.randn(50, 4, dtype=torch.float64) - 0.0)[0]
    white = torch.linalg.qr(white - white.mean(0))[0] * 7.0
    assert variance(white) < 1e-12
    torch.testing.assert_close(covariance(white), torch.zeros(()).double(), atol=1e-20, rtol=0)
    # Two equal dimensions of variance s² have the covariance s² twice: 2 s⁴ / D.
    one = torch.randn(50, 1, dtype=torch.float64)
    torch.testing.assert_close(covariance(one.expand(-1, 2)), one.var() ** 2)


def test_nt_xent_is_the_formula_of_the_paper_sample_by_sample() -> None:
    one, other, temperature = torch.randn(6, 3).double(), torch.randn(6, 3).double(), 0.3
    z = np.concatenate([one.numpy(), other.numpy()])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(12):
        logits = np.exp(z @ z[i] / temperature)
        losses.append(-np.log(logits[(i + 6) % 12] / (logits.sum() - logits[i])))
    np.testing.assert_allclose(nt_xent(one, other, temperature), np.mean(losses))
    # All alike: each of the 2N - 1 others is as likely.
    alike = torch.ones(6, 3)
    torch.testing.assert_close(nt_xent(alike, alike, 0.1), torch.tensor(np.log(11)).float())


def test_the_direction_error_is_the_distance_of_unit_vectors() -> None:
    x, y = torch.randn(4, 7).double(), torch.randn(4, 7).double()
    unit = nn.functional.normalize(x, dim=-1) - nn.functional.normalize(y, dim=-1)
    torch.testing.assert_close(direction_error(x, y), unit.square().sum(-1))


@pytest.mark.parametrize(
    "term",
    [
        variance,
        covariance,
        lambda z: nt_xent(z[:4], z[4:], 0.5),
        lambda z: direction_error(z[:4], z[4:]),
    ],
)
def test_the_terms_have_the_gradients_that_differences_say(term: object) -> None:
    z = (0.5 * torch.randn(8, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(term, (z,))  # type: ignore[arg-type]


def test_pairs_hold_a_global_view() -> None:
    assert view_pairs(2, 2) == [(0, 1)]
    assert view_pairs(4, 2) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)]


def test_an_averaged_copy_follows_and_has_no_gradient() -> None:
    module = nn.Linear(3, 2)
    copy = Averaged([module], 0.9)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight += 1
    copy.follow([module])
    torch.testing.assert_close(copy.copies[0].weight, before + 0.1)
    assert not copy(torch.randn(4, 3, requires_grad=True)).requires_grad
    assert next(module.parameters()).requires_grad


def image_model(objective: str) -> ImageJEPA:
    torch.manual_seed(1)
    return build_image_model(load_config("images_smoke", [f"model.objective={objective}"]), 10)


def image_batch() -> dict[str, Tensor]:
    return {
        "global": 255 * torch.rand(2, 12, 16, 16, 1),
        "local": 255 * torch.rand(2, 12, 16, 16, 1),
        "label": torch.arange(12) % 10,
    }


@pytest.mark.parametrize("objective", OBJECTIVES["images"])
def test_every_image_objective_teaches_encoder_and_projector(objective: str) -> None:
    model, batch = image_model(objective), image_batch()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(12):
        result = model.loss(batch)
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        losses.append(result["loss"].item())
    assert losses[-1] < losses[0]
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.requires_grad == (not name.startswith("teacher.")), name


def test_only_what_regularises_keeps_the_latents_from_collapsing() -> None:
    spreads = {}
    for objective in ("jepa", "none", "vicreg"):
        model, batch = image_model(objective), image_batch()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(40):
            optimizer.zero_grad()
            model.loss(batch)["loss"].backward()
            optimizer.step()
        spreads[objective] = model.embed_views([batch["global"]])[0].std(0).mean().item()
    assert spreads["none"] < 0.1 * min(spreads["jepa"], spreads["vicreg"]), spreads


def test_the_teacher_takes_part_in_the_centre_alone() -> None:
    model, batch = image_model("teacher").eval(), image_batch()
    z = model.embed_views([batch["global"], batch["local"]])
    # Still a copy: the centre is that of LeJEPA, only without gradient.
    plain, taught = ImageJEPA.objective(model, z, batch), model.objective(z, batch)
    torch.testing.assert_close(taught["invariance"], plain["invariance"])
    centre = z[:2].mean(0)
    gradient = torch.autograd.grad(taught["invariance"], z)[0]
    torch.testing.assert_close(gradient, 2 * (z - centre) / z.numel())


def test_byol_sums_up_each_view_against_the_other_global_ones() -> None:
    model, batch = image_model("byol").eval(), image_batch()
    z = model.embed_views([batch["global"], batch["local"]])
    p = nn.functional.normalize(model.predictor(z.flatten(0, 1)).view_as(z), dim=-1)
    t = nn.functional.normalize(z[:2], dim=-1)
    pairs = [(1, 0), (2, 0), (3, 0), (0, 1), (2, 1), (3, 1)]
    expected = sum((2 - 2 * (p[v] * t[g]).sum(-1)).mean() for v, g in pairs) / 6
    torch.testing.assert_close(model.objective(z, batch)["loss"], expected)


def test_vicreg_weighs_its_three_terms_as_published() -> None:
    model, batch = image_model("vicreg"), image_batch()
    z = torch.randn(2, 12, 16)
    result = model.objective(z, batch)
    published = (
        25 * (z[0] - z[1]).square().mean()
        + 25 * (variance(z[0]) + variance(z[1])) / 2
        + covariance(z[0])
        + covariance(z[1])
    )
    torch.testing.assert_close(result["loss"], published / 25)


def world_model(objective: str, *more: str) -> nn.Module:
    torch.manual_seed(1)
    return build_world_model(load_config("smoke", [f"model.objective={objective}", *more]), 2)


def world_batch(size: int) -> dict[str, Tensor]:
    k = load_config("smoke").data.frameskip
    context = load_config("smoke").data.context
    frames = torch.randint(0, 256, (6, context + 1, size, size, 3), dtype=torch.uint8)
    return {"pixels": frames, "action": torch.randn(6, context, 2 * k)}


@pytest.mark.parametrize("objective", OBJECTIVES["world_model"])
def test_every_world_objective_teaches_encoder_and_predictor(objective: str) -> None:
    model = world_model(objective)
    batch = world_batch(model.image_size)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(10):
        result = model.loss(batch)
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        losses.append(result["loss"].item())
    assert min(losses[-3:]) < losses[0]
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_pldm_has_the_terms_of_its_paper() -> None:
    model = world_model("pldm").eval()
    model.set_action_statistics(np.array([0.5, -1.0]), np.array([2.0, 3.0]))
    batch = world_batch(model.image_size)
    result, z, rival = model.loss(batch), model.encode(batch["pixels"]), model.rival
    torch.testing.assert_close(result["smoothness"], (z[:, 1:] - z[:, :-1]).square().mean())
    steps = [z[:, t] for t in range(z.shape[1])]
    torch.testing.assert_close(result["variance"], sum(variance(s) for s in steps) / len(steps))
    torch.testing.assert_close(result["covariance"], sum(covariance(s) for s in steps) / len(steps))
    guessed = model.inverse_dynamics(torch.cat([z[:, :-1], z[:, 1:]], -1))
    standardised = (batch["action"].unflatten(-1, (-1, 2)) - torch.tensor([0.5, -1.0])) / torch.tensor(
        [2.0, 3.0]
    )
    torch.testing.assert_close(result["inverse"], (guessed - standardised.flatten(-2)).square().mean())
    total = (
        result["prediction"]
        + rival.variance * result["variance"]
        + rival.covariance * result["covariance"]
        + rival.smoothness * result["smoothness"]
        + rival.inverse * result["inverse"]
    )
    torch.testing.assert_close(result["loss"], total)


def test_the_averaged_encoder_is_the_target_and_follows_once_a_step() -> None:
    model = world_model("ema", "model.rival.momentum=0.5")
    batch = world_batch(model.image_size)
    theirs, ours = model.teacher.copies[1][3].weight, model.projector[3].weight
    with torch.no_grad():
        ours += 1
    before, target = theirs.clone(), (theirs + ours).detach() / 2
    model.loss(batch)
    torch.testing.assert_close(theirs, target)
    model.eval()
    model.loss(batch)
    torch.testing.assert_close(theirs, target)
    assert not torch.equal(before, target)


def test_a_frozen_encoder_stays_as_it_was_drawn_while_the_predictor_learns() -> None:
    model, drawn = world_model("frozen"), world_model("jepa").state_dict()
    batch = world_batch(model.image_size)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, drawn[name])}
    assert {name.split(".")[0] for name in moved} == {"action_encoder", "predictor"}
    # Of the latents' scale the statistics see to, not the weights.
    z = model.encode(batch["pixels"]).flatten(0, 1)
    assert z.std(0).min() > 0.05


@pytest.mark.parametrize("size", [16, 64, 84])
def test_the_decoder_gives_frames_of_the_size_asked_for(size: int) -> None:
    assert FrameDecoder(8, size, 4)(torch.randn(2, 8)).shape == (2, 3, size, size)


def test_a_stage_that_doubles_is_every_pixel_four_times_and_a_convolution() -> None:
    stage, x = Doubling(6, 4).double(), torch.randn(2, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    doubled = nn.functional.interpolate(x, scale_factor=2)
    plain = nn.functional.conv2d(doubled, stage.weight, padding=1)
    torch.testing.assert_close(stage(x), plain)
    towards = torch.randn_like(plain)
    ours = torch.autograd.grad(stage(x), (x, stage.weight), towards)
    theirs = torch.autograd.grad(plain, (x, stage.weight), towards)
    for mine, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, their)


def test_an_objective_of_the_other_mode_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective=simclr: mode=world_model has jepa, none, ema"):
        load_config("smoke", ["model.objective=simclr"])
    with pytest.raises(UserError, match=r"objective=pldm: mode=images has jepa, none, vicreg"):
        load_config("images_smoke", ["model.objective=pldm"])


@pytest.mark.parametrize("objective", ["supervised", "byol"])
def test_a_rival_is_trained_probed_and_loaded_by_the_commands(objective: str, tmp_path: Path) -> None:
    folder = tmp_path / objective
    assert cli.main(["train", "images_smoke", f"run={folder}", f"model.objective={objective}"]) == 0
    assert cli.main(["probe", str(folder)]) == 0
    model = Run(folder).load_image_model()
    assert type(model).__name__ == {"supervised": "Supervised", "byol": "BYOL"}[objective]


def test_supervised_training_needs_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for i in range(80):
        Image.fromarray(np.full((16, 16, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    words = ["images_smoke", "model.objective=supervised", f"images.data={tmp_path}", f"run={tmp_path}/r"]
    assert cli.main(["train", *words]) == 2
    assert "its images have no labels; model.objective=supervised needs them" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
