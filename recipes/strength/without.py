"""What is seen of synthesizers from which a part that their paper claims is taken out.

    python -m recipes.strength.without DATA [--count 24]

Parts are taken out of the embedded weights, which were trained with them; nothing is trained anew.
So it says what a net relies on, not how good one would be that never had the part. Printed is the
mean over happy to angry of min(r, 1 / r), r being the recall ratio, of validation people, by each
family of classifiers, and how much of the face changes. DATA and `--work` are as
`recipes.real_faces` takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from expraug import create_synthesizer
from expraug.faces.composite import luminance
from expraug.faces.warp import resized
from expraug.synthesizer import Synthesizer
from recipes.real_faces import Faces
from recipes.strength.instrument import Instrument, make, people_of
from recipes.strength.seen import SIX, two_sided

Removal = Callable[[Synthesizer, Faces], None]


class Same(nn.Module):
    """Gives every face what a part gives the mean of some faces.

    Args:
        part: of a net; returns a tensor or a list of them.
        face: (1, 1, S, S), the mean.
    """

    def __init__(self, part: nn.Module, face: Tensor) -> None:
        super().__init__()
        self.part, self.face = part, face

    def forward(self, faces: Tensor) -> Tensor | list[Tensor]:
        found: Tensor | list[Tensor] = self.part(self.face)
        if isinstance(found, Tensor):
            return found.expand(len(faces), *found.shape[1:])
        return [one.expand(len(faces), *one.shape[1:]) for one in found]


def same_for_all(name: str) -> Removal:
    """Return what lets an encoder of `fevgan` see the mean face alone."""

    def remove(model: Synthesizer, faces: Faces) -> None:
        net = model.get_submodule("net")
        mean = resized(luminance(faces.tensor()), model.image_size).mean(0, keepdim=True)
        seen = 2 * mean - 1 if name == "spatial" else mean
        setattr(net, name, Same(net.get_submodule(name), seen))

    return remove


def cut_skips(model: Synthesizer, faces: Faces) -> None:
    """Take the skip connections out of a U-Net: what comes along them is the second half of what
    each convolution of the decoder sees."""
    for up in model.get_submodule("generator.up").children():
        weight = up.get_submodule("convolution").get_parameter("weight")
        weight[:, weight.shape[1] // 2 :] = 0


def zero(name: str, column: int | None = None) -> Removal:
    """Return what sets a buffer, or a column of it, to zero."""

    def remove(model: Synthesizer, faces: Faces) -> None:
        buffer = model.get_buffer(name)
        (buffer if column is None else buffer[:, column]).zero_()

    return remove


PARTS: dict[tuple[str, str], Removal] = {
    ("unet_cgan", "skip connections"): cut_skips,
    ("unet_cgan", "codes"): zero("codes"),
    ("fevgan", "the encoder of identity"): same_for_all("identity"),
    ("fevgan", "the spatial encoder"): same_for_all("spatial"),
    ("fevgan", "codes"): zero("codes"),
    ("emotiongan", "light"): zero("strength", 1),
    ("emotiongan", "shape"): zero("strength", 0),
    ("decoupled", "light"): zero("strength", 1),
    ("decoupled", "shape"): zero("strength", 0),
    ("pixel", "dependence on the pixel"): zero("weight"),
    ("pixel", "displacement"): zero("displacement"),
}
"""By synthesizer and part, what takes it out."""


def seen(model: Synthesizer, instrument: Instrument, count: int) -> tuple[np.ndarray, float]:
    """Return how near both families come to real faces, (2,) in [0, 1], and the mean change of
    luminance, of a range of 1."""
    ratios, changes = {}, []
    for target in SIX:
        sources = instrument.sources(target, count)
        made = make(model, sources, target)
        changes.append(float((luminance(made) - luminance(sources.tensor())).abs().mean()))
        ratios[target] = instrument.ratios(instrument.look(made, people_of(sources)), target)
    return two_sided(ratios), float(np.mean(changes))


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    count: Annotated[int, typer.Option(help="Faces that each expression is made of.")] = 24,
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
) -> None:
    instrument = Instrument(data, work)
    table = Table("", "without", "pictures", "landmarks", "change")
    rows = [(name, "", None) for name in dict.fromkeys(name for name, _ in PARTS)]
    every = [*rows, *((name, part, remove) for (name, part), remove in PARTS.items())]
    for name, part, remove in sorted(every, key=lambda row: [r[0] for r in rows].index(row[0])):
        model = create_synthesizer(name).eval().requires_grad_(False)
        if remove:
            remove(model, instrument.sources(SIX[0], count))
        near, change = seen(model, instrument, count)
        table.add_row(name, part, *(f"{share:.2f}" for share in near), f"{change:.4f}")
        print(f"{name}, {part or 'whole'}: done", flush=True)
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
