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
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from expraug.expressions import Expression
from expraug.networks.class_index import class_index
from recipes.fer.conditions import CONDITIONS, NATURAL, NEUTRAL, NONE, OWN, REAL, Condition
from recipes.fer.folds import SETTINGS, Setting, training_rows
from recipes.fer.metrics import measure
from recipes.fer.nets import Net
from recipes.fer.pack_tables import Pack, load_synthetics
from recipes.fer.results import append, read_results
from recipes.fer.training import Recipe, Run, Samples, predict, train_together

_CORE = ("none", "more draws 6/64", "own label 6/64", "transfer 6/64", "transfer 6/64, neutral")
_MORE = ("more draws 12/64", "transfer 12/64", "own label 12/64", "altered copies 6/64")
_MECHANISMS = (
    *("transfer 12/64, split norm", "transfer falling", "transfer 12/64, natural"),
    *("transfer 12/64, weight 0.5", "transfer first", "more draws falling", "more draws first"),
)
_OTHERS = tuple(f"{n} 6/64" for n in ("pixel", "unet_cgan", "emotiongan", "decoupled", "fevgan"))
LITE0 = "tf_efficientnet_lite0"
PLAN = (
    *(("ferplus", "resnet18", name) for name in (*_CORE, *_MORE)),
    *(("ferplus_20", "resnet18", name) for name in (*_CORE, *_MORE)),
    *(("fer2013_10pct", "resnet18", name) for name in (*_CORE, *_MORE)),
    *(("ferplus", "resnet18", name) for name in _MECHANISMS),
    *(("fer2013", "resnet18", name) for name in _CORE),
    *(("ferplus_20", "resnet18", name) for name in _MECHANISMS),
    *(("ferplus", LITE0, name) for name in ("none", "transfer 6/64", "more draws 6/64")),
    *(("fer2013", LITE0, name) for name in ("none", "transfer 6/64")),
    *(("ferplus", "resnet18", name) for name in _OTHERS),
    *(("fer2013_10pct", "resnet18", name) for name in _MECHANISMS),
)
"""Setting, net and condition of what is trained, by priority."""
TUNING = "tuning"
_TUNED_SEEDS = (100, 101)


@dataclass
class Fold:
    """A setting's faces on the device.

    Args:
        setting: whose.
        samples: to train on.
        tests: pixels and labels by name.
    """

    setting: Setting
    samples: Samples
    tests: dict[str, tuple[Tensor, Tensor]]

    def counts(self) -> dict[str, int]:
        """Return the number of real training faces of each class."""
        labels = self.samples.labels[: len(self.samples.real)]
        found = torch.bincount(labels, minlength=self.samples.classes).tolist()
        return {str(e): n for e, n in zip(self.setting.classes, found, strict=True)}


def read_fold(setting: Setting, pack: Pack, folders: Sequence[Path], device: torch.device) -> Fold:
    """Return a setting's faces, and the synthetics that the folders have for it."""
    index = class_index(setting.classes)
    labels = torch.from_numpy(pack.train.labels(setting.scheme))
    rows = training_rows(setting, pack.train.labels(setting.scheme), pack.validation)
    pixels, classes = [pack.train.pixels[rows]], [index[labels[rows]]]
    rare = index[torch.tensor([int(e) for e in setting.rare])]
    pools = {REAL: torch.isin(classes[0], rare).nonzero().flatten()}
    count = len(rows)
    for name in sorted({c.extra for c in CONDITIONS.values()} - {"", REAL, OWN}):
        whose = setting.synthetics or setting.name
        found = (load_synthetics(folder, f"{whose}-{name}") for folder in folders)
        made = next((one for one in found if one is not None), None)
        if made is None:
            continue
        usable = np.isin(made.target, [int(e) for e in setting.rare]) & ~made.own
        natural = made.seen >= pack.least[made.target]
        neutral = labels.numpy()[made.source] == int(Expression.NEUTRAL)
        place = count + torch.arange(len(made))
        for only, mask in (("", True), (NATURAL, natural), (NEUTRAL, neutral & natural)):
            pools[name + only] = place[torch.from_numpy(usable & mask)]
        if name == "transfer":
            of_rare = np.isin(made.target, [int(e) for e in setting.rare])
            pools[OWN] = place[torch.from_numpy(of_rare & made.own)]
        pixels.append(made.pixels)
        classes.append(index[torch.from_numpy(made.target)])
        count += len(made)
    samples = Samples(
        torch.from_numpy(np.concatenate(pixels)).to(device),
        torch.cat(classes).to(device),
        torch.arange(len(rows)),
        pools,
        len(setting.classes),
    )
    return Fold(setting, samples, _tests(setting, pack, device))


