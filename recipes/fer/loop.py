"""What `recipes.fer.train` does besides training: settings, batches, tests, going on later."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from recipes.fer.metrics import measure

STATE, RESULTS = "state.pt", "results.csv"


@dataclass
class Settings:
    """What train.yaml and the command line may say; `extra` 0 trains on real faces alone, `tests`
    are folders beside train, and `weights` a file of timm's where its hub cannot be reached."""

    faces: Path = Path()
    tests: list[str] = field(default_factory=lambda: ["test"])
    rare: list[str] = field(default_factory=list)
    model: str = "resnet18"
    pretrained: bool = False
    weights: Path | None = None
    size: int = 112
    epochs: int = 20
    batch: int = 64
    extra: int = 6
    lr: float = 5e-4
    seed: int = 0
    device: str = "cpu"
    cache: str = "cache"
    out: Path = Path("work/fer/train")


class Kept(Protocol):
    """What a state holds: a net, an optimiser, a schedule."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any) -> Any: ...


def loader(
    dataset: Dataset[Any], size: int, batch: int, steps: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return batches of images and classes.

    Args:
        dataset: of pictures and classes.
        size: side of the images.
        batch: images in each.
        steps: so many batches, drawn at random and altered; None gives each image once, in order.
    """
    seen = [v2.Resize((size, size))]
    if steps is not None:
        moved = v2.RandomAffine(
            10, (0.1, 0.1), (0.9, 1.1), interpolation=InterpolationMode.BILINEAR
        )
        seen += [v2.RandomHorizontalFlip(), moved]
    seen += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.25])]
    prepared = v2.Compose(seen)
    if steps is not None and batch == 0:
        return iter([(torch.empty(0, 3, size, size), torch.empty(0, dtype=torch.long))] * steps)
    sampler = None if steps is None else RandomSampler(dataset, True, steps * batch)  # type: ignore[arg-type]
    return iter(
        DataLoader(
            dataset,
            batch,
            sampler=sampler,
            collate_fn=lambda rows: default_collate([(prepared(x), y) for x, y in rows]),
        )
    )


def epochs_left(settings: Settings, **parts: Kept) -> Iterator[dict[str, Any]]:
    """Yield a row of results for each epoch that is left, to be filled; keep it, and the state.

    Everything random follows from the seed and the epoch, so that a run that was broken off ends
    as one that was not.

    Args:
        settings: of the run.
        parts: what changes in an epoch.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    out = settings.out
    out.mkdir(parents=True, exist_ok=True)
    said = {k: str(v) for k, v in asdict(settings).items()}
    rows: list[dict[str, Any]] = []
    if (out / STATE).is_file():
        state = torch.load(out / STATE, map_location="cpu", weights_only=True)
        other = [k for k in said if state["settings"].get(k) != said[k]]
        if other:
            raise ValueError(f"{out} holds a run with another {', '.join(other)}: choose other out")
        rows = state["rows"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for number in range(len(rows), settings.epochs):
        torch.manual_seed(1000 * settings.seed + number)
        row: dict[str, Any] = {"epoch": number}
        yield row
        rows.append(row)
        states = {name: part.state_dict() for name, part in parts.items()}
        being_written = out / f"{STATE}.part"
        torch.save({"settings": said, "rows": rows, **states}, being_written)
        being_written.replace(out / STATE)
        print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        _write(out / RESULTS, rows)
    _write(out / RESULTS, rows)


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@torch.inference_mode()
def measured(net: nn.Module, own: Settings) -> dict[str, float]:
    """Return what `measure` says of a net on each test, rounded, as "test_accuracy".

    The net sees each face and its mirror image, and the mean of both counts.
    """
    net.eval()
    found: dict[str, float] = {}
    for name in own.tests:
        faces, seen = ImageFolder(own.faces / name), []
        for images, classes in loader(faces, own.size, own.batch):
            x = images.to(own.device)
            seen.append(((net(x).softmax(1) + net(x.flip(3)).softmax(1)).cpu() / 2, classes))
        probabilities, labels = (torch.cat(part) for part in zip(*seen, strict=True))
        metrics = measure(probabilities, labels, faces.classes)
        found |= {f"{name}_{metric}": round(value, 4) for metric, value in metrics.items()}
    return found
