"""Real pipelines, on albumentations 2.0.8 or AlbumentationsX, whichever is found first."""

import doctest
import importlib
import inspect
import json
import os
import sys

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no network while testing
os.environ.setdefault("ALBUMENTATIONS_OFFLINE", "1")

import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter, unchecked

from expraug import Expression, ExpressionAugmenter, LabelScheme, SynthesisRequest
from expraug.errors import (
    CacheMissError,
    LabelError,
    MissingDependencyError,
    MissingWeightsError,
    UnsupportedExpressionError,
)
from expraug.labels import LABEL_KEYS
from expraug.transforms import AUGMENTER_DEFAULTS, torchvision, video

A = pytest.importorskip("albumentations")
door = importlib.import_module("expraug.transforms.albumentations")
RandomExpression = door.RandomExpression

CLASSES = ["happy", "neutral"]
HAPPY, NEUTRAL = range(2)
SAD = 4  # in fer2013
SUCCESSOR = int(A.__version__.split(".")[1]) >= 1


# -- image and label


@pytest.mark.parametrize("order", [("image", "label"), ("label", "image")])
def test_image_and_label_change_together(face, happy_face, order):
    pipeline = A.Compose([RandomExpression(CLASSES, p=1)], seed=0)
    for image, label, expected in ((face, NEUTRAL, HAPPY), (happy_face, HAPPY, NEUTRAL)):
        before = image.copy()
        data = {"image": image, "label": label}
        out = pipeline(**{key: data[key] for key in order})
        assert list(out) == list(order)
        assert out["label"] == expected
        assert out["image"].shape == image.shape
        assert out["image"].dtype == np.uint8
        assert out["image"].flags.writeable
        assert not np.array_equal(out["image"], image)
        assert np.array_equal(image, before)


def test_what_is_asked_for_is_what_the_augmenter_makes(face):
    transform = RandomExpression(CLASSES, "pixel", intensity=(0.7, 0.7), p=1, **unchecked())
    request = SynthesisRequest(Expression.HAPPY, 0.7)
    (expected,) = crop_augmenter("pixel")([face], [request])
    assert np.array_equal(transform(image=face, label=NEUTRAL)["image"], expected.image)


def test_p_of_1_changes_every_face_of_which_anything_can_be_made(face, happy_face):
    pipeline = A.Compose([RandomExpression(CLASSES, "pixel", p=1, **unchecked())])
    for _ in range(10):
        assert pipeline(image=face, label=NEUTRAL)["label"] == HAPPY
        assert pipeline(image=happy_face, label=HAPPY)["label"] == NEUTRAL


def test_only_the_menu_is_asked_for(face):
    transform = RandomExpression("fer2013", "pixel", p=1, per_image=3, **unchecked())
    seen = {transform(image=face, label=6)["image"].tobytes() for _ in range(40)}
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("scheme", "label", "expected"),
    [
        (CLASSES, 1, 0),
        (CLASSES, np.int64(1), np.int64(0)),
        (CLASSES, np.uint8(1), np.uint8(0)),
        (CLASSES, np.array(1, np.int32), np.array(0, np.int32)),
        (CLASSES, torch.tensor(1), torch.tensor(0)),
        (CLASSES, "neutral", "happy"),
        ("fer2013", 6, 3),
        ("kdef", "NE", "HA"),
        ({"smile": "happy", "bored": None, "blank": "neutral"}, "blank", "smile"),
        (LabelScheme.named("raf-db", first_index=1), 7, 4),
        (CLASSES, [0, 1], [1, 0]),
        (CLASSES, [0.1, 0.9], [1.0, 0.0]),
        (CLASSES, np.array([0.2, 0.8], np.float32), np.array([1, 0], np.float32)),
        (CLASSES, torch.tensor([0, 1]), torch.tensor([1, 0])),
    ],
)
def test_labels_keep_their_kind(face, smile, scheme, label, expected):
    transform = RandomExpression(scheme, synthesizer=smile, p=1, **unchecked())
    out = A.Compose([transform])(image=face, label=label)["label"]
    assert np.array_equal(out, expected)
    assert type(out) is type(expected)
    assert getattr(out, "dtype", None) == getattr(expected, "dtype", None)


def test_label_key(face):
    pipeline = A.Compose([RandomExpression(CLASSES, label_key="emotion", p=1)], strict=True)
    assert pipeline(emotion=NEUTRAL, image=face)["emotion"] == HAPPY
    with pytest.raises(LabelError, match="'emotion' is missing"):
        RandomExpression(CLASSES, label_key="emotion", p=1)(image=face, label=NEUTRAL)


