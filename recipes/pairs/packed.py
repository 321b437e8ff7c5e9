"""Pairs and faces, small enough to be sent: smooth maps as rounded cosines, faces as WebP."""

from __future__ import annotations

import io
import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recipes.pairs.data import MOVES
from recipes.pairs.made import FLOW_SIDE, LIGHTENING_SIDE, Pairs

KEPT = 32
"""Of the cosines of a map along each axis, from the slowest on."""
FLOW_STEP, LIGHTENING_STEP = 1.25 / 128, 0.1  # of a cosine; a sum of all has norm 1
_PLACE, _LIGHT = 2048, 32  # steps of a frame's side, and of the inside of a mouth
_MESH = 512
_QUALITY = 60
_PART = 1024  # maps at a time

Arrays = dict[str, NDArray[np.generic]]


def pack_pairs(pairs: Pairs, quality: int = _QUALITY) -> Arrays:
    """Return pairs as arrays that compress well; of the landmarks, only those that tell where a
    flow counts."""
    lips = np.asarray(pairs.lips)
    return {
        "flow": pack_maps(pairs.flow, FLOW_STEP),
        "lightening": pack_maps(pairs.lightening, LIGHTENING_STEP),
        "lips": _rounded(lips, _PLACE),
        "moves": _rounded(pairs.moved_lips - lips, _PLACE),
        "interior": _rounded(pairs.interior, _LIGHT),
        "mesh": _rounded(pairs.mesh[:, list(MOVES)], _MESH),
        "probability": pairs.probability.astype(np.float16),
        **{
            name: getattr(pairs, name).astype(np.int32)
            for name in ("shown", "person", "photographed", "source", "target")
        },
        **{f"face {k}": v for k, v in pack_faces(pairs.face, quality).items()},
    }


def unpack_pairs(packed: Arrays) -> Pairs:
    """Return the pairs that `pack_pairs` packed; landmarks that were left out are NaN."""
    lips = packed["lips"].astype(np.float32) / _PLACE
    known = packed["mesh"].astype(np.float32) / _MESH
    mesh = np.full((len(known), 478, 2), np.nan, np.float32)
    mesh[:, list(MOVES)] = known
    whole = {
        name: packed[name].astype(np.int64)
        for name in ("shown", "person", "photographed", "source", "target")
    }
    return Pairs(
        face=unpack_faces({k: packed[f"face {k}"] for k in ("stream", "length")}),
        mesh=mesh,
        flow=unpack_maps(packed["flow"], FLOW_SIDE, FLOW_STEP),
        lightening=unpack_maps(packed["lightening"], LIGHTENING_SIDE, LIGHTENING_STEP),
        lips=lips,
        moved_lips=lips + packed["moves"].astype(np.float32) / _PLACE,
        interior=(packed["interior"].astype(np.float32) / _LIGHT).astype(np.float16),
        probability=packed["probability"].astype(np.float32),
        **whole,
    )


def pack_maps(maps: np.ndarray, step: float) -> NDArray[np.int16]:
    """Return the slowest cosines of (N, C, S, S) maps, rounded to steps: (K, K, C, N), so that what
    is alike lies together."""
    slow = _cosines(maps.shape[-1])
    parts = [
        np.round(slow @ maps[start : start + _PART].astype(np.float32) @ slow.T / step)
        for start in range(0, len(maps), _PART)
    ]
    found = np.concatenate(parts).astype(np.int16)
    return np.ascontiguousarray(found.transpose(2, 3, 1, 0))


def unpack_maps(packed: NDArray[np.generic], side: int, step: float) -> NDArray[np.float16]:
    """Return (N, C, S, S) maps of that side from what `pack_maps` returned."""
    slow, whole = _cosines(side), packed.transpose(3, 2, 0, 1)
    maps = np.empty((*whole.shape[:2], side, side), np.float16)
    for start in range(0, len(maps), _PART):
        part = np.ascontiguousarray(whole[start : start + _PART]).astype(np.float32) * step
        maps[start : start + _PART] = slow.T @ part @ slow
    return maps


def pack_faces(faces: np.ndarray, quality: int = _QUALITY) -> Arrays:
    """Return (N, 1, S, S) uint8 faces as WebP files behind one another, and their lengths."""
    files = []
    for face in faces[:, 0]:
        file = io.BytesIO()
        Image.fromarray(face).save(file, "WEBP", quality=quality)
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    lengths = np.array([len(f) for f in files], np.int32)
    return {"stream": np.concatenate(files), "length": lengths}


def unpack_faces(packed: Arrays) -> NDArray[np.uint8]:
    """Return the (N, 1, S, S) uint8 faces that `pack_faces` packed."""
    ends = np.concatenate([[0], packed["length"].cumsum()])
    found = [
        np.asarray(Image.open(io.BytesIO(packed["stream"][start:end].tobytes())).convert("L"))
        for start, end in pairwise(ends.tolist())
    ]
    return np.stack(found)[:, None]


def _cosines(side: int) -> NDArray[np.float32]:
    """Return the first `KEPT` of the orthonormal cosines over so many places, (K, side)."""
    place = (np.arange(side) + 0.5) / side
    waves = np.cos(math.pi * np.arange(min(KEPT, side))[:, None] * place)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    return waves.astype(np.float32)


def _rounded(values: np.ndarray, steps: int) -> NDArray[np.int16]:
    return np.round(np.asarray(values, np.float32) * steps).astype(np.int16)
