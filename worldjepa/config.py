"""Every option, its default, its meaning and unit, in plain dataclasses.

The defaults are the `reacher` recipe for a laptop. `worldjepa.limits` says which values are possible,
`worldjepa.recipes` reads them from YAML and the command line.
"""

from dataclasses import dataclass, field

from .model_config import ModelConfig, option


@dataclass
class VariationsConfig:
    colour: str = option(
        "",
        "factors on red, green and blue of each material, drawn for each episode, as 0.5..1.5; empty: none",
    )
    light: str = option("", "a factor on the brightness of the lights, likewise")
    camera: str = option("", "degrees that the camera is turned about each of its axes, as -5..5")
    mass: str = option("", "a factor on each body's mass and inertia, as 0.5..2")
    friction: str = option("", "a factor on contact friction and on the joints' damping, as 0.5..2")


@dataclass
class EnvConfig:
    id: str = option(
        "worldjepa.envs:worldjepa/Reacher-v0",
        "Gymnasium id, with `module:` before it where it needs an import",
    )
    image_size: int = option(64, "height and width of a frame, pixels")
    render_quality: str = option(
        "fast",
        "fast: no shadows, multisampling, reflections; smooth: as fast, but drawn four times as high and "
        "wide, and averaged; full: as dm-control draws",
    )
    protocol: str = option("circle", "success compares angles on the circle, or plainly as published (lewm)")
    variations: VariationsConfig = field(default_factory=VariationsConfig)


@dataclass
class CollectConfig:
    episodes: int = option(400, "how many episodes the data set has in the end")
    episode_length: int = option(200, "frames of an episode at most")
    behaviour: str = option(
        "uniform",
        "who acts: uniform (independent at each step), coloured (correlated in time), repeat (uniform, each "
        "action held), planner (of collect.run), a policy as package:callable, or several by share "
        "(uniform=3,coloured=1)",
    )
    noise_exponent: float = option(1.0, "coloured: power spectrum 1/f^exponent; 0 is white, 1 pink, 2 red")
    repeat_steps: int = option(5, "repeat: steps for which an action is held")
    run: str = option(
        "",
        "planner: a trained run; it plans by its own plan. to a goal frame, and once that is reached, or "
        "plan.budget steps are over, to the next",
    )
    goals: str = option(
        "", "planner: the data set whose training episodes goals are drawn from; empty: the run's own"
    )
    nearest: int = option(
        16,
        "planner: of so many random frames the one that is nearest in latent space is the goal; 1: any frame",
    )
    noise: float = option(
        0.3,
        "planner: Gaussian noise on its actions, standard deviation as a multiple of half the action range",
    )
    shard_episodes: int = option(20, "episodes in one HDF5 file")
    seed: int = option(0, "episode i depends on (seed, i) alone")
    workers: int = option(0, "processes; 0: as many as cores, fewer for a few hundred frames")
    shard: str = option(
        "1/1", "collect one part of the data set here: of n parts the k-th (from 1), as k/n; 1/1 is all"
    )


@dataclass
class DataConfig:
    path: str = option(
        "data/${name}",
        "folder of HDF5 shards, or one HDF5 file in the published layout; to train on, also several with "
        "commas between: what looks at the model names one of them, with its env.id",
    )
    held_out: float = option(0.1, "share of the episodes kept from training, for evaluation")
    split_seed: int = option(0, "which episodes those are")
    frameskip: int = option(5, "environment steps from one frame of a window to the next")
    context: int = option(3, "frames that the predictor sees")


@dataclass
class StoreConfig:
    to: str = option(
        "",
        "what is written: a new .h5 file, or a new folder of shards; info and show: the folder of their "
        "pictures, beside the data where none is named",
    )
    also: str = option("", "merge: further folders or files, with commas between")
    share: float = option(
        1.0,
        "split: share of the episodes, drawn by data.split_seed, for store.to; the others go to its -rest",
    )
    image_size: int = option(0, "convert recordings: frames get this side, pixels; 0: as they are")
    camera: str = option("", "convert LeRobot's: the feature that frames come from; empty: the only one")
    episodes: int = option(8, "show: how many episodes")
    compression: str = option(
        "none", "frames are kept as they are, or smaller without loss: gzip, lzf or blosc (needs hdf5plugin)"
    )


