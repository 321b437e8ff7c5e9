"""What an expression does to a face, whoever says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transfer_faces import Known, read

from expraug import Expression, create_synthesizer, list_synthesizers
from expraug.faces.composite import luminance
from expraug.faces.mouth import MouthWindow, lip_gaps, lips_of
from expraug.faces.synthesized import FLOW_FRAME, SynthesizedFaces
from expraug.faces.warp import pixel_grid, resized
from expraug.synthesizers import TransferSynthesizer
from expraug.synthesizers.expression_maps import (
    ExpressionMaps,
    beyond_the_frame,
    close_lips,
    mouth_painter,
)


@pytest.fixture(scope="module")
def calm(neutral_images: list[np.ndarray]) -> tuple[Tensor, Known]:
    return read([neutral_images[i] for i in (0, 1, 6)])


@pytest.fixture(scope="module")
def surprised(transfer: TransferSynthesizer, calm: tuple[Tensor, Known]) -> ExpressionMaps:
    """What `transfer` does to surprise them."""
    faces, known = calm
    target = torch.full((3,), int(Expression.SURPRISE))
    points = known["landmarks"], known["blendshapes"], known["pose"]
    row, flip = transfer.choose(target, points[2], torch.arange(3), points[0])
    (maps,) = transfer.maps(faces, torch.ones(3), row, flip, *points)
    return maps


def test_nothing_changes_nothing(calm: tuple[Tensor, Known], surprised: ExpressionMaps) -> None:
    faces, _ = calm
    none = surprised.scaled(torch.zeros(3))
    assert torch.equal(none.applied(faces).render(faces), faces)


def test_further_gone_changes_more(calm: tuple[Tensor, Known], surprised: ExpressionMaps) -> None:
    faces, known = calm
    assert torch.equal(surprised.lips, lips_of(known["landmarks"]))
    changes = [
        (surprised.scaled(torch.full((3,), far)).applied(faces).render(faces) - faces)
        .abs()
        .mean((1, 2, 3))
        for far in (0.3, 0.6, 1.0)
    ]
    assert (changes[0] < changes[1]).all()
    assert (changes[1] < changes[2]).all()


def test_the_mouth_that_opens_is_painted_and_no_other(
    calm: tuple[Tensor, Known], surprised: ExpressionMaps
) -> None:
    faces, _ = calm
    opened = surprised.applied(faces)
    assert opened.matte is not None
    assert (opened.matte.amax((1, 2, 3)) > 0.9).all()
    still = ExpressionMaps(
        surprised.flow, surprised.lightening, surprised.lips, surprised.lips, surprised.interior
    )
    shut = still.applied(faces)
    assert shut.matte is not None
    assert not shut.matte.any()


@pytest.fixture(scope="module")
def smiling(happy_images: list[np.ndarray]) -> tuple[Tensor, Known]:
    faces, known = read(happy_images)
    toothy = lip_gaps(lips_of(known["landmarks"])).mean(1) > 0.1
    assert toothy.sum() >= 2
    return faces[toothy], {name: given[toothy] for name, given in known.items()}


def test_no_teeth_show_between_lips_that_meet(
    transfer: TransferSynthesizer, smiling: tuple[Tensor, Known]
) -> None:
    faces, known = smiling
    points = known["landmarks"], known["blendshapes"], known["pose"]
    closed = (transfer.shows == int(Expression.CONTEMPT)) & (transfer.gaps.mean(1) < 0.01)
    row = closed.nonzero()[: len(faces), 0]
    maps = transfer.maps(faces, torch.ones(len(faces)), row, row < 0, *points)[0]
    made = maps.applied(faces)
    assert made.matte is not None

    window = MouthWindow.around(maps.moved_lips)
    outline = window.outline()
    line = (outline.depth.abs() < 1.5) & (outline.u > 0.25) & (outline.u < 0.75)
    lip = (outline.depth < -3) & (outline.depth > -5) & (outline.u > 0.25) & (outline.u < 0.75)

    def lightest(faces: Tensor) -> Tensor:
        """How light the lightest part of the line is, against the lips."""
        grey = luminance(window.cut(faces))
        means = (grey * lip).sum((1, 2, 3)) / lip.sum((1, 2, 3))
        return (grey * line).amax((1, 2, 3)) / means

    torn = SynthesizedFaces(made.change * 0, made.flow).render(faces)
    assert (lightest(torn) > 1.15).all(), "teeth must be there to be hidden"
    assert (lightest(made.render(faces)) < 1.1).all()


def test_only_lips_that_meet_get_a_line(
    smiling: tuple[Tensor, Known], calm: tuple[Tensor, Known]
) -> None:
    faces, apart = smiling[0], lips_of(smiling[1]["landmarks"])
    shut = lips_of(calm[1]["landmarks"])
    assert (lip_gaps(shut).amax(1) < 0.02).all()
    middle = apart.mean(1, keepdim=True)
    for before, after in ((apart, apart), (apart, middle.lerp(apart, 0.8)), (shut, shut)):
        _, matte = close_lips(faces[: len(before)], before[: len(faces)], after[: len(faces)])
        assert not matte.any()
    _, matte = close_lips(faces, apart, middle.expand_as(apart))
    assert (matte.amax((1, 2, 3)) > 0.9).all()
    assert (matte.mean((1, 2, 3)) < 0.02).all(), "it is a line"


def test_colour_stays_where_it_gets_lighter(calm: tuple[Tensor, Known]) -> None:
    faces = calm[0] * 0.6
    lips = lips_of(calm[1]["landmarks"])
    lighter = torch.full((3, 1, 8, 8), 0.3)
    maps = ExpressionMaps(torch.zeros(3, 2, 12, 12), lighter, lips, lips, torch.zeros(3, 6, 12))
    torch.testing.assert_close(maps.applied(faces).render(faces), faces * float(np.exp(0.3)))


def test_a_flow_goes_on_beside_the_frame_and_fades_out(calm: tuple[Tensor, Known]) -> None:
    faces, _ = calm
    flow = 0.04 * torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    flow = resized(flow, 32)
    wide = beyond_the_frame(flow)
    assert wide.shape == (3, 2, 48, 48)
    assert torch.equal(wide[..., 8:-8, 8:-8], flow)
    assert not wide[..., 0, :].any()
    assert not wide[..., -1].any()
    # inside it is the same motion
    low, high = FLOW_FRAME
    place = pixel_grid(128, faces) / (high - low)
    seen = torch.nn.functional.grid_sample(
        wide, place.permute(0, 2, 3, 1).expand(3, -1, -1, -1), align_corners=False
    )
    inside = seen[..., 8:-8, 8:-8] - resized(flow, 128)[..., 8:-8, 8:-8]
    assert inside.abs().max() < 1e-5
    change = torch.zeros(3, 3, 1, 1)
    moved = SynthesizedFaces(change, wide).render(faces)
    assert (moved - faces).abs().mean() > 0.005


@pytest.mark.parametrize("name", list_synthesizers(pretrained=True))
def test_cached_faces_are_known_by_the_mouth_painter_too(name: str) -> None:
    model = create_synthesizer(name)
    before, weight = model.fingerprint, next(mouth_painter("cpu").parameters())
    saved = weight.clone()
    try:
        weight.add_(0.01)
        assert model.fingerprint != before
    finally:
        weight.copy_(saved)
    assert model.fingerprint == before
