"""Three small expression classifiers, trained on different faces, at different resolutions.

| name   | sees                  | trained on                   | is for                  |
|--------|-----------------------|------------------------------|-------------------------|
| tuning | 64 px                 | half 0 of FER2013 and of LFW | exemplars, polishing    |
| broad  | 32 px, no fine detail | half 0 of FER2013            | polishing, mouths, rows |
| final  | 64 px, another form   | half 1 of FER2013 and of LFW | the report              |

A classifier that has seen LFW takes any sharp photograph for a neutral or happy face; one that has
not errs the other way. What convinces both is the expression and not the look of a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expraug.faces.composite import luminance
from recipes.real_faces import FER2013, LFW, Faces

CLASSES = 7
"""Contempt has too few faces to be learned."""
BATCH = 96


def conv(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions and a projected skip."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv(inputs, outputs, stride)
        self.second = nn.Sequential(
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.skip = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.skip(x))


def tuning_network(width: int = 32) -> nn.Sequential:
    return nn.Sequential(
        conv(1, width, 2, 5),
        *(Residual(width * a, width * b, 2) for a, b in ((1, 2), (2, 4), (4, 6))),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(width * 6, CLASSES),
    )


def broad_network(width: int = 40) -> nn.Sequential:
    return nn.Sequential(
        nn.AvgPool2d(2),
        conv(1, width),
        conv(width, width, 2),
        Residual(width, width * 2, 2),
        Residual(width * 2, width * 4, 2),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(width * 4 * 16, CLASSES),
    )


def final_network(width: int = 24) -> nn.Sequential:
    w = width
    return nn.Sequential(
        *(conv(1, w), nn.MaxPool2d(2), conv(w, 2 * w, 2), conv(2 * w, 4 * w), nn.MaxPool2d(2)),
        *(conv(4 * w, 4 * w), conv(4 * w, 6 * w), nn.MaxPool2d(2), conv(6 * w, 6 * w)),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6 * w * 16, 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, CLASSES),
    )


@dataclass(frozen=True)
class Plan:
    """How a classifier is made: its network, seed, epochs, half, and whether it sees LFW."""

    network: Callable[[], nn.Sequential]
    seed: int
    epochs: int
    half: int
    lfw: bool = True


PLANS = {
    "tuning": Plan(tuning_network, 0, 10, 0),
    # a rough second opinion is all it is for: right on half of FER2013's validation faces
    "broad": Plan(broad_network, 0, 2, 0, lfw=False),
    "final": Plan(final_network, 1, 11, 1),
}


def standardise(faces: Tensor) -> Tensor:
    """Return (B, 1|3, S, S) faces in [0, 1] as (B, 1, 64, 64), standardised over the face."""
    x = luminance(faces) if faces.shape[1] == 3 else faces
    if x.shape[-1] == 128:
        x = F.avg_pool2d(x, 2)
    elif x.shape[-1] != 64:
        x = F.interpolate(x, size=(64, 64), mode="bilinear", antialias=True, align_corners=False)
    centre = x[:, :, 12:60, 10:54]
    mean, deviation = centre.mean((1, 2, 3), keepdim=True), centre.std((1, 2, 3), keepdim=True)
    return (x - mean) / (deviation + 0.03)


def vary(faces: Tensor, generator: torch.Generator) -> Tensor:
    """Return standardised (B, 1, 64, 64) faces: moved, flipped, relit, softened, partly hidden."""
    count = len(faces)

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    angle, size = draw(-0.2, 0.2), draw(0.88, 1.12)
    mirror = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    rows = [torch.cos(angle) * size * mirror, -torch.sin(angle) * size, draw(-0.09, 0.09)]
    rows += [torch.sin(angle) * size * mirror, torch.cos(angle) * size, draw(-0.09, 0.09)]
    theta = torch.stack(rows, 1).view(count, 2, 3)
    grid = F.affine_grid(theta, list(faces.shape), align_corners=False)
    faces = F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)
    faces = faces.clamp(1e-3, 1) ** draw(-0.35, 0.35).exp().view(-1, 1, 1, 1)
    if torch.rand(1, generator=generator) < 0.35:  # sharpness must not matter
        faces = F.interpolate(
            F.avg_pool2d(faces, 2), size=(64, 64), mode="bilinear", align_corners=False
        )
    x, y = draw(0, 64).view(-1, 1, 1), draw(0, 64).view(-1, 1, 1)
    width, height = draw(5, 12).view(-1, 1, 1), draw(5, 12).view(-1, 1, 1)
    axis = torch.arange(64.0)
    hidden = ((axis - x).abs() < width) & ((axis.view(-1, 1) - y).abs() < height)
    hidden &= draw(0, 1).view(-1, 1, 1) < 0.35
    return standardise(faces).masked_fill(hidden[:, None], 0)


@torch.no_grad()
def probabilities(classifier: nn.Module, faces: Tensor) -> Tensor:
    """Return (N, 7) probabilities of faces, uint8 or float in [0, 1], and their mirror images."""
    found = []
    for part in faces.split(500):
        x = standardise(part.float() / 255 if part.dtype == torch.uint8 else part)
        found.append((classifier(x).softmax(1) + classifier(x.flip(3)).softmax(1)) / 2)
    return torch.cat(found)


def recalls(found: Tensor, labels: Tensor) -> np.ndarray:
    """Return the (7,) recall of each class; nan where there is no face of it."""
    hit = found.argmax(1) == labels
    of = [hit[labels == c] for c in range(CLASSES)]
    return np.array([float(h.float().mean()) if len(h) else np.nan for h in of])


def small(faces: Faces) -> tuple[Tensor, Tensor]:
    """Return the (N, 1, 64, 64) uint8 grey faces that have a class, and their labels."""
    faces = faces.take(np.flatnonzero(faces.expression < CLASSES))
    pixels = [F.avg_pool2d(c.float(), 2).round().to(torch.uint8) for c in faces.grey().split(500)]
    return torch.cat(pixels), torch.from_numpy(faces.expression.astype(np.int64))


def wanted(faces: Faces, half: int, lfw: bool = True) -> np.ndarray:
    """Return the train faces of FER2013 and, with `lfw`, of LFW that are in a half."""
    of_set = (faces.origin == FER2013) | ((faces.origin == LFW) & lfw)
    return np.flatnonzero(of_set & (faces.split == "train") & (faces.half == half))


def train(
    plan: Plan, faces: Sequence[Faces], epochs: int | None = None, per_epoch: int | None = None
) -> nn.Module:
    """Train a classifier.

    Args:
        plan: which network, on which of the faces.
        faces: the extracted sets.
        epochs, per_epoch: fewer, for a trial.
    """
    torch.manual_seed(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    chosen = [small(f.take(wanted(f, plan.half, plan.lfw))) for f in faces]
    x, y = torch.cat([c[0] for c in chosen]), torch.cat([c[1] for c in chosen])
    count = torch.bincount(y, minlength=CLASSES).float()
    # towards balance, without drawing the 200 faces of disgust too often
    weight = (count**-0.7)[y]
    epochs, steps = epochs or plan.epochs, max(1, (per_epoch or len(y)) // BATCH)
    classifier = plan.network().to(memory_format=torch.channels_last)
    mean = torch.optim.swa_utils.AveragedModel(
        classifier,
        # of about the last 500 steps, of fewer at first
        avg_fn=lambda kept, new, n: kept + (new - kept) * (1 - min(0.998, (n + 1) / (n + 21))),
        use_buffers=True,
    )
    optimizer = torch.optim.AdamW(classifier.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=epochs * steps + 1, pct_start=0.2
    )
    print(f"{len(y)} faces {count.long().tolist()}, {epochs} epochs", flush=True)
    for epoch in range(epochs):
        classifier.train()
        losses = 0.0
        order = torch.multinomial(weight, steps * BATCH, replacement=True, generator=generator)
        for batch in order.split(BATCH):
            seen = vary(x[batch].float() / 255, generator)
            logits = classifier(seen.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, y[batch], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            mean.update_parameters(classifier)
            losses += float(loss.detach()) / steps
        print(f"  epoch {epoch}: loss {losses:.3f}", flush=True)
    return mean.module.eval().requires_grad_(False)


def load_classifier(name: str, file: Path) -> nn.Module:
    classifier = PLANS[name].network()
    classifier.load_state_dict(load_file(file))
    return classifier.eval().requires_grad_(False)


def save_classifier(classifier: nn.Module, file: Path) -> None:
    part = file.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in classifier.state_dict().items()}, part)
    part.replace(file)
