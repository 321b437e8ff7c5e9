"""Replay, saving, random streams and workers, on whichever of the two libraries is found first."""

import importlib
import io
import json
import os
import pickle
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no network while testing
os.environ.setdefault("ALBUMENTATIONS_OFFLINE", "1")

import numpy as np
import pytest
import torch
import yaml
from crop_augmenter import crop_augmenter, unchecked
from small_faces import small_face
from torch.utils.data import DataLoader, Dataset, get_worker_info

from expraug import Expression, ExpressionAugmenter, LabelScheme, Uniform

A = pytest.importorskip("albumentations")
door = importlib.import_module("expraug.transforms.albumentations")
RandomExpression = door.RandomExpression

CLASSES = ["happy", "neutral"]
HAPPY, NEUTRAL = range(2)


def same(a, b):
    return np.array_equal(a["image"], b["image"]) and a["label"] == b["label"]


# -- replay


def replayable(**options):
    transform = RandomExpression(CLASSES, "pixel", p=0.7, check_landmarks=False, **options)
    pipeline = A.ReplayCompose([transform, A.HorizontalFlip()])
    pipeline.set_random_seed(2)
    return pipeline


def test_replay_gives_the_same_picture_and_label(face):
    pipeline = replayable()
    labels = set()
    for _ in range(12):
        out = pipeline(label=NEUTRAL, image=face)
        labels.add(out["label"])
        saved = json.loads(json.dumps(out["replay"]))  # nothing in it is large or an object
        assert len(json.dumps(saved)) < 4000
        assert same(A.ReplayCompose.replay(saved, image=face, label=NEUTRAL), out)
    assert labels == {HAPPY, NEUTRAL}


def test_replay_on_another_face(face, happy_face):
    pipeline = replayable(intensity=(0.5, 0.5))
    saved = next(o for o in iter(lambda: pipeline(image=face, label=NEUTRAL), 0) if not o["label"])
    other = face[:, ::-1].copy()
    out = A.ReplayCompose.replay(saved["replay"], image=other, label="neutral")
    assert out["label"] == "happy"
    again = A.ReplayCompose.replay(saved["replay"], image=happy_face, label=HAPPY)
    assert again["label"] == HAPPY  # it smiles already: not asked for anew


def test_replay_with_a_ready_augmenter(face, smile):
    augmenter = crop_augmenter(smile)
    pipeline = A.ReplayCompose([RandomExpression(CLASSES, augmenter=augmenter, p=1)])
    out = pipeline(image=face, label=NEUTRAL)
    assert out["label"] == HAPPY
    assert same(A.ReplayCompose.replay(out["replay"], image=face, label=NEUTRAL), out)


# -- saving and loading

SAVED = {
    "defaults": {"scheme": "fer2013"},
    "classes": {"scheme": CLASSES, "targets": ["happy"], "intensity": (0.2, 0.9)},
    "mapping": {"scheme": {"z": "neutral", "a": "happy", "b": None}, "label_key": "emotion"},
    "policy": {"scheme": CLASSES, "policy": {"matrix": {"neutral": {"happy": 0.5}}}},
    "scheme": {"scheme": LabelScheme.named("fer2013"), "per_image": 2},
    "enums": {"scheme": CLASSES, "policy": {"balance": {Expression.NEUTRAL: 9, "happy": 1}}},
}


def through_dict(pipeline):
    return A.from_dict(A.to_dict(pipeline))


def through_json(pipeline):
    return A.from_dict(json.loads(json.dumps(A.to_dict(pipeline))))


def through_yaml(pipeline):
    return A.from_dict(yaml.safe_load(yaml.safe_dump(A.to_dict(pipeline))))


def through_file(pipeline):
    file = io.StringIO()
    A.save(pipeline, file, data_format="yaml")
    file.seek(0)
    return A.load(file, data_format="yaml")


@pytest.mark.parametrize("saved_through", [through_dict, through_json, through_yaml, through_file])
@pytest.mark.parametrize("arguments", SAVED.values(), ids=SAVED)
def test_a_saved_pipeline_does_the_same(face, tmp_path, arguments, saved_through):
    arguments = {"cache": tmp_path, "check_landmarks": False, "p": 0.6} | arguments
    pipeline = A.Compose([RandomExpression(**arguments), A.HorizontalFlip()])
    loaded = saved_through(pipeline)
    for p in (pipeline, loaded):
        p.set_random_seed(11)
    key = arguments.get("label_key", "label")
    transform = pipeline.transforms[0]
    label = transform.scheme.index(Expression.NEUTRAL)
    assert loaded.transforms[0].scheme.classes == transform.scheme.classes
    assert loaded.transforms[0].scheme.expressions == transform.scheme.expressions
    seen = set()
    for _ in range(16):
        a, b = (p(image=face, **{key: label}) for p in (pipeline, loaded))
        assert np.array_equal(a["image"], b["image"])
        assert a[key] == b[key]
        seen.add(a[key])
    assert {label} < seen
    assert A.to_dict(loaded) == A.to_dict(pipeline)


