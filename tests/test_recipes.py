"""Recipes, run folders and overrides, read into a configuration."""

import dataclasses
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from worldjepa.cli import main
from worldjepa.config import Config
from worldjepa.data.environments import make_env
from worldjepa.data.episodes import collect_episode
from worldjepa.errors import UserError
from worldjepa.options import leaves
from worldjepa.recipes import load_config, recipes, to_yaml


def value(config: Config, name: str) -> object:
    return leaves(dataclasses.asdict(config))[name]


def complaint(what: str | None, *overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        load_config(what, overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_recipes_are_those_of_the_folder() -> None:
    assert recipes() == sorted(p.stem for p in (Path(__file__).parents[1] / "configs").glob("*.yaml"))
    assert {"reacher", "smoke"} <= set(recipes())


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_loads_bears_its_name_and_opens_with_what_it_is(recipe: str) -> None:
    config = load_config(recipe)
    assert (config.name, config.run) == (recipe, f"runs/{recipe}")
    tasks = ("reacher", "point_mass", "swimmer", "cartpole", "ball_in_cup", "finger", "cheetah", "walker")
    data = [f"data/{name}" for name in (tasks if recipe == "eight" else [recipe])]
    assert config.data.path == ",".join(data)
    first = (files("worldjepa.configs") / f"{recipe}.yaml").read_text("utf-8").splitlines()[0]
    assert first.startswith("# ")


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_states_only_what_differs_from_the_defaults(recipe: str) -> None:
    stated = leaves(yaml.safe_load((files("worldjepa.configs") / f"{recipe}.yaml").read_text("utf-8")))
    defaults = leaves(dataclasses.asdict(load_config()))
    assert [name for name, v in stated.items() if name != "name" and v == defaults[name]] == []


@pytest.mark.parametrize("recipe", recipes())
def test_what_is_written_reads_back_the_same(recipe: str, tmp_path: Path) -> None:
    config = load_config(recipe, ["train.learning_rate=1e-07", "name=Ünïcode: # yes", "data.path=null"])
    path = tmp_path / "written.yaml"
    path.write_text(to_yaml(config), "utf-8")
    assert load_config(str(path)) == config


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.learning_rate=1e-3", 1e-3),
        ("train.learning_rate=3E-4", 3e-4),
        ("train.learning_rate=1", 1.0),
        ("train.steps=1000", 1000),
        ("model.predictor.projector=true", True),
        ("model.predictor.projector=no", False),
        ("name=7", "7"),
        ("name=007", "007"),
        ("name=yes", "yes"),
        ("name=a=b", "a=b"),
        ("data.path=/a b/[c]", "/a b/[c]"),
    ],
)
def test_a_value_is_read_as_its_options_type(override: str, expected: object) -> None:
    read = value(load_config(None, [override]), override.partition("=")[0])
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("train.steps=many", "train.steps=many: must be a whole number"),
        ("train.steps=1.5", "train.steps=1.5: must be a whole number"),
        ("train.steps=", "must be a whole number"),
        ("train.steps=true", "must be a whole number"),
        ("train.steps=[1, 2]", "must be a whole number"),
        ("train.steps={a: 1}", "must be a whole number"),
        ("train.steps=[", "train.steps=[: must be a whole number"),
        ("train.learning_rate=fast", "train.learning_rate=fast: must be a number"),
        ("model.predictor.projector=1", "model.predictor.projector=1: must be true or false"),
        ("model.predictor.projector=maybe", "must be true or false"),
        ("train.stepz=3", "unknown option train.stepz; did you mean train.steps?"),
        ("learning_rate=3", "unknown option learning_rate"),
        ("train=3", "unknown option train"),
        ("=3", "unknown option"),
        ("zzzzz=3", "`--help` lists the options"),
        ("train.steps", "'train.steps' is not an option; write it as name=value"),
        ("name=${nothing}", "name: Interpolation key 'nothing' not found"),
        ("name=${run}", "name: Recursive interpolation"),
        ("name=???", "name: "),
    ],
)
def test_a_wrong_override_is_named_with_what_would_be_right(override: str, right: str) -> None:
    assert right in complaint(None, override)


def test_folders_follow_the_name() -> None:
    config = load_config("smoke", ["name=mine"])
    assert (config.run, config.data.path) == ("runs/mine", "data/mine")


def test_later_overrides_win() -> None:
    assert load_config("smoke", ["train.steps=3", "train.steps=4"]).train.steps == 4


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("- a\n- b\n", "a list; a recipe is a mapping of options"),
        ("just words\n", "a str; a recipe is a mapping of options"),
        ("", "empty; a recipe is a mapping of options"),
        ("# a comment alone\n", "empty; a recipe is a mapping of options"),
        ("train: [unclosed\n", "not YAML"),
        ("train:\n\tsteps: 3\n", "not YAML"),
        ("train: {stepz: 3}\n", "unknown option train.stepz; did you mean train.steps?"),
        ("train: 3\n", "unknown option train"),
        ("3: 4\n", "unknown option 3"),
        ("train: {steps: many}\n", "train.steps=many: must be a whole number"),
        ("train: {steps: null}\n", "train.steps=None: must be a whole number"),
        ("name: on\n", "name=True: must be text"),
    ],
)
def test_a_wrong_recipe_is_named_with_what_would_be_right(tmp_path: Path, text: str, right: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    message = complaint(str(path))
    assert message.startswith(f"{path}: ")
    assert right in message


def test_bytes_that_are_no_text_are_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert f"{path}: not a YAML file that can be read" in complaint(str(path))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert complaint("reachr") == ("reachr: no such recipe, YAML file or run folder; did you mean reacher?")
    assert "the recipes are" in complaint(str(tmp_path / "nothing.yaml"))
    assert "not a run folder (it has no config.yaml)" in complaint(str(tmp_path))


def test_a_run_folder_that_was_moved_is_where_it_is_now(tmp_path: Path) -> None:
    before = load_config("smoke", [f"run={tmp_path}/before"])
    (tmp_path / "after").mkdir()
    (tmp_path / "after" / "config.yaml").write_text(to_yaml(before))
    after = load_config(str(tmp_path / "after"))
    assert after == dataclasses.replace(before, run=str(tmp_path / "after"))


def test_a_folder_beside_the_work_does_not_hide_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("smoke").mkdir()
    assert load_config("smoke").train.steps == 6
    Path("smoke/config.yaml").write_text("name: a_run\n")
    assert load_config("smoke").name == "a_run"


@pytest.mark.parametrize("recipe", [recipe for recipe in recipes() if recipe != "reacher_gpu"])
def test_a_recipes_environment_and_behaviour_are_there(recipe: str) -> None:
    config = load_config(recipe, ["env.image_size=16"])
    config.collect.episode_length = 16
    env = make_env(config.env)
    assert collect_episode(env, config.collect, 0)["pixels"].shape == (16, 16, 16, 3)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [r for r in recipes() if r not in ("smoke", "reacher_gpu")])
def test_a_recipe_runs_in_small_from_data_to_goals(recipe: str, tmp_path: Path) -> None:
    """Its environment and behaviour, at the sizes of the smoke recipe."""
    stated = leaves(yaml.safe_load((files("worldjepa.configs") / "smoke.yaml").read_text("utf-8")))
    small = [f"{name}={value}" for name, value in stated.items() if name != "name"]
    folders = [f"run={tmp_path}/run", f"data.path={tmp_path}/data"]
    for verb in ("collect", "train", "probe", "plan"):
        assert main([verb, recipe, *small, *folders]) == 0, verb
    assert (tmp_path / "run" / "evaluation" / "plan.png").exists()
