"""The mouth painter: a small network that paints the inside of a mouth that opens.

It is the only part of a face that a photograph with shut lips does not hold. The network sees
light, shade and sharpness around the mouth, the outline of the lips and, very coarsely, how light
the inside of somebody else's mouth is, and paints teeth, tongue and throat as this face is lit. It
is a U-Net (Ronneberger et al. 2015), taught on real open mouths with their inside masked out by
`recipes/mouth_painter/train.py`, as inpainting networks are (Pathak et al. 2016).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.faces.composite import luminance
from expraug.faces.mouth import HEIGHT, WIDTH, MouthOutline, MouthWindow, sample_window
from expraug.faces.planes import box_blur, box_means
from expraug.networks.batching import independently
from expraug.pretrained import load_own, save_weights

_KIND = "mouth_painter"
_VERSION = "1"
ROWS, COLUMNS = 6, 12
"""Of the interior that `read_interior` reads: from lip to lip, and from corner to corner."""
_FINER = 4  # samples per side in each of its cells
_PLANES = 8  # that the network sees of a mouth
_HIDDEN = 1.5  # pixels of the window around the inside that the network does not see either
_EDGE = (0.6, 3.4)  # depth in pixels of the window where the matte begins, and where it is 1
_SMALLEST_LEVEL = 0.02
_LIPS = 6.0  # pixels of the window around the inside that are lips
_WIDE, _LOW, _WHITE = (9.0, 18.0), (0.2, 0.5), (0.7, 1.0)  # see flesh_share
_UPPER_TEETH, _LOWER_TEETH = (10.0, 15.0), (4.0, 8.0)  # where they end, in pixels of the window
_TONGUE = 0.7  # what its luminance stays below, relative to the level
_SHARPNESS = (0.4, 0.5)  # that of a blurred photograph, and how much more a sharp one has
_LIGHT = (0.85, 0.75)  # factor and power that lead from the skin's luminance to the light


class MouthPainter(nn.Module):
    """Paints the inside of open mouths.

    Args:
        width: channels at half the window's resolution.
    """

    colour: Tensor

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.config = {"width": width}
        w = width
        self.stem = nn.Conv2d(4 * _PLANES, w, 3, padding=1)
        self.halve = nn.Conv2d(w, 2 * w, 3, 2, 1)
        self.half_down = nn.Conv2d(2 * w, 2 * w, 3, padding=1)
        self.quarter = nn.Conv2d(2 * w, 4 * w, 3, 2, 1)
        self.deep = nn.ModuleList(nn.Conv2d(4 * w, 4 * w, 3, padding=1) for _ in range(2))
        self.to_half = nn.Conv2d(4 * w, 2 * w, 1)
        self.half_up = nn.Conv2d(2 * w, 2 * w, 3, padding=1)
        self.to_full = nn.Conv2d(2 * w, w, 1)
        self.full_again = nn.Conv2d(w, 32, 3, padding=1)
        self.last = nn.Conv2d(8, 1, 3, padding=1)
        # chroma of the inside, linear in that of the skin: by 1, luminance, its square, and v
        self.register_buffer("colour", _plain_colour())

    def forward(self, faces: Tensor, lips: Tensor, interior: Tensor) -> tuple[Tensor, Tensor]:
        """Paint the inside of mouths: `faces * (1 - matte) + paint * matte` is the result.

        Args:
            faces: (B, 3, S, S) float in [0, 1], aligned, with the lips where they belong; S is 64
                to 256.
            lips: (B, 2, 11, 2) float, of the faces as drawn, as `faces.mouth.lips_of` returns them.
            interior: (B, 6, 12) float, as `read_interior` reads it from an exemplar.

        Returns:
            Paint, (B, 3, S, S) float in [0, 1], and matte, (B, 1, S, S) float in [0, 1], which is 0
            outside the inner edges of the lips, and everywhere where they are shut.
        """
        if not len(faces):
            return faces, faces[:, :1]
        window = MouthWindow.around(lips)
        outline = window.outline()
        painted = self.paint_cut(window.cut(faces), outline, interior)
        both = window.put_back(torch.cat([painted, matte_of(outline)], 1), faces.shape[-1])
        both = both.clamp_(0, 1)
        return both[:, :3], both[:, 3:]

    def paint_cut(self, cut: Tensor, outline: MouthOutline, interior: Tensor) -> Tensor:
        """Return the inside of mouths in their windows, in the light and the colour of the face.

        Args:
            cut: (B, 3, 64, 96) windows in [0, 1].
            outline: of the lips.
            interior: (B, 6, 12), as `read_interior` reads it.

        Returns:
            (B, 3, 64, 96) float in [0, 1].
        """
        grey, seen = luminance(cut), surroundings(outline)
        level = light_level(grey, seen)
        painted = self.paint_windows(grey, level, outline, interior)
        return self.tint(painted, cut, outline)

    def paint_windows(
        self, grey: Tensor, level: Tensor, outline: MouthOutline, interior: Tensor
    ) -> Tensor:
        """Return the inside of the mouths in their windows, (B, 1, 64, 96), relative to the level.

        Args:
            grey: (B, 1, 64, 96) luminance of the windows in [0, 1].
            level: (B, 1, 1, 1), as `light_level` finds it.
            outline: of the lips.
            interior: (B, 6, 12), as `read_interior` reads it.
        """
        inside, seen = outline.depth.add(0.5).clamp(0, 1), surroundings(outline)
        laid = lay(interior, outline)
        planes = [
            light_around(grey / level - 1, seen),
            inside,
            (outline.below / 16).clamp(0, 2) * inside,
            (outline.above / 16).clamp(0, 2) * inside,
            (2 * outline.u - 1) * inside,
            laid * inside,
            level.expand_as(grey),
            sharpness(grey, seen).expand_as(grey),
        ]
        x = F.pixel_unshuffle(torch.cat(planes, 1), 2)
        return laid + torch.cat([self._drawn(one) for (one,) in independently(x)])

    def _drawn(self, x: Tensor) -> Tensor:
        """Return what the net adds to the interior that is laid in, (B, 1, 64, 96).

        Args:
            x: (B, 32, 32, 48), two by two pixels of what it sees.
        """
        if x.device.type == "cpu":  # where colours last are quicker
            x = x.contiguous(memory_format=torch.channels_last)
        fine = _leaky(self.stem(x))
        half = _leaky(self.halve(fine))
        half = half + _leaky(self.half_down(half))
        coarse = _leaky(self.quarter(half))
        for convolution in self.deep:
            coarse = coarse + _leaky(convolution(coarse))
        half = half + _doubled(self.to_half(coarse))
        half = half + _leaky(self.half_up(half))
        fine = _leaky(fine + _doubled(self.to_full(half)))
        full = F.pixel_shuffle(_leaky(self.full_again(fine)), 2)
        drawn: Tensor = self.last(full)
        return drawn

    def tint(self, painted: Tensor, cut: Tensor, outline: MouthOutline) -> Tensor:
        """Return (B, 3, 64, 96) paint in [0, 1]: what `paint_windows` painted, in colour."""
        seen = surroundings(outline)
        light = (1 + painted).clamp(0, 2)
        near = seen * nearness(cut)
        of_teeth = teeth_chroma(self.colour, chroma_of(cut, near), light, outline.v)
        lips = ((outline.depth > -_LIPS) & (outline.depth < 0)).to(cut) * seen
        share = flesh_share(light, outline)
        light = torch.lerp(light, _TONGUE * torch.tanh(light / _TONGUE), share)
        tint = torch.lerp(of_teeth, chroma_of(cut, lips + 1e-4 * near), share).exp()
        lit = light * light_level(luminance(cut), seen)
        return (lit * tint / luminance(tint)).clamp(0, 1)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (floats as fp16) and `config.json` into a folder.

        Raises:
            InvalidWeightsError: a value that is not finite, or too large for fp16.
        """
        save_weights(self, folder, kind=_KIND, name=_KIND, version=_VERSION, config=self.config)


