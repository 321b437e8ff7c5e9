"""Landmark-driven expression transfer.

The deformation of a face is a linear function of its 52 blendshape scores, with yaw and pitch as
covariates, learned from real faces; so is the change of its log luminance (furrows, folds, lids).
An exemplar row of the embedded bank says which scores the target expression has, what its shape
and its luminance change hold beyond those, and what is inside its mouth. The source is warped by
the mesh between its landmarks before and after, relit by the luminance change, and where the mouth
opens its interior comes from the row, in the light of the source's own cheeks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.mesh import Splat, SurfacePoints, splat
from expraug.labels import SchemeLike
from expraug.networks.face_mesh import BLENDSHAPES, LANDMARKS
from expraug.synthesizer import Synthesizer, register_synthesizer
from expraug.synthesizers.transfer.drawing import combine, new_mouth_share, sample, tinted
from expraug.synthesizers.transfer.exemplars import fit_exemplars
from expraug.synthesizers.transfer.finder import LandmarkFinder

_CENTRE = (0.5, 0.55)  # of the rings around the face
_LID_GAP = (0.010, 0.022)  # below the first an eye does not open further, from the second on freely
_CPU_BATCH = 4  # larger ones leave the processor's cache and are slower
_MOST_ROWS = 1000  # of an expression
_LARGEST_ANGLE = 45  # degrees of yaw and pitch up to which the covariates were learned


@register_synthesizer("transfer")
class TransferSynthesizer(Synthesizer):
    """Gives every expression to every face whose landmarks are known.

    Args:
        rows: for each expression, how many rows of the bank show it; the bank holds them in the
            order of this mapping. The smallest of these numbers is that of the variants.
        triangles, samples: of the mesh, and of points on its surface.
        texels: pixels of the luminance maps inside the face, of `texture_size` squared.
        texture_size: side of the luminance maps.
        mouth_size: height and width of the mouth interiors.
        image_size: side of the aligned faces, in pixels.

    Raises:
        ValueError: no rows, or fewer than 1 or more than 1000 of an expression.
    """

    needs_landmarks = True
    size_agnostic = True
    # triangle areas hang on the one, the place of the teeth on the other
    float32: ClassVar[frozenset[str]] = frozenset({"reference", "mouth_frame"})

    shows: Tensor
    basis: Tensor
    basis_yaw: Tensor
    basis_pitch: Tensor
    appearance: Tensor
    mask: Tensor
    limits: Tensor
    rest: Tensor
    spread: Tensor
    moves: Tensor
    scores: Tensor
    shape: Tensor
    texture: Tensor
    mouth: Tensor
    pose: Tensor
    rank: Tensor
    gain: Tensor
    detail: Tensor
    reference: Tensor
    ring_radius: Tensor
    ring_share: Tensor
    mouth_frame: Tensor
    barycentric: Tensor
    sample_texture: Tensor
    sample_hole: Tensor
    sample_area: Tensor
    triangles: Tensor
    sample_triangle: Tensor
    oval: Tensor
    upper_lip: Tensor
    lower_lip: Tensor
    cheeks: Tensor
    lids: Tensor
    eye_scores: Tensor

    def __init__(
        self,
        rows: Mapping[str, int],
        triangles: int,
        samples: int,
        texels: int,
        texture_size: int = 112,
        mouth_size: Sequence[int] = (22, 44),
        image_size: int = 128,
    ) -> None:
        super().__init__(
            rows=dict(rows),
            triangles=triangles,
            samples=samples,
            texels=texels,
            texture_size=texture_size,
            mouth_size=list(mouth_size),
            image_size=image_size,
        )
        if not rows or not all(1 <= n <= _MOST_ROWS for n in rows.values()):
            raise ValueError(f"rows must be 1 to {_MOST_ROWS} of each expression, not {dict(rows)}")
        self.image_size, self.texture_size = image_size, texture_size
        self.expressions = tuple(Expression.parse(name) for name in rows)
        self.variants = min(rows.values())
        self._finder = LandmarkFinder()
        shows = [
            int(e) for e, n in zip(self.expressions, rows.values(), strict=True) for _ in range(n)
        ]
        self.register_buffer("shows", torch.tensor(shows), persistent=False)
        bank, classes = len(shows), len(Expression)
        floats: dict[str, tuple[int, ...]] = {
            # geometry: displacement per score, and its change with yaw and pitch
            "basis": (BLENDSHAPES, LANDMARKS * 2),
            "basis_yaw": (BLENDSHAPES, LANDMARKS * 2),
            "basis_pitch": (BLENDSHAPES, LANDMARKS * 2),
            # appearance: change of log luminance per score, inside `mask`; largest up and down
            "appearance": (BLENDSHAPES, texels),
            "mask": (texture_size, texture_size),
            "limits": (2,),
            # scores of neutral faces: median and usual deviation; which scores move anything
            "rest": (BLENDSHAPES,),
            "spread": (BLENDSHAPES,),
            "moves": (BLENDSHAPES,),
            # bank
            "scores": (bank, BLENDSHAPES),
            "shape": (bank, LANDMARKS, 2),
            "texture": (bank, texels),
            "mouth": (bank, *mouth_size),
            "pose": (bank, 2),
            "rank": (bank,),
            "gain": (classes,),
            "detail": (classes,),
            # mesh
            "reference": (LANDMARKS, 2),
            "ring_radius": (2,),
            "ring_share": (2,),
            "mouth_frame": (4,),
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
            "cheeks": (10,),
            "lids": (2, 2),
            "eye_scores": (2, 3),
        }
        for name, size in floats.items():
            self.register_buffer(name, torch.zeros(size))
        for name, size in indices.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.int16))

    def forward(
        self,
        faces: Tensor,
        target: Tensor,
        intensity: Tensor,
        *,
        variant: Tensor | None = None,
        landmarks: Tensor | None = None,
        blendshapes: Tensor | None = None,
        pose: Tensor | None = None,
    ) -> Tensor:
        """Return the faces with their target expressions.

        Args:
            faces, target, intensity: as `Synthesizer.forward` takes them; faces may have any side.
            variant: (B,) long from 0: which of the expression's rows, nearest in pose first; the
                first if None.
            landmarks, blendshapes, pose: as `Synthesizer.needs_landmarks` describes them; None
                finds them in the faces, and leaves those where none are found unchanged.

        Returns:
            As `faces`.

        Raises:
            UnsupportedExpressionError: a target that is not in `expressions`.
            MissingDependencyError, MissingWeightsError: landmarks must be found and cannot be.
        """
        self.check_targets(target)
        if landmarks is None or blendshapes is None or pose is None:
            known, found = self.find_landmarks(faces)
            if not len(known):
                return faces.clone()
            rows = None if variant is None else variant[known]
            made = self(faces[known], target[known], intensity[known], variant=rows, **found)
            return faces.index_copy(0, known, made)
        if variant is None:
            variant = torch.zeros_like(target)
        if faces.device.type == "cpu" and len(faces) > _CPU_BATCH:
            inputs = (faces, target, intensity, variant, landmarks, blendshapes, pose)
            parts = zip(*(t.split(_CPU_BATCH) for t in inputs), strict=True)
            return torch.cat([self._transfer(*part) for part in parts])
        return self._transfer(faces, target, intensity, variant, landmarks, blendshapes, pose)

    def _transfer(
        self,
        faces: Tensor,
        target: Tensor,
        intensity: Tensor,
        variant: Tensor,
        landmarks: Tensor,
        blendshapes: Tensor,
        pose: Tensor,
    ) -> Tensor:
        row = self._choose(target, pose, variant)
        amount = intensity.to(faces.dtype)[:, None]
        change = self._score_change(blendshapes, row, landmarks)
        strong = change * self.gain[target][:, None]
        moved = landmarks + amount[..., None] * self._displacement(strong, pose, row)
        moved = self._part_lips(moved)
        size = faces.shape[-1]
        seen = splat(
            self.surface(),
            self.vertices(landmarks, landmarks),
            self.vertices(landmarks, moved),
            self.vertices(self.reference[None], self.reference[None])[0],
            size,
        )
        axis = (torch.arange(size, device=faces.device) + 0.5) / size * 2 - 1
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[None]
        made = sample(faces, grid + 2 * seen.flow.permute(0, 2, 3, 1), "bicubic", "reflection")
        made = made.clamp(0, 1)
        place = (grid + seen.texture.permute(0, 2, 3, 1)).clamp(-2, 2)
        lighter = self._luminance_change(strong, target, row) * amount[..., None, None]
        made = made * torch.exp(sample(lighter, place) * seen.cover)
        made = self._fill_mouth(made, faces, place, seen, row, landmarks, moved, amount)
        return torch.where((intensity > 0)[:, None, None, None], made.clamp(0, 1), faces)

    def clip(
        self,
        faces: Tensor,
        target: Tensor,
        frames: int,
        *,
        variant: Tensor | None = None,
        landmarks: Tensor | None = None,
        blendshapes: Tensor | None = None,
        pose: Tensor | None = None,
    ) -> Tensor:
        if landmarks is not None and blendshapes is not None and pose is not None:
            given = {"landmarks": landmarks, "blendshapes": blendshapes, "pose": pose}
            return super().clip(faces, target, frames, variant=variant, **given)
        known, found = self.find_landmarks(faces)
        clip = faces[:, None].repeat(1, frames, 1, 1, 1)
        if len(known):
            rows = None if variant is None else variant[known]
            clip[known] = super().clip(faces[known], target[known], frames, variant=rows, **found)
        return clip

    def find_landmarks(self, faces: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return which faces landmarks were found in, and these as `forward` takes them.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned.

        Returns:
            (N,) long, indices of the N faces, and the keyword arguments for them.
        """
        return self._finder(faces)

    def fit_exemplars(
        self,
        dataset: Any,
        scheme: SchemeLike | None = None,
        *,
        rows: int = 3,
        alignment: str = "crop",
    ) -> TransferSynthesizer:
        """Return a synthesizer that lends the expressions of a data set's own faces; see
        `expraug.synthesizers.transfer.exemplars.fit_exemplars`."""
        return fit_exemplars(self, dataset, scheme, rows=rows, alignment=alignment)

    def _choose(self, target: Tensor, pose: Tensor, variant: Tensor) -> Tensor:
        """Return the row of each face, (B,): the variant-th of its class, nearest in pose first."""
        distance = ((self.pose - pose[:, None, :2]) ** 2).sum(2) / 20**2 + self.rank
        others = self.shows != target[:, None]
        order = distance.masked_fill(others, 1e6).argsort(dim=1, stable=True)
        count = (~others).sum(1)
        return order.gather(1, (variant % count)[:, None])[:, 0]

    def _score_change(self, blendshapes: Tensor, row: Tensor, landmarks: Tensor) -> Tensor:
        """Return the change of the scores, (B, 52)."""
        # What a resting face shows is the person, not an expression: only what stands out of the
        # spread of neutral faces is taken away.
        own = blendshapes - self.rest
        own = own - own.clamp(-self.spread, self.spread)
        change = (self.scores[row] - self.rest - own) * self.moves
        # A nearly shut eye hides what opening it would have to show: it opens the less.
        upper, lower = self.lids.long().unbind(0)
        low, high = _LID_GAP
        room = ((landmarks[:, lower, 1] - landmarks[:, upper, 1] - low) / (high - low)).clamp(0, 1)
        index = self.eye_scores.long()  # blink, squint, wide of each eye: negative ones open it
        blink, squint, wide = change[:, index].unbind(2)
        opening = torch.stack([blink.clamp(max=0), squint.clamp(max=0), wide.clamp(min=0)], 2)
        less = (room[..., None] - 1) * opening
        return change.index_add(1, index.view(-1), less.flatten(1))

    def _displacement(self, change: Tensor, pose: Tensor, row: Tensor) -> Tensor:
        """Return the displacement of the landmarks at full intensity, (B, 478, 2)."""
        yaw, pitch = (pose[:, :2].clamp(-_LARGEST_ANGLE, _LARGEST_ANGLE) / 30).unbind(1)
        weights = torch.cat([change, change * yaw[:, None], change * pitch[:, None]], 1)
        basis = torch.cat([self.basis, self.basis_yaw, self.basis_pitch])
        return combine(weights, basis).view(-1, LANDMARKS, 2) + self.shape[row]

    def _part_lips(self, landmarks: Tensor) -> Tensor:
        """Where the lower inner lip would rise above the upper one, let both meet half-way."""
        upper, lower = self.upper_lip.long(), self.lower_lip.long()
        overlap = (landmarks[:, upper, 1] - landmarks[:, lower, 1]).clamp(min=0) / 2
        parted = landmarks.clone()
        parted[:, lower, 1] += overlap
        parted[:, upper, 1] -= overlap
        return parted

    def vertices(self, rest: Tensor, moved: Tensor) -> Tensor:
        """Return mesh vertices, (B, V, 2): moved landmarks and two rings around the face.

        The rings let the deformation fade out, so that hair and background do not jump.
        """
        centre = rest.new_tensor(_CENTRE)
        oval = self.oval.long()
        rings = [
            centre + radius * (rest[:, oval] - centre) + share * (moved[:, oval] - rest[:, oval])
            for radius, share in zip(self.ring_radius, self.ring_share, strict=True)
        ]
        return torch.cat([moved, *rings], 1)

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

    def _luminance_change(self, change: Tensor, target: Tensor, row: Tensor) -> Tensor:
        """Return the change of log luminance in the texture frame, (B, 1, T, T)."""
        inside = combine(change, self.appearance) + self.texture[row] * self.detail[target][:, None]
        maps = inside.new_zeros(len(row), self.texture_size**2)
        maps[:, self.mask.view(-1).nonzero()[:, 0]] = inside
        maps = maps.view(-1, 1, self.texture_size, self.texture_size)
        up, down = self.limits
        soft = torch.where(maps > 0, up * torch.tanh(maps / up), down * torch.tanh(maps / down))
        return soft * self.mask

    def _fill_mouth(
        self,
        made: Tensor,
        faces: Tensor,
        place: Tensor,
        seen: Splat,
        row: Tensor,
        landmarks: Tensor,
        moved: Tensor,
        amount: Tensor,
    ) -> Tensor:
        """Show the row's mouth interior where the mouth is open now and was not so before."""
        upper, lower = self.upper_lip.long()[3:-3], self.lower_lip.long()[3:-3]
        before, after = (
            (points[:, lower, 1] - points[:, upper, 1]).mean(1, keepdim=True).clamp(min=0)
            for points in (landmarks, moved)
        )
        share = new_mouth_share(before, after, amount)
        alpha = share[..., None, None] * ((seen.hole - 0.15) / 0.7).clamp(0, 1)
        start, end = self.mouth_frame.split(2)
        frame = (place - start) / (end - start) * 2 - 1
        interior = sample(self.mouth[row][:, None], frame, padding="border").clamp(0.02, 1.5)
        cheeks = landmarks[:, self.cheeks.long()][:, None] * 2 - 1
        skin = sample(faces, cheeks).mean((2, 3), keepdim=True)
        return made * (1 - alpha) + tinted(interior, skin) * alpha
