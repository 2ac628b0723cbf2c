"""`worldjepa doctor`: what a bug report needs, and whether this machine can draw."""

import importlib.metadata
import os
import platform
import time

import torch

from ..config import Config
from ..data.environments import make_env
from ..device import GAINS, choose_device, choose_precision, gains

PACKAGES = (
    "numpy",
    "gymnasium",
    "mujoco",
    "dm-control",
    "timm",
    "h5py",
    "tensorboard",
    "omegaconf",
    "safetensors",
)


def run(config: Config) -> int:
    device = choose_device(config.train)
    precision = str(choose_precision(config.train, device)).removeprefix("torch.")
    used = [option for option in sorted(set().union(*GAINS.values())) if gains(config.train, option, device)]
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    rows = {
        "worldjepa": importlib.metadata.version("worldjepa"),
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores",
        "device": f"{device} ({name}), trains in {precision}, with {', '.join(used) or 'nothing more'}",
        "packages": ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES),
    }
    # Said before OpenGL is tried: a report without it is still a report.
    for label, value in rows.items():
        print(f"{label:<10} {value}", flush=True)
    speed, env = _frames_per_second(config), config.env
    print(
        f"{'OpenGL':<10} {os.environ.get('MUJOCO_GL', 'default')}: {speed:.0f} frames/s of {env.id}, "
        f"{env.image_size} px, {env.render_quality}, one process"
    )
    return 0


def _frames_per_second(config: Config, frames: int = 300) -> float:
    env = make_env(config.env)
    env.reset(seed=0)
    action = env.action_space.sample()
    for _ in range(20):
        env.step(action)
    began = time.perf_counter()
    for _ in range(frames):
        env.step(action)
    seconds = time.perf_counter() - began
    env.close()
    return frames / seconds
