"""Image data sets of Hugging Face on disk: the Hub's Parquet files, and Arrow as `save_to_disk` leaves it.

Rows hold a picture as an encoded file, {"bytes", "path"}, and mostly a label; the schema says what is what.
Nothing is downloaded.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..documents import Unreadable, from_json
from ..errors import UserError

NAME = re.compile(r"[\w.-]+/[\w.-]+")
# Which part a file or folder holds, by the beginning of its name.
PART = re.compile(r"(train|test|val)")
SUFFIXES = (".parquet", ".arrow")


class Encoded(NamedTuple):
    """Pictures as files in memory: how messages name them, `read(i)` gives one, how many there are, labels
    (N,) int64 or None, and the labels' names."""

    source: str
    read: Callable[[int], bytes]
    rows: int
    labels: np.ndarray | None
    classes: tuple[str, ...]


def cached(name: str) -> Path | None:
    """Where Hugging Face's cache keeps the data set OWNER/NAME; None where it is not there."""
    if not NAME.fullmatch(name):
        return None
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, repo_type="dataset", local_files_only=True))
    except (OSError, ValueError):
        return None


def holds_tables(folder: Path) -> bool:
    """Whether a folder, or one in it, has such files."""
    return any(any(folder.glob(f"{place}*{suffix}")) for place in ("", "*/") for suffix in SUFFIXES)


def encoded_parts(folder: Path) -> tuple[Encoded, Encoded | None]:
    """Training pictures, and the test ones, or else those for validation, where there are some.

    Raises:
        UserError: there are several sets, no pictures, a file is damaged, or pyarrow is not installed.
    """
    files = sorted(f for place in ("", "*/") for s in SUFFIXES for f in folder.glob(f"{place}*{s}"))
    found: dict[str, list[Path]] = {}
    for file in files:
        place = file.relative_to(folder)
        named = PART.match(place.name) or PART.match(place.parent.name)
        found.setdefault(named[1] if named else "train", []).append(file)
    if "train" not in found:
        raise UserError(f"{folder}: its files have no part for training; they are called train-*.parquet")
    sets = sorted({f.parent.name for f in found["train"]})
    if len(sets) > 1:
        raise UserError(f"{folder}: holds several data sets ({', '.join(sets)}); name one of these folders")
    test = found.get("test") or found.get("val")
    return _read(folder, found["train"]), _read(folder, test) if test else None


def _read(folder: Path, files: list[Path]) -> Encoded:
    table = _table(files)
    told = _features(table.schema)
    pictures = next((n for n in table.column_names if told.get(n) == "Image" or _is_file(table, n)), None)
    if pictures is None:
        raise UserError(f"{folder}: its columns ({', '.join(table.column_names)}) hold no pictures")
    column = table.column(pictures)

    def read(index: int) -> bytes:
        value = column[index].as_py()
        data = value.get("bytes") if isinstance(value, dict) else None
        if not isinstance(data, bytes):
            raise UserError(f"{folder}: row {index} of {pictures} has no picture in it, as a link would")
        return data

    name = next((n for n in table.column_names if isinstance(told.get(n), tuple) or n == "label"), None)
    labels = None if name is None else _labels(folder, name, table.column(name).to_numpy())
    if labels is not None and labels.size and labels.min() < 0:
        # Those that are kept back for a competition.
        labels = None
    names = told.get(name) if name is not None else None
    classes = names if isinstance(names, tuple) else ()
    return Encoded(str(folder), read, table.num_rows, labels, classes)


def _labels(folder: Path, name: str, values: np.ndarray) -> np.ndarray:
    """(N,) int64."""
    if values.dtype.kind not in "biu":
        raise UserError(f"{folder}: its column {name} holds {values.dtype}, or lacks some, not class numbers")
    return values.astype(np.int64)


def _table(files: list[Path]) -> Any:
    """All rows; Arrow's stay on disk."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            f"{files[0]}: needs pyarrow; `pip install worldjepa[huggingface]` brings it"
        ) from None
    tables = []
    for file in files:
        try:
            if file.suffix == ".parquet":
                tables.append(parquet.ParquetFile(file).read())
            else:
                tables.append(pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))).read_all())
                # Where rows begin is taken as it stands there: a wrong number would lead out of memory.
                tables[-1].validate(full=True)
            together = pyarrow.concat_tables(tables)
        except (OSError, MemoryError, pyarrow.ArrowException) as error:
            reason = " ".join(str(error).split())[:100]
            raise UserError(f"{file}: can't be read ({reason}); fetch it anew") from None
    return together


def _features(schema: Any) -> dict[str, str | tuple[str, ...]]:
    """What the schema says of columns: the kind of feature, of class labels their names."""
    try:
        said = from_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
        kinds = {name: feature for name, feature in said.items() if isinstance(feature, dict)}
        return {
            name: tuple(map(str, f.get("names", ())))
            if f.get("_type") == "ClassLabel"
            else str(f.get("_type"))
            for name, f in kinds.items()
        }
    except (Unreadable, LookupError, TypeError, AttributeError):
        return {}


def _is_file(table: Any, name: str) -> bool:
    """Whether a column looks like pictures where the schema does not say."""
    kind = table.schema.field(name).type
    return hasattr(kind, "num_fields") and {"bytes", "path"} <= {f.name for f in _fields(kind)}


def _fields(kind: Any) -> list[Any]:
    return [kind.field(i) for i in range(kind.num_fields)]
