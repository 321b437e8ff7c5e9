"""Sampling classes equally often, with a limit on how much of a class may be synthetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from expraug.datasets.augmented import ExpressionAugmentedDataset, is_synthetic
from expraug.labels import labels_of


class BalancedExpressionSampler(Sampler[int]):
    """Draws every class equally often, from real and synthetic samples.

    Within a class no sample comes a second time before the others of its kind have come once. Of
    a class that has both, synthetic samples make up their own share of the class or
    `max_synthetic`, whichever is less: rare classes are filled up by other people's faces without
    drowning their real ones.

    Without a seed, torch's global generator shuffles, as in `RandomSampler`. Distributed training
    needs one, the same in each process: give `num_replicas` and `rank` as to `DistributedSampler`
    and call `set_epoch` before each epoch. Frameworks that put a distributed sampler around every
    sampler must be told not to (Lightning: `Trainer(use_distributed_sampler=False)`).

    Args:
        dataset: an `ExpressionAugmentedDataset` of `mode="add"`, a `Subset` of one, or any data
            set whose labels `labels_of` finds.
        num_samples: indices per epoch, over all replicas; None: as many as the data set has.
        max_synthetic: in [0, 1].
        seed: any integer, or None.
        num_replicas, rank: processes of distributed training, and which this one is.

    Raises:
        ValueError: an argument out of range; several replicas without a seed; or a data set of
            `mode="replace"`, whose labels are not known before a sample is read.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        num_samples: int | None = None,
        max_synthetic: float = 0.5,
        seed: int | None = None,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if isinstance(dataset, ExpressionAugmentedDataset) and dataset.mode == "replace":
            raise ValueError(
                "which expression a sample of mode='replace' shows is drawn when it is read, so "
                "its classes cannot be balanced ahead: use mode='add', or the policy Balance. To "
                "balance the real faces behind it, give the sampler the base data set"
            )
        if not 0 <= max_synthetic <= 1:
            raise ValueError(f"max_synthetic must be in [0, 1], not {max_synthetic}")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank must be in [0, {num_replicas}), not {rank}")
        if num_replicas > 1 and seed is None:
            raise ValueError("replicas must draw the same samples: give all of them one seed")
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"num_samples must be positive, not {num_samples}")
        labels = [_class_of(label) for label in labels_of(dataset)]
        synthetic = is_synthetic(dataset)
        self._pools: list[tuple[torch.Tensor, torch.Tensor]] = []
        for label in sorted(set(labels)):
            real, made = (
                [i for i, (other, s) in enumerate(zip(labels, synthetic, strict=True))
                 if other == label and s is kind]
                for kind in (False, True)
            )  # fmt: skip
            self._pools.append((torch.tensor(real), torch.tensor(made)))
        total = len(labels) if num_samples is None else num_samples
        self._total = -(-total // num_replicas) * num_replicas  # each replica gets as many
        self.max_synthetic = max_synthetic
        self.seed = seed
        self.num_replicas, self.rank = num_replicas, rank
        self._epoch = 0

    def __len__(self) -> int:
        return self._total // self.num_replicas

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, on which the order depends where a `seed` was given."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        if self.seed is None:
            generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        else:
            generator.manual_seed((self.seed + self._epoch) & (2**64 - 1))
        per_class, rest = divmod(self._total, len(self._pools))
        # which classes get one more is drawn, so that over epochs none is preferred
        favoured = set(torch.randperm(len(self._pools), generator=generator)[:rest].tolist())
        drawn = []
        for number, (real, made) in enumerate(self._pools):
            count = per_class + (number in favoured)
            share = len(made) / (len(real) + len(made))
            synthetic = round(count * (min(share, self.max_synthetic) if len(real) else 1.0))
            drawn += [_take(made, synthetic, generator), _take(real, count - synthetic, generator)]
        indices = torch.cat(drawn)
        indices = indices[torch.randperm(len(indices), generator=generator)]
        return iter(indices[self.rank :: self.num_replicas].tolist())


def _class_of(label: Any) -> Any:
    """Return the class of a label: of a vector, the one that has most of it."""
    return int(np.argmax(label)) if np.ndim(label) == 1 else label


def _take(pool: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Return `count` elements of a pool, shuffled; it is gone through as often as need be."""
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    rounds = -(-count // len(pool))
    order = torch.cat([torch.randperm(len(pool), generator=generator) for _ in range(rounds)])
    return pool[order[:count]]
