"""The gate of synthetics: FER classifiers that saw neither their source nor their exemplar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.faces import align
from expraug.faces.composite import luminance
from expraug.faces.frame import frame
from expraug.gate import AllGates, ExpressionGate, Gate, IdentityGate, thresholds_of_real
from expraug.networks.identity import create_identity_encoder
from expraug.pipeline import ExpressionAugmenter
from recipes.fer.conditions import Condition
from recipes.fer.data import SIDE, FaceTable
from recipes.fer.drawing import Mixing, Samples
from recipes.fer.fold import Fold, splits
from recipes.fer.requests import Plan, sample_requests
from recipes.fer.synthetics import (
    SyntheticTable,
    augmenter_of,
    join,
    make,
    split_name,
    synthesizer_for,
)
from recipes.fer.training import Recipe, build, features, predict, train


@dataclass(frozen=True)
class GateOptions:
    """Which synthetics pass.

    Args:
        expression: share of the real faces of a class that would not pass: synthetics must be seen
            as surely as the rest of them; negative for no such gate.
        identity: encoder of the identity gate, as `create_identity_encoder` takes it; "" for none.
        folds: that the training people are cut into for cross-fitting.
        condition: how the nets of the gate are trained.
        seeds: nets per fold, whose probabilities are averaged.
        steps: of training them; 0 for as many as the recipe takes.
    """

    expression: float = 0.3
    identity: str = ""
    folds: int = 2
    condition: str = "strong_balanced"
    seeds: int = 1
    steps: int = 0


class TrainedClassifier(nn.Module):
    """Nets that were trained here as one `FERClassifier`: the mean of their probabilities.

    Args:
        nets: of `train`.
        recipe: that they were trained with.
        expressions: their classes, E of them.

    Attributes:
        name: tells one set of weights from another.
    """

    def __init__(
        self, nets: Sequence[nn.Module], recipe: Recipe, expressions: tuple[Expression, ...]
    ) -> None:
        super().__init__()
        self.nets, self.recipe = nn.ModuleList(nets), recipe
        self.expressions = expressions
        weights = xxhash.xxh3_64()
        for tensor in self.nets.state_dict().values():
            weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        self.name = f"{recipe.model}-{weights.hexdigest()}"

    def probabilities(self, faces: Tensor) -> Tensor:
        """Return (B, E) probabilities of (B, 1 or 3, S, S) aligned faces in [0, 1]."""
        return self.predict(net_view(faces)).to(faces.device)

    def predict(self, pixels: Tensor) -> Tensor:
        """Return (B, E) probabilities of (B, 64, 64) uint8 faces, on the CPU."""
        device = next(self.parameters()).device
        found = [predict(net, pixels, self.recipe, device) for net in self.nets]
        return torch.stack(found).mean(0)

    def features(self, faces: Tensor) -> Tensor:
        """Return (B, D) features, those of all nets side by side."""
        device = next(self.parameters()).device
        seen = net_view(faces)
        found = [features(net, seen, self.recipe, device) for net in self.nets]
        return torch.cat(found, 1).to(faces.device)


def net_view(faces: Tensor) -> Tensor:
    """Return what nets see of (B, 1 or 3, S, S) aligned faces in [0, 1]: (B, 64, 64) uint8."""
    grey = luminance(faces) if faces.shape[1] == 3 else faces
    if grey.shape[-1] != SIDE:
        size = (SIDE, SIDE)
        grey = F.interpolate(grey, size, mode="bilinear", antialias=True, align_corners=False)
    return (grey[:, 0] * 255).round().clamp(0, 255).to(torch.uint8)


def gated_synthetics(
    fold: Fold,
    plan: Plan,
    options: GateOptions,
    recipe: Recipe,
    condition: Condition,
    work: Path,
    device: torch.device,
) -> SyntheticTable:
    """Make the synthetics of a fold that the gates pass.

    The training faces are cut into cross-fitting folds, and those of each pass a gate whose nets
    were trained on the others. With exemplars from the training faces ("transfer:own"), those of
    each cross-fitting fold lend to its own faces alone, so that the nets saw neither.

    Args:
        fold: whose training faces are sources.
        plan, options: what is asked, and what passes.
        recipe, condition: of the gate's nets.
        work: folder in which all of it is kept.
        device: where all of it runs.

    Raises:
        ValueError: the synthesizer makes none of the classes, or nothing that can be used.
    """
    part_of = splits(fold.train, options.folds)
    own = [(part_of == number).nonzero().flatten() for number in range(options.folds)]
    gates: list[Gate | None] = [None] * options.folds
    if options.expression >= 0:
        recipe = replace(recipe, steps=options.steps or recipe.steps)
        nets = [
            _classifier(fold, part_of != number, options, recipe, condition, work, device)
            for number in range(options.folds)
        ]
        base = split_name(plan.synthesizer)[0]
        least = _thresholds(
            fold, own, nets, options, augmenter_of(base, fold.train, None, work, device)
        )
        gates = [ExpressionGate(net, least) for net in nets]
    if options.identity:
        identity = IdentityGate(create_identity_encoder(options.identity))
        gates = [identity if gate is None else AllGates([gate, identity]) for gate in gates]
    made, asked = [], 0
    for rows, gate in zip(own, gates, strict=True):
        faces = fold.train.take(rows)
        model = synthesizer_for(plan.synthesizer, faces, work)
        augmenter = augmenter_of(model, faces, gate, work, device)
        requests = sample_requests(plan, faces, fold.classes, augmenter)
        asked += len(requests)
        if requests:
            part = make(augmenter, faces, requests, fold.classes)
            made.append(replace(part, source=rows[part.source]))
    if not asked:
        raise ValueError(f"{plan.synthesizer} makes none of {', '.join(map(str, fold.classes))}")
    table = join(made)
    if not len(table):
        raise ValueError(
            f"none of the {asked} synthetic faces of {plan.synthesizer} can be used: the lines "
            f"above say why. A gate may ask for too much: lower gate.expression"
        )
    return table


def _classifier(
    fold: Fold,
    mask: Tensor,
    options: GateOptions,
    recipe: Recipe,
    condition: Condition,
    work: Path,
    device: torch.device,
) -> TrainedClassifier:
    """Return a classifier trained on some of the training faces, kept in the work folder."""
    table, labels = fold.labels(fold.train)
    samples = Samples(table.pixels[mask], F.one_hot(labels[mask], len(fold.classes)).float())
    key = xxhash.xxh3_64(samples.pixels.numpy().tobytes())
    key.update(f"{labels[mask].tolist()}|{recipe}|{condition}".encode())
    nets = []
    for seed in range(options.seeds):
        file = work / f"gate-{key.hexdigest()}-{seed}.safetensors"
        if file.is_file():
            net = build(recipe, len(fold.classes)).to(device).eval().requires_grad_(False)
            net.load_state_dict(load_file(file))
        else:
            net = train(recipe, condition, samples, None, None, Mixing(), 1000 + seed, device)
            part = file.with_suffix(".part")
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, part)
            part.replace(file)
        nets.append(net)
    return TrainedClassifier(nets, recipe, fold.classes).to(device)


def _thresholds(
    fold: Fold,
    own: Sequence[Tensor],
    nets: Sequence[TrainedClassifier],
    options: GateOptions,
    augmenter: ExpressionAugmenter,
) -> Mapping[Expression, float]:
    """Return the least probability of each class, from real faces that the nets did not see."""
    probabilities, labels = [], []
    for number, (rows, net) in enumerate(zip(own, nets, strict=True)):
        faces = fold.train.take(rows)
        found, pixels = pipeline_views(augmenter, faces)
        probabilities.append(net.predict(pixels))
        labels.append(faces.labels[found])
        classes = torch.tensor([int(c) for c in fold.classes])
        right = (classes[probabilities[-1].argmax(1)] == labels[-1]).float().mean()
        print(f"gate net of fold {number}: {right:.3f} of the others' real faces right", flush=True)
    return thresholds_of_real(
        torch.cat(probabilities), torch.cat(labels), fold.classes, options.expression
    )


def pipeline_views(augmenter: ExpressionAugmenter, faces: FaceTable) -> tuple[Tensor, Tensor]:
    """Return what a gate's nets see of real faces, aligned as the pipeline aligns them for it.

    Returns:
        (K,) indices of the faces that the augmenter's detector finds, and (K, 64, 64) uint8.
    """
    found, seen = [], []
    synthesizer = augmenter.synthesizer
    for part in torch.split(torch.arange(len(faces)), augmenter.batch_size):
        indices = part.tolist()
        images = [faces.image(i) for i in indices]
        detected = augmenter.detect(images, [faces.digest(i) for i in indices])
        for i, image, face in zip(indices, images, detected, strict=True):
            if face is None:
                continue
            framed = frame(image, face, synthesizer.image_size, synthesizer.size_agnostic)
            pixels = torch.from_numpy(np.atleast_3d(framed.pixels)).permute(2, 0, 1)[None]
            aligned = align(pixels.float() / 255, framed.matrix[None], framed.size)
            seen.append(net_view(aligned)[0])
            found.append(i)
    empty = torch.empty(0, SIDE, SIDE, dtype=torch.uint8)
    return torch.tensor(found, dtype=torch.long), torch.stack(seen) if seen else empty
