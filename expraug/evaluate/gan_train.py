"""GAN-train and GAN-test: what a net learns from synthetics alone, and what one trained on real
faces sees in them.

Shmelkov, Schmid & Alahari 2018: a low Fréchet distance has been seen beside synthetics that teach
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import xxhash
from torch import Tensor

from expraug.evaluate.bootstrap import Bootstrap, Estimate
from expraug.evaluate.context import Context
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.result import Line, Result
from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERNet, see

MIN_TRAIN, MIN_TEST = 20, 8
STEPS, _BATCH = 250, 64


@dataclass
class GanTrain(Result):
    """Balanced accuracies of a small net; its people are never those it is tested on.

    Args:
        expressions: the classes; guessing gets 1 / their number right.
        gan_train: trained on synthetics only, tested on real faces.
        gan_test: trained on real faces, tested on synthetics.
        real: trained on real faces, tested on real faces.
        real_from: the set of the real faces.
        data: name of the set.
    """

    expressions: list[str]
    gan_train: Estimate
    gan_test: Estimate
    real: Estimate
    real_from: str
    data: str

    def lines(self) -> list[Line]:
        where = "" if self.real_from == self.data else f"; real from {self.real_from}"
        classes = ", ".join(self.expressions) + where
        rows = (
            ("GAN-train", self.gan_train),
            ("GAN-test", self.gan_test),
            ("real to real", self.real),
        )
        return [Line("balanced accuracy", word, str(e), classes, str(e.n)) for word, e in rows]


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


def measure(context: Context, steps: int = STEPS) -> GanTrain:
    """Train two small nets and test them on the other half of the people.

    The real faces are the data's, or the reference's if that has enough of more classes: never
    both, for then the net would tell the sets apart and not the expressions.

    Args:
        context: gives the faces.
        steps: of training, each on 64 faces.

    Raises:
        TooFewFacesError: not two classes with 20 faces to train on and 8 to test on.
    """
    synthetic = _synthetic(context)
    sets = [s for s in (context.data, context.reference) if s is not None]
    options = [(_usable(synthetic, _real(s)), s) for s in sets]
    classes, chosen = max(options, key=lambda option: len(option[0]))
    if len(classes) < 2:
        raise TooFewFacesError(
            f"needs two expressions with {MIN_TRAIN} synthetic and {MIN_TRAIN} real faces of one "
            f"half of the people and {MIN_TEST} of the other; there are {len(classes)}"
        )
    made_part, real_part = (_only(p, classes) for p in (synthetic, _real(chosen)))
    by_synthetics = _train(made_part.of(True), len(classes), steps)
    by_real = _train(real_part.of(True), len(classes), steps)
    return GanTrain(
        expressions=[str(Expression(c)) for c in classes],
        gan_train=_balanced(by_synthetics, real_part.of(False), context.bootstrap),
        gan_test=_balanced(by_real, made_part.of(False), context.bootstrap),
        real=_balanced(by_real, real_part.of(False), context.bootstrap),
        real_from=chosen.name,
        data=context.data.name,
    )


def _windows(faces: Tensor) -> Tensor:
    parts = [see(part.float() / 255) for part in faces.split(256)]
    return torch.cat(parts) if parts else torch.empty(0, 1, 48, 48)


def _real(faces: FaceSet) -> _Part:
    return _Part(_windows(faces.faces), faces.labels, faces.people)


def _synthetic(context: Context) -> _Part:
    made = {target: context.synthetics(target) for target in context.targets}
    people = [p for found in made.values() for p in context.data.who(found.made_of)]
    labels = [torch.full((len(found.made_of),), int(t)) for t, found in made.items()]
    return _Part(
        _windows(torch.cat([m.made_faces for m in made.values()])), torch.cat(labels), people
    )


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
