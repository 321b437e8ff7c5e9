"""What exemplars show and nobody else should: stares, winks, grins, pale throats.

Contempt is a corner of the mouth, and little else; its few real faces also look aside, wink and
grin, each in its own way, and who borrows that looks odd, or happy. And where a small photograph
shows a wide open mouth, its inside is a grey mean of tongue, teeth and throat: painted large, a
grey ball.
"""

from __future__ import annotations

import torch
from torch import Tensor

from expraug.evaluate.landmarks import REGIONS
from expraug.expressions import Expression
from expraug.networks.mouth_painter import COLUMNS, ROWS
from expraug.synthesizers.transfer import TransferSynthesizer
from expraug.synthesizers.transfer.exemplars import LendingFaces, bank_of, with_bank
from expraug.synthesizers.transfer.reading import DeviationReader
from recipes.transfer.closed_loop import by_least_squares

CONTEMPT, NEUTRAL = int(Expression.CONTEMPT), int(Expression.NEUTRAL)
IRISES = range(468, 478)
APART = (0.8, 1.06)
"""How much of its mean difference to neutral, in shape and in skin, is added to contempt."""
EYES, GAZE, UPPER_SKIN, LOWER_SKIN = 0.3, 0.15, 0.6, 0.85
"""Share of what contempt does to eyes and brows, to the gaze, and to the skin of either half, of
which more is light beside the nose than furrow."""
ONE_SIDED, LEAST, MOST = 1.4, 0.6, 1.0
"""How much more one-sided contempt gets, and by how much its mouths are one-sided at least and at
most, as multiples of the usual."""
GRIN = 0.06
"""Gap between the lips, as a share of the width of the mouth, from which contempt is a grin."""
WIDE, WIDER = 0.15, 0.3
"""Gaps from which a throat is seen, a little and for certain."""
DARK, PALER = -0.4, 0.25
"""Light of a throat, relative to the skin around the mouth, and the share of what is above it that
is kept."""
_UPPER = (0.45, 0.57)  # of the texture frame: where the upper half ends


def with_clear_contempt(model: TransferSynthesizer) -> TransferSynthesizer:
    """Return a synthesizer whose contempt is a corner of the mouth; the given one is not changed.

    Args:
        model: with exemplars as they were read.
    """
    contempt, neutral = (model.shows == e for e in (CONTEMPT, NEUTRAL))
    corrections = {}
    for part, share in zip(("shape", "skin"), APART, strict=True):
        rows = model.get_buffer(part)
        corrections[part] = share * (rows[contempt].mean(0) - rows[neutral].mean(0))
    bank, oddness = bank_of(model), model.oddness.clone()
    kept = ~contempt | (model.gaps.mean(1) <= GRIN)
    if not bool((kept & contempt).any()):
        kept = torch.ones_like(kept)
    model = with_bank(model, bank.take(kept))
    contempt = model.shows == CONTEMPT
    model.oddness.copy_(oddness[kept])
    project = {"shape": quiet_shape(model.reader), "skin": quiet_skin(model.reader)}
    for part, matrix in project.items():
        rows = model.get_buffer(part)
        rows[contempt] = rows[contempt] @ matrix
        model.get_buffer(f"{part}_correction")[CONTEMPT] = corrections[part] @ matrix
    model.shape[contempt] = evenly_one_sided(model, model.shape[contempt])
    return model


def quiet_shape(reader: DeviationReader) -> Tensor:
    """Return what takes eyes, brows and gaze out of deviations of shape, (C, C)."""
    share = torch.ones(len(reader.rest) // 2)
    share[[i for name in ("brows", "eyes") for i in REGIONS[name]]] = EYES
    share[list(IRISES)] = GAZE
    axes = reader.shape_axes
    return (axes * share.repeat_interleave(2)) @ by_least_squares(reader, IRISES)


def quiet_skin(reader: DeviationReader) -> Tensor:
    """Return what takes most of the upper half out of deviations of skin, (D, D)."""
    size = reader.texture_size
    height = (reader.texel // size).float() / size
    start, end = _UPPER
    lower = ((height - start) / (end - start)).clamp(0, 1)
    share = torch.lerp(torch.tensor(UPPER_SKIN), torch.tensor(LOWER_SKIN), lower)
    axes = reader.skin_axes  # orthonormal
    return (axes * share) @ axes.T


def evenly_one_sided(model: TransferSynthesizer, shape: Tensor) -> Tensor:
    """Return (N, C) deviations of shape that are one-sided enough, and not grotesquely so."""
    odd = shape * (model.mirrored_shape < 0)
    moved = (odd @ model.reader.shape_axes).view(len(shape), -1, 2)
    size = moved[:, list(REGIONS["mouth"])].norm(dim=2).mean(1)
    usual = size.median()
    wanted = (ONE_SIDED * size).clamp(LEAST * usual, MOST * ONE_SIDED * usual)
    grown: Tensor = shape + odd * (wanted / size.clamp(min=1e-9) - 1)[:, None]
    return grown


def with_dark_throats(bank: LendingFaces, dark: float = DARK) -> LendingFaces:
    """Return exemplars in whose wide open mouths the throat is about as dark as asked."""
    wide = ((bank.gaps.mean(1) - WIDE) / (WIDER - WIDE)).clamp(0, 1)[:, None, None]
    interior = bank.interior
    calm = torch.where(interior > dark, dark + PALER * (interior - dark), interior)
    return LendingFaces(**vars(bank) | {"interior": torch.lerp(interior, calm, wide * throat())})


def throat() -> Tensor:
    """Return how far cells of an inside are throat, (6, 12): teeth are above, below and beside."""
    share = torch.zeros(ROWS, COLUMNS)
    share[2:5, 2:10] = 1
    share[2:5, [1, 10]] = 0.5
    share[1, 3:9], share[5, 3:9] = 0.5, 0.4
    return share
