"""Codes: which of the many smiles a pair shows, as a few numbers that faces hardly tell in.

A code describes what an expression does on a coarse grid over the aligned face, less what it undoes
of the expression that the source shows; principal components, scaled to unit deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.mouth import painted_share
from expraug.faces.warp import resized
from expraug.synthesizers.expression_maps import ExpressionMaps

_CELLS = 16
# what makes a pixel of movement, of 128, weigh as much as so much light
_MOVES, _LIGHT, _LIPS, _INSIDE = 128.0, 16.0, 128.0, 4.0


@dataclass(frozen=True)
class Codes:
    """How pairs are described.

    Args:
        undone: (8, D) float, what the expressions of sources add to a description, for each.
        mean: (D,) float.
        components: (D, C) float; their deviation over pairs is 1.
    """

    undone: Tensor
    mean: Tensor
    components: Tensor

    @classmethod
    def fitted(cls, described: Tensor, shown: Tensor, target: Tensor, count: int) -> Codes:
        """Return the description by so many numbers.

        Args:
            described: (N, D) float, by `described`.
            shown, target: (N,) long, what the sources show and what they are turned into.
            count: C.
        """
        undone = torch.zeros(len(Expression), described.shape[1])
        neutral = shown == int(Expression.NEUTRAL)
        for source in shown.unique().tolist():
            away = []
            for wanted in target.unique().tolist():
                ours, theirs = (
                    described[which & (target == wanted)] for which in (shown == source, neutral)
                )
                if len(ours) and len(theirs) and wanted != int(Expression.NEUTRAL):
                    away.append(ours.mean(0) - theirs.mean(0))
            if away:
                undone[source] = torch.stack(away).mean(0)
        left = described - undone[shown]
        mean = left.mean(0)
        spread = (left - mean).double()
        values, directions = torch.linalg.eigh(spread.T @ spread / len(left))
        values, directions = values[-count:].flip(0), directions[:, -count:].flip(1)
        # of the two directions the one whose largest part is positive, so that another run agrees
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        scaled = directions * largest.sign() / values.clamp(min=1e-12).sqrt()
        return cls(undone, mean, scaled.float())

    def __call__(self, described: Tensor, shown: Tensor) -> Tensor:
        """Return the codes of descriptions, (N, C), within three deviations."""
        return ((described - self.undone[shown] - self.mean) @ self.components).clamp(-3, 3)


def described(maps: ExpressionMaps) -> Tensor:
    """Return a description of what expressions do, (B, D) float.

    Args:
        maps: with a flow over the canonical frame.
    """
    opens = painted_share(maps.lips, maps.moved_lips)
    parts = (
        _MOVES * resized(maps.flow, _CELLS),
        _LIGHT * resized(maps.lightening, _CELLS),
        _LIPS * (maps.moved_lips - maps.lips),
        _INSIDE * maps.interior * opens[..., None],
    )
    return torch.cat([part.flatten(1) for part in parts], 1)
