"""Training of `fevgan`, on clips from a neutral face to an expression.

* Each clip is as fast as the first two numbers of its noise say (`onset`), so that these come to
  mean speed; and it begins with the source. (ImaGINator's clips begin anywhere in a video, so that
  the face they are made from need not be neutral.)
* L1 to the clip, heavier where it differs from the source.
* Two discriminators that know the category: of single frames, and of whole clips.
* Identity: the frozen encoder must see the source in each frame; and now and then a triplet of a
  full expression, the source and somebody else, in the space of a large encoder.
* Expression: cross entropy of a full expression, by a net trained on real faces. It is of any frame
  that shows all of it: were it always the last one, that would become unlike those before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expraug.faces.composite import face_mask
from expraug.networks.onset import onset
from expraug.synthesizers.fevgan import FEVGANNet, apply_motion
from recipes.training.adversarial import AdversarialTrainer, Optimization
from recipes.training.discriminator import ProjectionDiscriminator, VideoDiscriminator
from recipes.training.loss_networks import LossNetworks
from recipes.training.losses import (
    discriminator_hinge,
    generator_hinge,
    identity_triplet,
    masked_l1,
    total_variation,
)


@dataclass
class ClipBatch:
    """What one step sees: B clips of T frames.

    Args:
        source: (B, 1, S, S) float in [0, 1], neutral faces.
        clip: (B, T, 1, S, S) float in [0, 1], from the source to the expression, as fast as
            `onset(z, T)` says.
        category: (B,) long, the expression.
        z: (B, Z) draws of the standard normal distribution.
        other: (B,) long, for each the place of somebody else in the batch.
    """

    source: Tensor
    clip: Tensor
    category: Tensor
    z: Tensor
    other: Tensor


@dataclass(frozen=True)
class Options(Optimization):
    """Weights of the losses, and how the nets are trained.

    Args:
        l1: of the difference to the clip, under the face mask.
        moving: how much heavier a pixel of the clip weighs there that has changed from black to
            white.
        frame, video: of the two adversarial losses.
        frames: frames of each clip that the discriminator of frames and the frozen encoder see.
        identity: of the cosine distance to the source, by the frozen encoder.
        triplet, margin, identity_every: of the triplet; steps between two.
        expression: of the cross entropy of a frame that shows all of it.
        smooth, even: of the total variation of the change of luminance, and of the flow.
        change: of the absolute change of luminance, so that what can move does.
        steady: of the absolute second difference of it all in time.
    """

    l1: float = 30.0
    moving: float = 10.0
    frame: float = 0.1
    video: float = 0.1
    frames: int = 3
    identity: float = 1.0
    triplet: float = 0.5
    margin: float = 0.2
    identity_every: int = 4
    expression: float = 0.1
    smooth: float = 0.5
    even: float = 2.0
    change: float = 2.0
    steady: float = 10.0


class Trainer(AdversarialTrainer):
    """Takes the steps.

    Args:
        net: as `FEVGANSynthesizer` holds it; its identity encoder stays as it is.
        categories: number of expressions.
        options: see there.
        steps: of the whole run, for the schedule.
        loss_networks: see there.
        device: where all of it is.
    """

    def __init__(
        self,
        net: FEVGANNet,
        categories: int,
        options: Options,
        steps: int,
        loss_networks: LossNetworks,
        device: torch.device,
    ) -> None:
        self.frame = ProjectionDiscriminator(1, categories, halvings=4)
        self.video = VideoDiscriminator(categories)
        super().__init__(net, nn.ModuleList([self.frame, self.video]), options, steps, device)
        self.net, self.options, self.loss_networks = net, options, loss_networks
        self.mask = face_mask(net.image_size).to(device)
        self._generate = torch.compile(net) if options.compile else net

    def step(self, batch: ClipBatch) -> dict[str, float]:
        """Take one step of the discriminators and one of the generator; return the losses."""
        clips, frames = batch.clip.shape[:2]
        picks = torch.rand(clips, frames, device=self.device).argsort(1)[:, : self.options.frames]
        with self.autocast:
            motion = self._generate(batch.source, batch.category, batch.z)
            still = batch.source[:, None]
            # paste-back lets through what the mask does, so that is what the discriminators see
            made = still + (apply_motion(batch.source, motion) - still) * self.mask
            made = made.clamp(0, 1)
            found = self._discriminate(batch, made.detach(), picks)
            losses = self._losses(batch, made, motion, picks)
        self.update_generator(torch.stack(list(losses.values())).sum())
        return {name: float(v.detach()) for name, v in (losses | found).items()}

    def _discriminate(self, batch: ClipBatch, made: Tensor, picks: Tensor) -> dict[str, Tensor]:
        o, found = self.options, {}
        if o.frame:
            self.frame.requires_grad_(True)
            faces = torch.cat([_pick(batch.clip, picks), _pick(made, picks)])
            asked = batch.category.repeat_interleave(picks.shape[1]).repeat(2)
            real, fake = self.frame(faces, asked).float().chunk(2)
            found["frame discriminator"] = discriminator_hinge(real, [fake])
        if o.video:
            self.video.requires_grad_(True)
            seen = torch.cat([batch.clip, made])
            real, fake = self.video(seen, batch.category.repeat(2)).float().chunk(2)
            found["video discriminator"] = discriminator_hinge(real, [fake])
        if found:
            self.update_discriminators(torch.stack(list(found.values())).sum())
        return found

    def _losses(
        self, batch: ClipBatch, made: Tensor, motion: Tensor, picks: Tensor
    ) -> dict[str, Tensor]:
        o = self.options
        away = (batch.clip - batch.source[:, None]).abs()
        change, flow = motion.split([1, 2], 2)
        losses = {
            "l1": o.l1 * masked_l1(made, batch.clip, self.mask * (1 + o.moving * away)),
            "smooth": o.smooth * total_variation(change),
            "even": o.even * total_variation(flow),
            "change": o.change * change.abs().mean(),
            "steady": o.steady * motion.diff(n=2, dim=1).abs().mean(),
        }
        self.discriminators.requires_grad_(False)  # they learn nothing from this
        faces = _pick(made, picks)
        if o.frame:
            asked = batch.category.repeat_interleave(picks.shape[1])
            losses["frame"] = o.frame * generator_hinge(self.frame(faces, asked).float())
        if o.video:
            losses["video"] = o.video * generator_hinge(self.video(made, batch.category).float())
        if o.identity:
            with torch.no_grad():
                who = self.net.identity(batch.source).repeat_interleave(picks.shape[1], 0)
            losses["identity"] = o.identity * (1 - (self.net.identity(faces) * who).sum(1)).mean()
        full = (onset(batch.z, made.shape[1]) > 0.99).float().multinomial(1)
        apex = _pick(made, full)
        unlike = self.loss_networks.cross_entropy(apex, batch.category) if o.expression else None
        if unlike is not None:
            losses["expression"] = o.expression * unlike
        return losses | self._triplet(batch, apex)

    def _triplet(self, batch: ClipBatch, apex: Tensor) -> dict[str, Tensor]:
        o = self.options
        if (
            self.loss_networks.identity is None
            or not o.triplet
            or self.step_count % o.identity_every
        ):
            return {}
        with torch.no_grad():
            who = self.loss_networks.identity(batch.source.expand(-1, 3, -1, -1)).float()
        anchor = self.loss_networks.identity(apex.expand(-1, 3, -1, -1)).float()
        return {"triplet": o.triplet * identity_triplet(anchor, who, who[batch.other], o.margin)}


def _pick(clips: Tensor, picks: Tensor) -> Tensor:
    """Return (B * F, 1, S, S), some frames of (B, T, 1, S, S) clips, by (B, F) index."""
    place = torch.arange(len(clips), device=clips.device)[:, None]
    return clips[place, picks].flatten(0, 1)
