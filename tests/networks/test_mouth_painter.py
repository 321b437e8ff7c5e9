"""The mouth painter, on the sample faces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.errors import InvalidWeightsError, MissingWeightsError
from expraug.faces.align import align_image, invert, similarity
from expraug.faces.composite import luminance
from expraug.faces.landmarks import LandmarkDetector
from expraug.faces.mouth import LOWER_LIP, UPPER_LIP, MouthWindow, lips_of
from expraug.networks.mouth_painter import (
    COLUMNS,
    ROWS,
    MouthPainter,
    load_mouth_painter,
    matte_of,
    read_interior,
    sharpness,
    surroundings,
)
from expraug.pretrained import EMBEDDED

SIDE = 256
OPEN_BY = 0.1
"""How far the tests open shut mouths, as a fraction of the side."""


@pytest.fixture(scope="module")
def painter() -> MouthPainter:
    return load_mouth_painter()


def _aligned(images: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return faces, (B, 3, 256, 256), and their landmarks in the canonical frame."""
    faces, landmarks = [], []
    for image, face in zip(images, LandmarkDetector("detect")(images), strict=True):
        assert face is not None
        assert face.mesh is not None
        to_canonical = invert(similarity(face.points[None].astype(np.float64)))[0]
        mesh = (face.mesh[:, :2] + 0.5) @ to_canonical[:, :2].T + to_canonical[:, 2]
        faces.append(align_image(image, face.points, SIDE) / 255)
        landmarks.append(torch.from_numpy(mesh).float())
    return torch.stack(faces), torch.stack(landmarks)


