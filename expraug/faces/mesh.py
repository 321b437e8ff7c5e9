"""Dense flow between two shapes of one triangle mesh, by splatting points of its surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expraug.faces.planes import box_blur, box_means, doubled
from expraug.faces.synthesized import FLOW_FRAME
from expraug.faces.warp import pixel_grid

_HIDDEN_LOSS = 0.98
"""By how much less a point in the mouth counts for the flow: it does not say how lips move."""
_NEAR, _FAR = 0.05, 1e-4
"""Weights of means of two by two and of eight by eight pixels, which fill what no point reached."""
_CENTRE = (0.5, 0.55)  # of the rings around the face
_TINY = 1e-7
_UNIT = 2.0**40  # of sums of whole numbers: sums of up to eight millions, to 1e-12


@dataclass(frozen=True)
class SurfacePoints:
    """Points spread over the triangles of a mesh.

    Args:
        triangles: (T, 3) long, vertices; at rest they turn clockwise on the screen.
        triangle: (P,) long, the triangle of each point.
        barycentric: (P, 3) float, its place in the triangle.
        texture: (P, 2) float in [-1, 1], its place (x, y) in the texture frame.
        hole: (P,) float, 1 inside the mouth, which the surface only spans.
        area: (P,) float, the share of the texture that it stands for.
    """

    triangles: Tensor
    triangle: Tensor
    barycentric: Tensor
    texture: Tensor
    hole: Tensor
    area: Tensor


@dataclass(frozen=True)
class Splat:
    """What each pixel of the moved mesh shows.

    Args:
        flow: (B, 2, S, S), from the pixel to where its content is in the source, as fractions.
        texture: (B, 2, S, S), from the pixel, in [-1, 1]² of the frame, to its place in texture.
        hole: (B, 1, S, S) in [0, 1], 1 inside the mouth.
        cover: (B, 1, S, S) in [0, 1], 0 beside the mesh.
    """

    flow: Tensor
    texture: Tensor
    hole: Tensor
    cover: Tensor

    @property
    def place(self) -> Tensor:
        """(B, 2, S, S), the place in texture that each pixel shows, as `grid_sample` counts."""
        return (pixel_grid(self.texture.shape[-1], self.texture) + self.texture).clamp(-2, 2)

    @property
    def skin(self) -> Tensor:
        """(B, 1, S, S) in [0, 1], 0 in the mouth and beside the mesh."""
        return self.cover * (1 - self.hole)


def splat(
    points: SurfacePoints, source: Tensor, target: Tensor, reference: Tensor, size: int
) -> Splat:
    """Splat the points of a moved mesh onto pixels, bilinearly.

    Every step treats each face by itself, so that a face does not depend on its batch.

    Args:
        points: of the surface.
        source, target: (B, V, 2) float, vertices before and after: (x, y), fractions of the frame.
        reference: (V, 2) float, the mesh at rest: a triangle's area against its area here is the
            weight of its points.
        size: side S of the frame, in pixels.
    """
    batch = len(source)
    # a folded triangle is hidden; a collapsed one vanishes
    growth = _areas(target, points) / _areas(reference[None], points)
    weight = growth.clamp(0, 4).index_select(1, points.triangle) * points.area
    # whole planes one after the other: sums into them are several times as fast as into short rows
    before, after = _on_surface(points, torch.cat([source, target], 2)).chunk(2)
    values = after.new_empty(6, batch, len(points.triangle))
    torch.mul(before - after, 1 - _HIDDEN_LOSS * points.hole, out=values[:2])
    torch.sub(points.texture.T[:, None] + 1, after, alpha=2, out=values[2:4])
    values[4], values[5] = points.hole, 1
    first = torch.arange(batch, device=source.device)[:, None] * size**2
    sums = _Sums(values.flatten(1), batch * size**2)
    (left, right), (above, below) = (_neighbours(x * size - 0.5, size) for x in after)
    for x, across in (left, right):
        for y, down in (above, below):
            pixel, share = first + y * size + x, across * down * weight
            sums.add(pixel.flatten(), (values * share).flatten(1))
    # planes one by one: interpolation takes other digits where it sees three channels
    total = sums.total().view(-1, 1, size, size)
    filled = total + _filling(total)
    filled = filled.view(len(values), batch, size, size).transpose(0, 1)
    flow, texture, hollow, covered = torch.split(filled, [2, 2, 1, 1], 1)
    density = covered + _TINY
    return Splat(
        flow / (covered - _HIDDEN_LOSS * hollow + _TINY),
        texture / density,
        box_blur(hollow / density, 3, 3),
        covered / density,
    )


def _neighbours(place: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the two pixels along an axis that (B, P) places lie between, and the shares of both:
    (B, P) long, and (B, P), 0 for those beside the image."""
    low = place.floor()
    fraction = place - low
    inside = [(pixel >= 0) & (pixel < size) for pixel in (low, low + 1)]
    pixels = [pixel.clamp(0, size - 1).long() for pixel in (low, low + 1)]
    return (pixels[0], (1 - fraction) * inside[0]), (pixels[1], fraction * inside[1])


