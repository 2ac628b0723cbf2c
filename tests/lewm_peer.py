"""Runs beside stable-worldmodel: what its LeWM, small and filled with numbers that a seed gives, computes.

    PEER_PYTHON tests/lewm_peer.py > tests/lewm_golden.json

tests/test_lewm_weights.py fills the same names with the same numbers and expects the same of our model.
"""

import json

import numpy as np
import torch
from stable_worldmodel.wm.lewm import LeWM
from stable_worldmodel.wm.lewm.module import MLP, Embedder, Predictor
from transformers import ViTConfig, ViTModel


def filled(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """The same in tests/test_lewm_weights.py."""
    draw = np.random.default_rng(0)
    state = {}
    for name, shape in shapes.items():
        values = torch.from_numpy(draw.uniform(-1, 1, shape).astype(np.float32))
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = 1.5 + values
        else:
            state[name] = 0.3 * values + ("norm" in name and name.endswith("weight"))
    return state


def main() -> None:
    vit = ViTConfig(
        hidden_size=64, num_hidden_layers=6, num_attention_heads=2, intermediate_size=192, image_size=32,
        patch_size=16,
    )  # fmt: skip
    predictor = Predictor(
        num_frames=3, depth=2, heads=4, mlp_dim=48, input_dim=24, hidden_dim=24, dim_head=8, dropout=0.1
    )
    model = LeWM(
        ViTModel(vit, add_pooling_layer=False),
        predictor,
        Embedder(10, 10, 24),
        MLP(64, 32, 24, norm_fn=torch.nn.BatchNorm1d),
        MLP(24, 32, 24, norm_fn=torch.nn.BatchNorm1d),
    ).eval()
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(filled(shapes))
    draw = np.random.default_rng(1)
    frames = draw.integers(0, 256, (2, 32, 32, 3), np.uint8)
    plans = torch.from_numpy(draw.uniform(-1, 1, (1, 3, 5, 10)).astype(np.float32))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(frames) / 255 - mean) / std).permute(0, 3, 1, 2)
    now, goal = (frame.expand(1, 3, 1, 3, 32, 32) for frame in pixels)
    info = {"pixels": now, "goal": goal, "action": torch.zeros(1, 3, 1, 10)}
    with torch.inference_mode():
        cost = model.get_cost(info, plans)
    outputs = {"latent": info["emb"][0, 0, 0], "ahead": info["predicted_emb"][0, :, 1:], "cost": cost[0]}
    told = {name: tensor.double().numpy().round(6).tolist() for name, tensor in outputs.items()}
    print(json.dumps({"shapes": shapes, **told}))


if __name__ == "__main__":
    main()
