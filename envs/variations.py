"""What may differ from episode to episode of one task: colours, light, camera, masses, friction."""

from collections.abc import Mapping
from typing import Any

import numpy as np

KINDS = ("colour", "light", "camera", "mass", "friction")
# What is changed, and what MuJoCo derives of it (mj_setConst).
CHANGED = (
    "mat_rgba", "geom_rgba", "light_ambient", "light_diffuse", "light_specular", "cam_quat", "geom_friction",
    "dof_damping", "dof_frictionloss", "body_mass", "body_inertia",
)  # fmt: skip
DERIVED = (
    "cam_pos0", "cam_poscom0", "cam_mat0", "light_pos0", "light_poscom0", "light_dir0", "body_subtreemass",
    "body_invweight0", "dof_M0", "dof_invweight0", "tendon_invweight0", "tendon_length0",
    "tendon_lengthspring", "actuator_acc0", "actuator_length0",
)  # fmt: skip
LIGHT = ("ambient", "diffuse", "specular")
STATISTICS = ("extent", "center", "meansize", "meanmass", "meaninertia")
# A geom of this colour shows its material's.
UNCOLOURED = np.array([0.5, 0.5, 0.5, 1.0], np.float32)


class Variations:
    """Changes of a model, one vector of values for each episode.

    The values are, whatever of them varies: factors on red, green and blue of each material and of each geom
    that has a colour of its own; a factor on the brightness of every light; turns of the camera about its own
    x, y and z, degrees; a factor on the mass and inertia of each body; one on contact friction, and on the
    damping and friction of joints.

    Args:
        model: mujoco.MjModel, as it is without variations; changed in place from then on.
        camera: name of the camera that is turned.
        ranges: of each kind that varies, lowest and highest value.

    Attributes:
        names: of the values, V of them.
        nominal: (V,) float64, the values that change nothing.
        values: (V,) float64, those that the model has now.

    Raises:
        ValueError: a kind is unknown, or a range is none.
    """

    def __init__(self, model: Any, camera: str, ranges: Mapping[str, tuple[float, float]]):
        import mujoco

        unknown = sorted(set(ranges) - set(KINDS))
        if unknown:
            raise ValueError(f"variations {unknown} are unknown; they are {', '.join(KINDS)}")
        for kind, (low, high) in ranges.items():
            if not -np.inf < low <= high < np.inf or (low <= 0 and kind == "mass"):
                raise ValueError(f"variations of {kind} are {low} to {high}, which is no range")
        self._mujoco, self._model, self._camera = mujoco, model, model.camera(camera).id
        self._scratch = mujoco.MjData(model)
        self._arrays = {name: getattr(model, name).copy() for name in (*CHANGED, *DERIVED)}
        self._headlight = {name: getattr(model.vis.headlight, name).copy() for name in LIGHT}
        self._statistics = {name: np.copy(getattr(model.stat, name)) for name in STATISTICS}
        coloured = (model.geom_rgba != UNCOLOURED).any(1) | (model.geom_matid < 0)
        self._materials = np.unique(model.geom_matid[~coloured])
        self._geoms = np.flatnonzero(coloured & (model.geom_rgba[:, 3] > 0))
        parts = {
            "colour": [
                f"{channel} {name}"
                for name in (
                    *(model.mat(i).name for i in self._materials),
                    *(model.geom(i).name for i in self._geoms),
                )
                for channel in ("red", "green", "blue")
            ],
            "light": ["light"],
            "camera": [f"camera {axis} [deg]" for axis in "xyz"],
            "mass": [f"mass {model.body(i).name}" for i in range(1, model.nbody)],
            "friction": ["friction"],
        }
        self.names = tuple(name for names in parts.values() for name in names)
        ends = np.cumsum([len(names) for names in parts.values()])
        self._slices = {
            kind: slice(end - len(names), end) for (kind, names), end in zip(parts.items(), ends, strict=True)
        }
        self.nominal = np.ones(len(self.names))
        self.nominal[self._slices["camera"]] = 0
        self._low, self._high = self.nominal.copy(), self.nominal.copy()
        for kind, (low, high) in ranges.items():
            self._low[self._slices[kind]], self._high[self._slices[kind]] = low, high
        self.values = self.nominal.copy()

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Values (V,), uniform over their ranges; what one kind gets does not depend on which others vary."""
        return self._low + rng.random(len(self.names)) * (self._high - self._low)

    def apply(self, values: np.ndarray) -> None:
        """Give the model these values (V,); the nominal ones leave it as it was, to the bit."""
        if np.array_equal(values, self.values):
            return
        self._restore()
        of = {kind: values[part] for kind, part in self._slices.items()}
        plain = {kind: self.nominal[part] for kind, part in self._slices.items()}
        model, arrays = self._model, self._arrays
        colours = of["colour"].reshape(-1, 3)
        for field, which, factors in (
            (model.mat_rgba, self._materials, colours[: len(self._materials)]),
            (model.geom_rgba, self._geoms, colours[len(self._materials) :]),
        ):
            field[which, :3] = (field[which, :3] * factors).clip(0, 1)
        for name in LIGHT:
            getattr(model, f"light_{name}")[:] *= of["light"]
            getattr(model.vis.headlight, name)[:] *= of["light"]
        for name in ("geom_friction", "dof_damping", "dof_frictionloss"):
            getattr(model, name)[:] *= of["friction"]
        model.body_mass[1:] *= of["mass"]
        model.body_inertia[1:] *= of["mass"][:, None]
        turn = np.empty(4)
        self._mujoco.mju_euler2Quat(turn, np.radians(of["camera"]), "xyz")
        self._mujoco.mju_mulQuat(model.cam_quat[self._camera], arrays["cam_quat"][self._camera], turn)
        if any((of[kind] != plain[kind]).any() for kind in ("camera", "mass")):
            self._mujoco.mj_setConst(model, self._scratch)
            for name in ("extent", "center", "meansize"):
                # Of the scene's size, which the depth of field and the lights depend on; nothing moved.
                self._set_statistic(name)
        self.values = np.array(values)

    def _restore(self) -> None:
        for name, array in self._arrays.items():
            getattr(self._model, name)[...] = array
        for name, array in self._headlight.items():
            getattr(self._model.vis.headlight, name)[...] = array
        for name in STATISTICS:
            self._set_statistic(name)
        self.values = self.nominal.copy()

    def _set_statistic(self, name: str) -> None:
        value = self._statistics[name]
        setattr(self._model.stat, name, value if value.ndim else float(value))