@dataclass
class ImagesConfig:
    data: str = option(
        "FashionMNIST",
        "digits (scikit-learn's), a class of torchvision.datasets by name, a data set in Hugging Face's "
        "cache as OWNER/NAME, a folder of images (subfolders are the classes) or of Hugging Face's files, or "
        "rollouts (a folder of HDF5 shards, or one file)",
    )
    root: str = option("data", "folder that torchvision's data sets lie in; nothing is downloaded")
    test: str = option(
        "own",
        "what evaluations judge on: own, the data set's test images where it has some; held_out, to tune by: "
        "of its training images a share data.held_out, which training leaves out",
    )
    size: int = option(0, "images are brought to this side before views are cut, pixels; 0: as they are")
    global_views: int = option(2, "large crops of an image; their mean is what every view predicts")
    local_views: int = option(6, "small crops of an image; 0: none")
    global_size: int = option(224, "side of a global view, pixels")
    local_size: int = option(96, "side of a local view, pixels")
    global_scale_min: float = option(0.3, "least share of the image's area in a global view")
    global_scale_max: float = option(1.0, "largest share in a global view")
    local_scale_min: float = option(0.05, "least share of the image's area in a local view")
    local_scale_max: float = option(0.3, "largest share in a local view")
    flip: float = option(0.5, "probability of left and right exchanged")
    jitter: float = option(0.8, "probability of changed brightness, contrast, saturation and hue")
    brightness: float = option(0.4, "factor between 1 - this and 1 + this")
    contrast: float = option(0.4, "likewise")
    saturation: float = option(0.2, "likewise")
    hue: float = option(0.1, "turn of the hue either way at most, 1 is a full circle")
    grayscale: float = option(0.2, "probability of no colour")
    blur: float = option(0.5, "probability of a Gaussian blur, σ from 0.1 to 2 pixels of the view")
    solarize: float = option(0.2, "probability that the brighter half of the scale is inverted")


@dataclass
class TrainConfig:
    batch_size: int = option(128, "windows in a step, over all processes")
    accumulate: int = option(
        1,
        "parts in which the encoder takes a batch, each computed again for its gradient, to save memory; the "
        "loss is that of the whole batch (BatchNorm within the encoder sees a part)",
    )
    steps: int = option(0, "optimizer steps; 0: from minutes")
    minutes: float = option(
        6.0, "training time, turned into steps after a timed warm-up; used when steps is 0"
    )
    learning_rate: float = option(1e-3, "AdamW's peak learning rate")
    weight_decay: float = option(1e-3, "AdamW's weight decay, on matrices and kernels only")
    warmup: float = option(0.05, "share of the steps with a rising learning rate; then cosine to 0")
    clip: float = option(1.0, "largest gradient norm")
    precision: str = option(
        "auto", "fp32, bf16 (autocast; SIGReg stays in fp32), or auto: bf16 where the hardware gains"
    )
    compile: str = option(
        "auto",
        "true: hand the loss to torch.compile, minutes at the start, faster steps after; auto: false",
    )
    fused: str = option("auto", "AdamW as one operation over all weights, true or false; auto: true")
    channels_last: str = option(
        "auto", "convolutions on channels-last memory, true or false; auto: on cuda and cpu"
    )
    prefetch: str = option(
        "auto", "a thread reads the next batches, and pins them for a GPU, true or false; auto: on cuda"
    )
    recompute: bool = option(
        False,
        "keep what goes into each of the encoder's blocks alone, and compute the rest again for the "
        "gradient: less memory, a third more arithmetic",
    )
    profile: bool = option(
        False,
        "of 10 steps once they run evenly: a trace for TensorBoard in the run's profile/, and a table of "
        "where the time goes and what the arithmetic could take",
    )
    device: str = option("auto", "cuda, mps, cpu, or auto")
    threads: int = option(0, "torch's CPU threads; 0: torch's own choice")
    seed: int = option(0, "initial weights, order of windows, dropout")
    log_every: int = option(10, "steps between lines in metrics.jsonl and TensorBoard")
    evaluate_every: int = option(400, "steps between evaluations: rank, rollout error, goals reached")
    evaluate_goals: int = option(20, "goals of such an evaluation; 0: none")
    checkpoint_minutes: float = option(1.0, "time between checkpoints")
    keep_checkpoints: int = option(2, "how many of the newest stay")
    best: str = option(
        "",
        "a logged scalar, as eval/success, or -eval/rollout_error_5 where less is better: the checkpoint at "
        "which it is best is kept as checkpoints/best (goals of eval/success are held out of "
        "training, not of plan)",
    )


