"""Train the last layer of a net from ImageNet under each condition: small enough for one core.

    python -m recipes.fer.frozen .gpu/tables --synthetics work/fer/synthetics \\
        --out recipes/fer/tables_frozen.csv

EfficientNet-Lite0 stays as it is up to the stage that halves the image a fourth time; on its nine
pooled fields a softmax regression is fitted, to its optimum, so that nothing but the data differs
between conditions. Extra samples weigh as much in the loss as their share of a batch. Each seed
draws the real and the synthetic faces anew, with replacement, the same in all conditions. How much
the weights are held back, and how the real classes are balanced, is chosen on the validation cut
without synthetics.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
import xxhash
from torch import Tensor, nn

from recipes.fer.augment import view
from recipes.fer.conditions import BALANCED, CONDITIONS, NONE, OTHERS, Condition
from recipes.fer.fold_tensors import UNIQUE, VALIDATION, Fold, read_fold
from recipes.fer.folds import SETTINGS
from recipes.fer.metrics import measure
from recipes.fer.nets import build
from recipes.fer.plan import LITE0, NETS
from recipes.fer.results import append, read_results
from recipes.fer.training import Samples
from recipes.training.precision import bfloat16

NET = f"{LITE0}, frozen"
SIDE, FIELDS, STAGES = 96, 3, 5
COMPONENTS = 384
DECAYS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
BALANCES = (1.0, 0.5, 0.0)
RUNS = (
    *("none", "transfer 6/64, neutral", "more draws 6/64", "own label 6/64", "even draws"),
    *("transfer 6/64, clearest", "transfer 12/64, neutral", "transfer 6/64"),
    *("more draws 12/64", "transfer 24/64, neutral", "more draws 24/64"),
    *(f"{name} 6/64, neutral" for name in OTHERS),
    *(name for name in CONDITIONS if name.endswith(BALANCED) and "first" not in name),
)
_SAVE_EVERY = 4096


@torch.inference_mode()
def features(pixels: Tensor, net: nn.Module | None, file: Path, batch: int = 64) -> Tensor:
    """Return what the net's early stages see, (N, 1008) float; what the file holds is not looked
    at again.

    Args:
        pixels: (N, 48, 48) uint8.
        net: EfficientNet-Lite0; None where the file has all.
        file: .npz that keeps them.
        batch: faces at once.

    Raises:
        ValueError: there is no net, and the file does not have all.
    """
    keys = np.array([xxhash.xxh64_intdigest(face.tobytes()) for face in pixels.numpy()], np.uint64)
    known = np.empty(0, np.uint64), np.empty((0, 1), np.float16)
    if file.is_file():
        with np.load(file) as saved:
            known = saved["keys"], saved["features"]
    new = torch.from_numpy(np.flatnonzero(~np.isin(keys, known[0])))
    if len(new) and net is None:
        raise ValueError(f"{file} lacks {len(new)} faces: run recipes.fer.frozen first")
    for part in new.split(_SAVE_EVERY) if len(new) else ():
        found = []
        for rows in part.split(batch):
            x = view(pixels[rows], SIDE).contiguous(memory_format=torch.channels_last)
            with bfloat16(x.device):
                x = net.bn1(net.conv_stem(x))  # type: ignore[union-attr,operator]
                x = net.blocks[:STAGES](x)  # type: ignore[union-attr,index,operator]
            found.append(F.adaptive_avg_pool2d(x.float(), FIELDS).flatten(1).half().numpy())
        seen = np.concatenate([known[1].reshape(-1, found[0].shape[1]), *found])
        known = np.concatenate([known[0], keys[part.numpy()]]), seen
        being_written = file.with_suffix(".part.npz")
        np.savez(being_written, keys=known[0], features=known[1])
        being_written.replace(file)
        print(f"{len(known[0])} faces seen", flush=True)
    order = np.argsort(known[0])
    place = order[np.searchsorted(known[0][order], keys)]
    return torch.from_numpy(known[1][place]).float()


def fit(x: Tensor, targets: Tensor, weight: Tensor, decay: float, start: Tensor) -> Tensor:
    """Return the weights of the softmax regression, (D, E), that is best for weighted samples."""
    found = start.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [found], max_iter=100, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        wrong = F.cross_entropy(x @ found, targets, reduction="none")
        value = (wrong * weight).sum() + decay * found.square().sum()
        torch.autograd.backward(value)
        return value

    search.step(loss)
    return found.detach()


def weighted(
    samples: Samples, condition: Condition, balance: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that a fit uses, how much each weighs, and what its label is.

    Args:
        samples: of a fold.
        condition: in one phase.
        balance: of the real faces, where the condition does not say.
        seed: of what is drawn, real and extra.

    Returns:
        (M,) long; (M,) float with sum 1; (M, E) float.
    """
    balance = balance if condition.balance is None else condition.balance
    draws = [np.random.default_rng([seed, which]) for which in (0, 1)]
    real = samples.real[
        torch.from_numpy(draws[0].integers(len(samples.real), size=len(samples.real)))
    ]
    rows, weights = [real], [even(samples.labels[real], balance)]
    share = condition.phases[0].extra * condition.weight
    if share:
        pool = samples.pools[condition.extra + condition.only]
        drawn = pool[torch.from_numpy(draws[1].integers(len(pool), size=len(pool)))]
        rows.append(drawn)
        weights.append(share * even(samples.labels[drawn], 0.0))
    place, weight = torch.cat(rows), torch.cat(weights)
    own, source = (
        F.one_hot(of[place], samples.classes).float() for of in (samples.labels, samples.sources)
    )
    soft = torch.where(torch.arange(len(place)) < len(real), 0.0, condition.soft)[:, None]
    return place, weight / weight.sum(), own.lerp(source, soft)


