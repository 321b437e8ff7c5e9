"""DiffAugment: what it does to faces, one part at a time and all together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.training.diffaugment import _hide, _move, _relight, diffaugment

seeds = st.integers(0, 2**31)
sides = st.sampled_from([16, 24, 32, 64])


@settings(max_examples=25, deadline=None)
@given(seeds, sides, st.integers(1, 5))
def test_same_shape_and_draws_follow_the_seed(seed: int, side: int, count: int) -> None:
    faces = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))
    kept = faces.clone()
    torch.manual_seed(seed)
    one, other = diffaugment(faces), diffaugment(faces)
    torch.manual_seed(seed)
    again = diffaugment(faces)
    assert (one.shape, one.dtype) == (faces.shape, faces.dtype)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(faces, kept)


@settings(max_examples=25, deadline=None)
@given(seeds, sides)
def test_faces_move_by_whole_pixels_an_eighth_at_most(seed: int, side: int) -> None:
    torch.manual_seed(seed)
    faces = torch.rand(3, 1, side, side) + 0.1  # 0 is what comes in from outside
    moved, reach = _move(faces), side // 8
    for face, found in zip(faces[:, 0], moved[:, 0], strict=True):
        padded = torch.nn.functional.pad(face, [reach] * 4)
        windows = padded.unfold(0, side, 1).unfold(1, side, 1)
        hits = (windows == found).flatten(2).all(2)
        assert hits.shape == (2 * reach + 1, 2 * reach + 1)
        assert hits.sum() == 1


def test_every_shift_is_drawn_and_each_face_has_its_own() -> None:
    torch.manual_seed(0)
    place = torch.zeros(1, 1, 16, 16)
    place[..., 8, 8] = 1
    rows, columns = _move(place.expand(2000, -1, -1, -1))[:, 0].nonzero()[:, 1:].T
    for where in (rows, columns):
        counts = torch.bincount(where - 6, minlength=5)
        assert len(counts) == 5
        assert (counts > 300).all()
    # rows and columns are drawn apart: the correlation of 2000 draws has an error of 1/45
    assert torch.corrcoef(torch.stack([rows, columns]).float())[0, 1].abs() < 0.12


@settings(max_examples=25, deadline=None)
@given(seeds, sides)
def test_a_square_of_a_quarter_is_hidden_and_nothing_else_changes(seed: int, side: int) -> None:
    torch.manual_seed(seed)
    faces = torch.rand(4, 1, side, side) + 0.1
    found = _hide(faces)
    hidden = found == 0
    assert torch.equal(found[~hidden], faces[~hidden])
    width = 2 * (side // 4) - 1
    for square in hidden[:, 0]:
        rows, columns = square.any(1), square.any(0)
        assert torch.equal(square, rows[:, None] & columns)
        for line in (rows, columns):
            places = line.nonzero()[:, 0]
            assert side // 4 <= len(places) <= width  # cut off at the edges
            assert (places.diff() == 1).all()
            assert len(places) == width or line[0] or line[-1]


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_light_and_contrast_change_within_bounds(seed: int) -> None:
    torch.manual_seed(seed)
    faces = torch.rand(4, 1, 16, 16)
    found = _relight(faces)
    light = found.mean((1, 2, 3)) - faces.mean((1, 2, 3))
    contrast = found.std((1, 2, 3)) / faces.std((1, 2, 3))
    assert light.abs().max() <= 0.25 + 1e-5
    assert 0.5 - 1e-4 <= contrast.min() <= contrast.max() <= 1.5 + 1e-4
    assert light.unique().numel() == contrast.unique().numel() == 4
    # nothing but light and contrast
    shape = (found - found.mean((1, 2, 3), keepdim=True)) / contrast.view(-1, 1, 1, 1)
    assert torch.allclose(shape, faces - faces.mean((1, 2, 3), keepdim=True), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_finite_differences(seed: int) -> None:
    faces = torch.rand(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)

    def same_draws(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(seed)
        return diffaugment(x)

    assert torch.autograd.gradcheck(same_draws, (faces,))
    same_draws(faces).sum().backward()
    assert faces.grad is not None
    assert faces.grad.flatten(1).any(1).all()
