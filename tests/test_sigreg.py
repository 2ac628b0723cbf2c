"""SIGReg and its fast Epps-Pulley against the plain form, the exact integral, and what the paper proves."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from einops import rearrange
from samples import SAMPLES
from torch import Tensor, nn

from worldjepa.errors import UserError
from worldjepa.sigreg import EppsPulley, SIGReg

ROOT_2 = math.sqrt(2)


def plain(
    x: Tensor, t_max: float = 3.0, knots: int = 17, bandwidth: float = ROOT_2, debiased: bool = False
) -> Tensor:
    """(..., N) to (...), with a sine and a cosine for every sample and knot, on the whole line."""
    t = torch.linspace(-t_max, t_max, 2 * knots - 1, dtype=x.dtype)
    angle = x.unsqueeze(-1) * t
    cosine, sine, N = angle.cos().mean(-2), angle.sin().mean(-2), x.shape[-1]
    error = (cosine - torch.exp(-t.square() / 2)).square() + sine.square()
    if debiased:
        power = cosine.square() + sine.square()
        error = error - power + (N * power - 1) / (N - 1)
    return N * torch.trapezoid(error * torch.exp(-((t / bandwidth) ** 2)), t)


def value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Of the sum of a function's values."""
    x = x.detach().clone().requires_grad_()
    value = function(x)
    value.sum().backward()
    return value.detach(), x.grad


# Epps-Pulley against the plain form


