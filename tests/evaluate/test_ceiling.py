"""How much of an expression is seen inside the face mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from expraug import Expression
from expraug.evaluate import ceiling, load_fer_classifier
from expraug.evaluate.ceiling import exchange, surroundings
from expraug.evaluate.face_set import FaceSet, TooFewFacesError, collect
from expraug.faces import create_detector
from expraug.faces.composite import face_mask

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


class CornerClassifier:
    """Sees a smile where the upper corners are brighter than the middle."""

    name = "corners"
    expressions = (NEUTRAL, HAPPY)

    def probabilities(self, faces: Tensor) -> Tensor:
        corner = torch.cat([faces[..., :20, :20], faces[..., :20, -20:]], 3).mean((1, 2, 3))
        smile = (corner - faces[..., 50:90, 50:80].mean((1, 2, 3)) > 0).float()
        return torch.stack([1 - smile, smile], dim=1)

    def features(self, faces: Tensor) -> Tensor:
        return faces.mean((2, 3))


@pytest.fixture(scope="module")
def people(faces: Path) -> FaceSet:
    return collect([faces], create_detector("detect"), split="all")


def test_a_smile_is_inside_the_face(people: FaceSet, in_context: Callable, brighten: type) -> None:
    context = in_context(people, brighten(), classifiers=(load_fer_classifier(),))
    found = ceiling.measure(context)
    happy = found.targets["happy"]
    assert happy.whole.recall.n == 10
    assert happy.whole.probability.value > 0.5
    assert happy.blurred.probability.value > 0.7 * happy.whole.probability.value
    assert happy.exchanged.probability.value > 0.7 * happy.whole.probability.value
    assert happy.inside_blurred.probability.value < 0.5 * happy.whole.probability.value
    assert happy.kept.value > 0.5
    assert 0.3 < found.share < 0.5


def test_what_the_corners_tell_is_lost_with_them(
    people: FaceSet, in_context: Callable, brighten: type
) -> None:
    faces = people.faces.clone()
    at = people.of(HAPPY)
    faces[at, :, :24], faces[people.of(NEUTRAL), :, :24] = 255, 0
    marked = FaceSet("marked", faces, people.labels, people.people, people.items)
    context = in_context(marked, brighten(), classifiers=(CornerClassifier(),))
    happy = ceiling.measure(context).targets["happy"]
    assert happy.whole.recall.value == 1
    assert happy.exchanged.recall.value == 0
    assert happy.kept.value == 0
    assert happy.inside_blurred.recall.value == 1


def test_surroundings_are_anothers_and_the_face_its_own(people: FaceSet) -> None:
    at = people.of(HAPPY)
    donors = surroundings(people, at)
    assert all(a != b for a, b in zip(people.who(at), people.who(donors), strict=True))
    assert (people.labels[donors] == int(NEUTRAL)).all()
    faces, others = people.faces[at].float() / 255, people.faces[donors].float() / 255
    mask = face_mask(faces.shape[-1])
    made = exchange(faces, others, mask)
    inside, outside = mask[0] == 1, mask[0] == 0
    assert torch.allclose(made[..., inside], faces[..., inside], atol=1e-6)
    assert (made - faces)[..., outside].abs().mean() > 0.02
    assert torch.allclose(exchange(faces, faces, mask), faces, atol=1e-5)


def test_too_few_faces_are_told(plain: Callable, in_context: Callable, brighten: type) -> None:
    context = in_context(plain([0.1, 0.9], [NEUTRAL, HAPPY]), brighten())
    assert ceiling.measure(context).targets == {}
    assert "fewer than 10 real faces: 1" in context.skipped["ceiling, happy"]
    with pytest.raises(TooFewFacesError, match="no neutral face of another person"):
        surroundings(context.data, context.data.of(NEUTRAL))
