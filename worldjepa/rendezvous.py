"""A store for the process group in which nothing is left of an earlier start."""

import time
import uuid

import torch.distributed as dist

from .errors import UserError

# Seconds until a rank that does not come is given up, as torch's own for gloo; and between two looks.
PATIENCE, PAUSE = 1800.0, 0.02


def fresh_store(store: dist.Store, rank: int, ranks: int) -> dist.Store:
    """The part of a store that only this start of the ranks writes to; all of them must call.

    torchrun keeps one store over restarts. A rank that reads there where a killed one listened, before its
    successor has written where it does, waits for ever (pytorch, issue 135712). So rank 0 makes up a name for
    this start, and tells each rank beside a token that the rank has just made up: an answer to another token
    is an old one.

    Raises:
        UserError: a rank did not come within half an hour.
    """
    name = _tell(store, ranks) if rank == 0 else _ask(store, rank)
    return dist.PrefixStore(name, store)


def _tell(store: dist.Store, ranks: int) -> str:
    """What rank 0 does: answer until each of the others has repeated the name."""
    name, missing, began = uuid.uuid4().hex, set(range(1, ranks)), time.monotonic()
    while missing:
        for rank in sorted(missing):
            asked = _read(store, f"asked_by_{rank}")
            if asked == name:
                missing.remove(rank)
            elif asked:
                store.set(f"told_{rank}", f"{asked} {name}")
        _wait(began, f"of {ranks} ranks, {len(missing)} did not come, rank {min(missing, default=0)} first")
    return name


def _ask(store: dist.Store, rank: int) -> str:
    """What each of the others does."""
    token, began = uuid.uuid4().hex, time.monotonic()
    store.set(f"asked_by_{rank}", token)
    while not (told := _read(store, f"told_{rank}")).startswith(token):
        _wait(began, "rank 0 did not come")
    name = told.removeprefix(f"{token} ")
    store.set(f"asked_by_{rank}", name)
    return name


def _read(store: dist.Store, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""


def _wait(began: float, complaint: str) -> None:
    if time.monotonic() - began > PATIENCE:
        raise UserError(f"torchrun: {complaint} within {PATIENCE / 60:.0f} minutes")
    time.sleep(PAUSE)