@pytest.mark.parametrize("samples", [3, 128, 1000])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"knots": 2},
        {"knots": 3, "t_max": 1.0},
        {"knots": 18, "t_max": 5.0},
        {"knots": 60, "t_max": 12.0},
        {"bandwidth": 1.0},
        {"bandwidth": 0.4, "t_max": 5.0},
        {"debiased": True},
    ],
    ids=str,
)
def test_equals_the_plain_form(options: dict[str, float], samples: int) -> None:
    x = 1.5 * torch.randn(2, 3, samples, dtype=torch.float64) + 0.3
    value, gradient = value_and_gradient(EppsPulley(**options), x)
    expected = value_and_gradient(lambda x: plain(x, **options), x)
    torch.testing.assert_close(value, expected[0], rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("samples", [128, 2048, 8192])
@pytest.mark.parametrize(
    ("scale", "shift"), [(1, 0), (0.01, 0), (0.3, 0), (3, 1), (0, 0), (0, 0.7), (30, 0)], ids=str
)
def test_float32_is_as_good_as_the_plain_form(samples: int, scale: float, shift: float) -> None:
    x = scale * torch.randn(40, samples) + shift
    value, gradient = value_and_gradient(EppsPulley(), x)
    assert value.dtype == gradient.dtype == torch.float32
    exact = value_and_gradient(plain, x.double())
    ordinary = value_and_gradient(plain, x)
    for reference in (exact, ordinary):
        assert value.mean().item() == pytest.approx(reference[0].mean().item(), rel=1e-6)
        error = (gradient - reference[1]).norm() / reference[1].norm()
        # The gradient of samples that are all 0 is 0.
        assert error < 1e-5 or (scale == shift == 0 and not gradient.any())


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("knots", [2, 3, 4, 17])
@pytest.mark.parametrize("samples", [1, 2, 9])
def test_gradient(samples: int, knots: int, debiased: bool) -> None:
    x = torch.randn(2, 3, samples, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(EppsPulley(3.0, knots, debiased=debiased), x)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "values", [[0.0] * 8, [0.3] * 7, [1.0, 1.0], [-0.5, 0.8], [2.0], [1e30, -1e30]], ids=str
)
def test_degenerate_samples_give_finite_values_and_gradients(
    values: list[float], dtype: torch.dtype, debiased: bool
) -> None:
    value, gradient = value_and_gradient(EppsPulley(debiased=debiased), torch.tensor(values, dtype=dtype))
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_transposed_samples_are_read_in_their_order() -> None:
    x = torch.randn(30, 5, dtype=torch.float64)
    torch.testing.assert_close(EppsPulley()(x.T), plain(x.T.contiguous()))


# Epps-Pulley against what it stands for


def double_sum(x: np.ndarray, bandwidth: float = ROOT_2) -> float:
    """N ∫ |φ_N(t) - exp(-t²/2)|² exp(-t²/σ²) dt over the whole line: BHEP's statistic, N times a squared
    maximum mean discrepancy with a Gaussian kernel."""
    rate = 1 / bandwidth**2

    def transform(distance: np.ndarray, extra: float) -> np.ndarray:
        """∫ cos(t·distance) exp(-(rate + extra)·t²) dt."""
        return np.sqrt(np.pi / (rate + extra)) * np.exp(-(distance**2) / (4 * (rate + extra)))

    pairs = transform(x[:, None] - x, 0.0).mean()
    return float(len(x) * (pairs - 2 * transform(x, 0.5).mean() + transform(np.zeros(()), 1.0)))


@pytest.mark.parametrize("bandwidth", [0.7, ROOT_2, 3.0])
@pytest.mark.parametrize("name", [name for name, x in SAMPLES.items() if abs(x).max() < 100])
def test_more_knots_lead_to_the_exact_integral(name: str, bandwidth: float) -> None:
    x = SAMPLES[name]
    exact = double_sum(x, bandwidth)
    errors = [
        abs(EppsPulley(t_max, knots, bandwidth=bandwidth)(torch.from_numpy(x)).item() - exact)
        for t_max, knots in ((2.0, 10), (4.0, 80), (18.0, 4000))
    ]
    rounding = 1e-10 * max(1, exact)
    assert errors[2] < rounding
    assert errors[2] - rounding < errors[1] < errors[0] + rounding


def test_the_published_knots_are_near_the_exact_integral() -> None:
    x = torch.randn(500, 128, dtype=torch.float64)
    exact = np.mean([double_sum(row) for row in x.numpy()])
    # [0, 3] leaves some of the weight out: it comes near, and not nearer.
    assert EppsPulley()(x).mean().item() == pytest.approx(exact, rel=0.02)


OUTCOMES = [-1.3, 0.4, 2.0]
SHARES = [0.5, 0.3, 0.2]


@pytest.mark.parametrize("samples", [2, 3, 5])
def test_theorem_6_the_bias_and_its_removal(samples: int) -> None:
    """Three outcomes, so that an expectation over samples is a sum over all of them."""
    draws = torch.tensor(list(itertools.product(range(3), repeat=samples)))
    shares = torch.tensor(SHARES, dtype=torch.float64)[draws].prod(-1)
    x = torch.tensor(OUTCOMES, dtype=torch.float64)[draws]

    t = torch.linspace(-3, 3, 33, dtype=torch.float64)
    angles = t[:, None] * torch.tensor(OUTCOMES, dtype=torch.float64)
    cf = (1j * angles).exp() @ torch.tensor(SHARES, dtype=torch.cdouble)
    weight = torch.exp(-t.square() / 2)
    loss = torch.trapezoid((cf - weight).abs().square() * weight, t)
    bias = torch.trapezoid((1 - cf.abs().square()) * weight, t) / samples

    mean = {debiased: (shares * EppsPulley(debiased=debiased)(x, 1.0)).sum() for debiased in (False, True)}
    torch.testing.assert_close(mean[False], loss + bias)
    torch.testing.assert_close(mean[True], loss)


@pytest.mark.parametrize("samples", [2, 16, 128])
@pytest.mark.parametrize("debiased", [False, True])
def test_floor_is_the_mean_over_gaussian_samples(samples: int, debiased: bool) -> None:
    test = EppsPulley(debiased=debiased)
    values = test(torch.randn(20_000, samples))
    error = values.std().item() / math.sqrt(len(values))
    assert values.mean().item() == pytest.approx(test.floor, abs=4 * error)
    assert error < 0.02


def test_floor_of_the_published_knots() -> None:
    assert EppsPulley().floor == pytest.approx(1.0525, abs=5e-5)
    assert EppsPulley(5.0, 17).floor == pytest.approx(1.0594, abs=5e-5)


@pytest.mark.parametrize("bandwidth", [0.5, 1.0, ROOT_2, 4.0])
def test_theorem_4_the_gradient_is_bounded_wherever_the_samples_are(bandwidth: float) -> None:
    # Without the statistic's factor N and with the weight exp(-t²/σ²) the printed 4σ²/N holds.
    samples = 50
    test = EppsPulley(5 * bandwidth, 400, bandwidth=bandwidth)
    for scale in (1e-3, 0.1, 1, 10, 1e3):
        x = scale * torch.randn(100, samples, dtype=torch.float64) + torch.randn(100, 1, dtype=torch.float64)
        _, gradient = value_and_gradient(lambda x: test(x, 1.0), x)
        assert 0 < gradient.abs().max() < 4 * bandwidth**2 / samples


# SIGReg


def statistic_by_hand(module: SIGReg, z: Tensor) -> Tensor:
    """(..., N, D) to the plain statistic of every slice, (..., K), with the factor N."""
    return plain((z @ module.directions(z.shape[-1], z.device, z.dtype)).transpose(-1, -2))


@pytest.mark.parametrize("shape", [(20, 6), (3, 20, 6), (2, 3, 20, 6), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_reduces_the_statistics_of_its_slices(shape: tuple[int, ...], reduction: str) -> None:
    z = torch.randn(shape, dtype=torch.float64)
    module = SIGReg(EppsPulley(), 7, reduction=reduction, reference_batch=None)
    expected = statistic_by_hand(module, z)
    statistics = module.statistics(z)
    assert statistics.shape == (*shape[:-2], 7)
    torch.testing.assert_close(statistics, expected)
    value = module(z)
    assert value.shape == ()
    torch.testing.assert_close(value, expected.mean() if reduction == "mean" else expected.amax(-1).mean())


def test_gradient_reaches_the_embeddings() -> None:
    z = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SIGReg(EppsPulley(), 5).eval(), z)


def test_rearranged_embeddings_are_read_in_their_order() -> None:
    z = torch.randn(20, 3, 6, dtype=torch.float64, requires_grad=True)
    module = SIGReg(EppsPulley(), 5).eval()
    value, gradient = value_and_gradient(lambda z: module(rearrange(z, "b t d -> t b d")), z)
    expected = value_and_gradient(lambda z: module(rearrange(z, "b t d -> t b d").contiguous()), z)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1])


