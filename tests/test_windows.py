"""worldjepa.data.windows: what a window holds, which windows there are, in what order, what is held out."""

from itertools import islice
from pathlib import Path

import counting_env
import numpy as np
import pytest
import torch

from worldjepa.data.shards import Shard, Store, shard_path, write_shard
from worldjepa.data.windows import Windows, split_episodes
from worldjepa.errors import UserError


def everything(store: Store, frames: int, frameskip: int) -> Windows:
    return Windows(store, np.arange(len(store.lengths)), frames, frameskip)


def numbered(folder: Path, lengths: list[list[int]], actions: int = 1) -> Store:
    """A store whose frame and action hold their episode and step: pixels [e, t, 0], action e + t/100."""
    episode = 0
    for index, shard in enumerate(lengths):
        episodes = []
        for length in shard:
            steps = np.arange(length)
            pixels = np.zeros((length, 8, 8, 3), np.uint8)
            pixels[..., 0], pixels[..., 1] = episode, steps[:, None, None]
            action = np.repeat((episode + steps / 100)[:, None], actions, 1).astype(np.float32)
            episodes.append({"pixels": pixels, "action": action})
            episode += 1
        write_shard(shard_path(folder, index), episodes, {})
    return Store(folder)


def labels(batch: dict[str, torch.Tensor]) -> np.ndarray:
    """(B, T, 2) episode and step of every frame of a batch made by `numbered`."""
    return batch["pixels"][:, :, 0, 0, :2].numpy().astype(int)


# Held out by episode


