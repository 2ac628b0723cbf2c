"""How fast SIGReg is: forward and backward, projection included, against the two published ways to write it.

    python scripts/benchmark_sigreg.py              # 2 threads, float32, 1024 slices, 17 knots on [0, 3]
    python scripts/benchmark_sigreg.py --fused      # and the fused form, which needs a C++ compiler
    python scripts/benchmark_sigreg.py --keep       # in results/benchmarks/, for the README

At the end stands what SIGReg takes of a whole training step of the CPU recipe (128 windows of 4 frames): the
step's time against that of the same step with a mean square in SIGReg's place.

This process keeps freed memory for what comes next, as every command of worldjepa does; one row tells what a
process takes that does not. The plain form takes a cosine and a sine at every knot of every projected sample
(LeJEPA's MINIMAL.md, LeWM). The complex form is Algorithm 1 of the LeJEPA paper, with as many knots on
[-3, 3]. Times are the least of several runs in milliseconds. Memory is what one forward and backward adds to
a fresh process at its peak (Linux).
"""

import argparse
import functools
import itertools
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import torch
from benchmark_results import add_keep, keep
from torch import Tensor

from worldjepa.config import Config, TrainConfig
from worldjepa.device import choose_precision
from worldjepa.memory import keep_freed_memory
from worldjepa.optimizer import build_optimizer
from worldjepa.sigreg import EppsPulley, SIGReg
from worldjepa.world_model import WorldModel

T_MAX, KNOTS = 3.0, 17
FORMS = ("plain", "complex", "ours", "fused")


def draw(dim: int, num_slices: int) -> Tensor:
    """Directions (D, K) as the published forms draw them; `SIGReg` draws the same at its first step."""
    slices = torch.randn(dim, num_slices, generator=torch.Generator().manual_seed(0))
    return slices.div_(slices.norm(p=2, dim=0))


def plain(z: Tensor, num_slices: int) -> Tensor:
    """(..., N, D) to a scalar, by real cosines and sines."""
    t = torch.linspace(0, T_MAX, KNOTS)
    target = torch.exp(-t.square() / 2)
    weight = torch.full((KNOTS,), 2 * T_MAX / (KNOTS - 1))
    weight[[0, -1]] = T_MAX / (KNOTS - 1)
    angle = (z @ draw(z.shape[-1], num_slices)).unsqueeze(-1) * t
    error = (angle.cos().mean(-3) - target).square() + angle.sin().mean(-3).square()
    return (error @ (weight * target) * z.shape[-2]).mean()


def algorithm_1(z: Tensor, num_slices: int) -> Tensor:
    """(..., N, D) to a scalar, by complex exponentials."""
    t = torch.linspace(-T_MAX, T_MAX, KNOTS)
    target = torch.exp(-0.5 * t**2)
    angle = (z @ draw(z.shape[-1], num_slices)).unsqueeze(-1) * t
    error = ((1j * angle).exp().mean(-3) - target).abs().square().mul(target)
    return (torch.trapz(error, t) * z.shape[-2]).mean()


def make(form: str, num_slices: int) -> Callable[[Tensor], Tensor]:
    """z (..., N, D) to the scalar, in one of `FORMS`; all on the same directions."""
    if form in ("plain", "complex"):
        return functools.partial(plain if form == "plain" else algorithm_1, num_slices=num_slices)
    return SIGReg(EppsPulley(T_MAX, KNOTS, fused=form == "fused"), num_slices, reference_batch=None).eval()


def step(form: Callable[[Tensor], Tensor], z: Tensor) -> tuple[float, Tensor]:
    """Value and gradient."""
    z = z.detach().requires_grad_()
    value = form(z)
    value.backward()
    assert z.grad is not None
    return value.item(), z.grad


