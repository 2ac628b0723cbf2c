"""ImageJEPA: the loss by hand, views in groups, gradients, and collapse where SIGReg is missing."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from worldjepa.data.images import Images, from_arrays
from worldjepa.data.views import MultiCrop
from worldjepa.errors import UserError
from worldjepa.evaluation.geometry import rank_me
from worldjepa.evaluation.image_probes import embed, knn_accuracy
from worldjepa.image_baselines import build_image_model
from worldjepa.image_jepa import ImageJEPA
from worldjepa.recipes import load_config
from worldjepa.sigreg import EppsPulley, SIGReg


def small(*overrides: str) -> ImageJEPA:
    return ImageJEPA(load_config("images_smoke", overrides))


def some_views(local: int = 16, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        "global": 255 * torch.rand(2, 12, 24, 24, 3, dtype=dtype),
        "local": 255 * torch.rand(3, 12, local, local, 3, dtype=dtype),
    }


def test_the_loss_is_the_one_of_the_paper_computed_by_hand() -> None:
    model, batch = small("images.global_size=24"), some_views()
    result = model.loss(batch)

    # Training mode, with the same statistics of BatchNorm: one forward for each size, one of the projector.
    features = [model.features(batch[name].flatten(0, 1)) for name in ("global", "local")]
    z = model.projector(torch.cat(features)).view(5, 12, 16)
    centre = (z[0] + z[1]) / 2
    invariance = sum(((z[v] - centre) ** 2).sum() for v in range(5)) / (5 * 12 * 16)
    regulariser = SIGReg(EppsPulley(), 16)
    statistics = []
    for v in range(5):
        regulariser.step.zero_()
        statistics.append(regulariser(z[v]))
    sigreg = torch.stack(statistics).mean()
    torch.testing.assert_close(result["invariance"], invariance)
    torch.testing.assert_close(result["sigreg"], sigreg)
    torch.testing.assert_close(result["loss"], 0.95 * invariance + 0.05 * sigreg)
    assert result["loss"].requires_grad


@pytest.mark.parametrize("local", [16, 24])
def test_views_in_groups_are_embedded_as_one_by_one(local: int) -> None:
    model, batch = small("images.global_size=24", f"images.local_size={local}").eval(), some_views(local)
    forwards: list[int] = []
    model.encoder.register_forward_hook(lambda _, inputs, __: forwards.append(len(inputs[0])))
    together = model.embed_views([batch["global"], batch["local"]])
    assert forwards == ([24, 36] if local == 16 else [60])
    for z, view in zip(together, [*batch["global"], *batch["local"]], strict=True):
        torch.testing.assert_close(z, model.projector(model.features(view)), rtol=1e-4, atol=1e-5)


def test_grey_views_are_coloured_ones_without_colour() -> None:
    model = small().eval()
    grey = 255 * torch.rand(4, 16, 16, 1)
    torch.testing.assert_close(model.features(grey), model.features(grey.expand(-1, -1, -1, 3)))


def test_every_parameter_gets_the_gradient_that_differences_say() -> None:
    model, batch = small("images.global_size=24").double(), some_views(dtype=torch.float64)

    # In float64 throughout: the latents are not brought to float32 here.
    def loss() -> Tensor:
        model.sigreg.step.zero_()
        z = model.embed_views([batch["global"], batch["local"]])
        centre = z[:2].mean(0)
        return 0.95 * (z - centre).square().mean() + 0.05 * model.sigreg(z)

    loss().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    weight = model.projector[3].weight
    direction = torch.randn_like(weight)
    expected = (weight.grad * direction).sum()
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * 1e-5 * direction
            values.append(loss())
            weight -= sign * 1e-5 * direction
    torch.testing.assert_close((values[0] - values[1]) / 2e-5, expected, rtol=1e-5, atol=1e-8)


def test_the_centre_passes_its_gradient() -> None:
    model = small("images.global_size=24")
    views = {name: value.requires_grad_() for name, value in some_views().items()}
    model.loss(views)["invariance"].backward()
    for value in views.values():
        assert (value.grad.flatten(2).abs().amax(-1) > 0).all()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_timm_backbones_take_both_sizes(name: str) -> None:
    model = small(f"model.encoder.name={name}", "images.global_size=64", "images.local_size=32")
    views = {"global": 255 * torch.rand(2, 4, 64, 64, 3), "local": 255 * torch.rand(2, 4, 32, 32, 3)}
    losses = model.loss(views)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert model.features(views["global"][0]).shape == (4, model.num_features)


@pytest.mark.parametrize(
    ("overrides", "right"),
    [
        ("images.local_size=8", "images.local_size=8: resnet needs at least 16"),
        ("images.global_size=8", "images.global_size=8: resnet needs at least 16"),
        ("model.encoder.name=resnet19", "neither conv, resnet nor a timm model"),
        (
            "model.encoder.name=test_vit images.global_size=64 images.local_size=40",
            "images.local_size=40: test_vit does not take it",
        ),
    ],
)
def test_what_an_encoder_does_not_take_is_named_by_its_option(overrides: str, right: str) -> None:
    with pytest.raises(UserError, match=r"^.*$") as raised:
        small(*overrides.split())
    assert right in str(raised.value)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(UserError, match=r"images are \(2, 3, 16, 16\), not \(N, H, W, 3\)"):
        small().features(torch.zeros(2, 3, 16, 16))


# Learning


def striped(count: int = 400) -> Images:
    """Four classes by the direction of stripes, whose place and strength vary more than the class does."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 4
    angle, phase = labels * np.pi / 4, rng.uniform(0, 2 * np.pi, count)
    y, x = np.mgrid[:16, :16]
    wave = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    picture = 128 + rng.uniform(20, 80, count)[:, None, None] * np.sin(wave + phase[:, None, None])
    picture += rng.normal(0, 40, picture.shape)
    return from_arrays("stripes", picture.clip(0, 255).astype(np.uint8)[..., None], labels)


