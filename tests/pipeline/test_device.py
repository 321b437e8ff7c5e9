"""Devices that an augmenter names, moves to, and tells in its keys."""

import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter

from expraug import Expression, ExpressionAugmenter, SynthesisRequest
from expraug.cache import SynthesisCache, image_digest
from expraug.errors import DeviceError
from expraug.faces import CropDetector, LandmarkDetector
from expraug.pipeline import lookup
from expraug.pipeline.memo import MemoizedDetector
from expraug.pipeline.synthetic import HostEntries, Synthetic

REQUEST = SynthesisRequest(Expression.HAPPY)


@pytest.fixture
def no_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_keys_tell_the_type_of_the_device(tmp_path, no_card):
    here = ExpressionAugmenter("pixel")
    there = ExpressionAugmenter("pixel", device="cuda:1", on_miss="keep")
    assert here.fingerprint.device == "cpu"
    assert there.fingerprint.device == "cuda"
    assert str(here.fingerprint) != str(there.fingerprint)
    names = [MemoizedDetector(LandmarkDetector("crop", d)).cache_name for d in ("cpu", "cuda:1")]
    assert names == [f"{LandmarkDetector('crop').fingerprint}|{d}" for d in ("cpu", "cuda")]
    assert MemoizedDetector(CropDetector()).cache_name.endswith("|cpu")


@pytest.mark.parametrize("on_miss", ["keep", "error"])
def test_a_reader_may_name_a_device_that_is_not_here(neutral_images, tmp_path, no_card, on_miss):
    """What a GPU made is read on a machine without one."""
    image = neutral_images[0]
    augmenter = crop_augmenter("pixel", device="cuda", on_miss="keep", cache=tmp_path)
    made_there = crop_augmenter("pixel").synthesize([image], [REQUEST], None)[0]
    key = lookup.synthetic_key(image_digest(image), str(augmenter.fingerprint), REQUEST)
    augmenter.cache.put(key, HostEntries(made_there)()[0])

    reader = crop_augmenter("pixel", device="cuda", on_miss=on_miss, cache=tmp_path)
    (outcome,) = reader([image], [REQUEST])
    assert outcome.cached
    assert outcome.target is Expression.HAPPY
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    (as_tensor,) = reader([tensor], [REQUEST])
    assert np.array_equal(as_tensor.image.permute(1, 2, 0), outcome.image)
    with pytest.raises(DeviceError, match="finds no CUDA device"):
        reader([neutral_images[1]], [REQUEST], on_miss="synthesize")
    with pytest.raises(DeviceError, match="finds no CUDA device"):
        reader.warm([(neutral_images[1], 0)], ["neutral", "happy"], progress=False)


def test_who_synthesizes_needs_the_device(no_card):
    with pytest.raises(DeviceError, match="use device='cpu'"):
        ExpressionAugmenter("pixel", device="cuda")
    with pytest.raises(DeviceError, match="use device='cpu'"):
        ExpressionAugmenter("pixel").to("cuda")
    with pytest.raises(DeviceError, match="must be 'cpu', 'cuda' or the like, not 'gpu'"):
        ExpressionAugmenter("pixel", device="gpu", on_miss="keep")


def test_moving_takes_all_along(tmp_path, no_card):
    cache = SynthesisCache(tmp_path)
    augmenter = ExpressionAugmenter("pixel", cache=cache, on_miss="keep")
    detector = MemoizedDetector(augmenter.detector, cache)
    detector._known[b"x"] = None
    augmenter.detector = detector
    before = augmenter.fingerprint
    assert augmenter.to("cuda") is augmenter
    assert augmenter.device.type == detector.detector.device.type == "cuda"
    assert not detector._known, "what was found elsewhere is let go of"
    assert augmenter.fingerprint != before
    names = {str(before), str(augmenter.fingerprint), *(
        f"{LandmarkDetector('crop').fingerprint}|{device}" for device in ("cpu", "cuda")
    )}  # fmt: skip
    assert names <= set(cache.backend.names().values())


def test_a_detector_that_knows_arrays_alone_gets_arrays(neutral_images):
    class Arrays(CropDetector):
        tensors = constant = False

        def __call__(self, images):
            assert all(isinstance(image, np.ndarray) for image in images)
            return super().__call__(images)

    image = neutral_images[0]
    augmenter = ExpressionAugmenter("unet_cgan", alignment=Arrays(), check_landmarks=False)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    of_array, of_tensor = augmenter([image, tensor], [REQUEST] * 2)
    assert of_array.target is not None
    assert np.array_equal(of_array.image, of_tensor.image.permute(1, 2, 0))


def test_patches_reach_the_cache_from_elsewhere(monkeypatch):
    """What a device copies back is what the cache keeps, in colour and in grey."""
    patches = [torch.arange(24, dtype=torch.uint8).view(2, 4, 3), torch.ones(3, 2, 1).byte()]
    made = [
        Synthetic(patches[0], (5, 6), {"identity": 0.5}),
        Synthetic(None, reason="no_face"),
        Synthetic(patches[1]),
    ]
    colour, nothing, grey = HostEntries(made)()
    assert np.array_equal(colour.patch, patches[0])
    assert (colour.origin, colour.scores) == ((5, 6), {"identity": 0.5})
    assert nothing.patch is None
    assert nothing.reason == "no_face"
    assert grey.patch.shape == (3, 2)
