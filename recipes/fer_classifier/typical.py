"""Tell the image classifier how clearly real faces show their expression, as gates ask it.

    python -m recipes.fer_classifier.typical DATA --weights expraug/weights/fer_classifier

Of each expression, the probability that 90 % of real faces of people whom the net has not seen
reach: FER2013's validation images without near-duplicates, labelled by FER+, and LFW's validation
people. It is written into the `config.json` of the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from expraug.gate import thresholds_of_real
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from recipes.fer_classifier.report import groups, predictions
from recipes.real_faces import concatenate

GROUPS = ("without near-duplicates", "LFW validation people")
SHARE = 0.1


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    weights: Annotated[Path, typer.Option(help="Folder of the weights.")],
    faces: Annotated[Path, typer.Option(help="Work folder of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
) -> None:
    classifier = load_fer_classifier(weights)
    found = groups(data, faces)
    real = concatenate([found[name] for name in GROUPS])
    known = classifier.expressions
    label = torch.from_numpy(real.majority)
    seen = predictions(classifier, real)[:, [int(e) for e in known]]
    typical = thresholds_of_real(seen, label, known, SHARE)
    for expression, threshold in typical.items():
        print(f"{expression}: {threshold:.3f} of {int((label == int(expression)).sum())}")
    told = {str(e): round(p, 4) for e, p in typical.items()}
    net = FERNet(classifier.config["expressions"], classifier.config["width"], told)
    net.load_state_dict(classifier.state_dict())
    net.eval().save_pretrained(weights)


if __name__ == "__main__":
    typer.run(main)