def test_directions_have_length_1_and_no_preference() -> None:
    slices = SIGReg(EppsPulley(), 20_000).directions(3, torch.device("cpu"), torch.float64)
    torch.testing.assert_close(slices.norm(dim=0), torch.ones(20_000, dtype=torch.float64))
    torch.testing.assert_close(slices.mean(1), torch.zeros(3, dtype=torch.float64), rtol=0, atol=0.02)
    second_moment = slices @ slices.T / 20_000
    torch.testing.assert_close(second_moment, torch.eye(3, dtype=torch.float64) / 3, rtol=0, atol=0.02)


def drawn(module: SIGReg) -> Tensor:
    return module.directions(6, torch.device("cpu"), torch.float32)


def test_every_training_step_draws_anew_whatever_else_is_drawn() -> None:
    z = torch.randn(20, 6)
    one, other = SIGReg(EppsPulley(), 5), SIGReg(EppsPulley(), 5)
    seen = []
    for _ in range(3):
        seen.append(drawn(one))
        assert torch.equal(seen[-1], drawn(other))
        one(z)
        torch.randn(100)
        other(z)
    assert one.step == 3
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


def test_a_resumed_run_draws_what_an_undisturbed_one_draws() -> None:
    z = torch.randn(20, 6)
    undisturbed = SIGReg(EppsPulley(), 5)
    for _ in range(4):
        undisturbed(z)
    resumed = SIGReg(EppsPulley(), 5)
    resumed.load_state_dict(undisturbed.state_dict())
    assert undisturbed.state_dict().keys() == {"step"}
    assert torch.equal(drawn(resumed), drawn(undisturbed))
    assert resumed(z) == undisturbed(z)


def test_evaluation_and_fixed_slices_leave_the_counter_alone() -> None:
    z = torch.randn(20, 6)
    for module in (SIGReg(EppsPulley(), 5).eval(), SIGReg(EppsPulley(), 5, resample=False)):
        assert module(z) == module(z)
        assert module.step == 0
    before = drawn(module)
    module.step.fill_(1)
    assert not torch.equal(drawn(module), before)


def test_by_default_a_constant_multiplies_in_place_of_the_batch() -> None:
    # Ten of each sample: the same distribution, a batch ten times as large.
    z = 2 * torch.randn(64, 6, dtype=torch.float64)
    larger = z.repeat(10, 1)
    carries_over = SIGReg(EppsPulley(), 50).eval()
    of_the_paper = SIGReg(EppsPulley(), 50, reference_batch=None).eval()
    torch.testing.assert_close(carries_over(larger), carries_over(z))
    torch.testing.assert_close(of_the_paper(larger), 10 * of_the_paper(z))
    torch.testing.assert_close(carries_over(z), of_the_paper(z) * 128 / 64)


@pytest.mark.parametrize("reference", [None, 64])
def test_floor_is_what_gaussian_embeddings_give(reference: int | None) -> None:
    module = SIGReg(EppsPulley(), 32, reference_batch=reference).eval()
    values = module.statistics(torch.randn(2000, 64, 8)).mean(-1)
    error = values.std().item() / math.sqrt(len(values))
    assert values.mean().item() == pytest.approx(module.floor, abs=4 * error)
    assert error < 0.01