def even(labels: Tensor, balance: float) -> Tensor:
    """Return weights with sum 1; a class of n weighs in proportion to n to the power `balance`."""
    counts = torch.bincount(labels).float().clamp(min=1)
    weight = counts[labels] ** (balance - 1)
    return weight / weight.sum()


class Fits:
    """Fits of one fold.

    Args:
        fold: its faces.
        seen: features of `fold.samples`, then of each test.
    """

    def __init__(self, fold: Fold, seen: dict[str, Tensor]) -> None:
        self.fold = fold
        real = seen[""][: len(fold.samples.real)]
        mean = real.mean(0)
        centred = real - mean
        values, axes = torch.linalg.eigh(centred.T @ centred / len(real))
        axes = axes[:, -COMPONENTS:] / values[-COMPONENTS:].clamp(min=1e-6).sqrt()
        self.seen = {n: F.pad((x - mean) @ axes, (0, 1), value=1.0) for n, x in seen.items()}

    def probabilities(
        self, condition: Condition, balance: float, decay: float, seed: int, tests: list[str]
    ) -> dict[str, Tensor]:
        """Return what the fit of a condition says of each test, (N, E)."""
        rows, weight, targets = weighted(self.fold.samples, condition, balance, seed)
        x = self.seen[""][rows]
        found = fit(x, targets, weight, decay, torch.zeros(x.shape[1], targets.shape[1]))
        return {test: (self.seen[test] @ found).softmax(1) for test in tests}

    def tuned(self) -> tuple[float, float]:
        """Return balance and decay of the highest accuracy and mean average precision together."""
        worth = {}
        for balance, decay in product(BALANCES, DECAYS):
            found = self.probabilities(NONE, balance, decay, 100, [VALIDATION])[VALIDATION]
            measures = measure(found, self.fold.tests[VALIDATION][1], self.fold.setting.classes)
            worth[balance, decay] = measures["accuracy"] + measures["mean_ap"]
        return max(worth, key=lambda key: worth[key])


def main(
    pack: Annotated[Path, typer.Argument(help="Folder of recipes.fer.pack_tables.")],
    synthetics: Annotated[
        Path | None, typer.Option(help="Of recipes.fer.make_synthetics, if not packed.")
    ] = None,
    out: Path = Path("work/fer/tables_frozen.csv"),
    kept: Annotated[Path, typer.Option(help="Keeps what the net sees.")] = Path(
        "work/fer/seen.npz"
    ),
    weights: Annotated[
        Path | None, typer.Option(help="EfficientNet-Lite0; else the pack's.")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option(help="Only these; several.")] = None,
    seeds: int = 10,
    only_look: Annotated[bool, typer.Option(help="Fill the kept file, fit nothing.")] = False,
) -> None:
    file = weights or pack / "efficientnet_lite0.safetensors"
    net = build(replace(NETS[LITE0], weights=file), 2, 0).eval()
    folders = [f for f in (synthetics, pack) if f is not None]
    for name in setting or list(SETTINGS):
        fold = read_fold(SETTINGS[name], pack, folders, torch.device("cpu"))
        parts = {"": fold.samples.pixels} | {k: v[0] for k, v in fold.tests.items()}
        seen = features(torch.cat(list(parts.values())), net, kept)
        if only_look:
            continue
        fits = Fits(
            fold, dict(zip(parts, seen.split([len(p) for p in parts.values()]), strict=True))
        )
        balance, decay = fits.tuned()
        print(f"{name}: balance {balance}, decay {decay}", flush=True)
        options = json.dumps({"balance": balance, "decay": decay})
        tests = [name for name in fold.tests if name not in ("test", UNIQUE)]
        for what in RUNS:
            condition = CONDITIONS[what]
            pool = condition.extra + condition.only
            extra = len(fold.samples.pools.get(pool, ())) if pool else 0
            if (pool and not extra) or condition.balance == balance:  # nothing new
                continue
            there = {
                int(r["seed"])
                for r in read_results(out)
                if (r["setting"], r["condition"]) == (name, what)
            }
            for seed in sorted(set(range(seeds)) - there):
                begun = time.perf_counter()
                found = fits.probabilities(condition, balance, decay, seed, tests)
                shared = {
                    **{"setting": name, "net": NET, "condition": what, "seed": seed},
                    **{"faces_by_class": json.dumps(fold.counts()), "extra_faces": extra},
                    **{"seconds": time.perf_counter() - begun, "device": "cpu", "options": options},
                }
                append(
                    out,
                    [
                        shared
                        | {"test_set": test}
                        | measure(p, fold.tests[test][1], fold.setting.classes)
                        for test, p in found.items()
                    ],
                )
            print(f"{name}, {what}: {seeds} fits", flush=True)


if __name__ == "__main__":
    typer.run(main)