def load_mouth_painter(folder: str | Path | None = None) -> MouthPainter:
    """Load a mouth painter, ready for inference.

    Args:
        folder: written by `MouthPainter.save_pretrained`; None takes the embedded one.

    Raises:
        MissingWeightsError: nothing there.
        InvalidWeightsError: what is there is damaged, or no mouth painter.
    """
    # as the CPU takes weights, which elsewhere makes no difference
    return load_own(_KIND, MouthPainter, folder)[0].to(memory_format=torch.channels_last)


def read_interior(faces: Tensor, lips: Tensor) -> Tensor:
    """Read how light the inside of open mouths is, as `MouthPainter` takes it.

    Args:
        faces: (B, 3, S, S) float in [0, 1], aligned.
        lips: (B, 2, 11, 2) float, of the faces, as `faces.mouth.lips_of` returns them.

    Returns:
        (B, 6, 12) float: means over cells of lip coordinates, as a share above or below the light
        level of the surroundings; -1 is black.
    """
    window = MouthWindow.around(lips)
    return interior_of(luminance(window.cut(faces)), window)


def interior_of(
    grey: Tensor, window: MouthWindow, rows: int = ROWS, columns: int = COLUMNS
) -> Tensor:
    """Read what `read_interior` reads, in more detail if wished, from (B, 1, 64, 96) windows."""
    level = light_level(grey, surroundings(window.outline()))
    points = window.lip_points(rows * _FINER, columns * _FINER)
    return box_means(sample_window(grey / level - 1, points), _FINER)[:, 0]


