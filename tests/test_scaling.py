"""docs/scaling.md: its tables are what the script prints, and the script's formulas count as torch does."""

import runpy
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from worldjepa.encoders import build_encoder
from worldjepa.linear import fuse_attention
from worldjepa.model_config import EncoderConfig
from worldjepa.recipes import load_config
from worldjepa.sigreg import EppsPulley
from worldjepa.world_model import WorldModel

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "scaling.py"))
TINY, GIANT = SCRIPT["TINY"], SCRIPT["GIANT"]


@pytest.fixture(scope="module")
def lewm() -> WorldModel:
    return WorldModel(load_config("reacher_gpu"), action_dim=2).eval()


def flops(call: object) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()  # type: ignore[operator]
    return counter.get_total_flops()


def test_the_page_holds_the_tables_and_the_readme_leads_to_it() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    assert [table for table in SCRIPT["tables"]() if table not in page] == []
    assert page.count("\n|---") == len(SCRIPT["tables"]())
    assert "(docs/scaling.md)" in (ROOT / "README.md").read_text("utf-8")


def test_parameters_are_counted(lewm: WorldModel) -> None:
    encoder = sum(p.numel() for p in lewm.encoder.parameters())
    assert encoder == TINY.parameters
    assert sum(p.numel() for p in lewm.parameters()) == SCRIPT["model_parameters"](TINY)
    with torch.device("meta"):
        giant = build_encoder(EncoderConfig(name="vit_gigantic_patch14_224"), 224)
    assert sum(p.numel() for p in giant.parameters()) == GIANT.parameters


def test_operations_are_counted(lewm: WorldModel) -> None:
    frames = torch.zeros(1, 4, 224, 224, 3, dtype=torch.uint8)
    batch = {"pixels": frames, "action": torch.zeros(1, 3, 10)}
    fuse_attention(lewm, False)  # what is fused is not counted on a CPU
    encoder = flops(lambda: lewm.encoder.backbone(torch.zeros(1, 3, 224, 224)))
    assert encoder == TINY.flops
    with torch.autocast("cpu", torch.bfloat16):
        whole = flops(lambda: lewm.loss(batch))
    assert whole / 4 == pytest.approx(TINY.flops + SCRIPT["BESIDE_FLOPS"], rel=1e-3)


def test_operations_of_the_largest_are_counted_too() -> None:
    with torch.device("meta"):
        giant = build_encoder(EncoderConfig(name="vit_gigantic_patch14_224"), 224).eval()
        fuse_attention(giant, False)
        assert flops(lambda: giant(torch.zeros(1, 3, 224, 224))) == GIANT.flops


def test_what_is_kept_for_the_backward_is_counted(lewm: WorldModel) -> None:
    """Of two frames more, so that what does not grow with the batch is left out."""
    fuse_attention(lewm, True)

    def kept(frames: int) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
            torch.autocast("cpu", torch.bfloat16),
        ):
            lewm.encoder.backbone(torch.rand(frames, 3, 224, 224)).sum()
        return sum(storages.values())

    assert kept(4) - kept(2) == pytest.approx(2 * TINY.kept, rel=0.1)


def test_sigreg_reduces_as_many_bytes_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[torch.Tensor] = []

    def record(x: torch.Tensor, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
        sums.append(x)
        return x, x.new_tensor(samples)

    monkeypatch.setattr("worldjepa.sigreg.sum_samples", record)
    model = load_config("reacher_gpu").model.sigreg
    EppsPulley(model.t_max, model.knots)(torch.randn(4, model.num_slices, 2))
    # The number of samples goes with them.
    assert 4 * (sums[0].numel() + 1) == SCRIPT["sigreg_bytes"]()
