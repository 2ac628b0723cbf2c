"""Goal-reaching protocols by name: what `plan.protocol=NAME` sets, but for options named beside it."""

from typing import Any

NEAR: dict[str, Any] = {
    "env.protocol": "circle",
    "plan.goal_offset": 25,
    "plan.budget": 50,
    "plan.tolerance": 1.0,
    "plan.hold": 1,
}
PUBLISHED = NEAR | {"env.protocol": "lewm"}

PROTOCOLS: dict[str, dict[str, Any]] = {
    "near": NEAR,
    # As LeWorldModel is evaluated: angles are subtracted plainly; and with its planner (appendices B and D).
    "lewm": PUBLISHED,
    "lewm_planner": PUBLISHED
    | {
        "plan.num_samples": 300,
        "plan.num_elites": 30,
        "plan.iterations": 30,
        "plan.cost": "last",
        "plan.replan_every": 5,
    },
    # Goals that uniform random actions hardly reach.
    "far50": NEAR | {"plan.goal_offset": 50, "plan.budget": 100},
    "far100": NEAR | {"plan.goal_offset": 100, "plan.budget": 200},
    # Passing by does not count.
    "hold": NEAR | {"plan.hold": 10},
    "tight": NEAR | {"plan.tolerance": 0.5},
}
