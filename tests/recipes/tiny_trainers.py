"""Trainers, and what they are given, small enough to step in milliseconds."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.latent.generator import LatentEncoder, StyleGenerator
from expraug.networks.onset import onset
from expraug.synthesizers.decoupled import DecoupledNet
from expraug.synthesizers.expression_maps import ExpressionMaps
from expraug.synthesizers.fevgan.net import FEVGANNet
from expraug.synthesizers.unet_cgan import UNet
from recipes.decoupled import trainer as of_decoupled
from recipes.decoupled.data import Batch
from recipes.fevgan import trainer as of_fevgan
from recipes.latent import trainer as of_generator
from recipes.training.adversarial import AdversarialTrainer
from recipes.training.loss_networks import LossNetworks
from recipes.training.low import low
from recipes.unet_cgan import trainer as of_unet_cgan
from recipes.unet_cgan.data import Batch as MapBatch

PAIRS, UNPAIRED, SIZE, CATEGORIES = 4, 2, 32, 3
CPU = torch.device("cpu")


def coarse(faces: Tensor) -> Tensor:
    """A stand-in for an identity encoder: a coarse picture."""
    picture = F.adaptive_avg_pool2d(faces.mean(1, keepdim=True), 4).flatten(1)
    return F.normalize(picture - picture.mean(1, keepdim=True))


def batch(seed: int = 0) -> Batch:
    """Blurred noise; the targets are brighter below, the more so the higher their category."""
    generator = torch.Generator().manual_seed(seed)
    count = PAIRS + UNPAIRED
    coarse_noise = torch.rand(2 * count, 1, 6, 6, generator=generator)
    faces = F.interpolate(coarse_noise, (SIZE, SIZE), mode="bilinear") * 0.5 + 0.2
    source, real = faces.split(count)
    category = torch.arange(count) % CATEGORIES
    brighter = torch.zeros(count, 1, SIZE, SIZE)
    brighter[:, :, SIZE // 2 :] = 0.1 * (1 + category.view(-1, 1, 1, 1))
    return Batch(
        source=source,
        landmarks=torch.rand(count, 478, 2, generator=generator),
        category=category,
        target=source + brighter,
        embedding=coarse(source),
        other=torch.tensor([1, 2, 3, 0, 5, 4]),
        real=real,
        real_category=category.flip(0),
        source_latents=torch.randn(count, 7, 12, generator=generator),
        target_latents=torch.randn(count, 7, 12, generator=generator),
        real_latents=torch.randn(count, 7, 12, generator=generator),
        rows=torch.arange(3 * count),
    )


def map_batch(seed: int = 0) -> MapBatch:
    """Blurred noise in which all moves up, the more so the higher its category."""
    given = batch(seed)
    generator = torch.Generator().manual_seed(seed)
    lips = torch.rand(PAIRS + UNPAIRED, 2, 11, 2, generator=generator) * 0.02 + 0.6
    lips[..., 0] += torch.linspace(-0.1, 0.1, 11)
    far = 0.01 * (1 + given.category[:PAIRS].view(-1, 1, 1, 1))
    downwards = torch.tensor([0.0, 1.0])
    wanted = ExpressionMaps(
        flow=far * downwards.view(2, 1, 1).expand(2, 24, 24),
        lightening=10 * far.expand(-1, 1, 24, 24),
        lips=lips[:PAIRS],
        moved_lips=lips[:PAIRS] - far * downwards,
        interior=torch.rand(PAIRS, 6, 12, generator=generator) - 0.5,
    )
    return MapBatch(
        source=given.source,
        category=given.category,
        code=torch.randn(PAIRS + UNPAIRED, 4, generator=generator),
        lips=lips,
        wanted=wanted,
        other=given.other[:PAIRS],
        real=low(given.real),
        real_category=given.real_category,
    )


def unet_cgan(steps: int = 20, **options: Any) -> of_unet_cgan.Trainer:
    """The trainer of `unet_cgan`, which looks at faces from the first step on."""
    torch.manual_seed(0)
    setting = of_unet_cgan.Options(**{"amp": False, "lr": 3e-3, "alone": 0.0, **options})
    net, networks = UNet(CATEGORIES, SIZE, 8, 4), LossNetworks(coarse)
    even = torch.ones(1, 8, 8)
    return of_unet_cgan.Trainer(net, CATEGORIES, setting, steps, networks, even, CPU)


def generator(steps: int = 20, **options: Any) -> of_generator.Trainer:
    """The trainer of the generator, which grows from 16 to 32 pixels."""
    torch.manual_seed(0)
    setting = of_generator.Options(**{"amp": False, "lr": 3e-3, **options})
    channels = (16, 16, 16, 8)
    made = StyleGenerator(SIZE, channels, width=12)
    encoder = LatentEncoder(SIZE, made.layers, 12, channels=(8, 16, 16))
    return of_generator.Trainer(made, encoder, channels, setting, steps, None, CPU)


def decoupled(steps: int = 20, **options: Any) -> of_decoupled.Trainer:
    """The trainer of `decoupled`."""
    torch.manual_seed(0)
    setting = of_decoupled.Options(**{"amp": False, "lr": 3e-3, **options})
    net = DecoupledNet(CATEGORIES, SIZE, (16, 16, 16, 8), 12, 4, identity=16, expression=4)
    return of_decoupled.Trainer(net, CATEGORIES, setting, steps, LossNetworks(coarse), CPU)


FRAMES = 8


def clips(seed: int = 0) -> of_fevgan.ClipBatch:
    """Blurred noise that moves up and grows brighter, the more so the higher its category."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(2 * PAIRS, 1, 6, 6, generator=generator)
    source, real = (F.interpolate(noise, (SIZE, SIZE), mode="bilinear") * 0.5 + 0.2).split(PAIRS)
    z = torch.randn(PAIRS, 4, generator=generator)
    category = torch.arange(PAIRS) % CATEGORIES
    shown = torch.tensor([[1, 3, 5, 7]]).expand(PAIRS, -1)
    come = (onset(z, FRAMES).gather(1, shown) * (1 + category[:, None]))[:, :, None, None, None]
    lips = torch.rand(PAIRS, 2, 11, 2, generator=generator) * 0.2 + 0.5
    downwards = torch.tensor([0.0, 0.02])
    return of_fevgan.ClipBatch(
        source=source,
        category=category,
        z=z,
        shown=shown,
        flow=come * downwards.view(2, 1, 1).expand(2, SIZE, SIZE),
        lightening=come * torch.full((1, SIZE, SIZE), 0.1),
        lips=lips,
        moved_lips=lips[:, None] + come * downwards,
        interior=torch.rand(PAIRS, 6, 12, generator=generator) - 0.5,
        real=F.interpolate(real, (64, 64), mode="bilinear"),
    )


