"""The pages' tables on the one model that is looked at in every way (scripts/grids/understanding.yaml)."""

from typing import Any

from results_tables import RESULTS, markdown, sentences
from sweep_results import FLOOR, MODEL, TRUTH
from sweep_run import held

from worldjepa.evaluation.surprise_figures import surprise_table

CLONING, INVERSE = "behaviour cloning", "inverse dynamics"
POLICIES = (FLOOR, CLONING, INVERSE, MODEL, TRUTH)


def looked_at() -> dict[str, Any]:
    """All that was measured of the one model that is looked at in every way."""
    return held(RESULTS / "understanding" / "seed0.json")["measured"]


def goals() -> str:
    """Near goals of that model."""
    near = looked_at()["near"]
    rows = [
        [
            f"{name}, same encoder" if name in (CLONING, INVERSE) else name,
            f"**{row['success']:.1f} %**" if name == MODEL else f"{row['success']:.1f} %",
            f"{row['interval'][0]:.1f} to {row['interval'][1]:.1f} %",
            f"{row['reached']} of {row['goals']}",
            f"{row['median_final_error']:.2f} × tolerance",
        ]
        for name, row in near["rows"].items()
    ]
    about = f"{near['pairs']} held-out goals of reacher, {near['goal_offset']} steps ahead"
    head = [f"{about}, budget {near['budget']}", "success", "95% interval", "reached", "median final error"]
    there = f"{near['already_there']} of {near['pairs'] + near['already_there']}"
    timed = near["rows"][MODEL]["seconds_per_decision"]
    said = sentences(
        f"{there} starts were already at their goal and are left out. One training seed; a decision takes",
        f"{1e3 * timed:.0f} ms for one arm, in a batch of all that are under way.",
    )
    return f"{markdown(head, rows)}\n\n{said}"


def protocols() -> str:
    """The same model and solver on harder goals."""
    measured = looked_at()
    rows = []
    for name in ("far50", "far100", "hold", "tight"):
        found = measured[name]["rows"]
        cells = [found[policy]["success"] for policy in POLICIES]
        texts = [f"{value:.1f} %" for value in cells]
        texts[3] = f"**{texts[3]}**"
        rows.append([f"`{name}`", *texts])
    truth = f"true dynamics ({measured['far50']['rows'][TRUTH]['goals']} goals)"
    return markdown(["protocol", FLOOR, CLONING, INVERSE, MODEL, truth], rows)


def probes() -> str:
    probe = looked_at()["probe"]
    sources = ["latent", "untrained", "pixels, PCA", "true coordinates"]
    asked = [
        ("angles, ridge", "coordinates", "ridge"),
        ("angles, MLP", "coordinates", "mlp"),
        ("angles, nearest neighbours", "coordinates", "knn"),
        ("velocities, MLP", "velocities", "mlp"),
        ("changes, MLP", "changes", "mlp"),
    ]
    rows = []
    for label, what, kind in asked:
        first, *others = (probe["means"][source][what][kind] for source in sources)
        low, high = first["episodes"]
        rows.append(
            [
                label,
                f"{first['r2']:.3f} ({low:.3f} to {high:.3f})",
                *(f"{other['r2']:.3f}" for other in others),
            ]
        )
    rollouts = probe["rollouts"]["coordinates"]
    imagined, still = rollouts["mlp, imagined"], rollouts["mlp, still"]
    depth = len(imagined) - 1
    said = sentences(
        f"At {depth} blocks ({depth * probe['frameskip']} steps) of a rollout the MLP still reads the angles",
        f"at R² {imagined[-1]:.3f}; of a world that stands still, {still[-1]:.3f}.",
    )
    return f"{markdown(['mean R²', 'latent', 'untrained encoder', *sources[2:]], rows)}\n\n{said}"


def surprise() -> str:
    return surprise_table(looked_at()["surprise"]).partition("\n\n")[0]


def decoder() -> str:
    psnr = looked_at()["decode"]["psnr"]
    one, five, fifteen = (psnr["imagined"][depth - 1] for depth in (1, 5, 15))
    return sentences(
        f"Held-out frames of reacher: {psnr['reconstructed'][0]:.1f} dB from their own latents; imagined",
        f"from three frames {one:.1f} dB one frame (5 steps) ahead, {five:.1f} dB five, {fifteen:.1f} dB",
        f"fifteen; the mean frame {psnr['mean frame'][0]:.1f} dB.",
    )


def geometry() -> str:
    found = looked_at()["geometry"]
    batch = found["slices"][0]
    return sentences(
        f"Of reacher: RankMe {found['rank']:.1f} of {found['latent']} ({found['gaussian']['rank']:.1f} of",
        f"Gaussian samples); in batches of {batch['samples']} a test at 5 % rejects",
        f"{100 * batch['rejected']:.0f} % of the slices; rank correlation of latent and physical distance",
        f"{found['distance_correlation']:.2f}, of the nearest tenth of the pairs",
        f"{found['near_correlation']:.2f}: latent distance is local.",
    )
