import pickle

import numpy as np
import pytest
import torch
from crop_augmenter import MeanFaceDetector
from hypothesis import given, settings
from hypothesis import strategies as st

from expraug import (
    Expression,
    ExpressionAugmenter,
    LabelScheme,
    Matrix,
    SynthesisRequest,
    Synthesizer,
    Uniform,
)
from expraug.cache import SynthesisCache
from expraug.errors import CacheMissError, MissingWeightsError, UnsupportedExpressionError
from expraug.faces import CropDetector

NEUTRAL, HAPPY = Expression.NEUTRAL, Expression.HAPPY


class FakeGate:
    """Scores by brightness, so that a test knows who passes."""

    fingerprint = "fake"

    def score(self, faces, synthetic, target):
        return {"identity": faces.mean(dim=(1, 2, 3))}

    def rejection(self, scores):
        return "" if scores["identity"] > 0.5 else "identity_lost"


def test_a_neutral_face_becomes_happy(neutral_images):
    augmenter = ExpressionAugmenter(alignment="detect")
    outcomes = augmenter(
        neutral_images[:3], [SynthesisRequest(HAPPY), None, SynthesisRequest(HAPPY, 0.5)]
    )
    assert [o.target for o in outcomes] == [HAPPY, None, HAPPY]
    assert outcomes[1].image is neutral_images[1]
    assert outcomes[1].reason == "not_asked"
    change = np.abs(outcomes[0].image.astype(int) - neutral_images[0])
    half = np.abs(outcomes[2].image.astype(int) - neutral_images[2])
    assert change.max() > 40
    assert 0 < half.mean() < change.mean()
    assert not change[:20, :40].any(), "the background must stay"
    assert not change[:, :20].any()
    assert augmenter.stats == {"made": 2}


@pytest.mark.parametrize("size", [48, 112, 256])
@pytest.mark.parametrize("grey", [False, True])
def test_crops_of_any_size(neutral_images, size, grey):
    face = torch.from_numpy(neutral_images[0]).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(face, (size, size), mode="area")[0]
    image = small.permute(1, 2, 0).round().to(torch.uint8).numpy()
    image = image.mean(axis=2).astype(np.uint8) if grey else image
    (outcome,) = ExpressionAugmenter()([image], [SynthesisRequest(HAPPY)])
    assert outcome.image.shape == image.shape
    assert outcome.image.dtype == np.uint8
    assert not np.array_equal(outcome.image, image)


@pytest.mark.parametrize("store", ["lmdb", "directory"])
def test_the_same_face_alone_in_a_batch_and_from_the_cache(neutral_images, tmp_path, store):
    grey = neutral_images[2][:, :, 0]
    images = [*neutral_images[:4], grey, neutral_images[0][:200]]
    requests = [SynthesisRequest(HAPPY, level / 100) for level in (100, 40, 100, 75, 100, 60)]
    fresh = ExpressionAugmenter(alignment="detect")
    SynthesisCache(tmp_path, store).info()  # makes it
    cached = ExpressionAugmenter(alignment="detect", cache=tmp_path)
    assert cached.cache.store == store
    together = [o.image for o in cached(images, requests)]
    for image, request, expected in zip(images, requests, together, strict=True):
        assert np.array_equal(fresh([image], [request])[0].image, expected)
    again = cached(images, requests)
    assert all(o.cached for o in again)
    assert all(np.array_equal(o.image, e) for o, e in zip(again, together, strict=True))
    assert cached.stats == {"made": 6, "cached": 6}


def test_lossy_caches_give_the_same_face_the_first_and_the_second_time(neutral_images, tmp_path):
    augmenter = ExpressionAugmenter(cache=SynthesisCache(tmp_path, encoding="jpeg:90"))
    first, second = (augmenter(neutral_images[:1], [SynthesisRequest(HAPPY)])[0] for _ in range(2))
    assert second.cached
    assert not first.cached
    assert np.array_equal(first.image, second.image)


