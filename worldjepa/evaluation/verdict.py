"""Whether a run is healthy, from what it left, in a sentence."""

from ..run import Run


def verdict(run: Run) -> str:
    """That a run diverged or its latents collapsed, and by what that shows; empty where it is healthy."""
    failures = sorted(path.stem for path in (run.path / "failures").glob("*.pt"))
    if failures:
        return f"Diverged: a loss or gradient was not finite ({failures[0].replace('_', ' ')})."
    spreads = [row["latent/std_mean"] for row in run.metrics() if "latent/std_mean" in row]
    if spreads and spreads[-1] < 0.1:
        return f"Collapsed: the latents' mean spread is {spreads[-1]:.2g}, where SIGReg's target is 1."
    return ""
