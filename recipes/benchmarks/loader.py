"""What expraug costs in a DataLoader, beside the heavy transforms of other libraries.

    python -m recipes.benchmarks.loader [--faces examples/faces] [--workers 1,2,4] [--json OUT]

Every loader decodes JPEG faces and sends them through a usual torchvision v2 pipeline (random
resized crop, flip, colour jitter, to float, normalise). In front of it stands, at p = 0.5: nothing;
`RandomExpression` with every face cached; albumentations' `ElasticTransform` and
`ThinPlateSpline`; kornia's `RandomElasticTransform` and `RandomThinPlateSpline`, if kornia is
there. `ExpressionAugmentedDataset` stands there too: half of its samples are synthetic. Workers
live on through all epochs and the first is not counted. All in one run, epochs alternating between
loaders; medians, and ratios of images per second to the loader with nothing in front.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from expraug import ExpressionAugmenter
from expraug.datasets import ExpressionAugmentedDataset, open_source
from expraug.datasets.source import iterate
from expraug.transforms.torchvision import RandomExpression

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
CLASSES = ["happy", "neutral"]
Sample = tuple[Image.Image, int]


class Faces(Dataset[Sample]):
    """JPEG faces of one size in memory, gone round until there are `count`; decoded when read."""

    def __init__(self, folder: Path, size: int, count: int) -> None:
        self.data: list[tuple[bytes, int]] = []
        for item in iterate(open_source(folder)):
            image = Image.fromarray(item.read()).resize((size, size), Image.Resampling.LANCZOS)
            data = io.BytesIO()
            image.save(data, "JPEG", quality=95)
            self.data.append((data.getvalue(), CLASSES.index(item.class_name)))
        self.count = count
        self.targets = [label for _, label in itertools.islice(itertools.cycle(self.data), count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        data, label = self.data[index % len(self.data)]
        return Image.open(io.BytesIO(data)).convert("RGB"), label


class Pipeline(Dataset[tuple[torch.Tensor, int]]):
    """A data set of faces, something in front, and the usual pipeline."""

    def __init__(
        self, faces: Any, size: int, first: Callable[[Image.Image, int], Sample] | None = None
    ) -> None:
        self.faces, self.first = faces, first
        self.usual = v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=(0.8, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(0.2, 0.2, 0.2),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.faces[index]
        if self.first is not None:
            image, label = self.first(image, label)
        return self.usual(image), label


def with_albumentations(transform: Any, image: Image.Image, label: int) -> Sample:
    """Apply an albumentations transform to a PIL image."""
    return Image.fromarray(transform(image=np.asarray(image))["image"]), label


def with_kornia(transform: Any, image: Image.Image, label: int) -> Sample:
    """Apply a kornia transform to a PIL image."""
    tensor = v2.functional.to_dtype(v2.functional.to_image(image), scale=True)[None]
    return v2.functional.to_pil_image(transform(tensor)[0].clamp(0, 1)), label


def peers() -> dict[str, Callable[[Image.Image, int], Sample]]:
    """Return the heavy transforms of the libraries that are installed, by name."""
    found: dict[str, Callable[[Image.Image, int], Sample]] = {}
    if importlib.util.find_spec("albumentations"):
        import albumentations as A
        import cv2

        cv2.setNumThreads(0)  # one worker, one thread
        for name in ("ElasticTransform", "ThinPlateSpline"):
            transform = A.Compose([getattr(A, name)(p=0.5)])
            found[f"albumentations {name}"] = partial(with_albumentations, transform)
    if importlib.util.find_spec("kornia"):
        import kornia.augmentation as K

        for name in ("RandomElasticTransform", "RandomThinPlateSpline"):
            found[f"kornia {name}"] = partial(with_kornia, getattr(K, name)(p=0.5))
    return found


def pipelines(faces: Faces, size: int, cache: str) -> dict[str, Pipeline]:
    """Return what is compared, by name; the first is what the others are related to."""
    augmenter = ExpressionAugmenter("pixel", cache=cache, on_miss="error")
    once = [faces[i] for i in range(min(len(faces.data), len(faces)))]
    augmenter.warm(once, CLASSES, progress=False)
    expression = RandomExpression(CLASSES, augmenter=augmenter, p=0.5)
    wrapped = ExpressionAugmentedDataset(faces, augmenter, CLASSES)
    return {
        "usual": Pipeline(faces, size),
        "RandomExpression, warm": Pipeline(faces, size, expression),
        "ExpressionAugmentedDataset, warm": Pipeline(wrapped, size),
        **{name: Pipeline(faces, size, first) for name, first in peers().items()},
    }


def images_per_second(
    compared: dict[str, Pipeline], workers: int, rounds: int, batch_size: int
) -> dict[str, np.ndarray]:
    """Run epochs of each loader in turn; return images per second, one value per round."""
    loaders = {
        name: DataLoader(
            dataset, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
        for name, dataset in compared.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name, loader in loaders.items():
            start = time.perf_counter()
            count = sum(len(labels) for _, labels in loader)
            if number:  # in the first, workers start and open the cache
                rates[name].append(count / (time.perf_counter() - start))
    return {name: np.array(values) for name, values in rates.items()}


def main(
    faces: Annotated[Path, typer.Option(help="ImageFolder of happy and neutral faces.")] = Path(
        "examples/faces"
    ),
    sizes: Annotated[str, typer.Option(help="Sides in pixels, with commas.")] = "112,224",
    workers: Annotated[str, typer.Option(help="Numbers of workers, with commas.")] = "1,2,4",
    images: Annotated[int, typer.Option(help="Images per epoch.")] = 1000,
    batch_size: int = 32,
    rounds: int = 5,
    output: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    torch.set_num_threads(1)
    table = Table(title=f"Images per second, median of {rounds} epochs of {images}")
    for column in ("size", "workers", "in front", "images/s", "ratio to usual"):
        table.add_column(column)
    figures = []
    for size in map(int, sizes.split(",")):
        with tempfile.TemporaryDirectory() as cache:
            compared = pipelines(Faces(faces, size, images), size, cache)
            for count in map(int, workers.split(",")):
                rates = images_per_second(compared, count, rounds, batch_size)
                for name, found in rates.items():
                    rate = float(np.median(found))
                    ratio = float(np.median(found / rates["usual"]))
                    table.add_row(str(size), str(count), name, f"{rate:.0f}", f"{ratio:.3f}")
                    figures.append(
                        {
                            "size": size,
                            "workers": count,
                            "what": name,
                            "images_s": rate,
                            "ratio": ratio,
                        }
                    )
    Console().print(table)
    if output:
        output.write_text(json.dumps({"cpus": os.cpu_count(), "rows": figures}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
