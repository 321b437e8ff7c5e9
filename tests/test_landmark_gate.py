"""Landmarks on the result must agree with what was asked."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from expraug import ExpressionAugmenter, SynthesisRequest
from expraug.expressions import Expression
from expraug.faces import CropDetector, LandmarkDetector
from expraug.faces.align import align_image
from expraug.gate import AllGates, ExpressionGate
from expraug.landmark_gate import LandmarkGate, with_landmark_check
from expraug.networks.fer_classifier import load_fer_classifier

SAD = SynthesisRequest(Expression.SAD)


@pytest.fixture
def tilted(happy_images):
    """Smiling crops, tilted by 30 degrees to either side."""
    return [
        np.array(Image.fromarray(image).rotate(angle, Image.Resampling.BICUBIC))
        for image in happy_images[:4]
        for angle in (-30, 30)
    ]


def happiness(image):
    """Return the probability of a smile that the FER classifier sees in an upright view."""
    (face,) = LandmarkDetector("crop")([image])
    upright = align_image(image, face.points, 128)[None] / 255
    classifier = load_fer_classifier()
    column = classifier.expressions.index(Expression.HAPPY)
    return float(classifier.probabilities(upright)[0, column])


def test_tilted_smiles_under_sad_show_it_or_keep_their_label(tilted):
    augmenter = ExpressionAugmenter("unet_cgan")
    outcomes = augmenter(tilted, [SAD] * len(tilted))
    pairs = zip(outcomes, tilted, strict=True)
    used = [(o.image, image) for o, image in pairs if o.target is not None]
    assert len(used) >= len(tilted) // 2  # aligned by landmarks, most are good
    for made, source in used:
        assert happiness(made) < 0.5 * happiness(source)
    left = [o.reason for o in outcomes if o.target is None]
    assert set(left) <= {"landmarks_disagree"}
    assert augmenter.stats["landmarks_disagree"] == len(left)


def test_a_grin_kept_on_a_badly_aligned_face_is_refused(tilted):
    unchecked = ExpressionAugmenter("unet_cgan", alignment=CropDetector(), check_landmarks=False)
    checked = ExpressionAugmenter("unet_cgan", alignment=CropDetector())
    before = unchecked(tilted, [SAD] * len(tilted))
    after = checked(tilted, [SAD] * len(tilted))
    assert all(o.target is Expression.SAD for o in before)
    refused = [o for o in after if o.reason == "landmarks_disagree"]
    assert len(refused) >= len(tilted) // 2
    assert all(o.target is None for o in refused)


def test_what_moves_as_asked_passes(happy_images, neutral_images):
    augmenter = ExpressionAugmenter("transfer")
    assert "landmarks" in augmenter.fingerprint.gate
    for images, targets in ((happy_images, ("sad", "angry", "neutral")),
                            (neutral_images, ("happy", "surprise", "disgust"))):  # fmt: skip
        for target in targets:
            augmenter(images[:5], [SynthesisRequest(target)] * 5)
    assert augmenter.stats["made"] >= 26
    assert sum(augmenter.stats[k] for k in ("made", "landmarks_disagree", "exaggerated")) == 30


def test_a_face_that_is_gone_or_the_same_is_refused(happy_images):
    gate = LandmarkGate()
    face = torch.from_numpy(happy_images[3]).permute(2, 0, 1)[None] / 255  # a broad smile
    sad = torch.tensor([int(Expression.SAD)])
    gone = {k: float(v) for k, v in gate.score(face, torch.zeros_like(face), sad).items()}
    assert gate.rejection(gone) == "landmarks_disagree"
    same = {k: float(v) for k, v in gate.score(face, face, sad).items()}
    assert same["landmarks_rise"] == 0
    assert gate.rejection(same) == "landmarks_disagree"
    nothing = gate.score(torch.zeros_like(face), face, sad)  # to compare with
    assert gate.rejection({k: float(v) for k, v in nothing.items()}) == ""


def test_what_goes_further_than_real_faces_is_exaggerated(happy_images, neutral_images):
    gate = LandmarkGate()
    scores = {"landmarks_kept": 0.1, "landmarks_rise": 3.0}
    assert gate.rejection(scores | {"landmarks_beyond": -0.2}) == ""
    assert gate.rejection(scores | {"landmarks_beyond": 0.2}) == "exaggerated"
    assert LandmarkGate(most_beyond=0.5).rejection(scores | {"landmarks_beyond": 0.2}) == ""
    before, after = (
        torch.from_numpy(images[0]).permute(2, 0, 1)[None] / 255
        for images in (neutral_images, happy_images)
    )
    real = gate.score(before, after, torch.tensor([int(Expression.HAPPY)]))
    assert -2 < float(real["landmarks_beyond"]) < 0


def test_scores_do_not_depend_on_the_batch(happy_images, neutral_images):
    faces, made = (
        torch.from_numpy(np.stack(images[:3])).permute(0, 3, 1, 2) / 255
        for images in (neutral_images, happy_images)
    )
    target = torch.full((3,), int(Expression.HAPPY))
    gate = pickle.loads(pickle.dumps(LandmarkGate()))
    together = gate.score(faces, made, target)
    assert all(
        gate.rejection({k: float(v[i]) for k, v in together.items()}) == "" for i in range(3)
    )
    for i in range(3):
        alone = gate.score(faces[i : i + 1], made[i : i + 1], target[i : i + 1])
        assert all(torch.equal(alone[k][0], together[k][i]) for k in together)


def test_the_check_is_on_unless_switched_off():
    assert isinstance(with_landmark_check(None, True), LandmarkGate)
    assert with_landmark_check(None, False) is None
    own = ExpressionGate(load_fer_classifier())
    both = with_landmark_check(own, True)
    assert isinstance(both, AllGates)
    assert both.gates[0] is own
    assert with_landmark_check(both, True) is both
    assert with_landmark_check(own, False) is own
    assert ExpressionAugmenter("pixel", check_landmarks=False).gate is None
    assert isinstance(ExpressionAugmenter("pixel").gate, LandmarkGate)


def test_pickles_small_and_the_same_before_and_after_use(happy_images):
    gate = LandmarkGate()
    before = pickle.dumps(gate)
    face = torch.from_numpy(happy_images[0]).permute(2, 0, 1)[None] / 255
    gate.score(face, face, torch.tensor([int(Expression.SAD)]))
    assert pickle.dumps(gate) == before
    assert len(before) < 1000


def test_a_source_of_several_requests_is_read_once(happy_images, neutral_images, monkeypatch):
    gate = LandmarkGate()
    images = [*happy_images[:2], *neutral_images[:2]]
    found = LandmarkDetector()(images)
    aligned = [
        align_image(i, f.points, 128)[None] / 255 for i, f in zip(images, found, strict=True)
    ]
    target = torch.tensor([int(Expression.SAD)])
    read = []
    original = LandmarkGate._read
    monkeypatch.setattr(
        LandmarkGate, "_read", lambda self, faces: read.append(len(faces)) or original(self, faces)
    )
    for made in aligned[2:]:
        told = gate.score(aligned[0], made, target)
        again = gate.score(aligned[0].clone(), made, target)
        alone = LandmarkGate().score(aligned[0], made, target)
        assert told == again == alone
    assert len(read) == 1 + 4 + 4, "its source once, then what was made of it each time"
    gate.score(aligned[1], aligned[2], target)
    assert len(read) == 11, "another source is read"
    read.clear()
    sources, made = torch.cat([*aligned[1:3], aligned[1]]), torch.cat([aligned[3]] * 3)
    told = LandmarkGate().score(sources, made, target.expand(3))
    assert read == [2, 3], "of a batch, too"
    for name, scores in told.items():
        alone = LandmarkGate().score(aligned[2], aligned[3], target)[name]
        assert torch.allclose(scores[1:2], alone, atol=1e-6)
        assert scores[0] == scores[2]
