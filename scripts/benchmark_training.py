"""How fast LeWM's architecture trains: our step beside stable-worldmodel's modules, and where the time goes.

    python scripts/benchmark_training.py --peer-python /path/to/python/with/stable-worldmodel
    python scripts/benchmark_training.py            # ours alone

With --peer-python (stable-worldmodel 0.1.1 and transformers): its `LeWM` of Hugging Face's ViT-Tiny/14 at 224
px, and our model of the recipe `reacher_gpu` with the same weights, converted; the same 8 × 4 frames and
directions of SIGReg, dropout off. Loss and gradient are compared first, then a training step (loss, backward,
clipping, AdamW) is timed in float32 and under bfloat16 autocast, each side in a process of its own, by turns;
what counts is the least time of each. Their frames are normalised beforehand, ours within the step. Last, the
losses of 200 steps in float32, at 56 px, where a step takes a tenth of the time.

Then, as without it: where our step's time goes, LeWM's at batch 8 × 4 and the laptop's `reacher` at 128 × 4,
beside the rate at which this machine multiplies matrices and the arithmetic of the step.
"""

import argparse
import json
import subprocess
import tempfile
import time

import numpy as np
import torch
from torch import Tensor, nn

from worldjepa.config import Config
from worldjepa.lewm_weights import from_lewm
from worldjepa.memory import keep_freed_memory
from worldjepa.optimizer import build_optimizer
from worldjepa.profiling import Profile, phase, profile_table
from worldjepa.recipes import load_config
from worldjepa.world_model import WorldModel

# Runs in the other interpreter, and answers a line for each line. Neither side imports the other.
PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
from stable_worldmodel.wm.lewm import LeWM
from stable_worldmodel.wm.lewm.module import MLP, Embedder, Predictor
from stable_worldmodel.wm.loss import SIGReg
from transformers import ViTConfig, ViTModel
folder, threads, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
weight, rate = map(float, sys.argv[4:])
torch.set_num_threads(threads)
torch.manual_seed(0)
sizes = dict(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)
vit = ViTModel(ViTConfig(image_size=size, patch_size=14, **sizes), add_pooling_layer=False)
sizes = dict(num_frames=3, depth=6, heads=16, dim_head=64, mlp_dim=2048, input_dim=192, hidden_dim=192)
mlp = lambda: MLP(192, 2048, 192, norm_fn=torch.nn.BatchNorm1d)
model = LeWM(vit, Predictor(**sizes), Embedder(10, 10, 192), mlp(), mlp()).train()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
torch.save(model.state_dict(), f"{folder}/lewm.pt")
sigreg = SIGReg(knots=17, num_proj=1024)
groups = [[p for p in model.parameters() if (p.ndim < 2) == plain] for plain in (False, True)]
groups = [dict(params=p, weight_decay=decay) for p, decay in zip(groups, (1e-3, 0.0))]
optimizer = torch.optim.AdamW(groups, lr=rate)
given = np.load(f"{folder}/given.npz")
mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
frames = [((torch.from_numpy(x) / 255 - mean) / std).permute(0, 1, 4, 2, 3) for x in given["frames"]]
actions = [torch.from_numpy(x) for x in given["actions"]]
def loss(number, bf16):
    torch.manual_seed(number)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        batch = number % len(frames)
        seen = model.encode({"pixels": frames[batch], "action": actions[batch]})
        z, past = seen["emb"], seen["act_emb"]
        predicted = model.predict(z[:, :-1], past)
        return (predicted - z[:, 1:]).pow(2).mean() + weight * sigreg(z.transpose(0, 1).float())
def step(number, bf16):
    value = loss(number, bf16)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return value
value = loss(0, False)
value.backward()
torch.save({n: p.grad if p.grad is not None else torch.zeros_like(p) for n, p in model.named_parameters()}
           | dict(model.named_buffers()), f"{folder}/gradient.pt")
model.load_state_dict(torch.load(f"{folder}/lewm.pt"))
print(value.item(), flush=True)
for line in sys.stdin:
    number, bf16 = json.loads(line)
    began = time.perf_counter()
    value = step(number, bf16).item()
    print(json.dumps([time.perf_counter() - began, value]), flush=True)
