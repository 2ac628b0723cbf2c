"""Protocols by name: what they set, and what goes before them."""

from pathlib import Path

import pytest
import yaml

from worldjepa.config import Config
from worldjepa.errors import UserError
from worldjepa.options import leaves, options
from worldjepa.protocols import PROTOCOLS
from worldjepa.recipes import load_config, to_yaml


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_sets_its_options_and_no_other(name: str) -> None:
    assert PROTOCOLS[name].keys() <= options().keys()
    changed = leaves(yaml.safe_load(to_yaml(load_config(None, [f"plan.protocol={name}"]))))
    plain = leaves(yaml.safe_load(to_yaml(Config())))
    assert changed == plain | PROTOCOLS[name] | {
        "plan.protocol": name,
        "data.path": changed["data.path"],
        "run": changed["run"],
    }


def test_near_is_what_the_defaults_are() -> None:
    plain = leaves(yaml.safe_load(to_yaml(Config())))
    assert {key: plain[key] for key in PROTOCOLS["near"]} == PROTOCOLS["near"]
    assert plain["plan.protocol"] == "near"


@pytest.mark.parametrize(
    "words", [["plan.budget=70", "plan.protocol=far100"], ["plan.protocol=far100", "plan.budget=70"]]
)
def test_what_is_named_beside_it_goes_before(words: list[str], tmp_path: Path) -> None:
    plan = load_config(None, words).plan
    assert (plan.goal_offset, plan.budget) == (100, 70)
    (tmp_path / "mine.yaml").write_text("plan: {budget: 70, protocol: far100}")
    plan = load_config(str(tmp_path / "mine.yaml")).plan
    assert (plan.goal_offset, plan.budget) == (100, 70)
    # What a run has stored is stored whole, and another protocol replaces all of it.
    (tmp_path / "config.yaml").write_text(to_yaml(load_config(None, [*words, "plan.seed=4"])))
    plan = load_config(str(tmp_path)).plan
    assert (plan.protocol, plan.goal_offset, plan.budget, plan.seed) == ("far100", 100, 70, 4)
    plan = load_config(str(tmp_path), ["plan.protocol=near"]).plan
    assert (plan.goal_offset, plan.budget, plan.seed) == (25, 50, 4)


def test_the_published_protocol_compares_angles_plainly() -> None:
    assert load_config(None, ["plan.protocol=lewm"]).env.protocol == "lewm"
    planner = load_config(None, ["plan.protocol=lewm_planner"]).plan
    assert (planner.num_samples, planner.num_elites, planner.iterations) == (300, 30, 30)
    assert (planner.cost, planner.replan_every, planner.horizon) == ("last", 5, 5)


def test_an_unknown_one_is_named() -> None:
    with pytest.raises(UserError, match=r"plan.protocol=father: must be one of near, lewm"):
        load_config(None, ["plan.protocol=father"])
