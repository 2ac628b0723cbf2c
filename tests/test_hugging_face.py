"""Image data sets of Hugging Face: Parquet and Arrow files with their schema, by folder and by name."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from worldjepa.data.image_sources import load_images
from worldjepa.data.images import Images
from worldjepa.errors import UserError

FEATURES = {"image": {"_type": "Image"}, "kind": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def png(level: int, side: int = 6) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (level, 0, 0)).save(file, "png")
    return file.getvalue()


def rows(levels: list[int], told: bool = True, label: str = "kind") -> pa.Table:
    """Pictures of so much red, above 100 of the second class."""
    table = pa.table(
        {
            "number": levels,
            "image": [{"bytes": png(level), "path": f"{level}.png"} for level in levels],
            label: [int(level > 100) for level in levels],
        }
    )
    said = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    return table.replace_schema_metadata(said) if told else table


def write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)


def levels(images: Images) -> list[int]:
    return images.batch(np.arange(len(images)))["pixels"][:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("training", "testing"),
    [
        (("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"), "data/test-0.parquet"),
        (("train-0.parquet", "train-1.parquet"), "validation-0.parquet"),
        (("train/data-00000-of-00002.arrow", "train/data-00001-of-00002.arrow"), "test/data-0.arrow"),
    ],
)
def test_a_folder_with_parts_is_read(tmp_path: Path, training: tuple[str, ...], testing: str) -> None:
    for place, found in zip(training, ([10, 200], [30]), strict=True):
        write(tmp_path / place, rows(found))
    write(tmp_path / testing, rows([220, 40]))
    train, test = load_images(str(tmp_path))
    assert levels(train) == [10, 200, 30]
    assert levels(test) == [220, 40]
    assert train.labels is not None
    assert test.labels is not None
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 0], [1, 0])
    assert train.class_names == ["cat", "dog"]
    assert train.shape == (6, 6, 3)
    assert load_images(str(tmp_path), size=4)[0].shape == (4, 4, 3)


def test_without_parts_and_schema_they_are_drawn_and_guessed(tmp_path: Path) -> None:
    write(tmp_path / "0000.parquet", rows([*range(10, 90, 10), 150, 160], told=False, label="label"))
    train, test = load_images(str(tmp_path), held_out=0.2)
    assert sorted(levels(train) + levels(test)) == [*range(10, 90, 10), 150, 160]
    for side in (train, test):
        assert side.labels is not None
        assert side.labels.tolist() == [int(level > 100) for level in levels(side)]


def test_labels_that_are_kept_back_are_none(tmp_path: Path) -> None:
    table = rows([10, 20])
    hidden = table.set_column(2, "kind", pa.array([-1, -1])).replace_schema_metadata(table.schema.metadata)
    write(tmp_path / "train-0.parquet", table)
    write(tmp_path / "test-0.parquet", hidden)
    assert load_images(str(tmp_path))[1].labels is None


def test_a_data_set_in_the_cache_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "datasets--somebody--pets"
    write(kept / "snapshots" / "0123abcd" / "data" / "train-0.parquet", rows([10, 20, 30]))
    write(kept / "snapshots" / "0123abcd" / "data" / "test-0.parquet", rows([40]))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0123abcd")
    train, test = load_images("somebody/pets")
    assert (levels(train), levels(test)) == ([10, 20, 30], [40])
    with pytest.raises(UserError, match="somebody/cars: neither digits"):
        load_images("somebody/cars")


def test_what_can_not_be_read_is_named(tmp_path: Path) -> None:
    def said(name: str) -> str:
        with pytest.raises(UserError) as raised:
            load_images(str(tmp_path / name))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    write(tmp_path / "two" / "a" / "train-0.parquet", rows([1, 2]))
    write(tmp_path / "two" / "b" / "train-0.parquet", rows([1, 2]))
    assert "two: holds several data sets (a, b); name one" in said("two")
    write(tmp_path / "test" / "test-0.parquet", rows([1, 2]))
    assert "no part for training" in said("test")
    write(tmp_path / "words" / "train-0.parquet", pa.table({"text": ["a", "b"]}))
    assert "words: its columns (text) hold no pictures" in said("words")
    links = pa.table({"image": [{"bytes": None, "path": "a.png"}] * 2})
    write(tmp_path / "links" / "train-0.parquet", links)
    assert " of image has no picture in it" in said("links")
    write(tmp_path / "broken" / "train-0.parquet", pa.table({"image": [{"bytes": b"no", "path": ""}] * 2}))
    assert ": not an image that can be read (cannot identify image file)" in said("broken")
    (tmp_path / "broken" / "train-0.parquet").write_bytes(b"PAR1")
    assert "train-0.parquet: can't be read (" in said("broken")
