"""Checkpoints: whole or not there, refused where damaged, and never a reason to execute what is in them."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from worldjepa import run as run_module
from worldjepa import tensor_files
from worldjepa.errors import UserError
from worldjepa.run import Run
from worldjepa.tensor_files import load_into


def save(run: Run, step: int, model: nn.Module | None = None, keep: int = 100) -> Path:
    return run.save_checkpoint(model or nn.Linear(2, 3), {"step": step, "total": 9}, keep)


def test_the_newest_checkpoints_stay(empty_run: Run) -> None:
    for step in (5, 10, 99, 100, 12345678):
        save(empty_run, step, keep=3)
    assert [int(path.name) for path in empty_run.checkpoints()] == [99, 100, 12345678]
    assert len(list((empty_run.path / "checkpoints").iterdir())) == 3


def test_a_checkpoint_gives_back_what_was_saved(empty_run: Run) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model(torch.randn(4, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    state: dict[str, Any] = {"step": 7, "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    checkpoint = empty_run.save_checkpoint(model, state, keep=1)
    torch.testing.assert_close(empty_run.load_weights(checkpoint), dict(model.state_dict()), rtol=0, atol=0)
    loaded = empty_run.load_trainer_state(checkpoint)
    assert torch.equal(loaded.pop("rng"), state.pop("rng"))
    assert loaded == state


def test_saving_the_same_step_again_replaces_it(empty_run: Run) -> None:
    save(empty_run, 4)
    model = nn.Linear(2, 3)
    checkpoint = save(empty_run, 4, model)
    assert torch.equal(empty_run.load_weights(checkpoint)["weight"], model.weight)
    assert [path.name for path in empty_run.checkpoints()] == ["00000004"]


class Killed(BaseException):
    """As good as SIGKILL: nothing in the program catches it."""


@pytest.mark.parametrize("where", ["save_file", "torch.save", "os.replace", "shutil.rmtree"])
def test_a_kill_while_saving_leaves_whole_checkpoints(
    empty_run: Run, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    save(empty_run, 1)
    save(empty_run, 2)

    def killed(*arguments: Any, **_: Any) -> None:
        if where == "shutil.rmtree":
            next(Path(arguments[0]).iterdir()).unlink()
        raise Killed

    with monkeypatch.context() as patch:
        target = tensor_files if where == "save_file" else getattr(run_module, where.split(".")[0])
        patch.setattr(target, where.split(".")[-1], killed)
        with pytest.raises(Killed):
            save(empty_run, 3, keep=2)
    steps = [empty_run.load_trainer_state(path)["step"] for path in empty_run.checkpoints()]
    assert [len(empty_run.load_weights(path)) for path in empty_run.checkpoints()] == [2] * len(steps)
    assert steps == ([2, 3] if where == "shutil.rmtree" else [1, 2])
    # What the kill left half-written goes with the next checkpoint.
    save(empty_run, 4, keep=2)
    assert sorted(path.name for path in (empty_run.path / "checkpoints").iterdir()) == [
        f"{steps[-1]:08d}",
        "00000004",
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.pt"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "foreign", "flipped"])
def test_a_damaged_checkpoint_is_refused_in_one_line(empty_run: Run, name: str, damage: str) -> None:
    checkpoint = save(empty_run, 4, nn.Linear(30, 30))
    path = checkpoint / name
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        damaged = {"empty": b"", "truncated": whole[: len(whole) // 2], "foreign": b"GIF89a" * 99}
        path.write_bytes(
            damaged.get(damage) if damage in damaged else bytes(255 - b for b in whole[:64]) + whole[64:]
        )
    load = empty_run.load_weights if name == "model.safetensors" else empty_run.load_trainer_state
    with pytest.raises(UserError, match=r"00000004: damaged \(.*\); remove it") as raised:
        load(checkpoint)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.pt"])
def test_one_bit_of_a_checkpoint_is_noticed(empty_run: Run, name: str) -> None:
    model = nn.Linear(30, 30)
    (model.weight.sum() + model.bias.sum()).backward()
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.step()
    checkpoint = empty_run.save_checkpoint(model, {"step": 4, "optimizer": optimizer.state_dict()})
    path = checkpoint / name
    whole = bytearray(path.read_bytes())
    # Within the numbers of the largest tensor.
    place = whole.index(model.weight.detach().numpy().tobytes()[:64]) if name != "trainer.pt" else 4000
    whole[place + 1] ^= 1
    path.write_bytes(whole)
    load = empty_run.load_weights if name == "model.safetensors" else empty_run.load_trainer_state
    with pytest.raises(UserError, match=r"00000004: damaged \(.*(checksum|CRC)"):
        load(checkpoint)


def test_a_copy_beside_checkpoints_is_none(empty_run: Run) -> None:
    save(empty_run, 4)
    for name in ("00000004 (copy)", "00000005.bak"):
        (empty_run.path / "checkpoints" / name).mkdir()
    assert [path.name for path in empty_run.checkpoints()] == ["00000004"]


def test_weights_of_another_kind_or_not_finite_are_refused() -> None:
    weights = nn.Linear(2, 3).state_dict()
    with pytest.raises(UserError, match=r"x: of another model: bias is torch\.int64, not torch\.float32"):
        load_into(nn.Linear(2, 3), weights | {"bias": torch.zeros(3, dtype=torch.int64)}, Path("x"))
    with pytest.raises(UserError, match=r"x: damaged: bias has a number that is not finite"):
        load_into(nn.Linear(2, 3), weights | {"bias": torch.full((3,), torch.nan)}, Path("x"))


def test_what_is_no_line_of_metrics_is_left_out(empty_run: Run) -> None:
    lines = [
        b'{"step": 1, "train/loss": 2}',
        b'{"step": 2, "train/l',
        b"5",
        b'{"train/loss": 1}',
        b"\xff\xfe",
    ]
    lines += [b'{"step": 1e999}', b'{"step": 3, "train/loss": "x"}', b"[" * 60_000, b'{"step": 4, "x": NaN}']
    (empty_run.path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert [row["step"] for row in empty_run.metrics()] == [1, 4]
    assert empty_run.metrics()[0] == {"step": 1, "train/loss": 2.0}


class Harmful:
    """Unpickled by pickle itself, it would make a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused(empty_run: Run, tmp_path: Path, writer: str) -> None:
    checkpoint = save(empty_run, 4)
    harmful = {"step": 4, "optimizer": Harmful(tmp_path / "harm")}
    if writer == "torch":
        torch.save(harmful, checkpoint / "trainer.pt")
    else:
        (checkpoint / "trainer.pt").write_bytes(pickle.dumps(harmful))
    with pytest.raises(UserError, match="00000004: damaged"):
        empty_run.load_trainer_state(checkpoint)
    assert not (tmp_path / "harm").exists()
    # It is harmful indeed.
    pickle.loads(pickle.dumps(harmful))
    assert (tmp_path / "harm").is_dir()


def test_weights_of_another_shape_or_name_are_refused(empty_run: Run) -> None:
    weights = nn.Linear(2, 3).state_dict()
    with pytest.raises(UserError, match=r"x: of another model: .*weight"):
        load_into(nn.Linear(3, 3), weights, Path("x"))
    with pytest.raises(UserError, match=r"x: of another model: "):
        load_into(nn.Sequential(nn.Linear(2, 3)), weights, Path("x"))
