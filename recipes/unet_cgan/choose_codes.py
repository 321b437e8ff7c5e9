"""Choose the codes that `unet_cgan` counts through.

    python -m recipes.unet_cgan.choose_codes WEIGHTS DATA --pairs PAIRS

PAIRS are those that the weights were trained on, DATA and `--work` as `recipes.real_faces` takes
them. `recipes.strength.codes` says which codes are chosen; how strong each expression is, chooses
`recipes.strength.calibrate` afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expraug.synthesizer import Synthesizer
from expraug.synthesizers.unet_cgan import UNetCGANSynthesizer
from recipes.pairs.made import Pairs
from recipes.strength.codes import TRIED_PER_CODE, choose_codes
from recipes.strength.instrument import Instrument
from recipes.unet_cgan.data import CodedPairs


def main(
    weights: Annotated[Path, typer.Argument(help="Folder; it is written again.")],
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    pairs: Annotated[Path, typer.Option(help="That it was trained on.")],
    count: Annotated[int, typer.Option(help="Faces that each code is tried on.")] = 8,
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    out: Annotated[Path | None, typer.Option(help="Folder, if it is another.")] = None,
    seed: int = 0,
) -> None:
    model = Synthesizer.from_pretrained(weights)
    if not isinstance(model, UNetCGANSynthesizer):
        raise SystemExit(f"{weights} is no `unet_cgan`: only that has codes like these")
    model.eval().requires_grad_(False)
    coded = CodedPairs(Pairs.load(pairs), model.codes.shape[2])
    tried = coded.bank(TRIED_PER_CODE * model.variants, seed)[[int(e) for e in model.expressions]]
    choose_codes(model, tried, Instrument(data, work), count)
    model.save_pretrained(out or weights)


if __name__ == "__main__":
    typer.run(main)
