"""EmotionGAN (Ning et al. 2020): directions of expression in the space of a generator's codes.

Our implementation of the method: a pre-trained generator is inverted, a generalised linear model
gives each expression's direction in the space of codes, a code moves along it by the intensity, and
the generator draws the face anew. Of the paper we knew the abstract. What it leaves open, or we
chose otherwise:

* what reaches the face is the *change* between the drawn face before and after the move: where a
  generator says what moves, as ours does, that moves in the source itself, and the rest of the
  luminance is added. What the inversion cannot draw, the background, skin and colour, stays;
* codes are one for each layer (W+ of Abdal et al. 2019), and an encoder finds them; optimisation
  from there is an option;
* the model is a multinomial logistic regression of real faces' expressions on their codes, or a
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
from expraug.faces.warp import resized
from expraug.latent.directions import log_odds
from expraug.latent.generator import CodeEncoder, edit, encode
from expraug.latent.inversion import Refining, invert
from expraug.latent.loading import Description, create_generator
from expraug.networks.batching import independently
from expraug.networks.class_index import class_index
from expraug.synthesizer import Synthesizer, register_synthesizer

Manipulation = Literal["by", "to"]


@register_synthesizer("emotiongan")
class EmotionGANSynthesizer(Synthesizer):
    """Moves a face's codes along its target's direction.

    Args:
        expressions: that it can be asked for.
        generator: the constructor arguments of `StyleGenerator`, or "package.module:function", a
            function that returns a `FaceGenerator`.
        encoder: the constructor arguments of `CodeEncoder` besides the generator's sizes; None for
            none: every inversion then starts at the mean code and needs `refining`.
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

    version = "2"
    size_agnostic = True
    float32: ClassVar[frozenset[str]] = frozenset(
        {"directions", "steps", "levels", "logits", "constants", "mean"}
    )

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
    """(L, W), the mean code."""
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
            painted = getattr(self.generator, "pictures", None) is not None
            layers = 1 if painted else self.generator.layers
            self.encoder = CodeEncoder(self.image_size, layers, self.generator.width, **encoder)
        self.manipulation, self.binomial = manipulation, binomial
        self.background, self.plain = background, plain
        self.refining = Refining(**(refining or {}))  # type: ignore[arg-type]
        count = len(self.expressions)
        for name in ("directions", "logits"):
            self.register_buffer(name, torch.zeros(count, *shape))
        for name in ("steps", "levels", "constants"):
            self.register_buffer(name, torch.zeros(count))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("row", class_index(self.expressions), persistent=False)

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        self.check_targets(target)
        grey = luminance(faces)
        codes = self.invert(grey)
        moved = codes + self.move(codes, target, intensity)
        if self.plain:
            made = faces + resized(self.draw(moved), faces.shape[-1]) - self.shown(grey)
        else:
            parts = independently(faces, codes, moved)
            made = torch.cat([edit(self.generator, *part) for part in parts])
        return made.to(faces.dtype).clamp_(0, 1)

    def invert(self, grey: Tensor) -> Tensor:
        """Return the (B, L, W) codes of aligned grey faces, (B, 1, s, s) float in [0, 1]."""
        grey = self.shown(resized(grey, self.image_size).to(self.mean.dtype))
        encoder = None if self.encoder is None else partial(encode, self.generator, self.encoder)
        return invert(grey, self.draw, self.mean, encoder, self.refining).to(self.mean.dtype)

    def shown(self, grey: Tensor) -> Tensor:
        """Return (B, 1, S, S) grey faces as the generator would draw them."""
        return grey if self.background else hide_background(grey)

    def draw(self, codes: Tensor) -> Tensor:
        """Return the (B, 1, S, S) float grey faces, about in [0, 1], of (B, L, W) codes."""
        return torch.cat([self.generator.synthesis(part) for (part,) in independently(codes)])

    def move(self, codes: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        """Return what is added to (B, L, W) codes; `target`, `intensity` as `forward` has them."""
        row = self.row[target]
        if self.manipulation == "by":
            length = self.steps[row]
        else:
            now = self.odds(codes).gather(1, row[:, None])[:, 0]
            length = (self.levels[row] - now).clamp(min=0)
        return (intensity.to(length) * length).view(-1, 1, 1) * self.directions[row]

    def odds(self, codes: Tensor) -> Tensor:
        """Return the linear model's (B, E) log odds of the expressions for (B, L, W) codes."""
        # no matrix product, which may round otherwise in a batch
        logits = (codes[:, None] * self.logits).sum((2, 3)) + self.constants
        return logits if self.binomial else log_odds(logits)
