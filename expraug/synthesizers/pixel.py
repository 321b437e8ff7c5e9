"""Pixel-based Facial Expression Synthesis (Akram & Khan, ICPR 2020, arXiv:2010.14397).

Our implementation of the method: for each expression every output pixel is an affine function of
the one input pixel at its place, in closed form. What the paper leaves open, or we chose otherwise:

* a pixel's place is its place in the face, not in the picture: maps lie on a mean face, and are
  laid over each face by its landmarks, so that a fold comes where this face has it;
* the face moves, too: by the displacement of landmarks that the expression has in the mean, which
  depends linearly on the shape of the face, so that what it shows already is taken away;
* the map is one of log luminance, so colours stay and lit and dark faces change alike;
* the ridge term shrinks the *change* to zero, not the map: an uncertain pixel keeps its source
  value instead of darkening;
* the sums behind each pixel's fit are pooled over a small Gaussian neighbourhood;
* the inside of a mouth that opens is painted (`expraug.networks.mouth_painter`);
* intensity says how far of the way the face goes, which the paper does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.composite import face_mask, luminance
from expraug.faces.landmark_finder import LandmarkFinder
from expraug.faces.mesh import SurfacePoints, splat_face, with_rings
from expraug.faces.mouth import lips_met, lips_of
from expraug.faces.synthesized import FLOW_FRAME, SynthesizedFaces, canonical_part, joined
from expraug.faces.warp import pixel_grid, resized, sample
from expraug.networks.batching import independently
from expraug.networks.class_index import class_index
from expraug.networks.face_mesh import LANDMARKS
from expraug.networks.mouth_painter import COLUMNS, ROWS
from expraug.synthesizer import Synthesizer, register_synthesizer
from expraug.synthesizers.expression_maps import ExpressionMaps, nothing_done, painted_fingerprint

FRAME_SIDE = 64
"""Pixels of a canonical frame in which maps of log luminance are applied."""
_FLOW_SIDE = round(FRAME_SIDE * (FLOW_FRAME[1] - FLOW_FRAME[0]))
_CPU_BATCH = 8  # larger ones leave the processor's cache and are slower
_FLOOR = 0.06  # added to luminance before its logarithm, which would blow up noise in the dark
_BRIGHTEST, _DARKEST = 0.3, 0.5  # limits of the change of log luminance: skin does not shine
_FLAT = LANDMARKS * 2


@register_synthesizer("pixel")
class PixelSynthesizer(Synthesizer):
    """One affine map of log luminance per pixel of a mean face, and the mean displacement of its
    landmarks, for each expression.

    Args:
        sources: for each target expression that it can make, the source expressions that it was
            fitted on.
        triangles, samples: of the mesh, and of points on its surface.
        components: of a face's shape, that displacements depend on.
        axes: along which faces are displaced.
        map_side: of the maps of log luminance.
        image_size: side of the aligned faces, in pixels.
    """

    needs_landmarks = True
    size_agnostic = True
    version = "2"
    float32: ClassVar[frozenset[str]] = frozenset({"rest"})

    if TYPE_CHECKING:  # the buffers

        def __getattr__(self, name: str) -> Tensor: ...

    def __init__(
        self,
        sources: Mapping[str, Sequence[str]],
        triangles: int,
        samples: int,
        components: int = 24,
        axes: int = 32,
        map_side: int = 80,
        image_size: int = 128,
    ) -> None:
        super().__init__(
            sources={target: list(names) for target, names in sources.items()},
            triangles=triangles,
            samples=samples,
            components=components,
            axes=axes,
            map_side=map_side,
            image_size=image_size,
        )
        self.image_size = image_size
        self.sources = {
            Expression.parse(target): frozenset(map(Expression.parse, names))
            for target, names in sources.items()
        }
        self.expressions = tuple(self.sources)
        self._finder = LandmarkFinder()
        count = len(self.expressions)
        floats: dict[str, tuple[int, ...]] = {
            # the maps: change of log luminance for each unit of it, and for none
            "weight": (count, 1, map_side, map_side),
            "bias": (count, 1, map_side, map_side),
            # the mean face, on which the maps lie, and how firmly each landmark keeps its place
            "rest": (LANDMARKS, 2),
            "steady": (LANDMARKS,),
            # from a face's shape to its components, to displacements along axes, to landmarks
            "basis": (_FLAT, components),
            "displacement": (count, 1 + components, axes),
            "axes": (axes, _FLAT),
            "interior": (count, ROWS, COLUMNS),
            # mesh
            "ring_radius": (2,),
            "ring_share": (2,),
            "barycentric": (samples, 3),
            "sample_place": (samples, 2),
            "sample_hole": (samples,),
            "sample_area": (samples,),
        }
        indices = {"triangles": (triangles, 3), "sample_triangle": (samples,), "oval": (36,)}
        for name, size in floats.items():
            self.register_buffer(name, torch.zeros(size))
        for name, size in indices.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.int16))
        self.register_buffer("row", class_index(self.expressions), persistent=False)

    def supports(self, source: Expression | None, target: Expression) -> bool:
        fitted = self.sources.get(target, frozenset())
        # of a face that may show anything, only what can be made of every other expression
        return source in fitted if source is not None else len(fitted) >= len(Expression) - 1

    @property
    def fingerprint(self) -> str:
        """As every synthesizer's; the mouth painter's weights are in it."""
        return painted_fingerprint(super().fingerprint)

    def forward(
        self, faces: Tensor, target: Tensor, intensity: Tensor, **inputs: Tensor | None
    ) -> Tensor:
        """Return the faces with their target expressions.

        Args:
            faces, target, intensity, inputs: as `synthesize` takes them.

        Returns:
            As `faces`.

        Raises:
            UnsupportedExpressionError: a target that is not in `expressions`.
        """
        return self.synthesize(faces, target, intensity, **inputs).render(faces)

    def synthesize(
        self,
        faces: Tensor,
        target: Tensor,
        intensity: Tensor,
        *,
        landmarks: Tensor | None = None,
        **_: Any,
    ) -> SynthesizedFaces:
        """Return how the faces change.

        Args:
            faces, target, intensity: as `Synthesizer.forward` takes them; faces may have any side.
            landmarks: as `Synthesizer.needs_landmarks` describes them; None finds them in the
                faces, and leaves those where none are found unchanged.

        Raises:
            UnsupportedExpressionError: a target that is not in `expressions`.
        """
        self.check_targets(target)
        if landmarks is None:
            known, found = self._finder(faces)
            if not len(known):
                return nothing_done(faces)
            asked = (faces[known], target[known], intensity[known])
            return self.synthesize(*asked, **found).among(known, len(faces))
        if not len(faces):
            return nothing_done(faces)
        inputs = (faces, self.row[target], intensity.to(faces.dtype), landmarks)
        parts = independently(*inputs, most=_CPU_BATCH)
        return joined([self.maps(*part).applied(part[0]) for part in parts])

    def maps(self, faces: Tensor, row: Tensor, amount: Tensor, landmarks: Tensor) -> ExpressionMaps:
        """Return what expressions do to faces.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned.
            row: (B,) long, places in `expressions`.
            amount: (B,) float in [0, 1], how far to go.
            landmarks: (B, 478, 2) canonical.
        """
        far = amount[:, None, None]
        moved = landmarks + far * self.displaced(landmarks, row)
        moved = lips_met(moved, landmarks)
        before, after = self.vertices(landmarks, landmarks), self.vertices(landmarks, moved)
        rest = self.vertices(self.rest[None], self.rest[None])[0]
        seen = splat_face(self.surface(), before, after, rest, _FLOW_SIDE)
        flow = torch.where(far[..., None] > 0, seen.flow, 0)
        place, share = canonical_part(seen.place), canonical_part(seen.skin) * far[..., None]
        grey = log_luminance(resized(luminance(faces), FRAME_SIDE))
        source = sample(grey, pixel_grid(FRAME_SIDE, grey) + 2 * canonical_part(flow))
        weight, bias = (sample(m[row], place, "zeros") for m in (self.weight, self.bias))
        lightening = _limited(weight * source + bias) * share
        return ExpressionMaps(
            flow, lightening, lips_of(landmarks), lips_of(moved), self.interior[row]
        )

    def displaced(self, landmarks: Tensor, row: Tensor) -> Tensor:
        """Return how landmarks move with full expressions, (B, 478, 2) canonical.

        Args:
            landmarks: (B, 478, 2) canonical.
            row: (B,) long, places in `expressions`.
        """
        laid, factor = laid_over(landmarks, self.rest, self.steady)
        found = []
        for one, r in independently(laid - self.rest, row):
            shape = one.flatten(1) @ self.basis
            features = torch.cat([torch.ones_like(shape[:, :1]), shape], 1)
            found.append((features[:, None] @ self.displacement[r])[:, 0] @ self.axes)
        still = torch.view_as_complex(torch.cat(found).view(-1, LANDMARKS, 2))
        return torch.view_as_real(still / factor)

    def vertices(self, landmarks: Tensor, moved: Tensor) -> Tensor:
        """Return mesh vertices, (B, V, 2): moved landmarks and two rings around the face."""
        return with_rings(landmarks, moved, self.oval.long(), self.ring_radius, self.ring_share)

    def surface(self) -> SurfacePoints:
        """Return the points of the mesh's surface that faces are drawn with."""
        return SurfacePoints(
            self.triangles.long(),
            self.sample_triangle.long(),
            self.barycentric,
            self.sample_place,
            self.sample_hole,
            self.sample_area,
        )


