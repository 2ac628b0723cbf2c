"""scripts/benchmark_collect.py runs, and compares what it has measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark_collect.py"


@pytest.mark.slow
def test_the_benchmark_runs():
    few = ["--rounds", "1", "--episodes", "2", "--full-episodes", "2", "--bare-seconds", "0.2"]
    done = subprocess.run([sys.executable, str(SCRIPT), *few], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stable-worldmodel: not measured; --peer-python" in done.stdout
    rates = dict(re.findall(r"^(\w+, \w+) +([\d.]+) frames/s, median", done.stdout, re.MULTILINE))
    assert list(rates) == ["bare, fast", "worldjepa, fast", "bare, full", "worldjepa, full"]
    for quality in ("fast", "full"):
        ratio = float(re.search(rf"worldjepa, {quality} / bare, {quality}: ([\d.]+)", done.stdout)[1])
        assert ratio == pytest.approx(
            float(rates[f"worldjepa, {quality}"]) / float(rates[f"bare, {quality}"]), abs=0.05
        )


@pytest.mark.slow
def test_a_peer_that_is_not_there_is_named():
    few = ["--rounds", "1", "--episodes", "2", "--full-episodes", "0", "--bare-seconds", "0.2"]
    words = [sys.executable, str(SCRIPT), *few, "--peer-python", sys.executable, "--peer-episodes", "2"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode != 0
    assert "No module named 'stable_worldmodel'" in done.stderr
