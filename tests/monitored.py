"""`worldjepa monitor` as a user has it: started, looked at, ended with Ctrl-C."""

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path


def monitored(words: Sequence[str], cwd: Path) -> bytes:
    """The page that `worldjepa monitor` serves, on loopback at a free port; it must end well."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worldjepa", "monitor", *words, "monitor.host=127.0.0.1", "monitor.port=0"],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test that runs in a shell's background would hand on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert " at http://127.0.0.1:" in said, said
        # Never through a proxy that the environment may name.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(said.split(" at ")[1].split()[0], timeout=60) as answer:
            page = answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert "Traceback" not in out + err
    return page
