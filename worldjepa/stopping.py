"""Ctrl-C and SIGTERM, heard between two steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_requested() -> Iterator[list[int]]:
    """A list that gets the signal's number at Ctrl-C or SIGTERM; the step under way is finished first."""
    received: list[int] = []
    before = {s: signal.signal(s, lambda number, _: received.append(number)) for s in STOPPING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
