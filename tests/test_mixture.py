"""Training on several data sets: their windows in one order, actions padded, each looked at by itself."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from worldjepa.cli import main
from worldjepa.commands.train import Job, _world_model_job
from worldjepa.config import Config, DataConfig
from worldjepa.data.collect import about
from worldjepa.data.environments import make_env
from worldjepa.data.episodes import collect_episode
from worldjepa.data.mixture import Mixture, together
from worldjepa.data.shards import Store, shard_path, write_shard
from worldjepa.data.windows import Windows, split_episodes
from worldjepa.errors import UserError
from worldjepa.limits import validate
from worldjepa.notation import data_name, paths
from worldjepa.planning.costs import COSTS
from worldjepa.planning.dynamics import LatentDynamics
from worldjepa.predictor import ActionEncoder
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import train
from worldjepa.world_model import WorldModel

REACHER, CARTPOLE = (f"env.id=worldjepa.envs:worldjepa/{name}-v0" for name in ("Reacher", "Cartpole"))


@pytest.fixture(scope="module")
def poles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the smoke recipe collects of cartpole, whose action is one number."""
    folder = tmp_path_factory.mktemp("data") / "poles"
    folder.mkdir()
    config = load_config("smoke", [CARTPOLE])
    env = make_env(config.env)
    episodes = [collect_episode(env, config.collect, i) for i in range(6)]
    write_shard(shard_path(folder, 0), episodes, about(config.env, config.collect))
    env.close()
    return folder


