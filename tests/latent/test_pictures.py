"""Pictures and flows, on blobs that move as their landmarks say."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.faces.warp import pixel_grid
from expraug.latent.generator import LatentEncoder, StyleGenerator, encode
from expraug.latent.pictures import FLOW, INNER_LIPS, Pictures, at_rest, dense
from recipes.latent.trainer import mirror_of, teach_shapes

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
    latents = generator.pictures.read(faces, shapes)
    assert latents.shape == (len(faces), generator.layers, WIDTH)
    assert not latents[:, -1].any()
    latents[:, -1] = shapes
    off = (generator.synthesis(latents) - faces).abs().mean()
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
    latents = generator.pictures.read(faces, shapes)[low][None]
    latents[:, -1] = shapes[high]
    drawn = generator.synthesis(latents)

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


def test_free_numbers_of_a_shape_say_what_expressions_do() -> None:
    pictures = StyleGenerator(SIZE, (8, 8, 8, 8), WIDTH, painted=True).pictures
    assert pictures is not None
    marks = moving_blobs(120)[1]
    pictures.fit(*moving_blobs(120))
    torch.manual_seed(1)
    lids = torch.exp(-(MARKS - PARTS[0]).square().sum(1) / 0.002)[:, None] * torch.tensor([0.0, 1])
    moves = 0.01 * torch.randn(40, 1, 1) * lids
    shut = marks[:40] + moves

    def said() -> Tensor:
        return pictures.displacement(pictures.shapes(marks[:40]), pictures.shapes(shut))

    assert (said() - moves).square().sum() > 0.5 * moves.square().sum(), "too small for the others"
    coarse = pictures.coarse.clone()
    before, now = pictures.fit_moves(moves).tolist()
    assert before > 0.5 > 1e-3 > now
    assert torch.equal(pictures.coarse, coarse)
    assert torch.allclose(said(), moves, atol=2e-5)
    shapes = pictures.shapes(marks)
    flat = pictures.marks.flatten(1)
    assert (flat[coarse] @ flat[~coarse].T).abs().max() < 1e-6, "at right angles to the others"
    # where nothing is unusual, nothing moves by more than it did
    assert torch.allclose(shapes @ flat, (marks - pictures.rest).flatten(1), atol=5e-3)


def test_moving_undoes_bringing(fitted: tuple[StyleGenerator, Tensor, Tensor]) -> None:
    generator, faces, shapes = fitted
    assert generator.pictures is not None
    again = generator.pictures.move(generator.pictures.bring(faces - 0.5, shapes), shapes) + 0.5
    assert (again - faces).abs().mean() < 0.02


def test_blank_pictures_paint_nothing() -> None:
    pictures = Pictures((4, 8), ((0,), (1, 2)), WIDTH)
    latents = pictures.read(torch.rand(2, 1, 8, 8), torch.randn(2, WIDTH))
    assert not latents.any()
    assert not pictures.paint(torch.randn(2, 4, WIDTH), 1).any()
    faces = torch.rand(2, 1, 8, 8)
    assert torch.allclose(pictures.move(faces, torch.randn(2, WIDTH)), faces, atol=1e-6)


def test_at_rest_the_mouth_is_open() -> None:
    _, marks = moving_blobs(100)
    gap = torch.linspace(-0.01, 0.2, 100)
    marks[:, 13, 1], marks[:, 14, 1] = 0.6 - gap / 2, 0.6 + gap / 2
    rest = at_rest(marks)
    assert rest.shape == (478, 2)
    assert 0.175 < rest[14, 1] - rest[13, 1] < 0.2  # as in the tenth that open it widest


@pytest.fixture(scope="module")
def yawning() -> tuple[Pictures, Tensor]:
    """Pictures at rest whose mouth is a diamond, and shapes that leave it, close and widen it."""
    pictures = Pictures((4, 8), ((0,), (1, 2)), WIDTH)
    ring = torch.linspace(0, 2 * math.pi, 21)[:20]
    lips = torch.stack([0.5 - 0.15 * ring.cos(), 0.6 - 0.1 * ring.sin()], 1)
    pictures.rest[INNER_LIPS] = lips
    y = pixel_grid(FLOW, torch.zeros(1))[0, 1]
    pictures.flow[0, 1] = y - 0.2  # away from the mouth's middle
    shapes = torch.zeros(3, WIDTH)
    shapes[1, 0], shapes[2, 0] = -1, 0.5
    return pictures, shapes


def test_how_open_a_mouth_is(yawning: tuple[Pictures, Tensor]) -> None:
    pictures, shapes = yawning
    assert torch.allclose(pictures.openness(shapes), torch.tensor([1, 0, 1.625]), atol=1e-3)
    opened = pictures.opened(shapes[[1, 0, 0, 2]], shapes[[0, 0, 2, 1]])
    assert torch.allclose(opened, torch.tensor([1, 0, 0.625 / 1.625, 0]), atol=1e-3)


def test_the_mouth_is_within_the_lips(yawning: tuple[Pictures, Tensor]) -> None:
    inside = yawning[0].mouth(64)
    assert inside.shape == (1, 1, 64, 64)
    x, y = (pixel_grid(64, inside)[0] + 1) / 2
    away = ((x - 0.5) / 0.15).square() + ((y - 0.6) / 0.1).square()
    assert (inside[0, 0][away < 0.7] == 1).all()
    assert (inside[0, 0][away > 1.5] == 0).all()


def test_what_a_closed_mouth_hides_is_the_usual(yawning: tuple[Pictures, Tensor]) -> None:
    pictures, shapes = yawning
    pictures.inside.fill_(-0.7)
    latents = pictures.read(torch.full((3, 1, 8, 8), 0.5), shapes)
    assert latents.isfinite().all()
    still = pictures._filled(torch.zeros(3, 1, 8, 8), shapes)
    mouth = pictures.mouth(8)
    assert torch.allclose(still[1:2], -0.7 * mouth, atol=1e-3)
    assert torch.allclose(still[[0, 2]], torch.zeros(2, 1, 8, 8), atol=1e-3)


def test_landmarks_go_where_the_drawn_face_has_them(
    fitted: tuple[StyleGenerator, Tensor, Tensor],
) -> None:
    pictures = fitted[0].pictures
    assert pictures is not None
    marks, shapes = moving_blobs(120)[1], fitted[2]
    gone = pictures.displacement(shapes[:60], shapes[60:])
    wanted = marks[60:] - marks[:60]
    assert (gone - wanted).square().mean() < 0.05 * wanted.square().mean()
    assert not pictures.displacement(shapes, shapes).any()


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
    encoder = LatentEncoder(SIZE, 1, WIDTH, (8, 8, 8))
    flow = generator.pictures.flow_in_face().flatten(1)
    still = float((shapes[:12] @ flow * SIZE / 2).square().mean().sqrt())
    device = torch.device("cpu")
    off = teach_shapes(encoder, generator.pictures, faces, shapes, 60, device, 32, 3e-3)
    assert off < 0.7 * still
    with torch.no_grad():
        found = encoder(faces)
        latents = encode(generator, encoder, faces)
        assert torch.equal(latents[:, -1], found[:, 0])
        read = generator.pictures.read(faces, found[:, 0])
        assert torch.equal(latents[:, :-1], read[:, :-1])
        assert torch.equal(encode(generator, None, faces, found[:, 0]), latents)
        with pytest.raises(ValueError, match="need their shapes"):
            encode(generator, None, faces)


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
