"""The tables of the pages that stand on results/, written into them from there alone: `make page`.

A page has a table between the lines `<!-- results: NAME -->` and `<!-- end of results -->`; NAME is one of
TABLES. docs/results.md is made whole, with its curves. tests/test_page.py fails where a page is stale.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import benchmark_tables
import controls_table
import curves_table
import images_table
import numpy as np
import results_tables
import task_table
import understanding_tables
from image_ranking import ranking
from results_tables import cell, markdown, sentences
from sweep_results import FLOOR, MODEL, OBJECTIVE, TRUTH, read
from sweep_run import held
from understanding_tables import POLICIES

from worldjepa.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGES = ("README.md", "docs/recipe.md")
BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end of results -->\n)", re.DOTALL)


def seeds() -> str:
    """Near goals of every seed of the recipe."""
    found = read("reacher", RESULTS)
    near, lewm = (
        cell([result["measured"][name]["rows"][MODEL] for result in found])
        for name in ("near", "lewm_planner")
    )
    minutes = [f"{result['seconds']['train'] / 60:.1f}" for result in found]
    return sentences(
        f"Over {len(found)} training seeds, {_and(minutes)} minutes each, the same recipe reaches {near} of",
        f"{found[0]['measured']['near']['rows'][MODEL]['goals']} such goals; {lewm} with LeWorldModel's own",
        "planner, whose paper reports 86 %.",
    )


def images() -> str:
    found = held(RESULTS / "images_cpu.json")
    labels = {"trained": "`images_cpu`", "untrained": "the same encoder untrained"}
    rows = []
    for name, row in found["rows"].items():
        shots = [row["shots"][count]["mean"] for count in ("1", "5", "10", "100")]
        texts = [f"{value:.1f} %" for value in (row["linear"], row["knn"], *shots)]
        texts[0] = f"**{texts[0]}**" if name == "trained" else texts[0]
        rows.append([labels.get(name, name), *texts])
    said = sentences(
        f"`make images` took {found['minutes']} minutes on {found['machine']}:",
        f"{found['step']:,} steps of {found['batch_size']} images, one seed.",
    )
    head = [
        "Fashion-MNIST, 10,000 test images",
        *("linear probe", "kNN", "1 label a class", "5", "10", "100"),
    ]
    return f"{said}\n\n{markdown(head, rows)}"


def selection() -> str:
    """Whether the loss ranks runs on images as a probe does."""
    found = ranking(held(RESULTS / "image_selection.json")["runs"])
    return sentences(
        f"Over {found['runs']} short runs on Fashion-MNIST, a grid of λ, learning rate and steps, Spearman's",
        f"correlation of -loss/λ^α with the linear probe is {found['spearman_at_0.4']:.2f} at α = 0.4,",
        f"{found['spearman_at_0']:.2f} at α = 0, and at best {found['spearman_at_best']:.2f}, at α =",
        f"{found['best_alpha']:.1f} (`scripts/figures/image_selection.py`).",
    )


def losses() -> str:
    """LeJEPA beside the rival losses, on images."""
    found = images_table.done(held(RESULTS / "images_table.json")["runs"])
    said = sentences(
        f"Fashion-MNIST, {images_table.MINUTES:g} minutes a run on two cores; ±: 95 % interval of the mean",
        f"over seeds. {images_table.verdict(found)}.",
    )
    return f"{images_table.table(found)}\n\n{said}"


def task_rules() -> str:
    return task_table.table(held(RESULTS / "tasks.json"))


def tasks() -> str:
    """What the recipe reaches on every task, beside floor and bound."""
    found = read("tasks", RESULTS)
    rows = []
    for recipe in task_table.RECIPES:
        own = [result for result in found if result["recipe"] == recipe]
        ours, pldm = ([r for r in own if r["axes"][OBJECTIVE] == name] for name in ("jepa", "pldm"))
        if not ours:
            continue
        near = [result["measured"]["near"]["rows"] for result in ours]
        cells = [_over_seeds(near, policy) for policy in POLICIES]
        share = np.mean([row[MODEL]["success"] for row in near]) / max(near[0][TRUTH]["success"], 1e-9)
        cells[3] = f"**{cells[3]}**"
        theirs = cell([result["measured"]["near"]["rows"][MODEL] for result in pldm])
        rows.append([f"`{recipe}`", *cells[:4], theirs, cells[4], f"{100 * share:.0f} %", str(len(ours))])
    head = ["task", *POLICIES[:3], MODEL, "PLDM's terms in SIGReg's place", *POLICIES[4:], "of it", "seeds"]
    if not any(row[5] for row in rows):
        head, rows = [h for h in head if "PLDM" not in h], [row[:5] + row[6:] for row in rows]
    return markdown(head, rows)


def pldm_verdict() -> str:
    """How far SIGReg is ahead of PLDM's terms on each task that has both, and on the eight together."""
    runs = controls_table.pairs(read("tasks", RESULTS), "pldm")
    each = []
    for recipe in (recipe for recipe in task_table.RECIPES if any(r["recipe"] == recipe for r in runs)):
        mean, half = controls_table.ahead([r for r in runs if r["recipe"] == recipe], "near", "pldm")
        each.append(f"{recipe} {mean:+.1f} ± {half:.1f}" if half else f"{recipe} the same on every goal")
    suite = [r for r in runs if r["recipe"] != "swimmer_aboard"]
    mean, half = controls_table.ahead(suite, "near", "pldm")
    count = len({r["recipe"] for r in suite})
    of = "the eight" if count == 8 else f"{count} of the eight"
    return sentences(
        "SIGReg's success less that of PLDM's terms, in points (±: 95 % interval over the goals, which both",
        f"try): {', '.join(each)}; mean over {of} {mean:+.1f} ± {half:.1f}.",
    )