@pytest.fixture(scope="module")
def run_on_one(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one"
    assert main(["train", "smoke", f"run={run}", f"data.path={tiny_data}"]) == 0
    return run


@pytest.fixture(scope="module")
def run_on_both(poles: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on cartpole, where goals are tried, and reacher."""
    run = tmp_path_factory.mktemp("runs") / "both"
    assert main(["train", "smoke", f"run={run}", f"data.path={poles},{tiny_data}", CARTPOLE]) == 0
    return run


def labelled(folder: Path, lengths: list[int], actions: int, first: int) -> Store:
    """Episodes numbered from `first`, whose frames and actions hold their episode and step: pixels [e, t, 0],
    action e + t/100, and 10 more for each further number of it."""
    episodes = []
    for episode, length in enumerate(lengths, first):
        steps = np.arange(length)
        pixels = np.zeros((length, 8, 8, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = episode, steps[:, None, None]
        action = (episode + steps / 100)[:, None] + 10 * np.arange(actions)
        episodes.append({"pixels": pixels, "action": action.astype(np.float32)})
    folder.mkdir()
    write_shard(shard_path(folder, 0), episodes, {})
    return Store(folder)


def three(folder: Path, frames: int = 3, frameskip: int = 2) -> tuple[list[Windows], Mixture]:
    """Windows of three sets, of actions of 1, 3 and 2 numbers, and their mixture."""
    sets = [([9, 6], 1, 0), ([12], 3, 2), ([7, 8, 5], 2, 3)]
    stores = [labelled(folder / str(i), *each) for i, each in enumerate(sets)]
    parts = [Windows(store, np.arange(len(store.lengths)), frames, frameskip) for store in stores]
    mixture = together(parts, 3)
    assert isinstance(mixture, Mixture)
    return parts, mixture


# The data


def test_a_window_is_its_own_sets_with_zeros_after_each_action(tmp_path: Path) -> None:
    parts, mixture = three(tmp_path)
    assert len(mixture) == sum(map(len, parts)) == 7 + 8 + 8
    order = np.random.default_rng(0).permutation(len(mixture))
    batch = mixture.batch(order)
    assert batch["pixels"].dtype == torch.uint8
    assert batch["action"].dtype == torch.float32
    assert batch["action"].shape == (len(mixture), 2, 2 * 3)
    first = 0
    for part in parts:
        own = part.batch(np.arange(len(part)))
        rows = [int(np.flatnonzero(order == first + i)[0]) for i in range(len(part))]
        assert torch.equal(batch["pixels"][rows], own["pixels"])
        # The two actions of a block stay apart: zeros follow each of them.
        action = batch["action"][rows].unflatten(-1, (2, 3))
        width = part.store.action_dim
        assert torch.equal(action[..., :width], own["action"].unflatten(-1, (2, width)))
        assert (action[..., width:] == 0).all()
        first += len(part)


def test_every_window_once_an_epoch_so_sets_have_shares_by_their_windows(tmp_path: Path) -> None:
    parts, mixture = three(tmp_path)
    batches = mixture.batches(len(mixture), seed=3)
    counts, firsts = [len(part) for part in parts], []
    for batch in islice(batches, 200):
        assert sorted(batch["index"].tolist()) == list(range(len(mixture)))
        episodes = batch["pixels"][:, 0, 0, 0, 0].numpy()
        which = np.searchsorted([2, 3, 6], episodes, "right")
        assert np.bincount(which, minlength=3).tolist() == counts
        firsts.append(which[:8])
    # Within an epoch they come mixed: of its first eight windows each set has its share, on average.
    share = np.bincount(np.concatenate(firsts)) / (200 * 8)
    np.testing.assert_allclose(share, np.array(counts) / len(mixture), atol=4 * 0.5 / np.sqrt(200 * 8))


def test_batches_go_on_from_any_and_ranks_share_them(tmp_path: Path) -> None:
    _, mixture = three(tmp_path)
    straight = list(islice(mixture.batches(6, seed=5), 9))
    later = islice(mixture.batches(6, seed=5, first=4), 5)
    ranks = [mixture.batches(6, seed=5, first=4, part=(rank, 3)) for rank in range(3)]
    for whole, again in zip(straight[4:], later, strict=True):
        shares = [next(rank) for rank in ranks]
        for name, value in whole.items():
            assert torch.equal(value, again[name])
            assert torch.equal(value, torch.cat([share[name] for share in shares]))


def test_statistics_of_a_number_are_over_the_sets_that_have_it(tmp_path: Path) -> None:
    parts, mixture = three(tmp_path)
    mean, std = mixture.action_statistics()
    assert mean.dtype == std.dtype == np.float32
    for number, having in enumerate(([0, 1, 2], [1, 2], [1])):
        values = []
        for part in (parts[i] for i in having):
            for episode, length in enumerate(part.store.lengths):
                if length > 4:
                    rows = part.store.gather("action", np.array([episode]), np.arange(length - 1)[None])
                    values.append(rows[0, :, number].astype(np.float64))
        assert mean[number] == pytest.approx(np.concatenate(values).mean(), rel=1e-6)
        assert std[number] == pytest.approx(np.concatenate(values).std(), rel=1e-6)


def test_too_few_windows_names_all_sets(tmp_path: Path) -> None:
    _, mixture = three(tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path}/0, .*{tmp_path}/2: 23 windows are fewer than train"):
        next(mixture.batches(24, seed=0))


def test_one_data_set_is_taken_as_it_is(tmp_path: Path) -> None:
    (part, *_), _ = three(tmp_path)
    assert together([part], 1) is part
    padded = together([part], 2).batch(np.arange(3))["action"].unflatten(-1, (2, 2))
    assert (padded[..., 1] == 0).all()


def test_paths_are_read_and_have_names_of_their_own() -> None:
    assert paths("data/reacher") == ["data/reacher"]
    assert paths("data/reacher, recorded.h5,../x/walker") == ["data/reacher", "recorded.h5", "../x/walker"]
    assert [data_name(p) for p in ("data/reacher", "x/recorded.h5")] == ["reacher", "recorded"]
    for wrong in ("", "a,", "a,,b", "old/walker,new/walker", "walker,walker.h5"):
        with pytest.raises(ValueError, match="is no list of data sets"):
            paths(wrong)
        with pytest.raises(UserError, match=r"^data\.path=.*: must be a folder or file, or several"):
            validate(Config(data=DataConfig(path=wrong)))


# The model


def test_the_numbers_that_are_missing_are_zeros_exactly() -> None:
    torch.manual_seed(1)
    encoder = ActionEncoder(action_dim=3, frameskip=2, width=5, pads=True)
    encoder.mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
    encoder.std.copy_(torch.tensor([2.0, 0.5, 3.0]))
    for width in (1, 2, 3):
        actions = torch.randn(4, 6, 2, width)
        zeros = torch.cat([actions, torch.zeros(4, 6, 2, 3 - width)], -1)
        assert torch.equal(encoder(actions.flatten(-2)), encoder(zeros.flatten(-2)))
    strict = ActionEncoder(action_dim=3, frameskip=2, width=5)
    for refusing, width in ((strict, 2), (encoder, 4)):
        with pytest.raises(RuntimeError, match="must match"):
            refusing(torch.randn(4, 6, 2 * width))


@torch.no_grad()
def test_a_planner_over_the_real_actions_sees_what_the_padded_model_sees() -> None:
    model = WorldModel(load_config("smoke", ["data.path=a,b"]), action_dim=3).eval()
    for block in model.predictor.blocks:
        torch.nn.init.normal_(block.modulation.weight)
    assert [width for width in range(1, 6) if model.takes(width)] == [1, 2, 3]
    rng, k = np.random.default_rng(0), model.frameskip
    frames = rng.integers(0, 256, (3, 2, 32, 32, 3), np.uint8)
    plans, block = torch.randn(2, 7, 4, k, 2), torch.randn(2, k, 2)

    def costs(pads: int) -> torch.Tensor:
        def as_given(x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.pad(x, (0, pads)).flatten(-2)

        dynamics = LatentDynamics(model, COSTS["closest"], torch.device("cpu"))
        dynamics.reset(frames[0], None)
        dynamics.observe(frames[1], None)
        first = dynamics.cost(as_given(plans))
        dynamics.acted(as_given(block))
        dynamics.observe(frames[2], None)
        return torch.stack([first, dynamics.cost(as_given(plans))])

    assert torch.equal(costs(0), costs(1))
    assert costs(0).std() > 0


def test_a_model_of_one_data_set_takes_its_own_actions_alone() -> None:
    model = WorldModel(load_config("smoke"), action_dim=3)
    assert [width for width in range(1, 6) if model.takes(width)] == [3]


# The commands


def test_each_set_keeps_its_own_held_out_episodes(poles: Path, tiny_data: Path) -> None:
    config = load_config("smoke", [f"data.path={poles},{tiny_data}", "train.evaluate_goals=0"])
    job = _world_model_job(config)
    assert isinstance(job, Job)
    assert isinstance(job.data, Mixture)
    assert job.size == f"{len(job.data)} windows of 2 data sets"
    assert isinstance(job.model, WorldModel)
    assert job.model.action_dim == 2
    for part in job.data.parts:
        # The same as of a run on this set alone, so that both may be held against each other.
        training, _ = split_episodes(6, config.data.held_out, config.data.split_seed)
        assert set(part.episodes) == set(training)


def test_one_data_set_gives_the_bits_that_its_windows_alone_give(
    run_on_one: Path, tiny_data: Path, tmp_path: Path
) -> None:
    config = load_config("smoke", [f"data.path={tiny_data}", f"run={tmp_path}/by_hand"])
    store, data = Store(tiny_data), config.data
    training, _ = split_episodes(len(store.lengths), data.held_out, data.split_seed)
    windows = Windows(store, training, data.context + 1, data.frameskip)
    torch.manual_seed(config.train.seed)
    model = WorldModel(config, store.action_dim)
    model.set_action_statistics(*windows.action_statistics())
    train(model, windows, config.train, Run.create_or_open(config))
    weights = Run(run_on_one).load_world_model().state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_model_of_two_tasks_is_looked_at_on_each(
    run_on_both: Path, poles: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.loads((run_on_both / "about.json").read_text())["data"]
    assert said.endswith("windows of 2 data sets")
    assert {"eval/success", "latent/rank"} <= set().union(*Run(run_on_both).metrics())
    sides = {"poles": (poles, CARTPOLE), "smoke": (tiny_data, REACHER)}
    few = ("plan.rival_steps=3", "plan.bound_goals=0", "plan.videos=0")
    for data, env in sides.values():
        assert main(["plan", str(run_on_both), f"data.path={data}", env, *few]) == 0
    assert main(["probe", str(run_on_both), f"data.path={poles}", CARTPOLE]) == 0
    for name, (_, env) in sides.items():
        found = json.loads((run_on_both / "evaluation" / name / "plan.json").read_text())
        assert found["environment"] == env.partition("=")[2]
        assert found["rows"]["world model"]["goals"] == 4
    read = json.loads((run_on_both / "evaluation" / "poles" / "probe.json").read_text())
    assert {"slider", "sin hinge_1"} <= set(read["probes"]["latent"]["coordinates"])
    # What was found on one is not taken for what is found on the other.
    assert {p.name for p in (run_on_both / "evaluation").iterdir()} == {"poles", "smoke"}
    events = {p.parent.name for p in run_on_both.rglob("events.out.*")}
    assert events == {"both", "poles", "smoke"}
    assert main(["report", str(run_on_both)]) == 0
    page = (run_on_both / "report.html").read_text("utf-8")
    commands = [text.partition("</pre>")[0].split() for text in page.split('<pre class="command">')]
    for name, (data, env) in sides.items():
        assert f"<h2>Planning to goal images: {name}</h2>" in page
        [command] = [words for words in commands if f"data.path={data}" in words and "plan" in words]
        # The environment that goals were tried in while it trained need not be said.
        assert (env in command) == (name == "smoke")
    assert "<h2>Probes of the latents: poles</h2>" in page
    assert "Probes of the latents: smoke" not in page
    # Once, though it is missing on both.
    assert page.count('<th scope="row">Violated expectations: ') == 1
    assert "events.out" not in page
    capsys.readouterr()


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which a command is refused."""
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err.rpartition("\r")[2].strip()
    assert "\n" not in error
    return error.removeprefix("worldjepa: ")


@pytest.mark.parametrize("verb", ["plan", "probe", "surprise", "decode", "geometry"])
def test_which_data_set_has_to_be_said(
    run_on_both: Path, poles: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    both = Run(run_on_both).config.data.path
    expected = f"data.path={both}: 2 data sets, of which one is needed here, as data.path={poles}"
    assert complaint(capsys, verb, str(run_on_both)) == expected


def test_what_does_not_fit_is_refused(
    run_on_both: Path,
    run_on_one: Path,
    poles: Path,
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs, ours = (env.partition("=")[2] for env in (REACHER, CARTPOLE))
    wrong_env = f"{tiny_data}: is of env.id={theirs}, here it is {ours}; give the same"
    assert complaint(capsys, "surprise", str(run_on_both), f"data.path={tiny_data}") == wrong_env
    run = run_on_one
    narrow = f"{poles}: an action has 1 numbers, the model of {run} takes 2"
    for verb in ("plan", "probe"):
        assert complaint(capsys, verb, str(run), f"data.path={poles}", CARTPOLE) == narrow
    both = f"data.path={poles},{tiny_data}"
    needed = f"{both}: 2 data sets, of which one is needed here, as data.path={poles}"
    assert complaint(capsys, "collect", "smoke", both) == needed
    assert complaint(capsys, "data", "info", both) == needed
    labelled(tmp_path / "small", [30, 30], 2, 0)
    sizes = (f"run={tmp_path}/run", f"data.path={tiny_data},{tmp_path}/small")
    small = complaint(capsys, "train", "smoke", *sizes)
    assert small == f"{tmp_path}/small: frames are 8 × 8, env.image_size=32"
    assert not (tmp_path / "run").exists()
