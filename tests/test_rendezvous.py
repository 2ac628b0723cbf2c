"""The store that a restarted job starts from."""

import threading

import pytest
import torch.distributed as dist

import worldjepa.rendezvous as module
from worldjepa.errors import UserError
from worldjepa.rendezvous import fresh_store

RANKS = 3


def started(store: dist.Store, order: list[int]) -> dict[int, dist.Store]:
    """What all ranks get that start in an order, each some looks after the one before it."""
    found: dict[int, dist.Store] = {}
    threads = []
    for rank in order:
        threads.append(
            threading.Thread(target=lambda r=rank: found.update({r: fresh_store(store, r, RANKS)}))
        )
        threads[-1].start()
        threads[-1].join(3 * module.PAUSE)
    for thread in threads:
        thread.join(20)
    assert sorted(found) == list(range(RANKS))
    return found


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_every_start_shares_a_part_that_earlier_ones_did_not_write_to(order: list[int]) -> None:
    store = dist.HashStore()
    for start in range(3):
        ranks = started(store, order)
        assert not any(ranks[rank].check(["address"]) for rank in ranks), (
            "nothing is left of an earlier start"
        )
        ranks[order[0]].set("address", f"of start {start}")
        assert {ranks[rank].get("address") for rank in ranks} == {f"of start {start}".encode()}


def test_a_rank_killed_between_question_and_answer_does_not_disturb_the_next_start() -> None:
    store = dist.HashStore()
    store.set("asked_by_1", "of a killed one")
    store.set("told_1", "another name")
    store.set("told_2", "of-a-killed-one name")
    ranks = started(store, [0, 1, 2])
    ranks[0].set("address", "new")
    assert ranks[1].get("address") == ranks[2].get("address") == b"new"


@pytest.mark.parametrize(
    ("rank", "missing"), [(0, "of 3 ranks, 2 did not come, rank 1 first"), (2, "rank 0 did not come")]
)
def test_a_rank_that_does_not_come_is_named(rank: int, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with pytest.raises(UserError, match=missing):
        fresh_store(dist.HashStore(), rank, RANKS)
