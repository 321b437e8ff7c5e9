"""Synthetic faces of a training fold: planned, made once, and kept for every run of the fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor

from expraug.expressions import Expression, LabelScheme
from expraug.faces.composite import face_mask, luminance
from expraug.gate import Gate
from expraug.synthesizer import Synthesizer, create_synthesizer
from recipes.fer.data import FaceTable

LENDERS = 500
"""Faces of a class, at most, that exemplars are chosen from."""


@dataclass
class SyntheticTable:
    """Synthetic aligned grey faces, each of a face of the training fold.

    Args:
        pixels: (M, 64, 64) uint8.
        target: (M,) long, values of `Expression`.
        source: (M,) long, places in the fold.
        intensity: (M,) float.
        variant: (M,) long.
    """

    pixels: Tensor
    target: Tensor
    source: Tensor
    intensity: Tensor
    variant: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: Tensor) -> SyntheticTable:
        """Return the faces at an index or a mask."""
        return SyntheticTable(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True)
class Plan:
    """What to make.

    Args:
        synthesizer: name, folder or hub id; with ":own" behind it, the exemplars are faces of the
            training fold alone (`transfer` can).
        targets: expressions to make; none given means every class.
        ratio: candidates for each real face; the gate keeps some of them.
        intensities: drawn from, as likely as each other.
        random_exemplars: every candidate gets a variant at random instead of the first ones: those
            whose exemplars are nearest to the source in pose. For the ablation.
        seed: of the draws.
    """

    synthesizer: str = "transfer"
    targets: tuple[str, ...] = ()
    ratio: float = 5.0
    intensities: tuple[float, ...] = (0.6, 0.8, 1.0)
    random_exemplars: bool = False
    seed: int = 0


def draw(
    plan: Plan, fold: FaceTable, classes: Sequence[Expression], model: Synthesizer
) -> SyntheticTable:
    """Return what is planned, without pixels: as many candidates of each class.

    Sources are drawn evenly from those that show another expression and that the synthesizer
    supports for the target.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    usable = fold.found if model.needs_landmarks else torch.ones_like(fold.found)
    asked = [Expression.parse(t) for t in plan.targets] or classes
    targets = [c for c in classes if c in asked and c in model.expressions]
    each = round(plan.ratio * len(fold) / max(1, len(targets)))
    sources, wanted = [], []
    for target in targets:
        accepted = [int(e) for e in classes if e != target and model.supports(e, target)]
        there = (usable & torch.isin(fold.labels, torch.tensor(accepted))).nonzero().flatten()
        if not len(there):
            continue
        rounds = -(-each // len(there))
        order = torch.cat([torch.randperm(len(there), generator=generator) for _ in range(rounds)])
        sources.append(there[order[:each]])
        wanted.append(torch.full((each,), int(target)))
    if not sources:
        raise ValueError(f"{plan.synthesizer} makes none of {', '.join(map(str, classes))}")
    source, target_of = torch.cat(sources), torch.cat(wanted)
    levels = torch.tensor(plan.intensities)
    count = len(source)
    variants = 1_000_000 if plan.random_exemplars else model.variants
    return SyntheticTable(
        pixels=torch.empty(0, *fold.pixels.shape[1:], dtype=torch.uint8),
        target=target_of,
        source=source,
        intensity=levels[torch.randint(len(levels), (count,), generator=generator)],
        variant=torch.randint(variants, (count,), generator=generator),
    )


@torch.inference_mode()
def make(
    model: Synthesizer, fold: FaceTable, planned: SyntheticTable, device: torch.device
) -> Tensor:
    """Return (M, 64, 64) uint8: what paste-back would let through of each planned face."""
    model = model.to(device).eval()
    side = fold.pixels.shape[-1]
    # `pixel` holds a map for every pixel of its own frame, `transfer` works at any size
    inner = side if model.needs_landmarks else model.image_size
    mask, made = face_mask(side).to(device), []
    batch = 32 if device.type == "cpu" else 256
    for part in torch.arange(len(planned)).split(batch):
        rows = planned.source[part]
        grey = fold.pixels[rows].to(device).float()[:, None] / 255
        faces = grey.expand(-1, 3, -1, -1)
        if inner != side:
            faces = _resize(faces, inner)
        extra: dict[str, Tensor] = {}
        if model.variants > 1:
            extra["variant"] = planned.variant[part].to(device)
        if model.needs_landmarks:
            extra["landmarks"] = fold.mesh[rows].to(device).float()
            extra["blendshapes"] = fold.scores[rows].to(device).float()
            extra["pose"] = fold.pose[rows].to(device).float()
        asked = (planned.target[part].to(device), planned.intensity[part].to(device))
        change = luminance(model(faces, *asked, **extra) - faces)
        if inner != side:
            change = _resize(change, side)
        seen = (grey + change * mask).clamp(0, 1)
        made.append((seen[:, 0] * 255).round().to(torch.uint8).cpu())
    return torch.cat(made)


def _resize(images: Tensor, side: int) -> Tensor:
    return F.interpolate(
        images, size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )


def _first_of_each_class(fold: FaceTable) -> Tensor:
    """Return the places of the first faces of each class in which landmarks were found."""
    usable = fold.found.nonzero().flatten()
    labels = fold.labels[usable]
    return torch.cat([usable[labels == c][:LENDERS] for c in torch.unique(labels)])


def synthesizer_for(name: str, fold: FaceTable) -> Synthesizer:
    """Return the synthesizer that a plan names, with exemplars from the fold if it says so.

    Raises:
        ValueError: ":own" of a synthesizer that has no exemplars.
    """
    base, _, own = name.partition(":")
    if own != "own":
        return create_synthesizer(name)
    model = create_synthesizer(base)
    fit = getattr(model, "fit_exemplars", None)
    if fit is None:
        raise ValueError(f"{base} takes no exemplars from a data set; leave out ':own'")
    shown = fold.take(_first_of_each_class(fold))
    images = [
        (face.numpy(), label)
        for face, label in zip(shown.pixels, shown.labels.tolist(), strict=True)
    ]
    scheme = LabelScheme({int(e): str(e) for e in Expression}, {int(e): e for e in Expression})
    return fit(images, scheme)


def synthetics(
    plan: Plan,
    fold: FaceTable,
    classes: Sequence[Expression],
    work: Path,
    device: torch.device,
) -> SyntheticTable:
    """Return the candidates of a plan, from the work folder where they were made before."""
    known = create_synthesizer(plan.synthesizer.partition(":")[0]).fingerprint
    content = xxhash.xxh3_64(fold.digests.numpy().tobytes())
    content.update(fold.labels.numpy().tobytes())
    content.update(f"{plan}|{known}|{[int(c) for c in classes]}".encode())
    file = work / f"synthetics-{content.hexdigest()}.safetensors"
    if not file.is_file():
        model = synthesizer_for(plan.synthesizer, fold)
        work.mkdir(parents=True, exist_ok=True)
        planned = draw(plan, fold, classes, model)
        planned.pixels = make(model, fold, planned, device)
        part = file.with_suffix(".part")
        save_file({f.name: getattr(planned, f.name).contiguous() for f in fields(planned)}, part)
        part.replace(file)
    return SyntheticTable(**load_file(file))


@torch.inference_mode()
def gate_scores(
    gate: Gate, fold: FaceTable, made: SyntheticTable, rows: Tensor, device: torch.device
) -> dict[str, Tensor]:
    """Return the scores that a gate gives the synthetics at some rows, each (len(rows),)."""
    parts: dict[str, list[Tensor]] = {}
    for part in rows.split(256):
        source, seen = (
            (p.to(device).float() / 255)[:, None].expand(-1, 3, -1, -1)
            for p in (fold.pixels[made.source[part]], made.pixels[part])
        )
        for name, score in gate.score(source, seen, made.target[part].to(device)).items():
            parts.setdefault(name, []).append(score.cpu())
    return {name: torch.cat(scores) for name, scores in parts.items()}
