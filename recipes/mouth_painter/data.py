"""Real open mouths, of which the painter learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from expraug.datasets import open_source, person_split
from expraug.datasets.source import iterate
from expraug.faces import similarity
from expraug.faces.align import align_image, invert
from expraug.faces.composite import luminance
from expraug.faces.landmarks import LandmarkDetector
from expraug.faces.mouth import (
    HEIGHT,
    LOWER_LIP,
    UPPER_LIP,
    WIDTH,
    MouthWindow,
    curve_height,
    lips_of,
    sample_window,
    turned,
)
from recipes.real_faces import FER2013, FILES, LFW, LONDON, SETS, Faces, extract

OPEN = 3 / 160
"""Least distance of the inner lips, as a fraction of the frame's side."""
SIDE = 256
"""Side of London's faces, in pixels; the other sets are not as sharp."""
VERSIONS = 8
"""Windows of each of London's training faces: moved, turned and resized by a little."""
OPENED_FROM = 12.0
"""Least opening that shut mouths are drawn apart to, in pixels of the window."""
_FADES = 12.0  # pixels of the window in which the motion of the lips fades out
_MOVED, _TURNED, _RESIZED = 0.012, 0.06, 0.10  # standard deviations: frame, radians, share
_LARGEST_YAW = 40  # degrees, beyond which half of the mouth is hidden
SPLITS = ("train", "validation", "test")


@dataclass
class Mouths:
    """Open mouths, N of them.

    Args:
        pixels: (N, 3 or 1, 64, 96) uint8 windows.
        upper, lower: (N, 11, 2) float32 inner edges of the lips, in pixels of the window.
        gap, width: (N,) float32 opening and width of the mouth, in pixels of the window.
        origin: (N,) long, the set, an index into `recipes.real_faces.SETS`.
        split: (N,) long, an index into `SPLITS`.
        person: (N,) long, the same for all windows of one person; of its own where nobody is named.
    """

    pixels: Tensor
    upper: Tensor
    lower: Tensor
    gap: Tensor
    width: Tensor
    origin: Tensor
    split: Tensor
    person: Tensor

    def __len__(self) -> int:
        return len(self.gap)

    def take(self, index: Tensor) -> Mouths:
        """Return the mouths at an index or a mask."""
        return Mouths(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device) -> Mouths:
        """Return the same on a device."""
        return Mouths(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def grey(self) -> Mouths:
        """Return the mouths with their luminance for pixels."""
        if self.pixels.shape[1] == 1:
            return self
        pixels = luminance(self.pixels.float()).round().to(torch.uint8)
        return replace(self, pixels=pixels)

    def window(self) -> MouthWindow:
        """Return the windows' lips; their places in the faces are not known any more."""
        nowhere = self.upper.new_zeros(len(self), 2)
        return MouthWindow(nowhere, nowhere, self.upper, self.lower)

    def mirrored(self) -> Mouths:
        """Return the mouths' mirror images."""
        wide = self.pixels.shape[-1]
        lips = {}
        for name in ("upper", "lower"):
            lip = getattr(self, name).flip(1).clone()
            lip[..., 0] = wide - lip[..., 0]
            lips[name] = lip
        return replace(self, pixels=self.pixels.flip(3), **lips)


def concatenate(parts: list[Mouths]) -> Mouths:
    """Return the mouths of all parts, of which the persons differ."""
    found, start, persons = _joined(parts), 0, []
    for part in parts:
        persons.append(part.person + start)
        start += int(part.person.max()) + 1
    return replace(found, person=torch.cat(persons))


def _joined(parts: list[Mouths]) -> Mouths:
    if not parts:
        raise ValueError("no such mouths: the set shows none, or no face was found in it")
    return Mouths(
        **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Mouths)}
    )


def open_mouths(data: Path, faces: Path, work: Path) -> tuple[Mouths, Mouths]:
    """Return the open mouths of all sets in grey, and London's in colour.

    Args:
        data: folder of the sets.
        faces: folder of what `recipes.real_faces.extract` found.
        work: keeps the mouths.
    """
    london = london_mouths(data, work, "open")
    parts = [london.grey()]
    for origin in (LFW, FER2013):
        of_files = [(origin, data / name, faces) for name in FILES[origin]]
        parts.append(_kept(work / f"{SETS[origin]}.safetensors", partial(_cut, of_files)))
    return concatenate(parts), london


def london_mouths(data: Path, work: Path, which: str) -> Mouths:
    """Return London's "open" or "shut" mouths, in colour; arguments as `open_mouths` takes them."""
    make = partial(_london, data / FILES[LONDON][0], which == "shut")
    return _kept(work / f"london-{which}.safetensors", make)