@dataclass
class PlanConfig:
    protocol: str = option(
        "near",
        "sets the options that make it: near, far50, far100, hold, tight, lewm, lewm_planner "
        "(worldjepa/protocols.py); what is named beside it goes before",
    )
    goals: int = option(200, "start and goal pairs from held-out episodes")
    bound_goals: int = option(50, "how many of them the true-dynamics planner tries; 0: none")
    goal_offset: int = option(25, "environment steps from start to goal in the data")
    budget: int = option(50, "environment steps allowed")
    tolerance: float = option(1.0, "how close counts as there, as a multiple of the task's tolerance")
    hold: int = option(1, "environment steps, one after another, that it has to stay there")
    rival_steps: int = option(
        3000, "optimizer steps that behaviour cloning and inverse dynamics learn for; 0: without them"
    )
    horizon: int = option(5, "H, action blocks looked ahead")
    solver: str = option(
        "cem",
        "cem, icem (smooth candidates, remembered elites), mppi (every candidate weighs), shooting (random), "
        "gradient (Adam through the model) or cem_gradient (one, then the other); each scores num_samples × "
        "iterations plans for a decision",
    )
    num_samples: int = option(64, "S, candidate plans of one iteration")
    num_elites: int = option(8, "cem, icem: candidates that the next iteration is drawn around")
    iterations: int = option(4, "iterations for one decision")
    initial_std: float = option(1.0, "of the first candidates, as a multiple of half the action range")
    noise_exponent: float = option(2.0, "icem: power spectrum 1/f^exponent of its candidates over time")
    temperature: float = option(0.1, "mppi: λ as a multiple of how far the median cost is above the least")
    starts: int = option(8, "gradient: plans that descend side by side")
    learning_rate: float = option(0.1, "gradient: Adam's, as a multiple of half the action range")
    stop_below: float = option(
        0.0, "end a decision when an iteration lowers the cost by no more than this share of it; 0: never"
    )
    seconds_per_decision: float = option(0.0, "end a decision in this time, seconds; 0: no limit")
    replan_every: int = option(1, "action blocks executed before planning again")
    cost: str = option(
        "closest",
        "of the distances to the goal after each block: closest (minimum + 0.1 × mean), stay (as closest, "
        "but of two blocks in a row the farther counts), last (LeWM), mean or sum",
    )
    distance: str = option(
        "plain",
        "of latents, a mean squared difference: plain, or whitened by those of training frames, where every "
        "direction in which they vary counts alike",
    )
    action_cost: float = option(0.0, "weight of the mean squared action, in units of half its range")
    smoothness_cost: float = option(0.0, "weight of the mean squared change between actions, likewise")
    seed: int = option(0, "which goals, and the solver's candidates")
    videos: int = option(8, "episodes shown in the figure and the video")


