"""Nothing in a file that commands read is run: no pickle, no object of YAML, no module that data name."""

import importlib
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
import valid_files
from pyarrow import parquet
from test_fuzz import CHECKPOINT, CONVERT, PICTURES, RESUME

from worldjepa import cli
from worldjepa.data.shards import Store
from worldjepa.errors import UserError
from worldjepa.evaluation.damage import told_from
from worldjepa.evaluation.decoder import LatentDecoder, load_decoder
from worldjepa.evaluation.decoder_figures import decode_figure
from worldjepa.evaluation.geometry_figures import geometry_figures
from worldjepa.evaluation.image_figures import image_probe_figures
from worldjepa.evaluation.stretches import _collected
from worldjepa.evaluation.surprise_figures import surprise_figure
from worldjepa.recipes import load_config

MARK = "harm"
# Of arrays in an npz, some that are read.
NAMES = ("action", "map", "surprises", "true", "reconstructed", "imagined")


class Harmful:
    """Unpickled by pickle itself, it makes a folder where the program runs."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (MARK,)


def saved(path: Path) -> None:
    torch.save({"step": 2, "optimizer": Harmful()}, path)


def saved_as_before(path: Path) -> None:
    torch.save({"step": 2, "optimizer": Harmful()}, path, _use_new_zipfile_serialization=False)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Harmful()))


def in_arrays(path: Path) -> None:
    np.savez(path, **dict.fromkeys(NAMES, np.array([Harmful()] * 12, object)))


def as_npy(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.array([Harmful()], object), allow_pickle=True)


def in_yaml(path: Path) -> None:
    path.write_text(f"train: !!python/object/apply:os.mkdir [{MARK}]\n")


def in_hdf5(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["about"] = np.void(pickle.dumps(Harmful()))


def in_a_column(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["qpos"]
        file.create_dataset("qpos", data=[pickle.dumps(Harmful()).hex()] * 60, dtype=h5py.string_dtype())


def named_by_data(path: Path) -> None:
    (path.parents[1] / "harmful.py").write_text(f"import os\nos.mkdir({MARK!r})\n")
    for file in path.parent.iterdir():
        with h5py.File(file, "r+") as shard:
            shard.attrs["about"] = '{"env": {"id": "harmful:Harm-v0"}}'


def extended(path: Path) -> None:
    """A type of its own for the pictures, which pyarrow unpickled before 14.0.1 (CVE-2023-47248)."""
    kind = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Harmful()),
    }
    table = (
        parquet.read_table(path)
        if path.suffix == ".parquet"
        else pa.ipc.open_stream(path.read_bytes()).read_all()
    )
    fields = [field.with_metadata(kind) for field in table.schema]
    table = pa.Table.from_arrays(table.columns, schema=pa.schema(fields, table.schema.metadata))
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)


class Place(NamedTuple):
    """Where something harmful may stand, who writes it there, what reads it, and whether that is refused."""

    make: Callable[[Path], None]
    file: str
    write: Callable[[Path], None]
    command: str
    refused: bool = True


RECORDED = "worldjepa data convert recorded store.to=new"
PLACES = {
    "trainer state": Place(valid_files.world, f"{CHECKPOINT}/trainer.pt", saved, RESUME),
    "trainer state, old form": Place(valid_files.world, f"{CHECKPOINT}/trainer.pt", saved_as_before, RESUME),
    "trainer state, pickle": Place(valid_files.world, f"{CHECKPOINT}/trainer.pt", pickled, RESUME),
    "weights": Place(valid_files.world, f"{CHECKPOINT}/model.safetensors", saved, RESUME),
    "configuration": Place(valid_files.world, "run/config.yaml", in_yaml, RESUME),
    "recipe": Place(valid_files.data, "recipe.yaml", in_yaml, "worldjepa train recipe.yaml"),
    "grid": Place(valid_files.sweep, "reacher.yaml", in_yaml, "sweep.py reacher.yaml --list"),
    "attribute": Place(valid_files.data, "merged.h5", in_hdf5, "worldjepa data info merged.h5"),
    "column": Place(
        valid_files.data, "theirs.h5", in_a_column, "worldjepa data merge theirs.h5 store.to=new", False
    ),
    "module": Place(
        valid_files.data,
        "data/shard-00000.h5",
        named_by_data,
        "worldjepa data info data store.to=new",
        False,
    ),
    "LeWM": Place(valid_files.lewm, "lewm.pt", saved, f"{CONVERT}lewm.pt"),
    "LeWM, old form": Place(valid_files.lewm, "lewm.pt", saved_as_before, f"{CONVERT}lewm.pt"),
    "LeWM, pickle": Place(valid_files.lewm, "lewm.pt", pickled, f"{CONVERT}lewm.pt"),
    "LeWM, safetensors": Place(valid_files.lewm, "lewm.safetensors", saved, f"{CONVERT}lewm.safetensors"),
    "npz": Place(valid_files.recorded, "recorded/a.npz", in_arrays, RECORDED),
    "npz that is an npy": Place(valid_files.recorded, "recorded/a.npz", as_npy, RECORDED),
    "npz that is a pickle": Place(valid_files.recorded, "recorded/a.npz", pickled, RECORDED),
    "parquet": Place(valid_files.hub, "parquet/train-0.parquet", extended, f"{PICTURES}parquet", False),
    "arrow": Place(valid_files.hub, "arrow/train-0.arrow", extended, f"{PICTURES}arrow", False),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], None]], Path]:
    folders: dict[Any, Path] = {}

    def folder_of(make: Callable[[Path], None]) -> Path:
        if make not in folders:
            folders[make] = tmp_path_factory.mktemp(make.__name__)
            make(folders[make])
        return folders[make]

    return folder_of


def test_the_pickle_is_harmful_indeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Harmful()))
    assert (tmp_path / MARK).is_dir()


@pytest.mark.parametrize("name", PLACES)
def test_nothing_is_run(
    name: str,
    made: Callable[[Callable[[Path], None]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, folder = PLACES[name], tmp_path / "copy"
    shutil.copytree(made(place.make), folder)
    place.write(folder / place.file)
    monkeypatch.chdir(folder)
    # As `python -m worldjepa` has it.
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(valid_files.ROOT / "scripts"))
    program, *words = place.command.split()
    capsys.readouterr()
    main = importlib.import_module(program.removesuffix(".py")).main if program.endswith(".py") else cli.main
    code = main(words)
    assert not (folder / MARK).exists()
    told = capsys.readouterr()
    assert code == (2 if place.refused else 0), told.err
    if place.refused:
        line = re.sub(r"[^\n]*\r", "", told.err).splitlines()[-1]
        assert line.startswith(f"{program}: ")
        assert Path(place.file).name in line or str(Path(place.file).parent) in line


@pytest.mark.parametrize("draw", [geometry_figures, surprise_figure, decode_figure, image_probe_figures])
@pytest.mark.parametrize("write", [in_arrays, as_npy, pickled])
def test_arrays_of_a_result(
    draw: Callable[[Path], Any],
    write: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "result.json"
    path.write_text("{}")
    write(path.with_suffix(".npz"))
    with pytest.raises(UserError, match=r"result\.npz: damaged, or of another version"), told_from(path):
        draw(path)
    assert not (tmp_path / MARK).exists()


def test_a_pickle_among_torchvisions_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CIFAR's files are pickles: torchvision reads none whose MD5 is not the one that it knows."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        pickled(folder / name)
    assert cli.main(["train", "images_smoke", "images.data=CIFAR10"]) == 2
    assert capsys.readouterr().err.startswith("worldjepa: images.data=CIFAR10: not in images.root=data")
    assert not (tmp_path / MARK).exists()


def test_a_decoder_that_is_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for write in (saved, pickled):
        write(tmp_path / "decoder.safetensors")
        assert load_decoder(tmp_path / "decoder.safetensors", {}, LatentDecoder(4, 16, 2)) is None
    assert not (tmp_path / MARK).exists()


def test_a_policy_that_data_name_is_not_run_unasked() -> None:
    config = load_config("smoke")
    said = {"env": {"id": config.env.id}, "collect": {"behaviour": "harmful:policy"}}
    store: Store = SimpleNamespace(about=said, path="data")  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"say collect\.behaviour=harmful:policy to run it"):
        _collected(config, store)
    asked = replace(config, collect=replace(config.collect, behaviour="harmful:policy"))
    assert _collected(asked, store).behaviour == "harmful:policy"
