"""Make the synthetic faces that the tables train on, through `ExpressionAugmenter`.

    python -m recipes.fer.make_synthetics .gpu/tables --setting ferplus

Sources are training faces of the setting that look ahead and whose expression most annotators agree
on. The gate is that of `expand`; what the embedded FER classifier sees in each face is kept beside
it, so that a table can choose. "own" faces are the control: rare real faces rendered to the
expression that they have. Work that was broken off goes on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from expraug import create_synthesizer
from expraug.expressions import Expression, LabelScheme
from expraug.gate import AllGates, ExpressionGate, IdentityGate
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest
from expraug.synthesizer import Synthesizer
from recipes.fer.folds import SETTINGS, FaceSet, Setting, training_rows
from recipes.fer.pack_tables import Pack
from recipes.fer.synthetics import Synthetics

INTENSITIES = (0.6, 0.8, 1.0)
LENDERS = 120
"""Faces of a class, at most, that exemplars are chosen from."""
_SAVE_EVERY = 16


Asked = tuple[int, SynthesisRequest, bool]
"""Row in the training file, request, and whether the face has that label itself."""


def plan(
    setting: Setting,
    labels: np.ndarray,
    rows: np.ndarray,
    clear: np.ndarray,
    variants: int,
    edits: int,
    own: int,
) -> list[Asked]:
    """Return what is to be made, in an order of which every beginning is balanced over targets.

    Args:
        setting: its rare classes are the targets.
        labels: (N,) of the training file.
        rows: of the setting's training faces.
        clear: those of them that are sources.
        variants: number of the synthesizer's variants.
        edits, own: how many faces to ask for: with another expression, and with their own.
    """
    rng = np.random.default_rng(0)

    def request(target: Expression) -> SynthesisRequest:
        level = float(rng.choice(INTENSITIES))
        return SynthesisRequest(target, level, int(rng.integers(variants)))

    def edited() -> list[Asked]:
        turns = (r for _ in cycle([0]) for r in rng.permutation(clear))
        each = ((int(r), e) for r in turns for e in setting.rare if labels[r] != int(e))
        return [(row, request(e), False) for row, e in islice(each, edits)]

    def rerendered() -> list[Asked]:
        faces = [cycle(rng.permutation(rows[labels[rows] == int(e)])) for e in setting.rare]
        each = (
            (int(next(f)), e) for _ in range(own) for e, f in zip(setting.rare, faces, strict=True)
        )
        return [(row, request(e), True) for row, e in islice(each, own)]

    asked, controls = edited(), rerendered()
    every = max(1, len(asked) // max(1, len(controls)))
    together: list[Asked] = []
    for i in range(0, len(asked), every):
        together += asked[i : i + every] + controls[i // every : i // every + 1]
    return together


def with_exemplars_of(
    setting: Setting, train: FaceSet, rows: np.ndarray, folder: Path
) -> Synthesizer:
    """Return `transfer` with the setting's own rare faces as exemplars, kept in a folder."""
    if not folder.is_dir():
        labels = train.labels(setting.scheme)
        scheme = LabelScheme({int(e): str(e) for e in Expression}, {int(e): e for e in Expression})
        lend = [r for e in setting.rare for r in rows[labels[rows] == int(e)][:LENDERS]]
        fitted = create_synthesizer("transfer").fit_exemplars(  # type: ignore[operator]
            [(train.pixels[row], int(labels[row])) for row in lend], scheme
        )
        fitted.save_pretrained(folder)
    return create_synthesizer(str(folder))


def make(
    augmenter: ExpressionAugmenter, train: FaceSet, asked: list[Asked], file: Path, batch: int
) -> None:
    """Carry requests out and save what passed, again and again; go on from what is saved.

    Args:
        augmenter: makes the faces.
        train: whose images are the sources.
        asked: of `plan`.
        file: .npz, of `Synthetics` and "done", how many requests were carried out.
        batch: requests per call.
    """
    made: dict[str, list[np.ndarray]] = {f.name: [] for f in fields(Synthetics)}
    done, reasons = 0, Counter[str]()
    if file.is_file():
        with np.load(file) as saved:
            done = int(saved["done"])
            for name, parts in made.items():
                parts.extend(saved[name])
    for number, first in enumerate(range(done, len(asked), batch), 1):
        part = asked[first : first + batch]
        outcomes = augmenter([train.pixels[row] for row, _, _ in part], [r for _, r, _ in part])
        for (row, request, own), outcome in zip(part, outcomes, strict=True):
            reasons[outcome.reason or "made"] += 1
            if outcome.target is None:
                continue
            face = outcome.image, int(outcome.target), row, own, outcome.scores["expression"]
            for name, value in zip(made, (*face, request.intensity), strict=True):
                made[name].append(np.asarray(value))
        done = first + len(part)
        if made["target"] and (number % _SAVE_EVERY == 0 or done == len(asked)):
            kept = {name: np.stack(parts) for name, parts in made.items()}
            being_written = file.with_suffix(".part.npz")
            np.savez(being_written, done=done, **kept)  # type: ignore[arg-type]
            being_written.replace(file)
            print(f"{file.stem}: {done} of {len(asked)}, {dict(reasons)}", flush=True)


def main(
    pack: Annotated[Path, typer.Argument(help="Folder of recipes.fer.pack_tables.")],
    setting: str = "ferplus",
    synthesizer: str = "transfer",
    edits: Annotated[int, typer.Option(help="Synthetics to ask for.")] = 9000,
    own: Annotated[int, typer.Option(help="Own-label re-renderings to ask for.")] = 3000,
    out: Annotated[Path, typer.Option(help="Folder for SETTING-SYNTHESIZER.npz.")] = Path(
        "work/fer/synthetics"
    ),
    neutral: Annotated[bool, typer.Option(help="Only neutral faces are sources.")] = False,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    batch: int = 32,
) -> None:
    how = SETTINGS[setting]
    faces = Pack.load(pack / how.pack)
    labels = faces.train.labels(how.scheme)
    rows = training_rows(how, labels, faces.validation)
    clear = rows[faces.clear[rows]]
    if neutral:
        clear = clear[labels[clear] == int(Expression.NEUTRAL)]
    model: str | Synthesizer = synthesizer
    if how.own_exemplars and synthesizer == "transfer":
        model = with_exemplars_of(how, faces.train, rows, out / f"exemplars-{setting}")
    gate = AllGates([IdentityGate(), ExpressionGate(threshold=0.0)])
    augmenter = ExpressionAugmenter(model, gate=gate, device=device, batch_size=batch)
    asked = plan(how, labels, rows, clear, augmenter.variants, edits, own)
    print(f"{setting}: {len(clear)} of {len(rows)} faces are sources; {len(asked)} to make")
    out.mkdir(parents=True, exist_ok=True)
    make(augmenter, faces.train, asked, out / f"{setting}-{synthesizer}.npz", batch)


if __name__ == "__main__":
    typer.run(main)