@pytest.mark.parametrize("key", LABEL_KEYS)
def test_usual_names_of_the_label_need_no_key(face, key):
    pipeline = A.Compose([RandomExpression(CLASSES, p=1), A.HorizontalFlip()], strict=True)
    out = pipeline(**{"image": face, key: NEUTRAL})
    assert out[key] == HAPPY
    assert set(out) == {"image", key}


def test_strict_compose_knows_the_label(face):
    transform = RandomExpression(CLASSES, p=1)
    assert transform.available_keys == {"image", *LABEL_KEYS}
    assert RandomExpression(CLASSES, label_key="y").available_keys == {"image", "y"}
    pipeline = A.Compose([transform, A.HorizontalFlip(p=1)], strict=True)
    assert pipeline(image=face, label=NEUTRAL)["label"] == HAPPY


def test_other_targets_pass_through(face):
    mask = np.eye(64, dtype=np.uint8)
    out = A.Compose([RandomExpression(CLASSES, p=1)])(
        image=face, mask=mask, label=NEUTRAL, name="x"
    )
    assert out["label"] == HAPPY
    assert out["name"] == "x"
    assert np.array_equal(out["mask"], mask)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1), (64, 64, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_grey_and_float_images(face, shape, dtype):
    image = face if shape[-1] == 3 else face[..., :1].reshape(shape)
    # one request per image: the two transforms do not share their random numbers
    arguments = {"intensity": (1, 1), "per_image": 1, "p": 1, "check_landmarks": False}
    reference = RandomExpression(CLASSES, **arguments)(image=image, label=NEUTRAL)
    if dtype is np.float32:
        image = image.astype(np.float32) / 255
    out = A.Compose([RandomExpression(CLASSES, **arguments)])(image=image, label=NEUTRAL)
    assert out["label"] == HAPPY
    assert out["image"].shape == shape
    assert out["image"].dtype == dtype
    made = out["image"] * 255 if dtype is np.float32 else out["image"]
    assert np.allclose(made, reference["image"], atol=0.01)
    assert not np.array_equal(out["image"], image)


def test_a_float_image_keeps_its_precision_where_nothing_changes(face):
    image = np.clip(face / 255 + 1e-3, 0, 1).astype(np.float32)
    out = RandomExpression(CLASSES, p=1)(image=image, label=NEUTRAL)["image"]
    unchanged = out == image
    assert 0.1 < unchanged.mean() < 0.9
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.skipif(not SUCCESSOR, reason="albumentations 2.0.8 takes no tensors as images")
def test_tensor_images(face):
    transform = RandomExpression(CLASSES, intensity=(1, 1), per_image=1, p=1, check_landmarks=False)
    tensor = torch.from_numpy(face).permute(2, 0, 1).contiguous()
    out = A.Compose([transform])(image=tensor, label=NEUTRAL)
    assert out["label"] == HAPPY
    expected = transform(image=face, label=NEUTRAL)["image"]
    assert np.array_equal(out["image"].permute(1, 2, 0).numpy(), expected)


# -- neither image nor label


class RejectAll:
    fingerprint = "reject-all"

    def score(self, before, after, target):
        return {"x": torch.zeros(len(after))}

    def rejection(self, scores):
        return "rejected"


def untouched_cases():
    no_class = {"smile": "happy", "bored": None}
    return {
        "p=0": (RandomExpression(CLASSES, p=0), HAPPY),
        "synthesizer cannot": (RandomExpression("fer2013", "fevgan", p=1, **unchecked()), SAD),
        "no expression": (RandomExpression(no_class, p=1), 1),
        "no class for the target": (RandomExpression(no_class, p=1), 0),
        "policy": (RandomExpression(CLASSES, policy={"uniform": ["happy"]}, p=1), HAPPY),
        "policy outside scheme": (RandomExpression(no_class, policy={"uniform": None}, p=1), 0),
        "already the target": (RandomExpression(CLASSES, targets=["happy"], p=1), HAPPY),
        "soft without majority": (RandomExpression(CLASSES, p=1), [0.5, 0.5]),
        "gate": (RandomExpression(CLASSES, augmenter=ExpressionAugmenter(gate=RejectAll())), HAPPY),
        "not cached": (RandomExpression(CLASSES, on_miss="keep", p=1), HAPPY),
    }


@pytest.mark.parametrize("case", untouched_cases())
def test_both_stay_as_they_are(face, case):
    transform, label = untouched_cases()[case]
    image = face.copy()
    for _ in range(5):
        out = A.Compose([transform])(label=label, image=image, force_apply=True)
        assert np.array_equal(out["image"], face)
        assert out["label"] == label


def test_an_image_too_small_for_a_face_stays_as_it_is():
    transform = RandomExpression(CLASSES, p=1)
    out = A.Compose([transform])(image=np.full((8, 8, 3), 9, np.uint8), label=NEUTRAL)
    assert out["label"] == NEUTRAL
    assert (out["image"] == 9).all()
    assert transform.augmenter.stats == {"unreadable_image": 1}


def test_p_is_the_share_of_changed_faces(face, tmp_path):
    pipeline = A.Compose([RandomExpression(CLASSES, cache=tmp_path, p=0.3)], seed=5)
    small = face[::2, ::2].copy()
    changed = 0
    for _ in range(500):
        out = pipeline(image=small, label=NEUTRAL)
        assert (out["label"] == HAPPY) == (not np.array_equal(out["image"], small))
        changed += out["label"] == HAPPY
    assert abs(changed - 150) < 4 * np.sqrt(500 * 0.3 * 0.7)


# -- errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"targets": ["happy"], "policy": {"uniform": None}}, ValueError, "not both"),
        ({"targets": []}, ValueError, "targets is empty"),
        ({"targets": ["sad"], "scheme": "fer2013"}, UnsupportedExpressionError, "it can make"),
        ({"targets": ["sad"]}, LabelError, "no class for sad"),
        ({"targets": ["bored"]}, LabelError, "'bored' is no known expression"),
        ({"policy": {"nonsense": 1}}, ValueError, "a policy is one of"),
        ({"scheme": "mnist"}, LabelError, "no label scheme 'mnist'"),
        ({"synthesizer": "nonsense"}, MissingWeightsError, "nonsense"),
        ({"intensity": (0.0, 1.0)}, ValueError, "intensity must be"),
        ({"on_miss": "guess"}, ValueError, "on_miss must be"),
        ({"gate": "heaven"}, ValueError, "gate must be"),
        ({"p": 1.5}, ValueError, r"p must be in \[0, 1\]"),
        ({"intensity": 0.8}, ValueError, r"intensity must be \(low, high\)"),
        ({"per_image": 0}, ValueError, "per_image must be at least 1"),
        ({"targets": "happy"}, ValueError, "targets must be a list"),
        ({"device": "gpu"}, ValueError, "device must be"),
        ({"label_key": "image"}, ValueError, "label_key must name the label"),
        ({"augmenter": None, "device": "cpu", "nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_wrong_arguments(smile, arguments, error, message):
    with pytest.raises(error, match=message):
        RandomExpression(**{"scheme": CLASSES, "synthesizer": smile} | arguments)


def test_an_augmenter_brings_its_own_arguments():
    ready = ExpressionAugmenter("pixel")
    with pytest.raises(ValueError, match="brings its own intensity, check_landmarks, cache, per_"):
        RandomExpression(CLASSES, augmenter=ready, cache="x", intensity=(0.5, 1), per_image=2, p=1,
                         check_landmarks=False)  # fmt: skip
    assert RandomExpression(CLASSES, augmenter=ready, intensity=[0.6, 1]).augmenter is ready


def test_the_doors_have_one_signature():
    """The same names in the same order with the same defaults, but for what a library demands."""

    def signature(transform, own):
        parameters = inspect.signature(transform.__init__).parameters.values()
        return [(p.name, p.default, p.kind) for p in parameters if p.name not in own]

    expected = signature(torchvision.RandomExpression, {"seed", "labels_getter"})
    assert signature(RandomExpression, {"label_key"}) == expected
    clip = signature(video.RandomExpressionClip, {"frames", "seed", "labels_getter"})
    assert clip == [p for p in expected if p[0] not in ("intensity", "on_miss")]
    told = {name: default for name, default, _ in expected}
    assert AUGMENTER_DEFAULTS.items() <= told.items()


# -- the scheme


def test_without_a_scheme_a_label_has_no_meaning(face):
    transform = RandomExpression(synthesizer="pixel", p=1, check_landmarks=False)
    for label in (NEUTRAL, "neutral", [0, 1]):
        with pytest.raises(LabelError, match=r"give RandomExpression a scheme .*JointTransform"):
            A.Compose([transform])(image=face, label=label)
    spelled = RandomExpression(synthesizer="pixel", targets=["happiness"], p=1, **unchecked())
    assert A.Compose([spelled])(image=face, label="neutral")["label"] == "happiness"


def test_bind(face):
    own = LabelScheme.from_classes(CLASSES)
    transform = RandomExpression(synthesizer="pixel", p=1, check_landmarks=False)
    transform.bind(own)
    assert A.Compose([transform])(image=face, label=NEUTRAL)["label"] == HAPPY
    loaded = A.from_dict(json.loads(json.dumps(A.to_dict(A.Compose([transform]))))).transforms[0]
    assert loaded.scheme.classes == own.classes
    with pytest.raises(LabelError, match="contradicts the data set: at index 0"):
        transform.bind(LabelScheme.from_classes(CLASSES[::-1]))
    with pytest.raises(LabelError, match="'fer2013' contradicts the data set: at index 0"):
        RandomExpression("fer2013", "pixel").bind(own)
    with pytest.raises(LabelError, match="no class for sad"):
        RandomExpression(synthesizer="pixel", targets=["sad"]).bind(own)


def test_repr_tells_what_it_does(tmp_path):
    told = repr(A.Compose([RandomExpression("fer2013", "pixel", cache=tmp_path, p=0.3)]))
    for part in ("scheme='fer2013'", "p=0.3", "synthesizer='pixel'", "targets=None",
                 "alignment='crop'", "gate=None", tmp_path.name):  # fmt: skip
        assert part in told


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({}, ValueError, "'label' is missing.*label_key.*sees the image alone.*JointTransform"),
        ({"label": None}, ValueError, "'label' is missing"),
        ({"label": 7}, LabelError, "outside label scheme"),
        ({"label": "bored"}, LabelError, "outside label scheme"),
        ({"label": [1, 1]}, LabelError, "a share for each of the 2 classes"),
        ({"label": np.array([0.0, 0.4])}, LabelError, "a share for each"),
        ({"label": np.array([1])}, LabelError, "a share for each"),
        ({"label": torch.tensor([0, 4])}, LabelError, "a share for each"),
        ({"label": torch.zeros(2, 2)}, LabelError, "a class index, a class name"),
        ({"label": 1.0}, LabelError, "a class index, a class name"),
        ({"label": True}, LabelError, "a class index, a class name"),
    ],
)
def test_wrong_labels(face, data, error, message):
    before = face.copy()
    with pytest.raises(error, match=message):
        A.Compose([RandomExpression(CLASSES, p=1)])(image=face, **data)
    assert np.array_equal(face, before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64, 4), np.uint8), "grey or RGB"),
        (np.zeros((64, 64, 3), np.uint16), "uint8 or float"),
        (np.full((64, 64, 3), 200, np.float32), "before Normalize"),
        (np.full((64, 64, 3), np.nan, np.float32), "before Normalize"),
    ],
)
def test_wrong_images(image, message):
    with pytest.raises(ValueError, match=message):
        RandomExpression(CLASSES, p=1)(image=image, label=NEUTRAL)


def test_a_missing_image_is_named():
    with pytest.raises(ValueError, match="'image' is missing"):
        RandomExpression(CLASSES, p=1)(images=np.zeros((2, 64, 64, 3), np.uint8), label=NEUTRAL)


def test_a_miss_can_be_an_error(face, tmp_path):
    pipeline = A.Compose([RandomExpression(CLASSES, cache=tmp_path, on_miss="error", p=1)])
    with pytest.raises(CacheMissError, match="warm"):
        pipeline(image=face, label=NEUTRAL)


def test_a_second_image_is_refused():
    with pytest.raises(ValueError, match="additional target 'image2'"):
        A.Compose([RandomExpression(CLASSES)], additional_targets={"image2": "image"})
    A.Compose([RandomExpression(CLASSES)], additional_targets={"mask2": "mask"})


def test_missing_albumentations_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)
    monkeypatch.delitem(sys.modules, "expraug.transforms.albumentations")
    with pytest.raises(MissingDependencyError, match=r"pip install 'expraug\[albumentations\]'"):
        importlib.import_module("expraug.transforms.albumentations")


def test_the_example_in_the_docstring():
    assert doctest.testmod(door) == (0, 8)