def _kept(file: Path, make: Callable[[], Mouths]) -> Mouths:
    """Return what is in a file, made first if there is none."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = make()
        save_file({f.name: getattr(found, f.name).contiguous() for f in fields(Mouths)}, file)
    mouths = Mouths(**load_file(file))
    count = torch.bincount(mouths.split, minlength=len(SPLITS)).tolist()
    print(f"{file.stem}: mouths {dict(zip(SPLITS, count, strict=True))}", flush=True)
    return mouths


def _cut(files: list[tuple[int, Path, Path]]) -> Mouths:
    """Return the open mouths of the faces that `extract` finds in files."""
    return concatenate([_open_ones(extract(*of_file)) for of_file in files])


def _open_ones(faces: Faces) -> Mouths:
    """Return the open mouths of faces, near-duplicates of training images left out."""
    mesh = torch.from_numpy(faces.mesh[..., :2]).float()
    keep = torch.from_numpy((faces.votes.sum(1) > 0.5) & ~faces.duplicate)
    keep &= torch.from_numpy(np.abs(faces.pose[:, 0])) < _LARGEST_YAW
    keep &= (mesh[:, 14] - mesh[:, 13]).norm(dim=1) >= OPEN
    rows = keep.nonzero()[:, 0]
    faces, mesh = faces.take(rows.numpy()), mesh[rows]
    people, person = np.unique(faces.person, return_inverse=True)
    alone = faces.person == ""
    person[alone] = len(people) + np.arange(alone.sum())
    window = MouthWindow.around(lips_of(mesh))
    pixels = window.cut(faces.grey().float() / 255)
    split = [SPLITS.index(s) for s in faces.split]
    return _mouths(window, pixels, int(faces.origin[0]), torch.tensor(split), person)


def _london(path: Path, shut: bool) -> Mouths:
    """Return London's open or shut mouths, in colour, from the photographs: several windows of a
    training face."""
    detector = LandmarkDetector("detect")
    generator = torch.Generator().manual_seed(0)
    parts = []
    names: dict[str, int] = {}
    for item in iterate(open_source(path)):
        image = item.read()
        (face,) = detector([image])
        if face is None or face.mesh is None or item.identity is None:
            continue
        to_canonical = invert(similarity(face.points[None].astype(np.float64)))[0]
        mesh = (face.mesh[:, :2] + 0.5) @ to_canonical[:, :2].T + to_canonical[:, 2]
        landmarks = torch.from_numpy(mesh).float()[None]
        split = SPLITS.index(person_split(item.identity))
        is_shut = bool((landmarks[:, 14] - landmarks[:, 13]).norm() < OPEN)
        if is_shut != shut:
            continue
        aligned = align_image(image, face.points, SIDE)[None] / 255
        count = 1 if split else VERSIONS
        window = _varied(landmarks.expand(count, -1, -1), generator)
        pixels = window.cut(aligned.expand(count, -1, -1, -1))
        person = np.full(count, names.setdefault(item.identity, len(names)))
        parts.append(_mouths(window, pixels, LONDON, torch.full((count,), split), person))
    return Mouths(
        **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Mouths)}
    )


def _varied(landmarks: Tensor, generator: torch.Generator) -> MouthWindow:
    """Return windows around mouths, all but the first moved, turned and resized by a little."""
    window, count = MouthWindow.around(lips_of(landmarks)), len(landmarks)
    vary = torch.randn(count, 4, generator=generator).clamp(-2, 2)
    vary[0] = 0
    angle, size = _TURNED * vary[:, :1], (_RESIZED * vary[:, 1:2]).exp()
    across = size * (window.across * angle.cos() + turned(window.across) * angle.sin())
    centre = window.centre + _MOVED * vary[:, 2:]
    lips = (landmarks[:, list(lip)] for lip in (UPPER_LIP, LOWER_LIP))
    return MouthWindow.at(centre, across, *lips)


def _mouths(
    window: MouthWindow, pixels: Tensor, origin: int, split: Tensor, person: np.ndarray
) -> Mouths:
    upper, lower = window.upper, window.lower
    return Mouths(
        (pixels * 255).round().to(torch.uint8),
        upper,
        lower,
        (lower[:, 5] - upper[:, 5]).norm(dim=1),
        (upper[:, -1] - upper[:, 0]).norm(dim=1),
        torch.full((len(upper),), origin),
        split,
        torch.from_numpy(person).long(),
    )


def opened(shut: Mouths, others: Mouths) -> Mouths:
    """Return shut mouths drawn apart to the outlines of others, as a synthesizer draws them.

    The lips keep their shape across, and so does what is above and below them. What is between
    them then is of no use: the painter is to paint it.

    Args:
        shut: N.
        others: mouths that are open; wide ones are taken.
    """
    generator = torch.Generator().manual_seed(0)
    wide = others.take(others.gap > OPENED_FROM)
    like = wide.take(torch.randint(len(wide), (len(shut),), generator=generator))
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    x, y = x.expand(len(shut), -1, -1), y.expand(len(shut), -1, -1)
    new, old = like.window(), shut.window()
    columns = x[:, 0].contiguous()
    top, bottom = (curve_height(lip, columns)[:, None] for lip in (new.upper, new.lower))
    start, end = (new.upper[:, place, 0, None, None] for place in (0, -1))
    was_start, was_end = (old.upper[:, place, 0, None, None] for place in (0, -1))
    outside = torch.maximum(top - y, y - bottom).clamp(min=0)
    near = torch.exp(-outside / _FADES)
    share = ((x - start) / (end - start).clamp(min=1)).clamp(0, 1)
    there = was_start + share * (was_end - was_start) + (x - start).clamp(max=0)
    there = there + (x - end).clamp(min=0)
    across = x + near * (there - x)
    upper, lower = (curve_height(lip, across[:, HEIGHT // 2]) for lip in (old.upper, old.lower))
    line = ((upper + lower) / 2)[:, None]
    above = y < (top + bottom) / 2
    edge = torch.where(above, top, bottom)
    whole = torch.where(above, top.mean(2, keepdim=True), bottom.mean(2, keepdim=True))
    down = y + near * (line - edge) + (1 - near) * (HEIGHT / 2 - whole)
    pixels = sample_window(shut.pixels.float() / 255, torch.stack([across, down], 3))
    return _mouths(new, pixels, LONDON, shut.split, shut.person.numpy())
