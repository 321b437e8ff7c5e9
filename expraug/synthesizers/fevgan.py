"""FEV-GAN (Bouzid & Ballihi 2022): one neutral face and a label to a clip.

Our implementation of the method: two encoders see the face, one of identity, which was trained
before and stays as it is, and one of all else; a decoder of transposed convolutions, in space and
then in time, makes the frames from both, the label and noise. How it is trained stands in
`recipes/fevgan/trainer.py`. What the paper leaves open, or we chose otherwise:

* frames hold what has changed since the first one, so that this is the face itself: where its
  pixels have moved, and the *change* of luminance that is added to that. Colour and detail stay,
  and move along;
* the features of the second encoder enter the decoder at each scale, the same for all frames, as
  in ImaGINator (Wang et al. 2020); but convolutions in time are as narrow as those in space, where
  ImaGINator spends nine tenths of its parameters on channels between the two;
* two numbers of the noise are the speed of the clip (`onset`), and the decoder is told at each
  scale how far the expression has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.faces.composite import hide_background, luminance
from expraug.faces.warp import resized, warp
from expraug.networks.batching import independently
from expraug.networks.class_index import class_index
from expraug.networks.embedder import LENGTH, FaceEmbedder
from expraug.networks.onset import onset
from expraug.synthesizer import Synthesizer, register_synthesizer

ENCODERS = ("both", "identity", "spatial")
_SMALLEST = 4  # side of the first features
_FEWEST = 2  # their frames
_LABEL = 16  # length of the embedding of a category
_FARTHEST = 0.3  # that a pixel moves, in units of `pixel_grid`


@register_synthesizer("fevgan")
class FEVGANSynthesizer(Synthesizer):
    """Clips from a neutral face to the full expression; a face is the frame that shows as much as
    is asked for of a clip of usual speed.

    Args:
        expressions: that it can be asked for, in the order of its categories; not neutral, which
            is what it starts from.
        image_size: side of the aligned faces, in pixels; 4 times a power of 2.
        frames: of the clips; 2 times a power of 2, at most `image_size / 2`.
        channels: of the decoder's features at 4, 8, … `image_size` pixels, multiples of 8, and of
            16 but for the last. The spatial encoder has half as many.
        noise: length of the noise, at least 2.
        encoders: "both", or the only one of "identity" and "spatial" that feeds the decoder.

    Raises:
        ValueError: another size, number of frames or set of encoders, or channels that do not fit.
    """

    version = "2"
    size_agnostic = True
    row: Tensor

    def __init__(
        self,
        expressions: Sequence[str],
        image_size: int = 64,
        frames: int = 16,
        channels: Sequence[int] = (224, 160, 96, 64, 24),
        noise: int = 8,
        encoders: str = "both",
    ) -> None:
        super().__init__(
            expressions=list(expressions),
            image_size=image_size,
            frames=frames,
            channels=list(channels),
            noise=noise,
            encoders=encoders,
        )
        self.expressions = tuple(map(Expression.parse, expressions))
        if Expression.NEUTRAL in self.expressions:
            raise ValueError("a clip starts with the neutral face: leave neutral out")
        self.image_size, self.frames = image_size, frames
        self.net = FEVGANNet(len(self.expressions), image_size, frames, channels, noise, encoders)
        self.register_buffer("row", class_index(self.expressions), persistent=False)

    def supports(self, source: Expression | None, target: Expression) -> bool:
        """Say whether `target` can be made; the source must be neutral, or unknown."""
        return source in (None, Expression.NEUTRAL) and target in self.expressions

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        motion = self._motion(faces, target)
        curve = onset(motion.new_zeros(1, 2), self.frames)[0]
        wanted = intensity.to(curve).contiguous()
        # the first frame that shows at least as much, and how far on the way to it
        after = torch.searchsorted(curve, wanted).clamp(1, self.frames - 1)
        after = torch.where(wanted >= 1, self.frames - 1, after)  # where a clip ends
        low, high = curve[after - 1], curve[after]
        share = torch.where(wanted >= 1, 1.0, (wanted - low) / (high - low).clamp(min=1e-6))
        share = share.view(-1, 1, 1, 1)
        place = torch.arange(len(faces), device=faces.device)
        between = torch.lerp(motion[place, after - 1], motion[place, after], share)
        return apply_motion(faces, between[:, None])[:, 0].clamp_(0, 1)

    def clip(self, faces: Tensor, target: Tensor, frames: int) -> Tensor:
        """Return a sequence from the source to the full expression, at the usual speed.

        Args:
            faces, target: as `forward` takes them.
            frames: number of frames T, at least 2; other numbers than its own are interpolated.

        Returns:
            (B, T, 3, S, S) float in [0, 1]; the first frame is the source.
        """
        motion = self._motion(faces, target)
        if frames != self.frames:
            time = torch.linspace(0, self.frames - 1, frames, device=faces.device)
            before = time.long().clamp(max=self.frames - 2)
            share = (time - before).to(motion).view(-1, 1, 1, 1)
            motion = torch.lerp(motion[:, before], motion[:, before + 1], share)
        return apply_motion(faces, motion).clamp_(0, 1)

    def _motion(self, faces: Tensor, target: Tensor) -> Tensor:
        """Return what happens in each frame, without noise, as the net does."""
        self.check_targets(target)
        grey = resized(luminance(faces), self.image_size)
        if not len(faces):
            return faces.new_zeros(0, self.frames, 3, *grey.shape[2:])
        z = faces.new_zeros(len(faces), self.net.noise)
        parts = independently(grey, self.row[target], z)
        return torch.cat([self.net(*part) for part in parts])


def apply_motion(faces: Tensor, motion: Tensor) -> Tensor:
    """Return the frames of clips.

    Args:
        faces: (B, C, S, S) float in [0, 1].
        motion: (B, T, 3, s, s), as `FEVGANNet` returns it.

    Returns:
        (B, T, C, S, S) float, about in [0, 1].
    """
    change, flow = motion.flatten(0, 1).split([1, 2], 1)
    still = faces[:, None].expand(-1, motion.shape[1], -1, -1, -1).flatten(0, 1)
    made: Tensor = warp(still, flow) + resized(change, faces.shape[-1])
    clips: Tensor = made.unflatten(0, motion.shape[:2])
    return clips


class FEVGANNet(nn.Module):
    """The generator; arguments as `FEVGANSynthesizer` takes them.

    `identity` is never trained: what it says of who somebody is must not be learned from the few
    people there are clips of. It is there too if it does not feed the decoder, as training compares
    faces by it.
    """

    def __init__(
        self,
        categories: int,
        image_size: int,
        frames: int,
        channels: Sequence[int],
        noise: int,
        encoders: str,
    ) -> None:
        super().__init__()
        stages, doublings = len(channels) - 1, max(frames // _FEWEST, 1).bit_length() - 1
        uneven = channels[-1] % 8 or any(c % 16 for c in channels[:-1])
        if stages < 1 or image_size != _SMALLEST << stages or uneven:
            raise ValueError(
                f"image_size must be {_SMALLEST} times a power of 2, with channels at 4, 8, … "
                f"pixels that are multiples of 16, the last of 8; not {image_size} with "
                f"{list(channels)}"
            )
        if frames != _FEWEST << doublings or doublings > stages:
            raise ValueError(
                f"frames must be {_FEWEST} times a power of 2, at most {_FEWEST << stages} at "
                f"{image_size} pixels, not {frames}"
            )
        if encoders not in ENCODERS or noise < 2:
            raise ValueError(
                f"encoders is one of {', '.join(ENCODERS)} and noise at least 2, not "
                f"{encoders!r} and {noise}"
            )
        self.image_size, self.frames, self.noise = image_size, frames, noise
        self.knows_who, self.sees = encoders != "spatial", encoders != "identity"
        self.identity = FaceEmbedder().requires_grad_(False)
        self.label = nn.Embedding(categories, _LABEL)
        splits = [c // 2 for c in channels[:-1]] if self.sees else [0] * stages
        self.spatial = SpatialEncoder(splits[::-1]) if self.sees else None
        inputs = LENGTH * self.knows_who + splits[0] + _LABEL + noise
        self.start = nn.Linear(inputs, channels[0] * _FEWEST * _SMALLEST**2)
        self.stages = nn.ModuleList(
            _Enlarging(coarse, fine, half, number < doublings)
            for number, ((coarse, fine), half) in enumerate(
                zip(pairwise(channels), splits, strict=True)
            )
        )
        self.detail = nn.Conv2d(1, channels[-1], 3, padding=1) if self.sees else None
        self.head = nn.Conv2d(channels[-1], 3, 3, padding=1, bias=False)
        nn.init.zeros_(self.head.weight)  # at first nothing happens

    def forward(self, grey: Tensor, category: Tensor, z: Tensor) -> Tensor:
        """Return what has happened since the first frame, in which it is 0.

        Args:
            grey: (B, 1, S, S) faces in [0, 1].
            category: (B,) long.
            z: (B, Z) noise; 0 for a clip of usual speed.

        Returns:
            (B, T, 3, S, S): the change of luminance, in [-2, 2], and the flow (x, y) from a pixel
            to what it shows of the face, as `expraug.faces.warp.warp` takes it.
        """
        label, faces = self.label(category), 2 * hide_background(grey) - 1
        skips: list[Tensor] = self.spatial(faces) if self.spatial is not None else []
        parts = [label, z.to(label)]
        if skips:
            parts.append(skips[0].mean((2, 3)).to(label))
        if self.knows_who:
            with torch.no_grad():
                # unit vectors are small beside the rest
                parts.append(self.identity(grey).to(label) * LENGTH**0.5)
        frames = _FEWEST
        x = self.start(torch.cat(parts, 1)).view(len(grey) * frames, -1, _SMALLEST, _SMALLEST)
        x = x.contiguous(memory_format=torch.channels_last)
        for number, stage in enumerate(self.stages):
            told = label[:, None] * onset(z, frames).to(label)[..., None]
            still = skips[number] if skips else None
            x = stage(x, frames, still, torch.cat([label[:, None].expand_as(told), told], 2))
            frames = len(x) // len(grey)
        if self.detail is not None:
            x = over_time(x, self.detail(faces))
        motion: Tensor = self.head(F.leaky_relu(x, 0.2)).to(grey.dtype).tanh()
        motion = motion.view(len(grey), frames, 3, *grey.shape[2:])
        motion = motion * motion.new_tensor([1, _FARTHEST, _FARTHEST]).view(3, 1, 1)
        return motion - motion[:, :1]


class SpatialEncoder(nn.Module):
    """Strided convolutions: (B, 1, S, S) in [-1, 1] to features at 4, 8, … S / 2 pixels.

    Args:
        widths: channels at S / 2, … 8 and 4 pixels.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, widths[0], 4, 2, 1)
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(0.2),
                nn.Conv2d(fine, coarse, 4, 2, 1, bias=False),
                nn.GroupNorm(8, coarse),
            )
            for fine, coarse in pairwise(widths)
        )

    def forward(self, faces: Tensor) -> list[Tensor]:
        found = [self.first(faces)]
        for down in self.down:
            found.append(down(found[-1]))
        return found[::-1]


