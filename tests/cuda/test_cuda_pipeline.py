"""The pipeline on a CUDA device gives what it gives on the CPU, within what rounding explains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter
from PIL import Image

from expraug import (
    Expression,
    ExpressionAugmenter,
    SynthesisRequest,
    create_synthesizer,
    list_synthesizers,
)
from expraug.cache import SynthesisCache
from expraug.faces import LandmarkDetector, landmarks
from expraug.faces.align import align_image
from expraug.faces.batches import aligned, composited
from expraug.faces.frame import frame
from expraug.faces.pixels import as_tensor, on_device, shrunk, sides
from expraug.faces.synthesized import SynthesizedFaces
from expraug.landmark_gate import LandmarkGate
from expraug.transforms.torchvision import RandomExpression

CPU = torch.device("cpu")
HAPPY, NEUTRAL = Expression.HAPPY, Expression.NEUTRAL
POINTS, SCORES = 0.05, 2e-3
"""Landmarks, of 256 pixels, and blendshape scores: a convolution sums in another order."""
RESIZED = 8
"""Times as much where an image is resized to be looked at: on the CPU in whole numbers."""
GREY_LEVELS = 3
"""Most that a pixel of one picture differs, of 255, where both devices found the same points."""
MEAN_LEVELS = 0.1
"""And in the mean over the changed box."""


@pytest.fixture(scope="module")
def pictures(neutral_images: list[np.ndarray]) -> list[np.ndarray]:
    """Faces of several sizes, tilts and colours, one of them cut off and one of nobody."""
    kinds = [(256, 0, "RGB"), (150, 7, "L"), (512, -20, "RGB"), (900, 12, "RGB"), (96, 0, "L")]
    made = []
    for image, (side, angle, mode) in zip(neutral_images, kinds, strict=False):
        picture = Image.fromarray(image).convert(mode).resize((side, side))
        made.append(np.array(picture.rotate(angle, Image.Resampling.BICUBIC)))
    return [*made, neutral_images[5][:, 50:], np.full((120, 120, 3), 70, np.uint8)]


@pytest.fixture(scope="module")
def aligned_faces(neutral_images: list[np.ndarray]) -> tuple[torch.Tensor, dict]:
    """(8, 3, 128, 128) in [0, 1], and their landmarks as a synthesizer takes them."""
    from expraug.faces.frame import stack_landmarks

    found = LandmarkDetector("crop")(neutral_images[:8])
    framed = [frame(im, f, 128) for im, f in zip(neutral_images[:8], found, strict=True)]
    known = {k: torch.from_numpy(v) for k, v in stack_landmarks(framed).items()}
    faces = torch.stack(
        [align_image(im, f.points, 128) / 255 for im, f in zip(neutral_images, found, strict=False)]
    )
    return faces, known


def test_means_of_squares(pictures, cuda):
    for image in pictures:
        on_gpu = shrunk(as_tensor(image, cuda), 4).cpu()
        assert (on_gpu.int() - shrunk(as_tensor(image, CPU), 4).int()).abs().max() <= 1


def is_resized(image):
    return landmarks._ratio(image) != 1


@pytest.mark.parametrize("mode", ["crop", "detect"])
def test_detector_and_landmarks(pictures, cuda, mode):
    here = LandmarkDetector(mode)(pictures)
    for images in (pictures, on_device(pictures, cuda)):
        there = LandmarkDetector(mode, cuda)(images)
        assert [f is None for f in there] == [f is None for f in here]
        for image, one, other in zip(pictures, here, there, strict=True):
            if one is None:
                continue
            extent = max(sides(image))
            ratio, more = 256 / extent, RESIZED if is_resized(image) else 1
            assert np.abs(one.mesh - other.mesh).max() * ratio < POINTS * more
            assert np.abs(one.points - other.points).max() * ratio < POINTS * more
            assert np.abs(one.blendshapes - other.blendshapes).max() < SCORES * more
            assert np.abs(one.pose - other.pose).max() < 0.2


@pytest.mark.parametrize("name", list_synthesizers(pretrained=True))
def test_synthesizers(aligned_faces, cuda, name):
    synthesizer = create_synthesizer(name)
    faces, known = aligned_faces
    faces = torch.nn.functional.interpolate(faces, (synthesizer.image_size,) * 2, mode="area")
    targets = [int(e) for e in synthesizer.expressions if e is not NEUTRAL]
    target = torch.tensor([targets[i % len(targets)] for i in range(len(faces))])
    intensity = torch.linspace(0.3, 1, len(faces))
    inputs = known if synthesizer.needs_landmarks else {}
    with torch.inference_mode():
        here = synthesizer(faces, target, intensity, **inputs)
        moved = {k: v.to(cuda) for k, v in inputs.items()}
        there = synthesizer.to(cuda)(faces.to(cuda), target.to(cuda), intensity.to(cuda), **moved)
    assert there.device.type == cuda.type
    difference = (here - there.cpu()).abs() * 255
    assert difference.mean() < MEAN_LEVELS
    # pixels at the rim of a moved part may show another point of it
    assert (difference > GREY_LEVELS).float().mean() < 1e-3
    assert (here - faces).abs().mean() * 255 > 0.5, "it does something"


def test_alignment_and_compositing(pictures, cuda):
    found = LandmarkDetector("crop")(pictures)
    pairs = [(im, f) for im, f in zip(pictures, found, strict=True) if f is not None]
    here = [frame(as_tensor(image, CPU), face, 128) for image, face in pairs]
    there = [frame(as_tensor(image, cuda), face, 128) for image, face in pairs]
    alone = torch.cat([aligned([face], CPU) for face in here])
    together = aligned(there, cuda)
    assert (alone - together.cpu()).abs().max() * 255 < 1.5, "means of squares round by one level"
    torch.manual_seed(0)
    changes = torch.nn.functional.interpolate(torch.rand(len(here), 3, 8, 8) - 0.5, (128, 128))
    changes[1] = 0
    flow = torch.nn.functional.interpolate(torch.rand(len(here), 2, 6, 6) - 0.5, (64, 64)) / 10
    flow[1] = 0
    matte = torch.rand(len(here), 1, 32, 32)
    matte[1] = 0
    made = SynthesizedFaces(changes, flow, matte)
    expected = [composited([f], [made.part([i])]) for i, f in enumerate(here)]
    on_card = SynthesizedFaces(changes.to(cuda), flow.to(cuda), matte.to(cuda))
    patches, unchanged = composited(there, [on_card])
    assert unchanged.tolist() == [bool(same) for _, same in expected]
    for ((one,), _), other in zip(expected, patches, strict=True):
        assert one.shape == other.shape
        assert (one.int() - other.cpu().int()).abs().max() <= 1


def test_gate(aligned_faces, cuda):
    faces, _ = aligned_faces
    made = (faces * 0.9).roll(3, 2)
    target = torch.full((len(faces),), int(HAPPY))
    gate = LandmarkGate()
    here = gate.score(faces, made, target)
    there = gate.score(faces.to(cuda), made.to(cuda), target.to(cuda))
    assert here.keys() == there.keys()
    for name, scores in here.items():
        assert there[name].device.type == cuda.type
        assert torch.allclose(scores, there[name].cpu(), atol=0.05, rtol=0.02), name


@pytest.mark.parametrize("name", list_synthesizers(pretrained=True))
def test_pictures_from_end_to_end(pictures, cuda, name):
    here = ExpressionAugmenter(name)
    there = ExpressionAugmenter(name, device=cuda)
    targets = [e for e in here.available(NEUTRAL) if e is not NEUTRAL]
    requests = [SynthesisRequest(targets[i % len(targets)]) for i in range(len(pictures))]
    expected = here(pictures, requests)
    made = there(pictures, requests)
    tensors = there([as_tensor(image, cuda) for image in pictures], requests)
    assert sum(one.reason != other.reason for one, other in zip(expected, made, strict=True)) <= 1
    assert sum(outcome.target is not None for outcome in made) >= 2
    for image, one, other, tensor in zip(pictures, expected, made, tensors, strict=True):
        assert other.reason == tensor.reason
        assert tensor.image.device.type == cuda.type
        back = np.atleast_3d(other.image).transpose(2, 0, 1)
        assert np.array_equal(tensor.image.cpu().numpy(), back)
        if one.target is not None and other.target is not None:
            difference = np.abs(one.image.astype(int) - other.image)
            # landmarks move by a fraction of a pixel, and edges of a face with them
            more = 2 if is_resized(image) else 1
            assert difference.mean() < more
            assert np.quantile(difference, 0.99) <= 2 * GREY_LEVELS * more


@pytest.fixture(scope="module")
def batch(neutral_images: list[np.ndarray], cuda: torch.device) -> torch.Tensor:
    pixels = torch.from_numpy(np.stack(neutral_images)).permute(0, 3, 1, 2)
    return pixels.contiguous().to(cuda)


def door(**options):
    return RandomExpression(
        ["happy", "neutral"], augmenter=ExpressionAugmenter(**options), p=1.0, seed=3
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
def test_batches_stay_on_the_device(batch, cuda, dtype):
    transform = door(device=cuda)
    images = batch if dtype == torch.uint8 else batch.to(dtype) / 255
    labels = torch.full((len(images),), 1, device=cuda)
    made, new = transform(images, labels)
    assert made.device == images.device
    assert new.device == labels.device
    assert made.dtype == dtype
    changed = new == 0
    assert changed.sum() >= len(images) // 2
    assert torch.equal(made[~changed], images[~changed])
    assert (made[changed] != images[changed]).flatten(1).any(1).all()
    assert torch.equal(made[:, :, :3, :3], images[:, :, :3, :3]), "beside the face nothing changes"
    from_host, labels_too = transform(images.cpu(), labels.cpu())
    assert from_host.device.type == "cpu"
    # a card divides by 255 as it multiplies by its inverse
    torch.testing.assert_close(from_host, made.cpu(), rtol=0, atol=1e-6)
    assert torch.equal(labels_too, new.cpu())


def test_the_cache_is_filled_on_one_device_and_read_on_the_other(batch, cuda, tmp_path):
    transform = door(device=cuda, cache=tmp_path)
    labels = torch.full((len(batch),), 1, device=cuda)
    made, new = transform(batch, labels)
    again, _ = transform(batch, labels)
    assert torch.equal(made, again)
    stats = transform.augmenter.stats
    assert stats["made"] == stats["cached"] > 0
    transform.augmenter.cache.flush()
    reader = door(device=cuda, cache=tmp_path, on_miss="error")
    on_host, labels_too = reader(batch.cpu(), labels.cpu())
    assert torch.equal(on_host, made.cpu())
    assert torch.equal(labels_too, new.cpu())
    assert ExpressionAugmenter(cache=tmp_path).fingerprint.device == "cpu"
    other = door(cache=tmp_path, on_miss="keep")
    other(batch.cpu(), labels.cpu())
    if cuda.type != "cpu":
        assert other.augmenter.stats["not_cached"] == len(batch), "CPU keys are others"


def test_warming_and_moving(neutral_images, cuda, tmp_path):
    augmenter = crop_augmenter("pixel", cache=SynthesisCache(tmp_path), per_image=2)
    assert augmenter.to(cuda) is augmenter
    pairs = [(image, 1) for image in neutral_images]
    report = augmenter.warm(pairs, ["happy", "neutral"], progress=False)
    assert report.made == 2 * len(pairs)
    again = augmenter.warm(pairs, ["happy", "neutral"], progress=False)
    assert (again.made, again.cached) == (0, 2 * len(pairs))
    assert augmenter.fingerprint.device == cuda.type
    names = [info.name for info in augmenter.cache.info().fingerprints.values()]
    assert str(augmenter.fingerprint) in names


@pytest.fixture
def card(cuda):
    if cuda.type == "cpu":
        pytest.skip("the CPU tells neither its memory nor what it waits for")
    return cuda


def test_memory_stays_flat(batch, card):
    transform = door(device=card)
    labels = torch.full((len(batch),), 1, device=card)

    def in_use(times):
        for epoch in range(times):
            transform.set_epoch(epoch)
            transform(batch, labels)
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    allocated, reserved = in_use(5)
    allocated_later, reserved_later = in_use(20)
    assert abs(allocated_later - allocated) < 1 << 20
    assert reserved_later <= reserved * 1.1 + (32 << 20)


def test_the_same_bytes_every_time(batch, cuda):
    labels = torch.full((len(batch),), 1, device=cuda)
    runs = [door(device=cuda)(batch, labels) for _ in range(3)]
    for made, new in runs[1:]:
        assert torch.equal(made, runs[0][0])
        assert torch.equal(new, runs[0][1])


def test_how_often_the_host_waits(batch, card, record_property):
    """A few times per batch, not per face: twice as many faces, hardly more of it.

    What the detector does for each picture by itself is left out.
    """
    import warnings

    counts = []
    for size in (len(batch) // 2, len(batch)):
        transform = RandomExpression(
            ["happy", "neutral"],
            augmenter=crop_augmenter("pixel", device=card),
            p=1.0,
            seed=3,
        )
        images, labels = batch[:size], torch.full((size,), 1)
        transform(images, labels)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                transform(images, labels)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchroniz" in str(w.message) for w in told))
    record_property("waits", counts)
    print("the host waited", counts)
    assert counts[1] <= counts[0] + 2
    assert counts[1] <= 80
