"""Which values of the options are possible, checked before anything is started."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from .config import Config
from .errors import UserError
from .notation import BEHAVIOURS, PLANNER, counts, part, paths, shares, span
from .options import leaves
from .protocols import PROTOCOLS

COSTS = ("closest", "last", "mean", "sum", "stay")
OBJECTIVES = {
    "world_model": ("jepa", "none", "ema", "pldm", "decoder", "frozen"),
    "images": (
        "jepa", "none", "vicreg", "simclr", "byol", "supervised", "teacher", "predictor", "teacher_predictor"
    ),
}  # fmt: skip
ALL_OBJECTIVES = {name for names in OBJECTIVES.values() for name in names}
COMPRESSIONS = ("none", "gzip", "lzf", "blosc")
SOLVERS = ("cem", "icem", "mppi", "shooting", "gradient", "cem_gradient")


def _reads(parse: Callable[[str], object]) -> Callable[[str], bool]:
    """Whether a text can be parsed."""

    def good(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return good


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _span_or_nothing(text: str) -> tuple[float, float] | None:
    return span(text) if text else None


def _factors(text: str) -> None:
    if span(text)[0] <= 0:
        raise ValueError(f"{text!r} is no range of factors")


def _factors_or_nothing(text: str) -> None:
    if text:
        _factors(text)


# What is right, in words and as a test, and for which options.
LIMITS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "at least 1",
        lambda v: v >= 1,
        "env.image_size collect.episodes collect.episode_length collect.shard_episodes data.frameskip "
        "collect.repeat_steps collect.nearest "
        "data.context model.latent model.projector_hidden model.encoder.width model.encoder.features "
        "model.encoder.layers "
        "model.predictor.depth model.predictor.width model.predictor.heads model.predictor.head_width "
        "model.predictor.mlp_width model.sigreg.num_slices train.log_every train.evaluate_every "
        "train.keep_checkpoints train.accumulate plan.goals plan.goal_offset plan.budget plan.horizon "
        "plan.num_elites "
        "plan.iterations plan.starts plan.replan_every plan.hold probe.train_frames probe.test_frames "
        "store.episodes probe.draws probe.seeds probe.mlp_steps probe.horizon surprise.after "
        "decode.train_frames decode.steps decode.width decode.horizon decode.windows decode.episodes "
        "geometry.pairs",
    ),
    (
        "at least 2",
        lambda v: v >= 2,
        "model.sigreg.knots train.batch_size plan.num_samples "
        "surprise.episodes surprise.before decode.batch_size geometry.frames "
        "geometry.shown",
    ),
    (
        "0 or more",
        lambda v: v >= 0,
        "collect.seed collect.noise_exponent collect.noise data.split_seed "
        "model.encoder.patch_size "
        "model.encoder.norm_eps model.encoder.register_tokens model.predictor.action_hidden "
        "model.sigreg.weight train.steps train.weight_decay train.seed train.evaluate_goals "
        "plan.bound_goals plan.noise_exponent plan.stop_below plan.seconds_per_decision plan.action_cost "
        "plan.smoothness_cost plan.rival_steps plan.seed plan.videos probe.ridge probe.seed "
        "store.image_size model.rival.variance model.rival.covariance model.rival.smoothness "
        "model.rival.inverse model.rival.reconstruction probe.fine_tune_epochs surprise.seed decode.seed "
        "geometry.seed",
    ),
    (
        "more than 0",
        lambda v: v > 0,
        "model.sigreg.t_max train.minutes train.learning_rate train.clip train.checkpoint_minutes "
        "model.rival.temperature probe.fine_tune_rate plan.initial_std plan.temperature plan.learning_rate "
        "plan.tolerance decode.learning_rate",
    ),
    (
        "from 0 up to, but not, 1",
        lambda v: 0 <= v < 1,
        "train.warmup model.predictor.dropout model.rival.momentum",
    ),
    ("more than 0 and at most 1", lambda v: 0 < v <= 1, "store.share"),
    ("from 0 to 1024", lambda v: 0 <= v <= 1024, "collect.workers train.threads"),
    ("a feature's name, or nothing", lambda _: True, "store.camera"),
    ("a path, or paths, or nothing", lambda _: True, "store.to store.also export.to"),
    ("between 0 and 1", lambda v: 0 < v < 1, "data.held_out"),
    ("from 0 to 65535", lambda v: 0 <= v < 2**16, "monitor.port"),
    ("fast, smooth or full", ("fast", "smooth", "full").__contains__, "env.render_quality"),
    ("circle or lewm", ("circle", "lewm").__contains__, "env.protocol"),
    (
        f"{', '.join(BEHAVIOURS)}, {PLANNER}, package:callable, or several by share, "
        "as in uniform=3,coloured=1",
        _reads(shares),
        "collect.behaviour",
    ),
    ("one of " + ", ".join(COMPRESSIONS), COMPRESSIONS.__contains__, "store.compression"),
    ("a range low..high, as -5..5, or nothing", _reads(_span_or_nothing), "env.variations.camera"),
    (
        "a range low..high of factors above 0, as 0.5..2, or nothing",
        _reads(_factors_or_nothing),
        "env.variations.colour env.variations.light env.variations.mass env.variations.friction",
    ),
    ("a range low..high of factors above 0, as 0.3..1.7", _reads(_factors), "surprise.colour"),
    ("k/n with k from 1 to n, as in 3/16", _reads(part), "collect.shard"),
    ("whole numbers from 1 on with commas between, as in 1,10", _reads(counts), "probe.shots"),
    ("tsne or pca", ("tsne", "pca").__contains__, "probe.map"),
    ("auto, bf16 or fp32", ("auto", "bf16", "fp32").__contains__, "train.precision"),
    (
        "auto, true or false",
        ("auto", "true", "false").__contains__,
        "train.compile train.fused train.channels_last train.prefetch",
    ),
    ("relative or learnt", ("relative", "learnt").__contains__, "model.predictor.positions"),
    ("own or held_out", ("own", "held_out").__contains__, "images.test"),
    ("mean or mean_std", ("mean", "mean_std").__contains__, "model.encoder.pooling"),
    ("one of " + ", ".join(PROTOCOLS), PROTOCOLS.__contains__, "plan.protocol"),
    ("one of " + ", ".join(COSTS), COSTS.__contains__, "plan.cost"),
    ("one of " + ", ".join(SOLVERS), SOLVERS.__contains__, "plan.solver"),
    ("plain or whitened", ("plain", "whitened").__contains__, "plan.distance"),
    ("world_model or images", ("world_model", "images").__contains__, "mode"),
    ("one of " + ", ".join(sorted(ALL_OBJECTIVES)), ALL_OBJECTIVES.__contains__, "model.objective"),
    ("at least 1", lambda v: v >= 1, "images.global_views images.global_size images.local_size"),
    (
        "0 or more",
        lambda v: v >= 0,
        "images.size images.local_views images.brightness images.contrast images.saturation",
    ),
    (
        "more than 0 and at most 1",
        lambda v: 0 < v <= 1,
        "images.global_scale_min images.global_scale_max images.local_scale_min images.local_scale_max",
    ),
    (
        "from 0 to 1",
        lambda v: 0 <= v <= 1,
        "images.flip images.jitter images.grayscale images.blur images.solarize",
    ),
    ("from 0 to 0.5", lambda v: 0 <= v <= 0.5, "images.hue"),
    ("a run folder, or nothing", lambda _: True, "model.encoder.init collect.run"),
    ("a folder or file of data, or nothing", lambda _: True, "collect.goals"),
    (
        "newest, best or a step",
        lambda v: v in ("newest", "best") or (v.isdecimal() and len(v) < 20),
        "checkpoint",
    ),
    (
        "a folder or file, or several that are called differently, with commas between",
        _reads(paths),
        "data.path",
    ),
    ("a scalar's name, or nothing", lambda _: True, "train.best"),
    ("a file, or nothing", lambda _: True, "convert.weights"),
    ("numbers with commas between", bool, "convert.action_mean convert.action_std"),
    ("some text", bool, "images.data images.root"),
    ("some text", bool, "name run env.id model.encoder.name train.device monitor.host"),
)


def validate(config: Config) -> None:
    """Refuse values that can not work.

    Raises:
        UserError: names the first such option and what would be right.
    """
    values = leaves(dataclasses.asdict(config))
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name}={value}: must be finite")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise UserError(f"{name}: must be a number of at most 64 bits")
        if isinstance(value, str) and not _is_text(value):
            raise UserError(f"{name}={value!r:.100}: must be text that can stand in a file's name")
    for words, good, names in LIMITS:
        for name in names.split():
            if not good(values[name]):
                raise UserError(f"{name}={values[name]}: must be {words}")
    _together(config)


def check_lengths(config: Config) -> None:
    """Refuse to collect episodes that are too short to be trained on and planned in. What reads data asks
    them instead: not all data were collected here.

    Raises:
        UserError: names the option that asks for longer ones.
    """
    data, length = config.data, config.collect.episode_length
    span = data.context * data.frameskip
    if span >= length:
        raise UserError(
            f"data.context={data.context} × data.frameskip={data.frameskip}: a window spans {span + 1} "
            f"frames, an episode has collect.episode_length={length}; shorten the window"
        )
    if config.plan.goal_offset >= length:
        raise UserError(
            f"plan.goal_offset={config.plan.goal_offset}: must be less than collect.episode_length={length}"
        )


def _together(config: Config) -> None:
    """What depends on more than one option."""
    collect, plan = config.collect, config.plan
    if PLANNER in dict(shares(collect.behaviour)) and not collect.run:
        raise UserError(f"collect.run: name the trained run that plans, as in collect.run=runs/{config.name}")
    if plan.num_elites > plan.num_samples:
        raise UserError(
            f"plan.num_elites={plan.num_elites}: must be at most plan.num_samples={plan.num_samples}"
        )
    if "gradient" in plan.solver and plan.starts > plan.num_samples:
        raise UserError(f"plan.starts={plan.starts}: must be at most plan.num_samples={plan.num_samples}")
    if plan.solver == "cem_gradient" and plan.iterations < 2:
        raise UserError(f"plan.iterations={plan.iterations}: cem_gradient needs 2, one of each kind")
    if plan.replan_every > plan.horizon:
        raise UserError(f"plan.replan_every={plan.replan_every}: must be at most plan.horizon={plan.horizon}")
    if config.model.objective not in OBJECTIVES[config.mode]:
        names = ", ".join(OBJECTIVES[config.mode])
        raise UserError(f"model.objective={config.model.objective}: mode={config.mode} has {names}")
    if config.mode == "images":
        _images_together(config)
    elif config.model.encoder.name == "conv" and config.env.image_size % 16:
        raise UserError(f"env.image_size={config.env.image_size}: the conv encoder needs a multiple of 16")


def _images_together(config: Config) -> None:
    images, encoder = config.images, config.model.encoder
    for kind in ("global", "local"):
        least, most = (getattr(images, f"{kind}_scale_{end}") for end in ("min", "max"))
        if least > most:
            raise UserError(
                f"images.{kind}_scale_min={least}: must be at most images.{kind}_scale_max={most}"
            )
    if config.model.sigreg.weight > 1:
        raise UserError(f"model.sigreg.weight={config.model.sigreg.weight}: must be at most 1 for images")
    if images.global_views + images.local_views < 2:
        raise UserError("images.global_views=1: with images.local_views=0 there is nothing to predict")
    if encoder.name == "conv":
        if images.local_views and images.local_size != images.global_size:
            raise UserError(
                f"images.local_size={images.local_size}: the conv encoder takes one image size, "
                f"images.global_size={images.global_size}; name another model.encoder.name, as resnet"
            )
        if images.global_size % 16:
            raise UserError(
                f"images.global_size={images.global_size}: the conv encoder needs a multiple of 16"
            )
