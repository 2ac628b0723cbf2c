"""`train.profile`: operations as counted by hand, time given to the parts, training left as it is."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from moving_dot import dot_windows, write_dots
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from toy_model import Nothing, Slope, options

from worldjepa.image_jepa import ImageJEPA
from worldjepa.profiling import Profile, matmul_rate, phase, profile_table, step_flops, where_time_goes
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import train
from worldjepa.world_model import WorldModel

COUNTS = {"untimed": 1, "timed": 2, "warming": 1, "profiled": 2}
STEPS = sum(COUNTS.values())


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in COUNTS.items():
        monkeypatch.setattr(Profile, name, count)


def world_model(*overrides: str) -> tuple[WorldModel, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = WorldModel(load_config("smoke", list(overrides)), action_dim=2).train()
    pixels = torch.randint(0, 256, (8, 4, 32, 32, 3), dtype=torch.uint8)
    return model, {"pixels": pixels, "action": torch.randn(8, 3, 10)}


# Arithmetic


def test_operations_of_convolutions_and_layers_are_those_counted_by_hand() -> None:
    model, batch = world_model()
    counts, frames, k, n = step_flops(model, batch), 8 * 4, 16, 8
    channels, side, forward = [3, 8, 16, 32, 64], 32, 0
    for index, (c_in, c_out) in enumerate(pairwise(channels)):
        side //= 2
        forward += 2 * frames * side**2 * c_in * c_out * (4 if index == 0 else 3) ** 2
    forward += 2 * frames * 64 * side**2 * 32
    assert counts["encoder"] == 3 * forward
    assert counts["projector"] == 3 * 2 * frames * (32 * 32 + 32 * 16)
    assert counts["sigreg"] == 3 * 2 * 4 * n * 16 * k, "4 steps, 8 samples, 16 dimensions, 16 slices"
    assert counts["step"] == sum(count for name, count in counts.items() if name != "step")


@pytest.mark.parametrize("bf16", [False, True])
def test_a_vits_fused_attention_counts(bf16: bool) -> None:
    model, batch = world_model("model.encoder.name=test_vit")
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        counts = step_flops(model, batch)
    tokens, width, blocks = 5, 64, 6
    whole, hidden = blocks * 4 * tokens**2 * width, 3 * width
    # The last block's MLP sees the class token alone (worldjepa/vit.py).
    layers = blocks * 2 * tokens * 4 * width**2 + ((blocks - 1) * tokens + 1) * 2 * 2 * width * hidden
    patches = 2 * 4 * width * 3 * 16**2
    assert counts["encoder"] == 3 * 32 * (whole + layers + patches)


@pytest.mark.parametrize("saving", [["train.accumulate=4"], ["train.recompute=true"]])
def test_what_is_computed_again_counts_once(saving: list[str]) -> None:
    assert step_flops(*world_model(*saving)) == step_flops(*world_model())


def test_of_frozen_parts_the_forward_alone_counts() -> None:
    usual = step_flops(*world_model())
    model, batch = world_model()
    for part in (model.encoder, model.projector):
        part.requires_grad_(False)
    counts = step_flops(model, batch)
    assert 3 * counts["encoder"] == usual["encoder"]
    assert 3 * counts["projector"] == usual["projector"]
    assert counts["predictor"] == usual["predictor"]
    assert counts["step"] == sum(count for name, count in counts.items() if name != "step")


def test_counting_leaves_the_model_as_it_is() -> None:
    model, batch = world_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    step_flops(model, batch)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_images_count_too() -> None:
    config = load_config("images_smoke")
    counts = step_flops(
        ImageJEPA(config), {"global": torch.zeros(2, 4, 16, 16, 1), "local": torch.zeros(2, 4, 16, 16, 1)}
    )
    assert counts["encoder"] > counts["projector"] > 0
    assert counts["step"] == sum(count for name, count in counts.items() if name != "step")


def test_the_rate_is_one_that_a_matrix_product_has() -> None:
    rate = matmul_rate(torch.float32, torch.device("cpu"))
    assert 1e8 < rate < 1e14


# Time


class Twice(nn.Module):
    """A cheap part and a dear one: a matrix product, and ten of them."""

    def __init__(self) -> None:
        super().__init__()
        self.cheap = nn.Linear(256, 256, bias=False)
        self.dear = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(10)))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": self.dear(self.cheap(batch["x"])).square().mean()}


def test_time_goes_to_the_part_whose_it_is_forward_and_backward() -> None:
    model, batch = Twice(), {"x": torch.randn(512, 256)}
    watch = Profile(model, None, torch.device("cpu"), torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with watch:
        for number in range(STEPS + 1):
            with phase("data"):
                batch["x"].normal_()
            with phase("forward"):
                loss = model.loss(batch)["loss"]
            with phase("backward"):
                loss.backward()
            with phase("clipping"):
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            with phase("optimizer"):
                optimizer.step()
            optimizer.zero_grad()
            watch.step(number + 1, 0.25, batch)
    values = watch.values
    assert values is not None
    assert (values["step"], values["seconds"]) == (STEPS, 0.25)
    for direction in (0, 1):
        assert values["parts"]["dear"][direction] > 3 * values["parts"]["cheap"][direction]
    within = sum(map(sum, values["parts"].values())) + sum(values["phases"].values())
    assert 0.7 * values["profiled_step"] < within <= values["profiled_step"]
    assert set(values["phases"]) == {"data", "clipping", "optimizer"}
    assert all(taken > 0 for taken in values["phases"].values())
    assert max(values["kinds"], key=values["kinds"].get) == "matrix products"
    assert values["flops"] == 3 * 2 * 512 * 256**2 * 11
    assert not any(part._forward_hooks for part in model.modules())


def test_what_is_watched_outside_of_a_forward_counts_for_no_part() -> None:
    """As an evaluation between two steps."""
    model, batch = Twice(), {"x": torch.randn(64, 256)}
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        with phase("cheap"):
            model.cheap(batch["x"])
        with phase("data"):
            batch["x"].normal_()
        with phase("forward"), phase("dear"):
            model.dear(batch["x"])
        with phase("backward"), phase("clipping"), phase("optimizer"):
            batch["x"].sum()
    parts = where_time_goes(list(profiler.events()), ["cheap", "dear"], 1)["parts"]
    assert "cheap" not in parts
    assert parts["dear"][0] > 0 == parts["dear"][1]


# In the trainer


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dots(tmp_path_factory.mktemp("dots"))


def trained(folder: Path, dots: Path, *overrides: str) -> Run:
    config = load_config(
        "smoke", [f"run={folder}", f"train.steps={STEPS + 2}", "train.device=cpu", *overrides]
    )
    run = Run.create_or_open(config)
    torch.manual_seed(0)
    model = WorldModel(config, action_dim=2)
    windows = dot_windows(dots, frames=4, frameskip=5)
    callbacks = [(3, lambda m, _: m.encode(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)))]
    assert train(model, windows, config.train, run, callbacks) is None
    run.close()
    return run


@pytest.mark.parametrize("more", [[], ["train.recompute=true", "train.accumulate=2"]])
def test_a_profiled_run_ends_as_one_that_is_not(
    tmp_path: Path, dots: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = trained(tmp_path / "plain", dots, *more)
    watched = trained(tmp_path / "watched", dots, *more, "train.profile=true")
    one, other = (run.load_weights(run.newest_checkpoint()) for run in (plain, watched))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    values = json.loads((watched.evaluation / "profile.json").read_text())
    assert profile_table(values) in capsys.readouterr().out
    assert {"encoder", "projector", "action_encoder", "predictor", "sigreg", "loss"} == set(values["parts"])
    assert all(forward >= 0 < backward for forward, backward in values["parts"].values())
    assert 0 < values["flops"] / values["seconds"] < values["matmul_rate"]
    assert not (plain.path / "profile").exists()
    assert not (plain.evaluation / "profile.json").exists()
    (trace,) = (watched.path / "profile").iterdir()
    assert trace.name.startswith("rank_0.")
    assert trace.name.endswith(".pt.trace.json.gz"), "what TensorBoard's plug-in looks for"
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = [event.get("name") for event in events]
    assert names.count("encoder") >= names.count("forward") == COUNTS["profiled"]


def test_a_run_too_short_for_a_profile_says_so(empty_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(Slope(), Nothing(), options(steps=5, profile=True), empty_run) is None
    assert f"train: no profile, which takes {STEPS} steps: 5 were made\n" in capsys.readouterr().out
    assert not (empty_run.path / "profile").exists()
