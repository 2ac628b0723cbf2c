"""Several gloo processes against one process on their batches put together, and against the public mistakes.

A world size is spawned once: its ranks run every case, write down what they found, and the tests compare.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from worldjepa import sigreg
from worldjepa.distributed import (
    BatchNorm,
    convert_batchnorm,
    gather_samples,
    global_mean,
    sum_over_ranks,
    sum_samples,
    world_size,
)
from worldjepa.errors import UserError
from worldjepa.sigreg import EppsPulley, SIGReg
from worldjepa.univariate import (
    AndersonDarling,
    CramerVonMises,
    ExtendedJarqueBera,
    JarqueBera,
    VCReg,
    Watson,
)

Found = dict[str, Tensor]
WORLDS = [2, 4]
# Samples of each rank: rank r has the r-th; a world of 2 uses the first two.
SIZES = {"equal": [30, 30, 30, 30], "unequal": [47, 13, 5, 26]}
DTYPES = {"float64": (torch.float64, 1e-9), "float32": (torch.float32, 1e-6)}
TESTS: dict[str, Callable[[], nn.Module]] = {
    "EppsPulley": EppsPulley,
    "debiased": lambda: EppsPulley(debiased=True),
    "AndersonDarling": AndersonDarling,
    "CramerVonMises": CramerVonMises,
    "ExtendedJarqueBera": ExtendedJarqueBera,
    "JarqueBera": JarqueBera,
    "VCReg": VCReg,
    "Watson": Watson,
}


# What a process does


class Step(nn.Module):
    """A small encoder with BatchNorm, and its loss: SIGReg per time step and, if asked for, an error."""

    def __init__(
        self, test: nn.Module, prediction: str = "global mean", reference_batch: float | None = None
    ):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 16, bias=False), BatchNorm(16), nn.ReLU(), nn.Linear(16, 4))
        self.sigreg = SIGReg(test, 12, reference_batch=reference_batch)
        self.prediction = prediction

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """(N, T, 5), (N, T, 4) to a scalar."""
        z = self.encoder(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        loss = self.sigreg(rearrange(z, "n t d -> t n d"))
        if self.prediction != "none":
            mean = global_mean if self.prediction == "global mean" else torch.mean
            loss = loss + mean((z - target).square())
        return loss


def train_steps(
    sizes: list[int],
    rank: int | None,
    dtype: torch.dtype,
    steps: int = 1,
    **options: Any,
) -> Found:
    """Losses, gradients of the last step, parameters and running statistics after `steps` of SGD on a rank's
    share of the samples, or on all of them (rank None)."""
    torch.manual_seed(0)
    step = Step(**options).to(dtype)
    model: nn.Module = step if rank is None else DistributedDataParallel(step)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.05)
    losses = []
    for _ in range(steps):
        x, target = torch.randn(sum(sizes), 3, 5, dtype=dtype), torch.randn(sum(sizes), 3, 4, dtype=dtype)
        if rank is not None:
            x, target = x.split(sizes)[rank], target.split(sizes)[rank]
        loss = model(0.5 * x, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return {
        "losses": torch.stack(losses),
        "gradient": torch.cat([p.grad.flatten() for p in step.parameters()]),
        "parameters": nn.utils.parameters_to_vector(step.parameters()).detach(),
        **{name: value.clone() for name, value in step.named_buffers()},
    }


NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "(N, C)": (lambda: BatchNorm(3), ()),
    "(N, C, L)": (lambda: BatchNorm(3), (4,)),
    "(N, C, H, W)": (lambda: BatchNorm(3), (2, 3)),
    "plain": (lambda: BatchNorm(3, eps=0.1, affine=False), ()),
    "all batches count": (lambda: BatchNorm(3, momentum=None), ()),
    "not tracked": (lambda: BatchNorm(3, track_running_stats=False), ()),
}


def normalise(sizes: list[int], rank: int | None, dtype: torch.dtype, name: str) -> Found:
    """Two training batches through BatchNorm: this rank's outputs and gradients, the buffers, and what
    evaluation gives then. The loss weighs every value by itself, so the ranks' gradients differ."""
    torch.manual_seed(0)
    make, shape = NORMS[name]
    norm = make().to(dtype)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    found: Found = {}
    for batch in range(2):
        x = 3 * torch.randn(sum(sizes), 3, *shape, dtype=dtype) + 10
        weights = torch.randn_like(x)
        if rank is not None:
            x, weights = x.split(sizes)[rank], weights.split(sizes)[rank]
        x.requires_grad_()
        y = norm(x)
        (y * weights).sum().backward()
        found |= {f"y {batch}": y.detach(), f"gradient {batch}": x.grad}
    found |= {f"sum {name}": parameter.grad for name, parameter in norm.named_parameters()}
    found |= {f"same {name}": value.clone() for name, value in norm.named_buffers()}
    return found | {"evaluation": norm.eval()(x.detach()).detach()}


