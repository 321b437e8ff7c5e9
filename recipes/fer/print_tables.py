"""Print the CSV of `recipes.fer.tables` as Markdown, and draw gain against real faces per class.

    python -m recipes.fer.print_tables recipes/fer/tables.csv --plot docs/fer_gain.png

A gain is the difference, seed by seed, to the condition without synthetics that is best on the
validation cut; intervals are of Student's t over seeds, 95 %. Nothing is chosen on test faces.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy import stats

from expraug.expressions import Expression
from recipes.fer.conditions import CONDITIONS, OWN
from recipes.fer.fold_tensors import VALIDATION
from recipes.fer.folds import SETTINGS, Setting
from recipes.fer.results import read_results
from recipes.fer.tables import TUNING

SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "mean_ap", "rare_ap", "rare_recall", "ece")
BRIEF = ("accuracy", "balanced_accuracy", "rare_ap", "rare_recall")
GAINED = ("accuracy", "balanced_accuracy", "rare_ap", "rare_recall")

Runs = dict[str, dict[int, dict[str, float]]]
"""Metrics by condition and seed, of one setting, net and test set."""


def collect(rows: Sequence[dict[str, str]], test_set: str) -> dict[tuple[str, str], Runs]:
    """Return the metrics on one test set by setting and net, those of the rare classes added."""
    found: dict[tuple[str, str], Runs] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["test_set"] != test_set or row["condition"] == TUNING:
            continue
        rare = SETTINGS[row["setting"]].rare
        metrics = {k: float(v) for k, v in row.items() if v and k in _numbers()}
        for kind in ("ap", "recall"):
            of_rare = [metrics[f"{kind}_{e}"] for e in rare if f"{kind}_{e}" in metrics]
            metrics[f"rare_{kind}"] = float(np.mean(of_rare)) if of_rare else float("nan")
        found[row["setting"], row["net"]][row["condition"]][int(row["seed"])] = metrics
    return found


def _numbers() -> set[str]:
    by_class = {f"{kind}_{e}" for kind in ("recall", "ap") for e in Expression}
    return by_class | {"accuracy", "balanced_accuracy", "macro_f1", "mean_ap", "ece"}


def best_without(validation: Runs) -> str:
    """Return the condition without synthetics of the highest accuracy and mean average precision
    together on the validation cut, among those with the most seeds.

    Raises:
        ValueError: no condition without synthetics was trained.
    """
    plain = {
        name: runs
        for name, runs in validation.items()
        if not CONDITIONS[name].synthetic and CONDITIONS[name].extra != OWN
    }
    if not plain:
        raise ValueError("no condition without synthetics was trained, so there are no gains")
    most = max(map(len, plain.values()))
    return best_of({name: runs for name, runs in plain.items() if len(runs) == most})


def best_of(validation: Runs) -> str:
    """Return the condition of the highest accuracy and mean average precision together."""
    worth = {
        name: np.mean([r["accuracy"] + r["mean_ap"] for r in runs.values()])
        for name, runs in validation.items()
    }
    return max(worth, key=lambda name: worth[name])


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % t interval; nan for fewer than two values."""
    if len(values) < 2:
        return float(np.mean(values)) if values else float("nan"), float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def gains(runs: Runs, name: str, control: str, metric: str) -> list[float]:
    """Return by how much a condition is better than the control, for each seed of both."""
    shared = sorted(set(runs[name]) & set(runs[control]))
    return [runs[name][seed][metric] - runs[control][seed][metric] for seed in shared]


def percent(value: tuple[float, float], sign: str = "") -> str:
    """Return "mean ± half" in per cent, the mean alone where there is no interval."""
    mean, half = (100 * v for v in value)
    return f"{mean:{sign}.1f}" if np.isnan(half) else f"{mean:{sign}.1f} ± {half:.1f}"


def table(setting: Setting, runs: Runs, control: str, shown: Sequence[str] = SHOWN) -> str:
    """Return a Markdown table: a row per condition, its metrics, and its gains over the control."""
    rare = ", ".join(map(str, setting.rare))
    names = [name.replace("_", " ") for name in shown]
    gained = [f"gain in {name.replace('_', ' ')}" for name in GAINED]
    lines = [
        f"Rare: {rare}. Gains over *{control}*.\n",
        f"| condition | seeds | {' | '.join(names)} | {' | '.join(gained)} |",
        "|---" * (2 + len(names) + len(gained)) + "|",
    ]
    for name, by_seed in runs.items():
        cells = [name, str(len(by_seed))]
        cells += [percent(interval([r[m] for r in by_seed.values()])) for m in shown]
        for metric in GAINED:
            differences = [] if name == control else gains(runs, name, control, metric)
            cells.append(percent(interval(differences), "+") if differences else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(
    rows: Sequence[dict[str, str]],
    tables: dict[tuple[str, str], Runs],
    controls: dict[tuple[str, str], str],
    condition: str,
    file: Path,
) -> None:
    """Draw, for each class of each setting, the gain in average precision against the number of
    real training faces."""
    from matplotlib import pyplot as plt

    counts = {(r["setting"], r["net"]): json.loads(r["faces_by_class"]) for r in rows}
    figure, axes = plt.subplots(figsize=(7, 4))
    for key, runs in tables.items():
        if condition not in runs or controls[key] == condition:
            continue
        points = []
        for expression in SETTINGS[key[0]].classes:
            gain, half = interval(gains(runs, condition, controls[key], f"ap_{expression}"))
            points.append((counts[key][str(expression)], 100 * gain, 100 * half))
        x, y, half = np.array(points).T
        axes.errorbar(x, y, half, fmt="o", capsize=3, alpha=0.7, label=" ".join(key))
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(xscale="log", xlabel="real training faces of the class")
    axes.set_ylabel("gain in average precision, points")
    axes.set_title(f"{condition}, over {', '.join(sorted(set(controls.values())))}", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def main(
    results: Annotated[Path, typer.Argument(help="CSV of recipes.fer.tables.")],
    test_set: str = "pooled",
    condition: Annotated[str, typer.Option(help="Of the plot.")] = "transfer 6/64, neutral",
    control: Annotated[
        str | None, typer.Option(help="Gains over this; else over the best without synthetics.")
    ] = None,
    brief: Annotated[bool, typer.Option(help="Fewer metrics.")] = False,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="PNG to draw.")] = None,
) -> None:
    rows = read_results(results)
    validation, tested = collect(rows, VALIDATION), collect(rows, test_set)
    controls = {key: control or best_without(runs) for key, runs in validation.items()}
    for (setting, net), runs in tested.items():
        print(f"\n**{setting}, {net}, {test_set}.** ", end="")
        print(table(SETTINGS[setting], runs, controls[setting, net], BRIEF if brief else SHOWN))
    if plot_file is not None:
        plot(rows, tested, controls, condition, plot_file)


if __name__ == "__main__":
    typer.run(main)
