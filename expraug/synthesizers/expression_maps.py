"""What an expression does to aligned faces: where parts move, what gets lighter, how lips part.

Every synthesizer that moves faces says this much, each in its own way; here it becomes a change of
the faces themselves, in their own light, colour and sharpness, with the inside of a mouth that
opens painted by the mouth painter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.mouth import HEIGHT, WIDTH, MouthWindow, curve_height, lip_gaps, painted_share
from expraug.faces.synthesized import FLOW_FRAME, SynthesizedFaces, moved
from expraug.faces.warp import resized
from expraug.networks.mouth_painter import MouthPainter, load_mouth_painter
from expraug.pretrained import digest_of

_VERSION = 2
"""Raised when the same maps change other pixels; part of every cache key."""
_CLOSING = (0.02, 0.05)
"""By which lips come nearer until the line between them is new, in widths of the mouth."""
_SHUT = (0.07, 0.10)
"""How far lips may be apart to count as shut, and from where on they do not, in the same widths."""
_SPILL = 1.2  # pixels of the window beside the line in which a flow still leads to teeth
_TALLEST = 7  # pixels of the window, odd: a slit between shut lips that is not higher goes
_SHADOW, _DARKEST = (0.25, -0.5, 1.8), 0.6
"""Of the line between shut lips: how much darker it is than they are, and, in pixels of the window,
by how much it lies below their middle and how wide it is; and its darkest share of their light.
1,093 real shut mouths (LFW, London) are 0.09 to 0.49 darker there, from the 10th to the 90th
percentile, in the median 0.26 to 0.30."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpressionMaps:
    """What changes in B aligned faces; places are (x, y), fractions of the canonical frame's side.

    Args:
        flow: (B, 2, f, f) float, as `SynthesizedFaces` has it.
        lightening: (B, 1, s, s) float over the canonical frame, change of log luminance: light and
            shade of folds, furrows and eyes.
        lips: (B, 2, 11, 2) float, as `expraug.faces.mouth.lips_of` returns them.
        moved_lips: (B, 2, 11, 2) float, where the flow takes them.
        interior: (B, 6, 12) float, how light the inside of the mouth is, as
            `expraug.networks.mouth_painter.read_interior` reads it.
    """

    flow: Tensor
    lightening: Tensor
    lips: Tensor
    moved_lips: Tensor
    interior: Tensor

    def __len__(self) -> int:
        return len(self.flow)

    def each(self, do: Callable[..., Tensor], *others: ExpressionMaps) -> ExpressionMaps:
        """Return what a function makes of each map, together with the same map of others."""
        names = [field.name for field in fields(self)]
        return ExpressionMaps(*(do(*(getattr(one, n) for one in (self, *others))) for n in names))

    @staticmethod
    def joined(parts: Sequence[ExpressionMaps]) -> ExpressionMaps:
        """Return one batch of several, one at least."""
        return parts[0].each(lambda *maps: torch.cat(maps), *parts[1:])

    def scaled(self, amount: Tensor) -> ExpressionMaps:
        """Return the same, so far gone.

        Args:
            amount: (B,) float, 1 for as far as the maps say; or (B, 2), of shape and of light.
        """
        both = (amount if amount.ndim == 2 else amount[:, None]).to(self.flow.dtype).expand(-1, 2)
        shape, light = both[:, :, None, None, None].unbind(1)
        return ExpressionMaps(
            self.flow * shape,
            self.lightening * light,
            self.lips,
            torch.lerp(self.lips, self.moved_lips, shape),
            self.interior,
        )

    def applied(
        self, faces: Tensor, refused: Mapping[str, Tensor] | None = None
    ) -> SynthesizedFaces:
        """Return the change of faces.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned.
            refused: as `SynthesizedFaces` has it.
        """
        side = faces.shape[-1]
        # what is shown is moved anew, sharper: here it only tells what light and shade fall on
        warped = moved(faces, self.flow, "bilinear") if len(faces) else faces
        lit = (warped * torch.exp(resized(self.lightening, side))).clamp(0, 1)
        share = painted_share(self.lips, self.moved_lips)[..., None, None]
        paint, matte = paint_mouths(lit, self.moved_lips, self.interior, share)
        seam, shut = close_lips(lit, self.lips, self.moved_lips)
        shut = shut * (1 - matte)
        change = (lit - warped) * (1 - matte - shut) + paint * matte + seam * shut
        matte = matte + shut
        return SynthesizedFaces(change, self.flow, matte, refused or {})


def beyond_the_frame(flow: Tensor) -> Tensor:
    """Return a flow over the canonical frame, (B, 2, s, s), over `FLOW_FRAME`, (B, 2, f, f): beside
    the frame it goes on as at its border, and fades out."""
    side = flow.shape[-1]
    edge = round(side * -FLOW_FRAME[0])
    wide = F.pad(flow, (edge, edge, edge, edge), mode="replicate")
    out = (torch.arange(side + 2 * edge, device=flow.device) - edge).to(flow)
    beside = torch.maximum(-out, out - (side - 1)).clamp(min=0) / edge
    fade = (1 - torch.maximum(beside[:, None], beside)).square()
    return wide * fade


