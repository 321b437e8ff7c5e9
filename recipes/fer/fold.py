"""Folds: who trains, who validates, who tests, and the proof that nobody does two of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import xxhash
from torch import Tensor

from expraug.datasets import person_split
from expraug.errors import ExpraugError
from expraug.expressions import Expression
from recipes.fer.data import FaceTable, with_labels


class LeakError(ExpraugError):
    """A test or validation image or person is in the training fold."""

    reason = "leak"


@dataclass(frozen=True)
class Cut:
    """What is cut out of the training set.

    Args:
        classes: that are learned; none given means every class with at least `least` faces.
        least: see `classes`.
        keep: share of the training images, stratified by class.
        tail: most images that rare classes may have, 0 for all.
        tail_classes: the rare classes; none given means all but the two most frequent.
        validation: share of the images that validate, where people are not named and no validation
            set is given.
        hold_out: test people of the training set, by `person_split`, are tested on as "test",
            besides the test sets that are given.
        test_split: of test sets that name their people, keep only those of this split; "all" keeps
            everyone. Synthesizers that come with expraug have seen train people of public sets.
        seed: of the cut.
    """

    classes: tuple[str, ...] = ()
    least: int = 40
    keep: float = 1.0
    tail: int = 0
    tail_classes: tuple[str, ...] = ()
    validation: float = 0.1
    hold_out: bool = False
    test_split: str = "all"
    seed: int = 0


@dataclass
class Fold:
    """Faces to train, validate and test on; `labels` count the classes in their order.

    Args:
        classes: E expressions.
        train, validation: faces.
        tests: by name.
        dropped: training faces left out because their image or person is in another part.
    """

    classes: tuple[Expression, ...]
    train: FaceTable
    validation: FaceTable
    tests: dict[str, FaceTable]
    dropped: int = 0

    def labels(self, table: FaceTable) -> tuple[FaceTable, Tensor]:
        """Return the faces of a table that show one of the classes, and their class indices."""
        kept = with_labels(table, self.classes)
        return kept, kept.labels


def cut(
    train: FaceTable, validation: FaceTable | None, tests: Mapping[str, FaceTable], how: Cut
) -> Fold:
    """Return the fold.

    Without validation or test set, people that are named are split by `person_split`; of a set
    that names nobody a stratified share of the images validates, and a test set must be given.

    Raises:
        ValueError: no test set, and none can be cut; or fewer than two classes.
        LeakError: the parts are not disjoint after all.
    """
    tests = {name: _only_split(table, how.test_split) for name, table in tests.items()}
    named = [bool(p) for p in train.people]
    if all(named):
        split = [person_split(p) for p in train.people]
        if how.hold_out or not tests:
            tests["test"] = train.take(_where(split, "test"))
        if validation is None:
            validation = train.take(_where(split, "validation"))
    elif not tests:
        raise ValueError("no --test, and the training set does not say who is who: give one")
    if validation is None:
        held = _stratified(train, how.validation, f"validation-{how.seed}")
        validation, train = train.take(held), train.take(~held)
    before = len(train)
    train = without(train, [validation, *tests.values()])
    dropped = before - len(train)
    if how.keep < 1:
        train = train.take(_stratified(train, how.keep, f"keep-{how.seed}"))
    classes = _classes(train, how)
    train = _cut_tail(train.of(classes), classes, how)
    fold = Fold(classes, train, validation.of(classes), tests, dropped)
    prove_disjoint(fold.train, [fold.validation, *tests.values()])
    return fold


def without(train: FaceTable, others: Sequence[FaceTable]) -> FaceTable:
    """Return the training faces whose image and person are in none of the other tables."""
    images = {key for other in others for key in other.image_keys()}
    people = {p for other in others for p in other.people if p}
    pairs = zip(train.image_keys(), train.people, strict=True)
    return train.take(torch.tensor([k not in images and p not in people for k, p in pairs]))


def prove_disjoint(train: FaceTable, others: Sequence[FaceTable]) -> None:
    """Compare the hash of every image and the name of every person.

    Sources and within-fold exemplars of synthetics are faces of the training fold, so what holds
    for it holds for them.

    Raises:
        LeakError: an image or a person of another table is in the training fold.
    """
    kept = without(train, others)
    if len(kept) != len(train):
        raise LeakError(f"{len(train) - len(kept)} training faces are in validation or test")


def _only_split(table: FaceTable, split: str) -> FaceTable:
    if split == "all" or not all(table.people):
        return table
    return table.take(_where([str(person_split(p)) for p in table.people], split))


def _where(split: Sequence[str], name: str) -> Tensor:
    return torch.tensor([s == name for s in split])


def _slots(table: FaceTable, salt: str) -> Tensor:
    """Return an order of the faces that only their images decide, (N,) in [0, 1)."""
    found = [xxhash.xxh3_64_intdigest(key + salt.encode()) / 2**64 for key in table.image_keys()]
    return torch.tensor(found, dtype=torch.float64)


def _stratified(table: FaceTable, share: float, salt: str) -> Tensor:
    """Return a mask of a share of the faces of each class, at least one."""
    slots, mask = _slots(table, salt), torch.zeros(len(table), dtype=torch.bool)
    for label in torch.unique(table.labels):
        own = (table.labels == label).nonzero().flatten()
        count = max(1, round(share * len(own)))
        mask[own[slots[own].argsort()[:count]]] = True
    return mask


def _classes(train: FaceTable, how: Cut) -> tuple[Expression, ...]:
    if how.classes:
        return tuple(Expression.parse(c) for c in how.classes)
    counts = torch.bincount(train.labels, minlength=len(Expression))
    found = tuple(e for e in Expression if counts[e] >= how.least)
    if len(found) < 2:
        raise ValueError(f"fewer than two classes have {how.least} faces: {train.counts()}")
    return found


def _cut_tail(train: FaceTable, classes: Sequence[Expression], how: Cut) -> FaceTable:
    if not how.tail:
        return train
    counts = torch.bincount(train.labels, minlength=len(Expression))
    order = sorted(classes, key=lambda c: -int(counts[c]))
    rare = [Expression.parse(c) for c in how.tail_classes] or order[2:]
    slots, keep = _slots(train, f"tail-{how.seed}"), torch.ones(len(train), dtype=torch.bool)
    for label in rare:
        own = (train.labels == int(label)).nonzero().flatten()
        keep[own[slots[own].argsort()[how.tail :]]] = False
    return train.take(keep)


def splits(table: FaceTable, count: int) -> Tensor:
    """Return the cross-fitting fold of each face, (N,) long: all faces of a person in one."""
    names = [
        person.encode() if person else key
        for key, person in zip(table.image_keys(), table.people, strict=True)
    ]
    return torch.tensor([xxhash.xxh3_64_intdigest(n, seed=3) % count for n in names])