@pytest.fixture(scope="module")
def smiling(happy_images: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Three sample faces that show their teeth, and their landmarks."""
    faces, landmarks = _aligned(happy_images)
    widest = _gap(landmarks).argsort(descending=True)[:3]
    return faces[widest], landmarks[widest]


@pytest.fixture(scope="module")
def shut(neutral_images: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Three sample faces with shut lips, and their landmarks."""
    faces, landmarks = _aligned(neutral_images[:6])
    narrowest = _gap(landmarks).argsort()[:3]
    return faces[narrowest], landmarks[narrowest]


def _gap(landmarks: Tensor) -> Tensor:
    gap: Tensor = (landmarks[:, 14] - landmarks[:, 13]).norm(dim=1)
    return gap


def opened(landmarks: Tensor, by: float = OPEN_BY) -> Tensor:
    """Return the landmarks with a lower lip that has dropped, as a fraction of the side."""
    moved = landmarks.clone()
    arch = torch.linspace(-1, 1, 11).square().neg().add(1)
    moved[:, list(LOWER_LIP), 1] += by * arch
    return moved


def smile_code(smiling: tuple[Tensor, Tensor]) -> Tensor:
    faces, landmarks = smiling
    return read_interior(faces, lips_of(landmarks))


def resized(faces: Tensor, side: int) -> Tensor:
    return F.interpolate(faces, (side, side), mode="area")


def test_interior_tells_teeth_from_a_dark_throat(smiling: tuple[Tensor, Tensor]) -> None:
    faces, landmarks = smiling
    code = read_interior(faces, lips_of(landmarks))
    assert code.shape == (3, ROWS, COLUMNS)
    teeth = code[:, 1:4, 3:9]
    assert bool((teeth.mean((1, 2)) > -0.2).all())  # about as light as the skin
    window = MouthWindow.around(lips_of(landmarks))
    inside = window.put_back(matte_of(window.outline()), SIDE)
    black = read_interior(faces * (1 - inside), lips_of(landmarks))
    assert bool((black[0, 2:4, 3:9] < -0.85).all())  # of the widest
    # light that is brighter by a third is no other mouth; at a power of it, hardly
    dimmer = read_interior(faces * 0.75, lips_of(landmarks))
    assert float((dimmer - code).abs().mean()) < 0.1
    for side in (64, 112):
        smaller = read_interior(resized(faces, side), lips_of(landmarks))
        assert float((smaller - code).abs().mean()) < 0.12


@pytest.mark.parametrize("side", [64, 112, 256])
def test_paint_stays_between_the_lips(
    painter: MouthPainter,
    shut: tuple[Tensor, Tensor],
    smiling: tuple[Tensor, Tensor],
    side: int,
) -> None:
    faces, landmarks = resized(shut[0], side), opened(shut[1])
    paint, matte = painter(faces, lips_of(landmarks), smile_code(smiling))
    assert paint.shape == faces.shape
    assert matte.shape == (3, 1, side, side)
    assert bool((paint >= 0).all() and (paint <= 1).all())
    assert bool((matte >= 0).all() and (matte <= 1).all())
    assert bool((matte.amax((1, 2, 3)) > 0.95).all())
    # nothing on the lips or the skin, but for pixels that hold both
    for points, covered in zip(landmarks * side, matte[:, 0], strict=True):
        rows, columns = (covered > 0.05).nonzero(as_tuple=True)
        x = columns + 0.5
        upper, lower = (
            torch.from_numpy(np.interp(x, *points[list(lip)].T.numpy()))
            for lip in (UPPER_LIP, LOWER_LIP)
        )
        slack = 0.5 + 0.01 * side
        assert bool((rows + 0.5 > upper - slack).all())
        assert bool((rows + 0.5 < lower + slack).all())
    result = faces * (1 - matte) + paint * matte
    untouched = (matte == 0).expand_as(faces)
    assert torch.equal(result[untouched], faces[untouched])
    assert float((result - faces).abs().amax()) > 0.2


def test_nothing_is_painted_where_the_lips_are_shut(
    painter: MouthPainter, shut: tuple[Tensor, Tensor], smiling: tuple[Tensor, Tensor]
) -> None:
    faces, landmarks = shut
    meeting = landmarks.clone()
    meeting[:, list(LOWER_LIP)] = meeting[:, list(UPPER_LIP)]
    crossing = opened(landmarks, -0.05)
    for points in (meeting, crossing):
        paint, matte = painter(faces, lips_of(points), smile_code(smiling))
        assert float(matte.amax()) == 0
        assert bool(paint.isfinite().all())
        assert bool(read_interior(faces, lips_of(points)).isfinite().all())


def test_code_decides_between_teeth_and_throat(
    painter: MouthPainter, shut: tuple[Tensor, Tensor], smiling: tuple[Tensor, Tensor]
) -> None:
    faces, landmarks = shut[0], opened(shut[1])
    dark = torch.full((3, ROWS, COLUMNS), -0.85)
    light = {}
    for name, code in (("teeth", smile_code(smiling)), ("throat", dark)):
        paint, matte = painter(faces, lips_of(landmarks), code)
        light[name] = (luminance(paint) * matte).sum((1, 2, 3)) / matte.sum((1, 2, 3))
    assert bool((light["throat"] < 0.2).all())  # no grey mist
    assert bool((light["teeth"] > light["throat"] + 0.2).all())


def test_teeth_stay_at_the_upper_lip_when_the_jaw_drops(
    painter: MouthPainter, shut: tuple[Tensor, Tensor]
) -> None:
    faces, landmarks = shut
    code = torch.full((3, ROWS, COLUMNS), -0.8)
    code[:, :2] = 0.1  # of upper teeth above a dark throat
    found = []
    for by in (0.06, 0.12):
        points = opened(landmarks, by)
        paint, matte = painter(faces, lips_of(points), code)
        window = MouthWindow.around(lips_of(points))
        grey = luminance(window.cut(paint * matte))
        below = window.outline().below
        found.append((grey * below).sum((1, 2, 3)) / grey.sum((1, 2, 3)))
    shorter, longer = found
    dropped = 0.06 * 96 / 0.48
    assert bool((longer - shorter < 0.35 * dropped).all())  # with the jaw it would be about half


def test_darker_light_gives_darker_paint(
    painter: MouthPainter, shut: tuple[Tensor, Tensor], smiling: tuple[Tensor, Tensor]
) -> None:
    faces, landmarks = shut[0], opened(shut[1])
    code = smile_code(smiling)
    light = []
    for share in (1.0, 0.6):
        paint, matte = painter(faces * share, lips_of(landmarks), code)
        light.append((paint * matte).sum((1, 2, 3)) / matte.sum((1, 2, 3)))
    assert bool((light[1] < 0.85 * light[0]).all())


def test_teeth_are_nearly_white_and_grey_faces_get_grey_mouths(
    painter: MouthPainter, shut: tuple[Tensor, Tensor], smiling: tuple[Tensor, Tensor]
) -> None:
    faces, landmarks = shut[0], opened(shut[1])
    code = smile_code(smiling)
    paint, matte = painter(faces, lips_of(landmarks), code)
    inside = (matte > 0.9).float()
    colour = (paint * inside).sum((2, 3)) / inside.sum((2, 3))
    skin = faces[:, :, 150:170, 60:80].mean((2, 3))
    assert bool((colour[:, 0] / colour[:, 2] < skin[:, 0] / skin[:, 2]).all())
    grey = luminance(faces).expand(-1, 3, -1, -1)
    paint, _ = painter(grey, lips_of(landmarks), code)
    torch.testing.assert_close(paint[:, :1].expand_as(paint), paint, atol=2e-3, rtol=0)


def test_same_bytes_alone_and_in_a_batch(
    painter: MouthPainter, shut: tuple[Tensor, Tensor], smiling: tuple[Tensor, Tensor]
) -> None:
    faces, landmarks = resized(shut[0], 112), opened(shut[1])
    code = smile_code(smiling)
    together = painter(faces, lips_of(landmarks), code)
    for i in range(3):
        assert torch.equal(smile_code((smiling[0][i : i + 1], smiling[1][i : i + 1]))[0], code[i])
        alone = painter(faces[i : i + 1], lips_of(landmarks[i : i + 1]), code[i : i + 1])
        for one, of_all in zip(alone, together, strict=True):
            assert torch.equal(one[0], of_all[i])
    for none in painter(faces[:0], lips_of(landmarks[:0]), code[:0]):
        assert none.shape[0] == 0


def test_enlarged_photographs_are_not_sharp(smiling: tuple[Tensor, Tensor]) -> None:
    faces, landmarks = smiling
    window = MouthWindow.around(lips_of(landmarks))
    seen = surroundings(window.outline())
    small = F.interpolate(resized(faces, 64), (SIDE, SIDE), mode="bilinear")
    sharp, blurred = (sharpness(luminance(window.cut(f)), seen) for f in (faces, small))
    assert bool((sharp > blurred + 0.3).all())


def test_window_holds_turned_and_wide_open_mouths(shut: tuple[Tensor, Tensor]) -> None:
    _, landmarks = shut
    for by in (0.0, 0.15, 0.35):
        window = MouthWindow.around(lips_of(opened(landmarks, by)))
        for lip in (window.upper, window.lower):
            assert bool((lip[..., 0] > 0).all() and (lip[..., 0] < 96).all())
            assert bool((lip[..., 1] > 0).all() and (lip[..., 1] < 64).all())
    turned = torch.tensor([[0.9, -0.436], [0.436, 0.9]])
    straight, tilted = (
        MouthWindow.around(lips_of(opened(points)))
        for points in (landmarks, (landmarks - 0.5) @ turned.T + 0.5)
    )
    # a tilted head has the same window, but that its jaw drops along the picture's side
    torch.testing.assert_close(tilted.upper[:, 0], straight.upper[:, 0], atol=4, rtol=0)


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    painter = MouthPainter(width=8).eval()
    painter.save_pretrained(tmp_path)
    again = load_mouth_painter(tmp_path)
    assert again.config == {"width": 8}
    faces, landmarks = torch.rand(1, 3, 64, 64), torch.rand(1, 478, 2)
    for one, other in zip(
        painter(faces, lips_of(landmarks), torch.zeros(1, ROWS, COLUMNS)),
        again(faces, lips_of(landmarks), torch.zeros(1, ROWS, COLUMNS)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)
    with pytest.raises(MissingWeightsError, match="no weights at"):
        load_mouth_painter(tmp_path / "nowhere")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(InvalidWeightsError, match="sha256"):
        load_mouth_painter(tmp_path)


def test_embedded_weights_are_small_and_their_card_names_them() -> None:
    folder = EMBEDDED / "mouth_painter"
    assert (folder / "model.safetensors").stat().st_size < 2_000_000
    digest = json.loads((folder / "config.json").read_text())["weights_sha256"]
    assert digest[:12] in (folder / "README.md").read_text()
