"""Published LeWM weights: what stable-worldmodel's own code computes with them, our model computes too.

tests/lewm_golden.json holds what it computed (tests/lewm_peer.py, which `make test-peer` runs again)."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from worldjepa.cli import main
from worldjepa.config import Config
from worldjepa.errors import UserError
from worldjepa.lewm_weights import from_lewm
from worldjepa.planning.costs import last
from worldjepa.planning.dynamics import LatentDynamics
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.world_model import WorldModel

GOLDEN = json.loads((Path(__file__).parent / "lewm_golden.json").read_text())
# The golden model is LeWM's with timm's smallest ViT, and smaller all over.
SMALL = [
    "env.image_size=32",
    "model.latent=24",
    "model.projector_hidden=32",
    "model.encoder.name=test_vit",
    "model.encoder.patch_size=16",
    "model.predictor.depth=2",
    "model.predictor.width=24",
    "model.predictor.heads=4",
    "model.predictor.head_width=8",
    "model.predictor.mlp_width=48",
    "model.predictor.action_hidden=96",
]


def small() -> Config:
    return load_config("reacher_gpu", SMALL)


def published() -> dict[str, Tensor]:
    """The golden model's state dict; filled as in tests/lewm_peer.py."""
    draw = np.random.default_rng(0)
    state = {}
    for name, shape in GOLDEN["shapes"].items():
        values = torch.from_numpy(draw.uniform(-1, 1, shape).astype(np.float32))
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = 1.5 + values
        else:
            state[name] = 0.3 * values + ("norm" in name and name.endswith("weight"))
    return state


def model_of(state: dict[str, Tensor]) -> WorldModel:
    model = WorldModel(small(), action_dim=2).eval()
    model.load_state_dict(model.state_dict() | from_lewm(state))
    return model


def assert_golden(model: WorldModel) -> None:
    """Latents, predictions and costs of the golden frames and plans, as stable-worldmodel gives them."""
    draw = np.random.default_rng(1)
    frames = draw.integers(0, 256, (2, 32, 32, 3), np.uint8)
    plans = torch.from_numpy(draw.uniform(-1, 1, (1, 3, 5, 10)).astype(np.float32))
    dynamics = LatentDynamics(model, last, torch.device("cpu"))
    dynamics.reset(frames[1:], None)
    dynamics.observe(frames[:1], None)
    z = dynamics.seen
    torch.testing.assert_close(z[0, 0], torch.tensor(GOLDEN["latent"]), rtol=1e-4, atol=1e-4)
    ahead = model.rollout(z, torch.empty(1, 0, 10), plans)
    torch.testing.assert_close(ahead[0], torch.tensor(GOLDEN["ahead"]), rtol=1e-4, atol=1e-4)
    # Theirs is the sum over the latent's dimensions, ours the mean.
    torch.testing.assert_close(24 * dynamics.cost(plans)[0], torch.tensor(GOLDEN["cost"]), rtol=1e-4, atol=0)


def older(name: str) -> str:
    """A weight's name before transformers 5."""
    name = name.replace("encoder.layers.", "encoder.encoder.layer.")
    name = re.sub(r"attention\.([qkv])_proj", lambda m: "attention.attention." + WORDS[m[1]], name)
    for new, old in (("attention.o_proj", "attention.output.dense"), ("fc1", "intermediate.dense")):
        name = name.replace(new if new != "fc1" else "mlp.fc1", old)
    return name.replace("mlp.fc2", "output.dense")


WORDS = {"q": "query", "k": "key", "v": "value"}


def test_the_model_computes_what_stable_worldmodel_computes() -> None:
    assert_golden(model_of(published()))


def test_names_before_transformers_5_are_known_too() -> None:
    state = {older(name): tensor for name, tensor in published().items()}
    assert "encoder.encoder.layer.0.attention.attention.query.weight" in state
    assert_golden(model_of(state))


def test_names_behind_a_prefix_beside_others_are_known_too() -> None:
    state = {f"model.{name}": tensor for name, tensor in published().items()}
    assert_golden(model_of(state | {"sigreg.knots": torch.zeros(17), "model.sigreg.weights": torch.ones(17)}))


def test_the_recipe_has_as_many_parameters_as_the_published_checkpoints() -> None:
    config = load_config("reacher_gpu")
    count = sum(p.numel() for p in WorldModel(config, action_dim=2).parameters())
    # 18.03M; ours lacks two biases of 2048 that BatchNorm cancels, and the actions' convolution of 110.
    assert count + 2 * 2048 + 110 == 18_034_478


