"""Flows between points, as smooth as a thin plate of metal (Bookstein 1989)."""

from __future__ import annotations

import torch
from torch import Tensor


def thin_plate(points: Tensor, values: Tensor, places: Tensor, stiffness: float = 0.0) -> Tensor:
    """Return what a thin plate through values at points is at other places.

    Args:
        points: (B, K, 2) float, at least three of them not in a line.
        values: (B, K, C) float.
        places: (P, 2) float.
        stiffness: by how much it may miss the values to bend less; 0 misses none.

    Returns:
        (B, P, C) float.
    """
    count, exact = points.shape[1], points.double()
    bent = _bending(exact, exact)
    bent.diagonal(dim1=1, dim2=2).add_(stiffness)
    flat = _flat(exact)
    corner = flat.new_zeros(len(points), 3, 3)
    system = torch.cat([torch.cat([bent, flat], 2), torch.cat([flat.mT, corner], 2)], 1)
    wanted = torch.cat([values.double(), values.new_zeros(len(values), 3, values.shape[2])], 1)
    if points.device.type != "cpu":
        weights = torch.linalg.solve(system, wanted).to(points.dtype)
        there = _bending(places[None], points) @ weights[:, :count]
        whole: Tensor = there + _flat(places[None]) @ weights[:, count:]
        return whole
    # one by one: a solver may round otherwise in a batch
    solved = [torch.linalg.solve(a, b) for a, b in zip(system, wanted, strict=True)]
    found = []
    for own, weights in zip(points, solved, strict=True):
        some = weights.to(points.dtype)
        there = _bending(places[None], own[None])[0] @ some[:count]
        found.append(there + _flat(places[None])[0] @ some[count:])
    return torch.stack(found) if found else values.new_zeros(0, len(places), values.shape[2])


def _bending(one: Tensor, two: Tensor) -> Tensor:
    """Return r² log r² between (B, P, 2) and (B, K, 2) points, (B, P, K)."""
    x, y = (one[:, :, None, axis] - two[:, None, :, axis] for axis in (0, 1))
    away = x.square_().add_(y.square_())
    return torch.xlogy(away, away)


def _flat(points: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(points[..., :1]), points], 2)