def log_luminance(grey: Tensor) -> Tensor:
    """Return the log luminance of faces less its mean over the face: exposure does not count.

    Args:
        grey: (B, 1, S, S) float in [0, 1], luminance of aligned faces.

    Returns:
        (B, 1, S, S).
    """
    found = torch.log(grey + _FLOOR)
    mask = face_mask(grey.shape[-1]).to(grey)
    mean = (found * mask).sum((2, 3), keepdim=True) / mask.sum()
    return found - mean


def laid_over(landmarks: Tensor, rest: Tensor, steady: Tensor) -> tuple[Tensor, Tensor]:
    """Move, turn and scale landmarks until what expressions hardly move lies as at rest.

    Args:
        landmarks: (B, 478, 2).
        rest: (478, 2).
        steady: (478,), how much each counts.

    Returns:
        (B, 478, 2), and (B, 1) complex, by which they were turned and scaled.
    """
    points, goal = torch.view_as_complex(landmarks.contiguous()), torch.view_as_complex(rest)
    share = steady / steady.sum()
    middle, goal_middle = (points * share).sum(1, keepdim=True), (goal * share).sum()
    own, wanted = points - middle, goal - goal_middle
    # least squares (Umeyama 1991); in the complex plane one factor turns and scales
    size = (own.abs().square() * share).sum(1, keepdim=True).clamp(min=1e-12)
    factor = (own.conj() * wanted * share).sum(1, keepdim=True) / size
    return torch.view_as_real(own * factor + goal_middle), factor


def _limited(lightening: Tensor) -> Tensor:
    """Return changes of log luminance that come softly to an end."""
    up, down = (m * torch.tanh(lightening / m) for m in (_BRIGHTEST, _DARKEST))
    return torch.where(lightening > 0, up, down)
