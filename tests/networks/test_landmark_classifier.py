import json
from pathlib import Path

import pytest
import torch

from expraug.errors import InvalidWeightsError, MissingWeightsError
from expraug.networks.landmark_classifier import LandmarkClassifier, load_landmark_classifier


def test_saved_and_loaded_again_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    embedded = load_landmark_classifier()
    embedded.save_pretrained(tmp_path)
    again = load_landmark_classifier(tmp_path)
    scores = torch.rand(5, 52, generator=torch.Generator().manual_seed(0))
    assert again.expressions == embedded.expressions
    assert torch.equal(again.logits(scores), embedded.logits(scores))
    assert again.weight.dtype == torch.float32
    assert json.loads((tmp_path / "config.json").read_text())["kind"] == "landmark_classifier"
    assert not again.training


def test_what_is_not_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError):
        load_landmark_classifier(tmp_path)
    with pytest.raises(InvalidWeightsError, match="'fer_classifier', not a 'landmark_classifier'"):
        load_landmark_classifier("fer_classifier")
    LandmarkClassifier(["happy", "sad"]).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InvalidWeightsError, match="sha256"):
        load_landmark_classifier(tmp_path)