def trained(weight: float, steps: int) -> tuple[float, float, float]:
    """Accuracy of the nearest neighbours before and after, and the rank of the latents after."""
    model = small(f"model.sigreg.weight={weight}", "images.flip=0", "images.jitter=0", "images.solarize=0")
    images = striped()
    data = MultiCrop(images, load_config("images_smoke", ["images.flip=0"]).images, torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    everything = np.arange(400)

    def accuracy() -> float:
        x = embed(model.eval(), images, everything, "")
        model.train()
        y = images.labels
        return knn_accuracy(x[:200], y[:200], x[200:], y[200:])

    before = accuracy()
    for _, batch in zip(range(steps), data.batches(64, 0), strict=False):
        loss = model.loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = accuracy()
    with torch.no_grad():
        z = model.projector(torch.from_numpy(embed(model.eval(), images, everything, "")))
    # The rank in units of what SIGReg asks for: directions whose spread is lost do not count.
    return before, after, float(z.std(0).mean()) * rank_me(z)


def test_it_learns_classes_nobody_told_and_without_sigreg_it_collapses() -> None:
    before, after, width = trained(0.05, steps=150)
    *_, collapsed = trained(0.0, steps=60)
    assert before < 0.75
    assert after > 0.85
    assert width > 4.5
    assert collapsed < 0.2 * width


def test_the_projector_ends_without_normalisation() -> None:
    assert isinstance(small().projector[-1], nn.Linear)


@pytest.mark.parametrize(("pooling", "features"), [("mean", 64 + 32 + 16), ("mean_std", 2 * (64 + 32 + 16))])
@pytest.mark.parametrize("objective", ["jepa", "byol"])
def test_of_several_layers_the_loss_sees_the_last_alone(objective: str, pooling: str, features: int) -> None:
    batch = some_views(24)
    torch.manual_seed(0)
    words = "images.global_size=24", f"model.objective={objective}"
    one = build_image_model(load_config("images_smoke", words))
    torch.manual_seed(0)
    more = "model.encoder.layers=3", f"model.encoder.pooling={pooling}"
    three = build_image_model(load_config("images_smoke", [*words, *more]))
    torch.testing.assert_close(one.loss(batch), three.loss(batch))
    assert (one.num_features, three.num_features) == (64, features)
    images = batch["global"][0]
    torch.testing.assert_close(three.eval().features(images)[:, :64], one.eval().features(images))
