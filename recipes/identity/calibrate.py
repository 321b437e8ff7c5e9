"""How well an identity encoder tells people apart, and where it should say "one person".

    python -m recipes.identity.calibrate LFW.parquet [--encoder dlib] [--alignment detect]

Faces are found and aligned as the pipeline does. The threshold is the cosine that 1 % of pairs of
different people exceed among the set's validation people (`expraug.datasets.person_split`). On its
test people it prints the area under the ROC curve, the share of same-person pairs above the
threshold, with a 95 % interval from a bootstrap over people, and the share of different people
above it. Of one person 20 pairs at most count, of different people 200,000.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torchmetrics.functional.classification import binary_auroc

from expraug.evaluate.bootstrap import Bootstrap
from expraug.evaluate.face_set import collect
from expraug.evaluate.identity import (
    FALSE_ACCEPTS,
    cosines_of_pairs,
    different_pairs,
    embed,
    same_pairs,
)
from expraug.faces import create_detector
from expraug.networks.identity import IdentityEncoder, create_identity_encoder


def cosines(
    path: Path, alignment: str, encoder: IdentityEncoder, split: str, limit: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return cosines of same-person pairs and of different-person pairs, and whose the former are.

    Args:
        path: set with an identity column.
        alignment: "crop" or "detect".
        encoder: that embeds the faces.
        split: whose faces are taken.
        limit: faces per expression at most.
    """
    found = collect([path], create_detector(alignment), split=split, limit=limit)
    if not found.named:
        raise typer.BadParameter(f"{path} does not say who is who: it needs an identity column")
    vectors = embed(encoder, found.faces)
    alike = same_pairs(found.people)
    print(f"{split}: {len(found)} faces of {len(set(found.people))} people")
    return (
        cosines_of_pairs(vectors, np.array(alike).reshape(-1, 2)),
        cosines_of_pairs(vectors, different_pairs(found.people)),
        [found.people[first] for first, _ in alike],
    )


def main(
    faces: Annotated[Path, typer.Argument(help="Set with an identity column.")],
    encoder: Annotated[str, typer.Option(help="'dlib' or 'facenet'.")] = "dlib",
    alignment: Annotated[str, typer.Option(help="'detect' or 'crop'.")] = "detect",
    limit: Annotated[int, typer.Option(help="Faces per expression and split at most.")] = 2000,
) -> None:
    network = create_identity_encoder(encoder)
    _, different, _ = cosines(faces, alignment, network, "validation", limit)
    threshold = float(np.quantile(different, 1 - FALSE_ACCEPTS))
    print(f"{network.name}: threshold {threshold:.3f}, of {len(different):,} different pairs")
    same, different, owners = cosines(faces, alignment, network, "test", limit)
    for name, values in (("same person", same), ("different people", different)):
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
        print(
            f"{name}: {len(values):,} pairs, median cosine {middle:.3f}, 90 % in {low:.3f} to "
            f"{high:.3f}"
        )
    both = torch.from_numpy(np.concatenate([same, different]))
    labels = torch.tensor([1] * len(same) + [0] * len(different))
    print(f"area under ROC: {float(binary_auroc((both + 1) / 2, labels)):.4f}")
    at = float(np.quantile(different, 1 - FALSE_ACCEPTS))
    bootstrap = Bootstrap(owners)
    for name, bar in (("the threshold", threshold), ("1 % of these different pairs", at)):
        print(
            f"at {name} ({bar:.3f}): same person {bootstrap.estimate(same > bar, owners)}, "
            f"different people {np.mean(different > bar):.4f}"
        )


if __name__ == "__main__":
    typer.run(main)
