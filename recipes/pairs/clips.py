"""What `fevgan` is trained on: clips, kept as a few frames of rising intensity."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from expraug.expressions import Expression
from expraug.networks.onset import onset
from recipes.fevgan.trainer import ClipBatch
from recipes.pairs.data import person_number, vary_alike


@dataclass
class Clips:
    """N clips.

    Args:
        levels: (N, L, S, S) uint8, aligned grey frames of evenly rising intensity; the first is
            neutral.
        category: (N,) long, what the last shows.
        group: (N,) long, the neutral face.
        person: (N,) long.
    """

    levels: Tensor
    category: Tensor
    group: Tensor
    person: Tensor

    def __len__(self) -> int:
        return len(self.category)

    def take(self, index: Tensor) -> Clips:
        """Return the clips at an index or a mask."""
        return Clips(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device) -> Clips:
        """Return the same on a device."""
        return Clips(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def read_clips(paths: Sequence[Path], size: int, categories: Sequence[Expression]) -> Clips:
    """Return the clips of the files that `recipes.pairs.make_clips` wrote.

    Raises:
        ValueError: a file that holds no strips of frames.
    """
    place = {str(e): i for i, e in enumerate(categories)}
    levels, category, group, person = [], [], [], []
    first = 0
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(256):
            for line in batch.to_pylist():
                strip = pil_to_tensor(Image.open(io.BytesIO(line["image"]["bytes"])).convert("L"))
                height, width = strip.shape[1:]
                if width == height or width % height:
                    raise ValueError(
                        f"{path}: an image of {width}x{height} is no strip of frames; "
                        f"recipes.pairs.make_clips writes them"
                    )
                frames = strip[0].unflatten(1, (-1, height)).movedim(1, 0)
                if height != size:
                    small = F.interpolate(
                        frames[None].float(),
                        (size, size),
                        mode="bilinear",
                        align_corners=False,
                        antialias=True,
                    )
                    frames = small[0].round().clamp(0, 255).byte()
                levels.append(frames)
                category.append(place[line["expression"]])
                group.append(first + line["source"])
                person.append(person_number(line["identity"]))
        first = max(group, default=-1) + 1
    if not levels:
        raise ValueError(f"no clips in {', '.join(map(str, paths))}")
    return Clips(
        torch.stack(levels), torch.tensor(category), torch.tensor(group), torch.tensor(person)
    )


def resample(levels: Tensor, curve: Tensor) -> Tensor:
    """Return clips that rise along a curve.

    Args:
        levels: (B, L, S, S) float, frames of evenly rising intensity.
        curve: (B, T) in [0, 1], the intensity of each frame.

    Returns:
        (B, T, 1, S, S) float; between two levels, the mean that fits.
    """
    last = levels.shape[1] - 1
    before = (curve * last).long().clamp(max=last - 1)
    share = (curve * last - before)[..., None, None]
    rows = torch.arange(len(levels), device=levels.device)[:, None]
    return torch.lerp(levels[rows, before], levels[rows, before + 1], share)[:, :, None]


class DrawClips:
    """Draws batches: all expressions equally often.

    Args:
        clips: at least one.
        frames: of the clips that are drawn.
        noise: length of the noise.
        count: clips of a batch.
    """

    def __init__(self, clips: Clips, frames: int, noise: int, count: int) -> None:
        self.clips, self.frames, self.noise, self.count = clips, frames, noise, count
        shown = torch.bincount(clips.category).float()
        self.even = shown.reciprocal()[clips.category]

    def __call__(self) -> ClipBatch:
        """Return a batch, drawn from torch's global random generator."""
        rows = torch.multinomial(self.even, self.count, replacement=True)
        z = torch.randn(self.count, self.noise, device=rows.device)
        clip = resample(self.clips.levels[rows].float() / 255, onset(z, self.frames))
        # frame by frame, so that those of one clip lie a whole batch apart
        clip = vary_alike(clip.transpose(0, 1).flatten(0, 1), self.count)
        clip = clip.unflatten(0, (self.frames, self.count)).transpose(0, 1).contiguous()
        person = self.clips.person[rows]
        stranger = person[:, None] != person
        stranger |= ~stranger.any(1, keepdim=True)  # all of one person
        return ClipBatch(
            source=clip[:, 0],
            clip=clip,
            category=self.clips.category[rows],
            z=z,
            other=torch.multinomial(stranger.float(), 1)[:, 0],
        )
