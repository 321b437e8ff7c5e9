"""Training of the generator of faces, with the encoder that inverts it.

Faces are drawn from the latents that the encoder finds in real ones (as in-domain inversion, Zhu et
al. 2020, but from the first step on), and from latents that cross from one face's to another's at
some layer (style mixing, Karras et al. 2019):

* a discriminator tells both from real faces: hinge loss, spectral norm, DiffAugment;
* what is drawn from a real face's latents is compared with it, pixel by pixel, edge by edge, and in
  the expression that a net sees in both;
* the encoder finds crossed latents in what they drew.

All of it at 16 pixels first, then at twice that until the full size, each faded in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize

from expraug.faces.composite import hide_background
from expraug.latent.generator import LatentEncoder, StyleGenerator, encode
from expraug.latent.pictures import Pictures
from recipes.training.adversarial import AdversarialTrainer, Optimization
from recipes.training.diffaugment import diffaugment
from recipes.training.discriminator import GrownDiscriminator
from recipes.training.losses import discriminator_hinge, edge_l1, generator_hinge
from recipes.training.precision import bfloat16

FIRST = 16
"""Side of the faces at which growing begins, in pixels."""


@dataclass(frozen=True)
class Options(Optimization):
    """Weights of the losses, and how the nets are trained.

    Args:
        l1, edges: of the difference of a real face and its reconstruction, and of their gradients.
        expression: of the divergence of what a net sees in both.
        cross, reconstructed: of the adversarial losses of both kinds.
        crossed: faces of crossed latents for each real face.
        latent: of the squared error of the latents found in faces of crossed latents.
        growing: share of the steps of each side below the last.
        fading: share of each side's steps in which its detail fades in.
    """

    l1: float = 10.0
    edges: float = 10.0
    expression: float = 0.3
    cross: float = 0.3
    crossed: float = 0.25
    reconstructed: float = 0.1
    latent: float = 0.3
    growing: float = 0.15
    fading: float = 0.4
    discriminator_lr: float = 1e-4


def growth(progress: float, sides: list[int], options: Options) -> tuple[int, float]:
    """Return the side of the faces at a point of training, 0 to 1, and how far it is faded in."""
    last = len(sides) - 1
    stage = min(int(progress / options.growing), last) if options.growing else last
    share = options.growing if stage < last else 1 - options.growing * last
    inside = (progress - stage * options.growing) / share
    if not stage or inside >= options.fading:
        return sides[stage], 1.0
    return sides[stage], max(0.0, inside / options.fading)  # a stage may begin a rounding early


def teach_shapes(
    encoder: LatentEncoder,
    pictures: Pictures,
    faces: Tensor,
    shapes: Tensor,
    steps: int,
    device: torch.device,
    batch: int = 64,
    lr: float = 1e-3,
) -> float:
    """Teach an encoder the shapes of faces, the rest of which is read off the pictures
    (`expraug.latent.generator.encode`).

    Args:
        encoder: of (B, 1, S, S) faces to one latent; trained in place.
        pictures: whose flows say how far two shapes are apart.
        faces: (N, 1, S, S) float in [0, 1].
        shapes: (N, W), their latents.
        steps, batch, lr: of AdamW on one cycle; a tenth of the faces, 512 at most, is left out.
        device: where encoder and pictures are.

    Returns:
        The root mean square, in pixels, of the difference of flows in what was left out.
    """
    encoder.to(device)
    adam = torch.optim.AdamW(encoder.parameters(), lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, lr, max(2, steps))
    flow, mirrored = pictures.flow_in_face().flatten(1), mirror_of(pictures)
    left = min(512, len(faces) // 10)

    def error(rows: Tensor, mirror: bool, vary: bool) -> Tensor:
        some, wanted = faces[rows].to(device), shapes[rows].to(device)
        if mirror:
            some, wanted = some.flip(3), wanted @ mirrored
        if vary:
            gamma = torch.empty(len(some), 1, 1, 1, device=device).uniform_(-0.4, 0.4).exp()
            some = hide_background(some.clamp(min=1e-3) ** gamma)
        with bfloat16(device):
            found: Tensor = encoder(some)[:, 0]
        gap = (found - wanted) @ flow
        return (gap * faces.shape[-1] / 2).square().mean()

    for step in range(steps):
        rows = torch.randint(left, len(faces), (batch,))
        loss = error(rows, step % 2 == 1, True)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        schedule.step()
    with torch.no_grad():
        parts = torch.arange(max(1, left)).split(256)
        return float(torch.stack([error(part, False, False) for part in parts]).mean().sqrt())


def mirror_of(pictures: Pictures) -> Tensor:
    """Return the (W, W) matrix that turns latents of shapes into those of mirrored faces."""
    flow = pictures.flow.double()
    turned: Tensor = flow.flip(3) * torch.tensor([-1.0, 1.0], device=flow.device).view(2, 1, 1)
    back: Tensor = torch.linalg.pinv(flow.flatten(1), rtol=1e-6)
    return (turned.flatten(1) @ back).float()


class Trainer(AdversarialTrainer):
    """Takes the steps.

    Args:
        generator, encoder: of one size.
        channels: of the generator, for a discriminator like it.
        options: see there.
        steps: of the whole run.
        expression: (B, 1, S, S) grey faces in [0, 1] to logits, differentiable; None for no such
            loss.
        device: where all of it is.

    Raises:
        ValueError: growing takes all steps, so that none is left for the full size.
    """

    def __init__(
        self,
        generator: StyleGenerator,
        encoder: LatentEncoder,
        channels: tuple[int, ...],
        options: Options,
        steps: int,
        expression: Callable[[Tensor], Tensor] | None,
        device: torch.device,
    ) -> None:
        # it has learned shapes from landmarks; from here on it would only lose them, as pictures
        # draw most of a face in any shape
        encoder.requires_grad_(not generator.painted)
        super().__init__(
            nn.ModuleDict({"generator": generator, "encoder": encoder}),
            # it has less to learn than the generator, and with few faces must not know too much
            GrownDiscriminator([max(8, c // 2) for c in channels]),
            options,
            steps,
            device,
        )
        self.options, self.steps, self.expression = options, steps, expression
        self.sides = [s for s in generator.sides if s >= FIRST] or [generator.image_size]
        below = len(self.sides) - 1
        if options.growing * below >= 1:
            raise ValueError(
                f"growing={options.growing:g} of the steps for each of {below} sides below "
                f"{self.sides[-1]} pixels leaves none for the last: it must be less than 1/{below}"
            )
        self.generator, self.encoder = generator, encoder
        self._draw = torch.compile(generator.synthesis) if options.compile else generator.synthesis

    def step(self, faces: Tensor) -> dict[str, float]:
        """Take one step of the discriminator and one of generator and encoder.

        Args:
            faces: (B, 1, S, S) float in [0, 1], real.

        Returns:
            The losses.
        """
        o, count = self.options, len(faces)
        faces = hide_background(faces)
        side, fade = growth(self.step_count / self.steps, self.sides, o)
        with self.autocast:
            found = encode(self.generator, self.encoder, faces)
            drawn = self._cross(found, max(2, round(o.crossed * count)))
            some = len(drawn)
            made = self._draw(torch.cat([drawn, found]), side, fade)
            real = self._shown(faces, side, fade)
            discriminated = self._discriminate(real, made.detach(), fade)
            crossed, again = made.split([some, count])
            self.discriminators.requires_grad_(False)  # they learn nothing from what follows
            outputs = self.discriminators(diffaugment(made), fade).float()
            losses = {
                "crossed": o.cross * generator_hinge(outputs[:some]),
                "reconstructed": o.reconstructed * generator_hinge(outputs[some:]),
                "l1": o.l1 * F.l1_loss(again, real),
                "edges": o.edges * edge_l1(again, real),
            }
            if side == self.generator.image_size and not self.generator.painted:
                # the latents of the layers that draw what is not there yet cannot be found
                shown = crossed.detach().clamp(0, 1)
                error = encode(self.generator, self.encoder, shown) - drawn.detach()
                losses["latent"] = o.latent * error.square().mean()
            if self.expression is not None and o.expression:
                full = resize(again.clamp(0, 1), [self.generator.image_size] * 2)
                with torch.no_grad():
                    wanted = self.expression(faces).float().softmax(1)
                seen = self.expression(full).float().log_softmax(1)
                losses["expression"] = o.expression * F.kl_div(seen, wanted, reduction="batchmean")
        self.update_generator(torch.stack(list(losses.values())).sum())
        return {name: float(v.detach()) for name, v in (losses | discriminated).items()}

    def _cross(self, latents: Tensor, count: int) -> Tensor:
        """Return latents that change from one face's to another's at some layer."""
        one, two = (
            latents[torch.randperm(len(latents), device=self.device)[:count]] for _ in range(2)
        )
        layer = torch.arange(latents.shape[1], device=self.device)
        change = torch.randint(1, latents.shape[1], (count, 1), device=self.device)
        return torch.where((layer < change)[:, :, None], one, two)

    def _shown(self, faces: Tensor, side: int, fade: float) -> Tensor:
        """Return real faces as large, and as sharp, as the generator's are at this point."""
        small = F.interpolate(faces, (side, side), mode="area")
        if fade == 1:
            return small
        blurred = F.interpolate(F.avg_pool2d(small, 2), scale_factor=2, mode="bilinear")
        return torch.lerp(blurred, small, fade)

    def _discriminate(self, real: Tensor, made: Tensor, fade: float) -> dict[str, Tensor]:
        count = len(real)
        self.discriminators.requires_grad_(True)
        outputs = self.discriminators(diffaugment(torch.cat([made, real])), fade).float()
        crossed, again, true = outputs.split([len(made) - count, count, count])
        loss = discriminator_hinge(true, [crossed, again])
        self.update_discriminators(loss)
        return {"discriminator": loss.detach()}