"""
SIZES = ["model.predictor.dropout=0"]
BATCH = 8


class Step:
    """Our training step, on one of a few batches."""

    def __init__(self, config: Config, frames: np.ndarray, actions: np.ndarray):
        self.model = WorldModel(config, action_dim=2).train()
        self.config, self.optimizer = config, build_optimizer(self.model, config.train)
        self.frames, self.actions = torch.from_numpy(frames), torch.from_numpy(actions)

    def batch(self, number: int) -> dict[str, Tensor]:
        index = number % len(self.frames)
        return {"pixels": self.frames[index], "action": self.actions[index]}

    def loss(self, number: int, bf16: bool) -> Tensor:
        self.model.sigreg.step.fill_(number)
        with phase("data"):
            batch = self.batch(number)
        with phase("forward"), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return self.model.loss(batch)["loss"]

    def __call__(self, number: int, bf16: bool) -> tuple[float, float]:
        """Seconds, and the loss."""
        began = time.perf_counter()
        loss = self.loss(number, bf16)
        self.optimizer.zero_grad(set_to_none=True)
        with phase("backward"):
            loss.backward()
        with phase("clipping"):
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        with phase("optimizer"):
            self.optimizer.step()
        value = loss.item()
        return time.perf_counter() - began, value


class Peer:
    """Their step in the other process; it begins with weights that lie in the folder then."""

    def __init__(self, python: str, folder: str, threads: int, size: int, config: Config):
        # Theirs multiplies SIGReg by the batch size, ours by 128 whatever it is.
        weight = config.model.sigreg.weight * 128 / BATCH
        words = [folder, str(threads), str(size), str(weight), str(config.train.learning_rate)]
        self.process = subprocess.Popen(
            [python, "-c", PEER, *words], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdin
        assert self.process.stdout
        self.into, self.out = self.process.stdin, self.process.stdout
        self.first_loss = float(self.out.readline())

    def __call__(self, number: int, bf16: bool) -> tuple[float, float]:
        self.into.write(json.dumps([number, bf16]) + "\n")
        self.into.flush()
        seconds, loss = json.loads(self.out.readline())
        return seconds, loss

    def close(self) -> None:
        self.into.close()
        self.process.wait()


def both(python: str, folder: str, threads: int, size: int, batches: int) -> tuple[Step, Peer]:
    """Our step and theirs with the same weights and batches; prints how far loss and gradient are apart."""
    config = load_config("reacher_gpu", [f"env.image_size={size}", *SIZES])
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 256, (batches, BATCH, 4, size, size, 3), np.uint8)
    actions = draw.standard_normal((batches, BATCH, 3, 10)).astype(np.float32)
    np.savez(f"{folder}/given.npz", frames=frames, actions=actions)
    peer, ours = Peer(python, folder, threads, size, config), Step(config, frames, actions)
    weights = ours.model.state_dict() | from_lewm(torch.load(f"{folder}/lewm.pt"))
    ours.model.load_state_dict(weights)
    loss = ours.loss(0, False)
    loss.backward()
    theirs = from_lewm(torch.load(f"{folder}/gradient.pt"))
    apart, largest = 0.0, 0.0
    for name, parameter in ours.model.named_parameters():
        # Theirs has two layers where the first of ours is their product, whose gradient is another; and
        # biases whose gradient is rounding, which ours leaves where they are.
        if not name.startswith("action_encoder.mlp.0") and parameter.grad is not None:
            apart = max(apart, (parameter.grad - theirs[name]).abs().max().item())
            largest = max(largest, theirs[name].abs().max().item())
    ours.optimizer.zero_grad()
    ours.model.load_state_dict(weights)
    print(f"{size} px: losses {loss.item():.6f}, theirs {peer.first_loss:.6f}; ", end="")
    print(f"gradients up to {largest:.2g}, at most {apart:.1e} apart")
    return ours, peer


def against_peer(python: str, threads: int, rounds: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = both(python, folder, threads, 224, 1)
        for bf16 in (False, True):
            times = [[side(number, bf16)[0] for side in (peer, ours)] for number in range(rounds + 1)]
            theirs, own = (min(column) for column in zip(*times[1:], strict=True))
            name = "bfloat16" if bf16 else "float32"
            print(f"{name}: a step takes {1e3 * theirs:.0f} ms, ours {1e3 * own:.0f} ms: {theirs / own:.2f}×")
        peer.close()
        ours, peer = both(python, folder, threads, 56, 16)
        losses = np.array([[side(number, False)[1] for side in (peer, ours)] for number in range(steps)])
        peer.close()
    apart = np.abs(losses[:, 1] / losses[:, 0] - 1)
    first, last, ours_last = losses[0, 0], *losses[-1]
    print(f"losses of {steps} steps: from {first:.4f} to {last:.4f}, ours {ours_last:.4f}; ", end="")
    print(f"apart by {100 * np.median(apart):.3f} % (median), {100 * apart.max():.3f} % at most")


def where_time_goes(recipe: str, batch: int, bf16: bool, rounds: int) -> None:
    """Print the step's share of the matmul rate, and what its parts and kinds of operations take."""
    config = load_config(recipe)
    draw, size = np.random.default_rng(0), config.env.image_size
    frames = draw.integers(0, 256, (1, batch, 4, size, size, 3), np.uint8)
    step = Step(config, frames, draw.standard_normal((1, batch, 3, 10)).astype(np.float32))
    profile = Profile(step.model, None, torch.device("cpu"), torch.bfloat16 if bf16 else torch.float32)
    profile.untimed, profile.timed, profile.profiled = 1, rounds, rounds
    number = 0
    with profile:
        while profile.values is None:
            seconds, _ = step(number, bf16)
            number += 1
            profile.step(number, seconds, step.batch(0))
    print(f"\n{recipe}, batch {batch} × 4 at {size} px. {profile_table(profile.values)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-python", default="", help="an interpreter that has stable-worldmodel")
    parser.add_argument(
        "--rounds", type=int, default=10, help="steps of each side, of which the least time counts"
    )
    parser.add_argument("--steps", type=int, default=200, help="steps whose losses are compared")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    print(f"{options.threads} threads, torch {torch.__version__}")
    if options.peer_python:
        against_peer(options.peer_python, options.threads, options.rounds, options.steps)
    for bf16 in (False, True):
        where_time_goes("reacher_gpu", BATCH, bf16, options.rounds)
        where_time_goes("reacher", 128, bf16, options.rounds)


if __name__ == "__main__":
    main()
