"""Give `transfer` the appearance that its expressions lack, and a contempt that is one.

    python -m recipes.transfer.appearance DATA --model work/transfer \\
        --classifier NET0 --classifier NET1 --out expraug/weights/transfer

Synthetic sadness, fear and disgust are taken for other expressions, chiefly for want of what skin
shows. What is added to them is made of differences between the mean skin of FER2013's real classes,
so that it can be nothing but what real faces show. How much of each difference is learned by
gradient descent: two FER classifiers that evaluate nothing (`recipes.fer_classifier.train`, one on
either half of the training faces) are to say of composed faces what they say of real ones, while
what is added stays faint. Free axes of skin, or a network that sees source and exemplar, please the
classifiers no better and paint masks onto faces.

Contempt becomes what real contempt is in the mean, once all smirk on the same side, with less of
what sets single exemplars apart; and throats become darker.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from expraug.expressions import Expression
from expraug.faces.composite import luminance
from expraug.faces.mouth import lips_of, painted_share
from expraug.faces.synthesized import SynthesizedFaces
from expraug.faces.warp import resized, sample
from expraug.networks.fer_classifier import FERNet, load_fer_classifier, see
from expraug.synthesizers.expression_maps import paint_mouths
from expraug.synthesizers.transfer import TransferSynthesizer
from expraug.synthesizers.transfer.exemplars import bank_of
from expraug.synthesizers.transfer.reading import DeviationReader
from recipes.real_faces import FER2013, FILES, LFW, Faces, concatenate, extract
from recipes.transfer.closed_loop import Shown, by_least_squares
from recipes.transfer.deviation import flat_mirror, inputs, read_skin
from recipes.transfer.left_out import IRISES, with_dark_throats
from recipes.transfer.mesh import mirror_index

STRENGTH = {
    Expression.NEUTRAL: 0.3,
    Expression.SAD: 0.5,
    Expression.FEAR: 0.3,
    Expression.DISGUST: 0.45,
    Expression.CONTEMPT: 1.0,
}
"""Which expressions lack appearance, and the share of what was learned that is added: chosen on
LFW's validation people by how often both embedded classifiers see the expression, and by eye."""
LARGEST_ANGLE, LARGEST_SOURCE_ANGLE = 20, 22
AGREED, MOST = 0.5, 450
"""Votes from which a face of FER2013 is in the mean of its class, and faces at most."""
COMPOSED, OF_FER2013 = 300, 0.6
"""Faces composed per expression, and the share of them whose sources are FER2013's."""
SIDE = 64
"""Of the composed faces: classifiers see the middle 48 pixels."""
FAINT = 20.0
"""Weight of the mean squared change of log luminance, beside the cross entropy."""
STEPS, BATCH, RATE, LARGEST_SHARE = 160, 48, 0.05, 1.5
SMIRK_AGREED, SMIRK_CLEAR = 0.45, 0.3
"""Votes from which a face shows contempt, and the share, the least one-sided, that is left out."""
SMIRK, SMIRK_SKIN, OWN = 2.1, 1.2, 0.8
"""How much of the mean of contempt is lent, in shape and skin, and how much of each exemplar's own:
a mean of many hands and heads moves less than each of them."""
SMIRK_GAZE = 0.15
THROAT = -0.7
"""Light of a throat relative to the skin around the mouth."""
_CORNERS = (61, 291)
_FEW = 4


