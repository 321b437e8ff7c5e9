"""Print the results CSV as Markdown: mean ± 95 % interval over seeds, and paired differences.

    python -m recipes.fer.table recipes/fer/fer.csv

A condition with synthetics is compared with the condition without them that is best on the
*validation* faces, seed by seed; nothing is chosen on the test set. Rows whose synthetics were made
in different ways (column `path`) are never in one table: those of the product's pipeline are shown,
or with `--path` others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from recipes.fer.metrics import interval, paired
from recipes.fer.results import PIPELINE, read_results

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
Runs = dict[str, dict[int, dict[str, str]]]
"""Rows by condition and seed, of one setting and test set."""


def collect(rows: list[dict[str, str]]) -> dict[tuple[str, str], Runs]:
    """Return the rows by (setting, test set), condition and seed; a later one replaces an earlier.

    The conditions of an ablation, setting "lfw: gate off", become conditions of "lfw": "strong,
    gate off".
    """
    found: dict[tuple[str, str], Runs] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        setting, _, change = row["setting"].partition(": ")
        condition = f"{row['condition']}, {change}" if change else row["condition"]
        found[setting, row["test_set"]][condition][int(row["seed"])] = row
    return found


def values(runs: dict[int, dict[str, str]], metric: str, seeds: list[int]) -> list[float]:
    # a set has no recall of a class that it does not have
    return [float(runs[seed][metric] or "nan") for seed in seeds]


def best_without(runs: Runs, metric: str) -> str | None:
    """Return the condition without synthetics of the highest mean, with the most seeds run."""
    plain = [condition for condition in runs if "+" not in condition]
    most = max((len(runs[condition]) for condition in plain), default=0)
    full = [condition for condition in plain if len(runs[condition]) == most]
    means = {
        condition: interval(values(runs[condition], metric, sorted(runs[condition])))[0]
        for condition in full
    }
    return max(means, key=lambda condition: means[condition]) if means else None


def percent(mean: float, half: float, sign: str = "") -> str:
    """Return "mean ± half" in per cent, the mean alone where one seed gives no interval, "–" where
    there is no mean."""
    if math.isnan(mean):
        return "–"
    shown = f"{100 * mean:{sign}.1f}"
    return shown if math.isnan(half) else f"{shown} ± {100 * half:.1f}"


def table(runs: Runs, control: str | None, metrics: list[str]) -> str:
    """Return one Markdown table: a row per condition, with its difference to the control."""
    recalls = sorted({k for a in runs.values() for r in a.values() for k in r if "recall" in k})
    there = [k for k in recalls if any(r[k] for a in runs.values() for r in a.values())]
    shown = metrics + there
    names = [m.replace("recall_", "").replace("_", " ") for m in shown]
    lines = [
        "| condition | seeds | "
        + " | ".join(names)
        + f" | {metrics[0].replace('_', ' ')} gained | p |",
        "|---" * (len(shown) + 4) + "|",
    ]
    for condition, by_seed in runs.items():
        seeds = sorted(by_seed)
        cells = []
        for metric in shown:
            mean, half = interval(values(by_seed, metric, seeds))
            cells.append(percent(mean, half) if metric in metrics else f"{100 * mean:.0f}")
        gained = p_value = ""
        if control and condition != control:
            shared = sorted(set(seeds) & set(runs[control]))
            pair = [values(runs[a], metrics[0], shared) for a in (condition, control)]
            if shared:
                mean, half, p = paired(*pair)
                gained, p_value = percent(mean, half, "+"), ("" if math.isnan(p) else f"{p:.4f}")
        name = f"**{condition}**" if condition == control else condition
        lines.append(f"| {name} | {len(seeds)} | " + " | ".join([*cells, gained, p_value]) + " |")
    return "\n".join(lines)


def main(
    results: Annotated[Path, typer.Argument(help="CSV that `recipes.fer.train` wrote.")],
    metric: Annotated[
        str, typer.Option(help="That is compared, and chosen by.")
    ] = "balanced_accuracy",
    setting: Annotated[str, typer.Option(help="Only this one.")] = "",
    control: Annotated[str, typer.Option(help="Condition to compare with.")] = "",
    path: Annotated[str, typer.Option(help="How the synthetics were made.")] = PIPELINE,
) -> None:
    rows = read_results(results)
    there = sorted({row["path"] for row in rows})
    if path not in there:
        raise typer.BadParameter(f"{results} has no row with path {path!r}; it has {there}")
    found = collect([row for row in rows if row["path"] == path])
    for (name, test), runs in found.items():
        if setting and name != setting:
            continue
        chosen = control or best_without(found.get((name, "validation"), runs), metric)
        print(f"\n### {name}, tested on {test} ({path})\n")
        print(table(runs, chosen, [metric, *(m for m in METRICS if m != metric)]))


if __name__ == "__main__":
    typer.run(main)
