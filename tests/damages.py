"""What can be wrong with a file: strategies of hypothesis, each of functions that spoil a file in its place.

`damaged` spoils bytes of any file; the others what stands in a file of one kind, and leave its form as it is.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

KINDS = {
    "nothing": b"",
    "zip": b"PK\x03\x04" + bytes(60),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "gzip": b"\x1f\x8b\x08" + bytes(20),
    "pickle": b"\x80\x04K\x01.",
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }".ljust(127)
    + b"\n"
    + bytes(16),
    "parquet": b"PAR1" + bytes(20) + b"PAR1",
    "json": b'{"step": [1, {"a": null}]}\n',
    "a number": b"5",
    "text": b"not what is wanted\n" * 9,
    "utf-16": "step: 1\n".encode("utf-16"),
    "nested": b"[" * 100_000,
    "safetensors": struct.pack("<Q", 2) + b"{}",
    "huge header": struct.pack("<Q", 2**60) + b"{}",
}


class Damage(NamedTuple):
    """What is done to a file; `exact` where bytes are changed that a checksum may cover."""

    name: str
    function: Callable[[Path], None]
    exact: bool = False

    def __repr__(self) -> str:
        return self.name


# Bytes


@st.composite
def damaged(draw: st.DrawFn) -> Damage:
    """Any file with bytes changed, zeroed, cut off or added, or another file in its place."""
    kind = draw(st.sampled_from(("flipped", "zeroed", "random", "cut", "longer", "other", "noise")))
    where = draw(st.floats(0, 1, exclude_max=True))
    # As often as not in the first bytes, where headers are.
    near = draw(st.booleans())
    count, seed = draw(st.integers(1, 64)), draw(st.integers(0, 2**16))
    other = draw(st.sampled_from(sorted(KINDS)))

    def spoil(path: Path) -> None:
        whole = bytearray(path.read_bytes())
        place = int(where * min(len(whole), 400 if near else len(whole)))
        noise = np.random.default_rng(seed).bytes(count)
        if kind == "flipped":
            for byte in range(place, min(place + 1 + count // 16, len(whole))):
                whole[byte] ^= 1 << seed % 8
        elif kind == "zeroed":
            whole[place : place + count] = bytes(len(whole[place : place + count]))
        elif kind == "random":
            whole[place : place + count] = noise[: len(whole[place : place + count])]
        elif kind == "cut":
            del whole[place:]
        elif kind == "longer":
            whole += noise
        else:
            whole[:] = KINDS[other] if kind == "other" else noise * 20
        path.write_bytes(whole)

    return Damage(f"{kind} at {where:.4f}, near={near}, count={count}, seed={seed}, {other}", spoil, True)


# Trees of JSON, YAML and pickles


TEXTS = (
    "",
    "text",
    "1e400",
    "\ud800",
    "a\0b",
    "${name}",
    "${run",
    "../..",
    "a\nb",
    "2001-99-99",
    "−1",
    "a" * 300,
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from((2**31, 2**63, -(2**63), 10**30, 10**400)),
    st.floats(),
    st.sampled_from(TEXTS),
    st.text(max_size=5),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
GONE = object()


def places(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each node below the root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [p for key, value in items for p in ((*before, key), *places(value, (*before, key)))]


def changed(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value at a place; without it where the value is GONE."""
    if not place:
        return value
    key, *rest = place
    if isinstance(tree, dict):
        new = {k: changed(v, tuple(rest), value) if k == key else v for k, v in tree.items()}
        return {k: v for k, v in new.items() if v is not GONE}
    new = [changed(v, tuple(rest), value) if k == key else v for k, v in enumerate(tree)]
    return [v for v in new if v is not GONE]


@st.composite
def spoilt(draw: st.DrawFn, tree: Any, values: SearchStrategy[Any] = VALUES) -> tuple[str, Any]:
    """A tree in which one to three nodes are others or gone, and what was done."""
    told = []
    for _ in range(draw(st.integers(1, 3))):
        there = places(tree)
        place = draw(st.sampled_from(there)) if there and draw(st.integers(0, 9)) else ()
        value = draw(st.just(GONE) | values) if place else draw(values)
        tree = changed(tree, place, value)
        told.append(f"{'/'.join(map(str, place))}: {'gone' if value is GONE else repr(value)[:60]}")
    return "; ".join(told), tree


@st.composite
def spoilt_json(draw: st.DrawFn, path: Path) -> Damage:
    told, tree = draw(spoilt(json.loads(path.read_text("utf-8"))))
    text = json.dumps(tree)
    return Damage(told, lambda path: _put(path, text))


