"""What moving along a direction of latents does to faces: how evenly, how cleanly, how faithfully.

    python -m recipes.latent.evaluate emotiongan [decoupled …] --data LFW.parquet \\
        --data LONDON.parquet --identity dlib [--json OUT] [--sheet OUT.png]

For synthesizers with `invert` and `draw`, on people whom neither they nor the classifier have seen,
as `expraug evaluate` chooses them, and on what the pipeline makes of their photographs; bootstrap
95 % intervals over people:

* intensity: the share of faces in which the classifier's probability of the target falls by no more
  than `--tolerance` at any of ten steps of intensity from 0 to 1;
* disentanglement: how far identity, pose and light move at full intensity. Degrees and luminance
  are mean absolute changes, and as a share of their standard deviation between the sources;
* reconstruction: SSIM (Wang et al. 2004) of the inversion, and the Fréchet distance between the
  classifier's features of inversions and real faces, as the encoder leaves it and after `--steps`
  of optimisation, all without background, as the generator draws them;
* what is seen where the pipeline puts the face that the generator draws in place of the source,
  beside what it makes as usual, the source with the change added;
* for synthesizers with `swap`, faces drawn with the identity latents of one person and the
  expression latents of another: whom of the two the identity encoder finds nearer, and whose
  expression the classifier sees, in the drawn face and in its change added to the first one's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure as ssim
from torchvision.transforms.v2.functional import resize
from torchvision.utils import save_image

from expraug import Expression, create_synthesizer
from expraug.evaluate import Bootstrap, Context, Estimate, build_context
from expraug.evaluate.classifier_recall import classified, recognised, target_probabilities
from expraug.evaluate.face_set import FaceSet
from expraug.evaluate.frechet import frechet_estimate
from expraug.evaluate.identity import (
    cosines,
    cosines_of_pairs,
    different_pairs,
    embed,
    embeddings,
    threshold,
)
from expraug.faces.composite import hide_background, luminance
from expraug.latent.inversion import Refining, refine
from expraug.networks.fer_classifier import FERClassifier
from expraug.networks.identity import IdentityEncoder
from recipes.face_measures import LIGHT, POSE, light_of, pose_of

INTENSITIES = tuple(i / 10 for i in range(11))

Figures = dict[str, dict[str, Estimate]]
"""By name of the figure, then by target."""


def never_falls(curves: np.ndarray, tolerance: float) -> np.ndarray:
    """Say of (T, N) curves which of them fall at no step by more than the tolerance: (N,) bool."""
    return np.asarray((np.diff(curves, axis=0) >= -tolerance).all(0))


def grey_of(faces: Tensor) -> Tensor:
    """Return the luminance of (N, 3, S, S) uint8 faces, (N, 1, S, S) uint8."""
    return luminance(faces.float()).round().clamp(0, 255).to(torch.uint8)


def known_targets(context: Context) -> list[Expression]:
    """Return the targets that the classifier knows."""
    return [t for t in context.targets if t in context.classifier.expressions]


def measure_intensity(context: Context, tolerance: float) -> Figures:
    """Measure how evenly the classifier's probability of each target rises with the intensity."""
    rising, strict, full = {}, {}, {}
    for target in known_targets(context):
        people = context.data.who(context.sources(target).indices)
        curves = np.stack([target_probabilities(context, target, i) for i in INTENSITIES])
        estimate = context.bootstrap.estimate
        rising[str(target)] = estimate(never_falls(curves, tolerance), people)
        strict[str(target)] = estimate(curves[-1] > curves[0], people)
        full[str(target)] = estimate(curves[-1], people)
    return {
        f"rises at each of ten steps (tolerance {tolerance:g})": rising,
        "higher at 1 than at 0": strict,
        "probability at 1": full,
    }


