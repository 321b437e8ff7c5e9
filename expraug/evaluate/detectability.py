"""Detectability: can a net tell synthetics from real faces of people it has not seen?

Real against real gives an AUC of 0.5, and so would perfect synthetics. Neither the data set nor the
expression may give a face away, as a sharper camera or a class of which there are no real faces
would: the net learns only from classes of which a set has both real and synthetic faces, in equal
shares, and a synthetic is compared with real faces of its own set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.evaluate.bootstrap import Bootstrap, Estimate, split_by_person
from expraug.evaluate.context import MIN_REAL, Context
from expraug.evaluate.controls import ControlContext
from expraug.evaluate.face_set import FaceSet, TooFewFacesError
from expraug.evaluate.regions import REGIONS, region_of
from expraug.evaluate.result import Headline, Line, Result, headline_of
from expraug.expressions import Expression
from expraug.threads import single_threaded

NAME = "detectability"
STEPS, SEEDS = 200, 2
SLIGHTEST = 0.01
"""The least intensity there is: what the pipeline does to a face that hardly changes."""
MIN_PAIRS = 20
"""Fewest synthetics of one half of the people, with as many real faces, that a net learns from."""
_SIDE, _WIDTH, _BATCH, _RATE = 64, 8, 32, 6e-3


@dataclass(frozen=True)
class Region:
    """AUC of real against synthetic, from one region of the face.

    Args:
        auc: all targets together.
        control: of faces that went through the pipeline without a change of expression; None
            where none could be made.
        targets: the AUC of each target's synthetics.
    """

    auc: Estimate
    control: Estimate | None
    targets: dict[str, Estimate]


@dataclass
class Detectability(Result):
    """AUCs by region.

    Args:
        regions: by name.
        control: what the faces of the control are.
        elsewhere: targets whose synthetics are compared with real faces of other expressions, as
            no set of the data has enough of their own.
    """

    regions: dict[str, Region]
    control: str
    elsewhere: list[str]

    def caption(self) -> str:
        return f"detectability control: {self.control}"

    def headline(self) -> Headline:
        found: Headline = {}
        for name, region in self.regions.items():
            found |= headline_of(f"detectability, {name}", region.targets, region.auc)
        return found

    def lines(self) -> list[Line]:
        lines = []
        for name, region in self.regions.items():
            beside = f"0.5 is perfect; control {region.control or '–'}"
            lines.append(Line(f"{NAME}, {name}", "", str(region.auc), beside, str(region.auc.n)))
            for target, e in region.targets.items():
                than = "than real faces of other expressions" if target in self.elsewhere else ""
                lines.append(Line(f"{NAME}, {name}", target, str(e), than, str(e.n)))
        return lines


@dataclass(frozen=True)
class Mixture:
    """Real and synthetic faces among each other.

    Args:
        faces: (N, 3, S, S) uint8.
        synthetic: (N,) bool.
        sets: (N,) int, the set that each came from.
        shown: (N,) int, the `Expression` that each shows, or should.
        people: N.
    """

    faces: Tensor
    synthetic: np.ndarray
    sets: np.ndarray
    shown: np.ndarray
    people: list[str]

    @cached_property
    def fold(self) -> np.ndarray:
        """(N,) int, which half of the people each shows: 0 or 1, of about as many faces."""
        return split_by_person(self.people)

    def weights(self, among: np.ndarray) -> np.ndarray:
        """Return how often each face is drawn to learn from: (N,) float, of any sum.

        Of each set and class, real and synthetic faces weigh the same, as much as the fewer of
        them are; a class that has only one kind weighs nothing.

        Args:
            among: (N,) bool, faces to learn from.
        """
        weights = np.zeros(len(among))
        for key in set(zip(self.sets, self.shown, strict=True)):
            here = among & (self.sets == key[0]) & (self.shown == key[1])
            kinds = [here & self.synthetic, here & ~self.synthetic]
            least = min(kind.sum() for kind in kinds)
            for kind in kinds:
                if least:
                    weights[kind] = least / kind.sum()
        return weights

    def require_pairs(self) -> None:
        """Raise TooFewFacesError unless each half of the people has 20 pairs to learn from."""
        pairs = min(self.weights(self.fold == half).sum() / 2 for half in (0, 1))
        if pairs < MIN_PAIRS:
            raise TooFewFacesError(
                f"needs {MIN_PAIRS} synthetic and as many real faces of the same classes and sets, "
                f"of each half of the people; there are {pairs:.0f}"
            )

    def opponents(self) -> np.ndarray:
        """Return with which faces each is compared: (N, N) float, rows of synthetics sum to 1.

        With real faces of the same set and half of the people: of the same class, if the set has
        10 of it, else of any.
        """
        real = ~self.synthetic
        near = (self.fold[:, None] == self.fold) & (self.sets[:, None] == self.sets)
        near &= self.synthetic[:, None] & real
        same = self.shown[:, None] == self.shown
        own = near & same
        of_class = ((self.sets[:, None] == self.sets) & same & real).sum(1)
        enough = (of_class >= MIN_REAL) & own.any(1)
        chosen = np.where(enough[:, None], own, near)
        return np.asarray(chosen / np.maximum(chosen.sum(1, keepdims=True), 1))


def measure(context: Context, steps: int = STEPS, seeds: int = SEEDS) -> Detectability:
    """Train nets on either half of the people, and test each on the other half.

    Args:
        context: gives the faces.
        steps: of training, each on 32 faces.
        seeds: nets per half, each from other random weights.

    Raises:
        TooFewFacesError: fewer than 20 pairs of one half of the people to learn from.
    """
    faces = pooled(context)
    faces.require_pairs()  # before more faces are made
    rendered, said = control(context)
    regions = {}
    for name in REGIONS:
        context.advance(f"{NAME}, {name}")
        scores = cross_fitted(faces, name, steps, seeds)
        below = None
        if rendered is not None:
            plain = cross_fitted(rendered, name, steps, seeds)
            below = area(rendered, plain, context.bootstrap)
        targets = {
            str(t): area(faces, scores, context.bootstrap, faces.shown == int(t))
            for t in context.targets
            if (faces.synthetic & (faces.shown == int(t))).any()
        }
        regions[name] = Region(area(faces, scores, context.bootstrap), below, targets)
    return Detectability(regions, said, _elsewhere(faces, context.targets))


def faces_to_make(context: Context) -> int:
    """Return how many faces are made for this measure alone."""
    return sum(len(at) for at, _, _ in _control_requests(context))


def pooled(context: Context) -> Mixture:
    """Return all real faces of the data, and all synthetics at full intensity."""
    data = context.data
    real = context.bystanders()
    made = {target: context.synthetics(target) for target in context.targets}
    sources = torch.cat([m.made_of for m in made.values()])
    shown = [int(t) for t, m in made.items() for _ in range(len(m.made_of))]
    return _mixture(real, data, sources, torch.cat([m.made_faces for m in made.values()]), shown)


def control(context: Context) -> tuple[Mixture | None, str]:
    """Return the faces of the data and what the pipeline makes of them without a new expression.

    That is their own expression, where the synthesizer takes it for a target, and else another at
    the least intensity: it tells what resampling and compositing alone give away.

    Returns:
        The faces, None where none can be made; and what was made of them, in words.
    """
    data = context.data
    sources, faces, words = [], [], []
    for at, target, intensity in _control_requests(context):
        made = context.synthetics(target, intensity, at, keep=False)
        sources.append(made.sources)
        faces.append(made.faces)
        own = intensity == 1
        words.append("their own expression" if own else f"intensity {SLIGHTEST:g}")
    if not sources:
        return None, "none"
    where, pixels = torch.cat(sources), torch.cat(faces)
    rendered = _mixture(data, data, where, pixels, data.labels[where].tolist())
    try:
        rendered.require_pairs()
    except TooFewFacesError:
        return None, "none, of too few faces"
    return rendered, f"real faces through the pipeline, {' or '.join(sorted(set(words)))}"


def _control_requests(context: Context) -> list[tuple[Tensor, Expression, float]]:
    """Return which faces are asked for which target at which intensity."""
    supports, data = context.augmenter.synthesizer.supports, context.data
    requests: list[tuple[Tensor, Expression, float]] = []
    if isinstance(context, ControlContext):  # nothing can be made there
        return requests
    for shown in Expression:
        at = data.of(shown)
        if not len(at):
            continue
        if supports(shown, shown):
            requests.append((at, shown, 1.0))
            continue
        targets = [t for t in context.targets if supports(shown, t)]
        requests += [
            (at[k :: len(targets)], target, SLIGHTEST)
            for k, target in enumerate(targets)
            if len(at[k :: len(targets)])
        ]
    return requests


def _mixture(
    real: FaceSet, data: FaceSet, sources: Tensor, made: Tensor, shown: Sequence[int]
) -> Mixture:
    """Return real faces, and what was made of sources in the data, of which both have the sets."""
    sets, of_real = (np.array(faces.sets or [0] * len(faces)) for faces in (data, real))
    return Mixture(
        torch.cat([real.faces, made]),
        np.arange(len(real) + len(made)) >= len(real),
        np.concatenate([of_real, sets[sources.numpy()]]),
        np.concatenate([real.labels.numpy(), np.array(shown, int)]),
        real.people + data.who(sources),
    )


def _elsewhere(faces: Mixture, targets: Sequence[Expression]) -> list[str]:
    """Return the targets that are not compared with faces of their own class."""
    against = faces.opponents()
    own = (against * (faces.shown[:, None] == faces.shown)).sum(1)
    found = {t: own[faces.synthetic & (faces.shown == int(t))] for t in targets}
    return [str(t) for t, share in found.items() if len(share) and share.mean() < 0.5]


def cross_fitted(faces: Mixture, region: str, steps: int, seeds: int) -> list[np.ndarray]:
    """Return what nets that saw none of a face's people say of it: (N,) logits for each seed."""
    pixels = _looked_at(faces.faces, region)
    label = torch.from_numpy(faces.synthetic).float()
    scores = [np.zeros(len(label)) for _ in range(seeds)]
    for half in (0, 1):
        weights = faces.weights(faces.fold != half)
        test = np.flatnonzero(faces.fold == half)
        for seed in range(seeds):
            net = _train(pixels, label, torch.from_numpy(weights), steps, seed)
            with torch.inference_mode():
                scores[seed][test] = net(pixels[test])[:, 0].numpy()
    return scores


