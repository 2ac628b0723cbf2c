"""`worldjepa decode`: what the latents of a trained model hold and what it imagines, as pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..data.shards import Store
from ..data.windows import Windows, split_episodes
from ..errors import UserError
from ..evaluation.damage import told_from
from ..evaluation.decoder import (
    LatentDecoder,
    decode,
    fit_decoder,
    judge,
    learning,
    load_decoder,
    psnr,
    save_decoder,
)
from ..evaluation.decoder_figures import decode_figure, decode_film, decode_table
from ..evaluation.pictures import add_gif
from ..files import write_arrays
from ..run import Run
from ..trainer import choose_device
from ..world_model import WorldModel
from .train import open_store, require_actions


def run(config: Config) -> int:
    target = Run(config.run, config.checkpoint, config.data.path)
    device = choose_device(config.train)
    about = target.about(config, config.decode)
    results = target.result("decode", about)
    path = target.evaluation / "decode.json"
    films = [path.with_suffix(".mp4"), path.with_suffix(".gif")]
    if results is None:
        results, arrays = _evaluate(config, target, device)
        results = about | results
        write_arrays(path.with_suffix(".npz"), arrays)
        target.write_json("decode", results)
        _to_tensorboard(target, results, decode_figure(path), decode_film(path)[1], about["checkpoint"])
    with told_from(path):
        print(decode_table(results))
        print(path, path.with_name("decoder.safetensors"), decode_figure(path), sep="\n")
        # A call that was killed may have left the arrays alone, or the films of those before them.
        made = path.stat().st_mtime_ns
        if not all(film.exists() and film.stat().st_mtime_ns >= made for film in films):
            decode_film(path)
    print(*films, sep="\n")
    return 0


def _evaluate(
    config: Config, target: Run, device: torch.device
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    model, store, options = target.load_world_model(device), open_store(config), config.decode
    require_actions(model, store, target)
    context, frameskip = config.data.context, config.data.frameskip
    training, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    windows = _held_out(config, store, held_out)
    decoder = _decoder(config, target, model, Windows(store, training, 1, frameskip), device)
    order = np.random.default_rng(options.seed).permutation(len(windows))
    judged = np.sort(order[: options.windows])
    mse = judge(model, decoder, windows, judged, context)
    # Of each episode one.
    _, first = np.unique(windows.episodes[order], return_index=True)
    shown = order[np.sort(first)[: options.episodes]]
    decoded = decode(model, decoder, windows.batch(shown), context)
    films = {f.name: _bytes(getattr(decoded, f.name)) for f in dataclasses.fields(decoded)}
    results = {
        "environment": config.env.id,
        "context": context,
        "frameskip": frameskip,
        "windows": len(judged),
        "mse": {name: values.tolist() for name, values in mse.items()},
        "psnr": {name: [psnr(value) for value in values] for name, values in mse.items()},
    }
    return results, films


def _held_out(config: Config, store: Store, episodes: np.ndarray) -> Windows:
    """Stretches of the context and as many frames as are imagined."""
    frames, frameskip = config.data.context + config.decode.horizon, config.data.frameskip
    longest, span = store.lengths[episodes].max(), (frames - 1) * frameskip
    if longest <= span:
        raise UserError(
            f"{store.path}: {frames} frames, {frameskip} steps apart, span {span + 1} frames; the longest "
            f"held-out episode has {longest}; lower decode.horizon={config.decode.horizon}"
        )
    return Windows(store, episodes, frames, frameskip)


def _decoder(
    config: Config, target: Run, model: WorldModel, windows: Windows, device: torch.device
) -> LatentDecoder:
    """From the run folder, if one was trained on this checkpoint with these options; else trained now."""
    path: Path = target.evaluation / "decoder.safetensors"
    about = target.about(config, config.decode) | {"options": learning(config.decode)}
    empty = LatentDecoder(model.latent, model.image_size, config.decode.width)
    found = load_decoder(path, about, empty)
    if found is not None:
        return found.to(device)
    decoder = fit_decoder(model, windows, model.image_size, config.decode)
    save_decoder(decoder, path, about)
    return decoder


def _bytes(frames: Tensor) -> np.ndarray:
    return (255 * frames).round().to(torch.uint8).cpu().numpy()


def _to_tensorboard(target: Run, results: dict[str, Any], figure: Path, gif: Path, step: int) -> None:
    for name in ("reconstructed", "imagined"):
        for depth, value in enumerate(results["psnr"][name], 1):
            target.writer.add_scalar(f"eval/decode_psnr_{name}_{depth}", value, step)
    target.writer.add_image("eval/decode", imageio.imread(figure)[..., :3], step, dataformats="HWC")
    height, width, _ = imageio.imread(gif, index=0).shape
    add_gif(target.writer, "eval/decode_episodes", gif.read_bytes(), height, width, step)
    target.close()
