"""Train a FER net, condition by condition and seed by seed, and append its metrics to a CSV.

    python -m recipes.fer.train --config recipes/fer/configs/fer2013_10pct.yaml \\
        --train FER2013/train.parquet --test FER2013/validation.parquet \\
        --condition strong --condition strong+transfer --seeds 5

A condition is a name (`--list` shows them), or that and a synthesizer: `strong+transfer`,
`strong+pixel`, `strong+FOLDER` for one that was fitted and saved, or `strong+transfer:own`, whose
exemplars are faces of the training fold alone. Every condition takes the same number of optimiser
steps on the same real faces; with a synthesizer, some draws are synthetics that the gate passed.
Synthetics are made by an `ExpressionAugmenter` from the set's original images, as any user makes
them; then real and synthetic images are aligned alike. Nothing is chosen on the test set: the last
moving average is what is tested, and options are chosen with `--only-validation`.

A set is a parquet file, a folder with one sub-folder per class, torchvision's FER2013 as
FOLDER:train, or a `datasets` name as NAME:split; `@detect` behind it finds the face in
photographs. Without `--test`, a set that names its people is split by person. Faces, synthetics
and gate nets are kept in `--work`, so that a second command starts at once; runs whose rows are in
the CSV are not done again, and a run that was broken off goes on from its last checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from recipes.fer.conditions import CONDITIONS
from recipes.fer.runs import Runner, read_fold
from recipes.fer.setting import Setting


def main(
    config: Annotated[Path | None, typer.Option(help="YAML: see recipes/fer/configs.")] = None,
    train: Annotated[str | None, typer.Option(help="Training set.")] = None,
    val: Annotated[str | None, typer.Option(help="Validation set; else cut from training.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="SET or NAME=SET; several.")] = None,
    condition: Annotated[list[str] | None, typer.Option(help="Several; see --list.")] = None,
    seeds: int = 5,
    first_seed: int = 0,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As mixing.share=0.5; several.")
    ] = None,
    scheme: Annotated[str | None, typer.Option(help="What the classes mean.")] = None,
    landmarks: Annotated[bool, typer.Option(help="`transfer` needs them.")] = True,
    work: Path = Path("work/fer"),
    out: Path = Path("recipes/fer/fer.csv"),
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    workers: Annotated[int, typer.Option(help="Processes that look for faces.")] = 1,
    only_validation: bool = False,
    list_conditions: Annotated[bool, typer.Option("--list", help="Print the conditions.")] = False,
) -> None:
    if list_conditions:
        for known in CONDITIONS.values():
            print(known)
        return
    if config is None or train is None:
        raise typer.BadParameter("--config and --train are needed")
    setting = Setting.read(config, option or ())
    fold = read_fold(setting, train, val, test or (), work, scheme, landmarks, workers)
    print(f"{setting.name}: train {fold.train.counts()}, {fold.dropped} faces dropped as they test")
    print(f"validation {fold.validation.counts()}")
    for name, table in fold.tests.items():
        print(f"{name} {table.counts()}", flush=True)
    runner = Runner(setting, fold, work, out, torch.device(device), only_validation)
    for seed in range(first_seed, first_seed + seeds):
        for name in condition or ["strong", "strong+transfer"]:
            runner.run(name, seed)


if __name__ == "__main__":
    typer.run(main)
