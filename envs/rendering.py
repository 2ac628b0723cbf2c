"""Which OpenGL draws, chosen before mujoco is first imported, and how well, chosen per environment."""

import atexit
import contextlib
import ctypes
import functools
import importlib.util
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np

# How many times as large as the frame each quality draws, each way.
QUALITIES = {"fast": 1, "smooth": 4, "full": 1}


class OpenGLUnavailable(RuntimeError):
    """No OpenGL back end can draw here; the message names the package to install."""


def choose_backend() -> str:
    """Set MUJOCO_GL (and PYOPENGL_PLATFORM) to a back end that draws; call it before mujoco is imported.

    A back end that the user set is kept and tried. On Linux, EGL is tried first, then OSMesa, each in a
    process of its own, since PyOpenGL binds to one platform for good when it is imported. Elsewhere the
    choice is mujoco's. What was found is left in the environment, so that child processes need not look
    again.

    Returns:
        The back end's name: "egl", "osmesa", "glfw", or "default" where the choice is mujoco's.

    Raises:
        OpenGLUnavailable: nothing draws.
    """
    _load_triton()
    found = os.environ.get("WORLDJEPA_GL_CHECKED")
    if found is not None and found == os.environ.get("MUJOCO_GL", "default"):
        return found
    # Mesa's software rasteriser starts threads that cost more than they give on small frames: 890 frames/s
    # with one, 1,545 with none (reacher, 64 px). Hardware drivers ignore the variable.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    asked = os.environ.get("MUJOCO_GL")
    usual = ["egl", "osmesa"] if sys.platform == "linux" else ["default"]
    candidates = [asked.lower()] if asked else usual
    for backend in candidates:
        variables = _variables(backend)
        if _draws(variables):
            os.environ.update(variables, WORLDJEPA_GL_CHECKED=backend)
            return backend
    tried = " and ".join(candidates)
    raise OpenGLUnavailable(
        f"no OpenGL back end works here (tried {tried}): install one, on Debian or Ubuntu "
        "`apt-get install libegl1 libgl1` or `apt-get install libosmesa6`"
        + (f", or unset MUJOCO_GL={asked}" if asked else "")
    )


def _load_triton() -> None:
    """Where torch brings Triton, load it now: it and Mesa each carry an LLVM, and Triton loaded after Mesa,
    as torch's optimizers do on their first use, ends the process with a segmentation fault."""
    found = importlib.util.find_spec("triton")
    for folder in (found.submodule_search_locations or ()) if found else ():
        # The library alone: the package around it takes half a second to import.
        for library in Path(folder, "_C").glob("libtriton*"):
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(library))


def _variables(backend: str) -> dict[str, str]:
    if backend == "default":
        return {}
    # PyOpenGL must be told too, and before it is imported, or it binds to GLX.
    platform = {"PYOPENGL_PLATFORM": backend} if backend in ("egl", "osmesa") else {}
    return {"MUJOCO_GL": backend, **platform}


def _draws(variables: dict[str, str]) -> bool:
    """Whether mujoco can make an OpenGL context under these environment variables."""
    program = "import mujoco; c = mujoco.GLContext(8, 8); c.make_current(); c.free()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


