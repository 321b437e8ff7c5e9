"""How strong `pixel` must be to be seen as often as real faces, and no more exaggerated.

    python -m recipes.pixel.strength DATA --pairs work/pairs

Of validation people of LFW, who are none of those that it is fitted on, neutral faces get every
expression, and happy ones the neutral one, at each `--shape` and `--light`; without them, at those
of `recipes.pixel.fit.STRENGTH`. Printed are, for each, the recall
of both families of FER classifiers as a ratio to that of real faces (LFW's, or those of FER2013's
validation images where LFW has few), and the share that the landmark gate refuses.
"""

from __future__ import annotations

import copy
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from expraug.expressions import Expression
from expraug.landmark_gate import LandmarkGate
from expraug.networks.batching import independently
from expraug.networks.classifiers import EMBEDDED_CLASSIFIERS, create_fer_classifier
from recipes.pixel.examples import both_ways
from recipes.pixel.fit import PHOTOGRAPHS, STRENGTH, fit, mean_face, read, strengthen
from recipes.real_faces import FER2013, FILES, LFW, Faces, concatenate, extract

ENOUGH = 20
"""Real faces of LFW that tell how often a class is recognised."""
MOST_REAL = 150
LARGEST_ANGLE = 30


def real_faces(faces: Faces, expression: Expression) -> Faces:
    """Return validation faces of a class."""
    rows = np.flatnonzero(faces.expression == int(expression))
    lfw = rows[faces.origin[rows] == LFW]
    rows = lfw if len(lfw) >= ENOUGH else rows[faces.origin[rows] == FER2013]
    return faces.take(np.random.default_rng(0).permutation(rows)[:MOST_REAL])


def sources(faces: Faces, expression: Expression, count: int) -> Faces:
    """Return LFW's validation faces to start from, one of a person, most of them not turned far."""
    frontal = (np.abs(faces.pose[:, :2]) < LARGEST_ANGLE).all(1)
    rows = np.flatnonzero((faces.origin == LFW) & (faces.expression == int(expression)) & frontal)
    rows = rows[np.unique(faces.person[rows], return_index=True)[1]]
    return faces.take(np.random.default_rng(0).permutation(rows)[:count])


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    pairs: Annotated[list[Path], typer.Option(help="What recipes.pairs.make_pairs wrote.")],
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    count: Annotated[int, typer.Option(help="Faces that are changed.")] = 50,
    only: Annotated[list[str] | None, typer.Option(help="Targets; all if none.")] = None,
    shape: Annotated[list[float] | None, typer.Option()] = None,
    light: Annotated[list[float] | None, typer.Option()] = None,
) -> None:
    lfw = extract(LFW, data / FILES[LFW][0], work)
    fer2013 = extract(FER2013, data / FILES[FER2013][1], work)
    fer2013.expression = fer2013.majority
    faces = concatenate([lfw.take(np.flatnonzero(lfw.split == "validation")), fer2013])
    face = mean_face()
    examples = both_ways(read(data, pairs, work, PHOTOGRAPHS, face), face)
    plain = fit(examples, face)
    classifiers = [create_fer_classifier(name) for name in EMBEDDED_CLASSIFIERS]
    gate = LandmarkGate()

    def recall(shown: Tensor, target: Expression) -> list[float]:
        return [
            float((c.probabilities(shown).argmax(1) == c.expressions.index(target)).float().mean())
            for c in classifiers
        ]

    for target in plain.expressions:
        if only and str(target) not in only:
            continue
        real = recall(real_faces(faces, target).tensor(), target)
        print(f"{target}: real faces {real[0]:.2f} {real[1]:.2f}", flush=True)
        back = target is Expression.NEUTRAL
        given = sources(faces, Expression.HAPPY if back else Expression.NEUTRAL, count)
        before, mesh = given.tensor(), torch.from_numpy(given.mesh[..., :2])
        asked = torch.full((len(given),), int(target))
        usual = STRENGTH[target]
        for by in product(shape or usual[:1], light or usual[1:]):
            model = copy.deepcopy(plain)
            strengthen(model, examples, face, {target: by})
            with torch.inference_mode():
                made = model(before, asked, torch.ones(len(given)), landmarks=mesh)
                scores = [gate.score(*part) for part in independently(before, made, asked)]
            why = [gate.rejection({k: float(v) for k, v in s.items()}) for s in scores]
            ratios = [s / max(r, 1e-6) for s, r in zip(recall(made, target), real, strict=True)]
            refused = {w: why.count(w) / len(why) for w in sorted(set(why)) if w}
            told = ", ".join(f"{w} {share:.2f}" for w, share in refused.items())
            print(
                f"{target} {by[0]:.2f} {by[1]:.2f}: {ratios[0]:.2f} {ratios[1]:.2f} {told}",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