def test_no_face_is_remembered(tmp_path):
    nothing = np.full((100, 100, 3), 128, np.uint8)
    augmenter = ExpressionAugmenter(alignment="detect", cache=tmp_path)
    for _ in range(2):
        (outcome,) = augmenter([nothing], [SynthesisRequest(HAPPY)])
        assert outcome.reason == "no_face"
        assert outcome.image is nothing
    assert outcome.cached


def test_the_gate_decides_when_a_face_is_used(neutral_images, tmp_path):
    dark, bright = neutral_images[0] // 4, np.maximum(neutral_images[1], 200)
    augmenter = ExpressionAugmenter(
        "pixel",
        alignment=MeanFaceDetector(),
        gate=FakeGate(),
        check_landmarks=False,
        cache=tmp_path,
    )
    for cached in (False, True):
        rejected, passed = augmenter([dark, bright], [SynthesisRequest(HAPPY)] * 2)
        assert rejected.reason == "identity_lost"
        assert rejected.image is dark
        assert passed.target is HAPPY
        assert passed.scores["identity"] > 0.5 > rejected.scores["identity"]
        assert passed.cached is cached


def test_on_miss(neutral_images, tmp_path):
    image, request = neutral_images[0], SynthesisRequest(HAPPY)
    keep = ExpressionAugmenter(cache=tmp_path, on_miss="keep")
    assert keep([image], [request])[0].reason == "not_cached"
    error = ExpressionAugmenter(cache=tmp_path, on_miss="error")
    with pytest.raises(CacheMissError, match="warm"):
        error([image], [request])
    ExpressionAugmenter(cache=tmp_path)([image], [request])
    assert keep([image], [request])[0].cached
    assert error([image], [request])[0].cached


def test_cuda_in_a_worker_names_the_two_ways_out(neutral_images, monkeypatch):
    augmenter = ExpressionAugmenter()
    augmenter.device = torch.device("cuda")
    monkeypatch.setattr("expraug.pipeline.lookup.get_worker_info", lambda: object())
    with pytest.raises(CacheMissError, match=r"warm the cache.*whole batches"):
        augmenter(neutral_images[:1], [SynthesisRequest(HAPPY)])


def test_another_setting_is_another_face(neutral_images, tmp_path):
    image, request = neutral_images[0], SynthesisRequest(HAPPY)
    ExpressionAugmenter("pixel", cache=tmp_path)([image], [request])
    others = [
        ExpressionAugmenter("transfer", cache=tmp_path),
        ExpressionAugmenter("pixel", cache=tmp_path, alignment="detect"),
        ExpressionAugmenter("pixel", cache=tmp_path, alignment=MeanFaceDetector()),
        ExpressionAugmenter(
            "pixel", cache=tmp_path, alignment=MeanFaceDetector(CropDetector().points * 0.9)
        ),
        ExpressionAugmenter("pixel", cache=tmp_path, gate=FakeGate()),
        ExpressionAugmenter("pixel", cache=tmp_path, check_landmarks=False),
    ]
    assert not any(a([image], [request])[0].cached for a in others)
    assert ExpressionAugmenter("pixel", cache=tmp_path)([image], [request])[0].cached


_AUGMENTER = ExpressionAugmenter("pixel")


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16), st.floats(0, 1, exclude_max=True))
def test_a_sampled_request_is_one_of_the_images_menu(digest, uniform):
    menu = _AUGMENTER.menu(digest, NEUTRAL)
    assert _AUGMENTER.sample_request(digest, NEUTRAL, uniform) == menu[int(uniform * 4)]
    assert _AUGMENTER.sample_request(digest, None, uniform) is None