def lay(interior: Tensor, outline: MouthOutline) -> Tensor:
    """Return (B, 1, 64, 96): (B, rows, columns) interiors laid between the lips of the windows."""
    u = outline.u.expand_as(outline.v)[:, 0]
    grid = torch.stack([u, outline.v[:, 0]], 3).clamp(0, 1) * 2 - 1
    return F.grid_sample(interior[:, None], grid, padding_mode="border", align_corners=False)


def surroundings(outline: MouthOutline) -> Tensor:
    """Return what the network sees of the windows, (B, 1, 64, 96) in [0, 1]: not the inside, nor
    the edge of the lips, which is between both."""
    return (-outline.depth - _HIDDEN + 0.5).clamp(0, 1)


def matte_of(outline: MouthOutline) -> Tensor:
    """Return how far the paint covers the windows, (B, 1, 64, 96) in [0, 1].

    It begins a little within the lips, and softly: else a light line would show between them.
    """
    start, end = _EDGE
    t = _ramp(outline.depth, start, end)
    soft = box_blur(t * t * (3 - 2 * t), 3, 3)
    return soft * outline.depth.clamp(0, 1)


def light_level(grey: Tensor, seen: Tensor) -> Tensor:
    """Return how light it is around mouths, (B, 1, 1, 1), from the luminance of the skin.

    Skin is dark because it gets little light, or because it is dark: then its teeth are not. A
    power of the skin's luminance is between both (in photographs of one studio the luminance of
    teeth grows with the power 0.2 of the skin's, in others with 0.8 to 0.9).
    The skin is the mean and the standard deviation of what is around the mouth, together: lips and
    a beard lower the one and raise the other.

    Args:
        grey: (B, 1, 64, 96) luminance in [0, 1].
        seen: (B, 1, 64, 96) in [0, 1], what counts.
    """
    weight = seen * nearness(grey)
    mean = _mean(grey, weight)
    deviation = _mean((grey - mean).square(), weight).sqrt()
    factor, power = _LIGHT
    return factor * (mean + deviation).clamp(min=_SMALLEST_LEVEL) ** power


def light_around(windows: Tensor, seen: Tensor) -> Tensor:
    """Return (B, 1, 64, 96) windows so blurred that light and shade are left, 0 in the middle.

    Lips that a synthesizer has moved look otherwise than photographed ones in every detail. The
    network must not know them apart.
    """
    sums = torch.cat([windows * seen, seen], 1)
    for _ in range(2):
        sums = box_blur(sums, 7, 7)
    return sums[:, :1] / (sums[:, 1:] + 0.02)


