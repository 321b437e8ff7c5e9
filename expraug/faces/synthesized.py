"""What a synthesizer returns: how aligned faces change, at whatever resolution they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.warp import pixel_grid, resized, sample

FLOW_FRAME = (-0.25, 1.25)
"""From where to where a flow reaches, in x and in y, as fractions of the canonical frame's side:
a jaw that drops takes the neck and what is behind it along."""


def canonical_part(maps: Tensor) -> Tensor:
    """Return the canonical frame's part of maps over `FLOW_FRAME`, (B, C, f, f)."""
    low, high = FLOW_FRAME
    side = maps.shape[-1]
    edge = round(side * -low / (high - low))
    return maps[..., edge : side - edge, edge : side - edge]


@dataclass(frozen=True, slots=True, eq=False)
class SynthesizedFaces:
    """How B aligned faces change. The maps are square, and each may have its own side.

    At canonical place u, in fractions of the frame's side, the result is
    `(1 - matte(u)) * face(u + flow(u)) + change(u)`.

    Args:
        change: (B, 3, s, s) float in [-1, 1] over the canonical frame: light and colour added.
        flow: (B, 2, f, f) float, (x, y), over `FLOW_FRAME`: where a place's pixel comes from, less
            the place, in fractions of the canonical frame's side. None: nothing moves.
        matte: (B, 1, m, m) float in [0, 1] over the canonical frame: how much of what was there
            goes, where something new takes its place, as in a mouth that opens; the new itself,
            times the matte, is part of the change. None: nothing goes.
        refused: for each reason why a face cannot be made, (B,) bool, of which it holds.

    Raises:
        ValueError: maps of other shapes.
    """

    change: Tensor
    flow: Tensor | None = None
    matte: Tensor | None = None
    refused: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, channels in (("change", 3), ("flow", 2), ("matte", 1)):
            tensor = getattr(self, name)
            if tensor is None:
                continue
            expected = (len(self.change), channels, tensor.shape[-1], tensor.shape[-1])
            if tuple(tensor.shape) != expected:
                raise ValueError(
                    f"the {name} of synthesized faces is (B, {channels}, side, side), the same B "
                    f"for all maps, not {tuple(tensor.shape)}"
                )

    def __len__(self) -> int:
        return len(self.change)

    def part(self, rows: slice | Sequence[int]) -> SynthesizedFaces:
        """Return some of the faces."""
        flow = None if self.flow is None else self.flow[rows]
        matte = None if self.matte is None else self.matte[rows]
        refused = {reason: which[rows] for reason, which in self.refused.items()}
        return SynthesizedFaces(self.change[rows], flow, matte, refused)

    def kept(self, which: Tensor) -> SynthesizedFaces:
        """Return the faces with nothing changed in all but those that (B,) bool names."""
        keep = which.view(-1, 1, 1, 1)
        maps = (
            None if m is None else torch.where(keep, m, 0)
            for m in (self.change, self.flow, self.matte)
        )
        change, flow, matte = maps
        assert change is not None
        return SynthesizedFaces(change, flow, matte, self.refused)

    def among(self, rows: Tensor, count: int) -> SynthesizedFaces:
        """Return these as part of a batch of so many, in which nothing else changes.

        Args:
            rows: (B,) long, where in the batch each is.
            count: faces in the batch.
        """

        def placed(tensor: Tensor) -> Tensor:
            return tensor.new_zeros(count, *tensor.shape[1:]).index_copy(0, rows, tensor)

        return SynthesizedFaces(
            placed(self.change),
            None if self.flow is None else placed(self.flow),
            None if self.matte is None else placed(self.matte),
            {reason: placed(which) for reason, which in self.refused.items()},
        )

    def render(self, faces: Tensor) -> Tensor:
        """Return the changed faces.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned.

        Returns:
            (B, 3, S, S) float in [0, 1]; what moves in from beside the frame repeats its border.
        """
        return self.blend(faces).clamp(0, 1)

    def blend(self, faces: Tensor, mode: str = "bicubic") -> Tensor:
        """Do what `render` does, without a limit to the range: it shows what is no picture.

        Args:
            faces: as `render` takes them.
            mode: of the interpolation, as `grid_sample` takes it.
        """
        side = faces.shape[-1]
        if self.flow is not None and len(faces):
            faces = moved(faces, self.flow, mode)
        if self.matte is not None:
            faces = faces * (1 - resized(self.matte, side))
        return faces + resized(self.change, side)


def moved(faces: Tensor, flow: Tensor, mode: str = "bicubic") -> Tensor:
    """Return aligned faces, (B, 3, S, S), of which parts move; what stays is the same to the bit.

    Args:
        faces: as `SynthesizedFaces.render` takes them, one at least.
        flow: as `SynthesizedFaces` has it.
        mode: "bicubic", as what is shown, or "bilinear", several times faster on the CPU.
    """
    side = faces.shape[-1]
    low, high = FLOW_FRAME
    places = pixel_grid(side, faces)
    if flow.shape[-1] / (high - low) == side:  # pixel for pixel
        shift = 2 * canonical_part(flow.to(faces))
    else:  # both frames have the same middle
        shift = 2 * sample(flow.to(faces), places / (high - low))
    grid = (places + shift).permute(0, 2, 3, 1)
    there = F.grid_sample(faces, grid, mode=mode, padding_mode="border", align_corners=False)
    return torch.where((shift != 0).any(1, keepdim=True), there, faces)


def joined(parts: Sequence[SynthesizedFaces]) -> SynthesizedFaces:
    """Return one batch of several that have the same maps, of the same sides."""
    flows = [part.flow for part in parts if part.flow is not None]
    mattes = [part.matte for part in parts if part.matte is not None]
    return SynthesizedFaces(
        torch.cat([part.change for part in parts]),
        torch.cat(flows) if flows else None,
        torch.cat(mattes) if mattes else None,
        {
            reason: torch.cat([part.refused[reason] for part in parts])
            for reason in parts[0].refused
        },
    )


def moving(made: Sequence[SynthesizedFaces]) -> bool:
    """Say whether anything can move in any of these."""
    return any(one.flow is not None for one in made)
