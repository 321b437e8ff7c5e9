"""Clips go the way of single faces, frame by frame."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from expraug import Expression, ExpressionAugmenter, SynthesisRequest
from expraug.errors import NoFaceError, RejectedError, UnsupportedExpressionError
from expraug.networks.onset import onset
from expraug.synthesizer import create_synthesizer

HAPPY, NEUTRAL = Expression.HAPPY, Expression.NEUTRAL


class Gatekeeper:
    """Rejects everything, and remembers what it was shown."""

    fingerprint = "gatekeeper"

    def score(self, faces, synthetic, target):
        self.seen = faces, synthetic, target
        return {"identity": (faces * synthetic).mean(dim=(1, 2, 3))}

    def rejection(self, scores):
        return "identity_lost"


@pytest.mark.parametrize("alignment", ["crop", "detect"])
def test_frames_are_what_the_augmenter_makes_at_their_intensities(neutral_images, alignment):
    image = np.pad(neutral_images[0], ((40, 0), (0, 60), (0, 0)), mode="edge")
    image = neutral_images[0] if alignment == "crop" else image
    augmenter = ExpressionAugmenter("pixel", alignment=alignment, check_landmarks=False)
    clip = augmenter.clip(image, "neutral", "happy", 5)
    assert clip.shape == (5, 3, *image.shape[:2])
    assert clip.dtype == np.uint8
    assert np.array_equal(clip[0].transpose(1, 2, 0), image)
    # requests are in whole percent, which is up to half of one off the curve
    curve = onset(torch.zeros(1, 2), 5)[0].tolist()
    made = augmenter([image] * 4, [SynthesisRequest(HAPPY, level) for level in curve[1:]])
    for frame, outcome in zip(clip[1:], made, strict=True):
        assert np.abs(frame.transpose(1, 2, 0).astype(int) - outcome.image).max() <= 1
    assert np.array_equal(clip[-1].transpose(1, 2, 0), made[-1].image)
    assert not np.array_equal(clip[1], clip[2])
    assert augmenter.stats == {"made": 5}


def test_grey(neutral_images):
    image = neutral_images[0].mean(axis=2).astype(np.uint8)
    augmenter = ExpressionAugmenter("pixel", check_landmarks=False)
    clip = augmenter.clip(image, NEUTRAL, HAPPY, 3)
    assert clip.shape == (3, 1, 256, 256)
    assert np.array_equal(clip[2, 0], augmenter([image], [SynthesisRequest(HAPPY)])[0].image)


def test_landmarks_and_variants_reach_the_synthesizer(neutral_images):
    augmenter = ExpressionAugmenter("transfer")
    for variant, source in enumerate(("neutral", None)):
        clip = augmenter.clip(neutral_images[0], source, "happy", 2, variant=variant)
        (outcome,) = augmenter([neutral_images[0]], [SynthesisRequest(HAPPY, 1, variant)])
        assert np.array_equal(clip[1].transpose(1, 2, 0), outcome.image)
    with pytest.raises(ValueError, match="variant"):
        augmenter.clip(neutral_images[0], "neutral", "happy", variant=99)


def test_transfer_finds_its_own_landmarks(neutral_images):
    model = create_synthesizer("transfer")
    face = torch.from_numpy(neutral_images[0]).permute(2, 0, 1)[None] / 255
    faces = torch.cat([face, torch.zeros_like(face)])
    target = torch.tensor([int(HAPPY)] * 2)
    clip = model.clip(faces, target, 3)
    assert torch.equal(clip[:, 2], model(faces, target, torch.ones(2)))
    assert torch.equal(clip[1], faces[1:].expand(3, -1, -1, -1)), "without a face nothing moves"
    assert torch.equal(clip[:, 0], faces)


def test_failures_are_those_of_single_faces(neutral_images, smile):
    augmenter = ExpressionAugmenter(smile, alignment="detect")
    black = np.zeros((200, 200, 3), np.uint8)
    with pytest.raises(NoFaceError, match="alignment='crop'"):
        augmenter.clip(black, "neutral", "happy")
    assert augmenter.stats == {"no_face": 1}
    with pytest.raises(UnsupportedExpressionError, match="sad"):
        augmenter.clip(neutral_images[0], "neutral", "sad")
    with pytest.raises(UnsupportedExpressionError, match="shows happy"):
        augmenter.clip(neutral_images[0], "happy", "happy")
    with pytest.raises(UnsupportedExpressionError, match="source='neutral'"):
        augmenter.clip(neutral_images[0], None, "happy")
    with pytest.raises(ValueError, match="frames"):
        augmenter.clip(neutral_images[0], "neutral", "happy", 1)


def test_the_gate_scores_the_last_frame(neutral_images):
    gate = Gatekeeper()
    augmenter = ExpressionAugmenter("pixel", gate=gate)
    with pytest.raises(RejectedError, match="identity_lost") as raised:
        augmenter.clip(neutral_images[0], "neutral", "happy", 3)
    assert raised.value.reason == "identity_lost"
    assert augmenter.stats == {"identity_lost": 1}
    source, last, target = gate.seen
    assert target.tolist() == [int(HAPPY)]
    augmenter([neutral_images[0]], [SynthesisRequest(HAPPY)])
    assert np.array_equal(gate.seen[1], last), "as for the single face at full intensity"
    assert not np.array_equal(source, last)


def test_the_cache_tells_where_the_face_is(neutral_images, tmp_path: Path):
    first = ExpressionAugmenter("pixel", alignment="detect", cache=tmp_path)
    clip = first.clip(neutral_images[0], "neutral", "happy", 2)
    second = ExpressionAugmenter("pixel", alignment="detect", cache=first.cache)
    second.detector._mtcnn = None  # cannot look any more
    assert np.array_equal(second.clip(neutral_images[0], "neutral", "happy", 2), clip)


def test_a_source_that_a_synthesizer_does_not_start_from_is_told(
    happy_images: list[np.ndarray], neutral_images: list[np.ndarray]
) -> None:
    """`fevgan` starts from neutral faces; nobody says what these show."""
    augmenter = ExpressionAugmenter("fevgan", check_landmarks=False)
    with pytest.warns(UserWarning, match="seems to show happy, but 'fevgan' makes sad of neutral"):
        augmenter.clip(happy_images[0], None, "sad", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augmenter.clip(neutral_images[0], None, "sad", 2)
        augmenter.clip(neutral_images[0], "neutral", "sad", 2)
