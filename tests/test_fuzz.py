"""Any file that commands read, spoilt in any way: one line that names it, and nothing else is touched.

Whatever the damage, no command may crash, hang, take much memory, print a traceback or run what is in a file.
`pytest -m slow` tries many more of them.
"""

import fnmatch
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import valid_files
from apart import Apart, Ended
from damages import (
    HDF5,
    Damage,
    damaged,
    spoilt_arrays,
    spoilt_header,
    spoilt_json,
    spoilt_lines,
    spoilt_state,
    spoilt_yaml,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from safetensors.torch import load_file
from test_lewm_weights import SMALL
from valid_files import QUICK, WORLD

from worldjepa.data.shards import Store

FEW, MANY = 2, 14
BAR = re.compile(r"^[a-z ]+: +\d+%\|[^\n]*\n", re.MULTILINE)


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        make: fills a folder with valid files.
        file: which one of them is spoilt.
        command: what then reads it.
        inside: spoils what stands in it, not its form.
        writes: what the command may write or change, patterns of paths.
        named: a folder that messages may name in place of the file and the folder that it lies in.
    """

    make: Callable[[Path], None]
    file: str
    command: str
    inside: Callable[[Path], SearchStrategy[Damage]] | None = None
    writes: tuple[str, ...] = ("new*",)
    named: str = ""


def _hdf5(path: Path) -> SearchStrategy[Damage]:
    return HDF5


TRAIN = f"worldjepa train smoke run=new data.path=data {' '.join(WORLD)} train.steps=1"
PICTURES = (
    f"worldjepa train images_smoke run=new {' '.join(QUICK)} train.steps=1 data.held_out=0.34 images.data="
)
CONVERT = f"worldjepa convert reacher_gpu run=new {' '.join(SMALL)} convert.weights="
CHECKPOINT = "run/checkpoints/00000002"
RESUME = "worldjepa train run data.path=data"
RESUMED = ("run/metrics.jsonl", "run/events*", "run/checkpoints*", "run/failures*", "run/evaluation*")
LIST = "sweep.py reacher.yaml --list --results results --runs runs"
PAGE = ("*/report.html",)
# What takes long where it comes to its end, or to be made ready.
LONG = (TRAIN, RESUME, CONVERT, *(f"{PICTURES}{data}" for data in ("arrow", "pictures", "MNIST")))
LONG += ("worldjepa report", "worldjepa geometry", "worldjepa data info", "worldjepa data show")
LOOKED = ("seen/evaluation*", "seen/events*", "seen/0*")
KINDS = {
    "shard": Kind(valid_files.data, "data/shard-00000.h5", "worldjepa data verify data", _hdf5),
    "shard, told of": Kind(
        valid_files.data, "data/shard-00001.h5", "worldjepa data info data store.to=new", _hdf5
    ),
    "shard, trained on": Kind(valid_files.data, "data/shard-00000.h5", TRAIN, _hdf5),
    "shard, shown": Kind(
        valid_files.data, "data/shard-00000.h5", "worldjepa data show data store.to=new", _hdf5
    ),
    "merged file": Kind(valid_files.data, "merged.h5", "worldjepa data verify merged.h5", _hdf5),
    "their file": Kind(valid_files.data, "theirs.h5", "worldjepa data verify theirs.h5", _hdf5),
    "their file, merged": Kind(
        valid_files.data, "theirs.h5", "worldjepa data merge theirs.h5 store.to=new", _hdf5
    ),
    "weights": Kind(valid_files.world, f"{CHECKPOINT}/model.safetensors", RESUME, spoilt_header, RESUMED),
    "trainer state": Kind(valid_files.world, f"{CHECKPOINT}/trainer.pt", RESUME, spoilt_state, RESUMED),
    "configuration": Kind(valid_files.world, "run/config.yaml", "worldjepa report run", spoilt_yaml, PAGE),
    "recipe": Kind(valid_files.data, "recipe.yaml", "worldjepa train recipe.yaml --show", spoilt_yaml),
    "metrics": Kind(valid_files.world, "run/metrics.jsonl", "worldjepa report run", spoilt_lines, PAGE),
    "metrics, gone on with": Kind(valid_files.world, "run/metrics.jsonl", RESUME, spoilt_lines, RESUMED),
    "about a run": Kind(valid_files.world, "run/about.json", "worldjepa report run", spoilt_json, PAGE),
    "result, reported": Kind(
        valid_files.images, "seen/evaluation/geometry.json", "worldjepa report seen", spoilt_json, PAGE
    ),
    "result": Kind(
        valid_files.images, "seen/evaluation/geometry.json", "worldjepa geometry seen", spoilt_json, LOOKED
    ),
    "arrays of a result": Kind(
        valid_files.images, "seen/evaluation/geometry.npz", "worldjepa geometry seen", spoilt_arrays, LOOKED
    ),
    "picture of a result": Kind(
        valid_files.images, "seen/evaluation/geometry.png", "worldjepa report seen", None, PAGE
    ),
    "picture": Kind(valid_files.images, "pictures/cats/3.png", f"{PICTURES}pictures"),
    "weights of images": Kind(
        valid_files.images,
        "seen/checkpoints/00000002/model.safetensors",
        "worldjepa geometry seen geometry.frames=5",
        spoilt_header,
        LOOKED,
    ),
    "frame": Kind(valid_files.recorded, "recorded/a/7.png", "worldjepa data convert recorded store.to=new"),
    "video": Kind(valid_files.recorded, "recorded/b.mp4", "worldjepa data convert recorded store.to=new"),
    "npz": Kind(
        valid_files.recorded, "recorded/a.npz", "worldjepa data convert recorded store.to=new", spoilt_arrays
    ),
    "csv": Kind(valid_files.recorded, "recorded/b.csv", "worldjepa data convert recorded store.to=new"),
    "LeRobot": Kind(
        valid_files.robots,
        "two/meta/info.json",
        "worldjepa data convert two store.to=new",
        spoilt_json,
        named="two",
    ),
    "LeRobot 3": Kind(
        valid_files.robots,
        "three/meta/info.json",
        "worldjepa data convert three store.to=new",
        spoilt_json,
        named="three",
    ),
    "LeRobot's rows": Kind(
        valid_files.robots,
        "two/data/chunk-000/episode_000001.parquet",
        "worldjepa data convert two store.to=new",
        named="two",
    ),
    "LeRobot's places": Kind(
        valid_files.robots,
        "three/meta/episodes/chunk-000/file-000.parquet",
        "worldjepa data convert three store.to=new",
        named="three",
    ),
    "parquet": Kind(valid_files.hub, "parquet/train-0.parquet", f"{PICTURES}parquet"),
    "arrow": Kind(valid_files.hub, "arrow/train-0.arrow", f"{PICTURES}arrow"),
    "idx images": Kind(
        valid_files.fashion, "fashion-mnist/train-images-idx3-ubyte.gz", f"{PICTURES}FashionMNIST"
    ),
    "idx labels": Kind(
        valid_files.fashion, "fashion-mnist/t10k-labels-idx1-ubyte.gz", f"{PICTURES}FashionMNIST"
    ),
    "torchvision's": Kind(
        valid_files.fashion,
        "mnist/MNIST/raw/train-images-idx3-ubyte",
        f"{PICTURES}MNIST images.root=mnist",
        named="images.root=mnist",
    ),
    "LeWM's weights": Kind(valid_files.lewm, "lewm.pt", f"{CONVERT}lewm.pt", spoilt_state),
    "LeWM's safetensors": Kind(
        valid_files.lewm, "lewm.safetensors", f"{CONVERT}lewm.safetensors", spoilt_header
    ),
    "grid": Kind(valid_files.sweep, "reacher.yaml", LIST, spoilt_yaml),
    "result of a sweep": Kind(valid_files.sweep, "results/reacher/seed0.json", LIST, spoilt_json),
    "table of a sweep": Kind(
        valid_files.sweep,
        "results/reacher/seed0.json",
        "results_tables.py reacher --results results",
        spoilt_json,
    ),
}


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    """Runs commands in processes of their own."""
    runner = Apart()
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """The folder of valid files that a kind is of, filled once."""
    folders: dict[str, Path] = {}

    def folder_of(kind: Kind) -> Path:
        name = kind.make.__name__
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            kind.make(folders[name])
        return folders[name]

    return folder_of


def contents(folder: Path, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Every file, without those of some patterns."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not _any(name, but)}


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def check(kind: Kind, damage: Damage, source: Path, folder: Path, apart: Apart) -> Ended:
    """Spoil a copy of a file, run the command that reads it, and see how it ends."""
    shutil.copytree(source, folder)
    file = folder / kind.file
    whole = file.read_bytes()
    damage.function(file)
    before = contents(folder)
    ended = apart(folder, *kind.command.split())
    assert ended.code in (0, 1, 2), f"{damage}: {ended.code}\n{ended.err[-3000:]}"
    # What fails writes no checkpoint and removes none.
    may = kind.writes if ended.code == 0 else tuple(w for w in kind.writes if "checkpoints" not in w)
    left = {name: held for name, held in before.items() if not _any(name, may)}
    assert contents(folder, may) == left, f"{damage}: other files were changed"
    # Without progress bars, and what they have overwritten.
    said = BAR.sub("", re.sub(r"[^\n]*\r", "", ended.err))
    if ended.code == 2:
        assert re.fullmatch(rf"{re.escape(kind.command.split()[0])}: [^\n]*\n", said), f"{damage}: {said}"
        places = "|".join(map(re.escape, (str(file.parent.relative_to(folder)), kind.named or kind.file)))
        assert file.name in said or re.search(rf"\b({places})[: ,]", said), f"{damage}: {said} names it not"
        assert not list(folder.glob("new/shard*")), f"{damage}: half-written"
    if ended.code == 1:
        assert file.name in ended.out + said, f"{damage}: {ended.out} names no file"
    if ended.code == 0:
        # Numbers of a result that can be drawn are drawn, whatever NumPy thinks of them.
        assert "geometry seen" in kind.command or "Warning" not in said, f"{damage}: {said}"
        if damage.exact and file.read_bytes() != whole:
            unharmed(kind, source, folder)
    return ended


def unharmed(kind: Kind, source: Path, folder: Path) -> None:
    """What bears a checksum and was taken for whole holds what was written."""
    if " verify " in kind.command and not kind.file.startswith("theirs"):
        one, other = (Store(path / Path(kind.file)) for path in (source, folder))
        for name, column in one.shards[0].columns.items():
            assert column[:].tobytes() == other.shards[0].columns[name][:].tobytes(), name
    if kind.file.endswith("model.safetensors"):
        one, other = (load_file(path / kind.file) for path in (source, folder))
        assert one.keys() == other.keys()
        assert all(one[name].numpy().tobytes() == other[name].numpy().tobytes() for name in one)


def tried(name: str, count: int, source: Path, folder: Path, apart: Apart) -> list[int]:
    """The exit codes of so many damages of a kind of file."""
    kind, codes = KINDS[name], []
    strategy: SearchStrategy[Damage] = damaged()
    if kind.inside is not None:
        strategy = st.one_of(kind.inside(source / kind.file), damaged())

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(damage: Damage) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            codes.append(check(kind, damage, source, Path(place, "copy"), apart).code)

    each()
    return codes


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.command.startswith(LONG)])
def test_a_spoilt_file_is_told_of_in_one_line(
    name: str, made: Callable[[Kind], Path], tmp_path: Path, apart: Apart
) -> None:
    assert len(tried(name, FEW, made(KINDS[name]), tmp_path, apart)) == FEW


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_spoilt_files(name: str, made: Callable[[Kind], Path], tmp_path: Path, apart: Apart) -> None:
    codes = tried(name, MANY, made(KINDS[name]), tmp_path, apart)
    assert len(codes) == MANY
    # A page and metrics leave out what can't be read, and a result is made anew; else most is noticed.
    mended = "report" in KINDS[name].command or KINDS[name].file.endswith(("metrics.jsonl", "geometry.json"))
    assert mended or sum(map(bool, codes)) >= MANY / 4, codes