def measure_disentanglement(context: Context) -> tuple[Figures, dict[str, float]]:
    """Measure how far identity, pose and light move at full intensity.

    Returns:
        The changes, and the standard deviation of each measure between the sources.
    """
    found: Figures = {}
    data, bootstrap = context.data, context.bootstrap
    grey = grey_of(data.faces)
    pose, light = pose_of(grey), light_of(grey)
    neutral = data.of(Expression.NEUTRAL)
    neutral = neutral if len(neutral) > 1 else torch.arange(len(data))
    measures = torch.cat([pose, light], 1)[neutral]
    measures = measures[measures.isfinite().all(1)]
    names = (*POSE, *LIGHT)
    spread = dict(zip(names, measures.std(0).tolist(), strict=True))
    real = embeddings(context)
    different = cosines_of_pairs(real, different_pairs(data.people))
    bar, _ = threshold(context.encoder, data, real)
    spread |= {"cosine, different people": float(different.mean()), "cosine, threshold": bar}
    for target in context.targets:
        synthetics = context.synthetics(target)
        at, own = synthetics.made_of, grey_of(synthetics.made_faces)
        if not len(at):
            continue
        people = data.who(at)
        cosine = cosines(context, target)[synthetics.made.numpy()]
        moved = torch.cat([pose_of(own) - pose[at], light_of(own) - light[at]], 1).abs()
        columns = {"cosine to the source": cosine, "verified": cosine > bar}
        for name, values in columns.items():
            found.setdefault(name, {})[str(target)] = bootstrap.estimate(values, people)
        for name, values in zip(names, moved.T, strict=True):
            seen = values.isfinite().numpy()
            there = [p for p, s in zip(people, seen, strict=True) if s]
            estimate = bootstrap.estimate(values.numpy()[seen], there)
            found.setdefault(name, {})[str(target)] = estimate
    return found, spread


def realigned(context: Context, size: int) -> FaceSet:
    """Return the data with its faces aligned at another size, in pixels."""
    images = (item.read() for item in context.data.items)
    faces = torch.stack([context.align(image, image, size) for image in images])
    return replace(context.data, faces=faces)


def reconstruct(model: Any, grey: Tensor, steps: int) -> Tensor:
    """Return the (N, 1, S, S) float drawn inversions of (N, 1, S, S) faces in [0, 1]."""
    latents = model.invert(grey)
    if steps:
        parts = [
            refine(model.draw, hide_background(face), own, torch.zeros_like(own), Refining(steps))
            for face, own in zip(grey.split(1), latents.split(1), strict=True)
        ]
        latents = torch.cat(parts)
    return torch.cat([model.draw(part) for part in latents.split(32)])


@torch.no_grad()
def measure_reconstruction(
    model: Any, classifier: FERClassifier, data: FaceSet, bootstrap: Bootstrap, steps: list[int]
) -> Figures:
    """Measure the inversion after so many steps of optimisation each."""
    faces = luminance(data.faces.float() / 255)
    real = hide_background(faces)
    features = classifier.features(real).double().numpy()
    found: Figures = {"SSIM": {}, "Fréchet distance": {}}
    # what two sets of real faces are apart: every second person against the others
    order = {p: i for i, p in enumerate(sorted(set(data.people)))}
    side = np.array([order[p] % 2 == 0 for p in data.people])
    one, other = (
        [p for p, s in zip(data.people, side, strict=True) if s == k] for k in (True, False)
    )
    found["Fréchet distance"]["real, other people"] = frechet_estimate(
        features[side], features[~side], one, other
    )
    for count in steps:
        drawn = reconstruct(model, faces, count).clamp(0, 1)
        pairs = zip(drawn, real, strict=True)
        alike = [float(torch.as_tensor(ssim(a[None], b[None], data_range=1.0))) for a, b in pairs]
        name = f"{count} steps"
        found["SSIM"][name] = bootstrap.estimate(np.array(alike), data.people)
        found["Fréchet distance"][name] = frechet_estimate(
            classifier.features(drawn).double().numpy(), features, data.people, data.people
        )
    return found


@contextmanager
def drawing_plainly(context: Context) -> Iterator[Context]:
    """Let the synthesizer show the faces that it draws, in a context of their own."""
    model: Any = context.augmenter.synthesizer
    model.plain = True
    try:
        yield replace(context, _known={})
    finally:
        model.plain = False


