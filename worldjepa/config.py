"""Every option, its default, its meaning and unit; recipes, overrides and what values are possible.

The defaults are the `reacher` recipe for a laptop. The library takes these plain dataclasses; OmegaConf stays here.
"""

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import UserError


def option(default: Any, meaning: str) -> Any:
    """A dataclass field with the sentence that `--help` prints for it."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass
class EnvConfig:
    id: str = option("worldjepa.envs:worldjepa/Reacher-v0", "Gymnasium id, with `module:` before it where it needs an import")
    image_size: int = option(64, "height and width of a frame, pixels")
    render_quality: str = option("fast", "fast: no shadows, multisampling, reflections; full: as dm-control draws")
    protocol: str = option("circle", "success compares angles on the circle, or plainly as published (lewm)")


@dataclass
class CollectConfig:
    episodes: int = option(400, "how many episodes the data set has in the end")
    episode_length: int = option(200, "frames of an episode at most")
    behaviour: str = option("uniform", "who acts: uniform (independent at each step) or coloured (correlated in time)")
    noise_exponent: float = option(1.0, "coloured: power spectrum 1/f^exponent; 0 is white, 1 pink, 2 red")
    shard_episodes: int = option(20, "episodes in one HDF5 file")
    seed: int = option(0, "episode i depends on (seed, i) alone")
    workers: int = option(0, "processes; 0: as many as cores")


@dataclass
class DataConfig:
    path: str = option("data/${name}", "folder of HDF5 shards, or one HDF5 file in the published layout")
    held_out: float = option(0.1, "share of the episodes kept from training, for evaluation")
    split_seed: int = option(0, "which episodes those are")
    frameskip: int = option(5, "environment steps from one frame of a window to the next")
    context: int = option(3, "frames that the predictor sees")


@dataclass
class EncoderConfig:
    name: str = option("conv", "conv (the small one), or any timm model's name")
    width: int = option(32, "conv: channels of the first stage; each of the four stages doubles them")
    features: int = option(128, "conv: outputs; a timm model has its own number")
    patch_size: int = option(0, "timm ViT: side of a patch, pixels; 0: the model's own")


@dataclass
class PredictorConfig:
    depth: int = option(2, "transformer blocks")
    width: int = option(128, "token width")
    heads: int = option(4, "attention heads")
    head_width: int = option(32, "width of one head")
    mlp_width: int = option(512, "hidden units of a block's MLP")
    dropout: float = option(0.1, "dropout in attention and MLP")
    projector: bool = option(False, "end in the encoder's kind of MLP with BatchNorm (LeWM's pred_proj), not a linear layer")


@dataclass
class SIGRegConfig:
    weight: float = option(0.1, "λ of prediction + λ·SIGReg")
    num_slices: int = option(256, "random directions, drawn anew at each step")
    knots: int = option(17, "quadrature knots of Epps-Pulley on [0, t_max]")
    t_max: float = option(3.0, "upper end of the quadrature")


@dataclass
class ModelConfig:
    latent: int = option(64, "D, size of the latent")
    projector_hidden: int = option(256, "hidden units of the BatchNorm MLP after the encoder")
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    sigreg: SIGRegConfig = field(default_factory=SIGRegConfig)


@dataclass
class TrainConfig:
    batch_size: int = option(128, "windows in a step")
    steps: int = option(0, "optimizer steps; 0: from minutes")
    minutes: float = option(6.0, "training time, turned into steps after a timed warm-up; used when steps is 0")
    learning_rate: float = option(1e-3, "AdamW's peak learning rate")
    weight_decay: float = option(1e-3, "AdamW's weight decay, on matrices and kernels only")
    warmup: float = option(0.05, "share of the steps with a rising learning rate; then cosine to 0")
    clip: float = option(1.0, "largest gradient norm")
    precision: str = option("auto", "fp32, bf16 (autocast; SIGReg stays in fp32), or auto: bf16 where the hardware gains")
    device: str = option("auto", "cuda, mps, cpu, or auto")
    threads: int = option(0, "torch's CPU threads; 0: torch's own choice")
    seed: int = option(0, "initial weights, order of windows, dropout")
    log_every: int = option(10, "steps between lines in metrics.jsonl and TensorBoard")
    evaluate_every: int = option(400, "steps between evaluations: rank, rollout error, goals reached")
    evaluate_goals: int = option(20, "goals of such an evaluation; 0: none")
    checkpoint_minutes: float = option(1.0, "time between checkpoints")
    keep_checkpoints: int = option(2, "how many of the newest stay")


@dataclass
class PlanConfig:
    goals: int = option(200, "start and goal pairs from held-out episodes")
    bound_goals: int = option(50, "how many of them the true-dynamics planner tries; 0: none")
    goal_offset: int = option(25, "environment steps from start to goal in the data")
    budget: int = option(50, "environment steps allowed")
    horizon: int = option(5, "H, action blocks looked ahead")
    num_samples: int = option(64, "S, candidate plans of one iteration")
    num_elites: int = option(8, "candidates that the next iteration is drawn around")
    iterations: int = option(4, "iterations of CEM for one decision")
    initial_std: float = option(1.0, "of the first candidates, as a multiple of half the action range")
    replan_every: int = option(1, "action blocks executed before planning again")
    cost: str = option("closest", "closest: minimum over the horizon + 0.1 × mean; last: last step only (LeWM)")
    seed: int = option(0, "which goals, and the solver's candidates")
    videos: int = option(8, "episodes shown in the figure and the video")


@dataclass
class ProbeConfig:
    train_frames: int = option(20000, "frames of training episodes that the probe is fitted on, at most")
    test_frames: int = option(5000, "frames of held-out episodes that it is judged on, at most")
    ridge: float = option(1.0, "α of the ridge regression on standardised latents")
    seed: int = option(0, "which frames")


@dataclass
class MonitorConfig:
    host: str = option("localhost", "address that TensorBoard listens at")
    port: int = option(6006, "its port")


@dataclass
class Config:
    name: str = option("reacher", "names the data and run folders")
    run: str = option("runs/${name}", "the run folder")
    env: EnvConfig = field(default_factory=EnvConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)


def recipes() -> list[str]:
    """Names of the recipes that are installed."""
    return sorted(f.name.removesuffix(".yaml") for f in files("worldjepa.configs").iterdir() if f.name.endswith(".yaml"))


def load_config(what: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Defaults, then what `what` says, then `overrides`.

    Args:
        what: a recipe's name, a YAML file, or a run folder (its config.yaml); None: the defaults alone.
        overrides: "dotted.name=value", values in YAML.

    Raises:
        UserError: a file or recipe is missing or damaged, a key is unknown, a value has the wrong type or is impossible.
    """
    tree = OmegaConf.structured(Config)
    if what is not None:
        source, text = _read(what)
        try:
            values = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise UserError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise UserError(f"{source}: a recipe is a mapping of options, not {type(values).__name__}")
        for dotted, value in _leaves(values):
            _set(tree, dotted, value, source)
        if Path(what).is_dir():
            # A run that was moved is where it is now.
            tree.run = str(Path(what))
    for override in overrides:
        dotted, separator, value = override.partition("=")
        if not separator:
            raise UserError(f"{override!r} is not an option; write it as name=value")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"{override!r}: the value is not YAML") from None
        _set(tree, dotted, value if isinstance(parsed, str) else parsed, "command line")
    try:
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from None
    assert isinstance(config, Config)
    validate(config)
    return config