def _looked_at(faces: Tensor, region: str) -> Tensor:
    """Return what a net sees of (N, 3, S, S) uint8 faces: (N, 3, h, w) float in [-1, 1].

    A region keeps its pixels, in which traces of resampling are; the whole face is reduced.
    """
    pixels = region_of(faces, region).float()
    if region == "face":
        pixels = F.interpolate(pixels, (_SIDE, _SIDE), mode="area")
    return (pixels / 127.5 - 1).contiguous(memory_format=torch.channels_last)


class _MeanAndMost(nn.Module):
    """A trace may be anywhere, and in one place alone."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


def _net() -> nn.Sequential:
    """Return a net that reads one logit, of each face by itself: there is no batch norm."""
    w = _WIDTH
    layers: list[nn.Module] = []
    for inputs, outputs, side in ((3, w, 5), (w, 2 * w, 3), (2 * w, 3 * w, 3)):
        convolution = nn.Conv2d(inputs, outputs, side, 2, side // 2, bias=False)
        layers += [convolution, nn.GroupNorm(4, outputs), nn.ReLU()]
    return nn.Sequential(*layers, _MeanAndMost(), nn.Linear(6 * w, 1))


def _train(pixels: Tensor, label: Tensor, weights: Tensor, steps: int, seed: int) -> nn.Module:
    # so small a net learns faster on one core
    with torch.random.fork_rng(devices=[]), single_threaded():
        torch.manual_seed(seed)
        net = _net().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
        for _ in range(steps):
            batch = torch.multinomial(weights, _BATCH, replacement=True)
            x = pixels[batch]
            x = torch.where(torch.rand(_BATCH, 1, 1, 1) < 0.5, x, x.flip(3))
            loss = F.binary_cross_entropy_with_logits(net(x)[:, 0], label[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def area(
    faces: Mixture,
    scores: Sequence[np.ndarray],
    bootstrap: Bootstrap,
    among: np.ndarray | None = None,
) -> Estimate:
    """Return the area under the ROC curve, each synthetic compared with its own `opponents`.

    Args:
        faces: N.
        scores: (N,) for each seed.
        bootstrap: over people.
        among: (N,) bool, whose synthetics count; None takes all.
    """
    counted = faces.synthetic if among is None else faces.synthetic & among
    against = faces.opponents()[counted][:, ~faces.synthetic]
    weights = bootstrap.weights(faces.people)
    made, real = weights[:, counted], weights[:, ~faces.synthetic]
    below = ((made @ against) * real).sum(1)
    rounds = []
    for score in scores:
        gap = score[counted][:, None] - score[~faces.synthetic]
        higher = (np.sign(gap) + 1) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            rounds.append(((made @ (against * higher)) * real).sum(1) / below)
    return Estimate.over_seeds(rounds, int(counted.sum()))
