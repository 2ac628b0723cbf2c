"""JSON and YAML of others: what is wrong with a text is one kind of error, and an option's file is named."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from damages import STRANGE_YAML

from worldjepa.documents import Unreadable, from_json, from_yaml
from worldjepa.errors import UserError
from worldjepa.evaluation.damage import told_from
from worldjepa.recipes import load_config
from worldjepa.run import Run


def test_json_is_read_as_it_is() -> None:
    tree = {"a": [1, 2.5, None, True, "ü"], "b": {"c": ""}}
    assert from_json(json.dumps(tree)) == from_json(json.dumps(tree).encode()) == tree
    assert math.isnan(from_json("NaN"))


@pytest.mark.parametrize(
    "text", ["", "{", b"\xff\xfe", "[" * 60_000, '{"a": "\\ud800"}', "1" * 5000, "\0", '{"a": 1,}']
)
def test_what_is_no_json(text: str | bytes) -> None:
    with pytest.raises(Unreadable) as raised:
        from_json(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["a: [", "2001-99-99", "!!timestamp x", "!!bool x", "!!int", "[" * 9000, "!!python/name:os.mkdir"]
)
def test_what_is_no_yaml(text: str) -> None:
    with pytest.raises(Unreadable) as raised:
        from_yaml(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", [*STRANGE_YAML, "x: 1", "train: {steps: {a: 1}}", "train: {steps: [1]}"])
def test_a_strange_recipe_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"recipe\.yaml: ") as raised:
        load_config(str(path))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train: {steps: -1}", "recipe.yaml: train.steps=-1: must be"),
        ("name: ${name}", "recipe.yaml: "),
        ("run: ${nothing}", "recipe.yaml: run: "),
        ("name: '${'", "recipe.yaml: name=${: must be text"),
        (r'name: "\ud800"', "recipe.yaml: name="),
        (r'name: "a\0b"', "recipe.yaml: name='a\\x00b': must be text that can stand in a file's name"),
        (f"train: {{learning_rate: {10**400}}}", "recipe.yaml: train.learning_rate="),
        (f"train: {{steps: {10**30}}}", "recipe.yaml: train.steps: must be a number of at most 64 bits"),
    ],
)
def test_values_that_no_option_has(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        load_config(str(path))
    assert str(raised.value).startswith(f"{tmp_path}/{told}")
    # What the command line says is not the file's.
    with pytest.raises(UserError, match=r"^train\.steps=-1: must be"):
        load_config("smoke", ["train.steps=-1"])


def test_values_on_the_command_line_that_yaml_can_not_say() -> None:
    for value in ("2001-99-99", "[" * 5000, "9" * 5000, "!!timestamp x"):
        with pytest.raises(
            UserError, match=r"train\.steps=.*must be a whole number|must be a number of at most"
        ):
            load_config("smoke", [f"train.steps={value}"])


def test_a_result_that_is_none(empty_run: Run) -> None:
    empty_run.evaluation.mkdir()
    for text in ("[1]", "5", "null", "[" * 60_000, '"x"', '{"checkpoint": 2}'):
        (empty_run.evaluation / "plan.json").write_text(text)
        assert empty_run.result("plan", {"checkpoint": 1}) is None


def test_a_result_that_can_not_be_told_is_named(tmp_path: Path) -> None:
    path = tmp_path / "geometry.json"
    path.write_text("{}")
    with pytest.raises(UserError, match=r"geometry\.json: damaged, .* \(KeyError: 'rank'\)"), told_from(path):
        from_json(path.read_bytes())["rank"]
    path.with_suffix(".npz").write_bytes(b"PK\x03\x04")
    told = pytest.raises(UserError, match=r"geometry\.json or .*geometry\.npz: damaged")
    with open(path.with_suffix(".npz"), "rb") as file, told, told_from(path):
        np.load(file)
