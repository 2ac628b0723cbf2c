"""Where and in which precision to compute: every choice that hardware makes, and options override."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from .config import TrainConfig
from .errors import UserError
from .launch import launched
from .memory import keep_freed_memory

with contextlib.suppress(ImportError):
    # Before an environment of a user's own draws with Mesa; ours see to that themselves (envs/rendering.py).
    import triton  # noqa: F401


def choose_device(config: TrainConfig) -> torch.device:
    """Where to compute, a GPU with its number, and on a CPU with how many threads.

    Raises:
        UserError: `config.device` is not there, or this machine has more processes than GPUs.
    """
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.device != "auto":
        try:
            device = torch.device(config.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError):
            raise UserError(f"train.device={config.device}: not there; name cuda, mps, cpu or auto") from None
    elif torch.cuda.is_available():
        device = torch.device("cuda")
    else:
        device = torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    return _own_gpu() if device == torch.device("cuda") else device


def _own_gpu() -> torch.device:
    """This process's, by its number: a thread that it starts would take the machine's first for it."""
    number, there = launched("LOCAL_RANK", 0), torch.cuda.device_count()
    if number >= there:
        raise UserError(
            f"process {number + 1} of this machine has no GPU: there are {there}; start {there}, or give "
            "train.device=cpu"
        )
    return torch.device("cuda", torch.cuda.current_device())


def choose_precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    """bfloat16 for autocast where the device multiplies it faster than float32, else float32."""
    if config.precision == "auto":
        if device.type == "cuda":
            gains = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            gains = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if gains else torch.float32
    return torch.bfloat16 if config.precision == "bf16" else torch.float32


# By what each kind of device gains, where an option says auto. Nothing is compiled unasked: that takes
# minutes before it gives any back. A CPU has better things to do than to read ahead.
GAINS = {
    "cuda": {"fused", "channels_last", "prefetch"},
    "mps": {"fused"},
    "cpu": {"fused", "channels_last"},
}


def gains(config: TrainConfig, option: str, device: torch.device) -> bool:
    """Whether an `option` of auto, true or false is used: as it says, or as the device gains by it."""
    said = getattr(config, option)
    return option in GAINS.get(device.type, ()) if said == "auto" else said == "true"


def lay_out(model: nn.Module, config: TrainConfig, device: torch.device) -> nn.Module:
    """The model on the device, its kernels and its encoder's frames channels-last or contiguous."""
    layout = torch.channels_last if gains(config, "channels_last", device) else torch.contiguous_format
    for module in model.modules():
        if hasattr(module, "layout"):
            module.layout = layout  # type: ignore[assignment]
    return model.to(device).to(memory_format=layout)


def on_device(
    batches: Iterable[dict[str, Tensor]], config: TrainConfig, device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """Batches on the device; with `prefetch` a thread reads them, and pins them for a GPU, while others are
    worked on."""
    pinned = device.type == "cuda"
    if gains(config, "prefetch", device):
        batches = ahead(
            # Views of images are computed on the device: only what lies in the CPU's memory can be pinned.
            {
                name: value.pin_memory() if pinned and value.device.type == "cpu" else value
                for name, value in batch.items()
            }
            for batch in batches
        )
    return (
        {name: value.to(device, non_blocking=pinned) for name, value in batch.items()} for batch in batches
    )


def ahead(items: Iterable[dict[str, Tensor]], depth: int = 2) -> Iterator[dict[str, Tensor]]:
    """The same items, of which a thread takes up to `depth` before they are asked for; what it raises is
    raised here."""
    waiting: queue.Queue = queue.Queue(depth)
    closed = threading.Event()

    def put(item: object) -> bool:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except Exception as error:
            put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        closed.set()
