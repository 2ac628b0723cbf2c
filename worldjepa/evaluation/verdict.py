"""Is a run healthy? One that collapsed, or diverged, is called so, with the step and the number that show it.

What counts, and the recipes stay far away from:

- diverged: a step's loss or gradient was not finite, or the loss has grown to ten times what it began with
  and beyond 10;
- collapsed, of latents that a loss should keep spread: RankMe within a tenth of its range above 1; a mean
  standard deviation below a tenth of SIGReg's target; SIGReg above half of what latents that are all 0 give.
"""

import re

import torch

from ..config import Config
from ..model_config import SIGRegConfig
from ..run import Run
from ..sigreg import REFERENCE_BATCH, EppsPulley

FACTOR = 10.0
# Steps after which the running statistics of the BatchNorms, by which latents are evaluated, mean something.
SETTLED = 100
# Of which objectives latents should have what; those of others (frozen, decoder, supervised) are free.
UNIT_VARIANCE = {"jepa", "none", "ema", "pldm", "vicreg", "teacher", "predictor", "teacher_predictor"}
FULL_RANK = UNIT_VARIANCE | {"simclr", "byol"}


class Judge:
    """Reads the lines of metrics.jsonl in their order.

    Attributes:
        diverged, collapsed: a sentence each that names since when and by what it shows; "" where it does not.
        step: of the line read last.
    """

    def __init__(self, config: Config):
        self.model, self.constant = config.model, constant_latents(config.model.sigreg)
        self.step, self.diverged, self.collapsed = 0, "", ""
        self._now: dict[str, float] = {}
        self._first: float | None = None
        self._since: dict[str, int] = {}

    def read(self, row: dict[str, float]) -> None:
        self.step = int(row["step"])
        self._now |= row
        if "train/loss" in row:
            self.diverged = self._loss(row["train/loss"])
        if "latent/rank" in row and self.step >= SETTLED:
            self.collapsed = self._latents()

    def _from(self, what: str, holds: bool) -> int:
        """The step from which on `what` has held without a break, this one included."""
        if not holds:
            self._since.pop(what, None)
        return self._since.setdefault(what, self.step) if holds else self.step

    def _loss(self, loss: float) -> str:
        self._first = loss if self._first is None else self._first
        exploded = not loss <= FACTOR * max(1.0, self._first)
        since = self._from("diverged", exploded)
        told = f"Diverged from step {since} on: the loss is {loss:.3g} at step {self.step}"
        return f"{told}, where it began with {self._first:.3g}." if exploded else ""

    def _latents(self) -> str:
        objective, full, signs = self.model.objective, self.model.latent, []
        rank, std = self._now["latent/rank"], self._now["latent/std_mean"]
        if objective in FULL_RANK and rank < 1 + (full - 1) / FACTOR:
            signs.append(f"RankMe {rank:.1f} of {full}")
        if objective in UNIT_VARIANCE:
            if std < 1 / FACTOR:
                signs.append(f"mean standard deviation {std:.2g} (target 1)")
            sigreg = self._now.get("train/sigreg", 0.0)
            if sigreg > self.constant / 2:
                signs.append(f"SIGReg {sigreg:.1f} (constant latents: {self.constant:.1f})")
        since = self._from("collapsed", bool(signs))
        told = f"Collapsed from step {since} on: at step {self.step} held-out latents have "
        return told + ", ".join(signs) + "." if signs else ""


def constant_latents(config: SIGRegConfig) -> float:
    """SIGReg of latents that are all 0, at any batch size: their φ_N is 1. No sum over ranks is taken, since
    a rank may ask for it when others are gone."""
    test = EppsPulley(config.t_max, config.knots)
    _, target, weight = test.quadrature(torch.empty(0, dtype=torch.float64))
    return REFERENCE_BATCH * float((weight * (1 - target).square()).sum())


def failure(run: Run, step: int) -> str:
    """That a step after `step`, the last one logged, was not finite; "" where there is none. What failed
    earlier has been overcome, or was of a run begun anew."""
    found = {
        int(number): path
        for path in sorted((run.path / "failures").glob("step_*.pt"))
        for number in re.findall(r"^step_(\d+)_", path.name)
    }
    later = {number: path for number, path in found.items() if number > step}
    if not later:
        return ""
    path = later[max(later)].relative_to(run.path)
    return f"Diverged at step {max(later)}: the loss or its gradient was not finite ({path} has the batch)."


def verdict(run: Run) -> str:
    """One sentence that names what happened to a run, from which step on, and by which number; "" where it is
    healthy, or too young to tell."""
    judge = Judge(run.config)
    for row in run.metrics():
        judge.read(row)
    return failure(run, judge.step) or judge.diverged or judge.collapsed
