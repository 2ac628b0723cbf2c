"""`worldjepa data merge | split | convert`, killed: nothing half-written is taken for whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from moving_dot import write_dots

from worldjepa.data.shards import Store
from worldjepa.data.verify import verify

# What each writes, and how many episodes there are in it.
VERBS = {
    "merge": (["store.to=new/one.h5"], {"one.h5": 240}),
    "split": (["store.to=new/most", "store.share=0.75"], {"most": 180, "most-rest": 60}),
    "convert": (["store.to=new/again"], {"again": 240}),
    "theirs": (["store.to=new/theirs.h5"], {"theirs.h5": 240}),
    "gzip": (["store.to=new/small", "store.compression=gzip"], {"small": 240}),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_dots(folder / "dots", episodes=240, length=50)
    return folder


def started(place: Path, verb: str) -> subprocess.Popen:
    part = "convert" if verb in ("theirs", "gzip") else verb
    words = ["data", part, "dots", *VERBS[verb][0], "collect.shard_episodes=5"]
    return subprocess.Popen(
        [sys.executable, "-m", "worldjepa", *words],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def left(place: Path) -> list[str]:
    """What is there beside what is hidden, under which nobody looks for data."""
    return sorted(p.name for p in (place / "new").glob("[!.]*")) if (place / "new").exists() else []


def writing(place: Path) -> bool:
    return (place / "new").exists() and any((place / "new").glob(".collect-*/new-*"))


def kill_and_finish(place: Path, verb: str, rng: np.random.Generator) -> bool:
    """Whether it was killed while it wrote. In the end what it should write is there, and nothing else."""
    process = started(place, verb)
    while process.poll() is None and not writing(place):
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.25))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    names = sorted(VERBS[verb][1])
    amid = left(place) == []
    assert left(place) in ([], names), "all of it, or nothing"
    if amid:
        done = started(place, verb)
        _, said = done.communicate(timeout=120)
        assert done.returncode == 0, said
        assert sorted(p.name for p in (place / "new").iterdir()) == names, "what was left over is gone"
    for name, episodes in VERBS[verb][1].items():
        store = Store(place / "new" / name)
        assert len(store.lengths) == episodes
        assert not any(finding.problems for finding in verify(place / "new" / name))
    return amid


def clear(place: Path) -> None:
    subprocess.run(["rm", "-rf", str(place / "new")], check=True)


# Two of them each time; `make test-slow` has the others, and kills at random moments too.
@pytest.mark.parametrize(
    "verb", [v if v in ("merge", "theirs") else pytest.param(v, marks=pytest.mark.slow) for v in VERBS]
)
def test_killed_while_it_writes_and_run_again(place: Path, verb: str):
    rng = np.random.default_rng(0)
    # Sooner or later it is caught at work.
    for _ in range(5):
        clear(place)
        if kill_and_finish(place, verb, rng):
            return
    pytest.fail("it was done before it was killed")


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_a_random_moment(place: Path, verb: str, seed: int):
    clear(place)
    kill_and_finish(place, verb, np.random.default_rng((seed, sorted(VERBS).index(verb))))