def _filling(total: Tensor) -> Tensor:
    """Return what is added to (N, 1, S, S) sums so that none stays empty: coarser ones."""
    near = box_means(total, 2)
    far = doubled(doubled(box_means(near, 4)))
    return doubled(near * _NEAR + far * _FAR)


class _Sums:
    """Sums of what falls on the same places, to the same bits every time.

    On the CPU one term comes after the other. Elsewhere they come in any order, which sums of
    floats depend on and sums of whole numbers do not.

    Args:
        like: (K, N) float, of whose kind the terms are.
        places: number of places.
    """

    def __init__(self, like: Tensor, places: int) -> None:
        self.whole = like.device.type != "cpu"
        self.dtype = like.dtype
        kind = torch.int64 if self.whole else like.dtype
        self.sums = torch.zeros(len(like), places, dtype=kind, device=like.device)

    def add(self, place: Tensor, terms: Tensor) -> None:
        """Add (K, N) terms to their (N,) places."""
        if self.whole:
            terms = (terms.double() * _UNIT).round_().long()
        self.sums.index_add_(1, place, terms)

    def total(self) -> Tensor:
        """Return the sums, (K, places)."""
        return (self.sums.double() / _UNIT).to(self.dtype) if self.whole else self.sums


def splat_face(
    points: SurfacePoints, landmarks: Tensor, moved: Tensor, reference: Tensor, size: int
) -> Splat:
    """Splat a mesh that moves over `FLOW_FRAME`.

    Args:
        points, size: as `splat` takes them.
        landmarks, moved, reference: (B, V, 2), (B, V, 2) and (V, 2) vertices, canonical: before and
            after, and at rest.

    Returns:
        As `splat`, but for the flow, which is in sides of the canonical frame.
    """
    low, high = FLOW_FRAME
    scale = high - low
    seen = splat(points, (landmarks - low) / scale, (moved - low) / scale, reference, size)
    return replace(seen, flow=seen.flow * scale)


def with_rings(
    landmarks: Tensor, moved: Tensor, oval: Tensor, radius: Tensor, share: Tensor
) -> Tensor:
    """Return mesh vertices, (B, 478 + 2 * 36, 2): moved landmarks and two rings around the face.

    The rings let the deformation fade out, so that hair, neck and background move along.

    Args:
        landmarks, moved: (B, 478, 2) canonical, before and after.
        oval: (36,) long, landmarks of the face's outline.
        radius: (2,), how far out each ring lies, as a multiple of the oval's distance.
        share: (2,), by how much of the oval's displacement it moves.
    """
    centre = landmarks.new_tensor(_CENTRE)
    rings = [
        centre + far * (landmarks[:, oval] - centre) + s * (moved[:, oval] - landmarks[:, oval])
        for far, s in zip(radius, share, strict=True)
    ]
    return torch.cat([moved, *rings], 1)


def _on_surface(points: SurfacePoints, vertices: Tensor) -> Tensor:
    """Return the points' (C, B, P) of the vertices' (B, V, C)."""
    # term by term, not as a matrix product, whose last digits depend on the size of the batch;
    # and all that a vertex has side by side, which is found several times as fast
    batch, count, channels = vertices.shape
    rows = vertices.permute(1, 2, 0).reshape(count, channels * batch)
    corners, share = points.triangles.index_select(0, points.triangle), points.barycentric
    a, b, c = (rows.index_select(0, corners[:, k]) * share[:, k : k + 1] for k in range(3))
    return (a + b + c).T.reshape(channels, batch, -1)


def _areas(vertices: Tensor, points: SurfacePoints) -> Tensor:
    """Return twice the signed areas of the triangles, (B, T)."""
    a, b, c = vertices[:, points.triangles].unbind(2)
    (x1, y1), (x2, y2) = (b - a).unbind(2), (c - a).unbind(2)
    return x1 * y2 - y1 * x2