def measure_plain(context: Context, bar: float) -> Figures:
    """Measure what is seen in the face with the change added, and in the drawn face itself."""
    found: Figures = {}
    with drawing_plainly(context) as plain:
        for target in known_targets(context):
            plain.synthetics(target)
    for name, seen_in in (("added", context), ("drawn", plain)):
        for target in known_targets(context):
            people = context.data.who(context.sources(target).indices)
            same = cosines(seen_in, target) > bar
            for what, values in (
                ("recognised", recognised(seen_in, target)),
                ("verified", same),
            ):
                row = found.setdefault(f"{what}, {name}", {})
                row[str(target)] = context.bootstrap.estimate(values, people)
    return found


@torch.no_grad()
def measure_swap(
    model: Any,
    classifier: FERClassifier,
    encoder: IdentityEncoder,
    data: FaceSet,
    bootstrap: Bootstrap,
) -> Figures:
    """Measure faces with the identity latents of one and the expression latents of another."""
    people, shown = np.array(data.people), data.labels
    random = np.random.default_rng(0)
    free = (people[:, None] != people) & (shown[:, None] != shown).numpy()
    at = np.flatnonzero(free.any(1))
    other = np.array([random.choice(np.flatnonzero(free[i])) for i in at])
    grey = luminance(data.faces.float() / 255)
    parts = [torch.from_numpy(i).split(32) for i in (at, other)]
    swapped = torch.cat([model.swap(grey[i], grey[j]) for i, j in zip(*parts, strict=True)])
    latents = torch.cat([model.invert(part) for part in grey[at].split(32)])
    drawn, own = (torch.cat([model.draw(c) for c in x.split(32)]) for x in (swapped, latents))
    hidden = hide_background(grey)
    coloured = hidden[at].expand(-1, 3, -1, -1)
    changes = zip(*(x.split(32) for x in (coloured, latents, swapped)), strict=True)
    real = embed(encoder, _bytes(hidden))
    column = {int(e): i for i, e in enumerate(classifier.expressions)}
    asked = np.array([column.get(int(e), -1) for e in shown])
    found: Figures = {}
    made = {
        "drawn": drawn,
        "change added": torch.cat([model.change(*part) for part in changes])[:, :1],
        "own latents, drawn": own,
    }
    for name, faces in made.items():
        pixels = _bytes(faces.clamp(0, 1))
        who, seen = embed(encoder, pixels), classified(classifier, pixels).argmax(1).numpy()
        nearer = ((who * real[at]).sum(1) > (who * real[other]).sum(1)).numpy()
        for what, values in (
            ("nearer to the first person", nearer),
            ("seen: the second's expression", seen == asked[other]),
            ("seen: the first's expression", seen == asked[at]),
        ):
            estimate = bootstrap.estimate(values, people[at].tolist())
            found.setdefault(what, {})[name] = estimate
    return found


def _bytes(grey: Tensor) -> Tensor:
    return (grey * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)


@torch.no_grad()
def draw_sheets(context: Context, data: FaceSet, file: Path, count: int = 10) -> None:
    """Write a sheet of people by source, inversion and expression, and one of intensities.

    Args:
        context: makes the synthetics.
        data: its faces, at the size of the generator.
        file: PNG; the second one's name is made from it.
        count: people.
    """
    model: Any = context.augmenter.synthesizer
    at = data.of(Expression.NEUTRAL)[:count]
    drawn = reconstruct(model, luminance(data.faces[at].float() / 255), 0).clamp(0, 1)
    side = context.data.faces.shape[-1]
    columns = [
        context.data.faces[at].float() / 255,
        resize(drawn, [side, side]).expand(-1, 3, -1, -1),
    ]
    columns += [made_of(context, at, target, 1.0) for target in context.targets]
    write_sheet(columns, file)
    rows = []
    for target in context.targets:
        if target != Expression.NEUTRAL:
            made = [made_of(context, at[:3], target, i) for i in INTENSITIES[::2]]
            rows.append(torch.stack(made, 1))
    columns = list(torch.cat(rows, 1).flatten(0, 1).split(len(INTENSITIES[::2])))
    write_sheet(list(torch.stack(columns, 1)), file.with_stem(file.stem + "-intensities"))


def made_of(context: Context, at: Tensor, target: Expression, intensity: float) -> Tensor:
    """Return what becomes of some faces, (N, 3, S, S) float in [0, 1]."""
    return context.synthetics(target, intensity, at, keep=False).faces.float() / 255