class Camera:
    """Draws one camera of a MuJoCo model into uint8 frames.

    Args:
        model: mujoco.MjModel; its quality settings are changed in place.
        camera: name of the camera.
        height, width: of a frame, in pixels.
        quality: "full" draws what dm-control draws; "fast" leaves out shadow maps, multisampling and
            reflections, which under software OpenGL cost fifteen times the rest; "smooth" leaves them out
            too, draws four times as high and wide, and averages, so that what moves by less than a pixel
            shows.
    """

    def __init__(self, model: Any, camera: str, height: int, width: int, quality: str):
        import mujoco

        if quality not in QUALITIES:
            raise ValueError(f"render_quality is {quality!r}; it must be one of {', '.join(QUALITIES)}")
        self._times = QUALITIES[quality]
        self._shape = (height, width, 3)
        height, width = height * self._times, width * self._times
        # Not 640 × 480, all of which is cleared for each frame: a tenth of the time at 64 px.
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        if quality != "full":
            model.vis.quality.shadowsize = 0
            model.vis.quality.offsamples = 0
        # A mujoco.Renderer's parts, without what it does anew for every frame: a twentieth of the time.
        self._gl = mujoco.GLContext(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=10000)
        if quality != "full":
            self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(camera).id
        everything = int(mujoco.mjtCatBit.mjCAT_ALL)
        self._mujoco, self._model = mujoco, model
        self._what = mujoco.MjvOption(), None, view, everything, self._scene
        self._rectangle, self._drawn = mujoco.MjrRect(0, 0, width, height), (height, width, 3)
        # The context must be freed while OpenGL is still loaded; a __del__ at exit comes too late.
        self.close = weakref.finalize(self, _free, self._gl, self._context)
        _open_cameras.add(self)
        _free_at_exit()

    def __call__(self, data: Any) -> np.ndarray:
        """mujoco.MjData, kinematics up to date, to a new frame (height, width, 3) uint8."""
        frame = self._draw(data)
        return frame if self._times == 1 else self._averaged(frame)

    def _averaged(self, drawn: np.ndarray) -> np.ndarray:
        """What was drawn larger, at the frame's size. Whole numbers: the same bytes on every machine."""
        height, width, _ = self._shape
        rows = drawn.reshape(height, self._times, -1).sum(1, dtype=np.uint16)
        sums = rows.reshape(height, width, self._times, 3).sum(2, dtype=np.uint16)
        return ((sums + self._times**2 // 2) // self._times**2).astype(np.uint8)

    def _draw(self, data: Any) -> np.ndarray:
        """As `__call__`, as large as it is drawn."""
        mujoco, frame = self._mujoco, np.empty(self._drawn, np.uint8)
        mujoco.mjv_updateScene(self._model, data, *self._what)
        # Another environment may have drawn in between.
        self._gl.make_current()
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        mujoco.mjr_readPixels(frame, None, self._rectangle, self._context)
        # OpenGL's first row is the lowest.
        return np.ascontiguousarray(frame[::-1])

    def things(self, data: Any) -> np.ndarray:
        """mujoco.MjData likewise to what each pixel shows, (height, width, 2) int32: the number of a thing
        within its kind, and the kind, an mjtObj; -1 and -1 where nothing is."""
        before = self._scene.flags.copy()
        for flag in (self._mujoco.mjtRndFlag.mjRND_SEGMENT, self._mujoco.mjtRndFlag.mjRND_IDCOLOR):
            self._scene.flags[flag] = 1
        try:
            # Of each pixel what is drawn at its middle: numbers have no average.
            colours = self._draw(data)[self._times // 2 :: self._times, self._times // 2 :: self._times]
        finally:
            self._scene.flags[:] = before
        # A colour is the number in the scene, from 1; 0 is the background.
        number = colours.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        shown = np.full((self._scene.ngeom + 1, 2), -1, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.segid >= 0:
                shown[geom.segid + 1] = geom.objid, geom.objtype
        return shown[number]


_open_cameras: "weakref.WeakSet[Camera]" = weakref.WeakSet()


@functools.cache
def _free_at_exit() -> None:
    """Once there is a context: mujoco has then said what ends EGL at exit; what is said later goes before it.
    `weakref.finalize` alone does not, where anybody used one earlier."""
    atexit.register(lambda: [camera.close() for camera in list(_open_cameras)])


def _free(gl: Any, context: Any) -> None:
    """Free what a camera drew with in its own context: it deletes by number, in whichever context is current,
    and that may be another environment's, which would draw noise from then on."""
    gl.make_current()
    context.free()
    gl.free()
