"""The tables of docs/scaling.md: what a training step computes, moves and keeps, on 1 to 1,024 GPUs.

    python scripts/scaling.py

Arithmetic on stated assumptions, not measurements: no GPU has run this. What is counted of the models
(parameters, operations, bytes kept for the backward) is compared with torch in tests/test_scaling.py.
"""

import math
from dataclasses import dataclass

# Assumptions: an H100 of 80 GB, eight to a node.
PEAK = 989e12  # bfloat16, dense, FLOP/s
UTILISATION = {"ViT-Tiny/14": 0.15, "ViT-g/14": 0.45}  # of the peak; matrices 192 wide do not fill the units
WITHIN, BETWEEN = 300e9, 40e9  # bytes/s of an all-reduce for each GPU, NVLink, and 400 Gb/s InfiniBand
LATENCY = 30e-6  # seconds that an all-reduce takes however small, doubled for every 8 times as many GPUs
LAUNCHES = 15e-3  # seconds that a step takes however small: some 3,000 kernels started one by one
MEMORIES = (24e9, 40e9, 80e9)
FRAMES = 1e9
GPUS = (1, 8, 64, 1024)

KNOTS, SLICES, TIME = 17, 1024, 4
HIDDEN = 2048  # units of the two MLPs with BatchNorm


