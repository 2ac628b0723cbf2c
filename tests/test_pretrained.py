"""The models that come with the package: whole, small, as their cards say, and planning."""

import json
import os
import shutil
from pathlib import Path

import pytest

from worldjepa.cli import main
from worldjepa.errors import UserError
from worldjepa.pretrained import SUFFIX, pretrained, unpack
from worldjepa.recipes import load_config
from worldjepa.run import Run

FOLDER = Path(__file__).parents[1] / "worldjepa" / "pretrained"
RESULTS = Path(__file__).parents[1] / "results"


def test_reacher_is_there() -> None:
    assert pretrained() == ["reacher-pretrained"]


@pytest.mark.parametrize("name", pretrained())
def test_a_model_is_small_and_fits_its_configuration(name: str, tmp_path: Path) -> None:
    unpack(name, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert sum(p.stat().st_size for p in (FOLDER / name.removesuffix(SUFFIX)).iterdir()) < 5_000_000
    assert run.load_world_model().action_dim == 2
    assert run.config.name == name
    assert (run.path / "card.md").read_text("utf-8").startswith(f"# {name}\n")


@pytest.mark.parametrize("name", pretrained())
def test_its_card_says_what_was_measured(name: str) -> None:
    recipe = name.removesuffix(SUFFIX)
    card = (FOLDER / recipe / "card.md").read_text("utf-8")
    steps = f"{int((FOLDER / recipe / 'step').read_text()):,} steps"
    results = [json.loads(path.read_text("utf-8")) for path in (RESULTS / recipe).glob("*.json")]
    mine = [result for result in results if f"{result['steps']:,} steps" == steps]
    assert len(mine) == 1
    assert steps in card
    rows = {key: values["rows"] for key, values in mine[0]["measured"].items() if "rows" in values}
    assert set(rows) == {"near", "lewm", "lewm_planner"}
    for key, row in rows.items():
        reached = row["world model"]
        assert f"| `{key}` | {reached['success']:.1f} %" in card
        assert f"{reached['reached']} of {reached['goals']}" in card


def test_a_run_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    unpack("reacher-pretrained", tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("name: mine\n")
    unpack("reacher-pretrained", tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").read_text() == "name: mine\n"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_what_was_made_half_way_is_removed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match="not empty"):
        unpack("reacher-pretrained", tmp_path / "run")
    assert [p.name for p in tmp_path.rglob("*")] == ["run", "notes.txt"]


def test_the_folder_is_named_where_it_can_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="not empty") as raised:
        unpack("reacher-pretrained", Path("."))
    assert raised.value.filename == str(tmp_path)
    assert list(tmp_path.parent.glob(f".{tmp_path.name}*")) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack("reacher-pretrained", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        unpack("reacher-pretrained", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_another_process_may_be_quicker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        raise OSError("the other one's is there")

    monkeypatch.setattr(os, "replace", slow)
    unpack("reacher-pretrained", tmp_path / "run")
    assert Run(tmp_path / "run").load_world_model().action_dim == 2
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_one_command_shows_a_planning_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["collect.episodes=4", "collect.workers=1", "plan.goals=8", "plan.bound_goals=2", "plan.videos=2"]
    assert main(["plan", "reacher-pretrained", *words]) == 0
    assert "world model" in capsys.readouterr().out
    found = json.loads(Path("runs/reacher-pretrained/evaluation/plan.json").read_text())
    assert found["rows"]["world model"]["reached"] >= 7
    assert found["rows"]["random actions"]["reached"] <= 5
    assert Path("runs/reacher-pretrained/evaluation/plan.gif").exists()
    # The same command again finds all of it there.
    assert main(["plan", "reacher-pretrained", *words]) == 0
    assert "world model" in capsys.readouterr().out


def test_it_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "reacher-pretrained"]) == 2
    assert capsys.readouterr().err.strip() == (
        "worldjepa: reacher-pretrained: is trained; `worldjepa train reacher` trains another"
    )
    assert list(tmp_path.iterdir()) == []


def test_new_data_that_an_interruption_cut_short_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["collect.shard_episodes=2", "collect.workers=1"]
    for episodes in (2, 4):
        assert main(["data", "info", "reacher-pretrained", f"collect.episodes={episodes}", *small]) == 0
        assert len(list(Path("data/reacher-pretrained").glob("*.h5"))) == episodes // 2
    assert main(["collect", "reacher-pretrained", "collect.episodes=6", *small]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("(400 new)")
    # The user's own are left as they are.
    assert main(["data", "info", "reacher-pretrained", "data.path=mine"]) == 2
    assert not Path("mine").exists()


def test_a_name_that_is_nearly_right_is_put_right() -> None:
    with pytest.raises(UserError, match="did you mean reacher-pretrained"):
        load_config("reacher_pretraind")
