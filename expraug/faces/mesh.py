"""Dense flow between two shapes of one triangle mesh, by splatting points of its surface."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.planes import box_blur, box_means, doubled
from expraug.faces.synthesized import FLOW_FRAME
from expraug.faces.warp import pixel_grid
from expraug.networks.batching import independently

_HIDDEN_LOSS = 0.98
"""By how much less a point in the mouth counts for the flow: it does not say how lips move."""
_CELL = 8  # pixels
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
    place = after * size - 0.5
    columns, rows = _extent(place, size)
    width, height = columns.stop - columns.start, rows.stop - rows.start
    first = torch.arange(batch, device=source.device)[:, None] * (height * width)
    sums = _Sums(values.flatten(1), batch * height * width)
    beside = _neighbours(place[0], columns), _neighbours(place[1], rows)
    for x, across in beside[0]:
        for y, down in beside[1]:
            pixel, share = first + y * width + x, across * down * weight
            sums.add(pixel.flatten(), (values * share).flatten(1))
    # planes one by one: interpolation takes other digits where it sees three channels
    filled = _filled(sums.total().view(-1, 1, height, width))
    filled = filled.view(len(values), batch, height, width).transpose(0, 1)
    flow, texture, hollow, covered = torch.split(filled, [2, 2, 1, 1], 1)
    density = covered + _TINY
    maps = (
        flow / (covered - _HIDDEN_LOSS * hollow + _TINY),
        texture / density,
        box_blur(hollow / density, 3, 3),
        covered / density,
    )
    ends = (columns.start, size - columns.stop, rows.start, size - rows.stop)
    return Splat(*(F.pad(one, ends) for one in maps))


def _extent(place: Tensor, size: int) -> tuple[slice, slice]:
    """Return the columns and rows of whole cells that (2, B, P) places can reach, and one cell
    around them; all where to know them would mean to wait for another device."""
    if place.device.type != "cpu" or not place.numel():
        return slice(0, size), slice(0, size)
    ends = torch.stack([place.amin((1, 2)), place.amax((1, 2))], 1).nan_to_num(0.0)
    first, last = (
        [min(max(int(end) // _CELL + beside, 0), size // _CELL) * _CELL for end in column]
        for beside, column in zip(
            (-1, 2), ends.floor().clamp(-size, 2 * size).T.tolist(), strict=True
        )
    )
    x, y = (slice(low, max(high, low + _CELL)) for low, high in zip(first, last, strict=True))
    return x, y


def _neighbours(place: Tensor, part: slice) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the two pixels along an axis that (B, P) places lie between, and the shares of both.

    Args:
        part: of the axis.

    Returns:
        Pixels of the part, (B, P) long, and shares, (B, P), 0 for those beside it.
    """
    low = place.floor()
    fraction, first = place - low, low.long() - part.start
    length = part.stop - part.start
    inside = [(pixel >= 0) & (pixel < length) for pixel in (first, first + 1)]
    pixels = [pixel.clamp(0, length - 1) for pixel in (first, first + 1)]
    return (pixels[0], (1 - fraction) * inside[0]), (pixels[1], fraction * inside[1])


def _filled(total: Tensor) -> Tensor:
    """Return (N, 1, H, W) sums of which none stays empty: coarser ones are added."""
    near = box_means(total, 2)
    far = F.interpolate(
        box_means(near, _CELL // 2), near.shape[2:], mode="bilinear", align_corners=False
    )
    return doubled(near.mul_(_NEAR).add_(far, alpha=_FAR)).add_(total)


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
    before, after = (landmarks - low) / scale, (moved - low) / scale
    # one by one a core's cache holds all of a face
    each = [splat(points, b, a, reference, size) for b, a in independently(before, after)]
    flow, texture, hole, cover = (
        torch.cat([getattr(one, name) for one in each])
        for name in ("flow", "texture", "hole", "cover")
    )
    return Splat(flow.mul_(scale), texture, hole, cover)


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
