"""The bank of exemplars while it is fitted: a dict of tensors, and the synthesizer it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expraug.expressions import Expression
from expraug.synthesizers.transfer import TransferSynthesizer
from recipes.transfer.mesh import (
    CHEEK,
    EYE_SCORES,
    LIDS,
    LOWER_IN,
    MOUTH_SHAPE,
    MOVES,
    OVAL,
    RINGS,
    TEXTURE,
    UPPER_IN,
    drawing_samples,
    mouth_frame,
    to_texture,
)

Bank = dict[str, Tensor]
ROWS = ("expression", "scores", "shape", "texture", "mouth", "pose", "rank")
"""What there is one of for each row; rows are in order of their expressions."""

LIMITS = (0.25, 0.55)
"""Largest brightening and darkening, in log units; chosen by eye."""


def skeleton(shape: dict[str, np.ndarray], rest: np.ndarray, spread: np.ndarray) -> Bank:
    """Return all of a bank that does not depend on exemplars or light.

    Args:
        shape: from `geometry.fit_shape`.
        rest, spread: from `geometry.resting_scores`.
    """
    reference = shape["reference"]
    samples = drawing_samples(reference)
    triangles, of_sample = np.unique(samples["idx"], axis=0, return_inverse=True)
    frame = np.concatenate([to_texture(corner) for corner in mouth_frame(reference)])
    values = {
        **{name: shape[name] for name in ("basis", "basis_yaw", "basis_pitch", "reference")},
        "rest": rest,
        "spread": spread,
        "moves": MOVES,
        "limits": np.array(LIMITS),
        "ring_radius": np.array([far for far, _ in RINGS]),
        "ring_share": np.array([share for _, share in RINGS]),
        "mouth_frame": frame,
        "barycentric": samples["bary"],
        "sample_texture": samples["uv"],
        "sample_hole": samples["hole"],
        "sample_area": samples["cell"],
    }
    indices = {
        "triangles": triangles,
        "sample_triangle": of_sample.reshape(-1),
        "oval": np.array(OVAL),
        "upper_lip": np.array(UPPER_IN),
        "lower_lip": np.array(LOWER_IN),
        "cheeks": np.array(CHEEK),
        "lids": np.array(LIDS),
        "eye_scores": np.array(EYE_SCORES),
    }
    bank = {name: torch.from_numpy(np.asarray(v, np.float32)) for name, v in values.items()}
    bank |= {name: torch.from_numpy(v.astype(np.int64)) for name, v in indices.items()}
    bank["gain"] = bank["detail"] = torch.ones(len(Expression))
    return bank


def take(bank: Bank, rows: Tensor | list[int]) -> Bank:
    """Return the bank with only some rows, in order of their expressions."""
    rows = torch.as_tensor(rows)
    rows = rows[bank["expression"][rows].argsort(stable=True)]
    return bank | {name: bank[name][rows] for name in ROWS}


def insert(bank: Bank, row: Bank) -> Bank:
    """Return the bank with a row before the others of its expression."""
    longer = bank | {name: torch.cat([row[name][None], bank[name]]) for name in ROWS}
    return take(longer, list(range(len(longer["expression"]))))


def rows_of(bank: Bank, expression: int) -> list[int]:
    return (bank["expression"] == expression).nonzero()[:, 0].tolist()


def full_maps(values: np.ndarray, place: np.ndarray) -> Tensor:
    """Return (N, K) values at K texels as (N, 112, 112) maps, 0 elsewhere."""
    maps = np.zeros((len(values), TEXTURE * TEXTURE), np.float32)
    maps[:, place] = values
    return torch.from_numpy(maps.reshape(-1, TEXTURE, TEXTURE))


def synthesizer(bank: Bank) -> TransferSynthesizer:
    """Return the synthesizer that a bank makes."""
    inside = bank["mask"] > 0
    count = torch.bincount(bank["expression"], minlength=len(Expression)).tolist()
    model = TransferSynthesizer(
        {str(e): count[e] for e in Expression if count[e]},
        triangles=len(bank["triangles"]),
        samples=len(bank["sample_hole"]),
        texels=int(inside.sum()),
        texture_size=TEXTURE,
        mouth_size=MOUTH_SHAPE,
    )
    own = dict(model.named_buffers())
    state = {}
    for name in model.state_dict():
        value = bank[name]
        if name in ("appearance", "texture"):
            value = value[:, inside]
        state[name] = value.to(own[name].dtype).clone()
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def save(bank: Bank, file: Path) -> None:
    part = file.with_suffix(".part")
    torch.save(bank, part)
    part.replace(file)


def load(file: Path) -> Bank:
    bank: Bank = torch.load(file, weights_only=True)
    return bank
