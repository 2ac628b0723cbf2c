"""worldjepa.envs.rendering: which OpenGL is chosen, and what is said where there is none."""

import os
import subprocess
import sys

import pytest
from worldjepa.envs import rendering
from worldjepa.envs.rendering import OpenGLUnavailable, choose_backend


@pytest.fixture
def no_choice_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "WORLDJEPA_GL_CHECKED", "LP_NUM_THREADS"):
        # Set first, so that the variable is put back even where it was not there.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_choice_yet")
@pytest.mark.parametrize(
    ("platform", "asked", "draw", "chosen"),
    [
        ("linux", None, {"egl", "osmesa"}, "egl"),
        ("linux", None, {"osmesa"}, "osmesa"),
        ("linux", "osmesa", {"egl", "osmesa"}, "osmesa"),
        ("linux", "glfw", {"egl", "glfw"}, "glfw"),
        ("darwin", None, {None}, "default"),
    ],
)
def test_choice_of_back_end(monkeypatch, platform: str, asked: str | None, draw: set, chosen: str):
    tried = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(rendering, "_draws", lambda v: tried.append(v) or v.get("MUJOCO_GL") in draw)
    if asked:
        monkeypatch.setenv("MUJOCO_GL", asked)
    assert choose_backend() == chosen
    assert os.environ.get("MUJOCO_GL", "default") == chosen
    assert os.environ.get("PYOPENGL_PLATFORM") == (chosen if chosen in ("egl", "osmesa") else None)
    tries = len(tried)
    assert choose_backend() == chosen
    assert len(tried) == tries, "what was found is not looked for again"


@pytest.mark.usefixtures("no_choice_yet")
@pytest.mark.parametrize(
    ("asked", "words"),
    [(None, ("libegl1 libgl1`", "libosmesa6")), ("osmesa", ("libosmesa6", "unset MUJOCO_GL=osmesa"))],
)
def test_where_nothing_draws_the_error_names_the_package(monkeypatch, asked: str | None, words: tuple):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(rendering, "_draws", lambda variables: False)
    if asked:
        monkeypatch.setenv("MUJOCO_GL", asked)
    with pytest.raises(OpenGLUnavailable) as caught:
        choose_backend()
    assert all(word in str(caught.value) for word in words)
    assert "WORLDJEPA_GL_CHECKED" not in os.environ


def test_a_back_end_that_can_not_draw_is_one_line_on_the_command_line(tmp_path):
    command = [sys.executable, "-m", "worldjepa", "collect", "smoke", f"data.path={tmp_path / 'data'}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MUJOCO_GL": "none"})
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    # A bar may stand before it, where the workers took long to say so.
    last = done.stderr.splitlines()[-1]
    assert "libegl1" in last
    assert "MUJOCO_GL=none" in last
    assert not (tmp_path / "data").exists()


def test_torch_can_load_its_compiler_after_an_environment_was_drawn() -> None:
    """Triton's LLVM after Mesa's ends the process, so the environment loads Triton first."""
    program = """
import gymnasium
env = gymnasium.make("worldjepa.envs:worldjepa/Reacher-v0", image_size=8)
env.reset(seed=0)
import torch._dynamo
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
env.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("closed", [False, True])
def test_an_environment_that_nobody_closed_ends_in_silence(closed: bool) -> None:
    """A finalizer that was there before mujoco would otherwise free cameras after EGL has ended."""
    program = f"""
import weakref

class Earlier: ...

earlier = Earlier()
weakref.finalize(earlier, int)
import gymnasium
envs = [gymnasium.make("worldjepa.envs:worldjepa/Reacher-v0", image_size=32) for _ in range(2)]
print([env.reset(seed=0)[0].shape for env in envs])
if {closed}:
    envs[0].close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[(32, 32, 3), (32, 32, 3)]\n"
