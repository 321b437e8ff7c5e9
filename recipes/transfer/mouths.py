"""What is inside the rows' mouths: sharp mouths of train people that are open alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.expressions import Expression
from recipes.real_faces import LFW, LONDON, Faces
from recipes.transfer.bank import Bank, rows_of, synthesizer, take
from recipes.transfer.classify import probabilities
from recipes.transfer.geometry import read_light, sample_points, skin_level
from recipes.transfer.mesh import MOUTH_SHAPE, OF_MOUTH, SCORE, mouth_samples, opening

SHUT = 0.017
"""Below this opening, as a fraction of the frame, a mouth shows a dark line and no teeth."""
SHUT_LIGHT = 0.3
"""Luminance of that line, against the cheeks'."""
JAWS = ((0, 0), (-0.12, 0.15), (-0.22, 0.25), (-0.35, 0.25), (-0.5, 0.25))
"""Changes of jawOpen and mouthStretch that fear's rows are tried with: a classifier tells fear
by teeth behind stretched lips (without them it believed 8 % of faces, with them 27 %)."""
CANDIDATES = 10
BORROWED = {
    (Expression.SURPRISE, 2): (Expression.SURPRISE, 1),
    (Expression.FEAR, 0): (Expression.ANGRY, 0),
    (Expression.FEAR, 2): (Expression.ANGRY, 0),
    (Expression.FEAR, 3): (Expression.ANGRY, 1),
    (Expression.ANGRY, 2): (Expression.ANGRY, 0),
    (Expression.ANGRY, 3): (Expression.ANGRY, 4),
}
"""Mouths of the embedded rows that looked wrong, white lumps for tongues, and those that took
their place, by eye; the classifier believed both alike. Another fit has other rows: look first."""


@dataclass
class Mouths:
    """Real mouths: (N, 22, 44) interiors, (N, 52) scores, and (N,) what makes them fit for use."""

    interior: Tensor
    scores: np.ndarray
    opening: np.ndarray
    yaw: np.ndarray
    crisp: np.ndarray
    sharp: np.ndarray

    def unlike(self, scores: np.ndarray) -> np.ndarray:
        """Return the (N,) mean squared difference of the mouth's scores."""
        spread = self.scores[:, OF_MOUTH].std(0) + 0.1
        unlike: np.ndarray = (((self.scores - scores)[:, OF_MOUTH] / spread) ** 2).mean(1)
        return unlike

    def faults(self, wanted: float) -> np.ndarray:
        """Return the (N,) part of the choice that does not depend on scores."""
        faults: np.ndarray = (
            np.abs(self.opening - wanted) / max(0.010, 0.15 * wanted)
            + self.yaw / 30
            - np.clip(self.sharp / np.median(self.sharp) - 1, -1, 1) * 0.8
        )
        return faults


def fill(values: Tensor, place: np.ndarray) -> Tensor:
    """Return (N, S) values inside the mouth as (N, 22, 44), grown outwards."""
    count, cells = len(values), MOUTH_SHAPE[0] * MOUTH_SHAPE[1]
    x, known = torch.zeros(count, cells), torch.zeros(1, cells)
    x[:, place], known[:, place] = values.float(), 1
    x, known = x.view(count, 1, *MOUTH_SHAPE), known.view(1, 1, *MOUTH_SHAPE)
    for _ in range(8):
        total = F.avg_pool2d(x * known, 3, 1, 1)
        share = F.avg_pool2d(known, 3, 1, 1)
        x = torch.where(known > 0, x, total / (share + 1e-6))
        known = (share > 0).float()
    return x[:, 0]


def crispness(mouths: Tensor) -> Tensor:
    """Return how strongly teeth stand out from each other in (N, 22, 44) interiors."""
    m = mouths[:, 4:-4]
    return (m[..., 8:-8] * 2 - m[..., 6:-10] - m[..., 10:-6]).square().mean((1, 2)).sqrt()


def soften(mouths: Tensor) -> Tensor:
    """Return interiors whose glaring teeth are limited to a little over the skin's brightness."""
    return torch.where(mouths > 0.8, 0.8 + 0.35 * torch.tanh((mouths - 0.8) / 0.35), mouths)


def collect(faces: Faces, reference: np.ndarray) -> Mouths:
    """Return the mouths of frontal photographs of train people: all of London, half 0 of LFW."""
    lends = (faces.origin == LONDON) | ((faces.origin == LFW) & (faces.half == 0))
    frontal = (np.abs(faces.pose[:, 0]) < 14) & (np.abs(faces.pose[:, 1]) < 15)
    faces = faces.take(np.flatnonzero(lends & frontal & (faces.split == "train")))
    index, weights, _, place = mouth_samples(reference)
    crops, mesh = faces.grey(), faces.mesh[..., :2]
    skin = skin_level(crops, mesh)
    light = read_light(crops, sample_points(mesh, index, weights))
    interior = fill(light / skin.clamp(min=0.15)[:, None], place)
    # sharpness of the whole face keeps blurred photographs out
    laplace = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    edges = F.conv2d(crops.float() / 255, laplace)[:, :, 30:110, 30:98].std((1, 2, 3)) / skin
    gap, crisp = opening(mesh), crispness(interior).numpy()
    crisp = crisp / np.median(crisp[gap > 0.02])
    return Mouths(interior, faces.scores, gap, np.abs(faces.pose[:, 0]), crisp, edges.numpy())


