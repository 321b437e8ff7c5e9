"""Deviations from rest, read off the sample faces with the embedded reader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transfer_faces import CORNERS, Known, half_smile, moved, read

from expraug.synthesizers import TransferSynthesizer
from expraug.synthesizers.transfer.reading import (
    Deviation,
    DeviationReader,
    pose_terms,
    turned,
)


@pytest.fixture(scope="module")
def reader(transfer: TransferSynthesizer) -> DeviationReader:
    return transfer.reader


@pytest.fixture(scope="module")
def neutral(neutral_images: list[np.ndarray]) -> tuple[Tensor, Known]:
    return read(neutral_images)


@pytest.fixture(scope="module")
def happy(happy_images: list[np.ndarray]) -> tuple[Tensor, Known]:
    return read(happy_images)


def read_off(transfer: TransferSynthesizer, faces: Tensor, known: Known) -> Deviation:
    found: Deviation = transfer.reader(faces, **known)
    return found


def laid(reader: DeviationReader, landmarks: Tensor) -> Tensor:
    """Return landmarks with the steady points over their places."""
    turn, shift = reader.steadying(landmarks)
    return turned(landmarks, turn) + shift


def read_shape(reader: DeviationReader, landmarks: Tensor, known: Known) -> Tensor:
    """Return the displacement that is read off landmarks alone, whose scores follow them."""
    seen = moved(known, landmarks)
    features = reader.shape_features(landmarks, seen["blendshapes"], seen["pose"])
    return reader.displacement(features @ reader.shape_map, landmarks)


def test_a_smile_is_read_beyond_the_persons_own_rest(
    transfer: TransferSynthesizer, neutral: tuple[Tensor, Known], happy: tuple[Tensor, Known]
) -> None:
    reader = transfer.reader
    rest, smile = (laid(reader, known["landmarks"]) for _, known in (neutral, happy))
    true = (smile - rest)[:, list(CORNERS)]
    found = reader.displacement(read_off(transfer, *happy).shape, smile)[:, list(CORNERS)]
    error = (found - true).square().sum() / true.square().sum()
    assert error < 0.35, "of people whom it has never seen"
    of_rest = reader.displacement(read_off(transfer, *neutral).shape, rest)[:, list(CORNERS)]
    assert of_rest.square().sum() < 0.35 * found.square().sum()


def test_skin_tells_smiles_from_rest(
    transfer: TransferSynthesizer, neutral: tuple[Tensor, Known], happy: tuple[Tensor, Known]
) -> None:
    rest, smile = (read_off(transfer, *known).skin for known in (neutral, happy))
    common = smile.mean(0) - rest.mean(0)
    along = common / common.norm()
    assert ((smile - rest) @ along > 0).float().mean() > 0.8
    assert smile.shape == (len(smile), len(transfer.reader.skin_axes))


def test_one_side_is_read_as_one_side(
    reader: DeviationReader, neutral: tuple[Tensor, Known], happy: tuple[Tensor, Known]
) -> None:
    known = neutral[1]
    rest, smile = (laid(reader, faces[1]["landmarks"]) for faces in (neutral, happy))
    half = half_smile(rest, smile)
    found = read_shape(reader, half, known) - read_shape(reader, rest, known)
    apart = [m[:, CORNERS[1], 1] - m[:, CORNERS[0], 1] for m in (half - rest, found)]
    assert 0.5 < (apart[0] * apart[1]).sum() / apart[0].square().sum() < 1.2


def test_it_reads_the_same_off_a_face_that_lies_elsewhere(
    reader: DeviationReader, happy: tuple[Tensor, Known]
) -> None:
    known = happy[1]
    landmarks, scores, pose = known["landmarks"], known["blendshapes"], known["pose"]
    turn = 1.2 * torch.tensor([[0.96, -0.28], [0.28, 0.96]])
    elsewhere = landmarks @ turn.T + 0.1
    before, after = (reader.shape_features(m, scores, pose) for m in (landmarks, elsewhere))
    torch.testing.assert_close(after, before, atol=2e-3, rtol=1e-3)
    shape = before @ reader.shape_map
    there = reader.displacement(shape, elsewhere)
    torch.testing.assert_close(
        there, reader.displacement(shape, landmarks) @ turn.T, atol=1e-5, rtol=1e-3
    )


def test_what_the_pose_does_is_no_expression(reader: DeviationReader) -> None:
    rest = reader.rest.view(1, -1, 2)
    flat = torch.zeros(1, 52) + reader.score_mean
    sizes = []
    for yaw in (0.0, 5.0, -5.0):
        pose = torch.tensor([[yaw, 0.0, 0.0]])
        turned_away = rest + (pose_terms(pose) @ reader.by_pose).view(1, -1, 2)
        # the detector says 3 degrees too much
        level = reader.level(turned_away, pose + torch.tensor([[3.0, 0, 0]]))
        naive = (pose_terms(pose) - pose_terms(pose + torch.tensor([[3.0, 0, 0]]))) @ reader.by_pose
        sizes.append(float(level.norm() / naive.norm()))
        assert reader.shape_features(turned_away, flat, pose).isfinite().all()
    assert max(sizes) < 0.5


def test_of_a_small_deviation_half_stays_and_of_a_large_one_more_goes_than_was_read(
    reader: DeviationReader,
) -> None:
    size = reader.shape_axes.square().mean(1)
    shape = torch.ones(3, len(size))
    shape *= (reader.usual.square() / size.sum()).sqrt() * torch.tensor([[0.0], [1.0], [10.0]])
    skin = torch.ones(3, len(reader.skin_axes))
    taken = reader.beyond_rest(Deviation(shape, skin))
    share = taken.skin[:, 0]
    torch.testing.assert_close(taken.shape, shape * share[:, None])
    assert share[0] == 0
    assert 0.5 <= share[1] < 0.6
    assert 1.3 < share[2] < 1.7, "as smiles of people who have a neutral photograph tell"


def test_light_is_no_skin(transfer: TransferSynthesizer, neutral: tuple[Tensor, Known]) -> None:
    faces, known = neutral[0][:4], {n: v[:4] for n, v in neutral[1].items()}
    landmarks = known["landmarks"]
    whole = transfer.reader.skin(faces, landmarks)
    side = torch.linspace(0.75, 1.0, 128).expand(128, 128)
    lit = transfer.reader.skin(faces * side, landmarks)
    blurred = torch.nn.functional.avg_pool2d(faces, 9, 1, 4)
    assert (lit - whole).square().mean() < 0.1 * whole.square().mean()
    assert transfer.reader.skin(blurred, landmarks).square().mean() < 0.8 * whole.square().mean()


def test_what_hides_a_face_is_not_explained_by_its_shape(
    transfer: TransferSynthesizer, neutral: tuple[Tensor, Known]
) -> None:
    faces, known = neutral
    striped = faces.clone()
    striped[:, :, 84:116:8] = 0  # below the nose
    usual, odd = (
        transfer.unexplained(*read_off(transfer, pictures, known)) for pictures in (faces, striped)
    )
    assert (odd[:, 1] > usual[:, 1]).all()
    more = (odd - usual).mean(0)
    assert more[1] > 2 * more[0], "of the lower half only"


def test_each_face_is_read_by_itself(
    transfer: TransferSynthesizer, happy: tuple[Tensor, Known]
) -> None:
    together = read_off(transfer, *happy)
    for i in (0, 3):
        one = slice(i, i + 1)
        alone = read_off(transfer, happy[0][one], {n: v[one] for n, v in happy[1].items()})
        assert torch.equal(alone.shape[0], together.shape[i])
        assert torch.equal(alone.skin[0], together.skin[i])


def test_maps_hold_what_texels_hold(reader: DeviationReader) -> None:
    values = torch.rand(2, len(reader.texel))
    maps = reader.laid_out(values)
    assert maps.shape == (2, 1, reader.texture_size, reader.texture_size)
    assert torch.equal(maps.flatten(1)[:, reader.texel.long()], values)
    assert (maps != 0).sum() == values.numel()