@dataclass
class Composites:
    """N faces, composed but for the change of skin.

    Args:
        target: (N,) long.
        warped, paint: (N, 1, 64, 64) luminance in [0, 1], the latter times the matte.
        matte, share: (N, 1, 64, 64) in [0, 1], where paint is and how far skin changes.
        place: (N, 2, 64, 64), where in the texture maps.
        skin: (N, D), the change along the axes of skin.
    """

    target: Tensor
    warped: Tensor
    paint: Tensor
    matte: Tensor
    share: Tensor
    place: Tensor
    skin: Tensor

    def take(self, index: Tensor) -> Composites:
        return Composites(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def joined(parts: list[Composites]) -> Composites:
        return Composites(
            *(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(parts[0]))
        )

    def render(self, model: TransferSynthesizer, more: Tensor) -> tuple[Tensor, Tensor]:
        """Return grey faces, (N, 1, 64, 64), with (N, D) more skin, and the log luminance of it."""
        light, before = (
            sample(model.lightening(skin), self.place, "zeros") * self.share
            for skin in (self.skin + more, self.skin)
        )
        lit = (self.warped * torch.exp(light)).clamp(0, 1)
        return lit * (1 - self.matte) + self.paint, light - before


@torch.inference_mode()
def compose(
    model: TransferSynthesizer, sources: Faces, target: Tensor, variant: Tensor
) -> Composites:
    """Compose faces with variants of their targets, both (N,) long."""
    parts = []
    for at in torch.arange(len(sources)).split(_FEW):
        some = sources.take(at.numpy())
        faces, known = some.tensor(), inputs(some)
        row, mirrored = model.choose(target[at], known[2], variant[at], known[0])
        whole = torch.ones(len(at))
        moved, skin, interior = model.changes(faces, whole, row, mirrored, *known)
        flow, place, share = model.draw(known[0], moved)
        warped = SynthesizedFaces(faces.new_zeros(len(at), 3, 1, 1), flow).render(faces)
        light = sample(model.lightening(skin), place, "zeros") * share
        lit = (warped * torch.exp(resized(light, faces.shape[-1]))).clamp(0, 1)
        opened = painted_share(lips_of(known[0]), lips_of(moved))[..., None, None]
        paint, matte = paint_mouths(lit, lips_of(moved), interior, opened)
        # beside the face there is no place: it must not pull on what is averaged
        weight = share.clamp(min=1e-3)
        parts.append(
            Composites(
                target[at],
                resized(luminance(warped), SIDE),
                resized(luminance(paint) * matte, SIDE),
                resized(matte, SIDE),
                resized(share, SIDE),
                resized(place * weight, SIDE) / resized(weight, SIDE),
                skin,
            )
        )
    return Composites.joined(parts)


def composites(model: TransferSynthesizer, sets: list[Faces], seed: int = 0) -> Composites:
    """Compose neutral training faces with each lacking expression, and others as neutral ones."""
    rng = np.random.default_rng(seed)
    parts = []
    for target in STRENGTH:
        chosen = []
        for faces in sets:
            near = (np.abs(faces.pose[:, :2]) < LARGEST_SOURCE_ANGLE).all(1)
            neutral = faces.majority == int(Expression.NEUTRAL)
            shows = ~neutral & (faces.majority >= 0) if target is Expression.NEUTRAL else neutral
            share = OF_FER2013 if faces.origin[0] == FER2013 else 1 - OF_FER2013
            rows = rng.permutation(np.flatnonzero(near & shows & (faces.split == "train")))
            chosen.append(faces.take(rows[: round(share * COMPOSED)]))
        sources = concatenate(chosen)
        asked = torch.full((len(sources),), int(target))
        variant = torch.from_numpy(rng.integers(model.variants, size=len(sources)))
        parts.append(compose(model, sources, asked, variant))
        print(f"{target}: {len(sources)} composed", flush=True)
    return Composites.joined(parts)


@torch.inference_mode()
def shown(reader: DeviationReader, faces: Faces) -> Shown:
    """Return what each of N faces shows, by the landmarks they came with."""
    mesh, _, pose = inputs(faces)
    light = torch.from_numpy(read_skin(reader, faces, slice(None)))
    return Shown(reader.level(mesh, pose), (light - reader.skin_mean) @ reader.skin_axes.T)


def of_class(faces: Faces, expression: Expression, agreed: float = AGREED) -> Faces:
    """Return the faces of FER2013 that look ahead and show a class."""
    ahead = (np.abs(faces.pose[:, :2]) < LARGEST_ANGLE).all(1)
    named = (faces.votes.argmax(1) == int(expression)) & (faces.votes[:, int(expression)] >= agreed)
    return faces.take(np.flatnonzero(ahead & named))


def differences(model: TransferSynthesizer, crowd: Faces, seed: int = 0) -> Tensor:
    """Return by how much the mean skin of each class differs from that of each other, (8, 8, D)."""
    rng = np.random.default_rng(seed)
    means = []
    for e in Expression:
        members = of_class(crowd, e)
        some = members.take(rng.permutation(len(members))[:MOST])
        mean = shown(model.reader, some).skin.mean(0)
        means.append((mean + mean * model.mirrored_skin) / 2)
    stacked = torch.stack(means)
    return stacked[:, None] - stacked[None]


@torch.inference_mode()
def said_of_real(net: FERNet, crowd: Faces, half: int) -> Tensor:
    """Return what a net says of real faces of each class in the mean, (8, 8), of those of a half
    that it was not trained on."""
    found = []
    for e in Expression:
        members = of_class(crowd.take(np.flatnonzero(crowd.half == half)), e)
        found.append(
            net.probabilities(members.take(np.arange(len(members))[:300]).tensor()).mean(0)
        )
    return torch.stack(found)


def learn_shares(
    model: TransferSynthesizer,
    made: Composites,
    apart: Tensor,
    nets: list[FERNet],
    said: list[Tensor],
    steps: int = STEPS,
    seed: int = 0,
) -> Tensor:
    """Learn how much of each difference between classes composed faces lack, (8, 8).

    Args:
        model: lends.
        made: the faces, of every expression in `STRENGTH`.
        apart: (8, 8, D), as `differences` returns them.
        nets, said: classifiers, and what each says of real faces, (8, 8).
        steps: of gradient descent.
        seed: of the batches.
    """
    torch.manual_seed(seed)
    lacking = torch.tensor([int(e) for e in STRENGTH])
    rows = {int(e): (made.target == int(e)).nonzero()[:, 0] for e in STRENGTH}
    shares = torch.zeros(len(Expression), len(Expression), requires_grad=True)
    optimiser = torch.optim.Adam([shares], RATE, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / steps) ** 0.8 * min(1, (step + 1) / 10)
        target = lacking[torch.randint(len(lacking), (BATCH,))]
        some = made.take(
            torch.stack([rows[e][torch.randint(len(rows[e]), ())] for e in target.tolist()])
        )
        more = torch.einsum("eo,eok->ek", shares, apart)[target]
        faces, added = some.render(model, more)
        which = step % len(nets)
        told = nets[which](see(varied(faces))).log_softmax(1)
        wrong = -(said[which][target] * told).sum(1).mean()
        loss = wrong + FAINT * added.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            shares.clamp_(0, LARGEST_SHARE)
        if step % 40 == 39:
            print(f"step {step + 1}: cross entropy {wrong:.3f}", flush=True)
    return shares.detach()


def varied(faces: Tensor) -> Tensor:
    """Return (B, 1, S, S) faces as other photographs may be: shifted, blurred, noisy."""
    count = len(faces)
    size = 1 + 0.08 * (torch.rand(count, 1, 1) - 0.5)
    turn = torch.eye(2) * size
    mirror = torch.where(torch.rand(count, 1, 1) < 0.5, -1.0, 1.0)
    shift = 0.09 * (torch.rand(count, 2, 1) - 0.5)
    matrix = torch.cat([turn[..., :1] * mirror, turn[..., 1:], shift], 2)
    grid = F.affine_grid(matrix, list(faces.shape), align_corners=False)
    seen = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(F.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = (torch.rand(count, 1, 1, 1) < 0.4) * torch.rand(count, 1, 1, 1)
    noise = 0.02 * torch.randn_like(seen) * torch.rand(count, 1, 1, 1)
    return (torch.lerp(seen, blurred, share) + noise).clamp(0, 1)


def raised(model: TransferSynthesizer, shape: Tensor) -> Tensor:
    """Return by how much higher (N, C) deviations of shape raise the left corner of the mouth than
    the right one, (N,) canonical."""
    moved = (shape @ model.reader.shape_axes).view(len(shape), -1, 2)
    right, left = (moved[:, corner, 1] for corner in _CORNERS)
    return right - left


@torch.inference_mode()
def with_smirk(model: TransferSynthesizer, crowd: Faces) -> TransferSynthesizer:
    """Return a synthesizer whose contempt is that of real faces, on one side of the mouth.

    Exemplars that smirk to the right are turned into their mirror images; each lends that, too.

    Args:
        model: is not changed.
        crowd: FER2013's training faces.
    """
    model = copy.deepcopy(model)
    contempt, reader = int(Expression.CONTEMPT), model.reader
    mirror = mirror_index(reader.rest.view(-1, 2).double().numpy())
    faces = of_class(crowd, Expression.CONTEMPT, SMIRK_AGREED)
    found = shown(reader, faces)
    higher = raised(model, reader.shape_features(*inputs(faces)) @ reader.shape_map)
    turned = higher < 0
    landmarks, skin = found.landmarks.clone(), found.skin.clone()
    other = flat_mirror(landmarks[turned].numpy(), mirror)
    landmarks[turned] = torch.from_numpy(other).to(landmarks)
    skin[turned] *= model.mirrored_skin
    clear = higher.abs() > higher.abs().quantile(SMIRK_CLEAR)
    neutral = of_class(crowd, Expression.NEUTRAL)
    rest = shown(reader, neutral.take(np.arange(len(neutral))[:MOST]))
    centred = rest.mean(mirror, model.mirrored_skin)
    goal = Shown(landmarks[clear].mean(0), skin[clear].mean(0)).less(centred)
    share = torch.ones(len(reader.rest) // 2)
    share[list(IRISES)] = SMIRK_GAZE
    wanted = (goal.landmarks * share.repeat_interleave(2)) @ by_least_squares(reader, IRISES)

    rows = (model.shows == contempt).nonzero()[:, 0]
    wrong = rows[raised(model, model.shape[rows]) < 0]
    model.shape[wrong] *= model.mirrored_shape
    model.skin[wrong] *= model.mirrored_skin
    model.interior[wrong] = model.interior[wrong].flip(2)
    model.gaps[wrong] = model.gaps[wrong].flip(1)
    model.pose[wrong] *= torch.tensor([-1.0, 1.0])
    for own in (model.shape, model.skin):
        own[rows] = OWN * (own[rows] - own[rows].mean(0))
    model.shape_gain[contempt] = model.skin_gain[contempt] = 1
    model.shape_correction[contempt] = SMIRK * wanted
    model.skin_correction[contempt] = SMIRK_SKIN * goal.skin
    return model


def with_darker_throats(model: TransferSynthesizer) -> TransferSynthesizer:
    """Return a synthesizer whose open mouths are dark inside, but for smiles, which show teeth."""
    model = copy.deepcopy(model)
    dark = with_dark_throats(bank_of(model), THROAT).interior
    smile = (model.shows == int(Expression.HAPPY))[:, None, None]
    model.interior.copy_(torch.where(smile, model.interior, dark))
    return model


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    classifier: Annotated[list[Path], typer.Option(help="Two nets, of --half 0 and --half 1.")],
    model: Annotated[Path, typer.Option(help="Of recipes.transfer.fit.")] = Path("work/transfer"),
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    out: Annotated[Path, typer.Option(help="Folder for weights and config.")] = Path(
        "work/transfer_appearance"
    ),
) -> None:
    crowd, photographs = (extract(o, data / FILES[o][0], work) for o in (FER2013, LFW))
    nets = [load_fer_classifier(folder).eval().requires_grad_(False) for folder in classifier]
    fitted = TransferSynthesizer.from_pretrained(model).eval()
    assert isinstance(fitted, TransferSynthesizer)
    made = composites(fitted, [crowd, photographs])
    said = [said_of_real(net, crowd, 1 - half) for half, net in enumerate(nets)]
    apart = differences(fitted, crowd)
    shares = learn_shares(fitted, made, apart, nets, said)
    print(shares, flush=True)
    better = with_darker_throats(with_smirk(fitted, crowd))
    for e, strength in STRENGTH.items():
        more = strength * torch.einsum("o,ok->k", shares[int(e)], apart[int(e)])
        better.skin_correction[int(e)] += more / better.skin_gain[int(e)]
    better.save_pretrained(out)
    print(out, flush=True)


if __name__ == "__main__":
    typer.run(main)