@st.composite
def spoilt_lines(draw: st.DrawFn, path: Path) -> Damage:
    """Of a file with JSON on each line."""
    told, rows = draw(spoilt([json.loads(line) for line in path.read_text("utf-8").splitlines()]))
    rows = rows if isinstance(rows, list) else [rows]
    return Damage(told, lambda path: _put(path, "".join(json.dumps(row) + "\n" for row in rows)))


@st.composite
def spoilt_yaml(draw: st.DrawFn, path: Path) -> Damage:
    told, tree = draw(spoilt(yaml.safe_load(path.read_text("utf-8"))))
    text = yaml.safe_dump(tree)
    if draw(st.booleans()):
        line = draw(st.sampled_from(STRANGE_YAML))
        told, text = f"{told}; {line[:60]}", f"{text}\n{line}\n"
    return Damage(told, lambda path: _put(path, text))


STRANGE_YAML = (
    "x: !!timestamp nothing",
    "x: !!bool maybe",
    "x: !!int",
    "x: !!float point",
    "x: 2001-99-99",
    "x: !!python/object/apply:os.mkdir [harm]",
    "x: &x [*x]",
    "model: &m {predictor: *m}",
    "? [a]\n: b",
    "x: " + "[" * 5000,
    "x: " + "9" * 5000,
    "x: " + "{a: " * 5000,
    "a0: &a0 {x: 1}\n" + "\n".join(f"a{i}: &a{i} {{l: *a{i - 1}, r: *a{i - 1}}}" for i in range(1, 40)),
    "- x",
    "%YAML 9.9",
    "\t",
)


def _put(path: Path, text: str) -> None:
    path.write_text(text, "utf-8", errors="surrogatepass")


# HDF5


COLUMNS = ("pixels", "action", "qpos", "qvel", "step_idx", "ep_len", "ep_offset")
DTYPES = ("u1", "i1", "i4", "i8", "u8", ">i4", "f2", "f4", "f8", "c8", "?", "S3", "V5", "text", "compound")
NUMBERS = (0, 1, -1, 2, 7, 30, 31, 2**31, 2**62, 2**63 - 1, -(2**63))
# JSON in attributes; their own texts, too.
ABOUT = VALUES | st.fixed_dictionaries({}, optional={"env": VALUES, "collect": VALUES})


@st.composite
def other_column(draw: st.DrawFn) -> Damage:
    """A column in its place that has another dtype, or another number of rows or axes."""
    name, dtype = draw(st.sampled_from((*COLUMNS, "other"))), draw(st.sampled_from(DTYPES))
    rows = draw(st.sampled_from((0, 1, 2, 59, 60, 61)))
    shape = draw(st.sampled_from(((), (0,), (1,), (2,), (16, 16, 3), (2, 2), None)))
    shape = () if shape is None else (rows, *shape)
    chunked, keep = draw(st.booleans()), draw(st.booleans())
    fill = draw(st.sampled_from((0, 1, 200)))

    def change(file: h5py.File) -> None:
        sums = dict(file[name].attrs) if name in file and keep else {}
        if name in file:
            del file[name]
        if dtype == "text":
            file.create_dataset(name, data=np.full(shape, "text", object), dtype=h5py.string_dtype())
        else:
            kind = np.dtype([("x", "f4"), ("y", "i2")]) if dtype == "compound" else np.dtype(dtype)
            values = np.full(shape, fill).astype(kind) if kind.names is None else np.zeros(shape, kind)
            how = {"chunks": (1, *shape[1:])} if chunked and shape and 0 not in shape else {}
            file.create_dataset(name, data=values, **how)
        file[name].attrs.update(sums)

    return _in_file(f"{name}: {dtype} {shape}, chunked={chunked}, fill={fill}, sums={keep}", change)


@st.composite
def other_numbers(draw: st.DrawFn) -> Damage:
    """Numbers changed within a column: lengths and offsets that can't be, NaN and infinity elsewhere."""
    name = draw(st.sampled_from(COLUMNS[1:]))
    row = draw(st.integers(0, 1))
    value = draw(st.sampled_from(NUMBERS if name.startswith("ep") else (np.nan, np.inf, 1e38, 0)))
    keep = draw(st.booleans())

    def change(file: h5py.File) -> None:
        values = file[name][:]
        with np.errstate(invalid="ignore", over="ignore"):
            values[row] = np.array(value).astype(values.dtype)
        file[name][:] = values
        if not keep:
            file[name].attrs.pop("crc32", None)

    return _in_file(f"{name}[{row}] = {value}, sum={keep}", change)


