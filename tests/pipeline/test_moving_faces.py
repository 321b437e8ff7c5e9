"""A synthesizer that knows what moves, through the whole pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter
from PIL import Image

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, SynthesizedFaces
from expraug.evaluate.untouched import reach
from expraug.faces import CropDetector
from expraug.faces.composite import masked
from expraug.faces.synthesized import FLOW_FRAME
from expraug.networks.onset import onset
from expraug.synthesizer import Synthesizer

HAPPY = SynthesisRequest(Expression.HAPPY)


class Dropping(Synthesizer):
    """Lets jaws drop; `kind` spoils what it returns."""

    name = "dropping"
    expressions = (Expression.HAPPY, Expression.SAD)
    image_size = 64

    def __init__(self, kind: str = "") -> None:
        super().__init__(kind=kind)
        self.kind = kind

    def synthesize(self, faces, target, intensity):
        low, high = FLOW_FRAME
        axis = low + (high - low) * (torch.arange(48) + 0.5) / 48
        down = 0.12 * torch.sigmoid((axis.view(-1, 1) - 0.78) / 0.04)
        down = down * torch.exp(-(((axis - 0.5) / 0.35) ** 4))
        flow = torch.stack([torch.zeros_like(down), -down]) * intensity.view(-1, 1, 1, 1)
        matte = torch.zeros(len(faces), 1, 32, 32)
        change = torch.zeros_like(faces)
        sad = (target == int(Expression.SAD)).view(-1, 1, 1, 1)
        if self.kind == "nan":
            flow = torch.where(sad, torch.nan, flow)
        elif self.kind == "infinite":
            flow = torch.where(sad, -torch.inf, flow)
        elif self.kind == "pixels":
            flow = torch.where(sad, flow * 64, flow)
        elif self.kind == "matte":
            matte = torch.where(sad, 255.0, matte)
        elif self.kind == "still":
            flow = torch.where(sad, 1e-6 * flow, flow)
        return SynthesizedFaces(change, flow, matte)

    def forward(self, faces, target, intensity):
        return self.synthesize(faces, target, intensity).render(faces)


class Seeing:
    """A gate that remembers what it was shown."""

    fingerprint = "seeing"

    def score(self, faces, synthetic, target):
        self.seen = faces, synthetic
        return {"mean": synthetic.mean((1, 2, 3))}

    def rejection(self, scores):
        return ""


def test_the_jaw_moves_and_all_else_stays(neutral_images):
    model = Dropping()
    augmenter = crop_augmenter(model)
    outcomes = augmenter(neutral_images[:3], [HAPPY] * 3)
    for image, outcome in zip(neutral_images, outcomes, strict=False):
        (face,) = CropDetector()([image])
        may_change = reach(image, face, model.image_size, moves=True)
        assert outcome.target is Expression.HAPPY
        changed = (outcome.image != image).any(2)
        assert not changed[~may_change].any()
        assert changed[180:230, 90:160].mean() > 0.5
        assert not changed[:120].any(), "the eyes stay"
    # more moves than what would fit under the face's mask
    assert (changed & ~reach(image, face, model.image_size)).any()


def test_reach_of_a_flow_is_larger_and_leaves_the_rest():
    picture = np.zeros((400, 400, 3), np.uint8)
    (face,) = CropDetector()([np.zeros((100, 100, 3), np.uint8)])
    face = type(face)(face.points + 150)
    still, moving = (reach(picture, face, 64, moves) for moves in (False, True))
    assert not (still & ~moving).any()
    assert moving.sum() > 2 * still.sum()
    assert moving.mean() < 0.25


def test_the_gate_sees_what_compositing_shows(neutral_images):
    gate, model = Seeing(), Dropping()
    crop_augmenter(model, gate=gate)([neutral_images[0]], [HAPPY])
    faces, synthetic = gate.seen
    made = model.synthesize(faces, torch.tensor([int(Expression.HAPPY)]), torch.ones(1))
    assert torch.equal(synthetic, masked(made).render(faces))
    assert (synthetic - faces).abs().max() > 0.1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nan", "not_finite"),
        ("infinite", "not_finite"),
        ("pixels", "out_of_range"),
        ("matte", "out_of_range"),
        ("still", "unchanged"),
    ],
)
def test_one_broken_map_is_told_and_does_not_spoil_its_batch(kind, reason, neutral_images):
    augmenter = crop_augmenter(Dropping(kind), batch_size=8, gate=Seeing())
    sad = SynthesisRequest(Expression.SAD)
    outcomes = augmenter(neutral_images[:4], [HAPPY, sad, HAPPY, sad])
    assert [o.reason for o in outcomes] == ["", reason, "", reason]
    (alone,) = crop_augmenter(Dropping())([neutral_images[2]], [HAPPY])
    assert np.array_equal(outcomes[2].image, alone.image)
    assert outcomes[1].image is neutral_images[1]


def test_clips_follow_the_onset(neutral_images):
    image = neutral_images[0]
    augmenter = crop_augmenter(Dropping())
    clip = augmenter.clip(image, "neutral", "happy", 5)
    curve = onset(torch.zeros(1, 2), 5)[0].tolist()
    assert np.array_equal(clip[0].transpose(1, 2, 0), image)
    (last,) = augmenter([image], [HAPPY])
    assert np.array_equal(clip[-1].transpose(1, 2, 0), last.image)
    (half,) = augmenter([image], [SynthesisRequest(Expression.HAPPY, curve[2])])
    difference = np.abs(clip[2].transpose(1, 2, 0).astype(int) - half.image)
    assert difference.mean() < 0.2, "requests are in whole percent"
    assert np.abs(clip[2] - clip[1].astype(int)).mean() > 0.5


def test_grey_images_and_small_ones(neutral_images):
    augmenter = crop_augmenter(Dropping())
    for side in (16, 48):
        small = Image.fromarray(neutral_images[1]).convert("L").resize((side, side))
        (outcome,) = augmenter([np.array(small)], [HAPPY])
        assert outcome.image.shape == (side, side)
        assert outcome.target is Expression.HAPPY
        assert (outcome.image != np.array(small)).mean() > 0.1


def test_the_same_bytes_in_any_batch_and_from_the_cache(neutral_images, tmp_path):
    images = [*neutral_images[:3], neutral_images[3][:200], neutral_images[4][:, 50:]]
    together = crop_augmenter(Dropping(), batch_size=8)(images, [HAPPY] * 5)
    cached = ExpressionAugmenter(
        Dropping(), alignment=CropDetector(), check_landmarks=False, cache=tmp_path, batch_size=2
    )
    first = cached(images, [HAPPY] * 5)
    again = cached(images, [HAPPY] * 5)
    assert [o.cached for o in again] == [True] * 5
    for image, *outcomes in zip(images, together, first, again, strict=True):
        (alone,) = crop_augmenter(Dropping())([image], [HAPPY])
        assert all(np.array_equal(o.image, alone.image) for o in outcomes)