@pytest.mark.parametrize(
    "name",
    [
        "predictor.pos_embedding",
        "projector.net.0.bias",
        "pred_proj.net.1.running_mean",
        "action_encoder.patch_embed.weight",
        "encoder.layers.3.attention.k_proj.bias",
    ],
)
def test_a_missing_tensor_is_named(name: str) -> None:
    state = published()
    del state[name]
    with pytest.raises(UserError, match="is missing") as raised:
        from_lewm(state)
    assert name.rpartition(".")[2] in str(raised.value)


@pytest.mark.parametrize(
    "name", ["encoder.mask_token", "encoder.layers.0.gate.weight", "predictor.transformer.layers.0.gate.bias"]
)
def test_a_tensor_that_lewm_has_not_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"no {re.escape(name)}"):
        from_lewm(published() | {name: torch.zeros(3)})


# The command


def convert(*words: str) -> int:
    return main(["convert", "reacher_gpu", *SMALL, *words])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(published(), "lewm.pt")
    save_file(published(), "lewm.safetensors")
    torch.save({"state_dict": published(), "epoch": 3}, "lightning.ckpt")
    return tmp_path


@pytest.mark.parametrize("file", ["lewm.pt", "lewm.safetensors", "lightning.ckpt"])
def test_convert_makes_a_run_that_plans(here: Path, file: str) -> None:
    assert convert(f"convert.weights={file}", "run=run") == 0
    assert_golden(Run("run").load_world_model())


def test_statistics_of_the_actions_go_with_the_weights(here: Path) -> None:
    words = ["convert.weights=lewm.pt", "convert.action_mean=0.5,-1", "convert.action_std=2"]
    assert convert(*words, "run=run") == 0
    encoder, plain = Run("run").load_world_model().action_encoder, model_of(published()).action_encoder
    standard = torch.randn(4, 10)
    units = standard * 2 + torch.tensor([0.5, -1.0]).repeat(5)
    torch.testing.assert_close(encoder(units), plain(standard))


def test_training_goes_on_from_them(here: Path, tiny_data: Path) -> None:
    words = ["convert.weights=lewm.pt", "run=run", "train.steps=2", "train.batch_size=4"]
    assert convert(*words, "train.learning_rate=1e-9", "train.evaluate_goals=0") == 0
    assert main(["train", "run", f"data.path={tiny_data}"]) == 0
    assert [p.name for p in Run("run").checkpoints()][-1] == "00000002"
    # At such a rate they stay where they were, but for BatchNorm's statistics.
    ours, theirs = Run("run").load_world_model().state_dict(), from_lewm(published())
    moved = [n for n in theirs if "running" not in n and "num_batches" not in n]
    for name in moved:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)


class Malicious:
    """Its pickle runs code."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("was-run"),)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "convert.weights: name the file"),
        (["convert.weights=none.pt"], "no such file"),
        (["convert.weights=malicious.pt"], "more than tensors"),
        (["convert.weights=pickled.pt"], "more than tensors"),
        (["convert.weights=text.safetensors"], "damaged"),
        (["convert.weights=list.pt"], "no state dict"),
        (["convert.weights=lewm.pt", "data.frameskip=3"], "blocks of 10 numbers"),
        (["convert.weights=lewm.pt", "model.latent=16"], "of another model"),
        (["convert.weights=lewm.pt", "convert.action_std=0"], "convert.action_std=0"),
        (["convert.weights=lewm.pt", "convert.action_mean=1,2,3"], "one number, or 2"),
        (["convert.weights=lewm.pt", "convert.action_mean=x"], "one number, or 2"),
    ],
)
def test_what_can_not_be_converted_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    torch.save(Malicious(), "malicious.pt")
    Path("pickled.pt").write_bytes(pickle.dumps(published()))
    Path("text.safetensors").write_text("weights")
    torch.save([torch.zeros(2)], "list.pt")
    assert convert(*words, "run=run") == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1
    assert not Path("was-run").exists()
    assert not Path("run").exists()


def test_a_run_that_has_been_trained_is_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert.weights=lewm.pt", "run=run"]
    assert convert(*words) == 0
    capsys.readouterr()
    assert convert(*words) == 2
    assert "has checkpoints already" in capsys.readouterr().err