def sharpness(grey: Tensor, seen: Tensor) -> Tensor:
    """Return how sharp windows are, (B, 1, 1, 1) in [0, 1]: 0 for photographs that were enlarged.

    It is the ratio of second to first differences of neighbouring pixels, so that contrast tells
    nothing.

    Args:
        grey: (B, 1, 64, 96) luminance in [0, 1].
        seen: (B, 1, 64, 96) in [0, 1], what counts.
    """
    weight = seen * nearness(grey)
    first, second = grey.new_zeros(len(grey), 1, 1, 1), grey.new_zeros(len(grey), 1, 1, 1)
    for axis in (2, 3):
        step = grey.diff(dim=axis)
        last = step.shape[axis] - 1
        counts = weight.narrow(axis, 2, last) * (seen.narrow(axis, 0, last) > 0.99)
        first = first + _sum(step.narrow(axis, 1, last).square() * counts)
        second = second + _sum(step.diff(dim=axis).square() * counts)
    low, more = _SHARPNESS
    return (((second / first.clamp(min=1e-8)).sqrt() - low) / more).clamp(0, 1)


def chroma_of(cut: Tensor, weight: Tensor) -> Tensor:
    """Return the log of red, green and blue over luminance in windows, (B, 3, 1, 1).

    Args:
        cut: (B, 3, 64, 96) windows in [0, 1].
        weight: (B, 1, 64, 96) in [0, 1], what counts.
    """
    colour = _mean(cut, weight).clamp(min=_SMALLEST_LEVEL / 4)
    return (colour / luminance(colour)).log()


def teeth_chroma(colour: Tensor, skin: Tensor, light: Tensor, v: Tensor) -> Tensor:
    """Return the log of red, green and blue over luminance of teeth and gums, (B, 3, 64, 96).

    Args:
        colour: (4, 3, 3), the map from the skin's, for 1, luminance, its square, and v.
        skin: (B, 3, 1, 1), from `chroma_of`.
        light: (B, 1, 64, 96) luminance, relative to the level.
        v: (B, 1, 64, 96) lip coordinate.
    """
    for_each = torch.einsum("kij,bj->kbi", colour, skin[:, :, 0, 0])[..., None, None]
    terms = colour_terms(light, v)
    return sum((term * part for term, part in zip(terms, for_each, strict=True)), 0 * light)


def flesh_share(light: Tensor, outline: MouthOutline) -> Tensor:
    """Return how far the inside is tongue and throat, of the colour of the lips, (B, 1, 64, 96) in
    [0, 1]: where a mouth is wide open, in the middle, and around it what is not white."""
    wide = _ramp(outline.below + outline.above, *_WIDE) * _ramp(outline.v, *_LOW)
    middle = _ramp(outline.below, *_UPPER_TEETH) * _ramp(outline.above, *_LOWER_TEETH)
    return wide * torch.maximum(middle, 1 - _ramp(light, *_WHITE))


def _ramp(x: Tensor, start: float, end: float) -> Tensor:
    return ((x - start) / (end - start)).clamp(0, 1)


def colour_terms(light: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the map to the inside's chroma is linear in, each of the shape of `light`."""
    return torch.ones_like(light), light, light.square(), v.clamp(0, 1)


def _plain_colour() -> Tensor:
    """Return the map that gives the inside the skin's chroma: that of a painter not yet taught."""
    colour = torch.zeros(4, 3, 3)
    colour[0] = torch.eye(3)
    return colour


def nearness(like: Tensor) -> Tensor:
    """Return how near each pixel of a window is to its middle, (64, 96) in (0, 1]."""
    return _nearness(like.device, like.dtype)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # it is kept, and may be trained with later
def _nearness(device: torch.device, dtype: torch.dtype) -> Tensor:
    y = (torch.arange(HEIGHT, device=device, dtype=dtype) + 0.5) / HEIGHT * 2 - 1
    x = (torch.arange(WIDTH, device=device, dtype=dtype) + 0.5) / WIDTH * 2 - 1
    return torch.exp(-(y[:, None].square() + x.square()))


def _mean(images: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted means of images, (B, C, 1, 1)."""
    return _sum(images * weight) / _sum(weight).clamp(min=1e-6)


def _sum(images: Tensor) -> Tensor:
    return images.sum((2, 3), keepdim=True)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
