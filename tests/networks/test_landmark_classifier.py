import json
from pathlib import Path

import numpy as np
import pytest
import torch

from expraug.errors import InvalidWeightsError, MissingWeightsError
from expraug.expressions import Expression
from expraug.faces import LandmarkDetector
from expraug.faces.align import align_image
from expraug.networks.landmark_classifier import (
    NO_BOUND,
    LandmarkClassifier,
    load_landmark_classifier,
    upright,
)
from expraug.pretrained import EMBEDDED


def landmarks(count: int) -> torch.Tensor:
    return torch.rand(count, 478, 2, generator=torch.Generator().manual_seed(0))


def aligned(images: list[np.ndarray]) -> torch.Tensor:
    found = LandmarkDetector("crop")(images)
    return (
        torch.stack([align_image(i, f.points, 128) for i, f in zip(images, found, strict=True)])
        / 255
    )


def test_a_smile_is_told_from_a_neutral_face(
    happy_images: list[np.ndarray], neutral_images: list[np.ndarray]
) -> None:
    classifier = load_landmark_classifier()
    column = classifier.expressions.index(Expression.HAPPY)
    happy = classifier.probabilities(aligned(happy_images[:6]))
    neutral = classifier.probabilities(aligned(neutral_images[:6]))
    assert happy[:, column].mean() > neutral[:, column].mean() + 0.4
    torch.testing.assert_close(happy.sum(1), torch.ones(6))


def test_pixels_tell_it_nothing(happy_images: list[np.ndarray]) -> None:
    classifier = load_landmark_classifier()
    faces = aligned(happy_images[:2])
    darker = faces * 0.7 + 0.05
    before, after = classifier.probabilities(faces), classifier.probabilities(darker)
    assert (before - after).abs().max() < 0.15
    nothing = classifier.probabilities(torch.zeros(1, 3, 128, 128))
    torch.testing.assert_close(nothing, torch.full((1, 8), 1 / 8))


def test_where_size_and_tilt_of_the_face_tell_nothing() -> None:
    points = landmarks(3)
    mean = landmarks(1)[0]
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    moved = points @ turn.T * 3 + torch.tensor([5.0, -2.0])
    torch.testing.assert_close(upright(moved, mean), upright(points, mean), atol=1e-5, rtol=1e-5)
    assert (upright(points, mean) - points).abs().max() > 0.01


def test_a_smile_that_goes_three_times_as_far_is_beyond_real_ones(
    happy_images: list[np.ndarray], neutral_images: list[np.ndarray]
) -> None:
    classifier = load_landmark_classifier()
    column = classifier.expressions.index(Expression.HAPPY)
    happy, neutral = (
        [torch.from_numpy(face.mesh)[None] for face in LandmarkDetector("crop")(images[:8]) if face]
        for images in (happy_images, neutral_images)
    )
    scores = torch.zeros(1, 52)  # reach is of landmarks alone

    def reach(landmarks: torch.Tensor) -> float:
        return float(classifier.reach(landmarks, scores)[0, column])

    most = float(classifier.most[column])
    assert max(map(reach, neutral)) < 0.6
    pairs = list(zip(happy, neutral, strict=True))
    inside = [reach(after) < most for after, _ in pairs]
    tripled = [
        reach(upright(after, classifier.mean) * 3 - 2 * upright(before, classifier.mean)) > most
        for after, before in pairs
    ]
    assert sum(inside) == 8
    assert sum(tripled) >= 6
    assert float(classifier.most[classifier.expressions.index(Expression.NEUTRAL)]) == NO_BOUND


def test_each_face_by_itself() -> None:
    classifier, points = load_landmark_classifier(), landmarks(4)
    scores = torch.rand(4, 52, generator=torch.Generator().manual_seed(1))
    together = classifier.logits(points, scores)
    for i in range(4):
        assert torch.equal(classifier.logits(points[i : i + 1], scores[i : i + 1])[0], together[i])
        alone = classifier.reach(points[i : i + 1], scores[i : i + 1])[0]
        assert torch.equal(alone, classifier.reach(points, scores)[i])


def test_saved_and_loaded_again_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    embedded = load_landmark_classifier()
    embedded.save_pretrained(tmp_path)
    again = load_landmark_classifier(tmp_path)
    points, scores = landmarks(5), torch.rand(5, 52)
    assert again.expressions == embedded.expressions
    assert again.name == embedded.name
    assert torch.equal(again.logits(points, scores), embedded.logits(points, scores))
    assert json.loads((tmp_path / "config.json").read_text())["kind"] == "landmark_classifier"
    assert not again.training


def test_what_is_not_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError):
        load_landmark_classifier(tmp_path)
    with pytest.raises(InvalidWeightsError, match="'fer_classifier', not a 'landmark_classifier'"):
        load_landmark_classifier("fer_classifier")
    LandmarkClassifier(["happy", "sad"], 4, 8).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InvalidWeightsError, match="sha256"):
        load_landmark_classifier(tmp_path)


def test_model_card_names_these_weights() -> None:
    card = (EMBEDDED / "landmark_classifier" / "README.md").read_text()
    assert load_landmark_classifier().name.removeprefix("landmark_classifier-") in card
