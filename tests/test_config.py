"""The options: each has a meaning, a type and, where it is a number or a choice, limits."""

import dataclasses

import pytest

from worldjepa.config import Config, TrainConfig
from worldjepa.errors import UserError
from worldjepa.limits import LIMITS, validate
from worldjepa.options import describe, differences, leaves, options
from worldjepa.recipes import load_config


def test_every_option_has_a_meaning_and_its_defaults_type() -> None:
    for name, option in options().items():
        assert option.type in (int, float, bool, str), name
        assert type(option.default) is option.type, f"{name}: the default is of another type"
        meaning = option.metadata["meaning"]
        assert len(meaning) > 5, f"{name}: {meaning!r} tells nothing"
        assert not meaning.endswith("."), f"{name}: meanings are phrases"


def test_every_option_is_described_once() -> None:
    names = [name for name, _, _ in describe()]
    assert names == list(leaves(dataclasses.asdict(Config())))
    assert len(set(names)) == len(names) > 60
    described = {name: (default, meaning) for name, default, meaning in describe()}
    assert described["train.learning_rate"] == ("0.001", "AdamW's peak learning rate")
    assert described["run"] == ("runs/${name}", "the run folder")
    assert described["model.predictor.projector"][0] == "false"


def test_every_option_but_switches_has_its_limits_once() -> None:
    limited = [name for _, _, names in LIMITS for name in names.split()]
    assert len(set(limited)) == len(limited)
    assert set(limited) == {name for name, option in options().items() if option.type is not bool}


def test_the_defaults_are_possible() -> None:
    validate(load_config())


def test_differences_name_what_differs_and_how() -> None:
    one, other = Config(), Config(train=TrainConfig(steps=7, clip=2.5))
    assert differences(one, one) == []
    assert differences(one, other) == ["train.steps: 0, now 7", "train.clip: 1.0, now 2.5"]


IMPOSSIBLE = {
    "env.image_size=0": "at least 1",
    "env.image_size=72": "the conv encoder needs a multiple of 16",
    "env.render_quality=best": "fast, smooth or full",
    "env.protocol=plain": "circle or lewm",
    "env.id=": "some text",
    "collect.episodes=0": "at least 1",
    "collect.episode_length=0": "at least 1",
    "collect.behaviour=clever": "uniform, coloured, repeat, planner, package:callable, or several by share",
    "collect.repeat_steps=0": "at least 1",
    "collect.shard=17/16": "k/n with k from 1 to n, as in 3/16",
    "collect.noise_exponent=-1": "0 or more",
    "collect.workers=-1": "from 0 to 1024",
    "collect.seed=-1": "0 or more",
    "data.held_out=0": "between 0 and 1",
    "data.held_out=1": "between 0 and 1",
    "data.frameskip=0": "at least 1",
    "data.context=0": "at least 1",
    "model.latent=0": "at least 1",
    "model.predictor.depth=0": "at least 1",
    "model.predictor.dropout=1": "from 0 up to, but not, 1",
    "model.predictor.dropout=-0.1": "from 0 up to, but not, 1",
    "model.sigreg.weight=-0.1": "0 or more",
    "model.sigreg.knots=1": "at least 2",
    "model.sigreg.t_max=0": "more than 0",
    "train.batch_size=1": "at least 2",
    "train.steps=-1": "0 or more",
    "train.minutes=0": "more than 0",
    "train.learning_rate=0": "more than 0",
    "train.learning_rate=.nan": "finite",
    "train.learning_rate=inf": "finite",
    "train.warmup=1.5": "from 0 up to, but not, 1",
    "train.precision=fp16": "auto, bf16 or fp32",
    "train.keep_checkpoints=0": "at least 1",
    "plan.horizon=0": "at least 1",
    "plan.goals=0": "at least 1",
    "plan.num_elites=65": "at most plan.num_samples=64",
    "plan.replan_every=6": "at most plan.horizon=5",
    "plan.cost=cheap": "one of closest, last, mean, sum, stay",
    "plan.solver=best": "one of cem, icem, mppi, shooting, gradient, cem_gradient",
    "plan.temperature=0": "more than 0",
    "plan.stop_below=-1": "0 or more",
    "plan.solver=gradient plan.starts=65": "plan.starts=65: must be at most plan.num_samples=64",
    "plan.solver=cem_gradient plan.iterations=1": "plan.iterations=1: cem_gradient needs 2",
    "probe.ridge=-1": "0 or more",
    "surprise.episodes=1": "at least 2",
    "surprise.before=1": "at least 2",
    "surprise.colour=0..1": "a range low..high of factors above 0, as 0.3..1.7",
    "surprise.colour=": "a range low..high of factors above 0",
    "decode.steps=0": "at least 1",
    "decode.learning_rate=0": "more than 0",
    "geometry.frames=1": "at least 2",
    "geometry.pairs=0": "at least 1",
    "geometry.shown=1": "at least 2",
    "geometry.seed=-1": "0 or more",
    "monitor.port=65536": "from 0 to 65535",
    "name=": "some text",
}


@pytest.mark.parametrize(("override", "right"), IMPOSSIBLE.items())
def test_an_impossible_value_is_named_with_what_would_be_right(override: str, right: str) -> None:
    with pytest.raises(UserError) as raised:
        load_config(None, override.split(" "))
    message = str(raised.value)
    assert override.rpartition(" ")[2].partition("=")[0] in message
    assert right in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "override",
    [
        "model.sigreg.weight=0",
        "model.sigreg.knots=2",
        "data.held_out=0.999",
        "train.warmup=0",
        "plan.num_elites=64",
        "plan.replan_every=5",
        "monitor.port=0",
    ],
)
def test_a_value_at_its_limit_is_possible(override: str) -> None:
    name, value = override.split("=")
    assert leaves(dataclasses.asdict(load_config(None, [override])))[name] == float(value)


def test_another_encoder_may_take_another_frame() -> None:
    assert load_config(None, ["env.image_size=72", "model.encoder.name=resnet18"]).env.image_size == 72
