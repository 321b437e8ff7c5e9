"""Subgroups: recall and identity for turned heads, grey or small images, glasses, beards."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from expraug.errors import ExpraugError
from expraug.evaluate import classifier_recall, identity
from expraug.evaluate.bootstrap import Estimate
from expraug.evaluate.context import Context
from expraug.evaluate.face_set import FaceSet
from expraug.evaluate.result import Line, Result
from expraug.expand.checks import SourceError

YAWS = (0, 10, 20, 35, 90)
"""Bounds, in degrees, of the bands that heads are sorted into by how far they turn."""
SMALL = 64
"""Images whose shorter side, in pixels, is at most this are small, as FER2013's 48."""
MIN_FACES = 5


@dataclass(frozen=True)
class Subgroup:
    """Synthetics of the sources of one kind, of all targets that the classifier knows together.

    Args:
        sources: how many faces of the kind synthetics were asked of.
        recall: share of what was asked in which the classifier sees the target.
        verified: share of what was made that is still the same person; None without an identity
            encoder.
    """

    sources: int
    recall: Estimate
    verified: Estimate | None


@dataclass
class Subgroups(Result):
    """Figures of every kind that at least 5 sources are of."""

    groups: dict[str, Subgroup]

    def lines(self) -> list[Line]:
        lines = []
        for name, g in self.groups.items():
            beside = f"identity verified {g.verified}" if g.verified else ""
            lines.append(
                Line("recall, synthetic, subgroup", name, str(g.recall), beside, str(g.sources))
            )
        return lines


def read_subgroups(path: str | Path) -> dict[str, set[str]]:
    """Read which images are of which kind: a CSV file with the columns `image` and `subgroup`.

    Args:
        path: an image is named as a manifest names sources, "happy/012.jpg" or "row 17", say; it
            may be of several kinds, in a line each.

    Raises:
        SourceError: no such file, or other columns.
    """
    found: dict[str, set[str]] = defaultdict(set)
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                found[line["subgroup"]].add(line["image"])
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(
            f"{path} is no list of subgroups ({error!r}): a CSV file with the "
            f"columns image and subgroup is wanted"
        ) from error
    return dict(found)


def members(data: FaceSet, named: Mapping[str, set[str]]) -> dict[str, np.ndarray]:
    """Return, by kind, which faces of a set are of it: (N,) bool.

    Args:
        named: images of further kinds, as `read_subgroups` returns them.
    """
    yaw = np.abs(np.array(data.yaw, np.float64))
    small = np.array([side <= SMALL for side in data.side])
    grey = (data.faces == data.faces[:, :1]).flatten(1).all(1).numpy()
    kinds = {f"yaw {a}° to {b}°": (yaw >= a) & (yaw < b) for a, b in pairwise(YAWS)}
    kinds |= {"grey": grey, "colour": ~grey, f"at most {SMALL} px": small}
    origins = [item.origin for item in data.items]
    for name, images in named.items():
        kinds[name] = np.array([origin in images for origin in origins])
    return kinds


def measure(context: Context) -> Subgroups:
    """Measure every kind that at least 5 sources are of, on the targets the classifier knows."""
    data, bootstrap = context.data, context.bootstrap
    targets = [t for t in context.targets if t in context.classifier.expressions]
    verified = _verified(context)
    found = {}
    for name, is_member in members(data, context.subgroups).items():
        seen: list[np.ndarray] = []
        kept: list[np.ndarray] = []
        people: list[str] = []
        people_kept: list[str] = []
        used: set[int] = set()
        for target in targets:
            made = context.synthetics(target)
            here = is_member[made.sources.numpy()]
            used |= set(made.sources[here].tolist())
            people += data.who(made.sources[here])
            seen.append(classifier_recall.recognised(context, target)[here])
            if verified is not None:
                there = here & made.made.numpy()
                people_kept += data.who(made.sources[there])
                kept.append(identity.cosines(context, target)[there] > verified)
        if len(used) >= MIN_FACES:
            found[name] = Subgroup(
                len(used),
                bootstrap.estimate(np.concatenate(seen), people),
                bootstrap.estimate(np.concatenate(kept), people_kept) if people_kept else None,
            )
    return Subgroups(found)


def _verified(context: Context) -> float | None:
    """Return the cosine above which two faces are one person; None without an encoder."""
    if isinstance(context.identity, ExpraugError):
        return None
    return identity.threshold(context.identity, context.data, identity.embeddings(context))[0]
