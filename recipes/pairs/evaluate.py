"""How close a synthesizer comes to real photographs of the same people with the other expression.

    python -m recipes.pairs.evaluate --pairs PAIRS.parquet [--synthesizer pixel]
        [--identity dlib:FOLDER] [--split test]

PAIRS has image, expression and identity. For every person photographed with both expressions the
source is turned into the target and compared with the real photograph, in the canonical frame:
SSIM and PSNR, beside those of copying the source; and identity, as the cosine between source and
synthetic beside the distribution over different people. Mean and bootstrap 95 % interval over
people. `--split test` keeps only people that our fits never used.
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
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.functional.image import structural_similarity_index_measure as ssim
from torchvision.utils import save_image

from expraug import Expression, create_synthesizer
from expraug.datasets import person_split
from expraug.errors import ExpraugError
from expraug.faces import face_mask
from expraug.networks.identity import create_identity_encoder
from recipes.pairs.london import aligned_pairs


def interval(values: np.ndarray, rng: np.random.Generator) -> str:
    """Return "mean [low, high]" with the bootstrap 95 % interval of the mean."""
    means = values[rng.integers(0, len(values), (10_000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"


def fidelity(images: Tensor, real: Tensor) -> dict[str, np.ndarray]:
    """Return SSIM and PSNR (dB) for each of (N, 3, S, S) images against the real ones."""
    psnr = [
        peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(images, real, strict=True)
    ]
    per_image = ssim(images, real, data_range=1.0, reduction="none")
    assert isinstance(per_image, Tensor)
    return {"SSIM": per_image.numpy(), "PSNR dB": torch.stack(psnr).numpy()}


def main(
    pairs: Annotated[Path, typer.Option(help="Parquet with image, expression, identity.")],
    synthesizer: str = "pixel",
    source: str = "neutral",
    target: str = "happy",
    split: Annotated[str, typer.Option(help="test, validation, train or all")] = "all",
    identity: Annotated[str | None, typer.Option(help="'facenet' or 'dlib:PATH'")] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG: source, synthetic, real")] = None,
) -> None:
    model = create_synthesizer(synthesizer)
    before, after = Expression.parse(source), Expression.parse(target)
    people = aligned_pairs(pairs, model.image_size, (before, after))
    people = {k: v for k, v in people.items() if split == "all" or person_split(k) == split}
    if not people:
        raise SystemExit(f"{pairs}: no people of split {split!r} with both {source} and {target}")
    x = torch.stack([faces[before] for faces in people.values()])
    real = torch.stack([faces[after] for faces in people.values()])
    with torch.inference_mode():
        made = model(x, torch.full((len(x),), int(after)), torch.ones(len(x)))
        made = x + (made - x) * face_mask(model.image_size)  # what paste-back lets through
    if sheet:
        save_image(torch.cat([x, made, real]), sheet, nrow=len(x), padding=1)
    rng = np.random.default_rng(0)
    table = Table(title=f"{model.fingerprint}: {source} -> {target}, {len(x)} people ({split})")
    for column in ("", synthesizer, "copying the source", "difference"):
        table.add_column(column)
    own, copy = fidelity(made, real), fidelity(x, real)
    for name in own:
        difference = interval(own[name] - copy[name], rng)
        table.add_row(name, interval(own[name], rng), interval(copy[name], rng), difference)
    try:
        encoder = create_identity_encoder(identity)
    except ExpraugError as error:
        table.add_row("identity", "not measured", str(error)[:60])
    else:
        with torch.inference_mode():
            e_source, e_made, e_real = (encoder(images) for images in (x, made, real))
        strangers = (e_source @ e_source.T)[~torch.eye(len(x), dtype=torch.bool)]
        bar = float(strangers.quantile(0.95)) if len(x) > 1 else float("nan")
        kept, same = (e_source * e_made).sum(1), (e_source * e_real).sum(1)
        table.add_row(f"identity ({encoder.name})", interval(kept.numpy(), rng))
        table.add_row("real photographs, same person", interval(same.numpy(), rng))
        table.add_row("different people, 95th percentile", f"{bar:.4f}")
        table.add_row("share above it", f"{float((kept > bar).float().mean()):.1%}")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
