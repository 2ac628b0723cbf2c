"""dm-control tasks as Gymnasium environments with pixels and states that can be set."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from .rendering import Camera, choose_backend
from .tasks import TASKS, table
from .variations import Variations

PROTOCOLS = ("circle", "lewm")


class PixelEnv(gymnasium.Env):
    """A task of dm-control's suite, seen through one camera, whose whole physics state can be read and set.

    Action: Box(low, high, (A,), float32), the task's actuators (table below), held for one control step; the
    bounds are the suite's, -1 and 1 but for the quadruped.

    Observation: Box(0, 255, (image_size, image_size, 3), uint8), the camera's picture; the suite's target is
    hidden.

    Info, at reset and at every step: `qpos` (nq,), `qvel` (nv,) and `state`, the whole physics state (n,),
    float64, and `observation`, the suite's own state observation in one vector, float32; with variations also
    `variation` (V,) float64, this episode's (`variation_names`), which are then a part of the state.

    Reward: always 0. Starting state: the suite's own random one, or options["state"].
    Termination: never. Truncation: Gymnasium's time limit, 1000 steps as registered.

    Arguments:
        task: a name in `worldjepa.envs.tasks.TASKS`.
        image_size: height and width of a frame in pixels, at least 8.
        render_quality: "fast", "smooth" or "full" (`worldjepa.envs.rendering.Camera`).
        protocol: "circle" or "lewm" (`worldjepa.envs.tasks.Task.error`).
        variations: what is drawn anew for each episode from its seed, by kind the lowest and highest value
            (`worldjepa.envs.variations.Variations`); none: nothing. Start states are those without.

    Same seed and same actions give the same pixels, byte for byte.

    Version history:
        v0: first version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 - as Gymnasium declares it
    action_space: gymnasium.spaces.Box
    reset_options: tuple[str, ...] = ("state",)

    def __init__(
        self,
        task: str,
        image_size: int = 64,
        render_quality: str = "fast",
        protocol: str = "circle",
        variations: Mapping[str, tuple[float, float]] | None = None,
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
        self._substeps = round(self.task.control_step / self._physics.timestep())
        self._places = [int(self._model.joint(c.joint).qposadr[0]) for c in self.task.coordinates]
        # Some of the suite's tasks give the model its last constants here, as finger the spinner's damping.
        self._initialize_episode()
        self._draw_as_listed()
        self._variations = Variations(self._model, self.task.camera, variations) if variations else None
        self._camera = Camera(self._model, self.task.camera, image_size, image_size, render_quality)
        self._state_kind = mujoco.mjtState.mjSTATE_INTEGRATION

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
            options: "state", a whole physics state (n,) to start from.
        """
        super().reset(seed=seed)
        options = options or {}
        unknown = sorted(set(options) - set(self.reset_options))
        if unknown:
            known = " and ".join(self.reset_options)
            raise ValueError(f"reset options {unknown} are unknown; this environment knows {known}")
        self._suite_random.seed(int(self.np_random.integers(2**32, dtype=np.uint64)))
        if self._variations is not None:
            # So that nothing of the last episode's remains in where this one starts.
            self._variations.apply(self._variations.nominal)
        self._initialize_episode()
        if self._variations is not None:
            self._variations.apply(self._variations.draw(self.np_random))
            self.set_state(self.get_state())
        if options.get("state") is not None:
            self.set_state(options["state"])
        return self._camera(self._data), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step under `action` (A,), clipped to the action space."""
        self._physics.set_control(np.clip(action, self.action_space.low, self.action_space.high))
        self._physics.step(self._substeps)
        return self._camera(self._data), 0.0, False, False, self._info()

    def render(self) -> np.ndarray | None:
        """The present frame (image_size, image_size, 3) uint8."""
        return self._camera(self._data) if self.render_mode == "rgb_array" else None

    def moving_parts(self) -> np.ndarray:
        """Which pixels of the present frame show what can move: bodies with joints, and tendons, but neither
        the floor nor what is fixed to it, (image_size, image_size) bool."""
        kinds = self._mujoco.mjtObj
        number, kind = np.moveaxis(self._camera.things(self._data), -1, 0)
        fixed = self._model.body_weldid[self._model.geom_bodyid] == 0
        bodies = (kind == kinds.mjOBJ_GEOM) & ~fixed[np.where(kind == kinds.mjOBJ_GEOM, number, 0)]
        return bodies | (kind == kinds.mjOBJ_TENDON)

    def close(self) -> None:
        self._camera.close()

    @property
    def variation_names(self) -> tuple[str, ...]:
        """What the entries of the info's `variation` are; none without variations."""
        return () if self._variations is None else self._variations.names

    def get_state(self) -> np.ndarray:
        """The whole physics state (n,) float64, with the variation at its end where there are any: setting it
        back continues to the same bits."""
        state = np.empty(self._mujoco.mj_stateSize(self._model, self._state_kind))
        self._mujoco.mj_getState(self._model, self._data, state, self._state_kind)
        return state if self._variations is None else np.concatenate([state, self._variations.values])

    def set_state(self, state: np.ndarray) -> None:
        """Put the physics into `state` (n,), as `get_state` gave it.

        Raises:
            ValueError: `state` has another shape, or is not finite.
        """
        state = np.asarray(state, np.float64)
        physics = self._mujoco.mj_stateSize(self._model, self._state_kind)
        size = physics + len(self.variation_names)
        if state.shape != (size,) or not np.isfinite(state).all():
            raise ValueError(f"a state of this environment is {size} finite numbers, not shape {state.shape}")
        if self._variations is not None:
            state, variation = np.split(state, [physics])
            self._variations.apply(variation)
        self._mujoco.mj_setState(self._model, self._data, state, self._state_kind)
        # What dm_control's step ends with, so that the next step finds what it would have found.
        self._mujoco.mj_step1(self._model, self._data)

    def simulate(self, states: np.ndarray, actions: np.ndarray, threads: int = 1) -> np.ndarray:
        """The true dynamics on many plans at once, without drawing.

        Args:
            states: (N, n) float64 start states, as `get_state` gives them.
            actions: (N, T, A) one action per control step.
            threads: how many CPU threads share the work.

        Returns:
            qpos after each control step, (N, T, nq) float64.
        """
        if self._variations is None:
            return self._simulate(states, actions, threads)
        count, present = len(self._variations.names), self._variations.values
        variations, which = np.unique(states[:, -count:], axis=0, return_inverse=True)
        result = np.empty((*actions.shape[:2], self._model.nq))
        for number, variation in enumerate(variations):
            mine = which == number
            self._variations.apply(variation)
            result[mine] = self._simulate(states[mine, :-count], actions[mine], threads)
        self._variations.apply(present)
        return result

    def _simulate(self, states: np.ndarray, actions: np.ndarray, threads: int) -> np.ndarray:
        """The same, of states without a variation, in the model as it is."""
        from mujoco import rollout

        kinds = self._mujoco.mjtState
        controls = np.repeat(np.asarray(actions, np.float64), self._substeps, axis=1)
        datas = [self._mujoco.MjData(self._model) for _ in range(threads)]
        trajectory, _ = rollout.rollout(
            self._model,
            datas,
            self._part(states, kinds.mjSTATE_FULLPHYSICS),
            controls,
            # Where bodies touch, the solver's answer depends on where it starts from.
            initial_warmstart=self._part(states, kinds.mjSTATE_WARMSTART),
        )
        trajectory = trajectory[:, self._substeps - 1 :: self._substeps]
        return trajectory[..., 1 : 1 + self._model.nq]

    def coordinates(self, qpos: np.ndarray) -> dict[str, np.ndarray]:
        """qpos (..., nq) to the named coordinates that a picture shows, each (...)."""
        return self.task.named(qpos[..., self._places])

    def qpos_of(self, states: np.ndarray) -> np.ndarray:
        """qpos (..., nq) within whole physics states (..., n)."""
        return states[..., 1 : 1 + self._model.nq]

    def _part(self, states: np.ndarray, kind: Any) -> np.ndarray:
        """Of states (N, n), what belongs to `kind`, a sum of mjtState, (N, m)."""
        size = self._mujoco.mj_stateSize(self._model, kind)
        part = np.empty((len(states), size))
        for state, to in zip(np.ascontiguousarray(states, np.float64), part, strict=True):
            self._mujoco.mj_extractState(self._model, state, self._state_kind, to, kind)
        return part

    def _initialize_episode(self) -> None:
        with self._physics.reset_context():
            self._suite_env.task.initialize_episode(self._physics)

    def _draw_as_listed(self) -> None:
        model = self._physics.named.model
        for name in self.task.hidden:
            colours = model.geom_rgba if name in model.geom_rgba.axes.row.names else model.site_rgba
            colours[name, 3] = 0
        for what, name, value in self.task.drawn:
            getattr(model, what)[name] = np.squeeze(value)

    def _observation(self) -> np.ndarray:
        parts = self._suite_env.task.get_observation(self._physics).values()
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        info = {
            "qpos": self._data.qpos.copy(),
            "qvel": self._data.qvel.copy(),
            "state": self.get_state(),
            "observation": self._observation(),
        }
        return info if self._variations is None else info | {"variation": self._variations.values.copy()}


PixelEnv.__doc__ = f"{PixelEnv.__doc__}\n{table()}\n"
