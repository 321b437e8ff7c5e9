import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from crop_augmenter import crop_augmenter
from PIL import Image
from torchvision.datasets import ImageFolder

from expraug import Balance
from expraug.cache import CacheError, SynthesisCache, find_store, image_digest
from expraug.labels import dataset_scheme

SCHEME = ["happy", "neutral"]
EVERY = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"]


@pytest.fixture
def small(neutral_images):
    """The neutral faces at half their size, for tests that need many."""
    return [np.array(Image.fromarray(image).reduce(2)) for image in neutral_images]


class Damaged(torch.utils.data.Dataset):
    """Samples in every shape that data sets give, some of them broken."""

    def __init__(self, images):
        pil = Image.fromarray(images[1])
        self.samples = [
            (images[0], 1),
            (pil, torch.tensor(1)),
            {"image": images[2], "label": "neutral"},
            (images[3], 7),
            (Image.new("L", (1, 1)), 1),
            OSError("truncated"),
            "not a sample",
            (torch.from_numpy(images[4]).permute(2, 0, 1), [0.1, 0.9], "extra"),
            (images[5], [0.5, 0.5]),
            (images[5].astype(np.float32), 1),
        ]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        if isinstance(sample, Exception):
            raise sample
        return sample


@pytest.mark.parametrize("num_workers", [0, 2])
def test_warm_makes_all_that_is_offered_and_lists_the_rest(neutral_images, tmp_path, num_workers):
    augmenter = crop_augmenter("pixel", cache=tmp_path, on_miss="error", seed=4)
    dataset = Damaged(neutral_images)
    # many enough that the workers have something to do
    many = torch.utils.data.ConcatDataset([dataset, [(neutral_images[6], 1)] * 60])
    report = augmenter.warm(many, SCHEME, num_workers=num_workers, progress=False)
    # one target at three intensities: of the four slots two are alike
    assert report.planned == 70 * 4
    assert report.made + report.cached == 64 * 3
    assert report.skipped == {
        "label_outside_scheme": 2, "unreadable_image": 3, "ambiguous_label": 1,
    }  # fmt: skip
    assert [i for i, _, _ in report.failures] == [3, 4, 5, 6, 8, 9]
    assert "truncated" in report.failures[2][2]
    assert "before Normalize" in report.failures[5][2]
    again = augmenter.warm(many, SCHEME, progress=False)
    assert (again.made, again.cached) == (0, 64 * 3)
    assert np.isnan(again.estimate)


@pytest.mark.parametrize(("per_image", "num_workers"), [(1, 0), (4, 2), (6, 0)])
def test_a_known_number_of_faces(faces, tmp_path, capfd, per_image, num_workers):
    """N images are N times `per_image` synthetic faces, exactly those that the images offer."""
    folder = torch.utils.data.Subset(ImageFolder(str(faces)), range(10, 20))
    augmenter = crop_augmenter("pixel", cache=tmp_path, per_image=per_image)
    report = augmenter.warm(folder, {"happy": "happy", "neutral": "neutral"})
    assert report.planned == 10 * per_image
    told = capfd.readouterr().err
    assert f"At most {10 * per_image} synthetic faces of 10 images" in told
    pairs = [(image, "neutral") for image, _ in folder]
    report = augmenter.warm(pairs, EVERY, num_workers=num_workers, progress=False)
    assert report.planned == 10 * per_image
    assert report.made + report.cached == 10 * per_image
    for image, _ in pairs:
        pixels = np.array(image)
        menu = augmenter.menu(
            image_digest(pixels), augmenter.synthesizer.expressions[0], dataset_scheme(pairs, EVERY)
        )
        assert len(set(menu)) == per_image
        outcomes = augmenter([pixels] * per_image, menu, on_miss="error")
        assert all(outcome.cached for outcome in outcomes)
    (info,) = [i for i in augmenter.cache.info().fingerprints.values() if "pixel" in i.name]
    assert info.entries >= 10 * per_image


def test_a_policy_that_leaves_faces_alone_needs_less(faces, tmp_path):
    augmenter = crop_augmenter(
        "pixel", cache=tmp_path, policy=Balance({"happy": 10, "neutral": 30})
    )
    report = augmenter.warm(ImageFolder(str(faces)), progress=False)
    assert report.planned == 80
    assert 0 < report.made < 40, "a third of the neutral faces' slots, and no happy face"


def test_the_estimate_comes_before_the_bulk(small, tmp_path, capfd):
    distinct = [(np.roll(image, shift, 1), 0) for image in small for shift in range(0, 60, 6)]
    augmenter = crop_augmenter("pixel", cache=tmp_path)
    told_after = []

    class Watched(torch.utils.data.Dataset):
        def __len__(self):
            return len(distinct)

        def __getitem__(self, index):
            told_after.append("About 0:" in capfd.readouterr().err)
            return distinct[index]

    report = augmenter.warm(Watched(), EVERY)
    assert report.made == 100 * 4
    assert told_after.index(True) <= 66, "told after the first images"
    assert 0 < report.estimate < 20 * report.seconds


