"""Whatever a synthesizer returns, a label changes only with its picture."""

import numpy as np
import pytest
import torch

from expraug import ExpressionAugmenter, SynthesisRequest
from expraug.errors import RejectedError
from expraug.expressions import Expression, LabelScheme
from expraug.faces import CropDetector
from expraug.pipeline.samples import augment_samples
from expraug.synthesizer import Synthesizer


class Broken(Synthesizer):
    """Returns faces as a test asks for them."""

    name = "broken"
    expressions = tuple(Expression)
    image_size = 64

    def __init__(self, kind: str = "nan") -> None:
        super().__init__(kind=kind)
        self.kind = kind

    def forward(self, faces, target, intensity):
        made = faces.clone()
        if self.kind == "nan":
            made[:, :, 30, 30] = torch.nan
        elif self.kind == "all_nan":
            made[:] = torch.nan
        elif self.kind == "infinite":
            made[:, 0, 30, 30] = -torch.inf
        elif self.kind == "in_255":
            made = made * 255
        elif self.kind == "in_minus_1_to_1":
            made = made * 2 - 1
        elif self.kind == "too_faint":
            made = made + 1e-4
        return made


REASONS = {
    "nan": "not_finite",
    "all_nan": "not_finite",
    "infinite": "not_finite",
    "in_255": "out_of_range",
    "in_minus_1_to_1": "out_of_range",
    "equal": "unchanged",
    "too_faint": "unchanged",
}


@pytest.mark.parametrize("kind", REASONS)
def test_neither_picture_nor_label_changes(kind, neutral_images):
    augmenter = ExpressionAugmenter(Broken(kind))
    request = SynthesisRequest(Expression.HAPPY)
    for outcome in augmenter(neutral_images[:3], [request] * 3):
        assert outcome.target is None
        assert outcome.reason == REASONS[kind]
    assert augmenter.stats == {REASONS[kind]: 3}
    scheme = LabelScheme.named("fer2013")
    samples = augment_samples(
        augmenter, scheme, neutral_images[:2], [6, "neutral"], lambda *_: request
    )
    for sample, image, label in zip(samples, neutral_images, (6, "neutral"), strict=False):
        assert sample.image is image
        assert sample.label == label


@pytest.mark.parametrize("kind", REASONS)
def test_no_clip_is_made(kind, neutral_images):
    augmenter = ExpressionAugmenter(Broken(kind))
    with pytest.raises(RejectedError, match=REASONS[kind]):
        augmenter.clip(neutral_images[0], "neutral", "happy", 3)
    assert augmenter.stats == {REASONS[kind]: 1}


def test_one_broken_face_does_not_spoil_its_batch(neutral_images, monkeypatch):
    augmenter = ExpressionAugmenter(
        Broken("some"), alignment=CropDetector(), check_landmarks=False, batch_size=8
    )

    def forward(self, faces, target, intensity):
        broken = (target == int(Expression.SAD)).view(-1, 1, 1, 1)
        return torch.where(broken, torch.nan, (faces * 0.8 + 0.05))

    monkeypatch.setattr(Broken, "forward", forward)
    asked = [SynthesisRequest(e) for e in ("happy", "sad", "angry", "sad")]
    outcomes = augmenter(neutral_images[:4], asked)
    assert [o.reason for o in outcomes] == ["", "not_finite", "", "not_finite"]
    assert not np.array_equal(outcomes[0].image, neutral_images[0])
    assert outcomes[1].image is neutral_images[1]
