"""Landmark-driven expression transfer, ours: expressions of many real people, moved onto anyone.

A new expression is the source plus what an exemplar shows beyond his own rest, less what the source
shows beyond hers, in shape and in skin (`reading.py`). Where the mouth opens, its inside is painted
(`expraug.networks.mouth_painter`), with the exemplar's teeth, tongue and throat as a sketch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.landmark_finder import LandmarkFinder
from expraug.faces.mesh import SurfacePoints, splat_face, with_rings
from expraug.faces.mouth import lip_gaps, lips_of
from expraug.faces.synthesized import SynthesizedFaces, canonical_part, joined
from expraug.faces.warp import sample
from expraug.labels import SchemeLike
from expraug.networks.batching import independently
from expraug.networks.mouth_painter import COLUMNS, ROWS
from expraug.synthesizer import Synthesizer, register_synthesizer
from expraug.synthesizers.expression_maps import ExpressionMaps, nothing_done, painted_fingerprint
from expraug.synthesizers.transfer.exemplars import fit_exemplars
from expraug.synthesizers.transfer.lips import part_lips, shut_eyes_open
from expraug.synthesizers.transfer.reading import Deviation, DeviationReader

_FLOW_SIDE = 192  # of which a canonical frame takes 128
_CPU_BATCH = 8  # larger ones leave the processor's cache and are slower
_MOST_ROWS = 2000  # of an expression
_MOST_VARIANTS = 64
_ANGLE = 8.0  # degrees between exemplar and source that count as much as …
_ODDNESS = 1.5  # … two thirds of the usual distance from the mean of the class, and as …
_OPEN, _SHUT = 0.08, 0.03  # … a shut mouth for a source with an open one, in its widths
SHUT_EYES = "eyes_shut"
_LOWER_HALF = 0.6  # of the texture frame: below the tip of the nose
_TINY = 1e-6


@register_synthesizer("transfer")
class TransferSynthesizer(Synthesizer):
    """Gives every expression to every face whose landmarks are known.

    Args:
        rows: for each expression, how many exemplars of the bank show it; the bank holds them in
            the order of this mapping. Each lends its mirror image, too.
        triangles, samples: of the mesh, and of points on its surface.
        texels: pixels of the texture maps inside the face, of `texture_size` squared.
        axes: of shape and of skin, along which exemplars deviate from their rest, and principal
            components of the landmarks.
        texture_size: side of the texture maps.
        image_size: side of the aligned faces, in pixels.

    Raises:
        ValueError: no rows, or fewer than 1 or more than 2000 of an expression.
    """

    needs_landmarks = True
    size_agnostic = True
    version = "2"
    # triangle areas hang on the one, places in the face on the others
    float32: ClassVar[frozenset[str]] = frozenset(
        {"reference", "reader.rest", "reader.steady_place", "reader.texel_weight"}
    )

    if TYPE_CHECKING:  # the buffers

        def __getattr__(self, name: str) -> Tensor: ...

    def __init__(
        self,
        rows: Mapping[str, int],
        triangles: int,
        samples: int,
        texels: int,
        axes: Sequence[int] = (48, 160, 80),
        texture_size: int = 112,
        image_size: int = 128,
    ) -> None:
        super().__init__(
            rows=dict(rows),
            triangles=triangles,
            samples=samples,
            texels=texels,
            axes=list(axes),
            texture_size=texture_size,
            image_size=image_size,
        )
        if not rows or not all(1 <= n <= _MOST_ROWS for n in rows.values()):
            raise ValueError(f"rows must be 1 to {_MOST_ROWS} of each expression, not {dict(rows)}")
        self.image_size, self.texture_size = image_size, texture_size
        self.expressions = tuple(Expression.parse(name) for name in rows)
        self.variants = min(_MOST_VARIANTS, 2 * min(rows.values()))
        self._finder = LandmarkFinder()
        of_shape, of_skin, of_level = axes
        self.reader = DeviationReader(of_shape, of_skin, of_level, texels, texture_size)
        shows = [
            int(e) for e, n in zip(self.expressions, rows.values(), strict=True) for _ in range(n)
        ]
        self.register_buffer("shows", torch.tensor(shows), persistent=False)
        bank, classes = len(shows), len(Expression)
        floats: dict[str, tuple[int, ...]] = {
            # bank: deviations, inside of the mouth, yaw and pitch, gaps between lips
            "shape": (bank, of_shape),
            "skin": (bank, of_skin),
            "interior": (bank, ROWS, COLUMNS),
            "pose": (bank, 2),
            "gaps": (bank, 9),
            # how unlike the class's mean its shape is, 1 for the usual exemplar
            "oddness": (bank,),
            # the skin that goes with a shape, and what faces have beyond it at most, in the upper
            # and the lower half
            "skin_of_shape": (1 + of_shape, of_skin),
            "most_unexplained": (2,),
            # what makes up for what a regression leaves out
            "shape_gain": (classes,),
            "skin_gain": (classes,),
            # what is added to every exemplar of an expression, so that faces show what real ones do
            "shape_correction": (classes, of_shape),
            "skin_correction": (classes, of_skin),
            # signs of the axes in a mirror
            "mirrored_shape": (of_shape,),
            "mirrored_skin": (of_skin,),
            # of the change of log luminance: where it counts, and its limits
            "mask": (texture_size, texture_size),
            "brightest": (texture_size, texture_size),
            "darkest": (1,),
            # mesh
            "reference": (478, 2),
            # what goes along with a lip
            "followers": (2, 478, 9),
            "ring_radius": (2,),
            "ring_share": (2,),
            "barycentric": (samples, 3),
            "sample_texture": (samples, 2),
            "sample_hole": (samples,),
            "sample_area": (samples,),
        }
        indices: dict[str, tuple[int, ...]] = {
            "triangles": (triangles, 3),
            "sample_triangle": (samples,),
            "oval": (36,),
            "upper_lip": (11,),
            "lower_lip": (11,),
            "lids": (2, 2),
        }
        for name, size in floats.items():
            self.register_buffer(name, torch.zeros(size))
        for name, size in indices.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.int16))

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
        variant: Tensor | None = None,
        landmarks: Tensor | None = None,
        blendshapes: Tensor | None = None,
        pose: Tensor | None = None,
        exemplar: Tensor | None = None,
    ) -> SynthesizedFaces:
        """Return how the faces change.

        Args:
            faces, target, intensity: as `Synthesizer.forward` takes them; faces may have any side.
            variant: (B,) long from 0: which of the exemplars that fit the face, the best fit
                first; the best if None.
            landmarks, blendshapes, pose: as `Synthesizer.needs_landmarks` describes them; None
                finds them in the faces, and leaves those where none are found unchanged.
            exemplar: (B,) long, as `settle` returns it; None chooses by `variant`.

        Raises:
            UnsupportedExpressionError: a target that is not in `expressions`.
        """
        self.check_targets(target)
        if variant is None:
            variant = torch.zeros_like(target)
        if landmarks is None or blendshapes is None or pose is None:
            known, found = self._finder(faces)
            if not len(known):
                return nothing_done(faces, [SHUT_EYES])
            asked = (faces[known], target[known], intensity[known])
            if exemplar is not None:
                found["exemplar"] = exemplar[known]
            made = self.synthesize(*asked, variant=variant[known], **found)
            return made.among(known, len(faces))
        if not len(faces):
            return nothing_done(faces, [SHUT_EYES])
        if exemplar is None:
            row, mirrored = self.choose(target, pose, variant, landmarks)
        else:
            row, mirrored = exemplar % len(self.shows), exemplar >= len(self.shows)
        return self.lend(faces, intensity, row, mirrored, landmarks, blendshapes, pose)

    def settle(self, target: Tensor, variant: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """Choose one exemplar for all frames of a video: the one that fits the face on the whole.

        Args:
            target, variant, inputs: as `Synthesizer.settle` takes them.
        """
        self.check_targets(target)
        row, mirrored = self.choose(target, inputs["pose"], variant, inputs["landmarks"])
        return {"exemplar": row + mirrored * len(self.shows)}

    def lend(
        self,
        faces: Tensor,
        intensity: Tensor,
        row: Tensor,
        mirrored: Tensor,
        landmarks: Tensor,
        blendshapes: Tensor,
        pose: Tensor,
    ) -> SynthesizedFaces:
        """Return how faces change with the expressions of given exemplars.

        Args:
            faces, intensity, landmarks, blendshapes, pose: as `synthesize` takes them.
            row: (B,) long, exemplars.
            mirrored: (B,) bool, whether their mirror images are meant.
        """
        made = []
        inputs = (faces, intensity, row, mirrored, landmarks, blendshapes, pose)
        for part in independently(*inputs, most=_CPU_BATCH):
            maps, refused = self._maps(*part)
            made.append(maps.applied(part[0], refused))
        return joined(made)

    def maps(self, *inputs: Tensor) -> list[ExpressionMaps]:
        """Return what the expressions of given exemplars do to faces, a few faces each; arguments
        as `lend` takes them."""
        return [self._maps(*part)[0] for part in independently(*inputs, most=_CPU_BATCH)]

    def _maps(self, *inputs: Tensor) -> tuple[ExpressionMaps, dict[str, Tensor]]:
        _, intensity, _, _, landmarks, blendshapes, _ = inputs
        moved, skin, interior = self.changes(*inputs)
        asked = (intensity > 0).view(-1, 1, 1, 1)
        moved = torch.where(asked[..., 0], moved, landmarks)  # then the flow is 0 to the bit
        flow, place, share = self.draw(landmarks, moved)
        lightening = sample(self.lightening(skin), place, "zeros") * share * asked
        shut = shut_eyes_open(landmarks, moved, self.lids.long(), blendshapes)
        maps = ExpressionMaps(flow, lightening, lips_of(landmarks), lips_of(moved), interior)
        return maps, {SHUT_EYES: shut}

    def changes(
        self,
        faces: Tensor,
        intensity: Tensor,
        row: Tensor,
        mirrored: Tensor,
        landmarks: Tensor,
        blendshapes: Tensor,
        pose: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the expressions of given exemplars change; arguments as `lend` takes them.

        Returns:
            Moved landmarks, (B, 478, 2), the change along the axes of skin, (B, D), and the insides
            of mouths, (B, 6, 12).
        """
        amount = intensity.to(faces.dtype)[:, None]
        target = self.shows[row]
        lent, interior, gaps = self._lent(row, mirrored)
        own = self.reader.beyond_rest(self.reader(faces, landmarks, blendshapes, pose))
        shape = (lent.shape * self.shape_gain[target][:, None] - own.shape) * amount
        skin = (lent.skin * self.skin_gain[target][:, None] - own.skin) * amount
        moved = landmarks + self.reader.displacement(shape, landmarks)
        return part_lips(moved, landmarks, gaps, amount, self.followers), skin, interior

    def draw(self, landmarks: Tensor, moved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw faces whose landmarks move, both (B, 478, 2).

        Returns:
            Flow, (B, 2, f, f), as `SynthesizedFaces` has it; for each place of the canonical frame,
            where in the texture maps it lies, (B, 2, s, s), and how far it is skin, (B, 1, s, s).
        """
        before, after = self.vertices(landmarks, landmarks), self.vertices(landmarks, moved)
        rest = self.vertices(self.reference[None], self.reference[None])[0]
        seen = splat_face(self.surface(), before, after, rest, _FLOW_SIDE)
        return seen.flow, canonical_part(seen.place), canonical_part(seen.skin)

    def fit_exemplars(
        self,
        dataset: Any,
        scheme: SchemeLike | None = None,
        *,
        rows: int | None = None,
        alignment: str = "crop",
    ) -> TransferSynthesizer:
        """Return a synthesizer that lends the expressions of a data set's own faces; see
        `expraug.synthesizers.transfer.exemplars.fit_exemplars`."""
        return fit_exemplars(self, dataset, scheme, rows=rows, alignment=alignment)

    @property
    def fingerprint(self) -> str:
        """As every synthesizer's; the mouth painter's weights are in it."""
        return painted_fingerprint(super().fingerprint)

    def choose(
        self, target: Tensor, pose: Tensor, variant: Tensor, landmarks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the row of each face, (B,), and whether it is mirrored, (B,) bool: the variant-th
        of those that fit it, the best fit first."""
        count = len(self.shows)
        yaw, pitch = self.pose.unbind(1)
        yaw, pitch = torch.cat([yaw, -yaw]), torch.cat([pitch, pitch])
        turn, nod = pose[:, :1] - yaw, pose[:, 1:2] - pitch
        unlike = (turn.square() + nod.square()) / _ANGLE**2
        # lips that are shut would have to be stretched over teeth
        open_now = self.lip_gaps(landmarks).mean(1, keepdim=True) > _OPEN
        unlike = unlike + (open_now & (self.gaps.mean(1) < _SHUT).repeat(2))
        unlike = unlike + _ODDNESS * self.oddness.repeat(2)
        others = self.shows.repeat(2) != target[:, None]
        order = unlike.masked_fill(others, torch.inf).argsort(dim=1, stable=True)
        chosen = order.gather(1, (variant % self.variants)[:, None])[:, 0]
        return chosen % count, chosen >= count

    def _lent(self, row: Tensor, mirrored: Tensor) -> tuple[Deviation, Tensor, Tensor]:
        """Return the deviations, the insides of mouths, (B, 6, 12), and the gaps between lips,
        (B, 9), of rows."""
        flip, target, interior = mirrored[:, None], self.shows[row], self.interior[row]
        shape = self.shape[row] + self.shape_correction[target]
        skin = self.skin[row] + self.skin_correction[target]
        return (
            Deviation(
                torch.where(flip, shape * self.mirrored_shape, shape),
                torch.where(flip, skin * self.mirrored_skin, skin),
            ),
            torch.where(flip[..., None], interior.flip(2), interior),
            torch.where(flip, self.gaps[row].flip(1), self.gaps[row]),
        )

    def lip_gaps(self, landmarks: Tensor) -> Tensor:
        """Return how far the inner lips of (B, 478, 2) landmarks are apart from corner to corner,
        (B, 9), as a share of the width of the mouth."""
        return lip_gaps(lips_of(landmarks))

    def expected_skin(self, shape: Tensor) -> Tensor:
        """Return the deviation of skin, (B, D), that goes with one of shape, (B, C)."""
        return self.skin_of_shape[0] + shape @ self.skin_of_shape[1:]

    def unexplained(self, shape: Tensor, skin: Tensor) -> Tensor:
        """Return how much of deviations of skin does not go with the shape, (B, 2): mean squares of
        log luminance in the upper and the lower half of the face."""
        beyond = (skin - self.expected_skin(shape)) @ self.reader.skin_axes
        low = self.reader.texel.long() // self.texture_size > self.texture_size * _LOWER_HALF
        return torch.stack([beyond[:, half].square().mean(1) for half in (~low, low)], 1)

    def vertices(self, rest: Tensor, moved: Tensor) -> Tensor:
        """Return mesh vertices, (B, V, 2): moved landmarks and two rings around the face."""
        return with_rings(rest, moved, self.oval.long(), self.ring_radius, self.ring_share)

    def surface(self) -> SurfacePoints:
        """Return the points of the mesh's surface that faces are drawn with."""
        return SurfacePoints(
            self.triangles.long(),
            self.sample_triangle.long(),
            self.barycentric,
            self.sample_texture,
            self.sample_hole,
            self.sample_area,
        )

    def lightening(self, skin: Tensor) -> Tensor:
        """Return the change of log luminance in the texture frame, (B, 1, T, T), within its limits.

        Args:
            skin: (B, D), the change along the axes of skin.
        """
        maps = self.reader.lightening(skin)
        up, down = self.brightest.clamp(min=_TINY), self.darkest
        soft = torch.where(maps > 0, up * torch.tanh(maps / up), down * torch.tanh(maps / down))
        return soft * self.mask
