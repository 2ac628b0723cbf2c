"""Commands in processes of their own: a C library may crash them, and they get so much time and memory.

Run as a program, this file is the other side: it imports once what commands need, and forks for each one.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

# Of address space, beside what is mapped when a command begins; of processor time, and of any.
SPARE_BYTES, CPU_SECONDS, SECONDS = 3 << 29, 60, 300
TRACEBACK = 70
SCRIPTS = Path(__file__).parents[1] / "scripts"
VERBS = ("data", "train", "geometry", "report", "convert", "plan", "probe")


class Ended(NamedTuple):
    """How a command ended: its exit code, TRACEBACK, or the negative number of the signal that killed it."""

    code: int
    out: str
    err: str


class Apart:
    """Runs commands, one after the other, each in a new process."""

    def __init__(self) -> None:
        words = [sys.executable, __file__]
        self._server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, folder: Path, program: str, *words: str) -> Ended:
        """A program of `_programs` in a folder."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps([str(folder), program, words]), file=self._server.stdin, flush=True)
        return Ended(*json.loads(self._server.stdout.readline()))

    def close(self) -> None:
        self._server.kill()
        self._server.communicate()


def serve() -> None:
    programs = _programs()
    for line in sys.stdin:
        folder, program, words = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                _run(Path(folder), programs[program], words, out, err)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(json.dumps([code, *map(_said, (out, err))]), flush=True)


def _programs() -> dict[str, Callable[[Sequence[str]], int]]:
    import torch

    from worldjepa.cli import main
    from worldjepa.data import image_sources

    torch.set_num_threads(1)
    for name in (*(f"worldjepa.commands.{verb}" for verb in VERBS), "pyarrow.parquet"):
        importlib.import_module(name)
    # Debian's folder, which need not be there.
    image_sources.FASHION_MNIST = Path("fashion-mnist")
    sys.path.insert(0, str(SCRIPTS))
    scripts = {f"{name}.py": importlib.import_module(name).main for name in ("sweep", "results_tables")}
    return {"worldjepa": main, **scripts}


def _said(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="backslashreplace")


def _run(
    folder: Path, main: Callable[[Sequence[str]], int], words: Sequence[str], out: Any, err: Any
) -> None:
    code = TRACEBACK
    with contextlib.suppress(BaseException):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        faulthandler.enable()
        os.chdir(folder)
        # As `python -m worldjepa` has it.
        sys.path.insert(0, "")
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + SPARE_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        signal.alarm(SECONDS)
        try:
            code = main(words)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