def borrow(bank: Bank) -> Bank:
    """Return the bank with the mouths of `BORROWED`."""
    mouth = bank["mouth"].clone()
    for (taker, to), (giver, of) in BORROWED.items():
        mouth[rows_of(bank, taker)[to]] = bank["mouth"][rows_of(bank, giver)[of]]
    return bank | {"mouth": mouth}


def row_opening(
    bank: Bank, row: int, scores: Tensor, base: Tensor, shape: dict[str, np.ndarray]
) -> float:
    """Return how far a row opens the mean face's mouth."""
    gain = bank["gain"][bank["expression"][row]]
    moved = ((scores - base) * bank["moves"] * gain) @ bank["basis"]
    mesh = torch.from_numpy(shape["mean"]).float() + moved.view(-1, 2) + bank["shape"][row]
    return float(opening(mesh.numpy()))


def choose(bank: Bank, mouths: Mouths, shape: dict[str, np.ndarray]) -> Bank:
    """Return the bank with, in each row, the mouth that fits its scores and opening best.

    The London row keeps its own, which `exemplars.add_london` made of many.
    """
    neutral = torch.from_numpy(shape["neutral"]).float()
    used = np.zeros(len(mouths.opening))
    chosen = []
    for row, scores in enumerate(bank["scores"]):
        wanted = row_opening(bank, row, scores, neutral, shape)
        fault = mouths.unlike(scores.numpy()) + mouths.faults(wanted)
        fault += 5.0 * (mouths.opening < 0.75 * wanted) + 2.0 * (mouths.opening < 0.018)
        fault += 0.25 * used - 0.35 * np.clip(mouths.crisp - 1, -1.2, 1)
        best = int(np.argmin(fault))
        used[best] += 1
        shut = torch.full(MOUTH_SHAPE, SHUT_LIGHT)
        chosen.append(shut if wanted < SHUT else mouths.interior[best])
    interior = soften(torch.stack(chosen))
    own = bank["rank"] < -1
    return bank | {"mouth": torch.where(own[:, None, None], bank["mouth"], interior)}


def believed(bank: Bank, row: int, classifiers: list[nn.Module], sources: Faces) -> float:
    """Return the classifiers' mean probability of a row's expression on faces made with it."""
    expression = int(bank["expression"][row])
    model = synthesizer(take(bank, [row]))
    count = len(sources)
    made = model(
        sources.tensor(),
        torch.full((count,), expression),
        torch.ones(count),
        landmarks=torch.from_numpy(sources.mesh[..., :2]),
        blendshapes=torch.from_numpy(sources.scores),
        pose=torch.from_numpy(sources.pose),
    )
    return float(
        np.mean([float(probabilities(j, made)[:, expression].mean()) for j in classifiers])
    )


def choose_by_classifiers(
    bank: Bank,
    expression: int,
    mouths: Mouths,
    shape: dict[str, np.ndarray],
    classifiers: list[nn.Module],
    sources: Faces,
) -> Bank:
    """Return the bank with jaw and mouth of an expression's rows as the classifiers believe them
    most.

    For each of `JAWS` the ten best fitting real mouths are tried on train faces.
    """
    bank = bank | {"scores": bank["scores"].clone(), "mouth": bank["mouth"].clone()}
    interiors = soften(mouths.interior)
    for row in rows_of(bank, expression):
        best = -1.0
        start = bank["scores"][row].clone()
        found = start, bank["mouth"][row].clone()
        for jaw, stretch in JAWS:
            scores = start.clone()
            for name, by in (
                ("jawOpen", jaw),
                ("mouthStretchLeft", stretch),
                ("mouthStretchRight", stretch),
            ):
                scores[SCORE[name]] = (scores[SCORE[name]] + by).clamp(0, 1)
            wanted = row_opening(bank, row, scores, bank["rest"], shape)
            if not 0.02 <= wanted <= 0.155:
                continue
            fault = 0.5 * mouths.unlike(scores.numpy()) + mouths.faults(wanted)
            fault += 0.2 * np.clip(mouths.sharp / np.median(mouths.sharp) - 1, -1, 1)
            gap = mouths.opening
            fault += 9 * ((gap < 0.7 * wanted) | (gap > 1.5 * wanted))
            fault -= 0.4 * np.clip(mouths.crisp - 1, -1.2, 1)
            for candidate in np.argsort(fault)[:CANDIDATES]:
                bank["scores"][row], bank["mouth"][row] = scores, interiors[candidate]
                probability = believed(bank, row, classifiers, sources)
                if probability > best:
                    best, found = probability, (scores, interiors[candidate])
        bank["scores"][row], bank["mouth"][row] = found
        tried = f"believed {best:.3f}" if best >= 0 else "none opens wide enough"
        print(f"  row {row}: {tried}, jaw {float(found[0][SCORE['jawOpen']]):.2f}", flush=True)
    return bank
