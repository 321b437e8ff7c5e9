"""Pairs in the memory of a device, where a training draws from them without waiting."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from expraug.faces.synthesized import canonical_part
from expraug.synthesizers.expression_maps import ExpressionMaps
from recipes.pairs.made import Pairs


class HeldPairs:
    """Some pairs, as `Pairs` has them.

    Args:
        pairs: of which they are.
        rows: (K,) which of them.
        device: that holds them.
        within: the flow over the canonical frame is enough.
    """

    def __init__(
        self, pairs: Pairs, rows: np.ndarray, device: torch.device, within: bool = False
    ) -> None:
        used, place = np.unique(pairs.source[rows], return_inverse=True)
        self.face = torch.from_numpy(pairs.face[used]).to(device)
        self.source = torch.from_numpy(place).to(device)
        names = [f.name for f in fields(ExpressionMaps)]
        maps = {name: torch.from_numpy(getattr(pairs, name)[rows]) for name in names}
        if within:
            maps["flow"] = canonical_part(maps["flow"]).contiguous()
        self.whole = ExpressionMaps(**{name: value.to(device) for name, value in maps.items()})

    def __len__(self) -> int:
        return len(self.source)

    def faces(self, rows: Tensor) -> Tensor:
        """Return the sources of some, (B, 1, 128, 128) float in [0, 1]; rows on the device."""
        return self.face[self.source[rows]].float() / 255

    def maps(self, rows: Tensor) -> ExpressionMaps:
        """Return what some expressions do; rows on the device."""
        return self.whole.each(lambda one: one[rows].float())


def chosen(which: Tensor, some: ExpressionMaps, others: ExpressionMaps) -> ExpressionMaps:
    """Return maps, some of which are these, by (B,) bool, and some those."""

    def pick(one: Tensor, other: Tensor) -> Tensor:
        return torch.where(which.view(-1, *[1] * (one.ndim - 1)), one, other)

    return some.each(pick, others)