@st.composite
def other_attribute(draw: st.DrawFn) -> Damage:
    """Attributes of other types and values, of the file or of a column."""
    name = draw(st.sampled_from(("schema", "about", "versions", "crc32")))
    column = draw(st.sampled_from(COLUMNS)) if name == "crc32" else None
    said = draw(ABOUT)
    numbers = (np.nan, np.inf, -1, 2**40, h5py.Empty("f4"), [1, 2], [[1]], b"\xff\xfe", "{", 5)
    value = draw(st.sampled_from(numbers)) if draw(st.booleans()) else json.dumps(said)
    gone = draw(st.integers(0, 4)) == 0

    def change(file: h5py.File) -> None:
        attributes = file[column].attrs if column else file.attrs
        attributes.pop(name, None)
        if not gone:
            attributes[name] = value

    return _in_file(f"{column or ''} {name} = {'gone' if gone else repr(value)[:100]}", change)


@st.composite
def strange_column(draw: st.DrawFn) -> Damage:
    """Columns that are gone, links, groups, or larger than any memory."""
    name = draw(st.sampled_from((*COLUMNS, "other")))
    kind = draw(st.sampled_from(("gone", "group", "soft", "loop", "external", "elsewhere", "huge", "wide")))
    rows = draw(st.sampled_from((60, 2**40, 2**62)))
    squeezed = draw(st.sampled_from((None, "gzip")))

    def change(file: h5py.File) -> None:
        dtype = file[name].dtype if name in file else np.dtype("f4")
        shape = file[name].shape[1:] if name in file else ()
        if name in file:
            del file[name]
        if kind == "group":
            file.create_group(name).attrs["crc32"] = 5
        elif kind in ("soft", "loop"):
            file[name] = h5py.SoftLink(f"/{name}" if kind == "loop" else "/step_idx")
        elif kind == "external":
            file[name] = h5py.ExternalLink("other.h5", f"/{name}")
        elif kind == "elsewhere":
            size = 60 * dtype.itemsize * int(np.prod(shape))
            file.create_dataset(name, (60, *shape), dtype, external=[("other.bin", 0, size)])
        elif kind in ("huge", "wide"):
            large = (rows, *shape) if kind == "huge" else (60, rows)
            chunks = (1, *shape) if kind == "huge" else (1, 8)
            file.create_dataset(name, large, dtype, chunks=chunks, compression=squeezed)

    return _in_file(f"{name} {kind}, rows={rows}, {squeezed}", change)


def _in_file(told: str, change: Callable[[h5py.File], None]) -> Damage:
    def spoil(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return Damage(told, spoil)


HDF5 = st.one_of(other_column(), other_numbers(), other_attribute(), strange_column())


# Tensors


DTYPES_OF_TENSORS = ("F32", "F64", "I64", "BOOL", "BF16", "F8_E8M0", "C64", "U64", "F4", "X", None)


@st.composite
def spoilt_header(draw: st.DrawFn, path: Path) -> Damage:
    """safetensors with another header, which is JSON, or another length of it."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    words = st.sampled_from(DTYPES_OF_TENSORS) | st.sampled_from(([], [0], [-1], [2**40], [0, 4], [4, 0]))
    told, tree = draw(spoilt(json.loads(content[8 : 8 + size]), words | VALUES))
    header = json.dumps(tree).encode()
    length = draw(st.sampled_from((len(header),) * 5 + (0, 2**63, 2**64 - 1, len(header) - 1)))
    new = struct.pack("<Q", length) + header + content[8 + size :]
    return Damage(f"{told}; length={length}", lambda path: path.write_bytes(new) and None)


@st.composite
def spoilt_state(draw: st.DrawFn, path: Path) -> Damage:
    """What torch.save wrote, with other values in it: tensors too."""
    tensors = st.sampled_from(
        (
            torch.zeros(0),
            torch.tensor(float("nan")),
            torch.full((2, 3), float("inf")),
            torch.zeros(3, dtype=torch.int64),
            torch.zeros(2, dtype=torch.complex64),
            torch.zeros(1).expand(2**20, 2**20),
            torch.eye(3).to_sparse(),
            torch.zeros(4, dtype=torch.bool),
        )
    )
    told, tree = draw(spoilt(torch.load(path, weights_only=True), tensors | VALUES))
    return Damage(told, lambda path: torch.save(tree, path))


@st.composite
def spoilt_arrays(draw: st.DrawFn, path: Path) -> Damage:
    """An npz with other arrays in it."""
    with np.load(path) as file:
        arrays = dict(file)
    name = draw(st.sampled_from((*arrays, "", ".", "a/b", "other")))
    dtype = draw(st.sampled_from(DTYPES[:13]))
    shape = draw(st.sampled_from(((), (0,), (1,), (12,), (11, 2), (12, 0), (12, 2, 2), (0, 3))))
    if draw(st.booleans()):
        arrays[name] = np.ones(shape).astype(dtype)
    else:
        arrays.pop(name, None)

    def spoil(path: Path) -> None:
        np.savez(path, **arrays)

    return Damage(f"{name!r}: {dtype} {shape}", spoil)