def write_sheet(columns: list[Tensor], file: Path) -> None:
    """Write a PNG of columns of faces, each (N, 3, S, S) float, enlarged to be looked at."""
    cells = torch.stack(columns, 1).flatten(0, 1)
    side = max(96, cells.shape[-1])
    save_image(resize(cells, [side, side]).clamp(0, 1), file, nrow=len(columns), padding=1)


def show(console: Console, title: str, figures: Figures, spread: dict[str, float]) -> None:
    """Print figures, a row each, and beside a change its share of the spread between people."""
    table = Table(title=title)
    table.add_column("")
    columns = list(dict.fromkeys(n for row in figures.values() for n in row))
    for name in columns:
        table.add_column(name)
    if spread:
        table.add_column("spread")
    for name, row in figures.items():
        cells = [str(row[column]) if column in row else "" for column in columns]
        if spread.get(name):
            shares = [f"{e.value / spread[name]:.2f} of it" for e in row.values()]
            cells = [f"{c}\n{share}" for c, share in zip(cells, shares, strict=True)]
        table.add_row(name, *cells, *([f"{spread[name]:.3f}"] if name in spread else []))
    console.print(table)


def main(
    synthesizers: Annotated[list[str], typer.Argument(help="Names or folders.")],
    data: Annotated[list[Path], typer.Option(help="Labelled photographs; several.")],
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    classifier: Annotated[
        Path | None, typer.Option(help="Folder; the embedded one if none.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation, train or all")] = "test",
    limit: Annotated[int, typer.Option(help="Faces of each expression at most.")] = 100,
    steps: Annotated[int, typer.Option(help="Of optimisation, for the reconstruction.")] = 100,
    tolerance: Annotated[float, typer.Option(help="Of a fall in probability.")] = 0.02,
    only_reconstruction: Annotated[
        bool, typer.Option("--only-reconstruction", help="To compare with an autoencoder.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--json")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG; the synthesizer's name is added.")
    ] = None,
) -> None:
    console = Console(width=200)
    results: dict[str, Any] = {}
    for name in synthesizers:
        model: Any = create_synthesizer(name)
        if not (hasattr(model, "invert") and hasattr(model, "draw")):
            raise SystemExit(f"{name}: no synthesizer with latents: it has no `invert` and `draw`")
        context = build_context(
            model,
            data,
            split=split,
            alignment="detect",
            classifiers=[classifier or "image"],
            identity=identity,
            limit=limit,
        )
        encoder, fer_classifier = context.encoder, context.classifier
        found, bootstrap = realigned(context, model.image_size), context.bootstrap
        parts: dict[str, Figures] = {}
        spread: dict[str, float] = {}
        if not only_reconstruction:
            parts["intensity"] = measure_intensity(context, tolerance)
            parts["disentanglement"], spread = measure_disentanglement(context)
        parts["reconstruction"] = measure_reconstruction(
            model, fer_classifier, found, bootstrap, [0, steps] if steps else [0]
        )
        if not only_reconstruction:
            parts["change added, and drawn"] = measure_plain(context, spread["cosine, threshold"])
        if hasattr(model, "swap") and not only_reconstruction:
            parts["latents of two people"] = measure_swap(
                model, fer_classifier, encoder, found, bootstrap
            )
        console.print(
            f"{model.fingerprint} on {found.name} ({split}): {len(found)} faces of "
            f"{len(set(found.people))} people; classifier {fer_classifier.name}, features of the "
            f"same; identity {encoder.name}"
        )
        for title, figures in parts.items():
            show(console, title, figures, spread if title == "disentanglement" else {})
        console.print(", ".join(f"{k} {v:.3f}" for k, v in spread.items()))
        results[name] = {
            "fingerprint": model.fingerprint,
            "spread": spread,
            "figures": {
                part: {f: {k: asdict(e) for k, e in row.items()} for f, row in figures.items()}
                for part, figures in parts.items()
            },
        }
        if sheet:
            own = sheet.with_stem(f"{sheet.stem}-{model.name}")
            draw_sheets(context, found, own)
    if output:
        output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