def test_autocast_does_not_reach_inside() -> None:
    z = torch.randn(40, 6, requires_grad=True)
    module = SIGReg(EppsPulley(), 5).eval()
    with torch.autocast("cpu", torch.bfloat16):
        value = module(z)
        alone = EppsPulley()(z.T)
        of_half = module(z.bfloat16())
    value.backward()
    expected = value_and_gradient(module, z)
    assert torch.equal(value, expected[0])
    assert torch.equal(z.grad, expected[1])
    assert torch.equal(alone, EppsPulley()(z.T))
    assert torch.equal(of_half, module(z.bfloat16().float()))
    assert value.dtype == alone.dtype == of_half.dtype == torch.float32


@pytest.mark.filterwarnings("ignore")  # of graph breaks: at the counter and the generator
def test_a_model_may_be_compiled_around_it() -> None:
    z = torch.randn(40, 6)
    model = nn.Sequential(nn.Linear(6, 6), SIGReg(EppsPulley(), 5))
    compiled = torch.compile(model, backend="eager")

    def two_steps(function: nn.Module) -> list[Tensor]:
        model[1].step.zero_()
        model.zero_grad()
        losses = [function(z) for _ in range(2)]
        sum(losses).backward()
        return [*(loss.detach() for loss in losses), *(p.grad.clone() for p in model.parameters())]

    torch.testing.assert_close(two_steps(compiled), two_steps(model))


# The maximum as a statistical test (equation 4, Theorem 2)


def x_shape(repetitions: int, samples: int, dim: int) -> Tensor:
    """Figure 5's X in two dimensions: Gaussian marginals, identity covariance; Gaussian in the others."""
    z = torch.randn(repetitions, samples, dim)
    z[..., 1] = z[..., 0] * (torch.randint(0, 2, (repetitions, samples)) * 2 - 1)
    return z


ALTERNATIVES = {
    "an X": x_shape,
    "uniform": lambda *shape: (torch.rand(shape) * 2 - 1) * math.sqrt(3),
    "shifted": lambda *shape: torch.randn(shape) + 0.3,
    "narrow in one dimension": lambda *shape: torch.randn(shape) * torch.tensor([0.6, 1.0, 1.0]),
}


def test_the_maximum_has_the_level_of_a_test_and_power_that_grows() -> None:
    module = SIGReg(EppsPulley(), 32, reduction="max", reference_batch=None).eval()
    repetitions, dim = 500, 3
    power = {}
    for samples in (20, 100, 400):
        critical = module.statistics(torch.randn(repetitions, samples, dim)).amax(-1).quantile(0.95)

        def rejected(z: Tensor, critical: Tensor = critical) -> float:
            return (module.statistics(z).amax(-1) > critical).float().mean().item()

        # Both the critical value and the level are estimated: 4 standard errors.
        level = rejected(torch.randn(repetitions, samples, dim))
        assert level == pytest.approx(0.05, abs=4 * math.sqrt(2 * 0.05 * 0.95 / repetitions))
        power[samples] = [rejected(draw(100, samples, dim)) for draw in ALTERNATIVES.values()]
    assert min(power[400]) > 0.95, power
    for fewer, more in itertools.pairwise(power.values()):
        assert all(a <= b for a, b in zip(fewer, more, strict=True)), power
    assert min(power[20]) < 0.5, power


# Bad input


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: SIGReg(EppsPulley(), 0), "num_slices=0"),
        (lambda: SIGReg(EppsPulley(), 5, reduction="sum"), "reduction=sum"),
        (lambda: SIGReg(EppsPulley(), 5, reference_batch=0), "reference_batch=0"),
        (lambda: EppsPulley(knots=1), "knots=1"),
        (lambda: EppsPulley(t_max=0.0), "t_max=0"),
        (lambda: EppsPulley(t_max=math.nan), "t_max=nan"),
        (lambda: EppsPulley(bandwidth=-1.0), "bandwidth=-1"),
        (lambda: SIGReg(EppsPulley(), 5)(torch.randn(6)), r"\(6,\)"),
        (lambda: SIGReg(EppsPulley(), 5)(torch.zeros(20, 6, dtype=torch.int64)), "int64"),
        (lambda: SIGReg(EppsPulley(), 5)(torch.randn(3, 0, 6)), r"\(3, 0, 6\)"),
    ],
)
def test_bad_input_is_named(make: Callable[[], object], names: str) -> None:
    with pytest.raises(UserError, match=names):
        make()
