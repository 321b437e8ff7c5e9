"""Training of `unet_cgan`: the losses of Wang et al. (TOMM 2019), on pairs and on single faces.

* Pairs, source and target of one person: L1, and a discriminator of (source, face) pairs. Real is
  (source, target). Fake are (source, synthetic) and, what makes the paper's discriminator its own,
  (somebody else, synthetic) and (somebody else, target): so it learns who, not only what.
* Identity: a triplet of synthetic, source and somebody else, in the space of an identity encoder.
* Single real faces: a second discriminator tells them from synthetics at a low resolution, so
  that the sharpness of the set they come from tells nothing; it is not given pairs.
* Expression: cross entropy of a net trained on real faces of other people than the classifier's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expraug.faces.composite import face_mask
from expraug.synthesizers.unet_cgan import UNet
from recipes.training.adversarial import AdversarialTrainer, Optimization
from recipes.training.batch import Batch, low
from recipes.training.discriminator import ProjectionDiscriminator
from recipes.training.loss_networks import LossNetworks
from recipes.training.losses import (
    discriminator_hinge,
    generator_hinge,
    identity_triplet,
    masked_l1,
    total_variation,
)


@dataclass(frozen=True)
class Options(Optimization):
    """Weights of the losses, and how the nets are trained.

    Args:
        l1: of the difference to the target, under the face mask.
        pair, single: of the two adversarial losses.
        triplet, margin: of the identity loss.
        expression: of the cross entropy of the target.
        smooth: of the total variation of the change.
        other_identity: give the pair discriminator the pairs with somebody else.
        identity_every: steps between two triplets: the encoder is the largest net of all.
    """

    l1: float = 30.0
    pair: float = 0.1
    single: float = 0.1
    triplet: float = 1.0
    margin: float = 0.2
    expression: float = 0.1
    smooth: float = 0.5
    other_identity: bool = True
    identity_every: int = 1


class Trainer(AdversarialTrainer):
    """Takes the steps.

    Args:
        generator: as `UNetCGANSynthesizer` holds it.
        categories: number of expressions.
        options: see there.
        steps: of the whole run, for the schedule.
        loss_networks: see there.
        device: where all of it is.
    """

    def __init__(
        self,
        generator: UNet,
        categories: int,
        options: Options,
        steps: int,
        loss_networks: LossNetworks,
        device: torch.device,
    ) -> None:
        self.pairs = ProjectionDiscriminator(2, categories)
        self.singles = ProjectionDiscriminator(1, categories, halvings=4)
        super().__init__(
            generator,
            nn.ModuleList([self.pairs, self.singles]),
            options,
            steps,
            device,
        )
        self.options, self.loss_networks = options, loss_networks
        self._generate = torch.compile(generator) if options.compile else generator

    def step(self, batch: Batch) -> dict[str, float]:
        """Take one step of the discriminators and one of the generator; return the losses."""
        with self.autocast:
            mask = face_mask(batch.source.shape[-1]).to(self.device)
            change = self._generate(batch.source, batch.category).float()
            # paste-back lets through what the mask does, so that is what the discriminators see
            made = (batch.source + change * mask).clamp(0, 1)
            found = self._discriminate(batch, made.detach())
            losses = self._losses(batch, made, change, mask)
        total = torch.stack(list(losses.values())).sum()
        self.update_generator(total)
        return {name: float(v.detach()) for name, v in (losses | found).items()}

    def _discriminate(self, batch: Batch, made: Tensor) -> dict[str, Tensor]:
        count = len(batch.target)
        source, category = batch.source[:count], batch.category[:count]
        other = source[batch.other[:count]]
        kinds = [(source, batch.target), (source, made[:count])]
        if self.options.other_identity:
            kinds += [(other, made[:count]), (other, batch.target)]
        seen = torch.cat([torch.cat(kind, 1) for kind in kinds])
        real, *fakes = self.pairs(seen, category.repeat(len(kinds))).float().split(count)
        pair = discriminator_hinge(real, fakes)
        seen = torch.cat([low(batch.real), low(made[batch.known])])
        asked = torch.cat([batch.real_category, batch.category[batch.known]])
        out = self.singles(seen, asked).float()
        single = discriminator_hinge(out[: len(batch.real)], [out[len(batch.real) :]])
        self.update_discriminators(pair + single)
        return {"pair discriminator": pair, "single discriminator": single}

    def _losses(
        self, batch: Batch, made: Tensor, change: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        o, count = self.options, len(batch.target)
        single = self.singles(low(made[batch.known]), batch.category[batch.known])
        both = torch.cat([batch.source[:count], made[:count]], 1)
        losses = {
            "l1": o.l1 * masked_l1(made[:count], batch.target, mask),
            "smooth": o.smooth * total_variation(change),
            "pair": o.pair * generator_hinge(self.pairs(both, batch.category[:count]).float()),
            "single": o.single * generator_hinge(single.float()),
        }
        unlike = self.loss_networks.cross_entropy(made, batch.category) if o.expression else None
        if unlike is not None:
            losses["expression"] = o.expression * unlike
        due = self.step_count % o.identity_every == 0
        if self.loss_networks.identity is not None and o.triplet and due:
            anchor = self.loss_networks.identity(made.expand(-1, 3, -1, -1)).float()
            negative = batch.embedding[batch.other]
            losses["triplet"] = o.triplet * identity_triplet(
                anchor, batch.embedding, negative, o.margin
            )
        return losses
