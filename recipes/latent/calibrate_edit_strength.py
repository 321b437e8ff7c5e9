"""Choose how far `decoupled` goes at intensity 1, for each expression.

    python -m recipes.latent.calibrate_edit_strength WEIGHTS FER2013.parquet LFW.parquet@detect \\
        --half 0 \\
        --classifier CLASSIFIER --identity dlib

WEIGHTS, the folder that `recipes.decoupled.train` wrote, is changed. The sets, `--half` and
CLASSIFIER are
those of its training: the strengths are chosen on the training people and images of the other half,
whom neither the synthesizer nor CLASSIFIER has met. The classifier of the evaluation knows that
other half, and lends nothing to this. Contempt, which no classifier here knows, goes as far as the
others in the mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.composite import face_mask
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.networks.identity import create_identity_encoder
from expraug.synthesizers.decoupled import DecoupledSynthesizer
from recipes.labelled_faces import gather, sources_of
from recipes.latent.edit_strength import Limits, choose, print_table


def main(
    weights: Annotated[Path, typer.Argument(help="Folder of recipes.decoupled.train.")],
    sets: Annotated[list[str], typer.Argument(help="FILE for face crops, FILE@detect otherwise.")],
    half: Annotated[int, typer.Option(min=0, max=1, help="What the classifier learned from.")],
    classifier: Annotated[
        Path, typer.Option(help="Folder of recipes.fer_classifier.train, not the embedded one.")
    ],
    identity: Annotated[
        str, typer.Option(help="'dlib', 'facenet', or 'none': nothing keeps identity then")
    ] = "dlib",
    sources: Annotated[int, typer.Option(help="Faces for each target, at most.")] = 96,
    reach: Annotated[
        float, typer.Option(help="Times the classifier's probability of the target in real faces.")
    ] = 1.0,
    largest: Annotated[float, typer.Option(help="1 is the category's own latent.")] = 3.0,
    grid: Annotated[int, typer.Option(help="Lengths to try.")] = 24,
    verified: Annotated[float, typer.Option(help="Least share of verified faces.")] = 0.95,
    margin: Annotated[float, typer.Option(help="Of the cosine over the threshold.")] = 0.01,
    work: Annotated[Path, typer.Option(help="Folder for aligned faces.")] = Path("work"),
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    on = torch.device(device)
    model = DecoupledSynthesizer.from_pretrained(weights)
    assert isinstance(model, DecoupledSynthesizer)
    model.to(on)
    model.edit_strength.fill_(1)
    net, encoder = load_fer_classifier(classifier).to(on), None
    if identity != "none":
        encoder = create_identity_encoder(identity).to(on)
    work.mkdir(parents=True, exist_ok=True)
    held = gather(work, sets, 1 - half, model.image_size)
    mask = face_mask(model.image_size).to(on)
    limits = Limits(reach, largest, grid, verified, margin)
    known = [e for e in model.expressions if e in net.expressions]
    chosen, lines = {}, []
    for target in known:
        source = held.grey(sources_of(held, target, 0, sources)).to(on)

        def make(strength: float, source: Tensor = source, target: Expression = target) -> Tensor:
            asked = torch.full((len(source),), int(target), device=on)
            far = torch.full((len(source),), strength, device=on)
            made: Tensor = model(source.expand(-1, 3, -1, -1), asked, far)
            return (source + (made[:, :1] - source) * mask).clamp(0, 1)

        chosen[target], line = choose(make, source, target, held, net, encoder, limits)
        lines.append(line)
    mean = sum(chosen.values()) / len(chosen)
    model.edit_strength.copy_(torch.tensor([chosen.get(e, mean) for e in model.expressions]))
    print_table(lines)
    model.save_pretrained(weights)
    print(f"{weights}: {model.fingerprint}")


if __name__ == "__main__":
    typer.run(main)