class _Enlarging(nn.Module):
    """Twice the resolution, and if `longer` twice the frames, by transposed convolutions.

    What is the same for all frames is convolved once for the clip and added to each: that is what
    a convolution of repeated and concatenated features gives, at a fraction of the cost.
    """

    def __init__(self, inputs: int, outputs: int, still: int, longer: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, inputs)
        self.space = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
        self.still = nn.ConvTranspose2d(still, outputs, 4, 2, 1, bias=False) if still else None
        self.told = nn.Linear(2 * _LABEL, inputs)
        self.between = nn.GroupNorm(8, outputs) if longer else None
        self.time = nn.ConvTranspose2d(outputs, outputs, (4, 1), (2, 1), (1, 0)) if longer else None

    def forward(self, x: Tensor, frames: int, still: Tensor | None, told: Tensor) -> Tensor:
        # told before the resolution doubles, when it costs least
        x = along_time(self.norm, x, frames) + self.told(told).flatten(0, 1)[:, :, None, None]
        x = self.space(F.leaky_relu(x, 0.2))
        if self.still is not None and still is not None:
            x = over_time(x, self.still(F.leaky_relu(still, 0.2)))
        if self.between is not None and self.time is not None:
            x = along_time(
                self.time, F.leaky_relu(along_time(self.between, x, frames), 0.2), frames
            )
        return x


def over_time(x: Tensor, still: Tensor) -> Tensor:
    """Add what is the same for all frames, (B, C, H, W), to the features of each, (B * T, …)."""
    clips: Tensor = x.unflatten(0, (len(still), -1)) + still[:, None]
    return clips.flatten(0, 1)


def along_time(layer: nn.Module, x: Tensor, frames: int) -> Tensor:
    """Apply a layer to features as (B, C, T, H * W), and return them as frames again.

    Args:
        layer: that keeps the last dimension.
        x: (B * T, C, H, W).
        frames: T.

    Returns:
        (B * T', C', H, W); without a copy, where memory is channels-last.
    """
    height, width = x.shape[2:]
    flat = x.permute(0, 2, 3, 1).reshape(-1, frames, height * width, x.shape[1])
    out: Tensor = layer(flat.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return out.reshape(-1, height, width, out.shape[3]).permute(0, 3, 1, 2)