SCRIPT = """
import sys
import numpy as np
from PIL import Image
from pathlib import Path
from crop_augmenter import crop_augmenter

faces, cache, workers = sys.argv[1:]
images = [np.array(Image.open(p).reduce(2)) for p in sorted(Path(faces).iterdir())]
pairs = [(np.roll(image, shift, 1), 0) for image in images for shift in range(0, 32, 4)]
classes = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"]
augmenter = crop_augmenter("pixel", cache=cache)
augmenter.warm(pairs, classes, num_workers=int(workers))
"""


def entries(cache):
    """Return how many there are in a cache that another process may be making."""
    found = find_store(cache)
    return 0 if found is None else SynthesisCache(cache, readonly=True).info().entries


@pytest.mark.parametrize(("how", "workers"), [(signal.SIGINT, 1), (signal.SIGKILL, 0)])
def test_stopped_and_continued(faces, small, tmp_path, how, workers):
    """Ctrl-C, or a kill, in the middle; the same call makes what is missing and nothing twice."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, faces / "neutral", tmp_path / "cache", str(workers)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[i]) for i in (2, 1)),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while entries(tmp_path / "cache") <= 40 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, how)  # as a terminal does: the workers too
    told = process.communicate(timeout=150)[1]
    assert process.returncode != 0, "was stopped in time"
    assert "At most 320 synthetic faces of 80 images" in told
    if how == signal.SIGINT:
        assert "the same call goes on from here" in told
    pairs = [(np.roll(image, shift, 1), 0) for image in small for shift in range(0, 32, 4)]
    augmenter = crop_augmenter("pixel", cache=tmp_path / "cache")
    report = augmenter.warm(pairs, EVERY, num_workers=workers, progress=False)
    assert report.made + report.cached == 320
    assert report.made > 0
    assert report.cached > 40
    assert SynthesisCache(tmp_path / "cache", readonly=True).verify().damaged == 0


def test_continuing_tells_how_long_the_rest_takes(small, tmp_path):
    images = [np.roll(image, shift, 1) for image in small for shift in range(0, 24, 2)]
    pairs = [(image, 0) for image in images]
    augmenter = crop_augmenter("pixel", cache=tmp_path)
    half = augmenter.warm(pairs[:60], EVERY, progress=False)
    assert half.made == 240
    rest = augmenter.warm(pairs, EVERY, progress=False)
    assert (rest.made, rest.cached) == (240, 240)
    assert rest.estimate > 0


def test_nothing_that_can_be_read_is_told_at_once(neutral_images, tmp_path):
    normalised = [((image.astype(np.float32) - 99) / 50, 1) for image in neutral_images]
    augmenter = crop_augmenter("pixel", cache=tmp_path)
    with pytest.warns(UserWarning, match="all of the first 10 samples .* before Normalize"):
        report = augmenter.warm(normalised, SCHEME, progress=False)
    assert report.skipped == {"unreadable_image": 10}


def test_training_after_warming_only_reads(neutral_images, tmp_path, smile):
    from expraug.datasets import ExpressionAugmentedDataset

    augmenter = crop_augmenter(smile, cache=tmp_path, on_miss="error")
    pairs = [(Image.fromarray(image), 1) for image in neutral_images]
    augmenter.warm(pairs, SCHEME, progress=False)
    dataset = ExpressionAugmentedDataset(pairs, augmenter, SCHEME, mode="replace", p=1)
    for _ in range(5):
        assert [label for _, label in dataset] == [0] * 10
    assert augmenter.stats["cached"] == 5 * len(pairs)


def test_faces_that_are_not_found_are_listed_once(neutral_images, tmp_path):
    augmenter = crop_augmenter("pixel", cache=tmp_path, alignment="detect")
    blank = np.full((64, 64, 3), 99, np.uint8)
    report = augmenter.warm([(blank, 1), (neutral_images[0], 1)], SCHEME, progress=False)
    assert report.made == 3
    assert report.failures == [(0, "no_face", "the detector found no face")]


def test_warming_needs_a_cache():
    with pytest.raises(ValueError, match="needs a cache"):
        crop_augmenter("pixel").warm([], SCHEME)


def test_what_cannot_be_stored_is_told_and_the_rest_is_kept(neutral_images, tmp_path, monkeypatch):
    """The thread that stores faces says what went wrong; the same call goes on."""
    pairs = [(image, 0) for image in neutral_images]
    augmenter = crop_augmenter("pixel", cache=tmp_path, batch_size=4)
    store, calls = augmenter.cache.put_many, []

    def third_fails(items):
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            raise MemoryError("no room for a patch")
        return store(items)

    monkeypatch.setattr(augmenter.cache, "put_many", third_fails)
    with pytest.raises(CacheError, match=r"could not be stored \(MemoryError: no room for a patch"):
        augmenter.warm(pairs, EVERY, progress=False)
    assert {name.rpartition("_")[0] for name in calls} == {"expraug-cache"}
    kept = augmenter.cache.info().entries
    assert kept >= 8, "what came before it, and what was on its way"
    report = augmenter.warm(pairs, EVERY, progress=False)
    assert report.cached == kept
    assert report.made == 40 - kept
