"""Train the FER network that discriminators synthetic faces, from real faces.

    python -m recipes.fer_classifier.train FER2013.parquet LFW.parquet@detect \\
        --out expraug/weights/fer_classifier

Each set is a parquet file or a folder of classes; `@detect` finds the face in photographs, else the
images are face crops. Of a set that names its people only the training split is used; of one that
does not, every image. `--half 1` uses only one half of the images and of the people, so that
faces from the other half can lend their expressions to synthetics without the classifier having
seen them. The aligned faces and the state after each epoch are kept in `--work`, from which an
interrupted run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor

from expraug.datasets import open_source, person_split
from expraug.datasets.source import FaceItem, iterate
from expraug.errors import ExpraugError
from expraug.expressions import Expression
from expraug.faces import align, create_detector, similarity
from expraug.faces.composite import luminance
from expraug.networks.fer_classifier import FERNet, see, standardise
from recipes.splits import half_of_person, half_of_rows

SIZE = 64
EXPRESSIONS = tuple(Expression)[:7]  # contempt has too few faces to be learned


def wanted(item: FaceItem, row: int, rows: np.ndarray, half: int | None, split: str) -> bool:
    """Say whether an item is of the split, and of the half, that is asked for.

    Args:
        rows: the half of each row, if the set names nobody.
    """
    if item.identity is None:
        return half is None or rows[row] == half
    in_half = half is None or half_of_person(item.identity) == half
    return in_half and person_split(item.identity) == split


def aligned(
    name: str, half: int | None, split: str, size: int
) -> Iterator[tuple[FaceItem, Tensor | None]]:
    """Yield the items of a set, and their aligned faces, (1, size, size) uint8; None if lost."""
    path, _, mode = name.partition("@")
    detector = create_detector(mode or "crop")
    source = open_source(path)
    rows = half_of_rows(len(source))
    for row, item in enumerate(iterate(source)):
        expression = Expression.parse(item.class_name)
        if expression not in EXPRESSIONS or not wanted(item, row, rows, half, split):
            continue
        try:
            image = item.read()
        except ExpraugError:
            yield item, None
            continue
        (location,) = detector([image])
        if location is None:
            yield item, None
            continue
        pixels = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None].float()
        face = align(pixels, similarity(location.points[None].astype("float64")), size)
        grey = luminance(face) if face.shape[1] == 3 else face
        yield item, grey[0].round().to(torch.uint8)


def prepare(name: str, half: int | None, split: str, size: int) -> dict[str, Tensor]:
    """Return the aligned faces of a set, (N, 1, size, size) uint8, and their expressions, (N,)."""
    faces, labels, lost = [], [], 0
    for item, face in aligned(name, half, split, size):
        if face is None:
            lost += 1
            continue
        faces.append(face)
        labels.append(int(Expression.parse(item.class_name)))
    counts = np.bincount(labels, minlength=len(EXPRESSIONS))
    print(f"{name} ({split}): {len(faces)} faces {counts.tolist()}, {lost} lost", flush=True)
    return {"faces": torch.stack(faces), "labels": torch.tensor(labels)}


def prepared(
    work: Path, name: str, half: int | None, split: str, size: int = SIZE
) -> dict[str, Tensor]:
    """Return what `prepare` does, from the work folder where it is there already."""
    other = "" if size == SIZE else f" {size}"
    key = xxhash.xxh64_hexdigest(f"{name} {half} {split}{other}".encode())
    file = work / f"faces-{key}.safetensors"
    if not file.is_file():
        save_file(prepare(name, half, split, size), file)
    return load_file(file)


def vary(faces: Tensor) -> Tensor:
    """Return the windows of (B, 1, 64, 64) faces, flipped, moved, blurred and unevenly lit."""
    count, device = len(faces), faces.device

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(count, device=device).uniform_(low, high)

    angle, size = draw(-0.17, 0.17), draw(0.88, 1.12)
    mirror = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    rows = [torch.cos(angle) * size * mirror, -torch.sin(angle) * size, draw(-0.08, 0.08)]
    rows += [torch.sin(angle) * size * mirror, torch.cos(angle) * size, draw(-0.08, 0.08)]
    theta = torch.stack(rows, 1).view(count, 2, 3)
    grid = F.affine_grid(theta, list(faces.shape), align_corners=False)
    faces = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    faces = faces.clamp(1e-3, 1) ** draw(-0.4, 0.4).exp().view(-1, 1, 1, 1)
    soft = F.avg_pool2d(F.pad(faces, (1, 1, 1, 1), mode="replicate"), 3, 1)
    # from blurred (0) over as it is (1) to sharpened: sharpness must tell nothing
    windows = see(soft + draw(0, 1.3).view(-1, 1, 1, 1) * (faces - soft))
    windows = windows + 0.08 * draw(0, 1).view(-1, 1, 1, 1) * torch.randn_like(windows)
    top, left = (torch.randint(0, 48, (count, 1, 1, 1), device=device) for _ in range(2))
    axis = torch.arange(48, device=device)
    hidden = ((axis.view(-1, 1) - top).abs() < 7) & ((axis - left).abs() < 7)
    return standardise(windows.masked_fill(hidden & (draw(0, 1).view(-1, 1, 1, 1) < 0.3), 0))


def recalls(classifier: FERNet, faces: Tensor, labels: Tensor) -> dict[str, str]:
    """Return the recall of each expression, of all (accuracy) and their mean, with numbers."""
    predicted = torch.cat([classifier.probabilities(f.float() / 255) for f in faces.split(512)])
    hit = predicted.argmax(1) == labels
    found = {str(e): hit[labels == int(e)] for e in EXPRESSIONS if (labels == int(e)).any()}
    text = {name: f"{float(h.float().mean()):.3f} of {len(h)}" for name, h in found.items()}
    balanced = sum(float(h.float().mean()) for h in found.values()) / len(found)
    return {"accuracy": f"{float(hit.float().mean()):.3f}", "balanced": f"{balanced:.3f}"} | text


def main(
    sets: Annotated[list[str], typer.Argument(help="FILE for face crops, FILE@detect otherwise.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    validation: Annotated[
        list[str] | None, typer.Option(help="Set with other people, without names, to report on.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder for aligned faces and state.")] = Path("work"),
    half: Annotated[int | None, typer.Option(min=0, max=1)] = None,
    epochs: int = 16,
    per_epoch: Annotated[int, typer.Option(help="Faces drawn per epoch.")] = 14_400,
    batch_size: int = 96,
    width: int = 40,
    rate: float = 3e-3,
    seed: int = 0,
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    data = [prepared(work, name, half, "train") for name in sets]
    held = {name: prepared(work, name, None, "validation") for name in validation or []}
    faces = torch.cat([d["faces"] for d in data])
    labels = torch.cat([d["labels"] for d in data])
    origin = torch.cat([torch.full((len(d["labels"]),), i) for i, d in enumerate(data)])
    # Rare classes are drawn more often; within a class, small sets too: else the classifier would
    # learn that a face from the set with few sad faces is not sad.
    cell = origin * len(EXPRESSIONS) + labels
    weight = torch.bincount(cell).float()[cell] ** -0.5
    total = torch.zeros(len(EXPRESSIONS)).index_add_(0, labels, weight)
    size = torch.bincount(labels, minlength=len(EXPRESSIONS)).float()
    weight = weight / total[labels] * size[labels] ** 0.3

    classifier = FERNet([str(e) for e in EXPRESSIONS], width)
    classifier.to(memory_format=torch.channels_last)
    # the mean of all steps at first, then of about the last 200
    mean = torch.optim.swa_utils.AveragedModel(
        classifier,
        avg_fn=lambda kept, new, n: kept + (new - kept) / min(n + 1, 200),
        use_buffers=True,
    )
    steps = per_epoch // batch_size
    optimizer = torch.optim.AdamW(classifier.parameters(), rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps + 1)
    parts: dict[str, Any] = {
        "classifier": classifier,
        "mean": mean,
        "optimizer": optimizer,
        "schedule": schedule,
    }
    first, checkpoint = 0, work / "state.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        first = state.pop("epoch")
        for name, values in state.items():
            parts[name].load_state_dict(values)
    print(f"{len(labels)} faces; {sum(p.numel() for p in classifier.parameters()):,} parameters")
    for epoch in range(first, epochs):
        start, losses = time.time(), 0.0
        torch.manual_seed(seed + 1000 * (epoch + 1))
        classifier.train()
        order = torch.multinomial(weight, steps * batch_size, replacement=True)
        for batch in order.split(batch_size):
            windows = vary(faces[batch].float() / 255)
            logits = classifier(windows.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            mean.update_parameters(classifier)
            losses += float(loss.detach()) / steps
        kept = mean.module.eval()
        assert isinstance(kept, FERNet)
        print(f"epoch {epoch}: loss {losses:.3f}, {time.time() - start:.0f} s", flush=True)
        for name, faces_held in held.items():
            print(f"  {Path(name).parent.name}/{Path(name).name}", end=" ")
            print(recalls(kept, faces_held["faces"], faces_held["labels"]), flush=True)
        kept.save_pretrained(out)
        saved = {name: part.state_dict() for name, part in parts.items()}
        torch.save(saved | {"epoch": epoch + 1}, work / "state.part")
        (work / "state.part").replace(checkpoint)


if __name__ == "__main__":
    typer.run(main)
