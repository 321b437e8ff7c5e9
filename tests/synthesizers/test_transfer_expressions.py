"""What `transfer` lends: whose expression, how much of it, and to which part of the face."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor
from transfer_faces import CORNERS, Known, half_smile, moved, read, repeated

from expraug import Expression
from expraug.faces.read import read_face
from expraug.faces.synthesized import FLOW_FRAME
from expraug.faces.warp import pixel_grid, resized, sample
from expraug.synthesizers import TransferSynthesizer
from expraug.synthesizers.expression_maps import mouth_painter
from expraug.synthesizers.transfer.exemplars import (
    LendingFaces,
    bank_of,
    read_lending,
    with_bank,
)

HAPPY, SURPRISE = Expression.HAPPY, Expression.SURPRISE
SMILING = (3, 4, 5, 7)
"""Sample people who smile broadly."""
OTHERS = (0, 1, 6, 9)


@pytest.fixture(scope="module")
def calm(neutral_images: list[np.ndarray]) -> tuple[Tensor, Known]:
    """Four neutral faces, and what is known of them."""
    return read([neutral_images[i] for i in OTHERS])


def asked(count: int, target: Expression, intensity: float = 1) -> tuple[Tensor, Tensor]:
    return torch.full((count,), int(target)), torch.full((count,), intensity)


def own_smiles(transfer: TransferSynthesizer, smiles: LendingFaces) -> TransferSynthesizer:
    """Return a synthesizer whose happy exemplars are these."""
    own = bank_of(transfer)
    parts = [own.take(own.expression == int(e)) for e in transfer.expressions]
    parts[transfer.expressions.index(HAPPY)] = smiles
    return with_bank(transfer, LendingFaces.joined(parts))


@pytest.mark.parametrize("target", [HAPPY, SURPRISE, Expression.SAD])
def test_faces_move_the_further_the_stronger_the_expression(
    transfer: TransferSynthesizer, calm: tuple[Tensor, Known], target: Expression
) -> None:
    faces, known = calm
    before = read_face(faces).landmarks
    assert torch.equal(transfer(faces, *asked(4, target, 0), **known), faces)
    moves = [
        (read_face(transfer(faces, *asked(4, target, share), **known)).landmarks - before)
        .norm(dim=2)
        .mean(1)
        for share in (0.25, 0.5, 0.75, 1.0)
    ]
    assert all((more > less).all() for less, more in itertools.pairwise(moves))


def test_variants_of_a_face_are_different_exemplars(
    transfer: TransferSynthesizer, calm: tuple[Tensor, Known]
) -> None:
    faces, known = calm
    count = transfer.variants
    assert count == 64
    some = torch.arange(0, count, 5)
    made = transfer.synthesize(
        faces[:1].expand(len(some), -1, -1, -1),
        *asked(len(some), HAPPY),
        variant=some,
        **repeated(known, 0, len(some)),
    )
    assert made.flow is not None
    flow = made.flow.flatten(1)
    apart = torch.cdist(flow, flow) / flow.norm(dim=1).mean()
    assert apart[~torch.eye(len(some), dtype=torch.bool)].min() > 0.1
    everyone = (torch.full((count,), int(HAPPY)), known["pose"][:1].expand(count, -1))
    landmarks = known["landmarks"][:1].expand(count, -1, -1)
    row, mirrored = transfer.choose(*everyone, torch.arange(count), landmarks)
    assert len(set(zip(row.tolist(), mirrored.tolist(), strict=True))) == count
    assert (transfer.shows[row] == int(HAPPY)).all()


def test_exemplars_turned_as_the_source_come_first(
    transfer: TransferSynthesizer, calm: tuple[Tensor, Known]
) -> None:
    own = bank_of(transfer)
    smiles = own.take((own.expression == int(HAPPY)).nonzero()[:2, 0])
    # as far from their mean, so that nothing but the pose tells them apart
    smiles.pose[:] = torch.tensor([[20.0, 0.0], [2.0, 0.0]])
    two = own_smiles(transfer, smiles)
    first = int((two.shows == int(HAPPY)).nonzero()[0, 0])
    faces, known = calm
    for yaw, order in (
        (20.0, [(0, False), (1, False), (1, True), (0, True)]),
        (-20.0, [(0, True), (1, True), (1, False), (0, False)]),
    ):
        turned = known | {"pose": torch.tensor([[yaw, 0.0, 0.0]]).expand(4, -1)}
        for variant, (row, mirrored) in enumerate(order):
            made = two(faces, *asked(4, HAPPY), variant=torch.full((4,), variant), **turned)
            lent = two.lend(
                faces,
                torch.ones(4),
                torch.full((4,), first + row),
                torch.full((4,), mirrored),
                **turned,
            )
            assert torch.equal(made, lent.render(faces))


def test_a_mirrored_exemplar_on_a_mirrored_face_is_the_mirror_image(
    transfer: TransferSynthesizer, calm: tuple[Tensor, Known]
) -> None:
    faces, known = calm
    known, other = (
        {"landmarks": found.landmarks, "blendshapes": found.scores, "pose": known["pose"] * sign}
        for found, sign in (
            (read_face(faces), torch.ones(3)),
            (read_face(faces.flip(3)), torch.tensor([-1.0, 1.0, -1.0])),
        )
    )
    one_sided = (transfer.shape * (transfer.mirrored_shape < 0)).norm(dim=1)
    rows = torch.stack(
        [one_sided.masked_fill(transfer.shows != e, 0).argmax() for e in (1, 2, 3, 7)]
    )
    no, yes = torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)
    made = transfer.lend(faces, torch.ones(4), rows, no, **known).render(faces)
    image = transfer.lend(faces.flip(3), torch.ones(4), rows, yes, **other).render(faces.flip(3))
    unmirrored = transfer.lend(faces.flip(3), torch.ones(4), rows, no, **other)
    wrong = (unmirrored.render(faces.flip(3)).flip(3) - made).abs().mean((1, 2, 3))
    right = (image.flip(3) - made).abs().mean((1, 2, 3))
    assert (right * 255 < 2.5).all(), "landmarks were looked for again in the mirror"
    assert (right < wrong / 2).all()


def test_the_same_bytes_in_any_batch_and_with_any_threads(
    transfer: TransferSynthesizer, calm: tuple[Tensor, Known]
) -> None:
    pick = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    faces, known = calm[0][pick], {n: v[pick] for n, v in calm[1].items()}
    target, intensity, variant = pick + 1, torch.linspace(0.4, 1, 7), torch.arange(7) * 9
    try:
        torch.set_num_threads(2)
        together = transfer(faces, target, intensity, variant=variant, **known)
    finally:
        torch.set_num_threads(1)
    for i in range(7):
        one = slice(i, i + 1)
        alone = transfer(
            faces[one],
            target[one],
            intensity[one],
            variant=variant[one],
            **{n: v[one] for n, v in known.items()},
        )
        assert torch.equal(alone[0], together[i])


def test_lips_that_are_shut_there_stay_shut(
    transfer: TransferSynthesizer, calm: tuple[Tensor, Known]
) -> None:
    faces, known = calm
    assert transfer.lip_gaps(known["landmarks"]).mean(1).max() < 0.01
    shut = (transfer.gaps.mean(1) < 0.01).nonzero()[:, 0]
    assert len(set(transfer.shows[shut].tolist())) >= 5
    rows = shut[:: len(shut) // 12]
    for face in range(4):
        count = len(rows)
        source = faces[face : face + 1].expand(count, -1, -1, -1)
        no = torch.zeros(count, dtype=torch.bool)
        made = transfer.lend(source, torch.ones(count), rows, no, **repeated(known, face, count))
        assert made.matte is not None
        assert not made.matte.any(), "nothing is painted between lips that touch"
        assert transfer.lip_gaps(read_face(made.render(source)).landmarks).mean(1).max() < 0.04


def test_lips_open_as_far_as_the_exemplars(
    transfer: TransferSynthesizer, calm: tuple[Tensor, Known]
) -> None:
    faces, known = calm
    surprised = (transfer.shows == int(SURPRISE)).nonzero()[:, 0]
    wide = surprised[transfer.gaps[surprised].mean(1).argsort(descending=True)[20:24]]
    no = torch.zeros(4, dtype=torch.bool)
    made = transfer.lend(faces, torch.ones(4), wide, no, **known)
    found = transfer.lip_gaps(read_face(made.render(faces)).landmarks).mean(1)
    assert (found > 0.7 * transfer.gaps[wide].mean(1)).all()
    assert made.matte is not None
    assert (made.matte.amax((1, 2, 3)) > 0.9).all()


def test_a_one_sided_smile_is_lent_to_its_side(
    transfer: TransferSynthesizer,
    calm: tuple[Tensor, Known],
    neutral_images: list[np.ndarray],
    happy_images: list[np.ndarray],
) -> None:
    faces, known = read([neutral_images[i] for i in SMILING])
    _, smile = read([happy_images[i] for i in SMILING])
    half = moved(known, half_smile(known["landmarks"], smile["landmarks"]))
    lending = read_lending(transfer, faces, torch.full((4,), int(HAPPY)), **half)
    one_sided = own_smiles(transfer, lending)
    rows = (one_sided.shows == int(HAPPY)).nonzero()[:, 0]
    sources, of_sources = calm
    before = read_face(sources).landmarks
    for mirrored in (False, True):
        flipped = torch.full((4,), mirrored)
        made = one_sided.lend(sources, torch.ones(4), rows, flipped, **of_sources).render(sources)
        rise = (before - read_face(made).landmarks)[:, list(CORNERS), 1]
        left, right = rise.unbind(1)
        smiling, calmer = (right, left) if mirrored else (left, right)
        # a part of what is one-sided is read as if it were on both sides
        assert smiling.mean() > 1.3 * calmer.mean()
        assert (smiling * 256 > 1).all()


def test_what_is_not_touched_stays_to_the_last_bit(
    transfer: TransferSynthesizer, calm: tuple[Tensor, Known]
) -> None:
    faces, known = calm
    made = transfer.synthesize(faces, *asked(4, SURPRISE), **known)
    assert made.flow is not None
    assert made.matte is not None
    low, high = FLOW_FRAME
    flow = sample(made.flow, pixel_grid(128, faces).expand(4, -1, -1, -1) / (high - low))
    added = resized(made.change, 128) != 0
    touched = (flow != 0).any(1) | added.any(1) | (resized(made.matte, 128) != 0)[:, 0]
    result = made.render(faces)
    changed = (result != faces).any(1)
    assert not changed[~touched].any()
    assert (~touched).any()
    still = (made.flow == 0).all(1)
    assert still.float().mean((1, 2)).min() > 0.1, "beyond the rings around the face nothing moves"
    assert still[:, 0].all(), "nor at the frame's upper edge"
    assert changed.float().mean((1, 2)).min() > 0.1


def test_the_fingerprint_follows_the_mouth_painters_weights(
    transfer: TransferSynthesizer,
) -> None:
    before = transfer.fingerprint
    weight = next(mouth_painter("cpu").parameters())
    saved = weight.clone()
    try:
        weight.add_(0.01)
        assert transfer.fingerprint != before
    finally:
        weight.copy_(saved)
    assert transfer.fingerprint == before
    assert pickle.loads(pickle.dumps(transfer)).fingerprint == before