def test_cache_folder_is_saved(face, tmp_path):
    transform = RandomExpression(CLASSES, cache=tmp_path / "cache", on_miss="error", p=1)
    loaded = through_json(A.Compose([transform])).transforms[0]
    assert loaded.augmenter.cache.path == tmp_path / "cache"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"augmenter": ExpressionAugmenter}, "synthesizer, targets, policy, intensity, alignment"),
        ({"policy": Uniform}, "policy="),
        ({"scheme": lambda: LabelScheme.named("raf-db", first_index=1)}, "scheme="),
    ],
)
def test_objects_cannot_be_saved(arguments, named):
    made = {"scheme": CLASSES} | {name: make() for name, make in arguments.items()}
    transform = RandomExpression(**made)
    with pytest.raises(NotImplementedError, match=named):
        A.to_dict(transform)
    assert "RandomExpression(" in repr(transform)


# -- random streams


def outputs(pipeline, face, count=20):
    return [pipeline(image=face, label=NEUTRAL) for _ in range(count)]


def test_a_seeded_pipeline_repeats(face):
    options = unchecked() | {"intensity": (0.1, 1)}

    def run(seed):
        pipeline = A.Compose(
            [A.HorizontalFlip(), RandomExpression(CLASSES, "pixel", **options)], seed=seed
        )
        return outputs(pipeline, face)

    first, second, other = run(3), run(3), run(4)
    assert all(map(same, first, second))
    assert not all(map(same, first, other))


class OneFace(Dataset):
    """The same face again and again, so that only what is asked for can differ."""

    def __init__(self, transform, count=32):
        self.transform, self.face, self.count = transform, small_face("neutral", 32), count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        out = self.transform(image=self.face, label=NEUTRAL)
        worker = get_worker_info()
        return worker.id if worker else 0, out["label"], int(out["image"].sum())


def epochs(workers, seed=1, context="fork", persistent=False, count=2, **arguments):
    """Labels and pixel sums of each worker in each epoch."""
    torch.manual_seed(0)
    arguments = unchecked() | {"intensity": (0.1, 1)} | arguments
    transform = RandomExpression(CLASSES, "pixel", **arguments)
    loader = DataLoader(
        OneFace(A.Compose([transform], seed=seed)),
        batch_size=4,
        num_workers=workers,
        multiprocessing_context=context if workers else None,
        persistent_workers=persistent,
        collate_fn=list,
    )
    found = []
    for _ in range(count):
        seen = [[] for _ in range(max(workers, 1))]
        for batch in loader:
            for worker, label, total in batch:
                seen[worker].append((label, total))
        found.append(seen)
    return found


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_and_epochs_differ(seed, persistent):
    streams = [seen for epoch in epochs(2, seed, persistent=persistent) for seen in epoch]
    assert len(streams) == 4
    for i, stream in enumerate(streams):
        assert {label for label, _ in stream} == {HAPPY, NEUTRAL}
        assert stream not in streams[:i]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("workers", "seed"), [(0, 1), (2, 1), (4, 1), (2, None)])
def test_same_seed_same_pictures(workers, seed):
    assert epochs(workers, seed) == epochs(workers, seed)


def test_spawned_workers_sample_as_forked_ones():
    assert epochs(1, context="spawn", count=1) == epochs(1, count=1)


def test_a_generator_given_inside_a_worker_is_kept():
    def own_stream(worker):
        loader.dataset.transform.set_random_state(np.random.default_rng(9), random.Random(9))

    dataset = OneFace(A.Compose([RandomExpression(CLASSES, "pixel", **unchecked())]), count=16)
    loader = DataLoader(
        dataset,
        8,
        num_workers=2,
        multiprocessing_context="fork",
        worker_init_fn=own_stream,
        collate_fn=list,
    )
    first, second = ([sample[1:] for sample in batch] for batch in loader)
    assert first == second


def test_pickles_small(face):
    pipeline = A.Compose([RandomExpression(CLASSES, p=1)], seed=1)
    pipeline(image=face, label=NEUTRAL)
    pickled = pickle.dumps(pipeline)
    assert len(pickled) < 20_000
    assert pickle.loads(pickled)(image=face, label=NEUTRAL)["label"] == HAPPY


# -- cache


def test_workers_read_the_cache(tmp_path):
    arguments = {"scheme": CLASSES, "synthesizer": "pixel", "intensity": (0.1, 1)}
    arguments |= unchecked() | {"cache": tmp_path}
    sample = (small_face("neutral", 32), NEUTRAL)
    report = RandomExpression(**arguments).augmenter.warm([sample], CLASSES, progress=False)
    assert 1 < report.made <= report.planned == 4
    assert epochs(2, on_miss="error", cache=tmp_path, count=1) == epochs(2, count=1)
