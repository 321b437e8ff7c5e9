"""One run: a timm model trained on real faces and extra samples, all on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
import xxhash
from safetensors import safe_open
from safetensors.torch import save_file
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from fer.arms import Arm, mixer
from fer.augment import augment, centre, standardise


@dataclass(frozen=True)
class Recipe:
    """How every arm is trained.

    Args:
        model: any timm model by name.
        model_args: for `timm.create_model`.
        pretrained: start from timm's weights.
        steps, batch: of training; the same for every arm.
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
    model_args: Mapping[str, Any] = field(default_factory=dict)
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


@dataclass(frozen=True)
class Mixing:
    """How extra samples are mixed in.

    Args:
        share: of the draws of a rare class that are extra samples.
        frequent: the same of the most frequent class; in between in proportion to the lack.
        soft: weight of the gate net's probabilities in the label of a synthetic.
        schedule: "constant"; or "falling": twice the share at first, none in the end.
        ratio: most synthetics for each real face, of those that the gate passed; 0 for all.
        intensities: only synthetics of these; none given means all.
        variants: only the first so many variants; 0 for all.
    """

    share: float = 0.35
    frequent: float = 0.0
    soft: float = 0.0
    schedule: str = "constant"
    ratio: float = 0.0
    intensities: tuple[float, ...] = ()
    variants: int = 0

    def at(self, progress: float) -> float:
        """Return what the shares are multiplied with at a point of training, 0 to 1."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule != "falling":
            raise ValueError(f"schedule is 'constant' or 'falling', not {self.schedule!r}")
        return 2 * (1 - progress)


@dataclass
class Samples:
    """Faces to train on: (N, 64, 64) uint8, and their (N, E) labels, rows summing to 1."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Samples:
        """Return the same on a device."""
        return Samples(self.pixels.to(device), self.labels.to(device))


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


class _Draw:
    """Draws the faces of each step: first the class, then real or extra, then the face."""

    def __init__(
        self,
        real: Samples,
        extra: Samples | None,
        extra_class: Tensor | None,
        arm: Arm,
        mix: Mixing,
    ) -> None:
        device = real.labels.device
        classes = real.labels.argmax(1)
        counts = torch.bincount(classes, minlength=real.labels.shape[1]).float()
        even = (counts > 0).float() / (counts > 0).sum()
        self.prior = (1 - arm.balance) * counts / counts.sum() + arm.balance * even
        self.real = _ByClass(classes, real.labels.shape[1])
        self.extra: _ByClass | None = None
        if extra is not None and extra_class is not None and len(extra_class):
            lack = 1 - counts / counts.max()
            self.share = mix.frequent + (mix.share - mix.frequent) * lack
            self.extra = _ByClass(extra_class.to(device), real.labels.shape[1])
            self.share = self.share * (self.extra.counts > 0)

    def __call__(self, count: int, factor: float) -> tuple[Tensor, Tensor]:
        """Return (count,) places and whether each is among the extra samples."""
        classes = torch.multinomial(self.prior, count, replacement=True)
        rows = self.real.draw(classes)
        is_extra = torch.zeros_like(classes, dtype=torch.bool)
        if self.extra is not None:
            chance = (self.share[classes] * factor).clamp(max=0.95)
            is_extra = torch.rand(count, device=classes.device) < chance
            rows = torch.where(is_extra, self.extra.draw(classes), rows)
        return rows, is_extra


class _ByClass:
    """Places of the samples of each class, to draw from."""

    def __init__(self, classes: Tensor, count: int) -> None:
        self.order = classes.argsort(stable=True)
        self.counts = torch.bincount(classes, minlength=count)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, classes: Tensor) -> Tensor:
        """Return a place for each class; of a class without samples any, which is not used."""
        inside = torch.rand(len(classes), device=classes.device) * self.counts[classes]
        place = self.starts[classes] + inside.long()
        return self.order[place.clamp(max=len(self.order) - 1)]


