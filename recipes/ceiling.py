"""How clearly synthetic faces show an expression, against the most that a face alone can show.

    python -m recipes.ceiling DATA --synthesizer transfer --classifier NET0 --classifier NET1

Classifiers see more than the face: hair, hands, how a picture was cut. So the ceiling is what they
say of real faces whose outside is blurred, beyond the mask that synthesis keeps to. Sources and
real faces are FER2013's validation images with FER+ labels, without near-duplicates of training
images; nets of `recipes.fer_classifier.train` know none of them. Exemplars are training faces,
which nets may know: with `--half` nets, each has seen half of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from expraug.expressions import Expression
from expraug.faces.composite import face_mask
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.synthesizer import Synthesizer
from recipes.real_faces import FER2013, FILES, Faces, extract
from recipes.transfer.deviation import inputs

MOSTLY = 0.5
"""Share of the annotators who see the class in a real face."""
BLUR = 6.0
"""Of the outside, in pixels of 128."""
_BATCH = 32


def without_outside(faces: Tensor) -> Tensor:
    """Return (B, 3, S, S) faces of which only what synthesis may change is sharp."""
    side = faces.shape[-1]
    sigma = BLUR * side / 128
    blurred = gaussian_blur(faces, [2 * round(2 * sigma) + 1] * 2, [sigma] * 2)
    return torch.lerp(blurred, faces, face_mask(side).to(faces))


@torch.inference_mode()
def certainty(nets: list[FERNet], faces: Tensor, target: Expression) -> np.ndarray:
    """Return the mean over nets of the probability of an expression, (B,)."""
    seen = [
        torch.cat([net.probabilities(part) for part in faces.split(_BATCH)])[
            :, net.expressions.index(target)
        ]
        for net in nets
    ]
    return torch.stack(seen).mean(0).numpy()


@torch.inference_mode()
def synthetic(model: Synthesizer, faces: Faces, target: Expression, seed: int) -> Tensor:
    """Return the faces with an expression, (B, 3, 128, 128)."""
    random = torch.Generator().manual_seed(seed)
    variant = torch.randint(model.variants, (len(faces),), generator=random)
    known = dict(zip(("landmarks", "blendshapes", "pose"), inputs(faces), strict=True))
    made = []
    for at in torch.arange(len(faces)).split(_BATCH):
        some = faces.take(at.numpy()).tensor()
        given = {k: v[at] for k, v in known.items()} if model.needs_landmarks else {}
        asked = torch.full((len(at),), int(target))
        whole = torch.ones(len(at))
        made.append(model.synthesize(some, asked, whole, variant=variant[at], **given).render(some))
    return torch.cat(made)


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    classifier: Annotated[list[Path], typer.Option(help="Of recipes.fer_classifier.train.")],
    synthesizer: Annotated[str, typer.Option(help="Name or folder.")] = "transfer",
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    count: Annotated[int, typer.Option(help="Faces of each kind.")] = 120,
    seed: int = 0,
) -> None:
    nets = [load_fer_classifier(folder).eval() for folder in classifier]
    model = Synthesizer.from_pretrained(synthesizer).eval()
    known = extract(FER2013, data / FILES[FER2013][1], work)
    label = known.majority
    agreed = known.votes[np.arange(len(known)), np.maximum(label, 0)] >= MOSTLY
    clear = (label >= 0) & agreed & ~known.duplicate
    random = np.random.default_rng(seed)

    def some(e: Expression, others: bool = False) -> Faces:
        rows = np.flatnonzero(clear & ((label != int(e)) if others else (label == int(e))))
        return known.take(random.permutation(rows)[:count])

    neutral, changed = some(Expression.NEUTRAL), some(Expression.NEUTRAL, others=True)
    table = Table("expression", "real", "ceiling", "synthetic", "synthetic / ceiling")
    for e in model.expressions:
        real = some(e).tensor()
        ceiling = certainty(nets, without_outside(real), e)
        sources = changed if e is Expression.NEUTRAL else neutral
        made = certainty(nets, without_outside(synthetic(model, sources, e, seed)), e)
        low, high = _of_ratio(made, ceiling, seed)
        ratio = f"{made.mean() / ceiling.mean():.2f} [{low:.2f}, {high:.2f}]"
        means = (certainty(nets, real, e).mean(), ceiling.mean(), made.mean())
        table.add_row(str(e), *(f"{mean:.2f}" for mean in means), ratio)
    Console().print(table)


def _of_ratio(made: np.ndarray, ceiling: np.ndarray, seed: int) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    draws = [
        random.choice(made, len(made)).mean() / random.choice(ceiling, len(ceiling)).mean()
        for _ in range(1000)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    typer.run(main)