@dataclass
class ProbeConfig:
    train_frames: int = option(
        50000, "frames of training episodes, or images, that the probe is fitted on, at most"
    )
    test_frames: int = option(5000, "frames of held-out episodes, or images, that it is judged on, at most")
    ridge: float = option(1.0, "α of the ridge (images: logistic) regression on standardised latents")
    seed: int = option(0, "which frames")
    seeds: int = option(
        3, "how often training frames are drawn and probes fitted, the MLP from other initial weights"
    )
    mlp_steps: int = option(1000, "optimizer steps of the MLP, of 512 frames each")
    horizon: int = option(15, "action blocks that rollouts imagine ahead; less where episodes are shorter")
    shots: str = option("1,2,5,10,100", "images: labelled images of each class for probes on a few of them")
    draws: int = option(5, "images: how often those are drawn, for the interval")
    map: str = option("tsne", "images: how features are drawn in the plane, tsne or pca")
    baselines: bool = option(True, "images: raw pixels and the encoder untrained beside the trained one")
    fine_tune_epochs: int = option(0, "images: epochs of training on all labels, encoder too; 0: none")
    fine_tune_rate: float = option(1e-3, "images: AdamW's learning rate for that")


@dataclass
class SurpriseConfig:
    episodes: int = option(
        64,
        "held-out episodes; where the data hold too few that are long enough, new ones are played as the "
        "data were",
    )
    before: int = option(8, "frames before the perturbed one, data.frameskip steps apart")
    after: int = option(8, "frames after it")
    colour: str = option(
        "0.3..1.7",
        "colour change: factors on red, green and blue of each material (in an environment of your own: of "
        "the whole frame), drawn for each episode",
    )
    seed: int = option(0, "which stretches of the episodes, which teleports and colours")


@dataclass
class DecodeConfig:
    train_frames: int = option(10000, "frames of training episodes that the decoder learns from, at most")
    steps: int = option(1200, "optimizer steps that it learns for")
    batch_size: int = option(32, "frames in a step")
    learning_rate: float = option(2e-3, "AdamW's, falling to 0")
    width: int = option(8, "channels of its last stage; each of the two before has twice as many")
    horizon: int = option(15, "action blocks imagined from the first data.context frames")
    windows: int = option(200, "held-out stretches of so many frames that it is judged on, at most")
    episodes: int = option(4, "held-out episodes shown in the pictures")
    seed: int = option(0, "its weights and batches; which frames and stretches")


@dataclass
class GeometryConfig:
    frames: int = option(5000, "frames of held-out episodes, or held-out images, at most")
    pairs: int = option(10000, "pairs of them whose distances are compared")
    shown: int = option(1000, "points of the maps and of TensorBoard's projector, at most")
    seed: int = option(0, "which frames, pairs and slices; the simulations")


@dataclass
class ConvertConfig:
    weights: str = option(
        "", "a LeWM state dict as stable-worldmodel writes it, .safetensors or torch.save's"
    )
    action_mean: str = option(
        "0", "mean of the actions that it was trained on, by which they were standardised: one, or one each"
    )
    action_std: str = option("1", "their standard deviation, likewise")


@dataclass
class ExportConfig:
    to: str = option("", "a new folder; by default the run's export/STEP, of its newest checkpoint")
    onnx: bool = option(False, "beside torch's programs (.pt2) ONNX's; needs the packages of worldjepa[onnx]")


@dataclass
class MonitorConfig:
    host: str = option("localhost", "address that TensorBoard listens at")
    port: int = option(6006, "its port")


@dataclass
class Config:
    name: str = option("reacher", "names the data and run folders")
    run: str = option("runs/${name}", "the run folder")
    checkpoint: str = option(
        "newest",
        "which of the run's checkpoints is looked at: newest, best (train.best), or a step that is there",
    )
    mode: str = option(
        "world_model", "what is trained: a world_model on rollouts, or an encoder on images (LeJEPA)"
    )
    env: EnvConfig = field(default_factory=EnvConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    data: DataConfig = field(default_factory=DataConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    surprise: SurpriseConfig = field(default_factory=SurpriseConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
