"""The generator of `fevgan`: two encoders of a face, and a decoder in space and time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.faces.composite import hide_background
from expraug.faces.warp import resized
from expraug.networks.embedder import LENGTH, FaceEmbedder
from expraug.networks.mouth_painter import COLUMNS, ROWS
from expraug.networks.onset import RHYTHM, rhythm
from expraug.synthesizers.expression_maps import ExpressionMaps, beyond_the_frame

ENCODERS = ("both", "identity", "spatial")
_SMALLEST = 4  # side of the first features
_FEWEST = 2  # their frames
_LABEL = 16  # length of the embedding of a category
_FARTHEST = 0.2  # that a pixel moves, in sides of the frame
_LIGHTEST = 1.0  # change of log luminance
LIPS = (2, 11, 2)
_HIDDEN = 64  # of what finds lips, and of what says how light the mouth is inside
_SEEN_SIDE, _WINDOW = 64, (36, 40)  # of a face in which lips are looked for, and how much of it
_LOWER_HALF = (6, 9)  # cells in which lips are looked for among the features of a frame


class FEVGANNet(nn.Module):
    """The generator; arguments as `FEVGANSynthesizer` takes them.

    `identity` and `mouth` come trained, and stay as they are: who somebody is, and where lips are,
    must not be learned from the few people there are clips of. The former is there too if it does
    not feed the decoder, as training compares faces by it.
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
        if stages < 2 or image_size != _SMALLEST << stages or uneven:
            raise ValueError(
                f"image_size must be {_SMALLEST} times a power of 2, with channels at 4, 8, … "
                f"pixels that are multiples of 16, the last of 8; not {image_size} with "
                f"{list(channels)}"
            )
        if frames != _FEWEST << doublings or doublings >= stages:
            raise ValueError(
                f"frames must be {_FEWEST} times a power of 2, at most {image_size // 4} at "
                f"{image_size} pixels, not {frames}"
            )
        if encoders not in ENCODERS or noise < RHYTHM:
            raise ValueError(
                f"encoders is one of {', '.join(ENCODERS)} and noise at least {RHYTHM}, not "
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
        points = LIPS[0] * LIPS[1] * LIPS[2]
        rows, columns = _LOWER_HALF
        self.mouth = LipFinder().requires_grad_(False)
        self.interior = _two_layers(inputs, ROWS * COLUMNS)
        self.lips = _two_layers(rows * columns * channels[-1], points)
        nn.init.zeros_(self.head.weight)  # at first nothing happens

    def forward(
        self, grey: Tensor, category: Tensor, z: Tensor, shown: Tensor | None = None
    ) -> ExpressionMaps:
        """Return what has happened since the first frame, in which nothing has.

        Args:
            grey: (B, 1, S, S) faces in [0, 1].
            category: (B,) long.
            z: (B, Z) noise: the rhythm first, then the code; 0 for a clip of usual speed.
            shown: (B, K) long, the frames that are asked for; all if None.

        Returns:
            B * K, the frames of a face behind one another.
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
        told, frames = torch.cat(parts, 1), _FEWEST
        x = self.start(told).view(len(grey) * frames, -1, _SMALLEST, _SMALLEST)
        x = x.contiguous(memory_format=torch.channels_last)
        first = torch.zeros_like(category)[:, None]
        if shown is None:
            shown = torch.arange(self.frames, device=grey.device).expand(len(grey), -1)
        for number, stage in enumerate(self.stages):
            assert isinstance(stage, _Enlarging)
            come = [part.to(label)[..., None] * label[:, None] for part in rhythm(z, frames)]
            x = stage.told_of(x, frames, torch.cat([label[:, None].expand_as(come[0]), *come], 2))
            if number == len(self.stages) - 1:  # no frame learns of others after this
                x = _picked(x, frames, torch.cat([first, shown], 1))
            x = stage(x, frames, skips[number] if skips else None)
            frames = len(x) // len(grey)
        if self.detail is not None:
            x = over_time(x, self.detail(faces))
        return self._maps(F.leaky_relu(x, 0.2), told, shown, grey)

    def _maps(self, x: Tensor, told: Tensor, shown: Tensor, grey: Tensor) -> ExpressionMaps:
        """Return the maps that features, (B * (1 + K), C, S, S), stand for."""
        frames, later = shown.shape[1], (shown > 0).flatten()
        side = x.shape[-1]
        motion = _smooth(self.head(x).to(grey.dtype).tanh())
        # around the mouth
        near = x[..., int(0.56 * side) :, side // 4 : side - side // 4]
        points = self.lips(F.adaptive_avg_pool2d(near, _LOWER_HALF).flatten(1)).to(grey.dtype)

        def since(values: Tensor) -> Tensor:
            of_clips = values.unflatten(0, (len(grey), 1 + frames))
            moves = (of_clips[:, 1:] - of_clips[:, :1]).flatten(0, 1)
            return torch.where(later.view(-1, *[1] * (moves.ndim - 1)), moves, 0)

        with torch.no_grad():
            lips = self.mouth(grey).to(grey.dtype).repeat_interleave(frames, 0)
        interior = self.interior(told).to(grey.dtype).view(-1, ROWS, COLUMNS)
        flow, lightening = since(motion).split([2, 1], 1)
        return ExpressionMaps(
            beyond_the_frame(flow * _FARTHEST),
            lightening * _LIGHTEST,
            lips,
            lips + since(points).view(-1, *LIPS),
            interior.repeat_interleave(frames, 0),
        )


class LipFinder(nn.Module):
    """Where the inner edges of the lips are, seen in the lower half of a face.

    It learns from real faces whose landmarks are known: `recipes/fevgan/lips.py`.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * (_WINDOW[0] // 4) * (_WINDOW[1] // 4), _HIDDEN),
            nn.LeakyReLU(0.2),
        )
        self.last = nn.Linear(_HIDDEN, LIPS[0] * LIPS[1] * LIPS[2])

    def forward(self, grey: Tensor) -> Tensor:
        """Return the lips of (B, 1, S, S) faces in [0, 1], as `faces.mouth.lips_of` does."""
        height, width = _WINDOW
        top, left = _SEEN_SIDE - height, (_SEEN_SIDE - width) // 2
        window = resized(grey, _SEEN_SIDE)[:, :, top:, left : left + width]
        mean = window.mean((1, 2, 3), keepdim=True)
        spread = (window - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
        found: Tensor = self.last(self.body((window - mean) / (spread + 0.02)))
        return found.view(-1, *LIPS)


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
        self.told = nn.Linear(3 * _LABEL, inputs)
        self.between = nn.GroupNorm(8, outputs) if longer else None
        self.time = nn.ConvTranspose2d(outputs, outputs, (4, 1), (2, 1), (1, 0)) if longer else None

    def told_of(self, x: Tensor, frames: int, told: Tensor) -> Tensor:
        """Return normalised features that know the label and how far it has come, (B, T, 48)."""
        # told before the resolution doubles, when it costs least
        added: Tensor = self.told(told).flatten(0, 1)[:, :, None, None]
        return along_time(self.norm, x, frames) + added

    def forward(self, x: Tensor, frames: int, still: Tensor | None) -> Tensor:
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


def _picked(x: Tensor, frames: int, shown: Tensor) -> Tensor:
    """Return some frames of features, (B * T, C, H, W), by (B, K) number: (B * K, C, H, W)."""
    start = torch.arange(len(shown), device=x.device)[:, None] * frames
    return x[(start + shown).flatten()]


def _smooth(maps: Tensor) -> Tensor:
    """Return maps without what alternates from pixel to pixel, as transposed convolutions do."""
    return F.avg_pool2d(F.avg_pool2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), 2, 1), 2, 1)


def _two_layers(inputs: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(_HIDDEN, outputs)
    nn.init.zeros_(last.weight)  # the bias alone, as long as nothing has been learned
    return nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.LeakyReLU(0.2), last)
