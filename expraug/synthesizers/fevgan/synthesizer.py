"""FEV-GAN (Bouzid & Ballihi 2022): one neutral face and a label to a clip.

Our implementation of the method: two encoders see the face, one of identity, which was trained
before and stays as it is, and one of all else; a decoder of transposed convolutions, in space and
then in time, makes the frames from both, the label and noise. How it is trained stands in
`recipes/fevgan/trainer.py`. What the paper leaves open, or we chose otherwise:

* a frame is what has changed since the first one (`ExpressionMaps`): where pixels have moved, how
  much lighter they are, and where the lips are. The first frame is the face itself, and a
  photograph stays sharp and coloured at any size. Lips that part are painted by the mouth painter;
* the features of the second encoder enter the decoder at each scale, the same for all frames, as
  in ImaGINator (Wang et al. 2020); but convolutions in time are as narrow as those in space, where
  ImaGINator spends nine tenths of its parameters on channels between the two;
* three numbers of the noise are the rhythm of the clip (`rhythm`), and the decoder is told at each
  scale how far the expression has come. The others say *which* happy or angry face it is to be: a
  code that training reads off each example. Codes of examples are kept, and are the variants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.composite import luminance
from expraug.faces.synthesized import SynthesizedFaces
from expraug.faces.warp import resized
from expraug.networks.batching import independently
from expraug.networks.class_index import class_index
from expraug.networks.mouth_painter import COLUMNS, ROWS
from expraug.networks.onset import RHYTHM, onset
from expraug.synthesizer import Synthesizer, register_synthesizer
from expraug.synthesizers.expression_maps import ExpressionMaps, painted_fingerprint
from expraug.synthesizers.fevgan.net import LIPS, FEVGANNet


@register_synthesizer("fevgan")
class FEVGANSynthesizer(Synthesizer):
    """Clips from a neutral face to the full expression; a face is the frame that shows as much as
    is asked for of a clip of usual speed.

    Args:
        expressions: that it can be asked for, in the order of its categories; not neutral, which
            is what it starts from.
        image_size: side of the aligned faces that the net sees, in pixels; 4 times a power of 2.
        frames: of the clips; 2 times a power of 2, at most `image_size / 4`.
        channels: of the decoder's features at 4, 8, … `image_size` pixels, three or more multiples
            of 8, and of 16 but for the last. The spatial encoder has half as many.
        noise: length of the noise, at least 3.
        encoders: "both", or the only one of "identity" and "spatial" that feeds the decoder.
        variants: how many codes there are for each expression.
        motion, light: for each expression, by what movement and change of light are multiplied;
            1 if not given.

    Raises:
        ValueError: another size, number of frames or set of encoders, or channels or factors that
            do not fit.
    """

    version = "3"
    size_agnostic = True
    row: Tensor
    codes: Tensor
    gain: Tensor

    def __init__(
        self,
        expressions: Sequence[str],
        image_size: int = 64,
        frames: int = 16,
        channels: Sequence[int] = (192, 144, 96, 48, 16),
        noise: int = 17,
        encoders: str = "both",
        variants: int = 1,
        motion: Sequence[float] | None = None,
        light: Sequence[float] | None = None,
    ) -> None:
        ones = [1.0] * len(expressions)
        motion, light = list(motion or ones), list(light or ones)
        super().__init__(
            expressions=list(expressions),
            image_size=image_size,
            frames=frames,
            channels=list(channels),
            noise=noise,
            encoders=encoders,
            variants=variants,
            motion=motion,
            light=light,
        )
        self.expressions = tuple(map(Expression.parse, expressions))
        if Expression.NEUTRAL in self.expressions:
            raise ValueError("a clip starts with the neutral face: leave neutral out")
        if not len(motion) == len(light) == len(expressions) or variants < 1:
            raise ValueError(
                f"motion and light have a factor for each of the {len(expressions)} expressions, "
                f"and there is a variant at least; not {motion}, {light} and {variants}"
            )
        self.image_size, self.frames, self.variants = image_size, frames, variants
        self.net = FEVGANNet(len(self.expressions), image_size, frames, channels, noise, encoders)
        self.register_buffer("row", class_index(self.expressions), persistent=False)
        self.register_buffer("gain", torch.tensor([motion, light]), persistent=False)
        # what is left of the noise when the rhythm is the usual one
        self.register_buffer("codes", torch.zeros(len(expressions), variants, noise - RHYTHM))

    def supports(self, source: Expression | None, target: Expression) -> bool:
        """Say whether `target` can be made; the source must be neutral, or unknown."""
        return source in (None, Expression.NEUTRAL) and target in self.expressions

    def forward(
        self, faces: Tensor, target: Tensor, intensity: Tensor, *, variant: Tensor | None = None
    ) -> Tensor:
        """Return the faces with their target expressions; arguments as `synthesize` takes them."""
        return self.synthesize(faces, target, intensity, variant=variant).render(faces)

    def synthesize(
        self, faces: Tensor, target: Tensor, intensity: Tensor, *, variant: Tensor | None = None
    ) -> SynthesizedFaces:
        """Return how the faces change: what a frame of a clip of usual speed shows.

        Args:
            faces, target, intensity: as `Synthesizer.forward` takes them; faces may have any side.
            variant: (B,) long from 0, which of the codes of the target; the first if None.

        Raises:
            UnsupportedExpressionError: a target that is not in `expressions`.
        """
        curve = onset(faces.new_zeros(1, 2), self.frames)[0]
        wanted = intensity.to(curve).contiguous()
        # the first frame that shows at least as much, and how far on the way to it
        after = torch.searchsorted(curve, wanted).clamp(1, self.frames - 1)
        after = torch.where(wanted >= 1, self.frames - 1, after)  # where a clip ends
        low, high = curve[after - 1], curve[after]
        share = torch.where(wanted >= 1, 1.0, (wanted - low) / (high - low).clamp(min=1e-6))
        shown = torch.stack([after - 1, after], 1)
        before, then = self._maps(faces, target, variant, shown)
        return between(before, then, share).applied(faces)

    @property
    def fingerprint(self) -> str:
        """As every synthesizer's; the mouth painter's weights are in it."""
        return painted_fingerprint(super().fingerprint)

    def clip(
        self, faces: Tensor, target: Tensor, frames: int, *, variant: Tensor | None = None
    ) -> Tensor:
        """Return a sequence from the source to the full expression, at the usual speed.

        Args:
            faces, target, variant: as `synthesize` takes them.
            frames: number of frames T, at least 2; other numbers than its own are interpolated.

        Returns:
            (B, T, 3, S, S) float in [0, 1]; the first frame is the source.
        """
        made = self.synthesize_clip(faces, target, frames, variant=variant)
        return torch.stack([frame.render(faces) for frame in made], 1)

    def synthesize_clip(
        self, faces: Tensor, target: Tensor, frames: int, *, variant: Tensor | None = None
    ) -> list[SynthesizedFaces]:
        """Return how the faces change in each frame of a `clip`, whose arguments it takes."""
        every = torch.arange(self.frames, device=faces.device).expand(len(faces), -1)
        maps = self._maps(faces, target, variant, every)
        made = []
        for time in torch.linspace(0, self.frames - 1, frames).tolist():
            start = min(int(time), self.frames - 2)
            share = faces.new_full((len(faces),), time - start)
            made.append(between(maps[start], maps[start + 1], share).applied(faces))
        return made

    def _maps(
        self, faces: Tensor, target: Tensor, variant: Tensor | None, shown: Tensor
    ) -> list[ExpressionMaps]:
        """Return what has happened by the K frames that (B, K) numbers name."""
        self.check_targets(target)
        grey, row = resized(luminance(faces), self.image_size), self.row[target]
        variant = torch.zeros_like(target) if variant is None else variant
        code = self.codes[row, variant % self.variants].to(faces.dtype)
        z = F.pad(code, (RHYTHM, 0))
        parts = independently(grey, row, z, shown) if len(faces) else []
        found = [self.net(*part) for part in parts]
        motion, light = self.gain[:, row].to(faces.dtype)
        frames = []
        for k in range(shown.shape[1]):
            maps = _joined([frame_of(maps, k, shown.shape[1]) for maps in found], faces)
            lighter = maps.lightening * light.view(-1, 1, 1, 1)
            frames.append(replace(maps.scaled(motion), lightening=lighter))
        return frames


def between(before: ExpressionMaps, after: ExpressionMaps, share: Tensor) -> ExpressionMaps:
    """Return what has happened so far, (B,) in [0, 1], on the way from a frame to another."""
    far = share.view(-1, 1, 1, 1)
    return ExpressionMaps(
        torch.lerp(before.flow, after.flow, far),
        torch.lerp(before.lightening, after.lightening, far),
        before.lips,
        torch.lerp(before.moved_lips, after.moved_lips, far),
        before.interior,
    )


def frame_of(maps: ExpressionMaps, number: int, frames: int) -> ExpressionMaps:
    """Return one frame of the clips that `FEVGANNet` made."""
    return maps.each(lambda one: one[number::frames])


def _joined(parts: Sequence[ExpressionMaps], like: Tensor) -> ExpressionMaps:
    """Return the maps of all parts; of none, those of no face."""
    if parts:
        return ExpressionMaps.joined(parts)
    new = like.new_zeros
    lips = new(0, *LIPS)
    return ExpressionMaps(new(0, 2, 6, 6), new(0, 1, 4, 4), lips, lips, new(0, ROWS, COLUMNS))