def _tests(setting: Setting, pack: Pack, device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the validation cut; the test faces, all and without near-duplicates of training; and
    both parts that are not trained on together, as a rare class has few faces in either."""
    known = [int(e) for e in setting.classes]
    cut, test = (
        (faces.pixels[keep], faces.labels(setting.scheme)[keep])
        for faces, keep in (
            (pack.train, pack.validation & np.isin(pack.train.labels(setting.scheme), known)),
            (pack.test, np.isin(pack.test.labels(setting.scheme), known)),
        )
    )
    unique = ~pack.test.duplicate[np.isin(pack.test.labels(setting.scheme), known)]
    only = test[0][unique], test[1][unique]
    pooled = np.concatenate([cut[0], only[0]]), np.concatenate([cut[1], only[1]])
    index = class_index(setting.classes)
    named = {"validation": cut, "test": test, "test without duplicates": only, "pooled": pooled}
    return {
        name: (torch.from_numpy(pixels).to(device), index[torch.from_numpy(labels)])
        for name, (pixels, labels) in named.items()
    }


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
        pack: of `recipes.fer.pack_tables`.
        folders: that hold synthetics.
        out: the CSV.
        device: where everything is.
        graph: as `train_together` takes it.
        steps: of every net; None for the setting's own.
        weights: of EfficientNet-Lite0.
        batch: real faces per step.
    """

    def __init__(
        self,
        pack: Pack,
        folders: Sequence[Path],
        out: Path,
        device: torch.device,
        graph: bool = True,
        steps: int | None = None,
        weights: Path | None = None,
        batch: int = 128,
    ) -> None:
        self.pack, self.folders, self.out, self.device = pack, folders, out, device
        self.graph, self.steps, self.weights, self.batch = graph, steps, weights, batch
        self._folds: dict[str, Fold] = {}
        self._tuned: dict[str, tuple[Recipe, bool]] = {}

    def fold(self, setting: str) -> Fold:
        """Return a setting's faces, read once."""
        if setting not in self._folds:
            how = SETTINGS[setting]
            self._folds[setting] = read_fold(how, self.pack, self.folders, self.device)
        return self._folds[setting]

    def train(
        self,
        fold: Fold,
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
        models = train_together(runs, fold.samples, self.device, self.graph)
        seconds = (time.perf_counter() - begun) / len(runs)
        extra = len(fold.samples.pools[pool]) if pool else 0
        rows = []
        for run, model in zip(runs, models, strict=True):
            net = run.recipe.net
            shared = {
                "setting": fold.setting.name,
                "net": net.model,
                "condition": name,
                "seed": run.seed,
                "faces_by_class": json.dumps(fold.counts()),
                "extra_faces": extra,
                "seconds": seconds,
                "device": self._device_name(),
            }
            for test, flip in product(tests, flips):
                pixels, labels = fold.tests[test]
                found = predict(model, pixels, net.size, flip)
                options = json.dumps({"flip": flip}) + described(run.recipe)
                metrics = measure(found, labels, fold.setting.classes)
                rows.append(shared | metrics | {"test_set": test, "options": options})
        append(self.out, rows)
        print(f"{fold.setting.name}, {name}: {len(runs)} nets, {seconds:.1f} s each", flush=True)
        return rows

    def tuned(self, setting: str, net: str) -> tuple[Recipe, bool]:
        """Return the recipe that is best without synthetics on the validation cut, and whether
        mirror images help it."""
        if net == LITE0:
            return self._lite0(setting), True
        if setting not in self._tuned:
            self._tuned[setting] = self._tune(setting)
        return self._tuned[setting]

    def _lite0(self, setting: str) -> Recipe:
        if self.weights is None:
            raise ValueError(f"{LITE0} needs --weights")
        small = Net(LITE0, {"drop_rate": 0.0}, 112, self.weights)
        steps = self.steps or max(1, SETTINGS[setting].steps // 3)
        balance = self.tuned(setting, "resnet18")[0].balance
        return Recipe(small, steps, self.batch, lr=6e-4, balance=balance)

    def _tune(self, setting: str) -> tuple[Recipe, bool]:
        first = setting == "ferplus"
        base = Recipe(batch=self.batch) if first else self.tuned("ferplus", "resnet18")[0]
        full = self.steps or SETTINGS[setting].steps
        tried: dict[str, tuple[Recipe, list[dict[str, Any]]]] = {}
        short = replace(base, steps=max(1, full // 3))
        self._try(setting, list(grid(short)), tried)
        if first:
            self._try(setting, list(second_grid(_best(tried)[0])), tried)
        recipe, flip = _best(tried)
        print(f"{setting}: {described(recipe)}, flip {flip}", flush=True)
        return replace(recipe, steps=full), flip

    def _try(
        self,
        setting: str,
        recipes: list[Recipe],
        tried: dict[str, tuple[Recipe, list[dict[str, Any]]]],
    ) -> None:
        known = [
            row
            for row in read_results(self.out)
            if row["setting"] == setting and row["condition"] == TUNING
        ]
        there = {row["options"].partition("}")[2] for row in known}
        new = [r for r in recipes if described(r) not in there]
        rows: list[dict[str, Any]] = [*known]
        if new:
            flips = False, True
            made = self.train(
                self.fold(setting), NONE, new, _TUNED_SEEDS, ["validation"], flips, TUNING
            )
            rows += made
        for recipe in recipes:
            own = [r for r in rows if r["options"].partition("}")[2] == described(recipe)]
            tried[described(recipe)] = recipe, own

    def _device_name(self) -> str:
        return torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"


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
    batch: Annotated[int, typer.Option(help="Real faces per step.")] = 128,
    graph: Annotated[bool, typer.Option(help="Record steps as CUDA graphs.")] = True,
) -> None:
    begun = time.perf_counter()
    torch.backends.cudnn.benchmark = True
    packed = pack / "efficientnet_lite0.safetensors"
    weights = weights or (packed if packed.is_file() else None)
    folders = [f for f in (synthetics, pack) if f is not None]
    where = torch.device(device)
    tables = Tables(Pack.load(pack), folders, out, where, graph, steps, weights, batch)
    longest: dict[tuple[str, str], float] = {}
    for name, net, what in PLAN:
        if (setting and name not in setting) or (condition and what not in condition):
            continue
        if net == LITE0 and weights is None:
            continue
        how, group = CONDITIONS[what], range(first_seed, first_seed + seeds)
        there = {
            int(row["seed"])
            for row in read_results(out)
            if (row["setting"], row["net"], row["condition"]) == (name, net, what)
        }
        todo = [seed for seed in group if seed not in there]
        spent = time.perf_counter() - begun
        if not todo or spent + longest.get((name, net), 0) > 60 * minutes:
            continue
        recipe, flip = tables.tuned(name, net)
        fold = tables.fold(name)
        if how.extra and not len(fold.samples.pools.get(how.extra + how.only, ())):
            print(f"{name}, {what}: there are no such synthetics", flush=True)
            continue
        start = time.perf_counter()
        tests = ["validation", "test", "test without duplicates", "pooled"]
        tables.train(fold, how, [recipe], todo, tests, [flip], what)
        longest[name, net] = max(longest.get((name, net), 0), time.perf_counter() - start)


if __name__ == "__main__":
    typer.run(main)
