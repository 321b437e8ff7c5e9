"""What each part of training with synthetics brings, and what it costs.

    python -m recipes.fer.ablate --config recipes/fer/configs/lfw.yaml \\
        --train LFW/train.parquet@detect

Each change to the setting is a setting of its own in the results, "lfw: gate off": gate off,
another share, intensity, number of variants, ratio of synthetic to real faces, soft labels,
schedule, on top of the real draws instead of in their place. `recipes.fer.table` shows them below
the conditions of the setting. All of them take the synthetics that were made once, but for the gate
off, which makes its own. `--cost` measures wall times instead: of an epoch without and with
synthetics, the first one and when all is warm.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer

from recipes.fer.fold import Fold
from recipes.fer.runs import Runner, read_fold
from recipes.fer.setting import Setting

CHANGES: dict[str, tuple[str, ...]] = {
    "gate off": ("gate.expression=-1",),
    "gate that 10 % of real faces fail": ("gate.expression=0.1",),
    "gate that 50 % of real faces fail": ("gate.expression=0.5",),
    **{f"share {s}": (f"mixing.share={s}",) for s in (0.1, 0.2, 0.35, 0.5, 0.7)},
    "intensity 0.6": ("mixing.intensities=[0.6]",),
    "intensity 0.8": ("mixing.intensities=[0.8]",),
    "intensity 1.0": ("mixing.intensities=[1.0]",),
    "one variant": ("mixing.variants=1",),
    "soft labels 0.5": ("mixing.soft=0.5",),
    "synthetics early": ("mixing.schedule=falling",),
    "on top, share 0.7": ("mixing.on_top=true", "mixing.share=0.7"),
    **{
        # drawn as from the union of real and synthetic faces
        f"{r} synthetic to 1 real": (f"mixing.ratio={r}", f"mixing.share={r / (1 + r):.3f}")
        for r in (0.5, 1, 2, 5)
    },
}


def main(
    config: Annotated[Path, typer.Option(help="YAML: see recipes/fer/configs.")],
    train: Annotated[str, typer.Option(help="As `recipes.fer.train` takes it; so the next.")],
    val: str | None = None,
    test: list[str] | None = None,
    condition: Annotated[str, typer.Option(help="With synthetics.")] = "strong+transfer",
    only: Annotated[list[str] | None, typer.Option(help="Only changes that begin so.")] = None,
    option: Annotated[list[str] | None, typer.Option("--set")] = None,
    seeds: int = 5,
    scheme: str | None = None,
    work: Path = Path("work/fer"),
    out: Path = Path("recipes/fer/fer.csv"),
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    cost: Annotated[bool, typer.Option(help="Measure wall times instead.")] = False,
) -> None:
    setting = Setting.read(config, option or ())
    fold = read_fold(setting, train, val, test or (), work, scheme)
    if cost:
        measure_cost(setting, fold, condition, torch.device(device))
        return
    reference = Runner(setting, fold, work, out, torch.device(device))
    runners = [reference]
    # where frequent classes get as many synthetics as rare ones, they go on doing so
    even = setting.mixing.frequent == setting.mixing.share
    for name, changes in CHANGES.items():
        if only and not name.startswith(tuple(only)):
            continue
        also = [c.replace("share", "frequent") for c in changes if even and ".share=" in c]
        changed = Setting.read(config, [*(option or ()), *changes, *also])
        named = replace(changed, name=f"{setting.name}: {name}")
        runners.append(Runner(named, fold, work, out, torch.device(device)))
    for seed in range(seeds):
        reference.run(condition.partition("+")[0], seed)
        for runner in runners:
            runner.run(condition, seed)


def measure_cost(setting: Setting, fold: Fold, condition: str, device: torch.device) -> None:
    """Print the wall time of one epoch of training without and with synthetics, in seconds."""
    steps = -(-len(fold.train) // setting.recipe.batch)
    gate = replace(setting.gate, steps=setting.gate.steps or setting.recipe.steps)
    epoch = replace(setting, recipe=replace(setting.recipe, steps=steps), gate=gate)
    with TemporaryDirectory() as folder:
        work, out = Path(folder), Path(folder) / "cost.csv"
        for name in (condition.partition("+")[0], condition):
            for when in ("first", "warm"):
                runner = Runner(epoch, fold, work, out.with_name(f"{when}.csv"), device, True)
                start = time.perf_counter()
                runner.run(name, 0)
                print(f"{name}, {when} epoch of {steps} steps: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    typer.run(main)
