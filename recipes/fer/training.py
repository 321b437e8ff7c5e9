"""One run: a timm model trained on real faces and extra samples, all on the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from recipes.fer.augment import augment, centre, standardise
from recipes.fer.checkpoint import Checkpoint
from recipes.fer.conditions import Condition, mixer
from recipes.fer.drawing import Draw, Mixing, Samples


@dataclass(frozen=True)
class Recipe:
    """How every condition is trained.

    Args:
        model: any timm model by name.
        model_args: for `timm.create_model`.
        pretrained: start from timm's weights.
        steps, batch: of training; the same for every condition.
        lr, weight_decay, smoothing: of AdamW and the cross entropy.
        ema: decay of the moving average of the weights, which is what is tested.
        crop, shift: what the net sees of the 64 pixels of an aligned face, and how far that moves.
        input_size: side that the crop is enlarged to; 0 leaves it.
        amp: bfloat16 autocast.
        drop: drop rate before the last layer.
        magnitude: of RandAugment.
        save_every: steps between two checkpoints.
    """

    model: str = "resnet18"
    model_args: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    steps: int = 600
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    ema: float = 0.99
    crop: int = 48
    shift: int = 4
    input_size: int = 0
    amp: bool = True
    drop: float = 0.2
    magnitude: int = 9
    save_every: int = 2000


def build(recipe: Recipe, classes: int) -> nn.Module:
    """Return the model, for grey faces."""
    model = timm.create_model(
        recipe.model,
        pretrained=recipe.pretrained,
        in_chans=1,
        num_classes=classes,
        drop_rate=recipe.drop,
        **recipe.model_args,
    )
    return model.to(memory_format=torch.channels_last)


def train(
    recipe: Recipe,
    condition: Condition,
    real: Samples,
    extra: Samples | None,
    extra_class: Tensor | None,
    mix: Mixing,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
) -> nn.Module:
    """Train a net and return its moving average, ready to test.

    Args:
        recipe, condition, mix: how.
        real: the training fold.
        extra: synthetics or altered copies.
        extra_class: (M,) class that each of them stands for, whatever its soft label says.
        seed: of weights and draws.
        device: where all of it is.
        checkpoint: file to save the state in and go on from.
    """
    torch.manual_seed(seed)
    classes = real.labels.shape[1]
    model = build(recipe, classes).to(device)
    average = ModelEmaV3(model, decay=recipe.ema, use_warmup=True)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = CosineLRScheduler(
        optimizer,
        recipe.steps,
        warmup_t=max(1, recipe.steps // 20),
        warmup_lr_init=recipe.lr / 20,
        t_in_epochs=False,
    )
    state = Checkpoint(checkpoint, model, average, optimizer)
    first = state.load()
    real = real.to(device)
    extra = extra.to(device) if extra is not None else None
    draw, mixed = Draw(real, extra, extra_class, condition, mix), mixer(condition, classes)
    # the balanced loss asks for the prior in the tail, which smoothing would contradict
    balanced = condition.loss == "balanced"
    smoothing = 0.0 if balanced else recipe.smoothing
    for step in range(first, recipe.steps):
        if step % recipe.save_every == 0:
            state.save(step)
            # a run that was broken off goes on with the draws it would have had
            torch.manual_seed(seed * 1_000_003 + step)
        schedule.step_update(step)
        model.train()
        factor = mix.at(step / recipe.steps)
        rows, is_extra = draw(recipe.batch, factor)
        own = rows.clamp(max=len(real.pixels) - 1)
        pixels, labels = real.pixels[own], real.labels[own]
        if extra is not None:
            other = rows.clamp(max=len(extra.pixels) - 1)
            pixels = torch.where(is_extra[:, None, None], extra.pixels[other], pixels)
            labels = torch.where(is_extra[:, None], extra.labels[other], labels)
        x = augment(condition.augmentation, pixels, recipe.crop, recipe.shift, recipe.magnitude)
        if mixed is not None:
            x, labels = mixed(x, labels)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.amp):
            logits = model(prepare(x, recipe))
        logits = logits.float()
        if balanced:
            logits = logits + draw.classes(factor).clamp(min=1e-8).log()
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        average.update(model, step=step)
    state.remove()
    trained: nn.Module = average.module
    return trained.eval().requires_grad_(False)


def prepare(x: Tensor, recipe: Recipe) -> Tensor:
    """Return what the net sees of (B, 1, H, W) faces in [0, 1]."""
    if recipe.input_size:
        size = (recipe.input_size, recipe.input_size)
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return standardise(x).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def predict(model: nn.Module, pixels: Tensor, recipe: Recipe, device: torch.device) -> Tensor:
    """Return (N, E) probabilities of (N, 64, 64) uint8 faces, the mean with their mirror images."""
    found = []
    for part in torch.split(pixels, 512):
        x = prepare(centre(part.to(device), recipe.crop), recipe)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.amp):
            both = [model(v).float().softmax(1) for v in (x, x.flip(3))]
        found.append(((both[0] + both[1]) / 2).cpu())
    return torch.cat(found)


@torch.inference_mode()
def features(model: nn.Module, pixels: Tensor, recipe: Recipe, device: torch.device) -> Tensor:
    """Return (N, D) what a timm model's last layer sees of (N, 64, 64) uint8 faces."""
    found = []
    for part in torch.split(pixels, 512):
        x = prepare(centre(part.to(device), recipe.crop), recipe)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.amp):
            maps = model.forward_features(x)  # type: ignore[operator]
            seen = model.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        found.append(seen.float().cpu())
    return torch.cat(found)
