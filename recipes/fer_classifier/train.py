"""Train the FER classifier that measures synthetic faces, on real faces of training people.

    python -m recipes.fer_classifier.train DATA --out expraug/weights/fer_classifier

DATA is laid out as `recipes.real_faces` takes it. FER2013's training images are learned with the
shares of the FER+ votes as targets, LFW's training people with their labels. The state after each
epoch is kept in `--work`, from which an interrupted run goes on; what the net knows of people whom
it has not seen is printed by `recipes.fer_classifier.report`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERNet, see, standardise
from recipes.real_faces import drawing_weights, targets_of, training_faces


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


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    work: Annotated[Path, typer.Option(help="Keeps the state.")] = Path("work/fer_classifier"),
    faces: Annotated[Path, typer.Option(help="Work folder of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
    half: Annotated[int | None, typer.Option(min=0, max=1, help="Half of the people only.")] = None,
    epochs: int = 30,
    per_epoch: Annotated[int, typer.Option(help="Faces drawn per epoch.")] = 14_400,
    batch_size: int = 96,
    width: int = 48,
    rate: float = 3e-3,
    seed: int = 0,
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    known = training_faces(data, faces, half)
    pixels = torch.cat([_reduced(part) for part in known.grey().split(512)])
    targets = torch.from_numpy(targets_of(known))
    weight = drawing_weights(known)
    counts = np.bincount(known.votes.argmax(1), minlength=len(Expression))
    print(f"{len(known)} faces {dict(zip(map(str, Expression), counts.tolist(), strict=True))}")
    del known

    classifier = FERNet([str(e) for e in Expression], width)
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
    print(f"{sum(p.numel() for p in classifier.parameters()):,} parameters", flush=True)
    for epoch in range(first, epochs):
        start, losses = time.time(), 0.0
        torch.manual_seed(seed + 1000 * (epoch + 1))
        classifier.train()
        order = torch.multinomial(weight, steps * batch_size, replacement=True)
        for batch in order.split(batch_size):
            windows = vary(pixels[batch].float() / 255)
            logits = classifier(windows.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            mean.update_parameters(classifier)
            losses += float(loss.detach()) / steps
        print(f"epoch {epoch}: loss {losses:.3f}, {time.time() - start:.0f} s", flush=True)
        kept = mean.module.eval()
        assert isinstance(kept, FERNet)
        kept.save_pretrained(out)
        saved = {name: part.state_dict() for name, part in parts.items()}
        torch.save(saved | {"epoch": epoch + 1}, work / "state.part")
        (work / "state.part").replace(checkpoint)


def _reduced(faces: Tensor) -> Tensor:
    """Return (B, 1, 128, 128) uint8 faces at 64 px, which is enough for windows of 48."""
    half = F.interpolate(faces.float(), size=(64, 64), mode="bilinear", antialias=True)
    return half.round().to(torch.uint8)


if __name__ == "__main__":
    typer.run(main)
