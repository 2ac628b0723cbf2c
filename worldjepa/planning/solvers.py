"""Solvers by name, as the options ask for them."""

from torch import Tensor

from ..config import PlanConfig
from .cem import CEM
from .gradient import Gradient, InTurn
from .icem import ICEM
from .mppi import MPPI
from .shooting import Shooting
from .solver import Solver

# These need costs that can be differentiated, which a simulator does not give.
DESCENDING = ("gradient", "cem_gradient")
# Where a descent refines a plan, its other starts are this near, as a share of the first Gaussian's spread.
NEAR = 0.1


def build_solver(plan: PlanConfig, low: Tensor, high: Tensor, frameskip: int) -> Solver:
    """The solver that `plan` names. Each asks for num_samples · iterations costs of a decision, all in all.

    Args:
        plan: its options.
        low, high: (k·A,) bounds of an action block.
        frameskip: k, actions of a block.
    """
    samples, elites, iterations, std = plan.num_samples, plan.num_elites, plan.iterations, plan.initial_std
    seed, stop = plan.seed, plan.stop_below
    if plan.solver == "shooting":
        return Shooting(low, high, samples, iterations, seed, stop)
    if plan.solver == "icem":
        exponent = plan.noise_exponent
        return ICEM(low, high, samples, elites, iterations, std, seed, stop, exponent, frameskip)
    if plan.solver == "mppi":
        return MPPI(low, high, samples, iterations, std, plan.temperature, seed, stop)
    if plan.solver == "gradient":
        return _gradient(plan, low, high, samples * iterations, std)
    if plan.solver == "cem_gradient":
        cem = CEM(low, high, samples, elites, iterations - 1, std, seed, stop)
        refine = _gradient(plan, low, high, samples, NEAR * std)
        return InTurn(cem, refine, share=1 - 1 / iterations)
    return CEM(low, high, samples, elites, iterations, std, seed, stop)


def _gradient(plan: PlanConfig, low: Tensor, high: Tensor, costs: int, std: float) -> Gradient:
    """A descent that asks for so many costs."""
    steps = costs // plan.starts
    return Gradient(low, high, plan.starts, steps, std, plan.learning_rate, plan.seed, plan.stop_below)
