"""How fast windows are read: this library against stable-worldmodel's readers; 20 GB opened and trained on.

    python scripts/benchmark_data.py --peer-python /path/to/python/with/stable-worldmodel
    python scripts/benchmark_data.py --compression --gigabytes 0

Reacher is collected at each size, its shards merged into one file, and that file written again by
stable-worldmodel's own HDF5 and Lance writers. Then each reader, in a process of its own, reads the same
windows of 4 frames with their actions in the same random order, from the page cache: stable-worldmodel's HDF5
reader one by one as its `__getitem__` does, its Lance reader in batches of 128 by `__getitems__`, ours in
batches of 128. Readers take turns; a figure is the median of the rounds. Collating is not counted for theirs;
ours is collated already. Last, sparse shards of 20 GB are opened, and a small model is trained on them, in a
process whose memory is watched. With --compression, the same shards are written and read with each
compression of the frames.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark_results import add_keep, keep

FRAMES, BATCH = 4, 128

# Runs in the other interpreter: neither side imports the other.
PEER = """
import json, sys, time
import h5py, numpy as np
task, folder, frames, batch, seconds = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
from stable_worldmodel.data import HDF5Dataset, HDF5Writer, LanceDataset, LanceWriter
if task == "write":
    with h5py.File(f"{folder}/merged.h5") as file:
        columns = [name for name in file if name not in ("ep_len", "ep_offset", "step_idx")]
        spans = [slice(o, o + n) for o, n in zip(file["ep_offset"][:].tolist(), file["ep_len"][:].tolist())]
        episodes = lambda: ({c: list(file[c][span]) for c in columns} for span in spans)
        with HDF5Writer(f"{folder}/theirs.h5") as writer:
            writer.write_episodes(episodes())
        with LanceWriter(f"{folder}/theirs.lance") as writer:
            writer.write_episodes(episodes())
    sys.exit()
options = {"num_steps": frames, "keys_to_load": ["pixels", "action"]}
if task == "lance":
    data = LanceDataset(path=f"{folder}/theirs.lance", **options)
    read = data.__getitems__
else:
    if task == "every":
        del options["keys_to_load"]
    name = "merged.h5" if task == "merged" else "theirs.h5"
    data = HDF5Dataset(path=f"{folder}/{name}", **options)
    read = lambda indices: [data[i] for i in indices]
order = np.random.default_rng(0).permutation(len(data)).tolist()
read(order[-batch:])
count, start, began = 0, 0, time.perf_counter()
while time.perf_counter() - began < seconds:
    read(order[start : start + batch])
    count, start = count + batch, (start + batch) % (len(order) - batch)
