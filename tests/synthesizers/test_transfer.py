import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer
from expraug.cache import SynthesisCache
from expraug.errors import UnsupportedExpressionError
from expraug.faces import CropDetector, LandmarkDetector, align, similarity
from expraug.networks.onset import onset
from expraug.pipeline.memo import MemoizedDetector

HAPPY, SURPRISE = Expression.HAPPY, Expression.SURPRISE


@pytest.fixture
def aligned(neutral_images):
    """Four aligned faces, (4, 3, 128, 128) float in [0, 1]."""
    faces = []
    for image, location in zip(
        neutral_images[:4], LandmarkDetector()(neutral_images[:4]), strict=True
    ):
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        matrix = similarity(location.points[None].astype(np.float64))
        faces.append((align(pixels, matrix, 128)[0] * 255).round() / 255)
    return torch.stack(faces)


@pytest.fixture
def counted(monkeypatch):
    """The images that landmarks were looked for in."""
    images = []
    batch = LandmarkDetector._batch

    def counting(self, given, most):
        images.extend(given)
        return batch(self, given, most)

    monkeypatch.setattr(LandmarkDetector, "_batch", counting)
    return images


def full(count, target):
    return torch.full((count,), int(target)), torch.ones(count)


def test_accepts_any_source(transfer):
    assert transfer.expressions == tuple(Expression)
    assert transfer.supports(None, HAPPY)
    assert transfer.supports(Expression.ANGRY, Expression.NEUTRAL)
    assert not transfer.supports(HAPPY, HAPPY)


def test_every_expression_changes_the_face_in_its_own_way(transfer, aligned):
    made = torch.stack([transfer(aligned, *full(4, e)) for e in Expression])
    for i in range(len(Expression)):
        least = 0.002 if Expression(i) is Expression.NEUTRAL else 0.01
        assert (made[i] - aligned).abs().mean() > least
        for j in range(i):
            assert (made[i] - made[j]).abs().mean() > 0.01


