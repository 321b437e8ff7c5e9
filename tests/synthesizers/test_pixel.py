import pytest
import torch

from expraug import Expression, create_synthesizer
from expraug.faces.mouth import lip_gaps, lips_of
from expraug.synthesizers.pixel import laid_over

CORNERS = [61, 291]


@pytest.fixture(scope="module")
def pixel():
    return create_synthesizer("pixel")


def read(pixel, images):
    """Return aligned faces of sample images, and their landmarks."""
    faces = torch.stack([torch.from_numpy(i[::2, ::2].copy()) for i in images[:4]])
    faces = faces.permute(0, 3, 1, 2).float() / 255
    known, found = pixel._finder(faces)
    return faces[known], found["landmarks"]


@pytest.fixture(scope="module")
def neutral(pixel, neutral_images):
    return read(pixel, neutral_images)


def asked(faces, target, intensity=1.0):
    return torch.full((len(faces),), int(target)), torch.full((len(faces),), intensity)


def test_everything_can_be_made_of_everything_else(pixel):
    for target in Expression:
        assert pixel.supports(None, target)
        for source in Expression:
            assert pixel.supports(source, target) == (source != target)


def test_what_it_was_not_fitted_on_it_does_not_make(smile):
    few = create_synthesizer(smile)
    assert few.supports(Expression.NEUTRAL, Expression.HAPPY)
    assert not few.supports(Expression.SAD, Expression.HAPPY)
    assert not few.supports(None, Expression.HAPPY)


def test_without_intensity_nothing_changes(pixel, neutral):
    faces, landmarks = neutral
    made = pixel(faces, *asked(faces, Expression.SURPRISE, 0.0), landmarks=landmarks)
    assert torch.equal(made, faces)


def test_half_the_intensity_goes_half_the_way(pixel, neutral):
    faces, landmarks = neutral
    row = pixel.row[asked(faces, Expression.HAPPY)[0]]
    full, half = (
        pixel.maps(faces, row, torch.full((len(faces),), far), landmarks) for far in (1.0, 0.5)
    )
    moved = full.moved_lips - full.lips
    assert moved.abs().max() > 0.01
    assert torch.allclose(half.moved_lips - half.lips, moved / 2, atol=2e-3)


def test_grey_stays_grey(pixel, neutral):
    faces, landmarks = neutral
    grey = faces.mean(1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    for target in (Expression.HAPPY, Expression.FEAR):
        made = pixel(grey, *asked(grey, target), landmarks=landmarks)
        assert (made.amax(1) - made.amin(1)).max() < 0.02
        assert (made - grey).abs().max() > 0.1


def test_mouths_open_and_smiles_close(pixel, neutral, happy_images):
    faces, landmarks = neutral
    row = pixel.row[int(Expression.SURPRISE)].expand(len(faces))
    wide = landmarks + pixel.displaced(landmarks, row)
    opened = lip_gaps(lips_of(wide)).mean(1) - lip_gaps(lips_of(landmarks)).mean(1)
    assert (opened > 0.1).all()

    smiling, landmarks = read(pixel, happy_images)
    row = pixel.row[int(Expression.NEUTRAL)].expand(len(smiling))
    rest = landmarks + pixel.displaced(landmarks, row)
    width = [(p[:, CORNERS[1]] - p[:, CORNERS[0]]).norm(dim=1) for p in (landmarks, rest)]
    assert (width[1] < width[0]).all()
    gaps = [lip_gaps(lips_of(p)).mean(1) for p in (landmarks, rest)]
    assert gaps[1].mean() < gaps[0].mean()


def test_a_face_elsewhere_in_the_frame_changes_alike(pixel, neutral):
    faces, landmarks = neutral
    row = pixel.row[int(Expression.ANGRY)].expand(len(faces))
    turn = torch.polar(torch.tensor(1.1), torch.tensor(0.2))
    elsewhere = torch.view_as_real(torch.view_as_complex(landmarks) * turn) + 0.05
    one, other = (torch.view_as_complex(pixel.displaced(p, row)) for p in (landmarks, elsewhere))
    assert one.abs().max() > 0.01
    assert (one * turn - other).abs().max() < 1e-4


def test_a_face_does_not_depend_on_its_batch(pixel, neutral):
    faces, landmarks = neutral
    together = pixel(faces, *asked(faces, Expression.FEAR), landmarks=landmarks)
    for k in range(len(faces)):
        one = faces[k : k + 1]
        alone = pixel(one, *asked(one, Expression.FEAR), landmarks=landmarks[k : k + 1])
        assert torch.equal(alone[0], together[k])


def test_it_finds_landmarks_itself_and_leaves_what_is_no_face(pixel, neutral):
    faces, landmarks = neutral
    noise = torch.rand(1, 3, 128, 128)
    made = pixel(torch.cat([faces, noise]), *asked(torch.cat([faces, noise]), Expression.SAD))
    assert torch.equal(made[-1], noise[0])
    known = pixel(faces, *asked(faces, Expression.SAD), landmarks=landmarks)
    assert torch.equal(made[:-1], known)


def test_a_darker_picture_changes_in_the_same_way(pixel, neutral):
    faces, landmarks = neutral
    row = pixel.row[int(Expression.SAD)].expand(len(faces))
    whole = torch.ones(len(faces))
    bright, dark = (
        pixel.maps(f, row, whole, landmarks).lightening for f in (faces, faces * 0.6 - 0.024)
    )  # luminance less a floor that is added again: log luminance falls by the same everywhere
    assert bright.abs().max() > 0.1
    assert (bright - dark).abs().max() < 0.05


def test_landmarks_are_laid_over_the_mean_face(pixel):
    turn = torch.polar(torch.tensor([0.8, 1.3]), torch.tensor([-0.3, 0.1]))
    rest = torch.view_as_complex(pixel.rest)
    given = torch.view_as_real(rest * turn[:, None] + torch.tensor([0.1 + 0.2j, -0.1j])[:, None])
    laid, factor = laid_over(given, pixel.rest, pixel.steady)
    assert torch.allclose(laid, pixel.rest.expand_as(laid), atol=1e-5)
    assert torch.allclose(factor[:, 0] * turn, torch.ones(2, dtype=factor.dtype), atol=1e-5)
