"""What an expression does to a face, whoever says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transfer_faces import Known, read

from expraug import Expression, create_synthesizer, list_synthesizers
from expraug.faces.mouth import lips_of
from expraug.faces.synthesized import FLOW_FRAME, SynthesizedFaces
from expraug.faces.warp import pixel_grid, resized
from expraug.synthesizers import TransferSynthesizer
from expraug.synthesizers.expression_maps import ExpressionMaps, beyond_the_frame, mouth_painter


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
