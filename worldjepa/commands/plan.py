"""`worldjepa plan`: plan to held-out goal images with a trained model, between its floor and its bound."""

import dataclasses
from typing import Any

import numpy as np
import torch

from ..config import Config
from ..data.windows import split_episodes
from ..errors import UserError
from ..evaluation.figures import plan_figure, plan_table
from ..evaluation.goals import Goals, Outcome, play, sample_goals, summary
from ..evaluation.pictures import add_gif, film, write_film
from ..evaluation.policies import RandomPolicy, TrueDynamics
from ..planning.agent import build_agent
from ..planning.costs import COSTS
from ..planning.dynamics import LatentDynamics
from ..run import Run
from ..trainer import choose_device
from ..world_model import WorldModel
from .train import goal_env, open_store


def run(config: Config) -> int:
    target = Run(config.run)
    device = choose_device(config.train)
    model = target.load_model(device)
    about = {
        "options": dataclasses.asdict(config.plan) | {"protocol": config.env.protocol},
        "checkpoint": int(target.checkpoints()[-1].name),
    }
    results = target.result("plan", about)
    if results is None:
        results = {**about, **_evaluate(config, target, model, device)}
        target.write_json("plan", results)
    plan_figure(target.evaluation / "plan.json")
    print(plan_table(results))
    for name in ("plan.json", "plan.png", "plan.mp4", "plan.gif"):
        if (target.evaluation / name).exists():
            print(target.evaluation / name)
    return 0


def _evaluate(config: Config, target: Run, model: WorldModel, device: torch.device) -> dict[str, Any]:
    store, plan = open_store(config), config.plan
    if store.action_dim != model.action_dim:
        raise UserError(
            f"{store.path}: an action has {store.action_dim} numbers, "
            f"the model of {target.path} takes {model.action_dim}"
        )
    env = goal_env(config, store)
    _, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    goals = sample_goals(store, held_out, env, plan.goals, plan.goal_offset, plan.seed)
    outcomes = _play_all(config, env, goals, LatentDynamics(model, COSTS[plan.cost], device), device)
    rows = {name: summary(outcome) for name, outcome in outcomes.items()}
    step = int(target.checkpoints()[-1].name)
    _write_pictures(target, outcomes["world model"], env, step)
    target.writer.add_scalar("eval/planned_success", rows["world model"]["success"], step)
    target.close()
    return {
        "environment": config.env.id,
        "goal_offset": plan.goal_offset,
        "budget": plan.budget,
        "pairs": len(goals),
        "already_there": goals.already_there,
        "rows": rows,
        "episodes": _episodes(goals, outcomes["world model"]),
    }


def _play_all(
    config: Config, env: Any, goals: Goals, dynamics: LatentDynamics, device: torch.device
) -> dict[str, Outcome]:
    plan, space, frameskip = config.plan, env.action_space, config.data.frameskip
    floor = RandomPolicy(space.low, space.high, frameskip, plan.seed)
    planner = build_agent(plan, frameskip, space, dynamics, device)
    outcomes = {
        "random actions": play(env, goals, floor, plan.budget, label="random actions"),
        "world model": play(env, goals, planner, plan.budget, plan.videos, label="world model"),
    }
    if plan.bound_goals and hasattr(env, "simulate"):
        bound = build_agent(plan, frameskip, space, TrueDynamics(env, COSTS[plan.cost], frameskip), device)
        name = "same solver, true dynamics"
        outcomes[name] = play(env, goals.first(plan.bound_goals), bound, plan.budget, label="true dynamics")
    return outcomes


def _episodes(goals: Goals, outcome: Outcome) -> list[dict[str, Any]]:
    """Where each goal comes from and what came of it, so that runs can be compared goal by goal."""
    columns = (goals.episode, goals.step, outcome.success, outcome.steps, np.round(outcome.error, 4))
    names = ("episode", "step", "success", "steps", "final_error")
    return [dict(zip(names, (v.item() for v in row), strict=True)) for row in zip(*columns, strict=True)]


def _write_pictures(target: Run, outcome: Outcome, env: Any, step: int) -> None:
    if not outcome.frames:
        return
    target.evaluation.mkdir(exist_ok=True)
    pictures = film(
        outcome.frames,
        outcome.goal_frames,
        outcome.success,
        scale=max(1, 128 // env.observation_space.shape[0]),
    )
    _, gif = write_film(pictures, target.evaluation / "plan", fps=20)
    height, width, _ = pictures[0].shape
    add_gif(target.writer, "eval/planned_episodes", gif.read_bytes(), height, width, step)
