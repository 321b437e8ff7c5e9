"""What runs off the CPU gives what the CPU gives, in few operations, on a card that is pretended.

The card itself is held against the CPU by `test_cuda_pipeline.py`; this runs everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pretended_card import CARD, Operations, PretendedCard

from expraug import Expression, ExpressionAugmenter
from expraug.faces import DetectedFace, LandmarkDetector
from expraug.faces.pixels import as_tensor
from expraug.pipeline import augmenter as augmenters
from expraug.pipeline import lookup
from expraug.transforms.torchvision import RandomExpression

CPU = torch.device("cpu")
POINTS, SCORES, DEGREES = 0.01, 1e-3, 0.01
"""Landmarks, of 256 pixels; blendshape scores; pose."""
RESIZED = 16
"""Times as much where an image is resized to be looked at: on the CPU in whole numbers."""


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module, name in ((augmenters, "device_for"), (lookup, "existing_device")):
        monkeypatch.setattr(module, name, lambda device, *_: torch.device(device))
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def pictures(neutral_images: list[np.ndarray]) -> list[np.ndarray]:
    """Faces of several sizes, tilts and colours; one of nobody, and one of two people."""
    kinds = [(256, 0, "RGB"), (150, 7, "L"), (256, -20, "RGB"), (96, 0, "L"), (256, 5, "L")]
    made = []
    for image, (side, angle, mode) in zip(neutral_images, kinds, strict=False):
        picture = Image.fromarray(image).convert(mode).resize((side, side))
        made.append(np.array(picture.rotate(angle, Image.Resampling.BICUBIC)))
    two = np.concatenate([neutral_images[5], neutral_images[6][::2, ::2].repeat(2, 0)], 1)
    return [*made, np.full((120, 120, 3), 70, np.uint8), two]


def alike(one: DetectedFace | None, other: DetectedFace | None, extent: int) -> bool:
    if one is None or other is None:
        return one is other
    most = 1 if 192 <= extent <= 640 else RESIZED
    both = [(one.mesh, other.mesh), (one.points, other.points)]
    far = [np.abs(a - b).max() * 256 / extent / POINTS for a, b in both]  # type: ignore[operator]
    far.append(np.abs(one.blendshapes - other.blendshapes).max() / SCORES)  # type: ignore[operator]
    far.append(np.abs(one.pose - other.pose).max() / DEGREES)  # type: ignore[operator]
    return one.faces == other.faces and bool(max(far) < most)


@pytest.mark.parametrize(("mode", "tensors"), [("crop", False), ("detect", True)])
def test_landmarks_of_a_mixed_batch(
    pictures: list[np.ndarray], card: None, mode: Any, tensors: bool
) -> None:
    here, all_here = LandmarkDetector(mode), LandmarkDetector(mode).detect_all(pictures)
    expected = here(pictures)
    images = [as_tensor(image, CPU) for image in pictures] if tensors else pictures
    with PretendedCard():
        there = LandmarkDetector(mode, CARD)
        found, every = there(images), there.detect_all(images)
    extents = [max(image.shape[:2]) for image in pictures]
    assert all(map(alike, expected, found, extents))
    assert sum(face is None for face in found) == 1
    for faces, others, extent in zip(all_here, every, extents, strict=True):
        assert len(faces) == len(others)
        assert all(alike(a, b, extent) for a, b in zip(faces, others, strict=True))


def test_a_batch_too_large_for_memory_is_looked_at_in_parts(
    pictures: list[np.ndarray], card: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PretendedCard():
        detector = LandmarkDetector("crop", CARD)
        whole = detector(pictures[:4])
        monkeypatch.setattr("expraug.faces.landmarks._ROOM", 100_000)
        parts = detector(pictures[:4])
    assert all(map(alike, whole, parts, [256] * 4))


def operations(work: Callable[[], object]) -> int:
    work()  # what is made once
    with Operations() as counted:
        work()
    return int(counted.operations)


def door() -> RandomExpression:
    augmenter = ExpressionAugmenter("transfer", device=CARD)
    return RandomExpression([str(e) for e in Expression], augmenter=augmenter, p=1.0, seed=3)


def batch_of(images: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def test_operations_do_not_grow_with_the_batch(
    neutral_images: list[np.ndarray], card: None
) -> None:
    """A card waits for the host to start them: a few for each batch, hardly any for each face."""
    counts = []
    with PretendedCard():
        detector, transform = LandmarkDetector("crop", CARD), door()
        for count in (2, 4):
            images = batch_of([image[::2, ::2] for image in neutral_images[:count]])
            labels = torch.full((count,), int(Expression.NEUTRAL))
            counts.append(
                (
                    operations(lambda im=images: detector(list(im))),  # type: ignore[misc]
                    operations(lambda im=images, lb=labels: transform(im, lb)),  # type: ignore[misc]
                )
            )
    (few, few_in_all), (more, more_in_all) = counts
    assert few == more < 600
    # labels, and the face put into its image
    assert more_in_all - few_in_all <= 3 * 4
    assert more_in_all < 4000


def test_faces_of_a_batch_are_those_of_the_cpu(
    neutral_images: list[np.ndarray], card: None
) -> None:
    images = batch_of(neutral_images[:5])
    labels = torch.full((5,), int(Expression.NEUTRAL))
    with PretendedCard():
        made, new = door()(images, labels)
    expected = RandomExpression(
        [str(e) for e in Expression], augmenter=ExpressionAugmenter("transfer"), p=1.0, seed=3
    )(images, labels)
    assert torch.equal(new, expected[1])
    assert (new != labels).sum() >= 3
    difference = (made.int() - expected[0].int()).abs().float()
    assert difference.mean() < 0.05
    assert difference.flatten().quantile(0.999) <= 3