def train(
    recipe: Recipe,
    arm: Arm,
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
        recipe, arm, mix: how.
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
    state = _State(checkpoint, model, average, optimizer)
    first = state.load()
    real = real.to(device)
    extra = extra.to(device) if extra is not None else None
    draw, mixed = _Draw(real, extra, extra_class, arm, mix), mixer(arm, classes)
    prior = draw.prior.clamp(min=1e-8).log() if arm.loss == "balanced" else None
    # the balanced loss asks for the prior in the tail, which smoothing would contradict
    smoothing = recipe.smoothing if prior is None else 0.0
    for step in range(first, recipe.steps):
        if step % recipe.save_every == 0:
            state.save(step)
            # a run that was broken off goes on with the draws it would have had
            torch.manual_seed(seed * 1_000_003 + step)
        schedule.step_update(step)
        model.train()
        rows, is_extra = draw(recipe.batch, mix.at(step / recipe.steps))
        own = rows.clamp(max=len(real.pixels) - 1)
        pixels, labels = real.pixels[own], real.labels[own]
        if extra is not None:
            other = rows.clamp(max=len(extra.pixels) - 1)
            pixels = torch.where(is_extra[:, None, None], extra.pixels[other], pixels)
            labels = torch.where(is_extra[:, None], extra.labels[other], labels)
        x = augment(arm.augmentation, pixels, recipe.crop, recipe.shift, recipe.magnitude)
        if mixed is not None:
            x, labels = mixed(x, labels)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.amp):
            logits = model(prepare(x, recipe))
        logits = logits.float() if prior is None else logits.float() + prior
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update(model, step=step)
    state.remove()
    return average.module.eval().requires_grad_(False)


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
    for part in pixels.split(512):
        x = prepare(centre(part.to(device), recipe.crop), recipe)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.amp):
            both = [model(v).float().softmax(1) for v in (x, x.flip(3))]
        found.append(((both[0] + both[1]) / 2).cpu())
    return torch.cat(found)


class _State:
    """What a run that was broken off goes on from: weights, average and optimizer."""

    def __init__(
        self,
        file: Path | None,
        model: nn.Module,
        average: ModelEmaV3,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.file, self.model, self.average, self.optimizer = file, model, average, optimizer

    def save(self, step: int) -> None:
        if self.file is None or step == 0:
            return
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        saved = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        save_file(saved, part, {"step": str(step)})
        part.replace(self.file)

    def load(self) -> int:
        """Restore, and return the step to go on with."""
        if self.file is None or not self.file.is_file():
            return 0
        with safe_open(self.file, "pt") as saved:
            tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
            step = int(saved.metadata()["step"])

        def named(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(named("model."))
        self.average.module.load_state_dict(named("average."))
        kept: dict[int, dict[str, Tensor]] = {}
        for name, value in named("optimizer.").items():
            index, _, field_name = name.partition(".")
            kept.setdefault(int(index), {})[field_name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": kept, "param_groups": groups})
        return step

    def remove(self) -> None:
        if self.file is not None:
            self.file.unlink(missing_ok=True)


class TrainedClassifier(nn.Module):
    """A trained net as an `expraug.gate.Classifier`.

    Args:
        model: of `train`.
        recipe: that it was trained with.
        expressions: its classes.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, expressions: tuple[Any, ...]) -> None:
        super().__init__()
        self.model, self.recipe, self.expressions = model, recipe, expressions
        weights = xxhash.xxh3_64()
        for tensor in model.state_dict().values():
            weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        self.name = f"{recipe.model}-{weights.hexdigest()}"

    def probabilities(self, faces: Tensor) -> Tensor:
        """Return (B, E) probabilities of (B, 3, S, S) aligned faces in [0, 1]."""
        from expraug.faces.paste import luminance

        grey = (luminance(faces)[:, 0] * 255).round().to(torch.uint8)
        return predict(self.model, grey, self.recipe, faces.device).to(faces.device)