@dataclass(frozen=True)
class ViT:
    """A vision transformer with a class token on frames of 224 pixels."""

    name: str
    width: int
    depth: int
    mlp: int
    patch: int = 14

    @property
    def tokens(self) -> int:
        return (224 // self.patch) ** 2 + 1

    @property
    def parameters(self) -> int:
        w, m = self.width, self.mlp
        block = 4 * w * w + 2 * w * m + 4 * w + w + m + 4 * w  # matrices, their biases, two norms
        return self.depth * block + 3 * self.patch**2 * w + w + (self.tokens + 1) * w + 2 * w

    @property
    def flops(self) -> int:
        """Of a frame's forward: two for every weight of a matrix and token, and attention."""
        w, n = self.width, self.tokens
        block = 2 * n * (4 * w * w + 2 * w * self.mlp) + 4 * n * n * w
        spared = 2 * (n - 1) * 2 * w * self.mlp  # in the last block the class token alone goes on to the MLP
        return self.depth * block - spared + 2 * (n - 1) * 3 * self.patch**2 * w

    @property
    def kept(self) -> int:
        """Bytes that a frame's forward keeps for the backward, autocast to bfloat16, with fused attention. A
        token in a block: the inputs of two norms in float32 (8w), of four matrices (2w, 2w, 2w, 2m), queries,
        keys and values (6w), attention's output (2w), the input of GELU (2m)."""
        spared = (self.tokens - 1) * (6 * self.width + 4 * self.mlp)
        return self.depth * self.tokens * (22 * self.width + 4 * self.mlp) - spared


TINY = ViT("ViT-Tiny/14", 192, 12, 768)
GIANT = ViT("ViT-g/14", 1664, 48, 8192)
# Of LeWM beside its encoder, predictor and MLPs: parameters, and operations a frame of a forward.
BESIDE_PARAMETERS = 12_528_896
BESIDE_FLOPS = 19_500_000


def model_parameters(vit: ViT) -> int:
    return vit.parameters + BESIDE_PARAMETERS


def step_flops(vit: ViT) -> int:
    """Of a frame in training: a backward multiplies twice as much as its forward."""
    return 3 * (vit.flops + BESIDE_FLOPS)


def sigreg_bytes() -> int:
    """Of SIGReg's one all-reduce in a step: float32 sums of cosines and sines at the knots but t = 0."""
    return 4 * (2 * (KNOTS - 1) * SLICES * TIME + 1)


def batchnorm_bytes(gpus: int) -> int:
    """Of the all-reduces of two BatchNorms, forward and backward: a row of moments for every rank."""
    return 2 * 2 * 4 * gpus * (2 * HIDDEN + 1)


def seconds_to_reduce(size: float, gpus: int) -> float:
    """A ring moves each byte twice."""
    if gpus == 1:
        return 0.0
    bandwidth = WITHIN if gpus <= 8 else BETWEEN
    return LATENCY * 2 ** (math.log(gpus, 8) - 1) + 2 * (gpus - 1) / gpus * size / bandwidth


def step_seconds(vit: ViT, frames: float, gpus: int) -> tuple[float, float, float]:
    """Of a step with so many frames on each GPU: arithmetic, waiting for the reductions, all of it. The
    gradients' reduction runs beside the backward, the others do not."""
    compute = max(LAUNCHES, frames * step_flops(vit) / (UTILISATION[vit.name] * PEAK))
    gradients = seconds_to_reduce(4 * model_parameters(vit), gpus)
    small = seconds_to_reduce(sigreg_bytes(), gpus)
    small += 4 * seconds_to_reduce(batchnorm_bytes(gpus) / 4, gpus)
    waiting = small + max(0.0, gradients - 2 / 3 * compute)
    return compute, waiting, compute + waiting


def table(head: str, rows: list[tuple[str, ...]]) -> str:
    columns = head.count("|") + 1
    lines = [f"| {head} |", "|" + "---|" * columns, *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes for people."""
    power = min(4, max(0, int(math.log10(max(count, 1)) // 3)))
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def models() -> str:
    rows = [
        (
            vit.name,
            f"{model_parameters(vit) / 1e6:,.1f} M",
            f"{vit.flops / 1e9:,.1f} GFLOP",
            f"{step_flops(vit) / 1e9:,.1f} GFLOP",
            size(vit.kept),
        )
        for vit in (TINY, GIANT)
    ]
    return table(
        "encoder | parameters | a frame, forward | a frame, trained on | kept for the backward", rows
    )


def moved() -> str:
    rows = []
    for vit in (TINY, GIANT):
        gradient = 4 * model_parameters(vit)
        rows.append(
            (
                vit.name,
                size(gradient),
                size(gradient / 2),
                size(sigreg_bytes()),
                f"{100 * sigreg_bytes() / gradient:.2g} %",
                *(size(batchnorm_bytes(gpus)) for gpus in (8, 1024)),
            )
        )
    head = (
        "encoder | gradients, float32 | bfloat16 | SIGReg | of the gradients | BatchNorm, 8 GPUs | 1,024 GPUs"
    )
    return table(head, rows)


def data() -> str:
    frames = [(f"{side} px", 3 * side * side) for side in (64, 224)]
    rows = [(name, size(frame), size(4 * frame), size(FRAMES * frame)) for name, frame in frames]
    return table("frames | one | a window of 4 | 10⁹ of them", rows)


def runs(vit: ViT, batch: int, each: bool) -> str:
    """10⁹ frames, with a batch of so many windows in all, or on each GPU."""
    rows = []
    alone = step_seconds(vit, TIME * batch, 1)[2] / (TIME * batch)
    for gpus in GPUS:
        whole = batch * gpus if each else batch
        if whole % gpus:
            rows.append((f"{gpus:,}", f"{whole:,}", "fewer windows than GPUs", *[""] * 5))
            continue
        compute, waiting, step = step_seconds(vit, TIME * whole / gpus, gpus)
        rows.append(
            (
                f"{gpus:,}",
                f"{whole:,}",
                f"{1e3 * compute:.0f} ms",
                f"{1e3 * waiting:.3g} ms",
                f"{TIME * whole / step:,.0f}",
                f"{size(TIME * whole / step * 3 * 224**2)}/s",
                duration(FRAMES / TIME / whole * step),
                f"{100 * alone * TIME * whole / step / gpus:.0f} %",
            )
        )
    head = (
        "GPUs | windows in a batch | arithmetic | waiting | frames a second | read | 10⁹ frames | efficiency"
    )
    return table(head, rows)


def memory() -> str:
    """What ViT-g holds on every GPU: weights, gradients and AdamW's two moments in float32, 16 bytes a
    parameter, and the bfloat16 copy of autocast; sharded, a share of that and one block's weights gathered.
    Then how many frames fit beside it, without and with activation checkpoints."""
    count = model_parameters(GIANT)
    held = {"DDP": 18.0 * count}
    held |= {f"sharded over {gpus}": 16 * count / gpus + 4 * count / GIANT.depth for gpus in (8, 64)}
    # With checkpoints a block keeps its input in float32; one block at a time is computed again.
    checkpointed = GIANT.depth * GIANT.tokens * 4 * GIANT.width + GIANT.kept // GIANT.depth
    rows = []
    for name, state in held.items():
        fits = []
        for free in (memory - state for memory in MEMORIES):
            plain, saving = (int(max(0, free) // kept) for kept in (GIANT.kept, checkpointed))
            fits.append(f"{plain} or {saving}" if saving else "none")
        rows.append((name, size(state), *fits))
    return table("ViT-g/14 | held on each GPU | frames in 24 GB | in 40 GB | in 80 GB", rows)


def tables() -> list[str]:
    return [
        models(),
        moved(),
        data(),
        runs(TINY, 128, each=False),
        runs(TINY, 128, each=True),
        runs(GIANT, 8, each=True),
        memory(),
    ]


if __name__ == "__main__":
    print("\n\n".join(tables()))
