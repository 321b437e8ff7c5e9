"""Known faces, classifiers and synthesizers; one evaluation of `pixel` shared by the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from crop_augmenter import MeanFaceDetector
from real_smiles import Smiles, read_smiles
from torch import Tensor

from expraug.datasets import FaceItem
from expraug.datasets.png import png
from expraug.evaluate import Bootstrap, Context, Evaluation, evaluate
from expraug.evaluate.face_set import FaceSet, aligned
from expraug.expressions import Expression
from expraug.faces import CropDetector
from expraug.pipeline import ExpressionAugmenter
from expraug.pipeline.memo import MemoizedDetector
from expraug.synthesizer import Synthesizer

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


class CoarsePicture:
    """A stand-in for an identity encoder whose weights need no download: a coarse picture."""

    name = "coarse-picture"
    threshold = 0.9

    def __call__(self, faces: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(faces, 8).flatten(1)
        return F.normalize(coarse - coarse.mean(dim=1, keepdim=True))


class BrightnessClassifier:
    """Sees a smile in whatever is bright in the middle."""

    name = "brightness"
    expressions = (NEUTRAL, HAPPY)

    def probabilities(self, faces: Tensor) -> Tensor:
        side = faces.shape[-1]
        middle = faces[..., side // 3 : 2 * side // 3, side // 3 : 2 * side // 3]
        smile = middle.mean((1, 2, 3))
        return torch.stack([1 - smile, smile], dim=1)

    def features(self, faces: Tensor) -> Tensor:
        return faces.mean((2, 3))


class Brighten(Synthesizer):
    """Makes what is not too bright brighter, called by the pipeline and by nobody else."""

    name = "brighten"
    image_size = 32
    expressions = (HAPPY,)
    most = 0.35
    """Mean from which a face is left as it is."""

    def supports(self, source: Expression | None, target: Expression) -> bool:
        return source is not HAPPY and target is HAPPY

    def forward(self, faces: Tensor, target: Tensor, intensity: Tensor) -> Tensor:
        callers = {sys._getframe(depth).f_globals["__name__"] for depth in range(1, 8)}
        assert "expraug.pipeline.synthesize" in callers
        dark = faces.mean((1, 2, 3), keepdim=True) < self.most
        return (faces + 0.9 * intensity.view(-1, 1, 1, 1) * dark).clamp(0, 1)


def face_set(
    images: Sequence[np.ndarray],
    labels: Sequence[Expression],
    people: Sequence[str],
    name: str = "set",
) -> FaceSet:
    """Face crops as a set."""
    detector = CropDetector()
    faces = [aligned(i, found.points) for i in images for found in detector([i]) if found]
    items = [FaceItem(p, str(e), p, png(i)) for p, e, i in zip(people, labels, images, strict=True)]
    shown = torch.tensor([int(e) for e in labels])
    side = [min(image.shape[:2]) for image in images]
    yaw = [float("nan")] * len(images)
    return FaceSet(name, torch.stack(faces), shown, list(people), items, yaw=yaw, side=side)


def plain_set(levels: Sequence[float], labels: Sequence[Expression], name: str = "set") -> FaceSet:
    """Uniform faces of different people, of 32 px."""
    images = [np.full((32, 32, 3), int(level * 255), np.uint8) for level in levels]
    return face_set(images, labels, [f"{name}{i}" for i in range(len(levels))], name)


def context_of(data: FaceSet, synthesizer: Synthesizer, **given: Any) -> Context:
    """A context of face crops."""
    reference = given.get("reference")
    people = data.people + (reference.people if reference else [])
    augmenter = ExpressionAugmenter(
        synthesizer,
        alignment=MemoizedDetector(MeanFaceDetector()),
        check_landmarks=False,
        batch_size=4,
    )
    settings: dict[str, Any] = {
        "augmenter": augmenter,
        "data": data,
        "reference": None,
        "classifiers": (BrightnessClassifier(),),
        "identity": CoarsePicture(),
        "targets": (HAPPY,),
        "bootstrap": Bootstrap(people),
    }
    return Context(**settings | given)


@pytest.fixture(scope="session")
def encoder() -> CoarsePicture:
    return CoarsePicture()


@pytest.fixture(scope="session")
def plain() -> Callable[..., FaceSet]:
    """`plain_set`, for tests."""
    return plain_set


@pytest.fixture(scope="session")
def in_context() -> Callable[..., Context]:
    """`context_of`, for tests."""
    return context_of


@pytest.fixture(scope="session")
def crops() -> Callable[..., FaceSet]:
    """`face_set`, for tests."""
    return face_set


@pytest.fixture(scope="session")
def brighten() -> type[Brighten]:
    return Brighten


@pytest.fixture(scope="session")
def evaluation(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        # as on a machine that has never downloaded FaceNet
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        targets = [HAPPY, Expression.SAD, Expression.SURPRISE, NEUTRAL]
        return evaluate("pixel", faces, alignment="detect", targets=targets)


@pytest.fixture(scope="session")
def smiles(shared: Path) -> Smiles:
    """Neutral and smiling photographs of real people."""
    return read_smiles(shared)
