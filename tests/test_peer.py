"""Files to and from stable-worldmodel, and what its LeWM computes (`make test-peer`).

PEER_PYTHON names an interpreter that has it, and transformers for the second.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from moving_dot import write_dots

from worldjepa.cli import main
from worldjepa.data.shards import Store
from worldjepa.data.windows import Windows

pytestmark = pytest.mark.slow


def peer(program: str, *words: str) -> str:
    """What a program prints that runs beside stable-worldmodel."""
    head = "import json, sys, h5py, numpy as np\nimport stable_worldmodel.data as swm\n"
    command = [os.environ["PEER_PYTHON"], "-W", "ignore", "-c", head + program, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


WRITE = """
with h5py.File(sys.argv[1]) as ours, swm.HDF5Writer(sys.argv[2]) as writer:
    names = [name for name in ours if name not in ("ep_len", "ep_offset")]
    for first, count in zip(ours["ep_offset"][:].tolist(), ours["ep_len"][:].tolist()):
        episode = {name: list(ours[name][first : first + count]) for name in names}
        # As World.collect leaves it: no action follows the last frame.
        episode["action"][-1] = np.full_like(episode["action"][-1], np.nan)
        writer.write_episode(episode)
"""
READ = """
data = swm.load_dataset(sys.argv[1], format="hdf5", num_steps=3, frameskip=2)
clips = [data[i] for i in range(len(data))]
told = {"lengths": data.lengths.tolist(), "clips": [list(map(int, c)) for c in data.clip_indices]}
np.savez(sys.argv[2], **{name: np.stack([clip[name] for clip in clips]) for name in ("pixels", "action")})
print(json.dumps(told))
"""


@pytest.fixture
def dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_dots(tmp_path / "dots", episodes=8, length=40)


def test_what_they_wrote_trains_here(dots: Path, tmp_path: Path) -> None:
    peer(WRITE, str(dots / "shard-00000.h5"), "theirs.h5")
    assert main(["data", "verify", "theirs.h5"]) == 0
    ours, theirs = Store(dots), Store("theirs.h5")
    steps = np.arange(39)[None].repeat(8, 0)
    for name in ("pixels", "action", "qpos"):
        np.testing.assert_array_equal(*(s.gather(name, np.arange(8), steps) for s in (ours, theirs)))
    options = ["data.path=theirs.h5", "train.steps=3", "train.evaluate_goals=0", "run=run"]
    assert main(["train", "smoke", *options]) == 0
    assert (tmp_path / "run" / "checkpoints" / "00000003" / "model.safetensors").stat().st_size > 0


@pytest.mark.parametrize("part", ["merge", "convert"])
def test_what_we_export_they_load(dots: Path, tmp_path: Path, part: str) -> None:
    assert main(["data", part, str(dots), "store.to=ours.h5"]) == 0
    told = json.loads(peer(READ, str(tmp_path / "ours.h5"), "read.npz"))
    assert told["lengths"] == [40] * 8
    read = np.load(tmp_path / "read.npz")
    # Theirs wants two actions after the last frame as well: it has fewer windows, each one of ours.
    windows = Windows(Store(dots), np.arange(8), 3, 2)
    number = {(e, s): i for i, (e, s) in enumerate(zip(windows.episodes, windows.starts, strict=True))}
    batch = windows.batch(np.array([number[tuple(clip)] for clip in told["clips"]]))
    np.testing.assert_array_equal(read["pixels"].transpose(0, 1, 3, 4, 2), batch["pixels"].numpy())
    np.testing.assert_array_equal(read["action"][:, :2], batch["action"].numpy())


def test_they_go_on_with_a_file_in_their_layout(dots: Path) -> None:
    assert main(["data", "convert", str(dots), "store.to=ours.h5"]) == 0
    peer(WRITE, str(dots / "shard-00000.h5"), "ours.h5")
    store = Store("ours.h5")
    assert len(store.lengths) == 16
    steps = np.arange(39)[None].repeat(8, 0)
    first, second = (store.gather("pixels", np.arange(8) + n, steps) for n in (0, 8))
    np.testing.assert_array_equal(first, second)


def test_the_golden_lewm_is_what_its_own_code_computes() -> None:
    folder = Path(__file__).parent
    command = [os.environ["PEER_PYTHON"], "-W", "ignore", str(folder / "lewm_peer.py")]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    golden = json.loads((folder / "lewm_golden.json").read_text())
    assert told["shapes"] == golden["shapes"]
    for name in ("latent", "ahead", "cost"):
        np.testing.assert_allclose(told[name], golden[name], rtol=1e-4, atol=1e-5)
