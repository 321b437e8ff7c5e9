"""A setting's faces, real and synthetic, and what its nets are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.networks.class_index import class_index
from recipes.fer.conditions import CLEAREST, CONDITIONS, NATURAL, NEUTRAL, OWN, REAL, STRONG
from recipes.fer.folds import LFW, LONDON, SETTINGS, FaceSet, Setting, training_rows
from recipes.fer.pack_tables import Pack, load_synthetics
from recipes.fer.synthetics import Synthetics
from recipes.fer.training import Samples

VALIDATION, UNIQUE, POOLED = "validation", "test without duplicates", "pooled"


@dataclass
class Fold:
    """A setting's faces on the device.

    Args:
        setting: whose.
        samples: to train on.
        tests: pixels and labels by name.
        rows: (R,) long, place of each real face in the set's training file.
    """

    setting: Setting
    samples: Samples
    tests: dict[str, tuple[Tensor, Tensor]]
    rows: Tensor

    def counts(self) -> dict[str, int]:
        """Return the number of real training faces of each class."""
        labels = self.samples.labels[: len(self.samples.real)]
        found = torch.bincount(labels, minlength=self.samples.classes).tolist()
        return {str(e): n for e, n in zip(self.setting.classes, found, strict=True)}


def read_fold(
    setting: Setting, folder: Path, synthetics: Sequence[Path], device: torch.device
) -> Fold:
    """Return a setting's faces, and the synthetics that there are for it.

    Args:
        setting: what is trained on.
        folder: of `recipes.fer.pack_tables`.
        synthetics: folders that hold synthetics; the first that has some of a name counts.
        device: where the faces go.
    """
    pack = Pack.load(folder / setting.pack)
    index = class_index(setting.classes)
    labels = torch.from_numpy(pack.train.labels(setting.scheme))
    rows = training_rows(setting, pack.train.labels(setting.scheme), pack.validation)
    pixels, classes = [pack.train.pixels[rows]], [index[labels[rows]]]
    sources = [index[labels[rows]]]
    rare = index[torch.tensor([int(e) for e in setting.rare])]
    pools = {REAL: torch.isin(classes[0], rare).nonzero().flatten()}
    count = len(rows)
    for name in sorted({c.extra for c in CONDITIONS.values()} - {"", REAL, OWN}):
        whose = setting.synthetics or setting.name
        found = (load_synthetics(folder, f"{whose}-{name}") for folder in synthetics)
        made = next((one for one in found if one is not None), None)
        if made is None:
            continue
        usable = np.isin(made.target, [int(e) for e in setting.rare]) & ~made.own
        natural = made.seen >= pack.least[made.target]
        neutral = labels.numpy()[made.source] == int(Expression.NEUTRAL)
        place = count + torch.arange(len(made))
        neutral &= natural
        masks = {"": True, NATURAL: natural, NEUTRAL: neutral}
        masks[STRONG] = neutral & (made.intensity == 1)
        masks[CLEAREST] = neutral & _clearest(made, neutral & usable)
        for only, mask in masks.items():
            pools[name + only] = place[torch.from_numpy(usable & mask)]
        if name == "transfer":
            of_rare = np.isin(made.target, [int(e) for e in setting.rare])
            pools[OWN] = place[torch.from_numpy(of_rare & made.own)]
        pixels.append(made.pixels)
        classes.append(index[torch.from_numpy(made.target)])
        sources.append(index[labels[made.source]])
        count += len(made)
    samples = Samples(
        torch.from_numpy(np.concatenate(pixels)).to(device),
        torch.cat(classes).to(device),
        torch.arange(len(rows)),
        pools,
        len(setting.classes),
        torch.cat(sources).to(device),
    )
    return Fold(setting, samples, _tests(setting, pack, folder, device), torch.from_numpy(rows))


def _clearest(made: Synthetics, among: np.ndarray) -> np.ndarray:
    """Return the third of each class, among some, that the classifier sees most clearly, (N,)
    bool."""
    found = np.zeros(len(made), bool)
    for target in np.unique(made.target[among]):
        rows = np.flatnonzero(among & (made.target == target))
        found[rows[np.argsort(-made.seen[rows], kind="stable")[: -(-len(rows) // 3)]]] = True
    return found


def _tests(
    setting: Setting, pack: Pack, folder: Path, device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the validation cut; the test faces, all and without near-duplicates of training; both
    parts that are not trained on together, as a rare class has few faces in either; and the test
    faces of other sets that the folder has, of the expressions that both sets name."""

    def chosen(faces: FaceSet, keep: np.ndarray | bool = True) -> tuple[np.ndarray, np.ndarray]:
        found = faces.labels(setting.scheme)
        keep = np.isin(found, [int(e) for e in setting.classes]) & keep
        return faces.pixels[keep], found[keep]

    cut = chosen(pack.train, pack.validation)
    only = chosen(pack.test, ~pack.test.duplicate)
    pooled = np.concatenate([cut[0], only[0]]), np.concatenate([cut[1], only[1]])
    named = {VALIDATION: cut, "test": chosen(pack.test), UNIQUE: only, POOLED: pooled}
    for name in {"", LFW, LONDON} - {setting.pack}:
        if (folder / name / "labels.npz").is_file():
            other = Pack.load(folder / name)
            known = np.isin(other.test.ferplus, [int(e) for e in SETTINGS[LFW].classes])
            named[name or "fer+"] = chosen(other.test, ~other.test.duplicate & known)
    index = class_index(setting.classes)
    return {
        name: (torch.from_numpy(pixels).to(device), index[torch.from_numpy(labels)])
        for name, (pixels, labels) in named.items()
    }