def test_surprise_opens_the_mouth_and_happy_smiles(transfer, aligned):
    locate = LandmarkDetector("crop")

    def scores(faces):
        pixels = (faces.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
        return np.stack([location.blendshapes for location in locate(list(pixels))])

    before = scores(aligned)
    surprised, happy = (
        np.mean(
            [
                scores(transfer(aligned, *full(4, e), variant=torch.full((4,), v)))
                for v in range(6)  # not every surprised mouth is wide open
            ],
            axis=0,
        )
        for e in (SURPRISE, HAPPY)
    )
    assert (surprised[:, 25] > before[:, 25] + 0.15).all()  # jawOpen
    assert (happy[:, 44:46] > before[:, 44:46] + 0.3).all()  # mouthSmile


@pytest.mark.parametrize("target", list(Expression))
def test_change_grows_with_intensity(transfer, aligned, target):
    wanted, _ = full(4, target)
    changes = [
        (transfer(aligned, wanted, torch.full((4,), t)) - aligned).abs().mean((1, 2, 3))
        for t in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert torch.equal(changes[0], torch.zeros(4))
    assert all((more > less).all() for less, more in itertools.pairwise(changes))


def test_a_face_does_not_depend_on_its_batch(transfer, aligned):
    _, found = transfer._finder(aligned)
    faces = aligned.repeat(10, 1, 1, 1)
    found = {name: value.repeat(10, *[1] * (value.ndim - 1)) for name, value in found.items()}
    target, intensity = torch.arange(40) % 8, torch.linspace(0.3, 1, 40)
    variant = torch.arange(40) % transfer.variants
    together = transfer(faces, target, intensity, variant=variant, **found)
    for start, count in ((0, 1), (13, 1), (39, 1), (3, 2), (12, 3), (20, 5)):
        part = slice(start, start + count)
        apart = transfer(
            faces[part],
            target[part],
            intensity[part],
            variant=variant[part],
            **{name: value[part] for name, value in found.items()},
        )
        assert torch.equal(apart, together[part])


def test_faces_without_landmarks_stay(transfer, aligned):
    faces = aligned.clone()
    faces[1] = 0.5
    made = transfer(faces, *full(4, HAPPY))
    assert torch.equal(made[1], faces[1])
    assert all(not torch.equal(made[i], faces[i]) for i in (0, 2, 3))
    assert torch.equal(transfer(faces[1:2], *full(1, HAPPY)), faces[1:2])


def test_clip_looks_for_landmarks_once(transfer, aligned, counted):
    fresh = copy.deepcopy(transfer)
    clip = fresh.clip(aligned[:2], torch.tensor([1, 3]), frames=3)
    assert len(counted) == 2
    assert clip.shape == (2, 3, 3, 128, 128)
    assert torch.equal(clip[:, 0], aligned[:2])
    middle = onset(torch.zeros(1, 2), 3)[0, 1].expand(2)
    assert torch.equal(clip[:, 1], fresh(aligned[:2], torch.tensor([1, 3]), middle))
    assert len(counted) == 2


def test_variants_differ(transfer, aligned):
    assert transfer.variants >= 2
    for target in Expression:
        first, second = (
            transfer(aligned, *full(4, target), variant=torch.full((4,), v)) for v in (0, 1)
        )
        assert not torch.equal(first, second)


def test_grey_stays_grey(transfer, aligned, neutral_images):
    grey = aligned.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    made = transfer(grey, *full(4, SURPRISE))
    assert torch.allclose(made[:, :1].expand_as(made), made, atol=1e-5)
    image = neutral_images[0].mean(axis=2).astype(np.uint8)
    small = np.array(Image.fromarray(image[40:216, 40:216]).resize((48, 48)))
    for outcome in ExpressionAugmenter(transfer)([image, small], [SynthesisRequest(SURPRISE)] * 2):
        assert outcome.target is SURPRISE
        assert outcome.image.ndim == 2


def test_the_background_stays(neutral_images):
    augmenter = ExpressionAugmenter("transfer", alignment="detect", check_landmarks=False)
    image = np.pad(neutral_images[0], ((64, 64), (64, 64), (0, 0)), mode="edge")
    for outcome in augmenter([image] * 8, [SynthesisRequest(e) for e in Expression]):
        changed = (outcome.image != image).any(axis=2)
        assert changed[124:264, 144:244].any()
        changed[40:-40, 60:-60] = False  # the head, with hair and neck, and what moves along
        assert not changed.any()


def test_alone_in_a_batch_and_from_the_cache(neutral_images, tmp_path, counted):
    crop = np.array(
        Image.fromarray(neutral_images[4][30:226, 30:226]).convert("L").resize((48, 48))
    )
    images = [*neutral_images[:3], neutral_images[0], crop]
    requests = [
        SynthesisRequest(HAPPY),
        SynthesisRequest(SURPRISE, 0.6, 1),
        SynthesisRequest(Expression.SAD),
        SynthesisRequest(SURPRISE),
        SynthesisRequest(HAPPY),
    ]
    cached = ExpressionAugmenter("transfer", cache=tmp_path, check_landmarks=False)
    together = [o.image for o in cached(images, requests)]
    assert len(counted) == 4  # the face of an image that comes twice is looked for once
    assert all(o.cached for o in cached(images, requests))
    fresh = ExpressionAugmenter("transfer", check_landmarks=False)
    for image, request, expected in zip(images, requests, together, strict=True):
        assert np.array_equal(fresh([image], [request])[0].image, expected)
    del counted[:]
    # other requests of the same images: the cache knows the landmarks, also in another process
    other = [SynthesisRequest(Expression.ANGRY)] * 5
    again = pickle.loads(pickle.dumps(cached))(images, other)
    assert not counted
    for image, outcome in zip(images, again, strict=True):
        assert np.array_equal(fresh([image], other[:1])[0].image, outcome.image)


def test_detectors_without_landmarks_are_refused(transfer, neutral_images):
    with pytest.raises(ValueError, match="needs landmarks, which CropDetector"):
        ExpressionAugmenter(transfer, alignment=CropDetector())
    with pytest.raises(ValueError, match="needs landmarks, which MemoizedDetector"):
        ExpressionAugmenter(transfer, alignment=MemoizedDetector(CropDetector()))
    augmenter = ExpressionAugmenter(transfer, alignment=MemoizedDetector(LandmarkDetector()))
    assert augmenter(neutral_images[:1], [SynthesisRequest(HAPPY)])[0].target is HAPPY


def test_no_face_is_remembered(transfer, tmp_path, counted):
    nothing = np.full((90, 90, 3), 128, np.uint8)
    augmenter = ExpressionAugmenter(transfer, cache=SynthesisCache(tmp_path))
    for target in (HAPPY, SURPRISE):
        assert augmenter([nothing], [SynthesisRequest(target)])[0].reason == "no_face"
    assert len(counted) == 1


def test_pickles_and_goes_on(transfer, aligned):
    expected = transfer(aligned, *full(4, HAPPY))
    assert torch.equal(pickle.loads(pickle.dumps(transfer))(aligned, *full(4, HAPPY)), expected)


def test_unknown_target(transfer):
    few = create_synthesizer(
        "transfer", pretrained=False, rows={"happy": 1}, triangles=1, samples=1, texels=1
    )
    assert few.variants == 2, "an exemplar and its mirror image"
    with pytest.raises(UnsupportedExpressionError, match="cannot make sad; it can make happy"):
        few(torch.zeros(1, 3, 128, 128), *full(1, Expression.SAD))
