"""The table of tasks: what dm-control's suite leaves open for pixels and for planning to goal images.

A new task is one entry of TASKS. This module imports neither mujoco nor dm_control.
"""

from dataclasses import dataclass, replace

import numpy as np


def wrap_angle(angle: np.ndarray) -> np.ndarray:
    """Angles in radians, any shape, to the same angles in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


@dataclass(frozen=True)
class Coordinate:
    """A joint's place in qpos that a picture shows.

    Attributes:
        joint: its name in the suite's model.
        unit: "rad" or "m".
        tolerance: how close to the goal's counts as there, in that unit; None in a data task.
        circular: an angle without limits, compared on the circle.
    """

    joint: str
    unit: str
    tolerance: float | None = None
    circular: bool = False


def angles(names: str, tolerance: float | None = None, circular: bool = False) -> tuple[Coordinate, ...]:
    """Hinges with the same tolerance in radians; names with spaces between."""
    return tuple(Coordinate(name, "rad", tolerance, circular) for name in names.split())


def places(names: str, tolerance: float | None = None) -> tuple[Coordinate, ...]:
    """Slides with the same tolerance in metres; names with spaces between."""
    return tuple(Coordinate(name, "m", tolerance) for name in names.split())


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        domain, name: the task in dm_control's suite.
        camera: the model's camera that the pixels come from.
        control_step: how long an action is held, in seconds; a multiple of the suite's physics step.
        actions: how many numbers an action has, and what they do.
        coordinates: what a picture shows of qpos: the goal is reached when each is within its tolerance, and
            probes regress them. Velocities, and places that the camera goes along with, are never among them.
        hidden: names of geoms and sites that show the suite's own target; they are made invisible.
        drawn: how else the picture departs from the suite's: fields of the model, (field, name, value).
    """

    domain: str
    name: str
    camera: str
    control_step: float
    actions: str
    coordinates: tuple[Coordinate, ...]
    hidden: tuple[str, ...] = ()
    drawn: tuple[tuple[str, str, tuple[float, ...]], ...] = ()

    @property
    def has_goals(self) -> bool:
        """Whether there is a success rule; a data task has none."""
        return all(c.tolerance is not None for c in self.coordinates)

    @property
    def tolerance(self) -> np.ndarray:
        """(C,) of each coordinate, in radians or metres."""
        return np.array([c.tolerance for c in self.coordinates], np.float64)

    def error(self, values: np.ndarray, goal: np.ndarray, protocol: str = "circle") -> np.ndarray:
        """Absolute error of each coordinate, in radians or metres.

        Args:
            values, goal: (..., C) float, broadcast against each other.
            protocol: "circle" compares unlimited angles on the circle; "lewm" subtracts plainly, as
                stable-worldmodel's `qpos_match` does, so that a full turn counts as an error of 2 pi.

        Returns:
            (..., C) float.
        """
        difference = values - goal
        if protocol == "circle":
            circular = np.array([c.circular for c in self.coordinates])
            difference = np.where(circular, wrap_angle(difference), difference)
        return np.abs(difference)

    def named(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Coordinates (..., C) by name, each (...); of an angle without limits its sine and cosine."""
        result: dict[str, np.ndarray] = {}
        for index, c in enumerate(self.coordinates):
            value = values[..., index]
            result |= (
                {f"sin {c.joint}": np.sin(value), f"cos {c.joint}": np.cos(value)}
                if c.circular
                else {c.joint: value}
            )
        return result

    def rule(self) -> str:
        """When the goal is reached, in words."""
        if not self.has_goals:
            return "no goals: a data task"
        alike: dict[str, list[str]] = {}
        for c in self.coordinates:
            within = f"{c.tolerance:g} {c.unit}{' on the circle' if c.circular else ''}"
            alike.setdefault(within, []).append(c.joint)
        return ", ".join(f"{' '.join(names)} within {within}" for within, names in alike.items())


# Half as bright as the suite's colour.
_DARK = (0.35, 0.25, 0.15, 1.0)
# The joints of one side of the humanoid.
_LIMB = ("hip_x", "hip_z", "hip_y", "knee", "ankle_y", "ankle_x", "shoulder1", "shoulder2", "elbow")

# Tolerances were set before any model was trained, so that of the goals 25 steps ahead random actions reach
# at most a quarter, the planner on the true dynamics at least four fifths (results/tasks.json); and so that a
# difference of two tolerances shows in 64 pixels.
TASKS: dict[str, Task] = {
    # LeWM's tolerance. Both joints count on the circle, as the wrist's stops lie almost half a turn away.
    "Reacher": Task(
        domain="reacher",
        name="hard",
        camera="fixed",
        control_step=0.02,
        actions="2: torque of shoulder and wrist",
        coordinates=angles("shoulder wrist", 0.05, circular=True),
        hidden=("target",),
    ),
    # Within its radius, drawn twice as large as the suite's so that it covers 4 of 64 pixels. It is heavy for
    # its motors: only actions that are held for 0.08 s, and correlated in time, take it some cm.
    "PointMass": Task(
        domain="point_mass",
        name="easy",
        camera="fixed",
        control_step=0.08,
        actions="2: force along x and y",
        coordinates=places("root_x root_y", 0.02),
        hidden=("target",),
        drawn=(("geom_size", "pointmass", (0.02, 0.0, 0.0)), ("cam_fovy", "fixed", (48.0,))),
    ),
    # The body's shape. Where it is and where it heads can hardly be steered within 50 steps.
    # The suite's angle of view: a narrower one cuts off parts of the body.
    "Swimmer": Task(
        domain="swimmer",
        name="swimmer6",
        camera="tracking1",
        control_step=0.03,
        actions="5: torque of the joints, head to tail",
        coordinates=angles("joint_0 joint_1 joint_2 joint_3 joint_4", 0.1),
        hidden=("target",),
        drawn=(("light_active", "target_light", (0.0,)),),
    ),
    # The cart within a pixel, the pole's tip within a tenth of its length. The camera sees the whole rail,
    # and the pole at both of its ends.
    "Cartpole": Task(
        domain="cartpole",
        name="swingup",
        camera="fixed",
        control_step=0.03,
        actions="1: force on the cart",
        coordinates=(*places("slider", 0.05), *angles("hinge_1", 0.1, circular=True)),
        drawn=(("cam_fovy", "fixed", (75.0,)),),
    ),
    # About the ball's radius, for cup and ball; whether the ball is caught follows.
    "BallInCup": Task(
        domain="ball_in_cup",
        name="catch",
        camera="cam1",
        control_step=0.02,
        actions="2: force on the cup along x and z",
        coordinates=places("cup_x cup_z ball_x ball_z", 0.03),
        drawn=(("cam_fovy", "cam1", (54.0,)),),
    ),
    # Both links and the spinner, which in this of the suite's tasks spins freely once it is pushed.
    "Finger": Task(
        domain="finger",
        name="spin",
        camera="cam1",
        control_step=0.04,
        actions="2: torque of the proximal and the distal joint",
        coordinates=(*angles("proximal distal", 0.15), *angles("hinge", 0.2, circular=True)),
        hidden=("target", "tip"),
        drawn=(("cam_fovy", "cam1", (60.0,)),),
    ),
    # The whole posture: height, pitch, every joint. The camera goes along, so the way covered does not show.
    "Cheetah": Task(
        domain="cheetah",
        name="run",
        camera="side",
        control_step=0.02,
        actions="6: torque of thigh, shin and foot, back and front",
        coordinates=(
            *places("rootz", 0.05),
            *angles("rooty", 0.1, circular=True),
            *angles("bthigh bshin bfoot fthigh fshin ffoot", 0.2),
        ),
    ),
    # As for the cheetah; the left leg is drawn darker, since nothing else tells it from the right one.
    "Walker": Task(
        domain="walker",
        name="walk",
        camera="side",
        control_step=0.025,
        actions="6: torque of hip, knee and ankle, right and left",
        coordinates=(
            *places("rootz", 0.1),
            *angles("rooty", 0.2, circular=True),
            *angles("right_hip right_knee right_ankle left_hip left_knee left_ankle", 0.3),
        ),
        drawn=(
            *(("geom_rgba", f"left_{part}", _DARK) for part in ("thigh", "leg", "foot")),
            ("cam_fovy", "side", (50.0,)),
        ),
    ),
    # Data tasks. The pendulum swings through its goals by itself: random actions reached 79 to 97 % of them,
    # within 0.05 rad, at control steps from 0.02 to 0.16 s.
    "Pendulum": Task(
        domain="pendulum",
        name="swingup",
        camera="fixed",
        control_step=0.02,
        actions="1: torque of the hinge",
        coordinates=angles("hinge", circular=True),
    ),
    "Hopper": Task(
        domain="hopper",
        name="stand",
        camera="cam0",
        control_step=0.02,
        actions="4: torque of waist, hip, knee and ankle",
        coordinates=(*places("rootz"), *angles("rooty", circular=True), *angles("waist hip knee ankle")),
    ),
    "Acrobot": Task(
        domain="acrobot",
        name="swingup",
        camera="fixed",
        control_step=0.01,
        actions="1: torque of the elbow",
        coordinates=angles("shoulder elbow", circular=True),
        hidden=("target", "tip"),
        drawn=(("cam_fovy", "fixed", (40.0,)),),
    ),
    "Quadruped": Task(
        domain="quadruped",
        name="walk",
        camera="x",
        control_step=0.02,
        actions="12: of each leg yaw, lift and extension",
        coordinates=angles(
            " ".join(
                f"{joint}_{leg}"
                for leg in ("front_left", "front_right", "back_right", "back_left")
                for joint in ("yaw", "pitch", "knee", "ankle")
            )
        ),
        drawn=(("cam_fovy", "x", (70.0,)),),
    ),
    "Humanoid": Task(
        domain="humanoid",
        name="stand",
        camera="side",
        control_step=0.025,
        actions="21: torque of abdomen, legs and arms",
        coordinates=angles(
            "abdomen_z abdomen_y abdomen_x "
            + " ".join(f"{side}_{joint}" for side in ("right", "left") for joint in _LIMB)
        ),
    ),
}

# Seen from above its middle, by a camera that its fourth link carries: where it heads and where it is, which
# change little in an episode and no goal asks for, show in the floor alone.
TASKS["SwimmerAboard"] = replace(
    TASKS["Swimmer"],
    drawn=(
        *TASKS["Swimmer"].drawn,
        ("cam_mode", "tracking1", (0.0,)),
        ("cam_bodyid", "tracking1", (4.0,)),
        ("cam_pos", "tracking1", (0.0, -0.05, 0.6)),
        ("cam_quat", "tracking1", (1.0, 0.0, 0.0, 0.0)),
    ),
)


def table() -> str:
    """TASKS as a Markdown table."""
    rows = [
        f"| `worldjepa/{name}-v0` | {task.actions} | {task.control_step:g} s | {task.rule()} |"
        for name, task in TASKS.items()
    ]
    return "\n".join(["| id | action | control step | goal is reached when |", "|---|---|---|---|", *rows])
