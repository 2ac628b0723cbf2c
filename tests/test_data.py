"""`worldjepa data`: what each part prints and leaves, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
from moving_dot import write_dots

from worldjepa.cli import main
from worldjepa.data.shards import Store

Tell = Callable[..., str]


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tell:
    """Runs a command in a temporary folder that holds data in `dots`; gives what it prints."""
    write_dots(tmp_path / "dots", episodes=6, length=12)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["data", *words]) == code
        captured = capsys.readouterr()
        if code == 2:
            assert captured.err.rstrip("\n").split("\r")[-1].startswith("worldjepa: ")
            return captured.err
        assert "Traceback" not in captured.err
        return captured.out

    return run


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_info(tell: Tell, tmp_path: Path) -> None:
    text = tell("info", "dots")
    for words in (
        "6 of 12 frames, 72 frames in all",
        "32 × 32 × 3",
        "column qvel",
        "in 1 of 1 files",
        "worldjepa",
    ):
        assert words in text
    assert text.endswith("dots/coverage.png\n")
    assert imageio.imread(tmp_path / "dots" / "coverage.png").std() > 0
    assert "72 frames" in tell("info", "data.path=dots", "store.to=elsewhere/pictures")
    assert (tmp_path / "elsewhere" / "pictures" / "coverage.png").stat().st_size > 0


def test_info_names_the_coordinates_of_our_environments(
    tell: Tell, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tell("info", str(tiny_data), "store.to=pictures")
    row = next(line for line in text.splitlines() if line.startswith("filled"))
    assert "shoulder" in row
    assert "wrist" in row
    assert "qpos" not in row
    assert "env.id" in text


def test_show(tell: Tell, tmp_path: Path) -> None:
    assert tell("show", "dots", "store.episodes=5") == "dots/episodes.png\ndots/episodes.gif\n"
    assert imageio.imread(tmp_path / "dots" / "episodes.png").shape == (5 * 98, 10 * 98, 3)
    assert len(imageio.imread(tmp_path / "dots" / "episodes.gif", index=None)) == 6


def test_merge_split_convert_verify(tell: Tell, tmp_path: Path) -> None:
    def same(path: str, episodes: list[int]) -> None:
        one, other = Store(tmp_path / "dots"), Store(tmp_path / path)
        assert len(other.lengths) == len(episodes)
        steps = np.arange(12)[None]
        for number, source in enumerate(episodes):
            for name in ("pixels", "action", "qpos", "qvel", "state", "step_idx"):
                found = other.read(name, np.array([number]), steps)
                np.testing.assert_array_equal(found, one.read(name, np.array([source]), steps))

    every = list(range(6))
    assert tell("merge", "dots", "store.to=new/one.h5") == "new/one.h5: 6 episodes, 72 frames\n"
    same("new/one.h5", every)
    assert "12 episodes" in tell("merge", "dots", "store.also=new/one.h5", "store.to=both")
    same("both", every + every)
    tell("convert", "new/one.h5", "store.to=theirs.h5")
    same("theirs.h5", every)
    tell("convert", "theirs.h5", "store.to=shards", "collect.shard_episodes=4")
    same("shards", every)
    assert len(list((tmp_path / "shards").iterdir())) == 2
    text = tell("split", "dots", "store.to=most", "store.share=0.7")
    assert text == "most: 4 episodes, 48 frames\nmost-rest: 2 episodes, 24 frames\n"
    from worldjepa.data.windows import split_episodes

    training, held_out = split_episodes(6, 1 - 0.7, 0)
    same("most", training.tolist())
    same("most-rest", held_out.tolist())
    for path in ("dots", "new/one.h5", "both", "theirs.h5", "shards", "most"):
        assert tell("verify", path).endswith("all as they should be\n")
    assert not list(tmp_path.rglob(".*"))


def test_recordings_to_shards(tell: Tell, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for index in range(4):
            imageio.imwrite(
                tmp_path / "videos" / name / f"{index}.png", np.full((20, 30, 3), index, np.uint8)
            )
        np.savetxt(tmp_path / "videos" / f"{name}.csv", np.eye(4), delimiter=",")
    assert tell("convert", "videos", "store.to=new", "store.image_size=16") == "new: 2 episodes, 8 frames\n"
    store = Store(tmp_path / "new")
    assert store.image_shape == (16, 16, 3)
    assert store.about == {"recordings": {"folder": "videos", "image_size": 16}}


def test_columns_left_out_of_a_merge_are_named(tell: Tell, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "dots" / "shard-00000.h5", "r+") as file:
        file["light"] = np.zeros(72)
    write_dots(tmp_path / "more", episodes=2, length=12)
    text = tell("merge", "dots", "store.also=more", "store.to=one.h5")
    assert text == "one.h5: 8 episodes, 96 frames; left out: light, not alike in every file\n"


def test_verify_tells_what_is_wrong_and_fails(tell: Tell, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "dots" / "shard-00000.h5", "r+") as file:
        file["pixels"][7] = 1
    text = tell("verify", "dots", code=1)
    assert text.splitlines() == [
        "dots/shard-00000.h5: column pixels is not what was written (checksum)",
        "dots: 1 files, 6 episodes, 72 frames: 1 not as they should be",
    ]


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ([], "data: say what to do, info or show or merge or split or convert or verify, not nothing"),
        (["dots"], "not dots"),
        (["data.path=dots"], "not nothing"),
        (["info", "nowhere/dots"], "data.path=nowhere/dots: no such folder or file"),
        (["info", "nowhere.h5"], "data.path=nowhere.h5: no such folder or file"),
        (["info", "smok"], "smok: no such recipe, YAML file or run folder; did you mean smoke?"),
        (["merge", "dots"], "store.to: say what to write"),
        (["merge", "dots", "store.to=mine.txt"], "store.to=mine.txt: is there already"),
        (["convert", "dots", "store.to=dots"], "store.to=dots: is there already"),
        (["split", "dots", "store.to=one.h5"], "split writes folders of shards"),
        (["split", "dots", "store.to=new", "store.share=0"], "store.share=0.0: must be more than 0"),
        (["split", "dots", "store.to=new", "store.share=0.5"], "new-rest: is there already"),
        (["merge", "dots", "store.also=nowhere", "store.to=one.h5"], "data.path=nowhere: no such folder"),
        (["merge", "dots", "store.to=mine.txt/one.h5"], "mine.txt/one.h5: can't be written"),
        (["convert", "new-rest", "store.to=one.h5"], "holds no shard-*.h5, videos"),
        (["show", "dots", "store.episodes=0"], "store.episodes=0: must be at least 1"),
        (["info", "mine.txt"], "mine.txt: not a whole HDF5 file"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_lost(
    tell: Tell, tmp_path: Path, words: list[str], right: str
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "new-rest").mkdir()
    before = listing(tmp_path)
    assert right in tell(*words, code=2)
    assert listing(tmp_path) == before
    assert not list(tmp_path.glob("**/.*"))
