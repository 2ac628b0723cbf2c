"""Where a training step's time goes, and what its arithmetic could take at this machine's own rate."""

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function, schedule, tensorboard_trace_handler
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from tqdm import tqdm

from .distributed import rank, world_size
from .run import Run

# What the trainer calls the parts of a step, in their order.
PHASES = ("data", "forward", "backward", "clipping", "optimizer")
phase = record_function
# Kinds of operations, by beginnings of their names; the first that fits counts.
KINDS = {
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution", "aten::cudnn_convolution"),
    "attention": ("aten::_scaled_dot", "aten::_softmax", "aten::bmm", "aten::_efficient", "aten::_flash"),
    "matrix products": ("aten::mm", "aten::addmm", "mkldnn::_linear"),
    "norms": ("aten::native_batch_norm", "aten::native_layer_norm", "aten::cudnn_batch_norm"),
    "GELU, SiLU, ReLU": ("aten::gelu", "aten::silu", "aten::relu", "aten::threshold", "aten::clamp_min"),
    "copies and casts": ("aten::copy_", "aten::cat", "aten::fill_"),
    "everything else": ("",),
}


# Arithmetic


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """The most floating-point operations a second of a product of two large square matrices."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    seconds = []
    for _ in range(10):
        _wait(device)
        began = time.perf_counter()
        a @ b
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def step_flops(model: Any, batch: dict[str, Tensor]) -> dict[str, int]:
    """Floating-point operations of a training step, as "step", and of the parts of the model in it: those of
    the matrix products and convolutions of `model.loss`, three times, since a backward multiplies twice as
    much as its forward; of a part whose weights are all frozen, as a teacher's are, the forward alone. What
    is computed again to save memory counts once. The model stays as it is."""
    # What torch's own table lacks: its fused attention on a CPU.
    lacking = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop}
    counter = FlopCounterMode(display=False, custom_mapping=lacking)
    counts: dict[str, int] = defaultdict(int)

    def entered(name: str) -> None:
        counts[name] -= counter.get_total_flops()

    def left(name: str) -> None:
        counts[name] += counter.get_total_flops()

    training = model.training
    with torch.no_grad(), torch.random.fork_rng(), _around_parts(model, entered, left), counter:
        model.eval().loss(batch)
    model.train(training)
    frozen = {
        name
        for name, part in model.named_children()
        if (weights := list(part.parameters())) and not any(w.requires_grad for w in weights)
    }
    found = {name: count if name in frozen else 3 * count for name, count in counts.items()}
    total = counter.get_total_flops()
    return {**found, "step": 3 * total - 2 * sum(found[name] for name in frozen & found.keys())}


def _attention_flop(query: Any, key: Any, value: Any, *others: Any, **named: Any) -> int:
    return sdpa_flop_count(query, key, value)


@contextmanager
def _around_parts(
    model: nn.Module, entered: Callable[[str], None], left: Callable[[str], None]
) -> Iterator[None]:
    """Within, the forward of every part of the model says when it begins and ends."""
    handles = []
    for name, part in model.named_children():
        handles.append(part.register_forward_pre_hook(lambda *_, name=name: entered(name)))
        handles.append(part.register_forward_hook(lambda *_, name=name: left(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# Time


class Profile:
    """Watches steps of the trainer: some until they run evenly, some for their time alone, some by torch's
    profiler. Then, on every rank, a trace in the run's profile/, and rank 0 says where the time goes, and
    writes it to evaluation/profile.json and to TensorBoard. What the steps compute stays the same.

    Args:
        model: being trained, on its device.
        run: where to write; None: nowhere.
        precision: in which most is multiplied.
    """

    untimed, timed, warming, profiled = 5, 10, 2, 10

    def __init__(self, model: nn.Module, run: Run | None, device: torch.device, precision: torch.dtype):
        self.model, self.run, self.device, self.precision = model, run, device, precision
        self.seconds: list[float] = []
        self.values: dict[str, Any] | None = None
        self._open = ExitStack()
        self._profiler: profile | None = None

    def step(self, step: int, seconds: float, batch: dict[str, Tensor]) -> None:
        """After each step: its number, what it took, and its batch."""
        if self.values is not None:
            return
        self.seconds.append(seconds)
        if self._profiler is not None:
            self._profiler.step()
        elif len(self.seconds) == self.untimed + self.timed:
            self._begin()
        if len(self.seconds) == self.untimed + self.timed + self.warming + self.profiled:
            self._end(step, batch)

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()
        if self.values is None and rank() == 0:
            steps = self.untimed + self.timed + self.warming + self.profiled
            print(f"train: no profile, which takes {steps} steps: {len(self.seconds)} were made")

    def _begin(self) -> None:
        ranges: list[record_function] = []

        def entered(name: str) -> None:
            ranges.append(record_function(name))
            ranges[-1].__enter__()

        self._open.enter_context(
            _around_parts(self.model, entered, lambda _: ranges.pop().__exit__(None, None, None))
        )
        # Where torch could use a GPU and finds none, its profiler calls that an error.
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        steps = schedule(wait=0, warmup=self.warming, active=self.profiled, repeat=1)
        self._profiler = self._open.enter_context(profile(activities=activities, schedule=steps))

    def _end(self, step: int, batch: dict[str, Tensor]) -> None:
        assert self._profiler is not None
        profiler = self._profiler
        self._open.close()
        if self.run is not None:
            folder = self.run.path / "profile"
            tensorboard_trace_handler(str(folder), f"rank_{rank()}", use_gzip=True)(profiler)
        flops = step_flops(self.model, batch)
        parts = [name for name, _ in self.model.named_children()]
        self.values = {
            "step": step,
            "device": str(self.device),
            "dtype": str(self.precision).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "processes": world_size(),
            "seconds": statistics.median(self.seconds[self.untimed : self.untimed + self.timed]),
            "flops": flops.pop("step"),
            "flops_of_parts": flops,
            "matmul_rate": matmul_rate(self.precision, self.device),
            **where_time_goes(profiler.events() or [], parts, self.profiled),
        }
        if self.run is not None and rank() == 0:
            self.run.write_json("profile", self.values)
            self.run.writer.add_text("perf/profile", profile_table(self.values), step)
            tqdm.write(profile_table(self.values))


def where_time_goes(events: list[FunctionEvent], parts: list[str], steps: int) -> dict[str, Any]:
    """Of profiled steps, means in milliseconds: "profiled_step", the whole from data to optimizer; "parts",
    each part's forward and backward, "loss" being what is of no part; "phases" that are neither; "kinds",
    each kind of operation. On a GPU all but the whole is the GPU's time.

    Operations of a backward have the number of the operation whose derivative they are.
    """
    events = [event for event in events if event.device_type == torch.autograd.DeviceType.CPU]
    on_gpu = any(event.self_device_time_total for event in events)

    def took(event: FunctionEvent, itself: bool = False) -> float:
        gpu = event.self_device_time_total if itself else event.device_time_total
        cpu = event.self_cpu_time_total if itself else event.cpu_time_total
        return (gpu if on_gpu else cpu) / 1000 / steps

    whose: dict[int, str] = {}
    times = {name: [0.0, 0.0] for name in [*parts, "loss"]}
    phases, kinds, span = dict.fromkeys(PHASES, 0.0), dict.fromkeys(KINDS, 0.0), 0.0
    for event in sorted(events, key=lambda event: event.time_range.start):
        above = [name for name in _above(event) if name in (*parts, *PHASES)]
        kind = next(kind for kind, names in KINDS.items() if event.name.startswith(names))
        kinds[kind] += took(event, itself=True)
        if event.name in PHASES and not above:
            phases[event.name] += took(event)
            ends = {"data": -event.time_range.start, "optimizer": event.time_range.end}
            span += ends.get(event.name, 0.0) / 1000 / steps
        elif event.name in parts and above == ["forward"]:
            times[event.name][0] += took(event)
        elif above[-1:] == ["forward"] and event.sequence_nr >= 0:
            # One that has no derivative bears the number of the next that has: the last one counts.
            whose[event.sequence_nr] = above[-2] if len(above) > 1 else "loss"
    for event in events:
        if event.name.startswith("autograd::engine::evaluate_function"):
            times[whose.get(event.sequence_nr, "loss")][1] += took(event)
    times["loss"][0] = phases.pop("forward") - sum(forward for forward, _ in times.values())
    del phases["backward"]
    times = {name: both for name, both in times.items() if any(both)}
    return {"profiled_step": span, "parts": times, "phases": phases, "kinds": kinds}


def _above(event: FunctionEvent) -> Iterator[str]:
    """Names of what an event happened within, the innermost first."""
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event.name


def profile_table(values: dict[str, Any]) -> str:
    """What a profile.json says, in Markdown."""
    work, speed = values["flops"] / 1e9, values["flops"] / values["seconds"] / 1e9
    rate = values["matmul_rate"] / 1e9
    lines = [
        f"A step on {values['device']} in {values['dtype']}: {1000 * values['seconds']:.1f} ms, "
        f"{work:.1f} GFLOP, {speed:.0f} GFLOP/s: {100 * speed / rate:.1f} % of the {rate:.0f} GFLOP/s of a "
        "large matrix product here.",
        f"Under the profiler {values['profiled_step']:.1f} ms, of which:",
        "",
        "| | forward, ms | backward, ms | share | GFLOP/s |",
        "|---|---|---|---|---|",
    ]
    whole, rest = values["profiled_step"], values["profiled_step"]
    for name, (forward, backward) in values["parts"].items():
        both = forward + backward
        own = values["flops_of_parts"].get(name, 0) / 1e6
        rates = f"{own / both:.0f}" if own else ""
        lines.append(f"| {name} | {forward:.1f} | {backward:.1f} | {100 * both / whole:.1f} % | {rates} |")
        rest -= both
    for name, taken in values["phases"].items():
        lines.append(f"| {name} | {taken:.1f} | | {100 * taken / whole:.1f} % | |")
        rest -= taken
    lines.append(f"| the rest | {rest:.1f} | | {100 * rest / whole:.1f} % | |")
    kinds = sum(values["kinds"].values())
    told = ", ".join(f"{kind} {100 * taken / kinds:.0f} %" for kind, taken in values["kinds"].items())
    return "\n".join([*lines, "", f"By operation: {told}."])
