"""How the latents of one person's faces differ, from one expression to another."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from expraug.evaluate.fidelity import shrunk_covariance
from expraug.expressions import Expression
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer
from recipes.face_measures import mesh_of
from recipes.latent.latents import cached, digest, latents_of
from recipes.pairs.data import read_pairs

MESH_SIZE = 128
"""Side of the faces that landmarks are found in, in pixels."""


def moves_of_pairs(
    model: EmotionGANSynthesizer, pairs: Path, work: Path, labels: Tensor
) -> list[Tensor]:
    """Return what sets a person's faces apart from their neutral photograph.

    A painted generator's shapes are those of the landmarks, which an encoder sees less clearly.

    Returns:
        For each expression (N, D) float64, differences of latents; neutral is the way back from the
        others, each as frequent as among the labels of real faces.
    """
    faces = read_pairs(pairs, model.image_size, tuple(Expression))
    seen, shapes = torch.ones(len(faces), dtype=torch.bool), None
    pictures = getattr(model.generator, "pictures", None)
    if pictures is not None:
        key = digest(f"{pairs.resolve()} {pairs.stat().st_size}")
        large = read_pairs(pairs, MESH_SIZE, tuple(Expression)).pixels
        mesh = cached(work / f"pairs-{key}.safetensors", lambda: mesh_of(large))
        seen, rest = mesh.isfinite().all(2).all(1), pictures.rest.cpu()
        mesh = torch.where(seen[:, None, None], mesh, rest)
        shapes = pictures.shapes(mesh.to(pictures.rest)).cpu()
    latents = latents_of(model, faces.pixels, shapes).flatten(1)
    first = torch.full((int(faces.group.max()) + 1,), -1)
    own = (faces.photograph & seen).nonzero().flatten()
    first[faces.group[own]] = own
    made = (~faces.photograph & seen & (first[faces.group] >= 0)).nonzero().flatten()
    print(f"{len(made)} pairs say which moves are likely")
    moves = (latents[made] - latents[first[faces.group[made]]]).double()
    row = model.row.cpu()[faces.category[made]]
    back = -moves[_as_often(row, labels, model.expressions)]
    return [
        back if expression == Expression.NEUTRAL else moves[row == number]
        for number, expression in enumerate(model.expressions)
    ]


def _as_often(row: Tensor, labels: Tensor, expressions: tuple[Expression, ...]) -> Tensor:
    """Return places of pairs, drawn so that expressions are as frequent as among real faces."""
    real = torch.stack([(labels == int(e)).sum() for e in expressions]).double()
    there = torch.bincount(row[row >= 0], minlength=len(expressions))
    weight = (real / there.clamp(min=1))[row] * (row >= 0)
    if not weight.any():
        return torch.empty(0, dtype=torch.long)
    random = torch.Generator().manual_seed(0)
    return torch.multinomial(weight, int((row >= 0).sum()), replacement=True, generator=random)


def likely(moves: Tensor) -> Tensor:
    """Return the (D, D) covariance of moves, there and back."""
    return torch.from_numpy(shrunk_covariance(torch.cat([moves, -moves]).numpy()))
