"""The points of curves as a table: what each setting of steps, frames and parameters reaches on each task."""

from collections.abc import Sequence

from results_curves import CURVES, USUAL, drawn, of_curve, short
from results_tables import cell, markdown
from sweep_results import FLOOR, MODEL, Result, rows_of


def table(results: Sequence[Result]) -> str:
    """A row for each point of each curve that has two, from little to much, and a column for each recipe and
    evaluation; the recipe itself, a point of all curves, in bold."""
    recipes = list(dict.fromkeys(result["recipe"] for result in results))
    evaluations = list(dict.fromkeys(name for result in results for name in result["measured"]))
    columns = [(recipe, name) for name in evaluations for recipe in recipes]

    def row(name: str, found: Sequence[Result], policy: str = MODEL) -> list[str]:
        own = [rows_of([r for r in found if r["recipe"] == of], goals, policy) for of, goals in columns]
        return [name, *(cell(rows[: 1 if policy == FLOOR else None]) for rows in own)]

    rows = [row(FLOOR, results, FLOOR)]
    for kind in drawn(results):
        what, where = CURVES[kind]
        settings: dict[str, list[Result]] = {}
        for result in of_curve(results, kind):
            settings.setdefault(result["axes"]["setting"], []).append(result)
        for setting, found in sorted(settings.items(), key=lambda item: where(item[1][0])):
            name = f"{short(where(found[0]))} {what}"
            rows.append(row(f"**{name}**" if setting == USUAL else name, found))
    return markdown(["", *(f"{recipe}, `{name}`" for recipe, name in columns)], rows)
