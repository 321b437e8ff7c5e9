"""Training of `decoupled`: what makes identity and expression two parts of one latent.

Faces are drawn from latents in four ways, each with a loss of its own:

* a face's own two latents: the face itself;
* its identity latent and the expression latent of another face of the same person: that face;
* its identity latent and the expression latent of somebody else: nobody photographed it, but an
  identity encoder must see the first, a FER net the expression of the second (swap consistency);
* its identity latent and the expression latent of a category, which is what the synthesizer is
  asked for: the change against the face's own latents, added to the face, must make the target.

Before that, `teach_latents` lets the net imitate the inversion by landmarks and pictures: what it
is to draw is known as latents, so nothing need be drawn.

The feedback network finds both latents in each drawn face, so that no part of them is ignored; the
identity latents of a pair must be more alike than those of strangers (InfoNCE, van den Oord et al.
2018); and a discriminator that knows the category tells what was drawn or changed from real faces,
at a low resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.faces.composite import hide_background, moving_face_mask
from expraug.faces.synthesized import SynthesizedFaces
from expraug.faces.warp import resized
from expraug.latent.generator import LatentEncoder, StyleGenerator, encode
from expraug.networks.mouth_painter import COLUMNS, ROWS
from expraug.synthesizers.decoupled import DecoupledNet
from expraug.synthesizers.latent_maps import maps_of
from recipes.decoupled.data import Batch, Draw
from recipes.training.adversarial import AdversarialTrainer, Optimization
from recipes.training.discriminator import ProjectionDiscriminator
from recipes.training.loss_networks import LossNetworks
from recipes.training.losses import (
    discriminator_hinge,
    edge_l1,
    generator_hinge,
    identity_triplet,
    masked_l1,
    total_variation,
)
from recipes.training.low import low
from recipes.training.precision import bfloat16

_SLOPE = 0.1  # of luminance, in [-1, 1], from one pixel to the next, where faces have detail


@dataclass(frozen=True)
class Options(Optimization):
    """Weights of the losses, and how the nets are trained.

    Args:
        reconstruction: of L1 and edges of what is drawn from a face's own latents.
        pair: likewise, with the expression latent of another face of the person.
        change: of L1 to the target of what is changed to a category.
        smooth: of the total variation of the change.
        feedback: of the squared error of the latents that the feedback network finds.
        contrast: of the cross entropy of finding a face's partner by its identity latent.
        expression: of the cross entropy of what is changed, and of what is drawn with the
            expression latent of somebody else.
        identity, margin, identity_every: of the triplet of what is drawn with the expression latent
            of somebody else; steps between two.
        adversarial: of what is drawn with the expression latent of somebody else, and of what is
            changed.
        decoupling: False for an autoencoder of the same nets, to compare with: single faces are
            drawn from their own latents, and `reconstruction` is the only loss.
    """

    reconstruction: float = 10.0
    pair: float = 10.0
    change: float = 30.0
    smooth: float = 0.5
    feedback: float = 0.3
    contrast: float = 0.1
    expression: float = 0.1
    identity: float = 1.0
    margin: float = 0.2
    identity_every: int = 4
    adversarial: float = 0.1
    decoupling: bool = True


@dataclass(frozen=True)
class Teaching:
    """How the net learns to imitate an inversion.

    Args:
        steps, lr: of AdamW on one cycle; steps 0 leaves it out.
        frozen: the features stay as they are, and only what latents and expressions are made of
            them is learned: minutes instead of hours.
        change: weight of the difference of a pair's latents, next to that of the latents
            themselves.
        contrast, decoupling: as the trainer's.
    """

    steps: int = 0
    lr: float = 1e-3
    frozen: bool = False
    change: float = 5.0
    contrast: float = 0.05
    decoupling: bool = True


def teach_latents(
    net: DecoupledNet,
    draw: Draw,
    teaching: Teaching,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Let a net find the latents that landmarks and pictures say that faces have.

    From its two latents of a face, those of that face; from its identity latent and the expression
    latent of another face of the person, or of a category, those of the other face.

    Args:
        net: trained in place, but for the generator.
        draw: batches.
        teaching: see there.
        device: where the net is.
        report: is called every 100 steps with the means of the losses: of the latents, as shares of
            their variance.
    """
    net.train(not teaching.frozen)
    weight = energy(net.generator).to(device)
    fixed = ("generator.", "resnet.", "parts.") if teaching.frozen else ("generator.",)
    learning = [p for n, p in net.named_parameters() if not n.startswith(fixed)]
    adam = torch.optim.AdamW(learning, teaching.lr, (0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, teaching.lr, max(2, teaching.steps))
    known = encoded(net, draw.faces(), device) if teaching.frozen else None
    sums: dict[str, float] = {}
    for step in range(1, teaching.steps + 1):
        batch = draw().to(device)
        pairs = len(batch.source)
        wanted = torch.cat([batch.source_latents, batch.target_latents, batch.real_latents])
        with bfloat16(device, known is None):
            if known is None:
                who, shown = net.encode(torch.cat([batch.source, batch.target, batch.real]))
            else:
                who, shown = (values[batch.rows] for values in known)
            one, two = who[:pairs], who[pairs : 2 * pairs]
            other = torch.cat([shown[pairs : 2 * pairs], net.wanted(batch.category)])
            own, paired, asked = net.latents(
                torch.cat([who, one, one]), torch.cat([shown, other])
            ).split([len(who), pairs, pairs])
        spread = _energy(wanted - wanted.mean(0), weight)
        losses = {"own": _energy(own - wanted, weight) / spread}
        if teaching.decoupling:
            target = batch.target_latents
            move = target - batch.source_latents
            missed = asked - own[:pairs] - move
            losses |= {
                "pair": _energy(paired - target, weight) / spread,
                "change": teaching.change * _energy(missed, weight) / _energy(move, weight),
            }
            if not teaching.frozen:
                losses["contrast"] = teaching.contrast * _contrast(one, two)
        adam.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        adam.step()
        schedule.step()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0) + float(value.detach()) / 100
        if step % 100 == 0:
            report({"step": step, **sums})
            sums.clear()