def test_a_menu_follows_policy_and_settings():
    policy = Matrix({"neutral": {"happy": 0.5}})
    augmenter = ExpressionAugmenter("pixel", policy=policy, intensity=(0.5, 1), per_image=6)
    menu = augmenter.menu(bytes(16), NEUTRAL)
    assert len(menu) == 6
    assert sum(request is None for request in menu) == 3
    assert {r for r in menu if r} == {SynthesisRequest(HAPPY, i) for i in (0.5, 0.75, 1)}
    assert augmenter.menu(bytes(16), HAPPY) == (None,) * 6
    other = ExpressionAugmenter("pixel", intensity=(0.5, 1), per_image=6, seed=1)
    same = ExpressionAugmenter("pixel", intensity=(0.5, 1), per_image=6, seed=1)
    assert other.menu(bytes(16), NEUTRAL) == same.menu(bytes(16), NEUTRAL)
    assert other.menu(bytes(16), NEUTRAL) != menu


def test_repr_shows_the_settings():
    shown = repr(ExpressionAugmenter("pixel", per_image=3, alignment="crop"))
    assert "'pixel'" in shown
    assert "per_image=3" in shown


def test_to_moves_detector_and_synthesizer():
    augmenter = ExpressionAugmenter("pixel", alignment="detect")
    assert augmenter.to("meta") is augmenter
    assert augmenter.device.type == augmenter.detector.device.type == "meta"


def test_pickles_small_and_goes_on(neutral_images, tmp_path):
    augmenter = ExpressionAugmenter(cache=tmp_path)
    expected = augmenter(neutral_images[:1], [SynthesisRequest(HAPPY)])[0].image
    packed = pickle.dumps(augmenter)
    assert len(packed) < 5000
    again = pickle.loads(packed)
    assert again(neutral_images[:1], [SynthesisRequest(HAPPY)])[0].cached
    other = [a(neutral_images[1:2], [SynthesisRequest(HAPPY)])[0].image for a in (again, augmenter)]
    assert np.array_equal(*other)
    assert np.array_equal(expected, again(neutral_images[:1], [SynthesisRequest(HAPPY)])[0].image)


def test_impossible_requests(neutral_images, smile):
    augmenter = ExpressionAugmenter(smile)
    with pytest.raises(UnsupportedExpressionError, match="cannot make sad"):
        augmenter.require([Expression.SAD])
    with pytest.raises(UnsupportedExpressionError, match="cannot make sad"):
        augmenter(neutral_images[:1], [SynthesisRequest(Expression.SAD)])
    with pytest.raises(MissingWeightsError):
        ExpressionAugmenter("no-such-thing")
    for wrong in (
        {"intensity": (0, 1)},
        {"on_miss": "skip"},
        {"gate": "strict"},
        {"alignment": "x"},
        {"per_image": 0},
        {"intensity": 0.8},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ExpressionAugmenter(**wrong)


def test_a_synthesizer_object_works_too(neutral_images):
    class Brighter(Synthesizer):
        name = "brighter"
        expressions = (HAPPY,)
        image_size = 64

        def forward(self, faces, target, intensity):
            return (faces + 0.2 * intensity.view(-1, 1, 1, 1)).clamp(0, 1)

    # light is no smile, which the check would say
    settings = {"policy": Uniform(["happy"]), "check_landmarks": False}
    augmenter = ExpressionAugmenter(Brighter(), **settings)
    (outcome,) = augmenter([neutral_images[0] // 2], [SynthesisRequest(HAPPY)])
    centre = outcome.image[120:140, 120:140].astype(int) - neutral_images[0][120:140, 120:140] // 2
    assert np.abs(centre - 51).max() <= 1


def test_a_menu_within_the_classes_of_a_data_set():
    scheme = LabelScheme.from_classes(["happy", "neutral", "sad"])
    asked = [_AUGMENTER.menu(i.to_bytes(16, "big"), NEUTRAL, scheme) for i in range(50)]
    assert {r.target for menu in asked for r in menu} == {HAPPY, Expression.SAD}
    everything = [_AUGMENTER.menu(i.to_bytes(16, "big"), NEUTRAL) for i in range(50)]
    assert len({r.target for menu in everything for r in menu}) == 7
