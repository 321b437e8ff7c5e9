"""Train the nets of the tables in docs/results.md, many at once, and append their metrics to a CSV.

    python -m recipes.fer.tables .gpu/tables --out work/fer/tables.csv --minutes 5 --device cuda

The folder is that of `python -m recipes.fer.pack_tables`. Synthetics are in it, or in that of
`--synthetics`, as `python -m recipes.fer.make_synthetics` writes them. Each setting is first tuned
on the validation cut, without synthetics. Groups of seeds are then trained by priority, and their
rows written as each ends; what the CSV holds is not trained again, so that work goes on where it
was broken off.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer

from recipes.fer.conditions import CONDITIONS, NONE, Condition
from recipes.fer.fold_tensors import VALIDATION, Fold, read_fold
from recipes.fer.folds import SETTINGS, SIDE
from recipes.fer.metrics import measure
from recipes.fer.plan import NETS, PLANS, Plan
from recipes.fer.results import append, read_results
from recipes.fer.training import Recipe, Run, predict, train_together
from recipes.training.precision import has_bfloat16

_T = TypeVar("_T")
TUNING = "tuning"


def grid(base: Recipe) -> Iterator[Recipe]:
    """Yield what is tried first without synthetics: balance and mixing."""
    for balance, mixup in product((1.0, 0.5), (0.0, 0.2)):
        yield replace(base, balance=balance, mixup=mixup)


def second_grid(best: Recipe) -> Iterator[Recipe]:
    """Yield what is tried around the best of the first grid."""
    yield replace(best, smoothing=0.0)
    yield replace(best, lr=best.lr * 2)
    yield replace(best, lr=best.lr / 2)
    yield replace(best, mixup=0.4, cutmix=True)


def described(recipe: Recipe) -> str:
    """Return what tells one recipe from another, as it stands in the CSV."""
    kept = {k: v for k, v in vars(recipe).items() if k != "net"}
    return json.dumps(kept | {"model": recipe.net.model, **recipe.net.args})


class Tables:
    """Trains groups and keeps their rows.

    Args:
        pack: folder of `recipes.fer.pack_tables`.
        folders: that hold synthetics.
        out: the CSV.
        device: where everything is.
        plan: what is trained.
        graph: as `train_together` takes it.
        steps: of every net; None for the setting's own.
        weights: of EfficientNet-Lite0.
        batch: real faces per step; None for the plan's.
    """

    def __init__(
        self,
        pack: Path,
        folders: Sequence[Path],
        out: Path,
        device: torch.device,
        plan: Plan,
        graph: bool = True,
        steps: int | None = None,
        weights: Path | None = None,
        batch: int | None = None,
    ) -> None:
        self.pack, self.folders, self.out, self.device = pack, folders, out, device
        self.plan, self.graph, self.steps, self.weights = plan, graph, steps, weights
        self.batch = batch or plan.batch
        self.half = (plan.half or device.type == "cuda") and has_bfloat16(device)
        self._folds: dict[str, Fold] = {}
        self._tuned: dict[tuple[str, str], tuple[Recipe, bool]] = {}

    def fold(self, setting: str) -> Fold:
        """Return a setting's faces, read once."""
        if setting not in self._folds:
            how = SETTINGS[setting]
            self._folds[setting] = read_fold(how, self.pack, self.folders, self.device)
        return self._folds[setting]

    def _steps(self, setting: str) -> int:
        return self.steps or round(SETTINGS[setting].steps * self.plan.steps)

    def train(
        self,
        fold: Fold,
        net: str,
        condition: Condition,
        recipes: Sequence[Recipe],
        seeds: Sequence[int],
        tests: Sequence[str],
        flips: Sequence[bool],
        name: str,
    ) -> list[dict[str, Any]]:
        """Train all recipes with all seeds together; write and return their rows."""
        pool = condition.extra + condition.only
        runs = [Run(r, condition, pool, seed) for r, seed in product(recipes, seeds)]
        begun = time.perf_counter()
        models = train_together(runs, fold.samples, self.device, self.graph, self.half)
        seconds = (time.perf_counter() - begun) / len(runs)
        extra = len(fold.samples.pools[pool]) if pool else 0
        rows = []
        for run, model in zip(runs, models, strict=True):
            size = run.recipe.net.size
            shared = {
                "setting": fold.setting.name,
                "net": net,
                "condition": name,
                "seed": run.seed,
                "faces_by_class": json.dumps(fold.counts()),
                "extra_faces": extra,
                "seconds": seconds,
                "device": self._device_name(),
            }
            for test, flip in product(tests, flips):
                pixels, labels = fold.tests[test]
                found = predict(model, pixels, size, flip, half=self.half)
                options = json.dumps({"flip": flip}) + described(run.recipe)
                metrics = measure(found, labels, fold.setting.classes)
                rows.append(shared | metrics | {"test_set": test, "options": options})
        append(self.out, rows)
        print(
            f"{fold.setting.name}, {net}, {name}: {len(runs)} nets, {seconds:.1f} s each",
            flush=True,
        )
        return rows

    def tuned(self, setting: str, net: str) -> tuple[Recipe, bool]:
        """Return the recipe that is best without synthetics on the validation cut, and whether
        mirror images help it."""
        if (setting, net) not in self._tuned:
            pretrained = NETS[net].size > SIDE
            found = self._pretrained(setting, net) if pretrained else self._tune(setting, net)
            self._tuned[setting, net] = found
        return self._tuned[setting, net]

    def _pretrained(self, setting: str, net: str) -> tuple[Recipe, bool]:
        if self.weights is None:
            raise ValueError(f"{net} needs --weights")
        small = replace(NETS[net], weights=self.weights)
        steps = max(1, self._steps(setting) // 3)
        balance = self.tuned(setting, self.plan.tuned_first[1])[0].balance
        return Recipe(small, steps, self.batch, lr=6e-4, balance=balance), True

    def _tune(self, setting: str, net: str) -> tuple[Recipe, bool]:
        first = (setting, net) == self.plan.tuned_first
        base = Recipe(NETS[net], batch=self.batch)
        if not first:
            base = replace(self.tuned(*self.plan.tuned_first)[0], net=NETS[net])
        full = self._steps(setting)
        tried: dict[str, tuple[Recipe, list[dict[str, Any]]]] = {}
        short = replace(base, steps=max(1, full // 3))
        self._try(setting, net, list(grid(short)), tried)
        if first:
            self._try(setting, net, list(second_grid(_best(tried)[0])), tried)
        recipe, flip = _best(tried)
        print(f"{setting}: {described(recipe)}, flip {flip}", flush=True)
        return replace(recipe, steps=full), flip

    def _try(
        self,
        setting: str,
        net: str,
        recipes: list[Recipe],
        tried: dict[str, tuple[Recipe, list[dict[str, Any]]]],
    ) -> None:
        wanted = setting, net, TUNING
        known = [
            row
            for row in read_results(self.out)
            if (row["setting"], row["net"], row["condition"]) == wanted
        ]
        there = {row["options"].partition("}")[2] for row in known}
        rows: list[dict[str, Any]] = [*known]
        new = [r for r in recipes if described(r) not in there]
        for part in self.together(new):
            rows += self.train(
                *(self.fold(setting), net, NONE, part, self.plan.tuned_seeds),
                *([VALIDATION], (False, True), TUNING),
            )
        for recipe in recipes:
            own = [r for r in rows if r["options"].partition("}")[2] == described(recipe)]
            tried[described(recipe)] = recipe, own

    def together(self, items: Sequence[_T]) -> Iterator[Sequence[_T]]:
        """Yield what is trained at once: all on a card; elsewhere one by one, to keep each row."""
        if items and self.device.type == "cuda":
            yield items
        elif items:
            yield from ([item] for item in items)

    def _device_name(self) -> str:
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        return name if self.half else f"{name}, float32"


def _best(tried: dict[str, tuple[Recipe, list[dict[str, Any]]]]) -> tuple[Recipe, bool]:
    """Return the recipe, and whether to flip, of the highest accuracy and mean average precision
    together."""
    worth = {}
    for name, (_, rows) in tried.items():
        for flip in (False, True):
            own = [r for r in rows if r["options"].startswith(json.dumps({"flip": flip}))]
            worth[name, flip] = np.mean([float(r["accuracy"]) + float(r["mean_ap"]) for r in own])
    name, flip = max(worth, key=lambda key: worth[key])
    return tried[name][0], flip


def main(
    pack: Annotated[Path, typer.Argument(help="Folder of recipes.fer.pack_tables.")],
    out: Path = Path("work/fer/tables.csv"),
    minutes: Annotated[float, typer.Option(help="No group is begun that would take longer.")] = 5.0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    synthetics: Annotated[
        Path | None, typer.Option(help="Of recipes.fer.make_synthetics, if not packed.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="EfficientNet-Lite0, .safetensors; else the pack's.")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option(help="Only these; several.")] = None,
    condition: Annotated[list[str] | None, typer.Option(help="Only these; several.")] = None,
    seeds: int = 5,
    first_seed: int = 0,
    steps: Annotated[int | None, typer.Option(help="Of every net, for a trial.")] = None,
    batch: Annotated[int | None, typer.Option(help="Real faces per step; else the plan's.")] = None,
    graph: Annotated[bool, typer.Option(help="Record steps as CUDA graphs.")] = True,
    plan: Annotated[str, typer.Option(help="card or core (of a CPU).")] = "card",
) -> None:
    begun = time.perf_counter()
    torch.backends.cudnn.benchmark = True
    packed = pack / "efficientnet_lite0.safetensors"
    weights = weights or (packed if packed.is_file() else None)
    folders = [f for f in (synthetics, pack) if f is not None]
    where = torch.device(device)
    planned = PLANS[plan]
    tables = Tables(pack, folders, out, where, planned, graph, steps, weights, batch)
    longest: dict[tuple[str, str], float] = {}
    for name, net, what in planned.groups:
        if (setting and name not in setting) or (condition and what not in condition):
            continue
        if NETS[net].size > SIDE and weights is None:
            continue
        if not (pack / SETTINGS[name].pack).is_dir():
            print(f"{name}, {what}: its faces are not packed", flush=True)
            continue
        how, group = CONDITIONS[what], range(first_seed, first_seed + seeds)
        there = {
            int(row["seed"])
            for row in read_results(out)
            if (row["setting"], row["net"], row["condition"]) == (name, net, what)
        }
        todo = [seed for seed in group if seed not in there]
        if not todo or _late(begun, longest.get((name, net), 0), minutes):
            continue
        recipe, flip = tables.tuned(name, net)
        fold = tables.fold(name)
        if how.extra and not len(fold.samples.pools.get(how.extra + how.only, ())):
            print(f"{name}, {what}: there are no such synthetics", flush=True)
            continue
        for part in tables.together(todo):
            if _late(begun, longest.get((name, net), 0), minutes):
                break
            start = time.perf_counter()
            tables.train(fold, net, how, [recipe], part, list(fold.tests), [flip], what)
            longest[name, net] = max(longest.get((name, net), 0), time.perf_counter() - start)


def _late(begun: float, seconds: float, minutes: float) -> bool:
    """Return whether what takes so many seconds would end too late."""
    return time.perf_counter() - begun + seconds > 60 * minutes


if __name__ == "__main__":
    typer.run(main)
