"""Which output of a network stands for which expression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expraug.expressions import Expression


def class_index(expressions: Sequence[Expression]) -> Tensor:
    """Return the index of each `Expression` among some of them, (8,) long; -1 where not there."""
    found = torch.full((len(Expression),), -1)
    found[[int(e) for e in expressions]] = torch.arange(len(expressions))
    return found
