"""How nets that learned from real faces look at faces that are made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from expraug.expressions import Expression
from expraug.networks.class_index import class_index
from expraug.networks.fer_classifier import FERNet
from recipes.fer_classifier.train import vary


def expression_net(
    classifier: FERNet, categories: tuple[Expression, ...]
) -> Callable[[Tensor], Tensor]:
    """Return the classifier's logits of altered faces, so that no single pixel can please it."""
    device = next(classifier.parameters()).device  # the net must not be moved after this
    columns = class_index(classifier.expressions)[[int(c) for c in categories]].to(device)
    known = columns >= 0

    def logits(faces: Tensor) -> Tensor:
        found: Tensor = classifier(vary(resize(faces, [64, 64])))[:, columns]
        return found.masked_fill(~known, -torch.inf)

    return logits
