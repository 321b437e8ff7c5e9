"""Polishing: the rows' scores, and a coarse light map for each expression, by gradient.

A face made with the mean of many true faces is right but faint, and of sadness and fear the means
are hardly typical. So the prototypes are moved a little, through the synthesizer, to where tuning
classifiers believe them, with the identity descriptor as a brake. Only train people are used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.expressions import Expression
from recipes.real_faces import FER2013, Faces, concatenate
from recipes.transfer.bank import Bank, rows_of, synthesizer, take
from recipes.transfer.classify import CLASSES, standardise
from recipes.transfer.exemplars import CONTEMPT, HAPPY, smiling_pairs
from recipes.transfer.geometry import blur
from recipes.transfer.mesh import MIRRORED_SCORES, TEXTURE
from recipes.transfer.mouths import believed

BATCH = 28
PAIRS = 6
GRID = 28
"""Side of the light maps: folds and shadows can be learned, adversarial patterns cannot."""
LARGEST_LIGHT = 0.15
"""And they stay within this many log units."""
LIGHTING = 8.0
"""Texels: what is broader than this is lighting, not a fold, and is taken out of the maps."""
ENOUGH = (0.6, 0.8, 0.55, 0.65, 0.5, 0.5, 0.5)
"""Probability of each expression beyond which nothing is gained, so that none is overdone."""
LEAST_COSINE = 0.96
FIRST_GAIN = (1.0, 1.0, 1.2, 1.1, 1.2, 1.2, 1.1, 1.0)
"""Gain of each expression while polishing, below that of the exemplars, since scores now move."""
BOOST = 1.6
"""Sad and fearful light before the last pass: the first passes left both too faint for a classifier
that they did not polish against."""
FEAR_GAIN = 1.3
"""Fear's gain from the last pass on, for the same reason."""
MOUTH_GAIN = (1.0, 1.0, 1.2, 1.0, 1.3, 1.15, 1.0, 1.0)
MOUTH_DETAIL = (1.0, 1.0, 0.7, 0.9, 1.0, 0.85, 0.9, 1.0)
"""Gains and light of each expression while fear's mouths are chosen and rows are ordered: a first,
stronger choice of the operating point below, which followed once the rows were known."""
GAIN = (1.0, 1.0, 1.0, 0.85, 1.25, 0.85, 0.85, 1.0)
DETAIL = (1.0, 1.0, 0.65, 0.75, 1.0, 0.8, 0.8, 1.0)
"""The operating point, chosen by hand on validation people, by a classifier's recall against that
of real faces, by identity, and by eye. Sad light at its full strength, after `BOOST`, looked
blotchy, and 0.65 of it suffices. Fear keeps a high gain: at 1.0 the classifier saw it in 10 % of
faces, against 26 % of real ones, at 1.25 in 22 %. Surprise, disgust and anger were believed more
often than real faces are, so they are gentler."""
KEPT = 5
"""Rows of an expression that are kept, the most believed first."""


def sources(sets: list[Faces], per_set: tuple[int, ...], seed: int) -> Faces:
    """Return neutral train faces that lend: up to so many of each set, in colour where it is."""
    parts = []
    for faces, count in zip(sets, per_set, strict=True):
        wanted = (faces.expression == 0) & (faces.split == "train")
        wanted &= (faces.origin != FER2013) | (faces.half == 0)
        chosen = np.random.default_rng(seed).permutation(np.flatnonzero(wanted))[:count]
        part = faces.take(chosen)
        coloured = np.broadcast_to(part.crop, (len(part), 3, *part.crop.shape[2:]))
        parts.append(replace(part, crop=coloured))
    return concatenate(parts)


def measured(faces: Faces) -> dict[str, Tensor]:
    """Return what the synthesizer takes besides the faces."""
    return {
        "landmarks": torch.from_numpy(faces.mesh[..., :2]),
        "blendshapes": torch.from_numpy(faces.scores),
        "pose": torch.from_numpy(faces.pose),
    }


def jitter(made: Tensor, step: int, degrade: bool, generator: torch.Generator) -> Tensor:
    """Return faces as a classifier should also believe them: moved, flipped, noisy, sometimes
    blurred.

    Args:
        degrade: also reduce some to a quarter: sharpness tells a classifier the data set, and with
            it the likely expression.
    """
    count = len(made)
    theta = torch.eye(2, 3).repeat(count, 1, 1)
    theta += torch.randn(count, 2, 3, generator=generator) * 0.06
    theta[::2, 0] *= -1
    grid = F.affine_grid(theta, list(made.shape), align_corners=False)
    seen = F.grid_sample(made, grid, padding_mode="reflection", align_corners=False)
    if step % 4 == 0:
        seen = F.avg_pool2d(seen, 3, 1, 1)
    if step % 4 == 2 and degrade:
        seen = F.interpolate(
            F.avg_pool2d(seen, 4), size=made.shape[-2:], mode="bicubic", align_corners=False
        ).clamp(0, 1)
    return (seen + torch.randn(seen.shape, generator=generator) * 0.02).clamp(0, 1)