@pytest.mark.parametrize("held_out", [0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("count", [2, 3, 6, 101])
def test_split_is_by_episode_and_never_empty(count: int, held_out: float):
    train, test = split_episodes(count, held_out, seed=0)
    assert sorted([*train, *test]) == list(range(count))
    assert len(train) >= 1
    assert len(test) >= 1
    assert abs(len(test) - held_out * count) <= 1
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()


def test_split_depends_on_the_seed_alone():
    one, same, other = (split_episodes(100, 0.2, seed)[1].tolist() for seed in (3, 3, 4))
    assert one == same
    assert one != other


@pytest.mark.parametrize("count", [0, 1])
def test_one_episode_can_not_be_split(count: int):
    with pytest.raises(UserError, match="at least 2"):
        split_episodes(count, 0.1, 0)


# What a window holds


@pytest.mark.parametrize(("frames", "frameskip"), [(2, 1), (4, 1), (2, 5), (4, 3), (4, 5)])
def test_action_block_j_leads_from_frame_j_to_frame_j_plus_1(
    counting_data: Path, frames: int, frameskip: int
):
    """On the environment that counts: replaying block j on the count in frame j gives that of frame j + 1."""
    windows = everything(Store(counting_data), frames, frameskip)
    batch = windows.batch(np.arange(len(windows)))
    assert batch["pixels"].shape == (len(windows), frames, 4, 4, 3)
    assert batch["pixels"].dtype == torch.uint8
    assert batch["action"].shape == (len(windows), frames - 1, frameskip * 2)
    assert batch["action"].dtype == torch.float32
    counts = counting_env.read(batch["pixels"].numpy())
    blocks = batch["action"].numpy().reshape(len(windows), frames - 1, frameskip, 2)
    replayed = counts[:, :-1]
    for step in range(frameskip):
        replayed = counting_env.advance(replayed, blocks[:, :, step])
    np.testing.assert_array_equal(replayed, counts[:, 1:])


@pytest.mark.parametrize(("frames", "frameskip"), [(2, 1), (3, 2), (4, 5)])
def test_no_window_crosses_an_episodes_end(tmp_path: Path, frames: int, frameskip: int):
    lengths = [[5, 16, 1], [17], [30, 2, 9]]
    windows = everything(numbered(tmp_path, lengths), frames, frameskip)
    found = labels(windows.batch(np.arange(len(windows))))
    assert (found[:, :, 0] == found[:, :1, 0]).all()
    assert (np.diff(found[:, :, 1], axis=1) == frameskip).all()
    span = (frames - 1) * frameskip
    flat = [n for shard in lengths for n in shard]
    expected = [(e, start) for e, n in enumerate(flat) for start in range(n - span)]
    assert [tuple(first) for first in found[:, 0]] == expected, "and every window that fits is there"


def test_only_the_given_episodes(tmp_path: Path):
    windows = Windows(numbered(tmp_path, [[6, 7], [8, 9]]), np.array([1, 3]), 3, 2)
    found = labels(windows.batch(np.arange(len(windows))))
    assert set(found[..., 0].ravel()) == {1, 3}
    assert len(windows) == (7 - 4) + (9 - 4)


def test_a_window_as_long_as_its_episode(tmp_path: Path):
    windows = everything(numbered(tmp_path, [[16], [15]]), 4, 5)
    assert len(windows) == 1
    np.testing.assert_array_equal(labels(windows.batch(np.array([0])))[0, :, 1], [0, 5, 10, 15])


# Batches


@pytest.mark.parametrize("batch_size", [1, 7, 13, 16])
def test_every_window_once_per_epoch(tmp_path: Path, batch_size: int):
    windows = everything(numbered(tmp_path, [[5, 16], [17]]), 3, 2)
    per_epoch = len(windows) // batch_size
    batches = windows.batches(batch_size, seed=0)
    epochs = []
    for _ in range(10):
        starts = [labels(b)[:, 0] for b in islice(batches, per_epoch)]
        assert all(len(start) == batch_size for start in starts)
        epochs.append([tuple(start) for start in np.concatenate(starts)])
        assert len(set(epochs[-1])) == len(epochs[-1]) == per_epoch * batch_size
    assert epochs[0] != epochs[1] != epochs[2], "each epoch in an order of its own"
    seen = {window for epoch in epochs for window in epoch}
    assert len(seen) == len(windows) == 26, "what an epoch leaves out, for want of a whole batch, others have"


@pytest.mark.parametrize("first", [0, 1, 3, 4, 5, 8, 11])
def test_starting_later_continues_the_same_batches(tmp_path: Path, first: int):
    """Four batches an epoch: `first` within the first epoch, at its end, and in later ones."""
    windows = everything(numbered(tmp_path, [[5, 16], [17]]), 3, 2)
    assert len(windows) // 6 == 4
    straight = islice(windows.batches(6, seed=5), first, first + 6)
    later = islice(windows.batches(6, seed=5, first=first), 6)
    for one, other in zip(straight, later, strict=True):
        assert torch.equal(one["pixels"], other["pixels"])
        assert torch.equal(one["action"], other["action"])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_ranks_parts_are_the_whole_batch(tmp_path: Path, ranks: int):
    windows = everything(numbered(tmp_path, [[5, 16], [17]]), 3, 2)
    whole = islice(windows.batches(6, seed=5, first=3), 4)
    parts = [windows.batches(6, seed=5, first=3, part=(rank, ranks)) for rank in range(ranks)]
    for batch in whole:
        shares = [next(part) for part in parts]
        assert {len(share["index"]) for share in shares} == {6 // ranks}
        for name, value in batch.items():
            assert torch.equal(torch.cat([share[name] for share in shares]), value), name


def test_the_index_says_which_windows_they_are(tmp_path: Path):
    windows = everything(numbered(tmp_path, [[5, 16], [17]]), 3, 2)
    for batch in islice(windows.batches(6, seed=5), 9):
        again = windows.batch(batch["index"].numpy())
        assert torch.equal(batch["pixels"], again["pixels"])
        assert torch.equal(batch["action"], again["action"])


def test_the_seed_orders_the_batches(tmp_path: Path):
    windows = everything(numbered(tmp_path, [[30], [30]]), 2, 1)
    one, same, other = (labels(next(windows.batches(16, seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


# Statistics of the actions


@pytest.mark.parametrize("episodes", [[0, 1, 2], [3, 7], list(range(12))])
def test_action_statistics(counting_data: Path, episodes: list[int]):
    """Over the rows that lead to a frame, of the given episodes that a window fits into."""
    store = Store(counting_data)
    mean, std = Windows(store, np.array(episodes), 2, 3).action_statistics()
    rows = []
    for path in sorted(counting_data.iterdir()):
        shard = Shard(path)
        for length, offset in zip(shard.lengths, shard.offsets, strict=True):
            rows.append(shard.columns["action"][offset : offset + length - 1])
    chosen = np.concatenate([rows[e] for e in episodes if len(rows[e]) >= 3]).astype(np.float64)
    np.testing.assert_allclose(mean, chosen.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, chosen.std(0), rtol=1e-6)
    assert mean.dtype == std.dtype == np.float32
    assert mean.shape == std.shape == (2,)


def test_an_action_that_never_changes_is_not_scaled(tmp_path: Path):
    steps = np.zeros((9, 2), np.float32)
    steps[:, 1] = np.arange(9) % 2
    write_shard(
        shard_path(tmp_path, 0), [{"pixels": np.zeros((9, 8, 8, 3), np.uint8), "action": steps + 3}], {}
    )
    mean, std = everything(Store(tmp_path), 2, 1).action_statistics()
    np.testing.assert_allclose(mean, [3, 3.5])
    np.testing.assert_allclose(std, [1, 0.5])


# What is wrong is named


def with_action(folder: Path, episode: int, step: int, value: float) -> Store:
    """Three episodes of 10 frames in two shards, with one action replaced."""
    index, within = divmod(episode, 2)
    store = numbered(folder, [[10, 10], [10]])
    shard = store.shards[index]
    columns = {name: shard.columns[name].copy() for name in ("pixels", "action")}
    columns["action"][within * 10 + step] = value
    halves = [slice(o, o + n) for o, n in zip(shard.offsets, shard.lengths, strict=True)]
    episodes = [{name: column[half] for name, column in columns.items()} for half in halves]
    write_shard(shard_path(folder, index), episodes, {})
    return Store(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("episode", [0, 1, 2])
def test_an_action_that_is_not_finite_is_named(tmp_path: Path, episode: int, value: float):
    windows = everything(with_action(tmp_path, episode, 4, value), 3, 2)
    for attempt in (windows.action_statistics, lambda: windows.batch(np.arange(len(windows)))):
        with pytest.raises(
            UserError, match=rf"{tmp_path}: episode {episode} has a number in action that is not finite"
        ):
            attempt()


def test_the_action_at_an_episodes_last_frame_is_not_used(tmp_path: Path):
    """Published files hold NaN there: no frame follows."""
    windows = everything(with_action(tmp_path, 1, 9, np.nan), 3, 2)
    assert torch.isfinite(windows.batch(np.arange(len(windows)))["action"]).all()
    assert np.isfinite(windows.action_statistics()).all()


def test_episodes_too_short_for_a_window(tmp_path: Path):
    store = numbered(tmp_path, [[15, 3], [16]])
    with pytest.raises(UserError, match=r"spans 16 frames; the longest episode has 15; lower data\.context"):
        Windows(store, np.array([0, 1]), 4, 5)
    assert len(Windows(store, np.array([0, 1, 2]), 4, 5)) == 1


def test_fewer_windows_than_a_batch(tmp_path: Path):
    windows = everything(numbered(tmp_path, [[5, 6]]), 3, 2)
    assert len(next(windows.batches(3, seed=0))["action"]) == len(windows) == 3
    with pytest.raises(UserError, match=r"3 windows are fewer than train\.batch_size=4"):
        next(windows.batches(4, seed=0))
