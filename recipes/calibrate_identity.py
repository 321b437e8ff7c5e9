"""Where an identity encoder tells people apart: the threshold that 1 % of different people pass.

    python -m recipes.calibrate_identity --faces LFW.parquet [--encoder dlib:FOLDER] [--people 300]

Takes two photographs of each of a number of people, aligns them as the pipeline does, and prints
the cosines of same-person and different-person pairs, the threshold, the share of same-person pairs
above it, and the area under the ROC curve.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torchmetrics.functional.classification import binary_auroc

from expraug.datasets import FaceItem, open_source
from expraug.datasets.source import iterate
from expraug.faces import MTCNNDetector, align_image
from expraug.networks.identity import create_identity_encoder


def main(
    faces: Annotated[Path, typer.Option(help="Set with an identity column.")],
    encoder: Annotated[str | None, typer.Option(help="'facenet' or 'dlib:PATH'")] = None,
    people: int = 300,
    size: int = 128,
) -> None:
    photographs: dict[str, list[FaceItem]] = defaultdict(list)
    for item in iterate(open_source(faces)):
        if item.identity is not None and len(photographs[item.identity]) < 2:
            photographs[item.identity].append(item)
    pairs = [found for _, found in sorted(photographs.items()) if len(found) == 2]
    pairs = pairs[:: max(len(pairs) // people, 1)][:people]
    network, detector = create_identity_encoder(encoder), MTCNNDetector()
    vectors, who = [], []
    with torch.inference_mode():
        for person, found in enumerate(pairs):
            for item in found:
                image = item.read()
                (face,) = detector([image])
                if face is None:
                    continue
                pixels = align_image(image, face.points, size) / 255
                vectors.append(network(pixels[None])[0])
                who.append(person)
    stacked, owner = torch.stack(vectors), torch.tensor(who)
    rows, columns = torch.triu_indices(len(stacked), len(stacked), offset=1)
    cosines = (stacked @ stacked.T)[rows, columns]
    same = owner[rows] == owner[columns]
    threshold = float(np.quantile(cosines[~same].numpy(), 0.99))
    print(f"{network.name}: {int(same.sum())} same-person pairs, {int((~same).sum())} different")
    for name, values in (("same person", cosines[same]), ("different people", cosines[~same])):
        low, middle, high = np.quantile(values.numpy(), [0.05, 0.5, 0.95])
        print(f"{name}: median cosine {middle:.3f}, 5 % to 95 % {low:.3f} to {high:.3f}")
    print(f"threshold that 1 % of different people pass: {threshold:.3f}")
    print(f"same-person pairs above it: {float((cosines[same] > threshold).float().mean()):.1%}")
    print(f"area under ROC: {float(binary_auroc(cosines.clamp(0, 1), same.long())):.4f}")


if __name__ == "__main__":
    typer.run(main)
