"""`worldjepa plan`: plan to held-out goal images with a trained model, between its floor and its bound."""

import csv
import dataclasses
import io
from typing import Any

import torch

from ..config import Config, PlanConfig
from ..data.shards import Store
from ..data.windows import Windows, split_episodes
from ..distributed import process_group, rank
from ..evaluation.damage import told_from
from ..evaluation.figures import plan_figure, plan_table
from ..evaluation.goals import Goals, Outcome, Policy, sample_goals, summary
from ..evaluation.goals_over_ranks import play_over_ranks
from ..evaluation.pictures import add_gif, film, write_film
from ..evaluation.planner import latent_planner, prepare
from ..evaluation.policies import RandomPolicy, TrueDynamics
from ..evaluation.rivals import rivals
from ..files import write_text
from ..planning.agent import build_agent
from ..planning.costs import COSTS
from ..planning.solvers import DESCENDING
from ..run import Run
from ..trainer import choose_device
from ..world_model import WorldModel
from .train import goal_env, open_store, require_actions


def run(config: Config) -> int:
    """Under torchrun every rank plays its part of the goals; the first one writes."""
    with process_group():
        return _plan(config)


def _plan(config: Config) -> int:
    target = Run(config.run, config.checkpoint, config.data.path)
    device = choose_device(config.train)
    model = target.load_world_model(device)
    precision = prepare(model, config, device)
    about = target.about(config, config.plan)
    about["options"]["protocol"] = config.env.protocol
    about["precision"] = str(precision).removeprefix("torch.")
    name = file_name(config.plan)
    results = target.result(name, about)
    if results is None:
        results = {**about, **_evaluate(config, target, model, device)}
        if rank() == 0:
            # The JSON comes last: where it is there, all is.
            target.evaluation.mkdir(parents=True, exist_ok=True)
            write_text(target.evaluation / f"{name}.csv", _csv(results["episodes"]))
            target.write_json(name, results)
    if rank() > 0:
        return 0
    with told_from(path := target.evaluation / f"{name}.json"):
        plan_figure(path)
        print(plan_table(results))
    for suffix in ("json", "csv", "png", "mp4", "gif"):
        if (target.evaluation / f"{name}.{suffix}").exists():
            print(target.evaluation / f"{name}.{suffix}")
    return 0


def file_name(plan: PlanConfig) -> str:
    """What the files in `evaluation/` are called: each protocol keeps its own."""
    return "plan" if plan.protocol == "near" else f"plan_{plan.protocol}"


def _evaluate(config: Config, target: Run, model: WorldModel, device: torch.device) -> dict[str, Any]:
    store, plan = open_store(config), config.plan
    require_actions(model, store, target)
    env = goal_env(config, store)
    _, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    goals = sample_goals(
        store, held_out, env, plan.goals, plan.goal_offset, plan.seed, tolerance=plan.tolerance
    )
    planner = latent_planner(config, store, model, env.action_space)
    outcomes = _play_all(config, env, goals, planner, _rivals(config, store, model, env), device)
    rows = {name: summary(outcome) for name, outcome in outcomes.items()}
    step = target.chosen_step()
    name = file_name(plan)
    _write_pictures(target, name, outcomes["world model"], env, step)
    target.writer.add_scalar(f"eval/{name}_success", rows["world model"]["success"], step)
    target.close()
    return {
        "environment": config.env.id,
        "goal_offset": plan.goal_offset,
        "budget": plan.budget,
        "tolerance": plan.tolerance,
        "hold": plan.hold,
        "pairs": len(goals),
        "already_there": goals.already_there,
        "rows": rows,
        "episodes": _episodes(goals, outcomes),
    }


def _play_all(
    config: Config, env: Any, goals: Goals, planner: Policy, others: dict[str, Policy], device: torch.device
) -> dict[str, Outcome]:
    plan, space, frameskip = config.plan, env.action_space, config.data.frameskip

    def outcome(name: str, policy: Policy, goals: Goals, record: int = 0) -> Outcome:
        rules = {"tolerance": plan.tolerance, "hold": plan.hold}
        return play_over_ranks(env, goals, policy, plan.budget, record, name, **rules)

    floor = RandomPolicy(space.low, space.high, frameskip, plan.seed)
    outcomes = {"random actions": outcome("random actions", floor, goals)}
    outcomes |= {name: outcome(name, policy, goals) for name, policy in others.items()}
    outcomes["world model"] = outcome("world model", planner, goals, plan.videos)
    if plan.bound_goals and hasattr(env, "simulate"):
        # A simulator has no gradients to descend along.
        sampling = dataclasses.replace(plan, solver="cem") if plan.solver in DESCENDING else plan
        name = "same solver, true dynamics" if sampling is plan else "cem, true dynamics"
        truth = TrueDynamics(env, COSTS[plan.cost], frameskip)
        bound = build_agent(sampling, frameskip, space, truth, device)
        outcomes[name] = outcome(name, bound, goals.first(plan.bound_goals))
    return outcomes


def _rivals(config: Config, store: Store, model: WorldModel, env: Any) -> dict[str, Policy]:
    """Trained on windows that reach as far ahead as the planner looks, where the data have any."""
    frames, frameskip, plan = config.plan.horizon + 1, config.data.frameskip, config.plan
    training, _ = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    if not plan.rival_steps or store.lengths[training].max() <= config.plan.horizon * frameskip:
        return {}
    windows = Windows(store, training, frames, frameskip)
    space = env.action_space
    return dict(rivals(model, windows, space.low, space.high, plan.rival_steps, plan.seed))


def _episodes(goals: Goals, outcomes: dict[str, Outcome]) -> list[dict[str, Any]]:
    """Where each goal comes from and what came of it, to compare policies and runs goal by goal."""
    rows = []
    for i in range(len(goals)):
        row: dict[str, Any] = {"episode": int(goals.episode[i]), "step": int(goals.step[i])}
        for name, outcome in outcomes.items():
            if i < len(outcome.success):
                row |= {
                    f"{name}: success": bool(outcome.success[i]),
                    f"{name}: steps": int(outcome.steps[i]),
                    f"{name}: final error": round(float(outcome.error[i]), 4),
                }
        rows.append(row)
    return rows


def _csv(episodes: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    # The first goals were tried by every policy.
    writer = csv.DictWriter(text, list(episodes[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(episodes)
    return text.getvalue()


def _write_pictures(target: Run, name: str, outcome: Outcome, env: Any, step: int) -> None:
    if not outcome.frames or rank() > 0:
        return
    target.evaluation.mkdir(parents=True, exist_ok=True)
    pictures = film(
        outcome.frames,
        outcome.goal_frames,
        outcome.success,
        scale=max(1, 128 // env.observation_space.shape[0]),
    )
    _, gif = write_film(pictures, target.evaluation / name, fps=20)
    height, width, _ = pictures[0].shape
    add_gif(target.writer, f"eval/{name}_episodes", gif.read_bytes(), height, width, step)
