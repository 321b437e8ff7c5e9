"""Pictures and flows, on blobs that move as their landmarks say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from expraug.latent.generator import CodeEncoder, StyleGenerator, encode
from expraug.latent.pictures import Pictures, dense, moves_of
from expraug.training.generator import mirror_of, teach_shapes

SIZE, WIDTH = 32, 24
GRID = torch.cartesian_prod(torch.linspace(0.1, 0.9, 9), torch.linspace(0.1, 0.9, 9))
"""Points of a grid, (81, 2)."""
MARKS = torch.rand(478, 2, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
"""Landmarks at rest, (478, 2)."""
PARTS = torch.tensor([[0.3, 0.3], [0.7, 0.3], [0.5, 0.65]])
"""Two eyes and a mouth at rest."""


def bump(points: Tensor) -> Tensor:
    """Return how much each of (N, 2) points moves with the mouth."""
    return torch.exp(-(points - PARTS[2]).square().sum(1) / 0.02)


def moving_blobs(count: int) -> tuple[Tensor, Tensor]:
    """Return faces whose mouth moves up and down, and their landmarks."""
    torch.manual_seed(0)
    moved = torch.rand(count) * 0.2 - 0.1
    marks, parts = MARKS.repeat(count, 1, 1), PARTS.repeat(count, 1, 1)
    marks[:, :, 1] += moved[:, None] * bump(MARKS)
    parts[:, :, 1] += moved[:, None] * bump(PARTS)
    place = (torch.arange(SIZE) + 0.5) / SIZE
    y, x = torch.meshgrid(place, place, indexing="ij")
    gap = (x - parts[:, :, :1, None]) ** 2 + (y - parts[:, :, 1:, None]) ** 2
    return 0.5 + 0.3 * torch.exp(-gap / 0.006).sum(1, keepdim=True), marks


@pytest.fixture(scope="module")
def fitted() -> tuple[StyleGenerator, Tensor, Tensor]:
    generator = StyleGenerator(SIZE, (8, 8, 8, 8), WIDTH, painted=True).requires_grad_(False)
    for grey in generator.grey:  # what the convolutions add to the pictures
        assert isinstance(grey, torch.nn.Conv2d)
        assert grey.bias is not None
        torch.nn.init.zeros_(grey.weight)
        torch.nn.init.zeros_(grey.bias)
    faces, marks = moving_blobs(120)
    assert generator.pictures is not None
    return generator, faces, generator.pictures.fit(faces, marks)


def test_what_is_read_off_a_face_draws_it(fitted: tuple[StyleGenerator, Tensor, Tensor]) -> None:
    generator, faces, shapes = fitted
    assert generator.pictures is not None
    codes = generator.pictures.read(faces, shapes)
    assert codes.shape == (len(faces), generator.layers, WIDTH)
    assert not codes[:, -1].any()
    codes[:, -1] = shapes
    off = (generator.synthesis(codes) - faces).abs().mean()
    assert off < 0.25 * (faces - faces.mean(0)).abs().mean()


def test_shapes_are_of_size_one_or_none(
    fitted: tuple[StyleGenerator, Tensor, Tensor],
) -> None:
    spread = fitted[2].square().mean(0).sqrt()
    used = spread > 1e-3
    assert used.any()
    assert not used[WIDTH // 2 :].any()
    assert torch.allclose(spread[:1], torch.ones(1), atol=0.1)


def test_the_shape_moves_what_is_drawn(fitted: tuple[StyleGenerator, Tensor, Tensor]) -> None:
    """Drawn with the shape of another face, parts are where that face has them."""
    generator, faces, shapes = fitted
    assert generator.pictures is not None
    low, high = shapes[:, 0].argmin(), shapes[:, 0].argmax()
    codes = generator.pictures.read(faces, shapes)[low][None]
    codes[:, -1] = shapes[high]
    drawn = generator.synthesis(codes)

    def mouth(face: Tensor) -> Tensor:
        light = (face - 0.5)[..., 13:, :]
        return (light.sum(-1) * torch.arange(13, SIZE)).sum() / light.sum()

    way = (mouth(drawn) - mouth(faces[low])) / (mouth(faces[high]) - mouth(faces[low]))
    assert 0.3 < way < 1.2  # the mouth itself is stretched, and not only moved


def test_landmarks_say_the_shape(fitted: tuple[StyleGenerator, Tensor, Tensor]) -> None:
    pictures = fitted[0].pictures
    assert pictures is not None
    found = pictures.shapes(moving_blobs(120)[1])
    flow = pictures.flow_in_face().flatten(1)
    off = (found - fitted[2]) @ flow
    assert off.square().mean() < 0.05 * (fitted[2] @ flow).square().mean()


def test_moving_undoes_bringing(fitted: tuple[StyleGenerator, Tensor, Tensor]) -> None:
    generator, faces, shapes = fitted
    assert generator.pictures is not None
    again = generator.pictures.move(generator.pictures.bring(faces - 0.5, shapes), shapes) + 0.5
    assert (again - faces).abs().mean() < 0.02


def test_blank_pictures_paint_nothing() -> None:
    pictures = Pictures((4, 8), ((0,), (1, 2)), WIDTH)
    codes = pictures.read(torch.rand(2, 1, 8, 8), torch.randn(2, WIDTH))
    assert not codes.any()
    assert not pictures.paint(torch.randn(2, 4, WIDTH), 1).any()
    faces = torch.rand(2, 1, 8, 8)
    assert torch.allclose(pictures.move(faces, torch.randn(2, WIDTH)), faces, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    scale=st.floats(0.7, 1.4),
    shear=st.floats(-0.3, 0.3),
    across=st.floats(-0.2, 0.2),
    down=st.floats(-0.2, 0.2),
)
def test_where_a_face_lies_is_no_shape(
    scale: float, shear: float, across: float, down: float
) -> None:
    _, marks = moving_blobs(31)
    mean = marks.median(0).values
    moves = moves_of(marks, mean)
    laid = marks.clone()
    turn = torch.tensor([[scale, shear], [-shear, scale]])
    laid[3] = marks[3] @ turn + torch.tensor([across, down])
    other = laid.median(0).values
    same = moves_of(laid, mean)
    assert torch.allclose(mean, other, atol=0.02)
    assert torch.allclose(moves[3], same[3], atol=0.02)


def test_dense_flows_pass_through_the_landmarks() -> None:
    moves = 0.05 * torch.stack([torch.sin(k * GRID) for k in (1, 3, 5)])
    flow = dense(GRID, moves)
    at = F.grid_sample(flow, (2 * GRID - 1).expand(3, 1, -1, -1), align_corners=False)[:, :, 0]
    assert torch.allclose(at, 2 * moves.transpose(1, 2), atol=0.03)


def test_an_encoder_learns_shapes_and_those_of_mirrored_faces(
    fitted: tuple[StyleGenerator, Tensor, Tensor],
) -> None:
    generator, faces, shapes = fitted
    assert generator.pictures is not None
    torch.manual_seed(0)
    encoder = CodeEncoder(SIZE, 1, WIDTH, (8, 8, 8))
    flow = generator.pictures.flow_in_face().flatten(1)
    still = float((shapes[:12] @ flow * SIZE / 2).square().mean().sqrt())
    device = torch.device("cpu")
    off = teach_shapes(encoder, generator.pictures, faces, shapes, 60, device, 32, 3e-3)
    assert off < 0.7 * still
    with torch.no_grad():
        found = encoder(faces)
        codes = encode(generator, encoder, faces)
        assert torch.equal(codes[:, -1], found[:, 0])
        read = generator.pictures.read(faces, found[:, 0])
        assert torch.equal(codes[:, :-1], read[:, :-1])


def test_mirrored_codes_are_of_mirrored_flows(
    fitted: tuple[StyleGenerator, Tensor, Tensor],
) -> None:
    pictures = fitted[0].pictures
    assert pictures is not None
    moves = 0.05 * torch.stack([torch.sin(k * GRID) for k in (2, 4)])
    both = torch.cat([moves, moves * torch.tensor([-1.0, 1.0])])
    both[2:] = both[2:].view(2, 9, 9, 2).flip(1).reshape(2, -1, 2)  # x is the first axis of GRID
    other = Pictures(pictures.sides, pictures.layers, WIDTH)
    other.flow[:4] = dense(GRID, both)
    turned = (torch.eye(4, WIDTH) @ mirror_of(other) @ other.flow.flatten(1)).view(4, 2, 32, 32)
    assert torch.allclose(turned[0], other.flow[2], atol=0.02)