@torch.no_grad()
def encoded(net: DecoupledNet, faces: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the latents of identity and of expression of (N, 1, S, S) uint8 faces."""
    parts = [net.encode(part.to(device).float() / 255) for part in faces.split(128)]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def energy(generator: StyleGenerator) -> Tensor:
    """Return (L, W): how much of a painted face's pixels, squared, each number of a latent moves.

    Of the shape, how far it moves landmarks, which are dense where faces move: a pixel's move
    counts as much as `_SLOPE` of luminance.

    Raises:
        ValueError: the generator is not painted.
    """
    pictures = generator.pictures
    if pictures is None:
        raise ValueError(
            "only of a painted generator is it known what latents do: set painted=true"
        )
    rows = []
    for side, layers in zip(pictures.sides, pictures.layers, strict=True):
        for layer in layers:
            rows.append(pictures.get_buffer(f"layer{layer}").square().sum(1) / side**2)
    moves = pictures.marks * generator.image_size
    rows.append(moves.square().sum(2).mean(1) * _SLOPE**2)
    return torch.stack(rows)


def _energy(latents: Tensor, weight: Tensor) -> Tensor:
    return (latents.float().square() * weight).sum((1, 2)).mean()


class Trainer(AdversarialTrainer):
    """Takes the steps.

    Args:
        net: as `DecoupledSynthesizer` holds it.
        categories: number of expressions.
        options: see there.
        steps: of the whole run.
        loss_networks: see there.
        device: where all of it is.
    """

    def __init__(
        self,
        net: DecoupledNet,
        categories: int,
        options: Options,
        steps: int,
        loss_networks: LossNetworks,
        device: torch.device,
    ) -> None:
        size = net.generator.image_size
        feedback = LatentEncoder(size, 1, sum(net.sizes), channels=(24, 48, 96, 128))
        super().__init__(
            nn.ModuleDict({"net": net, "feedback": feedback}),
            ProjectionDiscriminator(1, categories, halvings=4),
            options,
            steps,
            device,
        )
        self.net, self.feedback = net, feedback
        self.options, self.loss_networks = options, loss_networks
        self.mask = moving_face_mask(size).to(device)
        self._draw = net.generator.synthesis
        if options.compile:
            self._draw = torch.compile(self._draw)

    def step(self, batch: Batch) -> dict[str, float]:
        """Take one step of the discriminator and one of the rest; return the losses."""
        o, net = self.options, self.net
        if not o.decoupling:
            return self._autoencode(torch.cat([batch.source, batch.real]))
        pairs = len(batch.source)
        with self.autocast:
            who, shown = net.encode(torch.cat([batch.source, batch.target, batch.real]))
            one, own = who[:pairs], shown[:pairs]
            partner, strange = shown[pairs:].chunk(2)
            asked = net.wanted(batch.category)
            persons = torch.cat([one, one, one, one])
            expressions = torch.cat([own, partner, strange, asked])
            latents = net.latents(persons, expressions)
            first, *_, last = latents.chunk(4)
            drawn = self._draw(latents[:-pairs])
            again, paired, swapped = drawn.chunk(3)
            made = self._change(batch, first, last)
            discriminated = self._discriminate(batch, swapped.detach(), made.detach())
            source, target = hide_background(batch.source), hide_background(batch.target)
            losses = {
                "reconstruction": o.reconstruction * _difference(again, source),
                "pair": o.pair * _difference(paired, target),
                "change": o.change * masked_l1(made, batch.target, self.mask),
                "smooth": o.smooth * total_variation(made - batch.source),
                "feedback": o.feedback
                * self._feedback(drawn, persons[:-pairs], expressions[:-pairs]),
                "contrast": o.contrast * _contrast(one, who[pairs : 2 * pairs]),
            }
            losses |= self._adversarial(batch, swapped, made)
            if o.expression:
                faces = torch.cat([made, swapped.clamp(0, 1)])
                unlike = self.loss_networks.cross_entropy(
                    faces, torch.cat([batch.category, batch.real_category])
                )
                if unlike is not None:
                    losses["expression"] = o.expression * unlike
            due = self.step_count % o.identity_every == 0
            if self.loss_networks.identity is not None and o.identity and due:
                anchor = self.loss_networks.identity(
                    swapped.clamp(0, 1).expand(-1, 3, -1, -1)
                ).float()
                negative = batch.embedding[batch.other]
                losses["identity"] = o.identity * identity_triplet(
                    anchor, batch.embedding, negative, o.margin
                )
        self.update_generator(torch.stack(list(losses.values())).sum())
        return {name: float(v.detach()) for name, v in (losses | discriminated).items()}

    def _change(self, batch: Batch, first: Tensor, last: Tensor) -> Tensor:
        """Return the sources changed as latents change, as the synthesizer makes them; what opens
        in a mouth is what the generator draws there, so that nobody paints while it learns."""
        generator, move = self.net.generator, last - first
        pictures = generator.pictures
        if pictures is None:
            change = generator.synthesis(last) - generator.synthesis(first)
            return (batch.source + change * self.mask).clamp(0, 1)
        shapes = pictures.shapes(batch.landmarks)
        read = encode(generator, None, hide_background(batch.source), shapes)
        faces = batch.source.expand(-1, 3, -1, -1)
        interior = batch.source.new_zeros(len(faces), ROWS, COLUMNS)
        maps = maps_of(generator, faces, read, read + move, batch.landmarks, interior)
        still = SynthesizedFaces(torch.zeros_like(faces), maps.flow).render(faces)[:, :1]
        lit = still * torch.exp(resized(maps.lightening, still.shape[-1]))
        opened = pictures.opened(read[:, -1], read[:, -1] + move[:, -1]).view(-1, 1, 1, 1)
        mouth = pictures.move(pictures.mouth(still.shape[-1]) * opened, read[:, -1] + move[:, -1])
        made = torch.lerp(lit, generator.synthesis(read + move), mouth)
        return (batch.source + (made - batch.source) * self.mask).clamp(0, 1)

    def _autoencode(self, faces: Tensor) -> dict[str, float]:
        with self.autocast:
            again = self._draw(self.net.latents(*self.net.encode(faces)))
            wanted = hide_background(faces)
            loss = self.options.reconstruction * _difference(again, wanted)
        self.update_generator(loss)
        return {"reconstruction": float(loss.detach())}

    def _feedback(self, drawn: Tensor, who: Tensor, shown: Tensor) -> Tensor:
        found = self.feedback(drawn)[:, 0]
        person, expression = found.split(self.net.sizes, 1)
        # latents are what is to be found, not what is to become easy to find
        return F.mse_loss(person, who.detach()) + F.mse_loss(expression, shown.detach())

    def _adversarial(self, batch: Batch, swapped: Tensor, made: Tensor) -> dict[str, Tensor]:
        if not self.options.adversarial:
            return {}
        self.discriminators.requires_grad_(False)  # they learn nothing from this
        fake, category = self._fakes(batch, swapped, made)
        return {
            "adversarial": self.options.adversarial
            * generator_hinge(self.discriminators(low(fake), category).float())
        }

    def _discriminate(self, batch: Batch, swapped: Tensor, made: Tensor) -> dict[str, Tensor]:
        if not self.options.adversarial:
            return {}
        self.discriminators.requires_grad_(True)
        fake, category = self._fakes(batch, swapped, made)
        seen = torch.cat([low(hide_background(batch.real)), low(fake)])
        out = self.discriminators(seen, torch.cat([batch.real_category, category])).float()
        real, fakes = out.split([len(batch.real), len(fake)])
        loss = discriminator_hinge(real, [fakes])
        self.update_discriminators(loss)
        return {"discriminator": loss.detach()}

    @staticmethod
    def _fakes(batch: Batch, swapped: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the discriminator is to tell from real faces, and what it should show."""
        fakes = torch.cat([swapped, hide_background(made)])
        return fakes, torch.cat([batch.real_category, batch.category])


def _difference(found: Tensor, wanted: Tensor) -> Tensor:
    return F.l1_loss(found, wanted) + edge_l1(found, wanted)


def _contrast(one: Tensor, two: Tensor, temperature: float = 0.1) -> Tensor:
    cosine = F.normalize(one, dim=1) @ F.normalize(two, dim=1).T
    return F.cross_entropy(cosine / temperature, torch.arange(len(one), device=one.device))
