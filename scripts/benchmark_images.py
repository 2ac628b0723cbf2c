"""A LeJEPA step beside stable-pretraining's, and with the augmentation of its images.

    python scripts/benchmark_images.py --peer-python /path/to/python/with/stable-pretraining

Both sides have the same timm ViT and projector with the same weights, the same views, AdamW, float32 and
threads, and the same loss, stable-pretraining's: invariance + λ · SIGReg of all views' samples together,
times their number. (Ours are per view; here our SIGReg is given theirs.) The losses are compared first. Then
a step with views that are there, and a step whose views are cut from 160 px images on the way: ours for the
batch at once, theirs by its own transforms, one image after the other, in the worker processes of a
DataLoader. The two take turns in processes of their own; times are the least of the rounds.

What is saved is augmentation, so that it is a small share of the step of a large model: on two CPU cores 1.17
with ViT-Tiny, 2.15 with `--model test_vit` (0.3 million parameters); without augmentation 1.05 and 1.02.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from worldjepa.config import Config
from worldjepa.data.images import from_arrays
from worldjepa.data.views import MultiCrop
from worldjepa.image_jepa import ImageJEPA
from worldjepa.memory import keep_freed_memory
from worldjepa.recipes import load_config
from worldjepa.sigreg import EppsPulley, SIGReg

LAMBDA, SLICES, IMAGE_SIZE = 0.02, 256, 160
# Steps before the timed ones: more than the batches that a DataLoader has ready when its turn begins.
UNTIMED = 6

# Runs in the other interpreter, and answers a line for each line. Neither side imports the other.
PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, timm, torch
from PIL import Image
import stable_pretraining as spt
from stable_pretraining.data import transforms as T
from stable_pretraining.methods.lejepa import LeJEPA
file, threads, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
held = torch.load(file, weights_only=True)
name, lamb, slices = held["name"], held["lambda"], held["slices"]
features, hidden, latent = held["projector"]
projector = torch.nn.Sequential(torch.nn.Linear(features, hidden, bias=False), torch.nn.BatchNorm1d(hidden),
    torch.nn.GELU(), torch.nn.Linear(hidden, latent))
model = LeJEPA(name, projector=projector, n_slices=slices, lamb=lamb, drop_path_rate=0.0).train()
# As its constructor makes it, but for the size of the positions.
model.backbone = timm.create_model(name, num_classes=0, img_size=held["sides"][0], dynamic_img_size=True)
model.backbone.load_state_dict(held["encoder"])
projector.load_state_dict(held["head"])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
def loss_of(views):
    return model(global_views=views["global"], local_views=views["local"]).loss
def step(views):
    loss = loss_of(views)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
class Pictures(torch.utils.data.Dataset):
    def __init__(self):
        def view(size, scale):
            return T.Compose(T.RGB(), T.RandomResizedCrop((size, size), scale=scale),
                T.RandomHorizontalFlip(p=0.5),
                T.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, p=0.8),
                T.RandomGrayscale(p=0.2), T.PILGaussianBlur(p=0.5), T.RandomSolarize(threshold=128, p=0.2),
                T.ToImage(**spt.data.static.ImageNet))
        kinds = zip(("global", "local"), held["views"], held["sides"], ((0.3, 1.0), (0.05, 0.3)))
        self.views = T.MultiViewTransform({f"{kind}_{i}": view(side, scale)
            for kind, count, side, scale in kinds for i in range(count)})
        self.pixels = held["pixels"].numpy()
    def __len__(self):
        return 1 << 20
    def __getitem__(self, i):
        views = self.views({"image": Image.fromarray(self.pixels[i % len(self.pixels)])})
        return {name: view["image"] for name, view in views.items()}
def batches():
    loader = torch.utils.data.DataLoader(Pictures(), held["batch"], num_workers=workers)
    for batch in loader:
        yield {kind: [batch[n] for n in sorted(batch) if n.startswith(kind)] for kind in ("global", "local")}
fixed = {kind: list(held[kind]) for kind in ("global", "local")}
stream = None
print("ready", flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    if ask["what"] == "loss":
        state = {k: v.clone() for k, v in model.state_dict().items()}
        answer = float(loss_of(fixed))
        model.load_state_dict(state)
    else:
        if ask["what"] == "augmented" and stream is None:
            stream = batches()
        for number in range(ask["untimed"] + ask["timed"]):
            if number == ask["untimed"]:
                began = time.perf_counter()
            step(fixed if ask["what"] == "step" else next(stream))
        answer = (time.perf_counter() - began) / ask["timed"]
        if ask["what"] == "augmented":
            stream = None
    print(json.dumps(answer), flush=True)
"""


