"""Faces whose parts move: the photograph's own pixels, at its own resolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from expraug.faces import CropDetector
from expraug.faces.batches import composited, composited_padded, ordered
from expraug.faces.composite import FLOW_CELL, flow_mask, masked
from expraug.faces.detect import CROP_POINTS, DetectedFace
from expraug.faces.frame import FramedFace, frame
from expraug.faces.pixels import as_array, as_tensor
from expraug.faces.resample import STILL
from expraug.faces.synthesized import FLOW_FRAME, SynthesizedFaces, joined

CPU = torch.device("cpu")


def places(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The canonical (x, y) of a flow's map."""
    low, high = FLOW_FRAME
    axis = low + (high - low) * (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def shift(x: float, y: float, size: int = 64) -> torch.Tensor:
    """A flow that is the same everywhere."""
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, size, size).contiguous()


def jaw_drop(amount: float, size: int = 96) -> torch.Tensor:
    """A flow that pulls the lower half of a face down, and ever less of what is beside it."""
    x, y = places(size)
    down = amount * torch.sigmoid((y - 0.74) / 0.05) * torch.exp(-(((x - 0.5) / 0.35) ** 4))
    return torch.stack([0 * x, -down * torch.exp(-(((y - 0.95).clamp(min=0) / 0.2) ** 2))])[None]


def only(flow: torch.Tensor | None, size: int = 128) -> SynthesizedFaces:
    """Nothing but a flow."""
    return SynthesizedFaces(torch.zeros(1, 3, size, size), flow)


def inside_photograph(image: np.ndarray, side: int, turn: float = 0.0) -> FramedFace:
    """A face of so many pixels in the middle of an image."""
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (CROP_POINTS - 0.5) @ (side * rotation).T + middle - 0.5
    return frame(image, DetectedFace(points.astype(np.float32)), 128)


