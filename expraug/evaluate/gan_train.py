"""Use: what a net learns from synthetics alone, and what a net trained on real faces sees in them.

GAN-train and GAN-test (Shmelkov, Schmid & Alahari 2018): a low Fréchet distance has been seen
beside synthetics that teach nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import xxhash
from torch import Tensor

from expraug.evaluate.bootstrap import Bootstrap, Estimate
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERNet, see

MIN_TRAIN, MIN_TEST = 20, 8
STEPS, _BATCH = 250, 64


@dataclass(frozen=True)
class Use:
    """Balanced accuracies of a small net; its people are never those it is tested on.

    Args:
        expressions: the classes; guessing gets 1 / their number right.
        gan_train: trained on synthetics only, tested on real faces.
        gan_test: trained on real faces, tested on synthetics.
        real: trained on real faces, tested on real faces.
        real_from: the set of the real faces.
    """

    expressions: list[str]
    gan_train: Estimate
    gan_test: Estimate
    real: Estimate
    real_from: str


@dataclass(frozen=True)
class _Part:
    windows: Tensor
    labels: Tensor
    people: list[str]

    def of(self, first: bool) -> _Part:
        """Return the part of one half of the people, told by the hash of the name."""
        half = [i for i, p in enumerate(self.people) if (_slot(p) == 0) == first]
        return _Part(self.windows[half], self.labels[half], [self.people[i] for i in half])


def _slot(person: str) -> int:
    return xxhash.xxh32_intdigest(person.encode(), seed=2) % 2


def measure_gan_train(
    data: FaceSet,
    reference: FaceSet | None,
    made: Mapping[Expression, tuple[Tensor, Tensor]],
    bootstrap: Bootstrap,
    steps: int = STEPS,
) -> Use:
    """Train three small nets and test them on the other half of the people.

    The real faces are the data's, or the reference's if that has enough of more classes: never
    both, for then the net would tell the sets apart and not the expressions.

    Args:
        made: by target, the indices of the sources in the data, and the synthetics.
        steps: of training, each on 64 faces.

    Raises:
        TooFewFacesError: not two classes with 20 faces to train on and 8 to test on.
    """
    synthetic = _synthetic(data, made)
    options = [(_usable(synthetic, _real(s)), s) for s in (data, reference) if s is not None]
    classes, chosen = max(options, key=lambda option: len(option[0]))
    if len(classes) < 2:
        raise TooFewFacesError(
            f"needs two expressions with {MIN_TRAIN} synthetic and {MIN_TRAIN} real faces of one "
            f"half of the people and {MIN_TEST} of the other; there are {len(classes)}"
        )
    made_part, real_part = (_only(p, classes) for p in (synthetic, _real(chosen)))
    by_synthetics = _train(made_part.of(True), len(classes), steps)
    by_real = _train(real_part.of(True), len(classes), steps)
    return Use(
        expressions=[str(Expression(c)) for c in classes],
        gan_train=_balanced(by_synthetics, real_part.of(False), bootstrap),
        gan_test=_balanced(by_real, made_part.of(False), bootstrap),
        real=_balanced(by_real, real_part.of(False), bootstrap),
        real_from=chosen.name,
    )


def _windows(faces: Tensor) -> Tensor:
    parts = [see(part.float() / 255) for part in faces.split(256)]
    return torch.cat(parts) if parts else torch.empty(0, 1, 48, 48)


def _real(faces: FaceSet) -> _Part:
    return _Part(_windows(faces.faces), faces.labels, faces.people)


def _synthetic(data: FaceSet, made: Mapping[Expression, tuple[Tensor, Tensor]]) -> _Part:
    people = [p for indices, _ in made.values() for p in data.who(indices)]
    labels = [torch.full((len(faces),), int(target)) for target, (_, faces) in made.items()]
    return _Part(_windows(torch.cat([f for _, f in made.values()])), torch.cat(labels), people)


def _usable(synthetic: _Part, real: _Part) -> list[int]:
    def enough(part: _Part, label: int) -> bool:
        train, test = (int((part.of(first).labels == label).sum()) for first in (True, False))
        return train >= MIN_TRAIN and test >= MIN_TEST

    return [int(e) for e in Expression if enough(synthetic, int(e)) and enough(real, int(e))]


def _only(part: _Part, classes: list[int]) -> _Part:
    """Keep these classes, numbered from 0."""
    keep = torch.isin(part.labels, torch.tensor(classes)).nonzero().flatten()
    labels = torch.tensor([classes.index(v) for v in part.labels[keep].tolist()])
    return _Part(part.windows[keep], labels, [part.people[i] for i in keep.tolist()])


def _train(part: _Part, classes: int, steps: int) -> torch.nn.Module:
    """Train a net of 0.05 million parameters on equal shares of the classes, mirrored and moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = FERNet([str(Expression(i)) for i in range(classes)], width=12).train()
        optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        weight = 1 / torch.bincount(part.labels).float()[part.labels]
        for _ in range(steps):
            batch = torch.multinomial(weight, _BATCH, replacement=True)
            x = part.windows[batch]
            x = torch.where(torch.rand(_BATCH, 1, 1, 1) < 0.5, x, x.flip(3))
            top, left = torch.randint(0, 7, (2,)).tolist()
            x = F.pad(x, (3, 3, 3, 3), mode="replicate")[:, :, top : top + 48, left : left + 48]
            loss = F.cross_entropy(net(x), part.labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.inference_mode()
def _balanced(net: torch.nn.Module, part: _Part, bootstrap: Bootstrap) -> Estimate:
    predicted = torch.cat([net(x).argmax(1) for x in part.windows.split(256)])
    hit = (predicted == part.labels).numpy()
    labels = part.labels.numpy()
    recalls = [
        bootstrap.mean(hit[labels == c], [part.people[i] for i in np.flatnonzero(labels == c)])
        for c in np.unique(labels)
    ]
    return Estimate.of(np.mean(recalls, axis=0), len(hit))
