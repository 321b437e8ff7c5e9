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

import math
from collections.abc import Sequence
from functools import partial

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

_ALL = 0.99  # of an onset, from which it has ended


@register_synthesizer("fevgan")
class FEVGANSynthesizer(Synthesizer):
    """Clips from a neutral face to the full expression; a face is the last frame of a clip, gone as
    far as is asked for.

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

    Raises:
        ValueError: another size, number of frames or set of encoders, or channels that do not fit.
    """

    version = "4"
    size_agnostic = True
    row: Tensor
    codes: Tensor
    strength: Tensor
    """(E, 2), how far shape and light of each expression go at intensity 1."""

    def __init__(
        self,
        expressions: Sequence[str],
        image_size: int = 64,
        frames: int = 16,
        channels: Sequence[int] = (192, 144, 96, 48, 16),
        noise: int = 17,
        encoders: str = "both",
        variants: int = 1,
    ) -> None:
        super().__init__(
            expressions=list(expressions),
            image_size=image_size,
            frames=frames,
            channels=list(channels),
            noise=noise,
            encoders=encoders,
            variants=variants,
        )
        self.expressions = tuple(map(Expression.parse, expressions))
        if Expression.NEUTRAL in self.expressions:
            raise ValueError("a clip starts with the neutral face: leave neutral out")
        if variants < 1:
            raise ValueError(f"there is a variant at least, not {variants}")
        self.image_size, self.frames, self.variants = image_size, frames, variants
        self.net = FEVGANNet(len(self.expressions), image_size, frames, channels, noise, encoders)
        self.register_buffer("row", class_index(self.expressions), persistent=False)
        self.register_buffer("strength", torch.ones(len(expressions), 2))
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
        """Return how the faces change: as the last frame of a clip does, so far gone.

        Args:
            faces, target, intensity: as `Synthesizer.forward` takes them; faces may have any side.
            variant: (B,) long from 0, which of the codes of the target; the first if None.

        Raises:
            UnsupportedExpressionError: a target that is not in `expressions`.
        """
        last = torch.full((len(faces), 1), self.frames - 1, device=faces.device)
        (full,) = self._maps(faces, target, variant, last)
        return full.scaled(intensity).applied(faces)

    @property
    def fingerprint(self) -> str:
        """As every synthesizer's; the mouth painter's weights are in it."""
        return painted_fingerprint(super().fingerprint)

    def clip(
        self, faces: Tensor, target: Tensor, frames: int, *, variant: Tensor | None = None
    ) -> Tensor:
        """Return a sequence from the source to the full expression, as an onset goes.

        Args:
            faces, target, variant: as `synthesize` takes them.
            frames: number of frames T, at least 2. They are interpolated between its own, so that
                what has come by then is half a wave of the cosine from the first to the last.

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
        maps = steadied(self._maps(faces, target, variant, every))
        made = []
        for start, share in when(self.frames, frames):
            far = faces.new_full((len(faces),), share)
            made.append(between(maps[start], maps[start + 1], far).applied(faces))
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
        strength = self.strength[row].to(faces.dtype)
        frames = []
        for k in range(shown.shape[1]):
            maps = _joined([frame_of(maps, k, shown.shape[1]) for maps in found], faces)
            frames.append(maps.scaled(strength))
        return frames


def when(own: int, frames: int) -> list[tuple[int, float]]:
    """Return after which of its own frames each frame of a clip comes, and how far on the way to
    the next.

    In clips of usual speed the onset is over before the last frame; a clip that is asked for has
    one as long as itself.
    """
    come = onset(torch.zeros(1, 2, dtype=torch.float64), own)[0]
    wanted = 0.5 - 0.5 * torch.cos(torch.linspace(0, math.pi, frames, dtype=torch.float64))
    after = torch.searchsorted(come, wanted).clamp(1, own - 1)
    low, high = come[after - 1], come[after]
    share = ((wanted - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    return [(int(a) - 1, float(s)) for a, s in zip(after, share, strict=True)]


def steadied(maps: Sequence[ExpressionMaps]) -> list[ExpressionMaps]:
    """Return the frames of clips of usual speed that come to rest when the onset does.

    Discriminators saw full expressions in the last frame alone, so that those before it drift
    towards it after the onset, when nothing should move any more. All of the drift is taken back,
    as far as the onset has come.
    """
    last = maps[-1]
    come = onset(last.flow.new_zeros(1, 2), len(maps))[0].tolist()
    ended = next(number for number, far in enumerate(come) if far > _ALL)
    return [
        last if far > _ALL else own.each(partial(_less_drift, far=far), maps[ended], last)
        for own, far in zip(maps, come, strict=True)
    ]


def _less_drift(own: Tensor, ended: Tensor, last: Tensor, far: float) -> Tensor:
    return own + far * (last - ended)


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