def polish(
    bank: Bank,
    classifiers: list[nn.Module],
    encoder: Callable[[Tensor], Tensor],
    faces: Faces,
    steps: int,
    london: Faces | None = None,
    degrade: bool = False,
) -> Bank:
    """Return the bank with moved scores and light.

    Args:
        bank: what to start from.
        classifiers: tuning classifiers; each has the same weight.
        encoder: identity encoder.
        faces: neutral sources.
        steps: of gradient descent, about 140.
        london: if given, its neutral faces, made happy by the first row, must stay close to the
            smiling photographs.
        degrade: as `jitter` takes it.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model, expression = synthesizer(bank), bank["expression"]
    learned, inside = expression != CONTEMPT, bank["mask"] > 0
    of_class = torch.zeros(len(Expression), 52, requires_grad=True)
    of_row = torch.zeros(len(expression), 52, requires_grad=True)
    light = torch.zeros(len(Expression), 1, GRID, GRID, requires_grad=True)
    optimizer = torch.optim.Adam(
        [
            {"params": [of_class], "lr": 0.015},
            {"params": [of_row], "lr": 0.01},
            {"params": [light], "lr": 0.01},
        ]
    )
    pixels, known = faces.tensor(), measured(faces)
    with torch.no_grad():
        persons = torch.cat([encoder(p) for p in pixels.split(100)])
    count = torch.tensor([max(1, len(rows_of(bank, e))) for e in range(len(Expression))])
    enough = torch.tensor(ENOUGH).log()
    pair = smiling_pairs(london) if london is not None else None
    start = time.time()

    def moved() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the rows' scores and light now, and both offsets."""
        a, r = ((p + p[:, MIRRORED_SCORES]) / 2 for p in (of_class, of_row))
        scores = (bank["scores"] + a[expression] + r).clamp(0, 1)
        scores = torch.where(learned[:, None], scores, bank["scores"])
        even = F.interpolate(
            (light + light.flip(-1)) / 2,
            size=(TEXTURE, TEXTURE),
            mode="bicubic",
            align_corners=False,
        )
        folds = (even - blur(even, LIGHTING)) / LARGEST_LIGHT
        folds = LARGEST_LIGHT * torch.tanh(folds)[:, 0]
        return scores, bank["texture"] + folds[expression] * learned.view(-1, 1, 1), a, r

    for step in range(steps):
        chosen = torch.randint(0, len(faces), (BATCH,), generator=generator)
        target = torch.arange(BATCH) % CLASSES
        variant = torch.randint(0, 8, (BATCH,), generator=generator) % count[target]
        model.scores, texture, a, r = moved()
        model.texture = texture[:, inside]
        some = {name: value[chosen] for name, value in known.items()}
        made = model(pixels[chosen], target, torch.ones(BATCH), variant=variant, **some)
        seen = standardise(jitter(made, step, degrade, generator))
        loss = torch.zeros(())
        for classifier in classifiers:
            found = classifier(seen).log_softmax(1)[torch.arange(BATCH), target]
            loss = loss + (enough[target] - found).clamp(min=0).mean() / len(classifiers)
        if step % 2 == 0:
            q = torch.randperm(BATCH, generator=generator)[:10]
            cosine = (encoder(made[q]) * persons[chosen[q]]).sum(1)
            loss = loss + 12 * (LEAST_COSINE - cosine).clamp(min=0).mean()
        if pair is not None:
            some_pairs = torch.randperm(len(pair[0]), generator=generator)[:PAIRS].numpy()
            before, after = (f.take(some_pairs) for f in pair)
            happy = torch.full((len(before),), int(HAPPY))
            first = torch.zeros(len(before), dtype=torch.long)
            smile = model(
                before.tensor(), happy, torch.ones(len(before)), variant=first, **measured(before)
            )
            loss = loss + 60 * (smile - after.tensor()).square().mean()
        rough = light.diff(dim=-1).square().mean() + light.diff(dim=-2).square().mean()
        loss = loss + 0.8 * a.square().sum(1).mean() + 1.2 * r.square().sum(1).mean()
        loss = loss + 150 * (light.square().mean() + rough)
        optimizer.zero_grad()
        loss.backward()
        for values in (of_class, of_row, light):
            values.grad.nan_to_num_(0)  # type: ignore[union-attr]
        optimizer.step()
        if step % 10 == 9 or step == steps - 1:
            print(f"  step {step}: loss {loss.item():.3f}, {time.time() - start:.0f} s", flush=True)
    with torch.no_grad():
        scores, texture, _, _ = moved()
    return bank | {"scores": scores.clone(), "texture": texture.clone()}


def before_last_pass(bank: Bank, first: Bank) -> Bank:
    """Return the bank with fear as it was before polishing, and more sad and fearful light.

    Args:
        bank: after the second pass.
        first: before the first, symmetric; its fear had not yet learned what fools one classifier.
    """
    bank = bank | {name: bank[name].clone() for name in ("scores", "texture", "mouth", "gain")}
    fear, unpolished = rows_of(bank, Expression.FEAR), rows_of(first, Expression.FEAR)
    for name in ("scores", "texture", "mouth"):
        bank[name][fear] = first[name][unpolished]
    bank["texture"][fear + rows_of(bank, Expression.SAD)] *= BOOST
    bank["gain"][Expression.FEAR] = FEAR_GAIN
    return bank


def order_rows(bank: Bank, classifiers: list[nn.Module], faces: Faces) -> Bank:
    """Return the bank with each expression's `KEPT` most believed rows, in that order.

    Contempt keeps its two, and happy its first, the London row: no classifier is asked for these.
    """
    kept, rank = [], []
    for e in range(len(Expression)):
        rows = rows_of(bank, e)
        if e == CONTEMPT:
            worth = [1.0] * len(rows)
        else:
            own = [bool(bank["rank"][r] < -1) for r in rows]
            worth = [
                2.0 if o else believed(bank, r, classifiers, faces)
                for o, r in zip(own, rows, strict=True)
            ]
        order = np.argsort(-np.array(worth), kind="stable")[:KEPT]
        print(f"  {Expression(e)}: {[round(worth[k], 2) for k in order]} of {len(rows)} rows")
        kept += [rows[k] for k in order]
        rank += [0.4 * k for k in range(len(order))]
    return take(bank, kept) | {"rank": torch.tensor(rank)}
