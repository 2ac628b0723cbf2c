"""What hardware gains by: chosen in one table, overridden by options, no change of what is computed."""

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from moving_dot import dot_windows, write_dots
from torch import nn
from toy_model import Nothing, options, send

from worldjepa.data.order import WHOLE, Part
from worldjepa.data.windows import Windows
from worldjepa.device import GAINS, ahead, gains, lay_out, on_device
from worldjepa.errors import UserError
from worldjepa.recipes import load_config, to_yaml
from worldjepa.run import Run
from worldjepa.trainer import train
from worldjepa.world_model import WorldModel

CPU = torch.device("cpu")
CHOICES = ("compile", "fused", "channels_last", "prefetch")


@pytest.mark.parametrize(
    ("device", "used"),
    [("cuda", "fused channels_last prefetch"), ("mps", "fused"), ("cpu", "fused channels_last"), ("xpu", "")],
)
def test_auto_is_what_the_device_gains_by(device: str, used: str) -> None:
    found = [option for option in CHOICES if gains(options(), option, torch.device(device))]
    assert set(found) == set(used.split())


@pytest.mark.parametrize("option", CHOICES)
@pytest.mark.parametrize("device", [*GAINS, "xpu"])
def test_an_option_overrides_it(option: str, device: str) -> None:
    for said in (True, False):
        config = load_config("smoke", [f"train.{option}={str(said).lower()}"]).train
        assert gains(config, option, torch.device(device)) is said


def test_yaml_says_true_and_false_without_quotes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train: {compile: true, fused: false, prefetch: auto}\n")
    train = load_config(str(path)).train
    assert (train.compile, train.fused, train.prefetch) == ("true", "false", "auto")
    path.write_text(to_yaml(load_config(str(path))))
    assert load_config(str(path)).train == train


@pytest.mark.parametrize("option", CHOICES)
def test_other_words_are_refused(option: str) -> None:
    with pytest.raises(UserError, match=rf"train\.{option}=maybe: must be auto, true or false"):
        load_config("smoke", [f"train.{option}=maybe"])


@pytest.mark.parametrize(("said", "strides"), [("true", (144, 1, 48, 16)), ("false", (144, 9, 3, 1))])
def test_kernels_and_frames_are_laid_out_as_chosen(said: str, strides: tuple) -> None:
    config = load_config("smoke", [f"train.channels_last={said}", "model.encoder.width=16"])
    model = lay_out(WorldModel(config, action_dim=2), config.train, CPU)
    kernel = model.encoder.backbone.stages[1][0].weight
    assert kernel.stride() == strides
    seen: list[bool] = []
    model.encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
    model.encode(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert seen == [said == "false"]


@pytest.mark.parametrize("prefetch", ["true", "false"])
def test_batches_are_the_same_read_ahead_or_not(prefetch: str) -> None:
    items = ({"x": torch.full((2,), number)} for number in itertools.count())
    batches = on_device(items, options(prefetch=prefetch), CPU)
    assert [int(batch["x"][0]) for batch in itertools.islice(batches, 20)] == list(range(20))


def test_what_is_read_ahead_is_bounded_and_errors_come_through() -> None:
    read: list[int] = []

    def items() -> Any:
        for number in range(8):
            read.append(number)
            yield {"x": torch.tensor(number)}
        raise UserError("the end of the disk")

    batches = ahead(items(), depth=2)
    assert int(next(batches)["x"]) == 0
    # One is taken, two wait, one is held by the thread.
    assert len(read) <= 4
    with pytest.raises(UserError, match="the end of the disk"):
        list(batches)
    assert len(read) == 8


# In the trainer


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dots(tmp_path_factory.mktemp("dots"))


class Wide:
    """Windows whose actions are float64."""

    def __init__(self, windows: Windows):
        self.windows = windows

    def batches(
        self, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE
    ) -> Iterator[dict[str, torch.Tensor]]:
        for batch in self.windows.batches(batch_size, seed, first, part):
            yield batch | {"action": batch["action"].double()}


def trained(folder: Path, dots: Path, *overrides: str, stop: int = 0) -> dict[str, torch.Tensor]:
    """Weights after 8 steps in float64, or after `stop` of them; a folder that was trained in goes on."""
    words = ["train.steps=8", "train.precision=fp32", "train.device=cpu", "model.encoder.width=16"]
    config = load_config("smoke", [f"run={folder}", *words, *overrides])
    run = Run.create_or_open(config)
    torch.manual_seed(0)
    model = WorldModel(config, action_dim=2).double()
    windows = Wide(dot_windows(dots, frames=4, frameskip=5))
    train(model, windows, config.train, run, [(1, lambda _, s: send(signal.SIGTERM) if s == stop else None)])
    run.close()
    return run.load_weights(run.newest_checkpoint())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, dots: Path) -> dict[str, torch.Tensor]:
    return trained(tmp_path_factory.mktemp("expected"), dots)


OTHERS = ["train.fused=false", "train.channels_last=false", "train.prefetch=true", "train.recompute=true"]


@pytest.mark.parametrize("other", OTHERS)
def test_no_choice_changes_what_is_learnt(
    other: str, tmp_path: Path, dots: Path, expected: dict[str, torch.Tensor]
) -> None:
    torch.testing.assert_close(trained(tmp_path, dots, other), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("first", [OTHERS[:2], []])
def test_a_run_goes_on_where_hardware_chooses_otherwise(
    first: list[str], tmp_path: Path, dots: Path, expected: dict[str, torch.Tensor]
) -> None:
    """The moments of AdamW lie otherwise in memory, and are taken as what they are."""
    then = [] if first else OTHERS[:2]
    assert not torch.equal(trained(tmp_path, dots, *first, stop=4)["sigreg.step"], torch.tensor(8))
    torch.testing.assert_close(trained(tmp_path, dots, *then), expected, rtol=1e-9, atol=1e-9)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is compiled: traced and made functional, as every backend has it; the last step alone would need
    a compiler."""
    given, original = [], torch.compile

    def compile(loss: Any) -> Any:
        given.append(loss)
        return original(loss, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", compile)
    return given


class Brightness(nn.Module):
    """Squared difference of a linear map of the pixels from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(192, 5)

    def loss(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": (self.map(batch["pixels"].flatten(1) / 255) - 1).square().mean()}


def test_the_loss_is_compiled_as_chosen(tmp_path: Path, compiled: list[Any]) -> None:
    weights = []
    for number, said in enumerate(("auto", "true")):
        torch.manual_seed(0)
        run = Run.create_or_open(load_config("smoke", [f"run={tmp_path}/{said}"]))
        train(Brightness(), Nothing(), options(steps=3, compile=said), run)
        run.close()
        assert len(compiled) == number
        weights.append(run.load_weights(run.newest_checkpoint()))
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of graph breaks: at the counter and the generator
def test_a_compiled_world_model_trains_alike(tmp_path: Path, dots: Path, compiled: list[Any]) -> None:
    # Dropout draws otherwise in a compiled graph.
    alone = ["model.predictor.dropout=0"]
    plain = trained(tmp_path / "plain", dots, *alone)
    assert not compiled
    found = trained(tmp_path / "compiled", dots, *alone, "train.compile=true")
    assert len(compiled) == 1
    torch.testing.assert_close(found, plain, rtol=1e-7, atol=1e-7)