def to_yaml(config: Config) -> str:
    """Every option and its value, as YAML that `load_config` reads back."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def describe(config: Any = Config, prefix: str = "") -> list[tuple[str, str, str]]:
    """(dotted name, default, meaning) of every option, in the order of this file."""
    rows = []
    for f in dataclasses.fields(config):
        if dataclasses.is_dataclass(f.type):
            rows += describe(f.type, f"{prefix}{f.name}.")
        else:
            rows.append((prefix + f.name, str(f.default), f.metadata["meaning"]))
    return rows


def differences(one: Config, other: Config) -> list[str]:
    """"name: a, now b" for every option in which two configurations differ."""
    left, right = (dict(_leaves(dataclasses.asdict(c))) for c in (one, other))
    return [f"{key}: {left[key]}, now {right[key]}" for key in left if left[key] != right[key]]


def validate(config: Config) -> None:
    """Refuse values that can not work, before anything is started.

    Raises:
        UserError: names the first such option and what would be right.
    """
    at_least_one = (
        "env.image_size collect.episodes collect.episode_length collect.shard_episodes data.frameskip data.context "
        "model.latent model.projector_hidden model.encoder.width model.encoder.features model.predictor.depth "
        "model.predictor.width model.predictor.heads model.predictor.head_width model.predictor.mlp_width "
        "model.sigreg.num_slices train.log_every train.evaluate_every train.keep_checkpoints plan.goals "
        "plan.goal_offset plan.budget plan.horizon plan.num_elites plan.iterations plan.replan_every "
        "probe.train_frames probe.test_frames"
    )
    not_negative = (
        "collect.workers collect.seed collect.noise_exponent data.split_seed model.sigreg.weight train.steps "
        "model.encoder.patch_size train.weight_decay train.threads train.seed train.evaluate_goals plan.bound_goals plan.seed plan.videos "
        "probe.ridge probe.seed"
    )
    positive = "model.sigreg.t_max train.minutes train.learning_rate train.clip train.checkpoint_minutes plan.initial_std"
    for names, good, words in (
        (at_least_one, lambda v: v >= 1, "at least 1"),
        (not_negative, lambda v: v >= 0, "0 or more"),
        (positive, lambda v: v > 0, "more than 0"),
        ("model.sigreg.knots train.batch_size plan.num_samples", lambda v: v >= 2, "at least 2"),
        ("train.warmup model.predictor.dropout", lambda v: 0 <= v < 1, "from 0 up to, but not, 1"),
        ("data.held_out", lambda v: 0 < v < 1, "between 0 and 1"),
        ("env.render_quality", ("fast", "full").__contains__, "fast or full"),
        ("env.protocol", ("circle", "lewm").__contains__, "circle or lewm"),
        ("collect.behaviour", ("uniform", "coloured").__contains__, "uniform or coloured"),
        ("train.precision", ("auto", "bf16", "fp32").__contains__, "auto, bf16 or fp32"),
        ("plan.cost", ("closest", "last").__contains__, "closest or last"),
    ):
        for name in names.split():
            value: Any = config
            for part in name.split("."):
                value = getattr(value, part)
            if not good(value):
                raise UserError(f"{name}={value}: must be {words}")
    span = config.data.context * config.data.frameskip
    if span >= config.collect.episode_length:
        raise UserError(
            f"data.context={config.data.context} × data.frameskip={config.data.frameskip}: a window spans {span + 1} "
            f"frames, an episode has collect.episode_length={config.collect.episode_length}; shorten the window"
        )
    if config.plan.goal_offset >= config.collect.episode_length:
        raise UserError(f"plan.goal_offset={config.plan.goal_offset}: must be less than collect.episode_length")
    if config.plan.num_elites > config.plan.num_samples:
        raise UserError(f"plan.num_elites={config.plan.num_elites}: must be at most plan.num_samples={config.plan.num_samples}")
    if config.plan.replan_every > config.plan.horizon:
        raise UserError(f"plan.replan_every={config.plan.replan_every}: must be at most plan.horizon={config.plan.horizon}")


def _read(what: str) -> tuple[str, str]:
    """Where `what` is found, and its text."""
    path = Path(what)
    if path.is_dir():
        path = path / "config.yaml"
        if not path.is_file():
            raise UserError(f"{what}: not a run folder (it has no config.yaml)")
    elif path.suffix not in (".yaml", ".yml") and "/" not in what:
        recipe = files("worldjepa.configs") / f"{what}.yaml"
        if not recipe.is_file():
            close = difflib.get_close_matches(what, recipes(), 1)
            raise UserError(
                f"{what}: no such recipe, YAML file or run folder"
                + (f"; did you mean {close[0]}?" if close else f"; the recipes are {', '.join(recipes())}")
            )
        return f"recipe {what}", recipe.read_text("utf-8")
    if not path.is_file():
        raise UserError(f"{what}: no such YAML file or run folder")
    try:
        return str(path), path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read: {error}") from None


def _leaves(values: dict, prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        rows += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


def _set(tree: Any, dotted: str, value: Any, source: str) -> None:
    names = {name: default for name, default, _ in describe()}
    if dotted not in names:
        close = difflib.get_close_matches(dotted, names, 1)
        hint = f"did you mean {close[0]}?" if close else "`--help` lists the options"
        raise UserError(f"{source}: unknown option {dotted}; {hint}")
    # YAML 1.1 reads 1e-3 as a string; every number that a user would write should work.
    if isinstance(value, str):
        try:
            value = float(value) if isinstance(OmegaConf.select(tree, dotted), float) else value
        except ValueError:
            pass
    if isinstance(value, bool) != isinstance(OmegaConf.select(tree, dotted), bool) or value is None:
        raise UserError(f"{source}: {dotted}={value}: must be {_type_name(tree, dotted)}")
    try:
        OmegaConf.update(tree, dotted, value)
    except OmegaConfBaseException:
        raise UserError(f"{source}: {dotted}={value}: must be {_type_name(tree, dotted)}") from None


def _type_name(tree: Any, dotted: str) -> str:
    kind = type(OmegaConf.select(tree, dotted))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
