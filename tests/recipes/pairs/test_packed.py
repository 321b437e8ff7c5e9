"""Pairs that are packed to be sent."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.pairs.data import MOVES, importance
from recipes.pairs.made import Pairs
from recipes.pairs.packed import pack_maps, pack_pairs, unpack_maps, unpack_pairs


def test_what_comes_out_is_next_to_what_went_in(pairs_folder: Path) -> None:
    pairs = Pairs.load(pairs_folder)
    found = unpack_pairs(pack_pairs(pairs))
    for f in fields(Pairs):
        one, two = getattr(pairs, f.name), getattr(found, f.name)
        assert one.shape == two.shape, f.name
        assert one.dtype == two.dtype, f.name
    inside = (..., slice(16, 80), slice(16, 80))
    away = np.abs(pairs.flow.astype(np.float32) - found.flow)[inside]
    assert 128 * away.mean() < 0.15 < 128 * np.abs(pairs.flow[inside]).mean()
    for name in ("lips", "moved_lips"):
        assert np.abs(getattr(pairs, name) - getattr(found, name)).max() < 1 / 1024
    assert np.abs(pairs.face.astype(int) - found.face).mean() < 4
    for name in ("shown", "person", "source", "target"):
        assert (getattr(pairs, name) == getattr(found, name)).all()
    assert np.isnan(np.delete(found.mesh, MOVES, 1)).all()
    away = (importance(pairs.mesh) - importance(found.mesh)).abs().mean()
    assert away < 0.1


def test_slow_waves_are_kept_and_fast_ones_are_lost() -> None:
    place = (torch.arange(64) + 0.5) / 64
    slow, fast = (torch.cos(torch.pi * n * place).numpy() for n in (20, 50))
    maps = np.stack([np.outer(slow, slow), np.outer(fast, slow)])[:, None]
    found = unpack_maps(pack_maps(maps, 0.01), 64, 0.01).astype(np.float32)
    assert np.abs(found[0] - maps[0]).max() < 0.01
    assert np.abs(found[1]).max() < 0.01


@pytest.mark.parametrize("step", [0.5, 1e-3])
def test_the_error_is_that_of_rounding(step: float) -> None:
    maps = np.random.default_rng(0).normal(size=(3, 2, 32, 32))  # no more cosines than are kept
    away = unpack_maps(pack_maps(maps, step), 32, step).astype(np.float32) - maps
    assert np.abs(away).mean() < 0.3 * step + 1e-3