print(json.dumps({"windows": len(data), "rate": count / (time.perf_counter() - began)}))
"""


def read_ours(path: str, seconds: int) -> dict[str, Any]:
    """Our reader on a folder or file."""
    import numpy as np

    from worldjepa.data.shards import Store
    from worldjepa.data.windows import Windows

    began = time.perf_counter()
    store = Store(path)
    windows = Windows(store, np.arange(len(store.lengths)), FRAMES, 1)
    order = np.random.default_rng(0).permutation(len(windows))
    windows.batch(order[-BATCH:])
    ready = time.perf_counter() - began
    # The first reading of a page finds it in the page cache and maps it; that is done once.
    for start in range(0, len(order), BATCH):
        windows.batch(order[start : start + BATCH])
    count, start, began = 0, 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        windows.batch(order[start : start + BATCH])
        count, start = count + BATCH, (start + BATCH) % (len(order) - BATCH)
    return {"windows": len(windows), "rate": count / (time.perf_counter() - began), "ready": ready}


def compressions(folder: Path, size: int, frames: int, rounds: int, seconds: int) -> None:
    """Size, and speed of writing and reading, of the same shards by the compression of their frames."""
    from worldjepa.cli import main
    from worldjepa.data.rewrite import common_columns, episodes_of, joint_origin, write_shards
    from worldjepa.data.shards import Store
    from worldjepa.limits import COMPRESSIONS

    plain = folder / "shards"
    if not plain.exists():
        words = [f"data.path={plain}", f"env.image_size={size}", f"collect.episodes={frames // 200}"]
        main(["collect", "reacher", *words])
    store = Store(plain)
    columns = common_columns([store])
    episodes = [
        {n: v.copy() for n, v in e.items()} for e in episodes_of(store, range(frames // 200), columns)
    ]
    written: dict[str, list[float]] = {kind: [] for kind in COMPRESSIONS}
    read: dict[str, list[float]] = {kind: [] for kind in COMPRESSIONS}
    for number in range(rounds):
        for kind in COMPRESSIONS:
            target = folder / f"{kind}-{number}"
            began = time.perf_counter()
            write_shards(target, episodes, joint_origin([store]), 20, kind)
            written[kind].append(frames / (time.perf_counter() - began))
            words = [sys.executable, __file__, "--read", str(target), "--seconds", str(seconds)]
            read[kind].append(
                json.loads(subprocess.run(words, check=True, capture_output=True).stdout)["rate"]
            )
    print(f"\n{frames} frames of reacher, {size} px; medians of {rounds} rounds")
    print(
        f"{'compression':<12}{'bytes/frame':>12}{'of none':>9}{'frames/s written':>18}{'windows/s read':>16}"
    )
    sizes = {k: sum(p.stat().st_size for p in (folder / f"{k}-0").iterdir()) for k in COMPRESSIONS}
    for kind, size_there in sizes.items():
        print(
            f"{kind:<12}{size_there / frames:>12,.0f}{size_there / sizes['none']:>9.3f}"
            f"{statistics.median(written[kind]):>18,.0f}{statistics.median(read[kind]):>16,.0f}"
        )


def make(folder: Path, size: int, frames: int, peer: str) -> None:
    """Collect, merge, and have the peer write the same."""
    from worldjepa.cli import main

    folder.mkdir(parents=True, exist_ok=True)
    episodes = f"collect.episodes={frames // 200}"
    if not (folder / "merged.h5").exists():
        main(["collect", "reacher", f"data.path={folder}/shards", f"env.image_size={size}", episodes])
        main(["data", "merge", f"{folder}/shards", f"store.to={folder}/merged.h5"])
    if not (folder / "theirs.lance").exists():
        subprocess.run([peer, "-c", PEER, "write", folder, "0", "0", "0"], check=True)


def compare(folder: Path, size: int, frames: int, peer: str, rounds: int, seconds: int) -> dict[str, float]:
    """Print the rates of all readers; their medians come back."""
    make(folder, size, frames, peer)

    def theirs(task: str) -> list[Any]:
        return [peer, "-c", PEER, task, folder, str(FRAMES), str(BATCH), str(seconds)]

    def ours(name: str) -> list[Any]:
        return [sys.executable, __file__, "--read", folder / name, "--seconds", str(seconds)]

    sides = {
        "ours, shards": ours("shards"),
        "ours, one merged file": ours("merged.h5"),
        "ours, the file that theirs wrote": ours("theirs.h5"),
        "theirs, HDF5": theirs("hdf5"),
        "theirs, HDF5, every column (its default)": theirs("every"),
        "theirs, HDF5 reader on our merged file": theirs("merged"),
        "theirs, Lance, batched": theirs("lance"),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    counts = set()
    for _ in range(rounds):
        for name, words in sides.items():
            result = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            rates[name].append(result["rate"])
            print(f"{name}: {result['rate']:,.0f} windows/s", flush=True)
            counts.add(result["windows"])
    assert len(counts) == 1, f"the readers do not agree on how many windows there are: {counts}"
    print(f"\n{size} px, {counts.pop()} windows of {FRAMES} frames, {rounds} rounds of {seconds} s")
    hdf5, lance = (statistics.median(rates[f"theirs, {kind}"]) for kind in ("HDF5", "Lance, batched"))
    print(f"{'windows/s':<42}{'median':>9}{'range':>20}{'of HDF5':>10}{'of Lance':>10}")
    for name, found in rates.items():
        middle, span = statistics.median(found), f"{min(found):,.0f} to {max(found):,.0f}"
        print(
            f"{name:<42}{middle:>9,.0f}{span:>20}{middle / hdf5:>8.1f} ×{middle / lance:>8.1f} ×", flush=True
        )
    return {name: statistics.median(found) for name, found in rates.items()}


def write_sparse(folder: Path, gigabytes: float, size: int, shard_frames: int = 4000) -> None:
    """Shards whose columns have their places in the file, but no bytes on the disk: all zeros when read."""
    import h5py
    import numpy as np
    from h5py import h5d, h5p, h5s, h5t

    folder.mkdir(parents=True)
    lengths = np.full(shard_frames // 200, 200)
    columns = {"pixels": ((size, size, 3), "u1"), "action": ((2,), "f4"), "qpos": ((2,), "f8")}
    columns |= {
        "qvel": ((2,), "f8"),
        "state": ((35,), "f8"),
        "observation": ((6,), "f4"),
        "step_idx": ((), "i8"),
    }
    shards = round(gigabytes * 1e9 / (shard_frames * size * size * 3))
    for index in range(shards):
        with h5py.File(folder / f"shard-{index:05d}.h5", "w", libver=("v108", "v108")) as file:
            properties = h5p.create(h5p.DATASET_CREATE)
            properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
            properties.set_fill_time(h5d.FILL_TIME_NEVER)
            for name, (row, dtype) in columns.items():
                space = h5s.create_simple((shard_frames, *row))
                h5d.create(file.id, name.encode(), h5t.py_create(np.dtype(dtype)), space, properties)
            file["ep_len"], file["ep_offset"] = lengths, np.cumsum(lengths) - lengths


def large(folder: Path, gigabytes: float, size: int, steps: int) -> dict[str, float]:
    """Print how soon sparse shards open and what training on them keeps in memory; both come back."""
    data = folder / f"sparse-{size}"
    write_sparse(data, gigabytes, size)
    files = [path.stat() for path in data.iterdir()]
    program = (
        "import sys, time; from worldjepa.data.shards import Store; began = time.perf_counter(); "
        "store = Store(sys.argv[1]); print(time.perf_counter() - began)"
    )
    words = [sys.executable, "-c", program, str(data)]
    opened = [float(subprocess.run(words, check=True, capture_output=True).stdout) for _ in range(3)]
    print(
        f"\n{sum(f.st_size for f in files) / 1e9:.1f} GB in {len(files)} sparse shards of {size} px "
        f"({sum(f.st_blocks for f in files) * 512 / 1e6:.0f} MB on the disk): opened in "
        f"{', '.join(f'{seconds:.2f}' for seconds in opened)} s"
    )
    # A small model: the reading is what is watched.
    options = [
        f"env.image_size={size}",
        f"train.steps={steps}",
        "train.evaluate_goals=0",
        "model.encoder.width=2",
    ]
    options += ["model.predictor.depth=1", "train.evaluate_every=100000", f"run={folder}/run-{size}"]
    worldjepa = [sys.executable, "-m", "worldjepa"]
    command = [*worldjepa, "train", "reacher", f"data.path={data}", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak: dict[str, int] = {}
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith(("VmHWM", "RssAnon", "RssFile")):
                name, value = line.split()[:2]
                peak[name] = max(peak.get(name, 0), int(value))
        time.sleep(0.1)
    assert process.returncode == 0, f"training ended with {process.returncode}"
    read = steps * BATCH * FRAMES * size * size * 3 / 1e9
    print(
        f"{steps} training steps read {read:.1f} GB; at most {peak['VmHWM:'] / 1e6:.2f} GB resident: "
        f"{peak['RssAnon:'] / 1e6:.2f} GB of its own, {peak['RssFile:'] / 1e6:.2f} GB of files and libraries"
    )
    return {"gigabytes": gigabytes, "opened": statistics.median(opened), "resident": peak["VmHWM:"] / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", help="an interpreter with stable-worldmodel, h5py and hdf5plugin")
    parser.add_argument("--folder", type=Path, help="keeps the data there; otherwise a temporary folder")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224], help="pixels")
    parser.add_argument("--frames", type=int, nargs="+", default=[20000, 4000], help="frames for each size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each reader in each round")
    parser.add_argument("--gigabytes", type=float, default=20, help="sparse shards; 0: none")
    parser.add_argument("--steps", type=int, default=400, help="training steps on them")
    parser.add_argument("--compression", action="store_true", help="compare them, at each size")
    add_keep(parser, "data")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if len(options.frames) != len(options.sizes):
        parser.error("--frames takes a number for each of --sizes")
    if options.read:
        print(json.dumps(read_ours(options.read, options.seconds)))
        return
    measured: dict[str, Any] = {"rounds": options.rounds, "windows_per_second": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.peer_python:
            for size, frames in zip(options.sizes, options.frames, strict=True):
                peer, rounds = options.peer_python, options.rounds
                rates = compare(folder / f"data-{size}", size, frames, peer, rounds, options.seconds)
                measured["windows_per_second"][str(size)] = rates
        for size, frames in zip(options.sizes, options.frames, strict=True) if options.compression else ():
            compressions(folder / f"data-{size}", size, frames, options.rounds, options.seconds)
        if options.gigabytes:
            measured["large"] = large(folder, options.gigabytes, options.sizes[0], options.steps)
    if options.keep:
        keep("data", measured)


if __name__ == "__main__":
    os.environ.setdefault("TQDM_MININTERVAL", "10")
    main()
