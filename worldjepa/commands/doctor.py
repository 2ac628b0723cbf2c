"""`worldjepa doctor`: what a bug report needs, and whether this machine can draw."""

import os
import platform
import time

import torch

from ..config import Config
from ..data.environments import make_env
from ..device import GAINS, choose_device, choose_precision, gains
from ..versions import versions


def run(config: Config) -> int:
    device = choose_device(config.train)
    precision = str(choose_precision(config.train, device)).removeprefix("torch.")
    used = [option for option in sorted(set().union(*GAINS.values())) if gains(config.train, option, device)]
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    found = versions()
    rows = {
        "worldjepa": found.pop("worldjepa"),
        "Python": f"{found.pop('Python')} on {platform.platform()}",
        "torch": f"{found.pop('torch')}, {torch.get_num_threads()} threads of {os.cpu_count()} cores",
        "device": f"{device} ({name}), trains in {precision}, with {', '.join(used) or 'nothing more'}",
        "packages": ", ".join(f"{package} {number}" for package, number in found.items()),
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

    def draw(count: int) -> float:
        """Seconds."""
        began = time.perf_counter()
        for _ in range(count):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return time.perf_counter() - began

    draw(20)
    seconds = draw(frames)
    env.close()
    return frames / seconds
