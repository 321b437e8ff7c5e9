"""Choose how far `decoupled` goes at intensity 1, for each expression.

    python -m recipes.latent.calibrate_edit_strength WEIGHTS DATA --identity dlib

WEIGHTS, the folder that `recipes.decoupled.train` wrote, is changed. DATA and `--work` are as
`recipes.real_faces` takes them; `recipes.latent.edit_strength` says by what is chosen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expraug.networks.identity import create_identity_encoder
from expraug.synthesizers.decoupled import DecoupledSynthesizer
from recipes.latent.edit_strength import Instrument, Limits, calibrate, print_table

_USUAL = Limits()


def main(
    weights: Annotated[Path, typer.Argument(help="Folder of recipes.decoupled.train.")],
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    identity: Annotated[
        str, typer.Option(help="'dlib', 'facenet', or 'none': nothing keeps identity then")
    ] = "dlib",
    sources: Annotated[int, typer.Option(help="Faces that each expression is made of.")] = 60,
    largest: Annotated[float, typer.Option(help="1 is the category's own latent.")] = 2.0,
    grid: Annotated[int, typer.Option(help="Strengths to try.")] = _USUAL.grid,
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
) -> None:
    model = DecoupledSynthesizer.from_pretrained(weights)
    assert isinstance(model, DecoupledSynthesizer)
    model.eval().edit_strength.fill_(1)
    encoder = None if identity == "none" else create_identity_encoder(identity)
    limits = Limits(largest=largest, grid=grid)
    instrument = Instrument(data, work)
    print_table(calibrate(model, model.edit_strength, instrument, encoder, limits, sources))
    model.save_pretrained(weights)
    print(f"{weights}: {model.fingerprint}")


if __name__ == "__main__":
    typer.run(main)