@lru_cache(maxsize=4)
def mouth_painter(device: str) -> MouthPainter:
    """Return the mouth painter, which has weights of its own."""
    with torch.inference_mode(False):  # it is kept, and may be asked outside as well
        return load_mouth_painter().to(device).requires_grad_(False)


def painted_fingerprint(fingerprint: str) -> str:
    """Return the fingerprint of a synthesizer of `ExpressionMaps`, with how these are applied and
    the mouth painter's weights in it."""
    painter = mouth_painter("cpu")
    return f"{fingerprint}-maps-{_VERSION}-{digest_of(painter, painter.config)[:16]}"


def nothing_done(faces: Tensor, refused: Sequence[str] = ()) -> SynthesizedFaces:
    """Return what changes nothing in (B, 3, S, S) faces.

    Args:
        refused: reasons that a synthesizer tells, which hold of none of the faces.
    """
    count, side = len(faces), faces.shape[-1]
    return SynthesizedFaces(
        torch.zeros_like(faces),
        faces.new_zeros(count, 2, side, side),
        faces.new_zeros(count, 1, side, side),
        {reason: faces.new_zeros(count, dtype=torch.bool) for reason in refused},
    )


def paint_mouths(
    faces: Tensor, lips: Tensor, interior: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what is painted into mouths and where, (B, 3, S, S) and (B, 1, S, S).

    Args:
        faces, lips, interior: as `MouthPainter` takes them.
        share: (B, 1, 1, 1), how much of each is painted. Where it is 0, on the CPU the painter is
            not asked: elsewhere the host would have to wait for that.
    """
    painter = mouth_painter(str(faces.device))
    if faces.device.type != "cpu":
        paint, matte = painter(faces, lips, interior)
        return paint, matte * share
    asked = (share[:, 0, 0, 0] > 0).nonzero()[:, 0]
    paint, matte = torch.zeros_like(faces), torch.zeros_like(faces[:, :1])
    if len(asked):
        some, where = painter(faces[asked], lips[asked], interior[asked])
        paint[asked], matte[asked] = some, where * share[asked]
    return paint, matte


def close_lips(faces: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is painted where lips that were apart meet, (B, 3, S, S), and where, (B, 1, S, S)
    in [0, 1]: 0 where they stay apart, or were shut before.

    A flow leads from above the line between them to the upper lip, and from below to the lower one;
    between two of its own pixels it leads to what is between both, a slit of teeth.

    Args:
        faces: (B, 3, S, S) float in [0, 1], aligned, with the lips where they belong.
        before, after: (B, 2, 11, 2) float, lips of the faces, and where they are now.
    """
    gaps = lip_gaps(after)
    closed = _ramp(lip_gaps(before) - gaps, *_CLOSING)
    share = F.pad(closed * (1 - _ramp(gaps.amax(1, keepdim=True), *_SHUT)), (1, 1))
    paint, matte = torch.zeros_like(faces), torch.zeros_like(faces[:, :1])
    asked: slice | Tensor = slice(None)
    if faces.device.type == "cpu":  # elsewhere the host would have to wait for that
        asked = (share > 0).any(1).nonzero()[:, 0]
        if not len(asked):
            return paint, matte
    window = MouthWindow.around(after[asked])
    cut = window.cut(faces[asked])
    x = (torch.arange(WIDTH, device=cut.device) + 0.5).to(cut).expand(len(cut), -1)
    y = (torch.arange(HEIGHT, device=cut.device) + 0.5).to(cut)[:, None]
    shares = torch.stack([window.upper[..., 0], share[asked]], 2)
    shown, top, bottom = (
        curve_height(curve, x)[:, None, None] for curve in (shares, window.upper, window.lower)
    )
    away = y - (top + bottom) / 2
    # morphology by an upright line: opening takes a light slit away, closing a dark one, and both
    # leave the lips
    darker = _highest(-_highest(-cut))
    lips = -_highest(-_highest(darker))
    depth, below, width = _SHADOW
    shade = 1 - depth * torch.exp(-(((away - below) / width).square()))
    seam = torch.minimum(torch.maximum(darker, _DARKEST * lips), shade * lips)
    reach = ((bottom - top) / 2).clamp(min=0) + _SPILL
    where = ((reach - away.abs()) / 2 + 1).clamp(0, 1) * shown
    both = window.put_back(torch.cat([seam, where], 1), faces.shape[-1]).clamp(0, 1)
    paint[asked], matte[asked] = both[:, :3], both[:, 3:]
    return paint, matte


def _highest(windows: Tensor) -> Tensor:
    """Return the highest of the pixels above and below each one of windows."""
    return F.max_pool2d(windows, (_TALLEST, 1), 1, (_TALLEST // 2, 0))


def _ramp(x: Tensor, start: float, end: float) -> Tensor:
    return ((x - start) / (end - start)).clamp(0, 1)
