"""dm-control tasks as Gymnasium environments with pixels, states that can be set, and goals."""

from typing import Any

import gymnasium
import numpy as np

from .rendering import Camera, choose_backend
from .tasks import TASKS

PROTOCOLS = ("circle", "lewm")


class PixelEnv(gymnasium.Env):
    """A task of dm-control's suite, seen through one camera; a goal is a physics state and its image.

    Action: Box(-1, 1, (A,), float32), the task's actuators, held for one control step.

    | task    | A | action                      | control step |
    |---------|---|-----------------------------|--------------|
    | Reacher | 2 | shoulder and wrist torque   | 0.02 s       |

    Observation: Box(0, 255, (image_size, image_size, 3), uint8), the camera's picture; the suite's target is
    hidden.

    Info, at reset and at every step: `qpos` (nq,), `qvel` (nv,) and `state`, the whole physics state (n,),
    float64, and `observation`, the suite's own state observation in one vector, float32;
    with a goal also `error` (nq,), `success` (bool) and `goal_pixels`, the picture of the goal at rest.

    Reward: 1 at a step that reaches the goal, else 0; without a goal always 0.
    Starting state: the suite's own random one, or options["state"].
    Termination: the goal is reached. Truncation: Gymnasium's time limit, 1000 steps as registered.

    | task    | goal is reached when                                                                    |
    |---------|-----------------------------------------------------------------------------------------|
    | Reacher | both joints are within 0.05 rad of the goal's, on the circle (`protocol="lewm"`: plainly) |

    Arguments:
        task: a name in `worldjepa.envs.tasks.TASKS`.
        image_size: height and width of a frame in pixels, at least 8.
        render_quality: "fast" or "full" (`worldjepa.envs.rendering.Camera`).
        protocol: "circle" or "lewm" (`worldjepa.envs.tasks.Task.error`).

    Same seed and same actions give the same pixels, byte for byte.

    Version history:
        v0: first version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 - as Gymnasium declares it
    action_space: gymnasium.spaces.Box

    def __init__(
        self,
        task: str,
        image_size: int = 64,
        render_quality: str = "fast",
        protocol: str = "circle",
        render_mode: str | None = "rgb_array",
    ):
        if task not in TASKS:
            raise ValueError(f"task is {task!r}; it must be one of {', '.join(TASKS)}")
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {protocol!r}; it must be one of {', '.join(PROTOCOLS)}")
        if image_size < 8:
            raise ValueError(f"image_size is {image_size}; it must be at least 8 pixels")
        choose_backend()
        import mujoco
        from dm_control import suite

        self.task = TASKS[task]
        self.protocol = protocol
        self.render_mode = render_mode
        self._mujoco = mujoco
        self._suite_random = np.random.RandomState(0)
        self._suite_env = suite.load(
            self.task.domain, self.task.name, task_kwargs={"random": self._suite_random}
        )
        self._physics = self._suite_env.physics
        self._model, self._data = self._physics.model.ptr, self._physics.data.ptr
        self._substeps = round(self._suite_env.control_timestep() / self._physics.timestep())
        for geom in self.task.hidden:
            self._physics.named.model.geom_rgba[geom, "a"] = 0
        self._camera = Camera(self._model, self.task.camera, image_size, image_size, render_quality)
        self._state_kind = mujoco.mjtState.mjSTATE_INTEGRATION
        self._goal_qpos: np.ndarray | None = None
        self._goal_pixels: np.ndarray | None = None

        bounds = self._suite_env.action_spec()
        self.action_space = gymnasium.spaces.Box(
            bounds.minimum.astype(np.float32), bounds.maximum.astype(np.float32), dtype=np.float32
        )
        self.observation_space = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: as Gymnasium defines it.
            options: "state", a whole physics state (n,) to start from; "goal", another to reach. Without
                "goal" the episode has none.
        """
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"state", "goal"}
        if unknown:
            raise ValueError(f"reset options {sorted(unknown)} are unknown; they are 'state' and 'goal'")
        self._suite_random.seed(int(self.np_random.integers(2**32, dtype=np.uint64)))
        with self._physics.reset_context():
            self._suite_env.task.initialize_episode(self._physics)
        self.set_goal(options.get("goal"))
        if options.get("state") is not None:
            self.set_state(options["state"])
        return self._camera(self._data), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step under `action` (A,), clipped to the action space."""
        self._physics.set_control(np.clip(action, self.action_space.low, self.action_space.high))
        self._physics.step(self._substeps)
        info = self._info()
        success = bool(info.get("success", False))
        return self._camera(self._data), float(success), success, False, info

    def render(self) -> np.ndarray | None:
        """The present frame (image_size, image_size, 3) uint8."""
        return self._camera(self._data) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self._camera.close()

    def get_state(self) -> np.ndarray:
        """The whole physics state (n,) float64: setting it back continues to the same bits."""
        state = np.empty(self._mujoco.mj_stateSize(self._model, self._state_kind))
        self._mujoco.mj_getState(self._model, self._data, state, self._state_kind)
        return state

    def set_state(self, state: np.ndarray) -> None:
        """Put the physics into `state` (n,), as `get_state` gave it.

        Raises:
            ValueError: `state` has another shape, or is not finite.
        """
        state = np.asarray(state, np.float64)
        size = self._mujoco.mj_stateSize(self._model, self._state_kind)
        if state.shape != (size,) or not np.isfinite(state).all():
            raise ValueError(f"a state of this environment is {size} finite numbers, not shape {state.shape}")
        self._mujoco.mj_setState(self._model, self._data, state, self._state_kind)
        # What dm_control's step ends with, so that the next step finds what it would have found.
        self._mujoco.mj_step1(self._model, self._data)

    def set_goal(self, goal: np.ndarray | None, draw: bool = True) -> np.ndarray | None:
        """Make the state `goal` (n,) this episode's goal, or take the goal away; the present state is kept.

        Args:
            goal: a whole physics state, or None.
            draw: whether to draw the goal's picture; without, `goal_pixels` is missing from the info.

        Returns:
            The goal's image (image_size, image_size, 3) uint8, or None.
        """
        self._goal_pixels = None
        self._goal_qpos = None if goal is None else self.qpos_of(np.asarray(goal, np.float64))
        if goal is not None and draw:
            present = self.get_state()
            self.set_state(goal)
            self._goal_pixels = self._camera(self._data)
            self.set_state(present)
        return self._goal_pixels

    def simulate(self, states: np.ndarray, actions: np.ndarray, threads: int = 1) -> np.ndarray:
        """The true dynamics on many plans at once, without drawing.

        Args:
            states: (N, n) float64 start states, as `get_state` gives them.
            actions: (N, T, A) one action per control step.
            threads: how many CPU threads share the work.

        Returns:
            qpos after each control step, (N, T, nq) float64.
        """
        from mujoco import rollout

        controls = np.repeat(np.asarray(actions, np.float64), self._substeps, axis=1)
        full = self._mujoco.mjtState.mjSTATE_FULLPHYSICS
        # FULLPHYSICS is the first part of INTEGRATION: time, qpos, qvel, act, ...
        width = self._mujoco.mj_stateSize(self._model, full)
        datas = [self._mujoco.MjData(self._model) for _ in range(threads)]
        trajectory, _ = rollout.rollout(self._model, datas, np.ascontiguousarray(states[:, :width]), controls)
        trajectory = trajectory[:, self._substeps - 1 :: self._substeps]
        return trajectory[..., 1 : 1 + self._model.nq]

    def coordinates(self, qpos: np.ndarray) -> dict[str, np.ndarray]:
        """qpos (..., nq) to the named coordinates that a picture shows, each (...)."""
        return self.task.coordinates(qpos)

    def goal_error(self, qpos: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Error of qpos (..., nq) against a goal's qpos, per coordinate, as a multiple of the tolerance."""
        return self.task.error(qpos, goal, self.protocol) / self.task.tolerance

    def qpos_of(self, states: np.ndarray) -> np.ndarray:
        """qpos (..., nq) within whole physics states (..., n)."""
        return states[..., 1 : 1 + self._model.nq]

    def _observation(self) -> np.ndarray:
        parts = self._suite_env.task.get_observation(self._physics).values()
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {
            "qpos": self._data.qpos.copy(),
            "qvel": self._data.qvel.copy(),
            "state": self.get_state(),
            "observation": self._observation(),
        }
        if self._goal_qpos is not None:
            error = self.task.error(info["qpos"], self._goal_qpos, self.protocol)
            info["error"] = error
            info["success"] = bool((error < self.task.tolerance).all())
            if self._goal_pixels is not None:
                info["goal_pixels"] = self._goal_pixels
        return info
