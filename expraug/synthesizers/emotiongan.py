"""EmotionGAN (Ning et al. 2020): directions of expression in the space of a generator's latents.

Our implementation of the method: a pre-trained generator is inverted, a generalised linear model
gives each expression's direction in the space of latents, a latent moves along it by the intensity,
and the generator draws the face anew. Of the paper we knew the abstract. What it leaves open, or we
chose otherwise:

* what reaches the face is the *change* between the drawn face before and after the move: where a
  generator says what moves, as ours does, that moves in the source itself, the rest becomes light
  and shade on its skin, and the mouth painter fills a mouth that opens. What the inversion cannot
  draw, the background, skin and colour, stays;
* latents are one for each layer (W+ of Abdal et al. 2019). Ours are read off the landmarks and, in
  their shape, off the picture; an encoder finds those of other generators, or optimisation does;
* the model is a multinomial logistic regression of real faces' expressions on their latents, or a
  conditional one of matched pairs; the direction is the least unlikely move that raises its log
  odds: `expraug/latent/directions.py`;
* how far intensity 1 goes is measured, for each expression: `recipes/emotiongan/fit.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.faces.composite import hide_background, luminance
from expraug.faces.synthesized import SynthesizedFaces, joined
from expraug.faces.warp import resized
from expraug.latent.directions import log_odds
from expraug.latent.generator import LatentEncoder, encode
from expraug.latent.inversion import Refining, invert, refine
from expraug.latent.loading import Description, create_generator
from expraug.networks.batching import independently
from expraug.networks.class_index import class_index
from expraug.networks.mouth_painter import COLUMNS, ROWS
from expraug.synthesizer import Synthesizer, register_synthesizer
from expraug.synthesizers.expression_maps import painted_fingerprint
from expraug.synthesizers.latent_maps import (
    SeenFaces,
    added,
    changed,
    pictures_of,
    see,
    stretched,
)

Manipulation = Literal["by", "to"]


@register_synthesizer("emotiongan")
class EmotionGANSynthesizer(Synthesizer):
    """Moves a face's latents along its target's direction.

    Args:
        expressions: that it can be asked for.
        generator: the constructor arguments of `StyleGenerator`, or "package.module:function", a
            function that returns a `FaceGenerator`.
        encoder: the constructor arguments of `LatentEncoder` besides the generator's sizes; None
            for none: every inversion then starts at the mean latent and needs `refining`. A
            painted generator needs none: its latents are read off the face and its landmarks.
        manipulation: "by": all faces move equally far at intensity 1; "to": as far as the linear
            model needs to see the target as clearly as it is to, so not at all where it does so
            already.
        binomial: whether each logit of the linear model is its expression's own log odds, and not
            one of a softmax over all.
        refining: arguments of `Refining`: of the optimisation that follows the encoder. None for
            no such optimisation.
        background: whether the generator's faces have one. If not, as ours, what the face mask
            hides of a face is hidden from its inversion, too.
        plain: show the luminance of the drawn face itself, instead of adding its change to the
            source: intensity 0 is then the inversion. For evaluation.

    Raises:
        ValueError: another manipulation.
        MissingDependencyError, TypeError: as `create_generator` does.
    """

    version = "5"
    needs_landmarks = True
    size_agnostic = True
    float32: ClassVar[frozenset[str]] = frozenset(
        {"strength", "directions", "steps", "levels", "logits", "constants", "mean", "interiors"}
    )

    strength: Tensor
    """(E, 2), how far shape and light go at intensity 1, times what follows."""
    directions: Tensor
    """(E, L, W): one unit along the row of an expression raises its log odds by one."""
    steps: Tensor
    """(E,) units that "by" moves at intensity 1."""
    levels: Tensor
    """(E,) log odds of the target that "to" moves to at intensity 1."""
    logits: Tensor
    """(E, L, W), weights of the linear model."""
    constants: Tensor
    """(E,), its constants."""
    mean: Tensor
    """(L, W), the mean latent."""
    interiors: Tensor
    """(E, 6, 12), how light the inside of a mouth is that opens, as the mouth painter takes it."""
    row: Tensor

    def __init__(
        self,
        expressions: Sequence[str],
        generator: Description,
        encoder: Mapping[str, Any] | None = None,
        manipulation: Manipulation = "by",
        binomial: bool = False,
        refining: Mapping[str, float] | None = None,
        background: bool = False,
        plain: bool = False,
    ) -> None:
        super().__init__(
            expressions=list(expressions),
            generator=generator if isinstance(generator, str) else dict(generator),
            encoder=None if encoder is None else dict(encoder),
            manipulation=manipulation,
            binomial=binomial,
            refining=None if refining is None else dict(refining),
            background=background,
            plain=plain,
        )
        if manipulation not in ("by", "to"):
            raise ValueError(f"manipulation must be 'by' or 'to', not {manipulation!r}")
        self.expressions = tuple(map(Expression.parse, expressions))
        self.generator = create_generator(generator)
        self.image_size = self.generator.image_size
        shape = (self.generator.layers, self.generator.width)
        self.encoder: nn.Module | None = None
        if encoder is not None:
            self.encoder = LatentEncoder(self.image_size, *shape, **encoder)
        self.manipulation, self.binomial = manipulation, binomial
        self.background, self.plain = background, plain
        self.refining = Refining(**(refining or {}))  # type: ignore[arg-type]
        count = len(self.expressions)
        for name in ("directions", "logits"):
            self.register_buffer(name, torch.zeros(count, *shape))
        self.register_buffer("strength", torch.ones(count, 2))
        for name in ("steps", "levels", "constants"):
            self.register_buffer(name, torch.zeros(count))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("interiors", torch.zeros(count, ROWS, COLUMNS))
        self.register_buffer("row", class_index(self.expressions), persistent=False)

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor, **inputs: Tensor) -> Tensor:
        """As `Synthesizer.forward` has it, with the inputs of `synthesize`."""
        made = self.synthesize(faces, target, intensity, **inputs).render(faces)
        return made.to(faces.dtype)

    def synthesize(
        self,
        faces: Tensor,
        target: Tensor,
        intensity: Tensor,
        *,
        landmarks: Tensor | None = None,
        **_: Tensor,
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
        seen = see(self.generator, faces, landmarks)
        grey = luminance(faces)
        latents = self._latents(grey, seen)
        moved = latents + self.move(latents, target, intensity * seen.there)
        if self.plain:
            drawn = resized(self.draw(moved), faces.shape[-1]) - self.shown(grey)
            return added(faces, drawn)
        interior = self.interiors[self.row[target]]
        parts = independently(faces, latents, moved, seen.landmarks, interior)
        made = [changed(self.generator, *part) for part in parts if len(part[0])]
        return joined(made) if made else SynthesizedFaces(faces)

    def invert(self, grey: Tensor, landmarks: Tensor | None = None) -> Tensor:
        """Return the (B, L, W) latents of aligned grey faces, (B, 1, s, s) float in [0, 1].

        Args:
            landmarks: (B, 478, 2) of the faces, from which a painted generator has their shapes;
                None finds them in the faces.
        """
        return self._latents(grey, see(self.generator, grey, landmarks))

    def _latents(self, grey: Tensor, seen: SeenFaces) -> Tensor:
        grey = self.shown(resized(grey, self.image_size).to(self.mean.dtype))
        if pictures_of(self.generator) is not None:
            return torch.cat([self._read(*part) for part in independently(grey, seen.shapes)])
        encoder = None if self.encoder is None else partial(encode, self.generator, self.encoder)
        return invert(grey, self.draw, self.mean, encoder, self.refining).to(self.mean.dtype)

    def _read(self, grey: Tensor, shapes: Tensor) -> Tensor:
        """Return the latents of faces of known shapes."""
        latents = encode(self.generator, None, grey, shapes)
        if not self.refining.steps:
            return latents
        return refine(self.draw, grey, latents, self.mean, self.refining)

    def shown(self, grey: Tensor) -> Tensor:
        """Return (B, 1, S, S) grey faces as the generator would draw them."""
        return grey if self.background else hide_background(grey)

    @property
    def fingerprint(self) -> str:
        """As every synthesizer's; a painted generator's has the mouth painter's weights in it."""
        own = super().fingerprint
        return own if pictures_of(self.generator) is None else painted_fingerprint(own)

    def draw(self, latents: Tensor) -> Tensor:
        """Return the (B, 1, S, S) float grey faces, about in [0, 1], of (B, L, W) latents."""
        return torch.cat([self.generator.synthesis(part) for (part,) in independently(latents)])

    def move(self, latents: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        """Return what is added to (B, L, W) latents; `target` and `intensity` are `forward`'s."""
        row = self.row[target]
        if self.manipulation == "by":
            length = self.steps[row]
        else:
            now = self.odds(latents).gather(1, row[:, None])[:, 0]
            length = (self.levels[row] - now).clamp(min=0)
        moves = (intensity.to(length) * length).view(-1, 1, 1) * self.directions[row]
        return stretched(self.generator, moves, self.strength[row])

    def odds(self, latents: Tensor) -> Tensor:
        """Return the linear model's (B, E) log odds of the expressions for (B, L, W) latents."""
        # no matrix product, which may round otherwise in a batch
        logits = (latents[:, None] * self.logits).sum((2, 3)) + self.constants
        return logits if self.binomial else log_odds(logits)