def tasks_long() -> str:
    """Tasks that fall short, with more episodes and steps."""
    found = read("tasks_long", RESULTS)
    told = []
    for result in found:
        rows = result["measured"]["near"]["rows"]
        ours, truth = cell([rows[MODEL]]), cell([rows[TRUTH]])
        share = rows[MODEL]["success"] / max(rows[TRUTH]["success"], 1e-9)
        told.append(f"{result['recipe']} {ours}, true dynamics {truth}: {100 * share:.0f} % of it")
    options = found[0]["options"]
    return sentences(
        f"With {options['collect.episodes']:,} episodes and {options['train.steps']:,} steps (`python",
        "scripts/sweep.py tasks_long`, held-out goals of its own",
        f"data, one seed): {'; '.join(told)}.",
    )


def residual() -> str:
    """A predictor that tells what changes beside one that tells the next latent, on the same goals."""
    return _beside_tasks("tasks_residual", "the next latent", "what changes")


def smooth() -> str:
    """Models of frames that are drawn larger and averaged beside those of `tasks`, on the same goals."""
    return _beside_tasks("tasks_smooth", "drawn at their size", "drawn larger, averaged")


def _beside_tasks(sweep: str, usual: str, other: str) -> str:
    """Success of the runs of `sweep`, called `other`, beside that of SIGReg's in `tasks`, called `usual`."""
    both = [
        [result for result in read(name, RESULTS) if result["axes"].get(OBJECTIVE, "jepa") == "jepa"]
        for name in ("tasks", sweep)
    ]
    rows = []
    for recipe in task_table.RECIPES:
        whole, changed = (
            [r["measured"]["near"]["rows"] for r in found if r["recipe"] == recipe] for found in both
        )
        if whole and changed:
            cells = [_over_seeds(whole, FLOOR), cell([row[MODEL] for row in whole])]
            cells += [f"**{cell([row[MODEL] for row in changed])}**", _over_seeds(whole, TRUTH)]
            rows.append([f"`{recipe}`", *cells, f"{len(whole)}, {len(changed)}"])
    return markdown(["task", FLOOR, usual, other, "true dynamics", "seeds"], rows)


def one_model() -> str:
    """One model for all tasks beside a model each."""
    return results_tables.against_single(read("eight", RESULTS), read("tasks", RESULTS))


def closed_loop() -> str:
    """Models of the recipe's data, of as much again, and of what the first one's planner collected."""
    found = read("close_loop", RESULTS)
    rows = []
    for result in found:
        measured, axes = result["measured"], result["axes"]
        near, far = (measured[name]["rows"] for name in ("near", "far50"))
        cells = [cell([near[FLOOR]]), f"**{cell([near[MODEL]])}**", cell([near[TRUTH]]), cell([far[MODEL]])]
        read_off = f"{measured['probe']['mean_r2']['coordinates']:.2f}"
        names = [f"`{axes['recipe']}`", axes["data"], str(axes["train.seed"]), f"{result['frames']:,}"]
        rows.append([*names, *cells, read_off])
    names = ["task", "data", "seed", "frames"]
    goals = ["near: random actions", "near", "near: true dynamics", "far50"]
    return markdown([*names, *goals, "R² of coordinates"], rows)


