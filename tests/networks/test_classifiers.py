"""FER classifiers by name."""

from pathlib import Path

import pytest
import torch

from expraug.errors import MissingDependencyError, MissingWeightsError
from expraug.expressions import Expression
from expraug.networks.classifiers import create_fer_classifier
from expraug.networks.fer_classifier import FERNet
from expraug.networks.landmark_classifier import LandmarkClassifier

OUTSIDE = """
import torch

class Outside:
    expressions = ("happy", "anger")

    def probabilities(self, faces):
        return torch.tensor([[0.75, 0.25]]).repeat(len(faces), 1)

number = 3
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "somebody_elses.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    return "somebody_elses"


def test_embedded_ones_folders_and_ready_ones(tmp_path: Path) -> None:
    assert isinstance(create_fer_classifier("image"), FERNet)
    assert isinstance(create_fer_classifier("landmarks"), LandmarkClassifier)
    small = FERNet(["neutral", "happy"], width=8).eval()
    small.save_pretrained(tmp_path)
    assert create_fer_classifier(tmp_path).expressions == small.expressions
    assert create_fer_classifier(small) is small
    with pytest.raises(MissingWeightsError):
        create_fer_classifier("no such folder")


def test_whatever_can_be_imported(outside: str) -> None:
    found = create_fer_classifier(f"{outside}:Outside")
    assert found.name == f"{outside}:Outside"
    assert found.expressions == (Expression.HAPPY, Expression.ANGRY)
    faces = torch.zeros(2, 3, 8, 8)
    assert found.probabilities(faces).tolist() == [[0.75, 0.25]] * 2
    assert found.features(faces).shape == (2, 2)


def test_what_cannot_be_imported_says_what_to_do(outside: str) -> None:
    with pytest.raises(MissingDependencyError, match="PYTHONPATH"):
        create_fer_classifier("nowhere_at_all:Net")
    with pytest.raises(MissingDependencyError, match="PYTHONPATH"):
        create_fer_classifier(f"{outside}:Other")
    with pytest.raises(TypeError, match="expressions"):
        create_fer_classifier(f"{outside}:number")
