"""Any timm backbone learns under the LeJEPA loss: models below 20M parameters of all eight families that the
paper's Figure 9 shows (arXiv 2511.08544), a few steps each."""

import pytest
import torch
from sklearn.datasets import load_digits

from worldjepa.data.images import from_arrays
from worldjepa.data.views import MultiCrop
from worldjepa.evaluation.geometry import rank_me
from worldjepa.image_jepa import ImageJEPA
from worldjepa.recipes import load_config

FAMILIES = {
    "convnext": (
        "convnext_zepto_rms convnext_atto convnext_atto_ols convnext_atto_rms convnext_femto "
        "convnext_femto_ols convnext_pico convnextv2_atto convnextv2_femto convnextv2_pico"
    ),
    "efficientnet": (
        "efficientnet_b0 efficientnet_b1 efficientnet_lite0 efficientnet_es mobilenetv1_100 mobilenetv2_050 "
        "mnasnet_050 semnasnet_075 tinynet_c mixnet_s"
    ),
    "inception_next": "inception_next_atto",
    "levit": "levit_128s levit_128 levit_192 levit_conv_128s levit_conv_128 levit_conv_192",
    "maxvit": "maxvit_pico_rw_256 maxvit_nano_rw_256 maxvit_rmlp_pico_rw_256 maxvit_rmlp_nano_rw_256",
    "maxxvit": (
        "coatnet_pico_rw_224 coatnet_nano_rw_224 coatnet_nano_cc_224 coatnet_rmlp_nano_rw_224 "
        "coatnext_nano_rw_224 maxxvit_rmlp_nano_rw_256"
    ),
    "resnet": (
        "resnet10t resnet14t resnet18 resnet18d resnet26 resnet26d resnetblur18 seresnet18 ecaresnet26t "
        "ecaresnext26t_32x4d"
    ),
    "vit": (
        "vit_tiny_patch16_224 vit_tiny_patch16_384 vit_xsmall_patch16_clip_224 vit_wee_patch16_reg1_gap_256 "
        "vit_pwee_patch16_reg1_gap_256 vit_dwee_patch16_reg1_gap_256 vit_dpwee_patch16_reg1_gap_256"
    ),
}
MODELS = [(family, name) for family, names in FAMILIES.items() for name in names.split()]
SIDE, BATCH, FIRST, STEPS = 64, 32, 4, 14


def test_there_are_enough_of_each_family() -> None:
    assert len(set(MODELS)) >= 50
    assert len(FAMILIES) == 8


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), MODELS)
def test_the_loss_falls_and_the_rank_does_not(family: str, name: str) -> None:
    words = [
        f"model.encoder.name={name}", f"images.global_size={SIDE}", "images.local_views=0", "images.jitter=0",
        "images.global_scale_min=0.8", "images.flip=0", "model.latent=8", "model.projector_hidden=64",
        "model.sigreg.num_slices=64",
    ]  # fmt: skip
    config = load_config("images_smoke", words)
    model = ImageJEPA(config).train()
    assert sum(p.numel() for p in model.encoder.parameters()) < 20e6
    pixels = (load_digits().images[:BATCH, :, :, None] * 15).astype("uint8")
    data = MultiCrop(from_arrays("digits", pixels), config.images, torch.device("cpu"))
    batch = next(data.batches(BATCH, 0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)

    def rank() -> float:
        with torch.no_grad():
            return rank_me(model.embed_views([batch["global"]])[0])

    losses = []
    for step in range(STEPS):
        if step == FIRST:
            # Random weights spread noise over all dimensions, which the very first steps take away.
            early = rank()
        loss = model.loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    late = rank()
    print(f"{family} {name}: loss {losses[0]:.3f} to {losses[-1]:.3f}, rank {early:.2f} to {late:.2f} of 8")
    assert losses[-1] < 0.8 * losses[0]
    assert late > max(0.97 * early, 4)
