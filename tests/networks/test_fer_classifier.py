from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from expraug.errors import InvalidWeightsError, MissingWeightsError
from expraug.evaluate import FERNet, load_fer_classifier
from expraug.evaluate.face_set import collect
from expraug.expressions import Expression
from expraug.faces import create_detector
from expraug.networks.fer_classifier import see
from expraug.pretrained import EMBEDDED


def test_embedded_classifier_knows_a_smile(faces: Path) -> None:
    classifier = load_fer_classifier()
    assert sum(p.numel() for p in classifier.parameters()) < 1_000_000
    found = collect([faces], create_detector("detect"), 128)
    probabilities = classifier.probabilities(found.faces.float() / 255)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(found)))
    smile = probabilities[:, classifier.expressions.index(Expression.HAPPY)]
    happy, neutral = (smile[found.of(e)].mean() for e in (Expression.HAPPY, Expression.NEUTRAL))
    assert happy > neutral + 0.3
    assert classifier.features(found.faces.float() / 255).shape[0] == len(found)


def test_brightness_contrast_colour_and_size_change_nothing_much() -> None:
    face = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    face = torch.nn.functional.interpolate(face, size=(64, 64), mode="bicubic").clamp(0, 1)
    grey = face.mean(1, keepdim=True)
    assert see(face).shape == (1, 1, 48, 48)
    torch.testing.assert_close(see(grey * 0.5 + 0.2), see(grey), atol=0.3, rtol=0)
    torch.testing.assert_close(see(grey.expand(-1, 3, -1, -1)), see(grey), atol=1e-4, rtol=0)
    large = torch.nn.functional.interpolate(grey, size=(128, 128), mode="bilinear")
    torch.testing.assert_close(see(large), see(grey), atol=0.15, rtol=0)


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    classifier = FERNet(["neutral", "happy"], width=8).eval()
    classifier.save_pretrained(tmp_path)
    again = load_fer_classifier(tmp_path)
    faces = torch.rand(3, 3, 128, 128)
    assert again.name.startswith("fer_classifier-")
    again.save_pretrained(tmp_path / "again")
    assert load_fer_classifier(tmp_path / "again").name == again.name
    assert again.expressions == (Expression.NEUTRAL, Expression.HAPPY)
    np.testing.assert_allclose(
        again.probabilities(faces).numpy(), classifier.probabilities(faces).numpy(), atol=5e-3
    )


def test_missing_and_damaged_weights(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="no weights at"):
        load_fer_classifier(tmp_path)
    FERNet(["neutral", "happy"], width=8).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(InvalidWeightsError, match="sha256"):
        load_fer_classifier(tmp_path)


def test_model_card_names_these_weights() -> None:
    card = (EMBEDDED / "fer_classifier" / "README.md").read_text()
    assert load_fer_classifier().name.removeprefix("fer_classifier-") in card