def pasted(image: np.ndarray, face: FramedFace, made: SynthesizedFaces) -> np.ndarray:
    """The whole image with the changed face in it."""
    ((patch,), *_), _ = composited([face], [made])
    (top, left), changed = face.patch_origin(made.flow is not None), image.copy()
    patch = patch.numpy().reshape(*patch.shape[:2], *image.shape[2:])
    changed[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return changed


def solid(face: FramedFace) -> tuple[slice, slice]:
    """Where in the image a flow is not masked, whatever the face's turn."""
    half = int(0.3 * np.hypot(*face.matrix[:, 0]))
    x, y = (face.matrix @ (0.5, 0.56, 1) + face.origin[::-1]).astype(int)
    return slice(y - half, y + half), slice(x - half, x + half)


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


@pytest.fixture
def photograph(neutral_images: list[np.ndarray]) -> np.ndarray:
    """A face, with a margin around it."""
    return np.pad(neutral_images[0], ((120, 120), (120, 120), (0, 0)), mode="symmetric")


@pytest.mark.parametrize("turn", [0.0, 0.3])
@pytest.mark.parametrize("grey", [False, True])
def test_a_flow_of_nothing_is_the_photograph(photograph, turn, grey):
    image = photograph[..., 1].copy() if grey else photograph
    face = inside_photograph(image, 230, turn)
    assert np.array_equal(pasted(image, face, only(shift(0, 0))), image)
    # and what is added to it is what is added without a flow, where both masks are 1
    change = torch.zeros(1, 3, 128, 128)
    change[:, :, 40:70, 40:90] = torch.rand(30, 50) / 4
    without = pasted(image, face, SynthesizedFaces(change))
    assert (without != image).any()
    difference = np.abs(
        pasted(image, face, SynthesizedFaces(change, shift(0, 0))) - without.astype(int)
    )
    assert difference.max() <= (1 if turn else 0), "places on a turned grid round otherwise"
    assert (difference > 0).mean() < 1e-4


@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_a_constant_shift_shows_the_shifted_photograph(photograph, turn):
    face = inside_photograph(photograph, 230, turn)
    linear = face.matrix[:, :2]
    flow = np.linalg.solve(linear, np.array([11.0, -7.0]))  # in whole pixels of the photograph
    made = pasted(photograph, face, only(shift(*flow.tolist())))
    expected = np.roll(photograph, (7, -11), (0, 1)).astype(int)
    middle = solid(face)
    assert np.abs(made[middle].astype(int) - expected[middle]).max() <= 1
    assert (made[middle] != photograph[middle]).mean() > 0.5


def test_nothing_beside_the_flow_changes(photograph):
    face = inside_photograph(photograph, 180, 0.2)
    top, _, bottom, _ = face.box(True)
    assert bottom - top < len(face.pixels), "the flow reaches into what is cut out around the box"
    noise = torch.rand(1, 2, 40, 40) - 0.5
    made = pasted(photograph, face, SynthesizedFaces(torch.rand(1, 3, 64, 64) - 0.5, noise))
    inverse = np.linalg.inv(face.matrix[:, :2])
    y, x = np.mgrid[: len(photograph), : photograph.shape[1]] + 0.5
    (first, second), (across, down) = face.origin, face.matrix[:, 2]
    u, v = np.tensordot(inverse, np.stack([x - second - across, y - first - down]), 1)
    low, high = FLOW_FRAME
    columns, rows = (np.floor((t - low) / (high - low) * 512).astype(int) for t in (u, v))
    there = (columns >= 0) & (columns < 512) & (rows >= 0) & (rows < 512)
    wide = torch.nn.functional.max_pool2d(
        (flow_mask(512) > 0).float(), 2 * int(512 * FLOW_CELL) + 1, 1, int(512 * FLOW_CELL)
    )[0].numpy()
    outside = ~(there & (wide[rows.clip(0, 511), columns.clip(0, 511)] > 0))
    assert 0.1 < outside.mean() < 0.9
    assert np.array_equal(made[outside], photograph[outside])
    assert (made != photograph).any()


@pytest.mark.parametrize("moved", [(10.5, -6.5), (10.25, 4.0)])
def test_what_moves_stays_as_sharp(neutral_images, moved):
    """Detail as fine as this is lost by whoever resamples twice, or at a lower resolution."""
    image = np.pad(enlarged(neutral_images[1], 512), ((200, 200), (200, 200), (0, 0)), "symmetric")
    face = inside_photograph(image, 500)
    flow = np.linalg.solve(face.matrix[:, :2], np.array(moved)).tolist()
    made = pasted(image, face, only(shift(*flow)))
    source = np.roll(image, (-round(moved[1]), -round(moved[0])), (0, 1))
    grey, original = (np.asarray(Image.fromarray(i).convert("L"), float) for i in (made, source))
    middle = solid(face)
    assert np.abs(grey - original)[middle].mean() > 0.1
    assert _high(grey[middle]) >= 0.9 * _high(original[middle])


def _high(grey: np.ndarray) -> float:
    """The energy of the Laplacian."""
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(((4 * inner - around) ** 2).mean())


def test_a_jaw_line_moves_and_leaves_no_ghost(neutral_images):
    """A dark line at the chin is at its new place only."""
    image = np.full((512, 512, 3), 200, np.uint8)
    face = inside_photograph(image, 300)
    at = round(float((face.matrix @ (0.5, 0.93, 1))[1]) + face.origin[0])
    image[at - 1 : at + 2, 236:277] = 20
    face = inside_photograph(image, 300)
    made = pasted(image, face, only(jaw_drop(0.08)))
    column = made[:, 256, 0].astype(int)
    dark = np.flatnonzero(column < 110)
    assert column.min() < 40, "the line is as dark as before"
    assert len(dark) <= 5
    scale = float(np.hypot(*face.matrix[:, 0]))
    assert 0.06 * scale < dark.mean() - at < 0.09 * scale
    assert (column[at - 2 : at + 3] > 190).all(), "nothing is left where it was"


def test_a_matte_shows_what_is_new_and_not_what_was_there(photograph):
    face = inside_photograph(photograph, 230)
    matte, new = torch.zeros(1, 1, 96, 96), torch.tensor([0.5, 0.2, 0.2]).view(1, 3, 1, 1)
    matte[:, :, 66:82, 36:60] = 1  # down to where a mouth reaches that is wide open
    made = SynthesizedFaces(matte * new, jaw_drop(0.05), matte)
    image = pasted(photograph, face, made)
    for x, y in ((0.5, 0.72), (0.5, 0.84), (0.41, 0.83)):
        column, row = face.matrix @ (x, y, 1) + face.origin[::-1]
        assert np.abs(image[int(row), int(column)].astype(int) - (127.5, 51, 51)).max() <= 1


def test_beside_the_image_its_border_is_repeated(neutral_images):
    image = neutral_images[2][:200, 40:]
    points = CROP_POINTS * 256 - 0.5 - (40, 0)
    face = frame(image, DetectedFace(points.astype(np.float32)), 128)
    for x, y in ((-0.2, 0), (0.2, 0), (0, 0.25), (0.1, -0.25)):
        made = pasted(image, face, only(shift(x, y)))
        padded = np.pad(image, ((200, 200), (200, 200), (0, 0)), mode="edge")
        moved = inside = frame(padded, DetectedFace((points + 200).astype(np.float32)), 128)
        expected = pasted(padded, inside, only(shift(x, y)))[200:400, 200 : 200 + image.shape[1]]
        assert moved.pixels.shape != face.pixels.shape
        assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("side", [16, 40])
def test_small_faces(neutral_images, side):
    image = np.asarray(Image.fromarray(neutral_images[3]).resize((side, side)).convert("L"))
    (found,) = CropDetector()([image])
    assert found is not None
    face = frame(image, found, 128)
    made = pasted(image, face, only(jaw_drop(0.1)))
    assert made.shape == image.shape
    assert (made != image).mean() > 0.1
    assert np.array_equal(made[: side // 3], image[: side // 3]), "the jaw moves, the eyes do not"


def test_strips_and_blocks_are_the_whole(photograph, monkeypatch):
    made = SynthesizedFaces(torch.rand(1, 3, 64, 64) - 0.5, jaw_drop(0.1), torch.rand(1, 1, 64, 64))
    face = inside_photograph(photograph, 300, 0.2)
    whole = pasted(photograph, face, made)
    monkeypatch.setattr("expraug.faces.resample._BLOCK", 31)
    monkeypatch.setattr("expraug.faces.composite._ROWS", 7)
    monkeypatch.setattr("expraug.faces.composite.CPU_CACHE_BYTES", 1)
    again = pasted(photograph, face, made)
    difference = np.abs(again.astype(int) - whole)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001, "but for rounding of places"


def test_many_at_once_padded_are_the_same_but_for_rounding(neutral_images):
    kinds = [(256, 0), (150, 7), (700, -20), (48, 0), (400, 12), (256, 5)]
    framed = []
    for image, (side, angle) in zip(neutral_images, kinds, strict=False):
        picture = np.array(Image.fromarray(image).resize((side, side)).rotate(angle))
        picture = picture[: side * 3 // 4] if side in (48, 400) else picture
        points = CROP_POINTS * side - 0.5
        framed.append(frame(as_tensor(picture, CPU), DetectedFace(points.astype("f4")), 128))
    framed = [framed[i] for i in ordered(framed)]
    noise = torch.nn.functional.interpolate(torch.rand(6, 2, 5, 5) - 0.5, (64, 64), mode="bilinear")
    made = SynthesizedFaces(torch.rand(6, 3, 64, 64) / 4, noise / 2, torch.rand(6, 1, 32, 32))
    keep = torch.arange(6) != 2
    frames = [SynthesizedFaces(made.change / 2), made.kept(keep)]
    exact, unchanged = composited(framed, frames)
    padded, unchanged_too = composited_padded(framed, frames)
    assert unchanged.tolist() == [not k for k in keep.tolist()]
    alone = [composited([f], [one.part([i]) for one in frames])[0][0] for i, f in enumerate(framed)]
    for one, other, own, face in zip(exact, padded, alone, framed, strict=True):
        top, left, bottom, right = face.box(True)
        assert one.shape == other.shape == (2, bottom - top, right - left, 3)
        assert torch.equal(one, own), "a face does not depend on its batch"
        difference = (one.int() - other.int()).abs()
        assert difference.max() <= 2
        assert (difference > 0).float().mean() < 0.02
    assert unchanged_too.tolist() == unchanged.tolist()


def test_arrays_and_tensors_are_the_same(photograph):
    tensor = as_tensor(photograph, CPU)
    made = SynthesizedFaces(torch.rand(1, 3, 64, 64) / 4, jaw_drop(0.1))
    points = DetectedFace((CROP_POINTS * 230 + 130).astype(np.float32))
    (one,), _ = composited([frame(photograph, points, 128)], [made])
    (other,), _ = composited([frame(tensor, points, 128)], [made])
    assert torch.equal(one, other)
    assert np.array_equal(as_array(tensor), photograph)


class Largest(TorchDispatchMode):
    """Notes the largest tensor of floats that any operation returns, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self.size = max(self.size, tensor.nbytes)
        return out


@pytest.mark.parametrize("turn", [0.0, 0.2])
def test_a_large_photograph_is_never_whole_in_floats(neutral_images, turn):
    image = enlarged(neutral_images[0], 1500)
    face = inside_photograph(image, 1200, turn)
    made = SynthesizedFaces(torch.rand(1, 3, 64, 64) / 4, jaw_drop(0.08), torch.rand(1, 1, 64, 64))
    with Largest() as largest:
        composited([face], [made])
    assert 1e5 < largest.size < 0.1 * 4 * image.nbytes


def test_render_is_what_compositing_shows(neutral_images):
    """Of a photograph that is the aligned face, but for masks."""
    image = enlarged(neutral_images[0], 160)
    face = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    matte = torch.zeros(1, 1, 160, 160)
    matte[:, :, 110:120, 70:90] = 1
    made = SynthesizedFaces(matte.expand(-1, 3, -1, -1) * 0.3, jaw_drop(0.08), matte)
    seen = masked(made).render(face)[0].permute(1, 2, 0).numpy() * 255
    points = np.array([[0.35, 0.38], [0.65, 0.38], [0.5, 0.551], [0.376, 0.726], [0.624, 0.726]])
    there = frame(image, DetectedFace((points * 160 - 0.5).astype(np.float32)), 160)
    composite = pasted(image, there, made)
    middle = np.s_[4:156, 4:156]
    assert np.abs(seen - composite)[middle].max() < 8
    assert np.abs(seen - composite)[middle].mean() < 0.3
    assert np.abs(composite.astype(int) - image)[middle].mean() > 2
    assert torch.equal(only(None).render(face), face)
    assert torch.equal(only(shift(0, 0)).render(face), face)


def test_maps_of_other_shapes_are_refused():
    change = torch.zeros(2, 3, 32, 32)
    with pytest.raises(
        ValueError, match=r"the flow .* \(B, 2, side, side\).* not \(2, 3, 32, 32\)"
    ):
        SynthesizedFaces(change, change)
    with pytest.raises(ValueError, match="the matte"):
        SynthesizedFaces(change, None, torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="the change"):
        SynthesizedFaces(torch.zeros(2, 3, 32, 16))


def test_parts_and_joined_are_inverse():
    made = SynthesizedFaces(torch.rand(3, 3, 8, 8), torch.rand(3, 2, 4, 4), torch.rand(3, 1, 8, 8))
    again = joined([made.part([0]), made.part(slice(1, 3))])
    for name in ("change", "flow", "matte"):
        assert torch.equal(getattr(again, name), getattr(made, name))
    none = made.kept(torch.tensor([True, False, True]))
    assert not none.flow[1].any()
    assert torch.equal(none.change[2], made.change[2])
    assert STILL < 1 / 255
