"""Synthetic faces of a training fold, made as users make them: by an `ExpressionAugmenter`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import xxhash
from torch import Tensor

from expraug.expressions import Expression, LabelScheme
from expraug.gate import Gate
from expraug.pipeline import ExpressionAugmenter, Outcome
from expraug.synthesizer import Synthesizer, create_synthesizer
from recipes.fer.data import SIDE, FaceTable, net_input, open_cache
from recipes.fer.requests import FaceRequest

LENDERS = 500
"""Faces of a class, at most, that exemplars are chosen from."""


@dataclass
class SyntheticTable:
    """Synthetic faces that may be trained on, M of them.

    Args:
        pixels: (M, 64, 64) uint8, `net_input` of the synthetic image.
        target: (M,) long, values of `Expression`: what each shows.
        source: (M,) long, index in the fold's training faces.
        intensity: (M,) float.
        variant: (M,) long.
        probabilities: (M, E) that the gate's nets give the classes; NaN without such a gate.
    """

    pixels: Tensor
    target: Tensor
    source: Tensor
    intensity: Tensor
    variant: Tensor
    probabilities: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: Tensor) -> SyntheticTable:
        """Return the faces at an index or a mask."""
        return SyntheticTable(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def join(tables: Sequence[SyntheticTable]) -> SyntheticTable:
    """Return several tables as one."""
    names = [f.name for f in fields(SyntheticTable)]
    return SyntheticTable(**{n: torch.cat([getattr(t, n) for t in tables]) for n in names})


def augmenter_of(
    model: str | Synthesizer, faces: FaceTable, gate: Gate | None, work: Path, device: torch.device
) -> ExpressionAugmenter:
    """Return the augmenter of a set's images, as the product makes one, on the work folder's cache.

    Args:
        model: the synthesizer, or its name.
        faces: of the set; its `alignment` decides on the detector.
        gate: None passes everything.
        work, device: where it keeps what it makes, and where it runs.
    """
    return ExpressionAugmenter(
        model,
        alignment=faces.alignment,
        gate=gate,
        cache=open_cache(work),
        device=device,
        batch_size=64 if device.type == "cpu" else 256,
    )


def synthetic_images(
    augmenter: ExpressionAugmenter, faces: FaceTable, asked: Sequence[FaceRequest]
) -> Iterator[Outcome]:
    """Carry requests out on the original images, and yield what became of each, in order.

    Args:
        augmenter: makes the faces.
        faces: the sources.
        asked: as `sample_requests` returns it.
    """
    step = 4 * augmenter.batch_size
    for first in range(0, len(asked), step):
        part = asked[first : first + step]
        images = {face: faces.image(face) for face in dict.fromkeys(face for face, _ in part)}
        yield from augmenter(
            [images[face] for face, _ in part],
            [request for _, request in part],
            digests=[faces.digest(face) for face, _ in part],
        )


def make(
    augmenter: ExpressionAugmenter,
    faces: FaceTable,
    asked: Sequence[FaceRequest],
    classes: Sequence[Expression],
) -> SyntheticTable:
    """Carry requests out, and return what may be trained on.

    What cannot be used (no face, unchanged, rejected by the gate) is left out; how many of them,
    and why, is printed.

    Args:
        augmenter, faces, asked: as `synthetic_images` takes them.
        classes: E of them, whose probabilities are taken from the gate's scores.
    """
    made: dict[str, list[Tensor]] = {f.name: [] for f in fields(SyntheticTable)}
    reasons: Counter[str] = Counter()
    start = time.perf_counter()
    for (face, request), outcome in zip(
        asked, synthetic_images(augmenter, faces, asked), strict=True
    ):
        if outcome.target is None:
            reasons[outcome.reason] += 1
            continue
        scores = [outcome.scores.get(f"p_{c}", float("nan")) for c in classes]
        made["pixels"].append(net_input(outcome.image, faces.points[face].numpy()))
        made["target"].append(torch.tensor(int(outcome.target)))
        made["source"].append(torch.tensor(face))
        made["intensity"].append(torch.tensor(request.intensity))
        made["variant"].append(torch.tensor(request.variant))
        made["probabilities"].append(torch.tensor(scores))
    seconds = time.perf_counter() - start
    told = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    print(
        f"{augmenter.synthesizer.name}: {len(made['target'])} of {len(asked)} synthetic faces can "
        f"be used{f' ({told})' if told else ''}; {seconds:.1f} s, "
        f"{len(asked) / seconds:.0f} per second",
        flush=True,
    )
    if not made["target"]:
        return _nothing(len(classes))
    return SyntheticTable(**{name: torch.stack(values) for name, values in made.items()})


def _nothing(classes: int) -> SyntheticTable:
    none = torch.empty(0, dtype=torch.long)
    pixels = torch.empty(0, SIDE, SIDE, dtype=torch.uint8)
    return SyntheticTable(pixels, none, none, none.float(), none, torch.empty(0, classes))


class _Lenders:
    """Images and labels of the faces that exemplars are chosen from, as a data set."""

    def __init__(self, faces: FaceTable) -> None:
        usable = faces.found.nonzero().flatten()
        labels = faces.labels[usable]
        parts = [usable[labels == label][:LENDERS] for label in torch.unique(labels)]
        self.faces = faces.take(torch.cat(parts))

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.faces.image(index), int(self.faces.labels[index])


def synthesizer_for(name: str, faces: FaceTable, work: Path) -> Synthesizer:
    """Return the synthesizer that a plan names.

    Args:
        name: as `Plan.synthesizer`.
        faces: that lend exemplars, if the name ends in ":own".
        work: folder in which a synthesizer with own exemplars is kept.

    Raises:
        ValueError: ":own" of a synthesizer that takes no exemplars.
    """
    base, own = split_name(name)
    model = create_synthesizer(base)
    if not own:
        return model
    fit = getattr(model, "fit_exemplars", None)
    if fit is None:
        raise ValueError(f"{base} takes no exemplars from a data set; leave out ':own'")
    content = xxhash.xxh3_64(f"{model.fingerprint}|{LENDERS}|{faces.alignment}".encode())
    content.update(faces.digests.numpy().tobytes() + faces.labels.numpy().tobytes())
    folder = work / f"exemplars-{content.hexdigest()}"
    if not folder.is_dir():
        scheme = LabelScheme({int(e): str(e) for e in Expression}, {int(e): e for e in Expression})
        part = folder.with_suffix(".part")
        fit(_Lenders(faces), scheme, alignment=faces.alignment).save_pretrained(part)
        part.rename(folder)
    return create_synthesizer(str(folder))


def split_name(name: str) -> tuple[str, bool]:
    """Return the synthesizer of "transfer:own" and whether its exemplars are the fold's own."""
    own = name.endswith(":own")
    return (name.removesuffix(":own") if own else name), own
