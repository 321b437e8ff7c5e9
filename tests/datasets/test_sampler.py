from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from expraug import ExpressionAugmenter, Uniform
from expraug.datasets import BalancedExpressionSampler, ExpressionAugmentedDataset, is_synthetic


@pytest.fixture(scope="module")
def rare(faces):
    """Two smiling people and ten neutral ones, whose synthetic smiles are added."""
    few = Subset(ImageFolder(str(faces)), range(8, 20))
    return ExpressionAugmentedDataset(
        few, ExpressionAugmenter("unet_cgan", policy=Uniform(["happy"]))
    )


def drawn(dataset, sampler):
    """Return counts by (label, synthetic)."""
    flags = is_synthetic(dataset)
    return Counter((dataset.targets[i], flags[i]) for i in sampler)


def test_classes_are_equal_and_synthetics_limited(rare):
    assert Counter(rare.targets) == {0: 12, 1: 10}
    half = BalancedExpressionSampler(rare, num_samples=40, seed=0)
    assert drawn(rare, half) == {(0, False): 10, (0, True): 10, (1, False): 20}
    none = BalancedExpressionSampler(rare, num_samples=40, seed=0, max_synthetic=0)
    assert drawn(rare, none) == {(0, False): 20, (1, False): 20}
    every = BalancedExpressionSampler(rare, num_samples=48, seed=0, max_synthetic=1)
    assert drawn(rare, every) == {(0, False): 4, (0, True): 20, (1, False): 24}
    assert len(BalancedExpressionSampler(rare)) == len(rare) == 22


def test_no_sample_comes_twice_before_the_others_came_once(rare):
    counts = Counter(BalancedExpressionSampler(rare, num_samples=60, seed=2))
    for group in ([0, 1], range(2, 12), range(12, 22)):
        times = [counts[i] for i in group]
        assert max(times) - min(times) <= 1


def test_vectors_as_labels(faces, smile):
    """One-hot or soft labels are balanced as the classes that they are about."""
    folder = ImageFolder(str(faces))
    few = [(folder[i][0], [0.1, 0.9] if folder[i][1] else [1.0, 0.0]) for i in range(8, 20)]
    augmenter = ExpressionAugmenter(smile, policy=Uniform(["happy"]))
    dataset = ExpressionAugmentedDataset(few, augmenter, ["happy", "neutral"])
    sampler = BalancedExpressionSampler(dataset, num_samples=40, seed=0)
    classes = Counter(int(dataset.targets[i][0] < 0.5) for i in sampler)
    assert classes == {0: 20, 1: 20}


def test_a_class_without_real_faces(faces, smile):
    neutral = Subset(ImageFolder(str(faces)), range(10, 20))
    dataset = ExpressionAugmentedDataset(neutral, ExpressionAugmenter(smile))
    sampler = BalancedExpressionSampler(dataset, seed=0)
    assert drawn(dataset, sampler) == {(0, True): 10, (1, False): 10}


def test_replicas_share_an_epoch(rare):
    whole = list(BalancedExpressionSampler(rare, num_samples=21, seed=7, num_replicas=1))
    parts = [
        BalancedExpressionSampler(rare, num_samples=21, seed=7, num_replicas=2, rank=rank)
        for rank in (0, 1)
    ]
    assert [len(part) for part in parts] == [len(list(part)) for part in parts] == [11, 11]
    assert len(whole) == 21
    first = [list(part) for part in parts]
    for part in parts:
        part.set_epoch(1)
    assert [list(part) for part in parts] != first
    labels = Counter(rare.targets[i] for part in first for i in part)
    assert labels == {0: 11, 1: 11}


def test_torch_seed(rare):
    sampler = BalancedExpressionSampler(rare)
    torch.manual_seed(0)
    first, second = list(sampler), list(sampler)
    torch.manual_seed(0)
    assert list(sampler) == first != second


def test_wrong_arguments(rare):
    replacing = ExpressionAugmentedDataset(rare.base, rare.augmenter, mode="replace")
    with pytest.raises(ValueError, match="cannot be balanced ahead"):
        BalancedExpressionSampler(replacing)
    assert len(BalancedExpressionSampler(replacing.base)) == 12
    wrong = {"max_synthetic": 1.5, "rank": 1, "num_samples": 0, "num_replicas": 2}
    for name, value in wrong.items():
        expected = "one seed" if name == "num_replicas" else name
        with pytest.raises(ValueError, match=expected):
            BalancedExpressionSampler(rare, **{name: value})


class _Labelled(list):
    targets = property(list)


@settings(deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=60), st.integers(1, 100), st.integers())
def test_any_labels(labels, num_samples, seed):
    sampler = BalancedExpressionSampler(_Labelled(labels), num_samples=num_samples, seed=seed)
    indices = list(sampler)
    assert len(indices) == len(sampler) == num_samples
    counts = Counter(labels[i] for i in indices)
    times = [counts[label] for label in set(labels)]
    assert max(times) - min(times) <= 1
    assert list(sampler) == indices