def filmed() -> str:
    """What is seen in the film of the tasks, and how far those models were trained."""
    films = held(RESULTS / "film.json")
    steps: dict[int, list[str]] = {}
    for recipe in task_table.RECIPES:
        steps.setdefault(films[recipe]["checkpoint"], []).append(recipe)
    models = "; ".join(f"{count:,}: {_and(recipes)}" for count, recipes in sorted(steps.items()))
    reached = sum(film["reached"] for film in films.values())
    return sentences(
        "Of each task the first held-out goal, as start, now, goal, played until it is reached or the budget",
        f"is used: {reached} of the {len(films)} are reached. Steps of training of the models that plan",
        f"here: {models}.",
    )


def _over_seeds(rows: Sequence[dict[str, Any]], policy: str) -> str:
    """Floor and bound know nothing of a training: every seed has the same."""
    return cell([row[policy] for row in rows][: 1 if policy in (FLOOR, TRUTH) else None])


def reacher() -> str:
    """The recipe's own sweep, as a table of policies."""
    found = read("reacher", RESULTS)
    rows = []
    for name in ("near", "lewm", "lewm_planner"):
        measured = [result["measured"][name]["rows"] for result in found]
        cells = [_over_seeds(measured, policy) for policy in POLICIES]
        cells[3] = f"**{cells[3]}**"
        rows.append([f"`{name}`", *cells])
    first = found[0]
    minutes = [f"{result['seconds']['train'] / 60:.1f}" for result in found]
    steps = [f"{result['steps']:,}" for result in found]
    goals = first["measured"]["near"]["rows"][MODEL]["goals"]
    said = sentences(
        f"{len(found)} training seeds, {_and(minutes)} minutes of training, {_and(steps)} steps;",
        f"{goals} held-out goals of each protocol and seed.",
    )
    return f"{said}\n\n{markdown(['goals', *POLICIES], rows)}"


def quick() -> str:
    """The model of two minutes: how soon most near goals are reached."""
    found = held(RESULTS / "reacher_quick" / "seed0.json")
    near, far = (found["measured"][name]["rows"][MODEL] for name in ("near", "far50"))
    spent = found["seconds"]
    return sentences(
        f"After {spent['collect']:.0f} s of collection and {spent['train']:.0f} s of training",
        f"({found['steps']:,} steps, one seed) it reaches {near['reached']} of {near['goals']} near goals,",
        f"{far['reached']} of {far['goals']} of `far50` (the sweep `reacher_quick`).",
    )


def curves() -> str:
    """Success against steps, frames and parameters."""
    return curves_table.table(read("curves", RESULTS))


def harder() -> str:
    """Harder goals by models of uniform and of coloured noise."""
    found = read("harder", RESULTS)
    return results_tables.success_table(found, list(found[0]["measured"]))


def controls() -> str:
    """SIGReg and what stands in its place."""
    return controls_table.table(controls_table.whole(read("controls_short", RESULTS)))


def controls_verdict() -> str:
    return sentences(controls_table.verdict(controls_table.whole(read("controls_short", RESULTS))))


def _and(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


TABLES: dict[str, Callable[[], str]] = {
    name.__name__: name
    for name in (
        understanding_tables.goals,
        seeds,
        understanding_tables.protocols,
        understanding_tables.probes,
        understanding_tables.surprise,
        understanding_tables.decoder,
        understanding_tables.geometry,
        images,
        losses,
        selection,
        task_rules,
        filmed,
        tasks,
        pldm_verdict,
        tasks_long,
        residual,
        smooth,
        one_model,
        closed_loop,
        reacher,
        quick,
        curves,
        harder,
        controls,
        controls_verdict,
        benchmark_tables.reading,
        benchmark_tables.collecting,
        benchmark_tables.scoring,
        benchmark_tables.profile,
        benchmark_tables.sigreg,
    )
}


def filled(page: str) -> str:
    """A page with its tables as results/ has them."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", page)


def main() -> None:
    for name in PAGES:
        text = (ROOT / name).read_text("utf-8")
        write_text(ROOT / name, filled(text))
        print(ROOT / name)
    results_tables.main(["--to", str(ROOT / "docs")])


if __name__ == "__main__":
    main()
