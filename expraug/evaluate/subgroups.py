"""Where it holds: the same figures for turned heads, grey or small images, glasses, beards."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from expraug.evaluate.agreement import Agreement
from expraug.evaluate.bootstrap import Bootstrap, Estimate
from expraug.evaluate.face_set import FaceSet
from expraug.evaluate.identity import Identity
from expraug.expand.checks import SourceError
from expraug.expressions import Expression

YAWS = (0, 10, 20, 35, 90)
"""Bounds, in degrees, of the bands that heads are sorted into by how far they turn."""
SMALL = 64
"""Images whose shorter side, in pixels, is at most this are small, as FER2013's 48."""
MIN_FACES = 5


@dataclass(frozen=True)
class Subgroup:
    """Synthetics of the sources of one kind, of all targets that the classifier knows together.

    Args:
        sources: how many faces of the kind synthetics were made of.
        recall: share in which the classifier sees the target.
        verified: share that is still the same person; None without an identity encoder.
    """

    sources: int
    recall: Estimate
    verified: Estimate | None


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


def measure_subgroups(
    data: FaceSet,
    sources: Mapping[Expression, torch.Tensor],
    agreement: Mapping[str, Agreement],
    identity: Identity | None,
    named: Mapping[str, set[str]],
    bootstrap: Bootstrap,
) -> dict[str, Subgroup]:
    """Return the figures of every kind that at least 5 sources are of.

    Args:
        sources: by target, the indices of the faces that it was made of.
        agreement, identity: what was measured on all of them.
    """
    found = {}
    for name, is_member in members(data, named).items():
        seen: list[bool] = []
        kept: list[bool] = []
        people: list[str] = []
        used: set[int] = set()
        for target, indices in sources.items():
            if str(target) not in agreement:
                continue
            places = np.flatnonzero(is_member[indices.numpy()])
            used |= set(indices[places].tolist())
            people += data.who(indices[places])
            seen += [agreement[str(target)].seen[i] for i in places]
            if identity:
                kept += [identity.cosine[str(target)][i] > identity.threshold for i in places]
        if len(used) >= MIN_FACES:
            found[name] = Subgroup(
                len(used),
                bootstrap.estimate(np.array(seen), people),
                bootstrap.estimate(np.array(kept), people) if identity else None,
            )
    return found
