"""What a training on pairs is watched by: faces that were held out of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize
from torchvision.utils import save_image

from expraug.expressions import Expression
from expraug.faces.composite import face_mask
from expraug.networks.class_index import class_index
from expraug.networks.fer_classifier import FERNet
from expraug.synthesizer import Synthesizer
from recipes.fer_classifier.train import vary
from recipes.pairs.data import Faces


def expression_net(
    classifier: FERNet, categories: tuple[Expression, ...]
) -> Callable[[Tensor], Tensor]:
    """Return the classifier's logits of altered faces, so that no single pixel can please it."""
    columns = class_index(classifier.expressions)[[int(c) for c in categories]]
    known = columns >= 0

    def logits(faces: Tensor) -> Tensor:
        found = classifier(vary(resize(faces, [64, 64])))[:, columns]
        return found.masked_fill(~known.to(found.device), -torch.inf)

    return logits


@torch.inference_mode()
def watch(
    model: Synthesizer,
    held: Faces,
    classifier: FERNet,
    encoder: Callable[[Tensor], Tensor],
    sheet: Path,
) -> dict[str, float]:
    """Make every expression of the held-out photographs, write the sheet, return the figures."""
    shown = held.photograph.nonzero().flatten()
    grey = held.pixels[shown].float() / 255
    mask = face_mask(model.image_size).to(grey.device)
    rows, figures = [grey], defaultdict(list)
    place = {
        (g, c): i
        for i, (g, c) in enumerate(zip(held.group.tolist(), held.category.tolist(), strict=True))
    }
    for number, expression in enumerate(model.expressions):
        faces = grey.expand(-1, 3, -1, -1)
        asked = torch.full((len(faces),), int(expression), device=grey.device)
        made = model(faces, asked, torch.ones(len(faces), device=grey.device))
        made = (faces + (made - faces) * mask).clamp(0, 1)
        rows.append(made[:, :1])
        if expression in classifier.expressions and expression != Expression.NEUTRAL:
            column = classifier.expressions.index(expression)
            right = classifier.probabilities(made).argmax(1) == column
            figures["agreement"].append(float(right.float().mean()))
        cosine = (encoder(made) * held.embedding[shown]).sum(1)
        figures["cosine"].append(float(cosine.mean()))
        pairs = [
            (n, place[g, number])
            for n, g in enumerate(held.group[shown].tolist())
            if (g, number) in place
        ]
        if pairs and expression != Expression.NEUTRAL:
            mine, theirs = (list(side) for side in zip(*pairs, strict=True))
            wanted = held.pixels[theirs].float() / 255
            figures["l1 to target"].append(float((made[mine, :1] - wanted).abs().mean()))
            figures["l1 of copying"].append(float((grey[mine] - wanted).abs().mean()))
    columns = torch.stack(rows, 1)[:8].flatten(0, 1)
    save_image(columns, sheet, nrow=len(rows), padding=1)
    return {name: sum(values) / len(values) for name, values in figures.items()}