def milliseconds(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """The least time of each call. In turn, in bursts: what else the machine does meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _, (name, call) in itertools.product(range(5), calls.items()):
        first = time.perf_counter()
        while (now := time.perf_counter()) - first < seconds / 5:
            call()
            times[name].append(time.perf_counter() - now)
    return {name: 1e3 * min(values) for name, values in times.items()}


def megabytes(form: str, samples: int, dim: int, num_slices: int, threads: int) -> float:
    """What a forward and backward adds to the peak memory of this process, which should be a fresh one."""
    torch.set_num_threads(threads)
    function, z = make(form, num_slices), torch.randn(samples, dim)
    step(function, z[:8])  # threads, and the libraries' own buffers
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak counts from here on
    before = peak()
    step(function, z)
    return (peak() - before) / 1024


def peak() -> int:
    """The most memory that this process has had, in KiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def given_back(samples: int, dim: int, num_slices: int, threads: int, seconds: float) -> dict[str, float]:
    """Milliseconds in a fresh process, whose freed memory goes back to the system, as by default."""
    torch.set_num_threads(threads)
    z = torch.randn(samples, dim)
    return milliseconds(
        {form: functools.partial(step, make(form, num_slices), z) for form in FORMS[:3]}, seconds
    )


def compare(z: Tensor, num_slices: int, forms: list[str], seconds: float) -> dict[str, Any]:
    """Print one row: times, ratios to the plain form, differences from it; the times come back."""
    functions = {form: make(form, num_slices) for form in forms}
    calls = {form: functools.partial(step, function, z) for form, function in functions.items()}
    times = milliseconds(calls, seconds)
    value, gradient = step(functions["plain"], z)
    our_value, our_gradient = step(functions["ours"], z)
    error = float((our_gradient - gradient).norm() / gradient.norm())
    row = f"{'×'.join(map(str, z.shape[:-1])):>8} {num_slices:>6}"
    row += "".join(f"{times[form]:>11.2f}" for form in forms)
    row += "".join(f"{times['plain'] / times[form]:>13.1f}×" for form in forms[2:])
    print(row + f"{abs(our_value / value - 1):>9.0e}{error:>10.0e}", flush=True)
    return {"samples": list(z.shape[:-1]), "slices": num_slices, "milliseconds": times}


def training_step(num_slices: int) -> Callable[[], None]:
    """One step of the CPU recipe on random frames; 0 slices: a mean square in SIGReg's place."""
    config, actions = Config(), 2
    config.model.sigreg.num_slices = num_slices or 1
    model = WorldModel(config, actions)
    if not num_slices:
        model.sigreg.forward = lambda z: z.float().square().mean()  # type: ignore[method-assign]
    size, frames = config.env.image_size, config.data.context + 1
    batch = {
        "pixels": torch.randint(256, (config.train.batch_size, frames, size, size, 3), dtype=torch.uint8),
        "action": torch.randn(config.train.batch_size, frames - 1, config.data.frameskip * actions),
    }
    optimizer = build_optimizer(model, TrainConfig())
    precision = choose_precision(TrainConfig(), torch.device("cpu"))

    def run() -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = model.loss(batch)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[128, 512, 2048, 8192], metavar="N")
    parser.add_argument("--dim", type=int, default=64, help="D (default 64)")
    parser.add_argument("--slices", type=int, default=1024, help="K (default 1024)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1, help="for each form at each size (default 1)")
    parser.add_argument("--fused", action="store_true", help="the fused form as well")
    add_keep(parser, "sigreg")
    options = parser.parse_args()
    dim, slices, threads, seconds = options.dim, options.slices, options.threads, options.seconds
    torch.set_num_threads(threads)
    keep_freed_memory()  # as a training does
    torch.manual_seed(0)

    forms = list(FORMS if options.fused else FORMS[:-1])
    setting = f"D = {dim}, {KNOTS} knots on [0, {T_MAX:g}], {threads} threads, torch {torch.__version__}"
    print(f"forward + backward in ms: float32, {setting}")
    ratios = "".join(f"{'plain/' + form:>14}" for form in forms[2:])
    print(f"{'N':>8} {'K':>6}" + "".join(f"{form:>11}" for form in forms) + ratios + "   Δvalue Δgradient")
    rows = [compare(torch.randn(samples, dim), slices, forms, seconds) for samples in options.samples]
    # A training step of the CPU recipe: 4 time steps of 128 windows.
    rows += [compare(torch.randn(4, 128, dim), num_slices, forms, seconds) for num_slices in (256, 1024)]

    z = torch.randn(8192, dim)
    sizes = {str(N): functools.partial(step, make("ours", slices), z[:N]) for N in (1024, 8192)}
    few, many = milliseconds(sizes, seconds).values()
    print(f"8 times the samples, 8192 against 1024: {many / few:.1f} times the time")
    z = z[:2048]
    widths = {str(K): functools.partial(step, make("ours", K), z) for K in (slices, 2 * slices)}
    once, twice = milliseconds(widths, seconds).values()
    print(f"twice the slices, N = 2048: {twice / once:.2f} times the time")

    steps = {K: training_step(K) for K in (0, 256, 1024)}
    times = milliseconds({str(K): run for K, run in steps.items()}, 10 * seconds)
    for K in (256, 1024):
        share = 1 - times["0"] / times[str(K)]
        print(f"a step of the CPU recipe with {K} slices: {times[str(K)]:.0f} ms, SIGReg {100 * share:.1f} %")

    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        times = fresh.apply(given_back, (2048, dim, slices, threads, seconds))
    row = ", ".join(f"{form} {value:.1f} ms" for form, value in times.items())
    print(f"where freed memory goes back to the system, N = 2048: {row}")

    memory = {}
    for form in FORMS[:3]:
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            memory[form] = fresh.apply(megabytes, (form, 2048, dim, slices, threads))
    row = ", ".join(f"{form} {value:.0f} MB" for form, value in memory.items())
    share = memory["ours"] / memory["plain"]
    print(f"peak extra memory, N = 2048: {row}; ours is {share:.3f} of the plain form's")
    if options.keep:
        about = {"dim": dim, "knots": KNOTS, "threads": threads, "megabytes": memory, "given_back": times}
        keep("sigreg", {"rows": rows, **about})


if __name__ == "__main__":
    main()
