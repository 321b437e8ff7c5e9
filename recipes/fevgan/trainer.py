"""Training of `fevgan`, on clips from a neutral face to an expression.

* Each clip is as fast as the first numbers of its noise say (`rhythm`), so that these come to mean
  speed, and the others are the code of the example; a clip begins with the source. (ImaGINator's
  clips begin anywhere in a video, so that the face they are made from need not be neutral.)
* L1 to what the expression does: in every frame to flow, lightening and by how much lips move, and
  to the inside of the mouth.
* Two discriminators that know the category: one compares full expressions, mouths painted, with
  real faces that show them; the other whole clips with those of the examples.
* Identity: the frozen encoder must see the source in full expressions.
* Expression: cross entropy of a full expression, by nets trained on real faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expraug.faces.composite import face_mask, luminance, masked, moving_face_mask
from expraug.faces.synthesized import canonical_part
from expraug.faces.warp import pixel_grid, resized, sample
from expraug.synthesizers.expression_maps import ExpressionMaps
from expraug.synthesizers.fevgan.net import FEVGANNet
from expraug.synthesizers.fevgan.synthesizer import frame_of
from recipes.training.adversarial import AdversarialTrainer, Optimization
from recipes.training.diffaugment import diffaugment
from recipes.training.discriminator import ProjectionDiscriminator, VideoDiscriminator
from recipes.training.loss_networks import LossNetworks
from recipes.training.losses import discriminator_hinge, generator_hinge, shortfall
from recipes.training.low import low

_PIXELS = 64  # of a side: flow and lips are compared in such pixels
_OUTSIDE = 0.3  # weight of what lies outside the face mask


@dataclass
class ClipBatch:
    """What one step sees: B clips, K frames of each.

    Args:
        source: (B, 1, S, S) float in [0, 1], neutral faces.
        category: (B,) long, the expression.
        z: (B, Z), the rhythm and the code.
        shown: (B, K) long, numbers of the frames; the last is that of the full expression.
        flow: (B, K, 2, S, S) float over the canonical frame, in its sides.
        lightening: (B, K, 1, S, S) float.
        lips: (B, 2, 11, 2) float, of the source.
        moved_lips: (B, K, 2, 11, 2) float.
        interior: (B, 6, 12) float.
        real: (B, 1, 64, 64) float in [0, 1], real faces that show the expressions.
    """

    source: Tensor
    category: Tensor
    z: Tensor
    shown: Tensor
    flow: Tensor
    lightening: Tensor
    lips: Tensor
    moved_lips: Tensor
    interior: Tensor
    real: Tensor


@dataclass(frozen=True)
class Options(Optimization):
    """Weights of the losses, and how the nets are trained.

    Args:
        flow, lightening, lips, interior: of the L1 to each, in pixels of a side of 64 where it is
            about places.
        shortfall: of what movements fall short, in pixels of a side of 64.
        steady: of the difference of second differences in time.
        frame, video: of the two adversarial losses.
        identity: of the cosine distance to the source, by the frozen encoder.
        expression: of the cross entropy of a full expression.
        alone: share of the run that comes first, in which the faces are not looked at, only
            compared with the examples: until it knows how faces move, what pleases a net is no
            expression.
    """

    flow: float = 4.0
    lightening: float = 120.0
    shortfall: float = 2.0
    lips: float = 1.5
    interior: float = 1.0
    steady: float = 1.0
    frame: float = 0.05
    video: float = 0.05
    identity: float = 1.0
    expression: float = 0.05
    alone: float = 0.375


class Trainer(AdversarialTrainer):
    """Takes the steps.

    Args:
        net: as `FEVGANSynthesizer` holds it; what comes trained in it stays as it is.
        categories: number of expressions.
        options: see there.
        steps: of the whole run, for the schedule.
        loss_networks: one or more, that take turns.
        device: where all of it is.
        importance: (1, s, s) float, how much each place counts in the flow; alike if None.
    """

    def __init__(
        self,
        net: FEVGANNet,
        categories: int,
        options: Options,
        steps: int,
        loss_networks: Sequence[LossNetworks],
        device: torch.device,
        importance: Tensor | None = None,
    ) -> None:
        self.frame = ProjectionDiscriminator(1, categories, halvings=4)
        self.video = VideoDiscriminator(categories, halvings=2)
        super().__init__(net, nn.ModuleList([self.frame, self.video]), options, steps, device)
        self.net, self.options, self.loss_networks = net, options, loss_networks
        size = net.image_size
        inside = _OUTSIDE + (1 - _OUTSIDE) * face_mask(size)
        if importance is not None:
            inside = inside * resized(importance[None], size)[0]
        self.weight = inside.to(device)
        self.moving = moving_face_mask(size).to(device)
        self._generate = torch.compile(net) if options.compile else net

    def step(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Take one step of the discriminators and one of the generator; return the losses."""
        o = self.options
        with self.autocast:
            maps = self._generate(batch.source, batch.category, batch.z, batch.shown)
        flow, lighter = (
            m.float().unflatten(0, batch.shown.shape)
            for m in (canonical_part(maps.flow), maps.lightening)
        )
        losses, found = self._likeness(batch, maps, flow, lighter), {}
        if self.progress >= o.alone:
            made = self._moved(batch.source, flow, lighter) if o.video else None
            apex = self._apex(batch, maps)
            with self.autocast:
                found = self._discriminate(batch, made, apex)
                losses |= self._appearance(batch, made, apex)
        else:
            self.optimizers[1].step()  # nothing to learn yet; its schedule goes on
        self.update_generator(torch.stack(list(losses.values())).sum())
        return {name: v.detach() for name, v in (losses | found).items()}

    def _moved(self, source: Tensor, flow: Tensor, lighter: Tensor) -> Tensor:
        """Return frames, (B, K, 1, S, S), without what is painted."""
        still = source[:, None].expand(-1, flow.shape[1], -1, -1, -1).flatten(0, 1)
        grid = pixel_grid(source.shape[-1], source) + 2 * flow.flatten(0, 1)
        lit = torch.exp(lighter.flatten(0, 1) * self.moving)
        frames: Tensor = (sample(still, grid) * lit).clamp(0, 1).unflatten(0, flow.shape[:2])
        return frames

    def _apex(self, batch: ClipBatch, maps: ExpressionMaps) -> Tensor:
        """Return full expressions as users see them, (B, 1, S, S)."""
        frames = batch.shown.shape[1]
        last = frame_of(maps, frames - 1, frames)
        faces = batch.source.expand(-1, 3, -1, -1)
        full = last.each(Tensor.float)
        return luminance(masked(full.applied(faces)).render(faces)).clamp(0, 1)

    def _discriminate(
        self, batch: ClipBatch, made: Tensor | None, apex: Tensor
    ) -> dict[str, Tensor]:
        o, found = self.options, {}
        twice = batch.category.repeat(2)
        if o.frame:
            self.frame.requires_grad_(True)
            faces = diffaugment(torch.cat([low(batch.real), low(apex.detach())]))
            real, fake = self.frame(faces, twice).float().chunk(2)
            found["frame discriminator"] = discriminator_hinge(real, [fake])
        if made is not None:
            self.video.requires_grad_(True)
            example = self._moved(batch.source, batch.flow, batch.lightening)
            clips = torch.cat([example, made.detach()])
            real, fake = self.video(clips, twice).float().chunk(2)
            found["video discriminator"] = discriminator_hinge(real, [fake])
        if found:
            self.update_discriminators(torch.stack(list(found.values())).sum())
        return found

    def _likeness(
        self, batch: ClipBatch, maps: ExpressionMaps, flow: Tensor, lighter: Tensor
    ) -> dict[str, Tensor]:
        """Return how far the maps are from those of the examples."""
        o, inside = self.options, self.weight
        moving = _PIXELS * (flow - batch.flow) * inside
        lit = (lighter - batch.lightening) * self.moving
        frames = batch.shown.shape[1]
        parted = (maps.moved_lips - maps.lips).float().unflatten(0, batch.shown.shape)
        parted = parted - (batch.moved_lips - batch.lips[:, None])
        # a mouth that stays shut has no inside
        opened = (batch.moved_lips[:, -1, 1, 5] - batch.moved_lips[:, -1, 0, 5])[:, 1] > 0.01
        inner = (maps.interior.float()[::frames] - batch.interior).abs().mean((1, 2)) * opened
        uneven = sum(
            scale * m.diff(n=2, dim=1).abs().mean() for scale, m in ((1.0, moving), (10.0, lit))
        )
        return {
            "flow": o.flow * moving.abs().mean(),
            "shortfall": o.shortfall
            * _PIXELS
            * shortfall(flow.flatten(0, 1), batch.flow.flatten(0, 1), inside),
            "lightening": o.lightening * lit.abs().mean(),
            "lips": o.lips * _PIXELS * parted.abs().mean(),
            "interior": o.interior * inner.mean(),
            "steady": o.steady * uneven,
        }

    def _appearance(self, batch: ClipBatch, made: Tensor | None, apex: Tensor) -> dict[str, Tensor]:
        """Return how the faces look to nets."""
        o, losses = self.options, {}
        self.discriminators.requires_grad_(False)  # they learn nothing from this
        if o.frame:
            seen = self.frame(diffaugment(low(apex)), batch.category)
            losses["frame"] = o.frame * generator_hinge(seen.float())
        if made is not None:
            seen = self.video(made, batch.category)
            losses["video"] = o.video * generator_hinge(seen.float())
        if o.identity:
            with torch.no_grad():
                who = self.net.identity(batch.source)
            losses["identity"] = o.identity * (1 - (self.net.identity(apex) * who).sum(1)).mean()
        if o.expression and self.loss_networks:
            turn = self.loss_networks[self.step_count % len(self.loss_networks)]
            unlike = turn.cross_entropy(apex, batch.category)
            if unlike is not None:
                losses["expression"] = o.expression * unlike
        return losses