class Pooled(ImageJEPA):
    """Our model with stable-pretraining's loss."""

    def objective(self, z: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        invariance = (z - z[: len(batch["global"])].mean(0)).square().mean()
        return {"loss": invariance + LAMBDA * self.sigreg(z.flatten(0, 1))}


class Ours:
    """Our side: model, optimizer, fixed views and a stream of them."""

    def __init__(self, config: Config, pixels: np.ndarray):
        self.config = config
        torch.manual_seed(0)
        self.model = Pooled(config).train()
        self.model.sigreg = SIGReg(EppsPulley(), SLICES, reference_batch=None)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4)
        images = from_arrays("noise", pixels)
        self.data = MultiCrop(images, config.images, torch.device("cpu"))
        self.fixed = next(self.data.batches(config.train.batch_size, 0))

    def for_peer(self) -> dict[str, object]:
        """Weights, views as stable-pretraining takes them, and what else it has to know."""
        encoder, head = self.model.encoder, self.model.projector
        views = {
            kind: ((self.fixed[kind].permute(0, 1, 4, 2, 3) - encoder.mean) / encoder.std).contiguous()
            for kind in ("global", "local")
        }
        images = self.config.images
        assert isinstance(head[0], nn.Linear)
        return {
            **views,
            "name": self.config.model.encoder.name,
            "lambda": LAMBDA,
            "slices": SLICES,
            "projector": [head[0].in_features, head[0].out_features, self.config.model.latent],
            "encoder": encoder.backbone.state_dict(),
            "head": head.state_dict(),
            "sides": [images.global_size, images.local_size],
            "views": [images.global_views, images.local_views],
            "batch": self.config.train.batch_size,
            "pixels": self.fixed["pixels"],
        }

    def loss(self) -> float:
        state = {name: value.clone() for name, value in self.model.state_dict().items()}
        value = self.model.loss(self.fixed)["loss"].item()
        self.model.load_state_dict(state)
        return value

    def seconds(self, what: str, untimed: int, timed: int) -> float:
        """Of a step, with the fixed views or with new ones each time."""
        stream: Iterator[dict[str, Tensor]] = self.data.batches(self.config.train.batch_size, 1)
        for number in range(untimed + timed):
            if number == untimed:
                began = time.perf_counter()
            loss = self.model.loss(self.fixed if what == "step" else next(stream))["loss"]
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        return (time.perf_counter() - began) / timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="an interpreter with stable-pretraining")
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sides", type=int, nargs=2, default=(96, 48), help="of global and local views")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help=f"timed in each round, after {UNTIMED}")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    words = {
        "mode": "images",
        "model.encoder.name": arguments.model,
        "images.global_size": arguments.sides[0],
        "images.local_size": arguments.sides[1],
        "train.batch_size": arguments.batch,
        "model.projector_hidden": 2048,
        "model.latent": 512,
    }
    config = load_config(None, [f"{name}={value}" for name, value in words.items()])
    shape = (arguments.batch, IMAGE_SIZE, IMAGE_SIZE, 3)
    ours = Ours(config, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "held.pt"
        torch.save(ours.for_peer(), file)
        command = [arguments.peer_python, "-c", PEER, str(file), *[str(arguments.threads)] * 2]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            assert peer.stdin is not None
            assert peer.stdout is not None
            said: list[str] = []
            while not said or said[-1] != "ready\n":
                said.append(peer.stdout.readline())
                if not said[-1]:
                    raise SystemExit(f"the other side ended before it began:\n{''.join(said[-8:])}")

            def ask(**question: object) -> float:
                peer.stdin.write(json.dumps(question) + "\n")  # type: ignore[union-attr]
                peer.stdin.flush()  # type: ignore[union-attr]
                return json.loads(peer.stdout.readline())  # type: ignore[union-attr]

            mine, theirs = ours.loss(), ask(what="loss")
            print(f"loss: ours {mine:.6f}, stable-pretraining's {theirs:.6f}")
            if abs(mine - theirs) > 1e-4 * abs(theirs):
                raise SystemExit("not the same loss: nothing to compare")
            for what in ("step", "augmented"):
                best = [float("inf")] * 2
                for _ in range(arguments.rounds):
                    best[0] = min(best[0], ours.seconds(what, UNTIMED, arguments.steps))
                    best[1] = min(best[1], ask(what=what, untimed=UNTIMED, timed=arguments.steps))
                name = "step" if what == "step" else "step with augmentation"
                print(
                    f"{name}: ours {1000 * best[0]:.0f} ms, stable-pretraining's {1000 * best[1]:.0f} ms, "
                    f"ratio {best[1] / best[0]:.2f}"
                )
            peer.stdin.close()


if __name__ == "__main__":
    main()
