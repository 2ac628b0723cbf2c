"""How fast plans are scored: each token computed once, against a window recomputed at every step.

    python scripts/benchmark_planning.py            # 2 threads, the CPU recipe's predictor, random weights
    python scripts/benchmark_planning.py --peer-python /path/to/python/with/stable-worldmodel

Both sides score the same candidates with the same weights from the same three latents, 5 action blocks ahead:
ours as `plan` runs it (`Predictor.rollout`: keys and values kept, what was seen computed once for all
candidates, what actions alone decide in one product; linear layers packed), in float32 and in bfloat16, which
`plan` takes where the hardware gains; and the usual loop, which repeats what was seen for every candidate and
runs the predictor on the last three latents at every step. Times are the least of several runs. Then follows
one robot's decision, pixels to action, with the recipe's solver.

With --peer-python (stable-worldmodel 0.1.1 and transformers), last, LeWM's own architecture and planner in
float32: its `CEMSolver` on its `LeWM`, one episode after the other as it comes (more at once it refuses), and
our agent on the same weights, converted, and the same frames; costs of the same plans compared first. The two
take turns in processes of their own.
"""

import argparse
import copy
import dataclasses
import functools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from benchmark_results import add_keep, keep
from torch import Tensor

from worldjepa.config import Config, PlanConfig
from worldjepa.lewm_weights import from_lewm
from worldjepa.memory import keep_freed_memory
from worldjepa.planning.agent import Agent, build_agent
from worldjepa.planning.costs import COSTS, last
from worldjepa.planning.dynamics import LatentDynamics
from worldjepa.planning.packed import pack
from worldjepa.recipes import load_config
from worldjepa.world_model import WorldModel

# Runs in the other interpreter, and answers a line for each line. Neither side imports the other.
PEER = """
import json, sys, time, types, warnings
warnings.simplefilter("ignore")
import gymnasium, numpy as np, torch
from stable_worldmodel.solver.cem import CEMSolver
from stable_worldmodel.wm.lewm import LeWM
from stable_worldmodel.wm.lewm.module import MLP, Embedder, Predictor
from transformers import ViTConfig, ViTModel
folder, threads, iterations = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)
sizes = dict(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)
vit = ViTModel(ViTConfig(image_size=224, patch_size=14, **sizes), add_pooling_layer=False)
sizes = dict(num_frames=3, depth=6, heads=16, dim_head=64, mlp_dim=2048, input_dim=192, hidden_dim=192)
mlp = lambda: MLP(192, 2048, 192, norm_fn=torch.nn.BatchNorm1d)
model = LeWM(vit, Predictor(**sizes), Embedder(10, 10, 192), mlp(), mlp()).eval().requires_grad_(False)
for parameter in model.parameters():
    parameter.add_(0.02 * torch.randn_like(parameter))
torch.save(model.state_dict(), f"{folder}/lewm.pt")
given = np.load(f"{folder}/given.npz")
mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
pixels = lambda frames: ((torch.from_numpy(frames) / 255 - mean) / std).permute(0, 3, 1, 2)[:, None]
now, goal = pixels(given["now"]), pixels(given["goal"])
idle = torch.zeros(len(now), 1, 10)
plans = torch.from_numpy(given["plans"])
with torch.inference_mode():
    one = [x[:1, None].expand(1, plans.shape[1], *x.shape[1:]) for x in (now, goal, idle)]
    costs = model.get_cost(dict(zip(("pixels", "goal", "action"), one)), plans)
solver = CEMSolver(model, num_samples=300, topk=30, n_steps=iterations)
space = gymnasium.spaces.Box(-1, 1, (len(now), 2))
config = types.SimpleNamespace(horizon=5, action_block=5)
solver.configure(action_space=space, n_envs=len(now), config=config)
print(json.dumps(costs.tolist()), flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    sys.stdout, out = sys.stderr, sys.stdout
    solver.solve({"pixels": now, "goal": goal, "action": idle})
    sys.stdout = out
    print(time.perf_counter() - began, flush=True)
"""


def recomputed(model: WorldModel, z: Tensor, past: Tensor, plans: Tensor) -> Tensor:
    """(E, S, H, D): the last C latents of every candidate through the predictor, H times."""
    samples, horizon = plans.shape[1:3]
    z, past = (x.repeat_interleave(samples, 0) for x in (z, past))
    blocks = torch.cat([past, plans.flatten(0, 1)], 1)
    seen = z.shape[1]
    for end in range(seen, seen + horizon):
        window = slice(max(0, end - model.context), end)
        z = torch.cat([z, model.predict(z[:, window], blocks[:, window])[:, -1:]], 1)
    return z[:, seen:].unflatten(0, (-1, samples))


def milliseconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The least time of each call; in turn, so that what else the machine does meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            first = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - first))
    return {name: min(values[1:]) for name, values in times.items()}


