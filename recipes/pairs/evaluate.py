"""How close a synthesizer comes to real photographs of the same people with the other expression.

    python -m recipes.pairs.evaluate --pairs PAIRS.parquet [--synthesizer pixel]
        [--identity dlib] [--split test] [--mediapipe face_landmarker.task]

PAIRS has image, expression and identity. Of every person photographed with both expressions the
source goes through the pipeline, as users have it, and what comes out is compared with the real
photograph, each aligned by landmarks of its own: SSIM, PSNR, and the mean distance between their
landmarks as the face mesh reads them, in pixels of a frame of 256, beside those of copying the
source; and identity, as the cosine between source and synthetic beside the distribution over
different people, with the share of synthetics above the encoder's threshold. Mean and bootstrap
95 % interval over people. Each source gets the variant that fits it best: one smile of somebody is
not another.
`--split test` keeps only people that our fits never used; `--mediapipe` has the pipeline find
landmarks with MediaPipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.utils import save_image

from expraug import Expression
from expraug.errors import ExpraugError
from expraug.evaluate import build_context
from expraug.evaluate.identity import embed
from expraug.evaluate.reconstruction import aligned_by_themselves, pairs_of, ssim_and_psnr
from expraug.faces.detect import Detector
from expraug.faces.landmarks import read_aligned


def main(
    pairs: Annotated[Path, typer.Option(help="Parquet with image, expression, identity.")],
    synthesizer: str = "pixel",
    source: str = "neutral",
    target: str = "happy",
    intensity: Annotated[float, typer.Option(help="London's smiles are faint")] = 1.0,
    split: Annotated[str, typer.Option(help="test, validation, train or all")] = "all",
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    mediapipe: Annotated[Path | None, typer.Option(help="Its .task file")] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG: source, synthetic, real")] = None,
) -> None:
    before, after = Expression.parse(source), Expression.parse(target)
    context = build_context(
        synthesizer,
        pairs,
        split=split,
        alignment="detect" if mediapipe is None else _mediapipe(mediapipe),
        identity=identity,
        targets=[after],
        limit=10_000,
    )
    data, bootstrap = context.data, context.bootstrap
    found = context.synthetics(after, intensity, data.of(before), first_variant=True)
    people, rows, at = pairs_of(data, found, after)
    if not people:
        raise SystemExit(f"{pairs}: no people of split {split!r} with both {source} and {target}")
    lost = sum(map(bool, found.reasons))
    made, real, plain = (
        aligned_by_themselves(faces)
        for faces in (found.faces[rows], data.faces[at], data.faces[found.sources[rows]])
    )
    if sheet:
        save_image(torch.cat([plain, made, real]).float() / 255, sheet, nrow=len(made), padding=1)
    name = context.augmenter.synthesizer.fingerprint
    table = Table(title=f"{name}: {source} -> {target}, {len(people)} people ({split})")
    for column in ("", synthesizer, "copying the source", "difference"):
        table.add_column(column)
    own = (*ssim_and_psnr(made, real), landmark_error(made, real))
    copy = (*ssim_and_psnr(plain, real), landmark_error(plain, real))
    for row, mine, other in zip(("SSIM", "PSNR dB", "landmarks, px"), own, copy, strict=True):
        values = (mine, other, mine - other)
        table.add_row(row, *(str(bootstrap.estimate(v, people)) for v in values))
    table.add_row("nothing made of", str(lost))
    try:
        encoder = context.encoder
    except ExpraugError as error:
        table.add_row("identity", "not measured", str(error)[:60])
    else:
        e_source, e_made, e_real = (embed(encoder, faces) for faces in (plain, made, real))
        strangers = (e_source @ e_source.T)[~torch.eye(len(made), dtype=torch.bool)].numpy()
        bar = float(np.quantile(strangers, 0.95)) if len(made) > 1 else float("nan")
        kept, same = (e_source * e_made).sum(1).numpy(), (e_source * e_real).sum(1).numpy()
        told = str(bootstrap.estimate(kept, people))
        table.add_row(f"identity ({encoder.name})", told)
        table.add_row("real photographs, same person", str(bootstrap.estimate(same, people)))
        table.add_row("different people, 95th percentile", f"{bar:.4f}")
        table.add_row("share above it", f"{float((kept > bar).mean()):.1%}")
        verified = kept > encoder.threshold
        table.add_row("verified", str(bootstrap.estimate(verified, people)))
    Console(width=120).print(table)


def landmarks(faces: Tensor) -> Tensor:
    """Return the landmarks of (N, 3, S, S) uint8 faces, (N, 478, 2) canonical."""
    return torch.cat([read_aligned(part.float() / 255)[0] for part in faces.split(16)])


def landmark_error(faces: Tensor, others: Tensor) -> np.ndarray:
    """Return the mean distance between the landmarks of aligned faces, (N,), in pixels of 256.

    Args:
        faces, others: (N, 3, S, S) uint8.
    """
    distances = (landmarks(faces) - landmarks(others)).norm(dim=2).mean(1) * 256
    return np.asarray(distances.numpy(), np.float64)


def _mediapipe(task: Path) -> Detector:
    from recipes.landmarker.original import MediaPipeDetector

    return MediaPipeDetector(task, "detect")


if __name__ == "__main__":
    typer.run(main)