def fevgan(steps: int = 20, encoders: str = "both", **options: Any) -> of_fevgan.Trainer:
    """The trainer of `fevgan`."""
    torch.manual_seed(0)
    setting = of_fevgan.Options(**{"amp": False, "lr": 3e-3, "alone": 0.0, **options})
    net = FEVGANNet(CATEGORIES, SIZE, FRAMES, (32, 16, 16, 8), 4, encoders)
    return of_fevgan.Trainer(net, CATEGORIES, setting, steps, [], CPU)


TRAINERS = {
    "unet_cgan": unet_cgan,
    "generator": generator,
    "decoupled": decoupled,
    "fevgan": fevgan,
}


def step(trainer: AdversarialTrainer, seed: int) -> dict[str, float]:
    """Take a step, with the draws and the faces of a seed."""
    torch.manual_seed(seed)
    given = batch(seed)
    if isinstance(trainer, of_generator.Trainer):
        return told(trainer.step(given.real))
    if isinstance(trainer, of_fevgan.Trainer):
        return told(trainer.step(clips(seed)))
    if isinstance(trainer, of_unet_cgan.Trainer):
        return told(trainer.step(map_batch(seed)))
    assert isinstance(trainer, of_decoupled.Trainer)
    return told(trainer.step(given))


def told(losses: Mapping[str, float | Tensor]) -> dict[str, float]:
    """The losses of a step as numbers."""
    return {name: float(value) for name, value in losses.items()}


def weights(net: nn.Module) -> list[Tensor]:
    """A copy of the parameters of a net."""
    return [w.detach().clone() for w in net.parameters()]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    """Whether two lists of tensors are the same to the bit."""
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