# The public mistakes (of LeJEPA's dist_mean, stable-pretraining, LeWM, Lightly and eb_jepa), each in place of
# `sum_samples`: what it takes for the sums and the number of all ranks' samples.


def local_statistic(sums: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    return sums, sums.new_tensor(samples)


def discarded_reduction(sums: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    dist.all_reduce(sums.clone())
    return sums * world_size(), sums.new_tensor(samples * world_size())


def sum_without_autograd(sums: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    total, count = sum_samples(sums.detach(), samples)
    return sums + (total - sums).detach(), count


def mean_of_means_without_autograd(sums: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    means, count = sum_samples(sums.detach() / samples, samples)
    means = sums / samples + (means / world_size() - sums / samples).detach()
    return means * count, count


MISTAKES = [local_statistic, discarded_reduction, sum_without_autograd, mean_of_means_without_autograd]


@contextmanager
def mistaken(mistake: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> Iterator[None]:
    sigreg.sum_samples = mistake
    try:
        yield
    finally:
        sigreg.sum_samples = sum_samples


def count_communications(rank: int, sizes: list[int]) -> Found:
    """How often SIGReg communicates in the forward, and in the backward."""
    calls = []
    all_reduce = dist.all_reduce
    dist.all_reduce = lambda *args, **kwargs: (calls.append(1), all_reduce(*args, **kwargs))[1]
    loss = SIGReg(EppsPulley(), 5)(torch.randn(3, sizes[rank], 4, requires_grad=True))
    forward = len(calls)
    loss.backward()
    dist.all_reduce = all_reduce
    return {"forward": torch.tensor(forward), "backward": torch.tensor(len(calls) - forward)}


def reduce_and_gather(rank: int, sizes: list[int]) -> Found:
    """Values and gradients of the reductions by themselves."""
    torch.manual_seed(0)
    x = torch.randn(2, sum(sizes), dtype=torch.float64).split(sizes, -1)[rank].clone().requires_grad_()
    gathered = gather_samples(x)
    torch.linspace(1, 2, gathered.shape[1]).mul(gathered).sum().backward()
    found = {"gathered": gathered.detach(), "gathered gradient": x.grad}
    y = torch.full((3,), float(rank), dtype=torch.float64, requires_grad=True)
    total = sum_over_ranks(y)
    # Every rank makes another loss from the sum.
    (total * (rank + 1)).sum().backward()
    return found | {"total": total.detach(), "total gradient": y.grad}


def half_precision(rank: int) -> Found:
    """BatchNorm of bfloat16, beside that of the same numbers in float32."""
    torch.manual_seed(rank)
    x = torch.randn(20, 3).bfloat16()
    return {"half": BatchNorm(3)(x), "single": BatchNorm(3)(x.float()).detach()}


def run_every_case(rank: int, world: int, folder: str) -> None:
    """A rank's whole life."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    found: dict[tuple[str, ...], Found] = {}
    for (sizes_name, sizes), (name, (dtype, _)) in itertools.product(SIZES.items(), DTYPES.items()):
        sizes = sizes[:world]
        for test, make in TESTS.items():
            found["train", sizes_name, name, test] = train_steps(sizes, rank, dtype, test=make())
        found["three steps", sizes_name, name] = train_steps(
            sizes, rank, dtype, 3, test=EppsPulley(), reference_batch=128
        )
        for norm in NORMS:
            found["norm", sizes_name, name, norm] = normalise(sizes, rank, dtype, norm)
    for sizes_name, sizes in SIZES.items():
        sizes = sizes[:world]
        options: dict[str, Any] = {"test": EppsPulley(), "prediction": "none"}
        for mistake in MISTAKES:
            with mistaken(mistake):
                found["mistake", sizes_name, mistake.__name__] = train_steps(
                    sizes, rank, torch.float64, **options
                )
        found["local mean", sizes_name] = train_steps(
            sizes, rank, torch.float64, test=EppsPulley(), prediction="local mean", reference_batch=1
        )
        found["communications", sizes_name] = count_communications(rank, sizes)
        found["reductions", sizes_name] = reduce_and_gather(rank, sizes)
    # Last, because DDP gives every rank the first one's buffers at the start: here they are set after that.
    found["mistake", "equal", "directions"] = unsynced_directions(rank, SIZES["equal"][:world])
    found["half precision",] = half_precision(rank)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def unsynced_directions(rank: int, sizes: list[int]) -> Found:
    """Each rank draws its own directions, as from the global generator."""
    torch.manual_seed(0)
    step = Step(EppsPulley(), "none").double()
    step.sigreg.step.fill_(rank)
    x = torch.randn(sum(sizes), 3, 5, dtype=torch.float64).split(sizes)[rank]
    loss = step(0.5 * x, x)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in step.parameters()])
    dist.all_reduce(gradient)
    return {"losses": loss.detach()[None], "gradient": gradient / world_size()}


# The comparison


@pytest.fixture(scope="module", params=WORLDS, ids=lambda world: f"{world} processes")
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each rank of a world found."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_every_case, (request.param, str(folder)), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


each_size = pytest.mark.parametrize("sizes", SIZES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    found, expected = found.double(), expected.double()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-300))


@each_dtype
@each_size
@pytest.mark.parametrize("test", TESTS)
def test_several_processes_are_one_on_the_whole_batch(ranks: list, sizes: str, dtype: str, test: str) -> None:
    number, tolerance = DTYPES[dtype]
    expected = train_steps(SIZES[sizes][: len(ranks)], None, number, test=TESTS[test]())
    for rank in ranks:
        found = rank["train", sizes, dtype, test]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert difference(found[name], value) <= tolerance, name


@each_dtype
@each_size
def test_they_stay_one_over_several_steps(ranks: list, sizes: str, dtype: str) -> None:
    number, tolerance = DTYPES[dtype]
    options: dict[str, Any] = {"test": EppsPulley(), "reference_batch": 128}
    expected = train_steps(SIZES[sizes][: len(ranks)], None, number, 3, **options)
    assert expected["sigreg.step"] == 3
    for rank in ranks:
        found = rank["three steps", sizes, dtype]
        assert torch.equal(found["parameters"], ranks[0]["three steps", sizes, dtype]["parameters"])
        for name, value in expected.items():
            # Errors of float32 grow from step to step.
            assert difference(found[name], value) <= (10 if dtype == "float32" else 1) * tolerance, name


@each_size
@pytest.mark.parametrize("mistake", [mistake.__name__ for mistake in MISTAKES] + ["directions"])
def test_the_comparison_finds_every_public_mistake(ranks: list, sizes: str, mistake: str) -> None:
    if mistake == "directions":
        sizes = "equal"
    number = torch.float64
    expected = train_steps(SIZES[sizes][: len(ranks)], None, number, test=EppsPulley(), prediction="none")[
        "gradient"
    ]
    for rank in ranks:
        error = difference(rank["mistake", sizes, mistake]["gradient"], expected)
        if (mistake, sizes) == ("mean_of_means_without_autograd", "equal"):
            # Right by accident: DDP's average makes up for the gradient of the mean, 1/W, that is missing.
            assert error < 1e-9
        else:
            assert error > 0.01
    if mistake == "sum_without_autograd":
        torch.testing.assert_close(ranks[0]["mistake", sizes, mistake]["gradient"] * len(ranks), expected)


def test_a_local_mean_is_right_for_equal_batches_alone(ranks: list) -> None:
    for sizes in SIZES:
        expected = train_steps(
            SIZES[sizes][: len(ranks)], None, torch.float64, test=EppsPulley(), reference_batch=1
        )
        for rank in ranks:
            error = difference(rank["local mean", sizes]["gradient"], expected["gradient"])
            assert error < 1e-9 if sizes == "equal" else error > 0.01


@each_size
def test_sigreg_communicates_once_and_not_in_the_backward(ranks: list, sizes: str) -> None:
    for rank in ranks:
        assert rank["communications", sizes] == {"forward": torch.tensor(1), "backward": torch.tensor(0)}


@each_size
def test_reductions_and_their_gradients(ranks: list, sizes: str) -> None:
    world, share = len(ranks), SIZES[sizes][: len(ranks)]
    torch.manual_seed(0)
    samples = torch.randn(2, sum(share), dtype=torch.float64)
    weights = torch.linspace(1, 2, sum(share)).expand(2, -1).split(share, -1)
    for number, rank in enumerate(ranks):
        found = rank["reductions", sizes]
        assert torch.equal(found["gathered"], samples)
        # Every rank had the same loss: the sum over ranks of its gradient.
        torch.testing.assert_close(found["gathered gradient"], world * weights[number].double())
        assert (found["total"] == sum(range(world))).all()
        assert (found["total gradient"] == sum(range(1, world + 1))).all()


@each_dtype
@each_size
@pytest.mark.parametrize("norm", NORMS)
def test_batchnorm_is_one_batchnorm_on_the_whole_batch(
    ranks: list, sizes: str, dtype: str, norm: str
) -> None:
    number, tolerance = DTYPES[dtype]
    share = SIZES[sizes][: len(ranks)]
    expected = normalise(share, None, number, norm)
    for name, value in expected.items():
        found = [rank["norm", sizes, dtype, norm][name] for rank in ranks]
        if name.startswith("same"):
            assert all(difference(part, value) <= tolerance for part in found), name
        else:
            # A gradient of a parameter is the sum of the ranks'; what has samples is put together.
            whole = sum(found) if name.startswith("sum") else torch.cat(found)
            if norm == "not tracked" and name == "evaluation":
                continue  # each rank's own statistics, as nn.BatchNorm1d has it
            assert difference(whole, value) <= tolerance, name


def test_batchnorm_of_half_precision_counts_in_float32(ranks: list) -> None:
    for rank in ranks:
        found = rank["half precision",]
        assert found["half"].dtype == torch.bfloat16
        assert torch.equal(found["half"], found["single"].bfloat16())


# One process


def test_without_a_process_group_nothing_happens() -> None:
    x = torch.randn(3, 4)
    assert world_size() == 1
    assert sum_over_ranks(x) is x
    assert gather_samples(x) is x
    sums, count = sum_samples(x, 7)
    assert sums is x
    assert count == 7
    assert global_mean(x) == x.mean()


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 4), (8, 3, 4, 5), (8, 3, 2, 2, 2)], ids=str)
def test_batchnorm_alone_is_that_of_torch(shape: tuple[int, ...]) -> None:
    ours = BatchNorm(3)
    theirs = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[len(shape) - 2](3)
    for x in torch.randn(3, *shape):
        assert torch.equal(ours(x), theirs(x))
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_batchnorm_refuses_what_has_no_channels() -> None:
    with pytest.raises(ValueError, match="N, C"):
        BatchNorm(3)(torch.randn(3))


def test_converting_keeps_parameters_buffers_and_mode() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, eps=0.1, momentum=0.3),
        nn.Sequential(nn.BatchNorm1d(5, affine=False)),
    ).eval()
    before = dict(model.named_parameters())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    converted = convert_batchnorm(model)
    assert converted is model
    assert type(model[1]) is type(model[2][0]) is BatchNorm
    assert all(value is before[name] for name, value in converted.named_parameters())
    assert converted.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in converted.state_dict().items())
    assert (model[1].eps, model[1].momentum, model[1].training) == (0.1, 0.3, False)
    assert isinstance(convert_batchnorm(nn.BatchNorm1d(3)), BatchNorm)
    norm = model[1]
    convert_batchnorm(model)
    assert model[1] is norm
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(
        model[1](model[0](x)), nn.functional.batch_norm(model[0](x), torch.zeros(4), torch.ones(4), eps=0.1)
    )


def test_converting_refuses_what_does_more_than_batchnorm() -> None:
    # Here, not above: every rank would wait for it.
    from timm.layers import BatchNormAct2d

    with pytest.raises(UserError, match="BatchNormAct2d"):
        convert_batchnorm(nn.Sequential(BatchNormAct2d(3)))