@torch.inference_mode()
def compare(model: WorldModel, episodes: int, samples: int, repeats: int) -> dict[str, Any]:
    """Print one row, which comes back."""
    context, horizon = model.context, Config().plan.horizon
    width = model.frameskip * model.action_dim
    z, past = torch.randn(episodes, context, model.latent), torch.randn(episodes, context - 1, width)
    plans = torch.randn(episodes, samples, horizon, width)
    ours, rounded = copy.deepcopy(model), copy.deepcopy(model)
    rounded.predictor.bfloat16()
    for packed in (ours, rounded):
        pack(packed.predictor)
    times = milliseconds(
        {
            "recomputed": functools.partial(recomputed, model, z, past, plans),
            "ours": functools.partial(ours.rollout, z, past, plans),
            "bfloat16": functools.partial(rounded.rollout, z, past, plans),
        },
        repeats,
    )
    base = times["recomputed"]
    row = f"{episodes:>8} {samples:>10}" + "".join(f"{value:>12.1f}" for value in times.values())
    print(row + f"{base / times['ours']:>10.1f}×{base / times['bfloat16']:>11.1f}×", flush=True)
    return {"episodes": episodes, "candidates": samples, "milliseconds": times}


def decision(model: WorldModel, repeats: int) -> float:
    """Milliseconds for one robot's decision, pixels to action, with the recipe's solver."""
    config, model = Config(), copy.deepcopy(model)
    pack(model.predictor)
    size, frameskip = config.env.image_size, model.frameskip
    agent = _agent(config.plan, model, frameskip)
    frames = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    agent.reset(frames)
    return milliseconds({"act": lambda: agent.act(frames)}, repeats)["act"]


def _agent(plan: PlanConfig, model: WorldModel, frameskip: int) -> Agent:
    bound, device = np.ones(model.action_dim, np.float32), torch.device("cpu")
    dynamics = LatentDynamics(model, COSTS[plan.cost], device)
    return build_agent(plan, frameskip, gymnasium.spaces.Box(-bound, bound), dynamics, device)


def against_peer(python: str, threads: int, episodes: int, iterations: int, rounds: int) -> dict[str, float]:
    """Print how far costs are apart, and plans per second of both sides; they come back."""
    draw = np.random.default_rng(0)
    now, goal = draw.integers(0, 256, (2, episodes, 224, 224, 3), np.uint8)
    plans = draw.uniform(-1, 1, (1, 300, 5, 10)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/given.npz", now=now, goal=goal, plans=plans)
        command = [python, "-c", PEER, folder, str(threads), str(iterations)]
        peer = subprocess.Popen(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert peer.stdin
        assert peer.stdout
        theirs = torch.tensor(json.loads(peer.stdout.readline()))
        model = WorldModel(load_config("reacher_gpu"), action_dim=2).eval()
        model.load_state_dict(model.state_dict() | from_lewm(torch.load(f"{folder}/lewm.pt")))
        pack(model.predictor)
        ours = _costs(model, now[:1], goal[:1], torch.from_numpy(plans))
        apart = ((ours - theirs).abs() / theirs).max().item()
        print(f"LeWM, float32, the same 300 plans: costs differ by {apart:.1e} of theirs at most")
        plan = dataclasses.replace(load_config("reacher_gpu").plan, iterations=iterations)
        agent, seconds = _agent(plan, model, 5), ([], [])
        for _ in range(rounds):
            peer.stdin.write("solve\n")
            peer.stdin.flush()
            seconds[0].append(float(peer.stdout.readline()))
            began = time.perf_counter()
            agent.reset(goal)
            agent.act(now)
            seconds[1].append(time.perf_counter() - began)
        peer.stdin.close()
        peer.wait()
    scored = episodes * iterations * 300
    rates = [scored / min(times) for times in seconds]
    print(f"{episodes} episodes, 300 candidates, {iterations} iterations, 5 blocks; plans scored per second:")
    print(f"stable-worldmodel {rates[0]:.0f}, ours {rates[1]:.0f}: {rates[1] / rates[0]:.2f}×")
    return {"costs_apart": apart, "theirs": rates[0], "ours": rates[1]}


@torch.inference_mode()
def _costs(model: WorldModel, now: np.ndarray, goal: np.ndarray, plans: Tensor) -> Tensor:
    dynamics = LatentDynamics(model, last, torch.device("cpu"))
    dynamics.reset(goal, None)
    dynamics.observe(now, None)
    # Theirs is the sum over the latent's dimensions, ours the mean.
    return model.latent * dynamics.cost(plans)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--peer-python", default="", help="an interpreter that has stable-worldmodel")
    parser.add_argument("--peer-episodes", type=int, default=50)
    parser.add_argument("--peer-iterations", type=int, default=2)
    parser.add_argument("--peer-rounds", type=int, default=3)
    add_keep(parser, "planning")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    model = WorldModel(Config(), action_dim=2).eval()
    print(f"one scoring of all candidates in ms, {options.threads} threads, torch {torch.__version__}")
    print("episodes candidates  recomputed        ours    bfloat16       ours    bfloat16")
    sizes = ((1, 64), (1, 300), (50, 64), (200, 64))
    measured: dict[str, Any] = {"threads": options.threads}
    measured["scoring"] = [compare(model, *size, options.repeats) for size in sizes]
    plan = Config().plan
    setting = f"{plan.num_samples} candidates, {plan.iterations} iterations"
    measured["decision"] = decision(model, options.repeats)
    print(f"one robot's decision, {setting}: {measured['decision']:.1f} ms")
    if options.peer_python:
        peer = options.peer_episodes, options.peer_iterations, options.peer_rounds
        measured["lewm"] = against_peer(options.peer_python, options.threads, *peer)
    if options.keep:
        keep("planning", measured)


if __name__ == "__main__":
    main()
