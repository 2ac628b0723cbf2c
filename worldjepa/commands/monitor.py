"""`worldjepa monitor`: TensorBoard on a run, or on a folder of runs."""

import contextlib
import threading
from pathlib import Path

from tensorboard import program

from ..config import Config
from ..errors import UserError


def run(config: Config) -> int:
    folder = Path(config.run)
    if not folder.is_dir():
        raise UserError(f"{folder}: no run there; `worldjepa train` makes one")
    board = program.TensorBoard()
    # Its faster loader is experimental, and says so to everybody.
    options = ("--load_fast=false", f"--host={config.monitor.host}", f"--port={config.monitor.port}")
    board.configure(argv=[None, "--logdir", str(folder), *options])
    try:
        url = board.launch()
    except program.TensorBoardServerException as error:
        raise UserError(f"monitor.port={config.monitor.port}: {' '.join(str(error).split())}") from None
    print(f"TensorBoard shows {folder} at {url} (Ctrl-C stops it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    return 0
