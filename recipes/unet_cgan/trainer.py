"""Training of `unet_cgan`: the losses of Wang et al. (TOMM 2019), on pairs and on single faces.

* Pairs: what the teacher's expression does to the same person, map by map: where parts move, most
  of all brows, lids and lips, what gets lighter, how the lips part. This alone comes first; then
  the faces that the maps make are looked at too, small:
* L1 to what the teacher's maps make, and a discriminator of (source, face) pairs. Real is (source,
  target). Fake are (source, synthetic) and, what makes the paper's discriminator its own, (somebody
  else, synthetic) and (somebody else, target): so it learns who, not only what.
* Identity: a triplet of synthetic, source and somebody else, in the space of an identity encoder.
* Single real faces: a second discriminator tells them from synthetics of the same class at a low
  resolution, so that the sharpness of the set they come from tells nothing.
* Expression: cross entropy of nets trained on real faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expraug.faces.composite import face_mask
from expraug.faces.mouth import painted_share
from expraug.faces.warp import resized
from expraug.synthesizers.expression_maps import ExpressionMaps
from expraug.synthesizers.unet_cgan import UNet
from recipes.training.adversarial import AdversarialTrainer, Optimization
from recipes.training.diffaugment import diffaugment
from recipes.training.discriminator import ProjectionDiscriminator
from recipes.training.loss_networks import LossNetworks
from recipes.training.losses import (
    discriminator_hinge,
    edge_l1,
    generator_hinge,
    identity_triplet,
    masked_l1,
    shortfall,
    total_variation,
)
from recipes.training.low import low
from recipes.unet_cgan.data import Batch
from recipes.unet_cgan.rendering import render_small

SMALL = 64
"""Side of the faces that the losses look at, in pixels."""
_PIXELS = 128  # of a frame, in which distances are told


@dataclass(frozen=True)
class Options(Optimization):
    """Weights of the losses, and how the nets are trained.

    Args:
        flow, lips: of the L1 of movements, in pixels of a frame of 128.
        shortfall: of what they fall short, in the same.
        lightening, interior: of the L1 of light.
        edges: of the L1 of differences between neighbours, in flow and lightening.
        alone: share of the run that comes first, with these losses alone.
        l1: of the difference to the target, under the face mask.
        pair, single: of the two adversarial losses.
        triplet, margin: of the identity loss.
        expression: of the cross entropy of the target.
        smooth: of the total variation of the flow, in pixels.
        other_identity: give the pair discriminator the pairs with somebody else.
        identity_every: steps between two triplets: the encoder is the largest net of all.
    """

    flow: float = 1.0
    shortfall: float = 0.5
    lips: float = 1.0
    lightening: float = 10.0
    interior: float = 1.0
    edges: float = 1.0
    alone: float = 0.33
    l1: float = 10.0
    pair: float = 0.05
    single: float = 0.1
    triplet: float = 1.0
    margin: float = 0.2
    expression: float = 0.2
    smooth: float = 0.05
    other_identity: bool = True
    identity_every: int = 4


class Trainer(AdversarialTrainer):
    """Takes the steps.

    Args:
        generator: as `UNetCGANSynthesizer` holds it.
        categories: number of expressions.
        options: see there.
        steps: of the whole run, for the schedule.
        loss_networks: see there.
        importance: (1, s, s) float, how much each place counts in the flow.
        device: where all of it is.
    """

    def __init__(
        self,
        generator: UNet,
        categories: int,
        options: Options,
        steps: int,
        loss_networks: LossNetworks,
        importance: Tensor,
        device: torch.device,
    ) -> None:
        self.pairs = ProjectionDiscriminator(2, categories, halvings=4)
        self.singles = ProjectionDiscriminator(1, categories, halvings=4)
        super().__init__(
            generator,
            nn.ModuleList([self.pairs, self.singles]),
            options,
            steps,
            device,
        )
        self.options, self.loss_networks = options, loss_networks
        self.importance, self.mask = importance.to(device), face_mask(SMALL).to(device)
        self._generate: Callable[..., ExpressionMaps] = (
            torch.compile(generator) if options.compile else generator
        )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of the discriminators and one of the generator; return the losses."""
        found: dict[str, Tensor] = {}
        with self.autocast:
            maps = self._generate(batch.source, batch.category, batch.code)
            losses = self._of_maps(batch, maps)
            losses["smooth"] = self.options.smooth * _PIXELS * total_variation(maps.flow)
            if self.progress >= self.options.alone:
                grey, mask = resized(batch.source, SMALL), self.mask
                # compositing lets through what the mask does, so that is what the losses see
                made = torch.lerp(grey, render_small(grey, maps), mask)
                with torch.no_grad():
                    few = grey[: len(batch.wanted)]
                    target = torch.lerp(few, render_small(few, batch.wanted), mask)
                found = self._discriminate(batch, grey, target, made.detach())
                losses |= self._of_faces(batch, grey, target, made, mask)
            else:
                self.optimizers[1].step()  # of nothing: their schedule wants to follow a step
        total = torch.stack(list(losses.values())).sum()
        self.update_generator(total)
        return {name: v.detach() for name, v in (losses | found).items()}

    def _of_maps(self, batch: Batch, maps: ExpressionMaps) -> dict[str, Tensor]:
        o, wanted, count = self.options, batch.wanted, len(batch.wanted)
        side = maps.flow.shape[-1]
        flow, lightening = resized(wanted.flow, side), resized(wanted.lightening, side)
        weight = resized(self.importance[None], side)
        place = (maps.flow[:count] - flow).abs() * weight
        moved = (maps.moved_lips - maps.lips)[:count] - (wanted.moved_lips - wanted.lips)
        opens = painted_share(wanted.lips, wanted.moved_lips)[..., None]
        inside = (maps.interior[:count] - wanted.interior).abs() * opens
        edges = _PIXELS / 4 * edge_l1(maps.flow[:count], flow)
        edges = edges + 5 * edge_l1(maps.lightening[:count], lightening)
        places = (maps.lips - batch.lips).abs().mean() + moved.abs().mean()
        return {
            "flow": o.flow * _PIXELS * place.mean(),
            "shortfall": o.shortfall * _PIXELS * shortfall(maps.flow[:count], flow, weight[0]),
            "lightening": o.lightening * (maps.lightening[:count] - lightening).abs().mean(),
            "lips": o.lips * _PIXELS * places,
            "interior": o.interior * inside.mean(),
            "edges": o.edges * edges,
        }

    def _discriminate(
        self, batch: Batch, grey: Tensor, target: Tensor, made: Tensor
    ) -> dict[str, Tensor]:
        count = len(target)
        source, category = grey[:count], batch.category[:count]
        other = source[batch.other]
        kinds = [(source, target), (source, made[:count])]
        if self.options.other_identity:
            kinds += [(other, made[:count]), (other, target)]
        seen = torch.cat([torch.cat(kind, 1) for kind in kinds])
        real, *fakes = self.pairs(seen, category.repeat(len(kinds))).float().split(count)
        pair = discriminator_hinge(real, fakes)
        seen = diffaugment(torch.cat([batch.real, low(made)]))
        out = self.singles(seen, torch.cat([batch.real_category, batch.category])).float()
        single = discriminator_hinge(out[: len(batch.real)], [out[len(batch.real) :]])
        self.update_discriminators(pair + single)
        return {"pair discriminator": pair, "single discriminator": single}

    def _of_faces(
        self, batch: Batch, grey: Tensor, target: Tensor, made: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        o, count = self.options, len(target)
        single = self.singles(diffaugment(low(made)), batch.category)
        both = torch.cat([grey[:count], made[:count]], 1)
        losses = {
            "l1": o.l1 * masked_l1(made[:count], target, mask),
            "pair": o.pair * generator_hinge(self.pairs(both, batch.category[:count]).float()),
            "single": o.single * generator_hinge(single.float()),
        }
        unlike = self.loss_networks.cross_entropy(made, batch.category) if o.expression else None
        if unlike is not None:
            losses["expression"] = o.expression * unlike
        due = self.step_count % o.identity_every == 0
        encoder = self.loss_networks.identity
        if encoder is not None and o.triplet and due:
            anchor = encoder(made[:count].expand(-1, 3, -1, -1)).float()
            with torch.no_grad():
                who = encoder(grey[:count].expand(-1, 3, -1, -1)).float()
            losses["triplet"] = o.triplet * identity_triplet(
                anchor, who, who[batch.other], o.margin
            )
        return losses
