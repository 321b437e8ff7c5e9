"""Image and label of any sample change together or not at all."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from expraug import Expression, LabelScheme, SynthesisRequest
from expraug.errors import LabelError
from expraug.pipeline.samples import augment_samples, clips_of_samples, request_of_sample

SCHEME = LabelScheme.from_mapping({"happy": "happy", "bored": None, "blank": "neutral"})
HAPPY, BORED, NEUTRAL = 0, 1, 2


@pytest.fixture(scope="module")
def augmenter(tmp_path_factory):
    return crop_augmenter("pixel", cache=tmp_path_factory.mktemp("cache"))


def forms(pixels):
    """One picture in every form that samples have."""
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    face = Image.fromarray(pixels)
    return {
        "pil": face,
        "grey": face.convert("L"),
        "palette": face.quantize(256),
        "1-bit": face.convert("1"),
        "array": pixels,
        "float": pixels.astype(np.float32) / 255,
        "tensor": tensor,
        "float tensor": tensor / 255,
        "small": tensor[:, :8, :8],
        "black": torch.zeros_like(tensor),
    }


LABELS = {
    "index": lambda i: i,
    "name": lambda i: SCHEME.classes[i],
    "tensor": lambda i: torch.tensor(i),
    "one-hot": lambda i: [float(k == i) for k in range(3)],
    "ambiguous": lambda i: [0.5, 0.0, 0.5],
}
sample = st.tuples(
    st.sampled_from(["pil", "grey", "palette", "1-bit", "array", "float", "tensor",
                     "float tensor", "small", "black"]),
    st.sampled_from(sorted(LABELS)),
    st.sampled_from([HAPPY, BORED, NEUTRAL]),
    st.sampled_from([None, *Expression]),
    st.booleans(),
)  # fmt: skip


def same(a, b):
    return np.array_equal(np.asarray(a), np.asarray(b))


@given(st.lists(sample, max_size=5))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_both_or_neither(augmenter, neutral_images, asked):
    pictures = forms(np.ascontiguousarray(neutral_images[0][::4, ::4]))
    images = [pictures[form] for form, *_ in asked]
    labels = [LABELS[kind](index) for _, kind, index, *_ in asked]
    targets = [target for *_, target, _ in asked]
    wanted = [w for *_, w in asked]

    def request(i, digest, source):
        assert wanted[i]
        return None if targets[i] is None else SynthesisRequest(targets[i])

    made = augment_samples(augmenter, SCHEME, images, labels, request, wanted=wanted)
    assert len(made) == len(asked)
    for (form, kind, index, target, work), image, label, result in zip(
        asked, images, labels, made, strict=True
    ):
        source = SCHEME.expressions[index]
        right = (
            work and target is not None and target in SCHEME and source not in (None, target)
            and target in augmenter.available(source)
            and kind != "ambiguous" and form not in ("small", "1-bit")
        )  # fmt: skip
        changed = result.label is not label
        assert changed == (result.image is not image), "together or not at all"
        assert changed == (result.outcome is not None and result.outcome.target is not None)
        if form != "black":  # what a synthesizer does to nothing is its own affair
            assert changed == right
        if changed:
            assert type(result.image) is (Image.Image if isinstance(image, Image.Image)
                                          else type(image))  # fmt: skip
            if isinstance(image, Image.Image):
                assert result.image.mode == image.mode
            assert not same(result.image, image)
            assert same(result.label, LABELS[kind](SCHEME.index(target)))


def test_reasons_are_counted(neutral_images):
    augmenter = crop_augmenter("pixel")
    pictures = forms(neutral_images[0])
    images = [pictures["1-bit"], pictures["small"], pictures["pil"], pictures["pil"]]
    labels = [NEUTRAL, NEUTRAL, [0.5, 0.0, 0.5], NEUTRAL]
    augment_samples(
        augmenter, SCHEME, images, labels, lambda *_: SynthesisRequest(Expression.HAPPY)
    )
    expected = {"image_mode": 1, "unreadable_image": 1, "ambiguous_label": 1, "made": 1}
    assert augmenter.stats == expected


def test_a_palette_without_the_colours_leaves_the_sample_as_it_was(neutral_images):
    augmenter = crop_augmenter("pixel")
    image = Image.fromarray(neutral_images[0]).quantize(2)
    (made,) = augment_samples(
        augmenter, SCHEME, [image], [NEUTRAL], lambda *_: SynthesisRequest(Expression.HAPPY)
    )
    assert (made.image, made.label) == (image, NEUTRAL)
    assert made.outcome.reason == "image_mode"
    assert made.outcome.target is None
    assert augmenter.stats["image_mode"] == 1


@pytest.mark.parametrize("wrong", [4.7, True, None, [NEUTRAL, NEUTRAL], 9])
@pytest.mark.parametrize("wanted", [[True], [False]])
def test_a_wrong_label_is_an_error_even_where_nothing_is_wanted(
    augmenter, neutral_images, wrong, wanted
):
    with pytest.raises(LabelError):
        augment_samples(
            augmenter, SCHEME, [neutral_images[0]], [wrong], lambda *_: None, wanted=wanted
        )


def test_the_request_is_what_augment_samples_asks_for(augmenter, neutral_images):
    def request(i, digest, source):
        return augmenter.sample_request(digest, source, 0.3, SCHEME)

    asked = request_of_sample(augmenter, SCHEME, neutral_images[1], "blank", request)
    (made,) = augment_samples(augmenter, SCHEME, [neutral_images[1]], ["blank"], request)
    assert asked is not None
    assert made.request == asked
    assert request_of_sample(augmenter, SCHEME, neutral_images[1], "bored", request) is None


def test_clips_take_the_same_samples(neutral_images):
    augmenter = crop_augmenter("pixel")
    image = neutral_images[0]
    expected = augmenter.clip(image, "neutral", "happy", 3).transpose(0, 2, 3, 1)
    first, small, kept = clips_of_samples(
        augmenter,
        SCHEME,
        [image, image[:8, :8], image],
        [NEUTRAL, NEUTRAL, BORED],
        lambda *_: SynthesisRequest(Expression.HAPPY),
        frames=3,
    )
    assert np.array_equal(np.stack(first.frames), expected)
    assert first.label == HAPPY
    assert small == (None, NEUTRAL)
    assert kept == (None, BORED)


def test_a_reader_does_not_load_the_synthesizer(neutral_images, tmp_path):
    """A worker that finds every face in the cache needs no weights."""
    augmenter = crop_augmenter("pixel", cache=tmp_path)

    def request(i, digest, source):
        return reader.sample_request(digest, source, 0.5, SCHEME)

    reader = augmenter
    (made,) = augment_samples(augmenter, SCHEME, neutral_images[:1], [NEUTRAL], request)
    reader = pickle.loads(pickle.dumps(augmenter))
    (read,) = augment_samples(reader, SCHEME, neutral_images[:1], [NEUTRAL], request)
    assert read.label == made.label == HAPPY
    assert np.array_equal(read.image, made.image)
    assert reader._synthesizer is None
