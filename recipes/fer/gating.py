"""Which synthetics are good enough, by nets that saw neither their source nor their exemplar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.faces.composite import luminance
from expraug.gate import AllGates, ExpressionGate, Gate, IdentityGate, thresholds_of_real
from expraug.networks.identity import create_identity_encoder, identity_encoder_class
from recipes.fer.conditions import Condition
from recipes.fer.drawing import Mixing, Samples
from recipes.fer.fold import Fold, splits
from recipes.fer.synthetics import Plan, SyntheticTable, gate_scores, synthetics
from recipes.fer.training import Recipe, build, predict, train


@dataclass(frozen=True)
class GateOptions:
    """How synthetics are classified.

    Args:
        expression: share of the real faces of a class that would not pass: synthetics must be seen
            as surely as the rest of them; negative for no such gate.
        identity: encoder of the identity gate, as `create_identity_encoder` takes it; "" for none.
        folds: that the training people are cut into for cross-fitting.
        condition: how the nets of the gate are trained.
        seeds: nets a fold, whose probabilities are averaged.
        steps: of training them; 0 for as many as the recipe takes.
    """

    expression: float = 0.3
    identity: str = ""
    folds: int = 2
    condition: str = "strong_balanced"
    seeds: int = 1
    steps: int = 0


@dataclass
class Judged:
    """Synthetics of a fold and what the gates say.

    Args:
        made: the candidates.
        probabilities: (M, E) of the gate nets.
        scores: by name, each (M,).
        real: (N, E), the same nets on the real faces, each on those it was not trained on.
    """

    made: SyntheticTable
    probabilities: Tensor
    scores: dict[str, Tensor]
    real: Tensor


class TrainedClassifier(nn.Module):
    """A trained net as an `expraug.gate.Classifier`.

    Args:
        model: of `train`.
        recipe: that it was trained with.
        expressions: its classes.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, expressions: tuple[Expression, ...]
    ) -> None:
        super().__init__()
        self.model, self.recipe, self.expressions = model, recipe, expressions
        weights = xxhash.xxh3_64()
        for tensor in model.state_dict().values():
            weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        self.name = f"{recipe.model}-{weights.hexdigest()}"

    def probabilities(self, faces: Tensor) -> Tensor:
        """Return (B, E) probabilities of (B, 3, S, S) aligned faces in [0, 1]."""
        grey = (luminance(faces)[:, 0] * 255).round().to(torch.uint8)
        return predict(self.model, grey, self.recipe, faces.device).to(faces.device)


class _Several(nn.Module):
    """The mean of several classifiers."""

    def __init__(self, members: list[TrainedClassifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.expressions = members[0].expressions
        self.name = xxhash.xxh3_64_hexdigest(" ".join(m.name for m in members).encode())

    def probabilities(self, faces: Tensor) -> Tensor:
        return torch.stack([m.probabilities(faces) for m in self.members]).mean(0)  # type: ignore[operator]


def judged_synthetics(
    fold: Fold,
    plan: Plan,
    options: GateOptions,
    recipe: Recipe,
    condition: Condition,
    work: Path,
    device: torch.device,
) -> Judged:
    """Make the synthetics of a fold, train the gate nets, and let them classifier.

    With exemplars from the training faces ("transfer:own"), those of each cross-fitting fold lend
    to its own faces alone, so that the net of the other folds has seen neither.

    Args:
        fold: whose training faces are sources.
        plan, options: what is made, how it is classified.
        recipe, condition: of the gate nets.
        work: folder in which all of it is kept.
        device: where all of it runs.
    """
    made = _make(fold, plan, options, work, device)
    recipe = replace(recipe, steps=options.steps or recipe.steps)
    found = _judge(fold, made, options, recipe, condition, work, device)
    real = found.pop("real")
    columns = [found[f"p_{c}"] for c in fold.classes]
    return Judged(made, torch.stack(columns, 1), found, real)


def _make(
    fold: Fold, plan: Plan, options: GateOptions, work: Path, device: torch.device
) -> SyntheticTable:
    if not plan.synthesizer.endswith(":own"):
        return synthetics(plan, fold.train, fold.classes, work, device)
    parts, part_of = [], splits(fold.train, options.folds)
    for number in range(options.folds):
        rows = (part_of == number).nonzero().flatten()
        made = synthetics(plan, fold.train.take(rows), fold.classes, work, device)
        parts.append(replace(made, source=rows[made.source]))
    names = [f.name for f in fields(SyntheticTable)]
    return SyntheticTable(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names})


def _judge(
    fold: Fold,
    made: SyntheticTable,
    options: GateOptions,
    recipe: Recipe,
    condition: Condition,
    work: Path,
    device: torch.device,
) -> dict[str, Tensor]:
    real, labels = fold.labels(fold.train)
    part_of = splits(real, options.folds)
    scores: dict[str, Tensor] = {}
    known = torch.zeros(len(real), len(fold.classes))
    for number in range(options.folds):
        net = _gate_net(fold, part_of != number, options, recipe, condition, work, device)
        own = (part_of == number).nonzero().flatten()
        known[own] = torch.stack(
            [predict(m.model, real.pixels[own], recipe, device) for m in net.members]  # type: ignore[arg-type]
        ).mean(0)
        right = (known[own].argmax(1) == labels[own]).float().mean()
        print(f"gate net of fold {number}: {right:.3f} of the others' real faces right", flush=True)
        gates: list[Gate] = [ExpressionGate(net)]
        if options.identity:
            gates.append(IdentityGate(create_identity_encoder(options.identity)))
        rows = torch.isin(made.source, own).nonzero().flatten()
        found = gate_scores(AllGates(gates), fold.train, made, rows, device)
        for name, values in found.items():
            scores.setdefault(name, torch.zeros(len(made)))[rows] = values.float()
    return scores | {"real": known}


def _gate_net(
    fold: Fold,
    mask: Tensor,
    options: GateOptions,
    recipe: Recipe,
    condition: Condition,
    work: Path,
    device: torch.device,
) -> _Several:
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
        nets.append(TrainedClassifier(net, recipe, fold.classes))
    return _Several(nets)


def passed(classified: Judged, fold: Fold, options: GateOptions) -> Tensor:
    """Return which synthetics the gates pass, (M,) bool."""
    keep = torch.ones(len(classified.made), dtype=torch.bool)
    if options.expression >= 0:
        labels = fold.train.of(fold.classes).labels
        least: Mapping[Expression, float] = thresholds_of_real(
            classified.real, labels, fold.classes, options.expression
        )
        bar = torch.tensor([least.get(Expression(t), 0.0) for t in classified.made.target.tolist()])
        keep &= classified.scores["expression"] >= bar
    if options.identity:
        keep &= classified.scores["identity"] >= identity_encoder_class(options.identity).threshold
    return keep
