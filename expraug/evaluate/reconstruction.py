"""Reconstruction: how near synthetics come to real photographs of the same people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expraug.errors import ExpraugError, MissingDependencyError
from expraug.evaluate.bootstrap import Estimate
from expraug.evaluate.context import Context, Synthetics
from expraug.evaluate.face_set import FaceSet
from expraug.evaluate.result import Line, Result
from expraug.expressions import Expression

NAME = "reconstruction"
MIN_COPY_SSIM = 0.5
"""Studio pairs reach about 0.7 and photographs from the press about 0.35, whatever is done."""
_MAX_PSNR = 100.0  # of equal pictures, for which it is infinite


@dataclass(frozen=True)
class Pairs:
    """Synthetics against real photographs of the same people with the target expression.

    Args:
        ssim, psnr: means, of structural similarity (Wang et al. 2004) and in dB.
        copy_ssim, copy_psnr: the same of the unchanged sources.
        ssim_gain, psnr_gain: mean differences.
    """

    ssim: Estimate
    psnr: Estimate
    copy_ssim: Estimate
    copy_psnr: Estimate
    ssim_gain: Estimate
    psnr_gain: Estimate


@dataclass
class Reconstruction(Result):
    """Comparisons by target, of the people photographed with both expressions."""

    targets: dict[str, Pairs]

    def lines(self) -> list[Line]:
        lines = []
        for word, title in (("ssim", "SSIM"), ("psnr", "PSNR in dB")):
            for target, p in self.targets.items():
                own, copy, gain = (getattr(p, k) for k in (word, f"copy_{word}", f"{word}_gain"))
                beside = f"copying {copy.value:.3f}, gain {gain}"
                lines.append(Line(title, target, str(own), beside, str(own.n)))
        return lines


class UnlikePhotographsError(ExpraugError, ValueError):
    """Photographs of one person that are no pairs: more than the expression differs."""

    reason = "unlike_photographs"


def measure(context: Context) -> Reconstruction:
    """Measure every target of which somebody has a real photograph.

    Raises:
        MissingDependencyError: torchmetrics is not installed.
    """
    ssim_and_psnr(torch.zeros(0, 3, 16, 16), torch.zeros(0, 3, 16, 16))  # raises for all at once
    return Reconstruction(context.by_target(NAME, lambda t: measure_target(context, t)))


def pairs_of(
    data: FaceSet, made: Synthetics, target: Expression
) -> tuple[list[str], list[int], list[int]]:
    """Return the people of whom there are a synthetic and a real target, and the first of each.

    Returns:
        Names; rows among the synthetics; indices of the real targets in the data.
    """
    real = {data.people[i]: i for i in reversed(data.of(target).tolist())}
    rows = [k for k in reversed(range(len(made.sources))) if made.made[k]]
    first = {data.people[int(made.sources[k])]: k for k in rows}
    people = sorted(real.keys() & first.keys())
    return people, [first[p] for p in people], [real[p] for p in people]


def measure_target(context: Context, target: Expression) -> Pairs | None:
    """Compare with the first real target of each person who has one; None if nobody has.

    Raises:
        UnlikePhotographsError: the photographs of one person differ in more than the expression.
    """
    data, bootstrap = context.data, context.bootstrap
    if not len(data.of(target)):
        return None
    made = context.synthetics(target)
    people, rows, real = pairs_of(data, made, target)
    if not people:
        return None
    goal = data.faces[real]
    own = ssim_and_psnr(made.faces[rows], goal)
    copy = ssim_and_psnr(data.faces[made.sources[rows]], goal)
    if copy[0].mean() < MIN_COPY_SSIM:
        raise UnlikePhotographsError(
            f"copying the source reaches a mean SSIM of {copy[0].mean():.2f} on {len(people)} "
            f"people: their photographs differ in pose and light, not only in expression"
        )
    return Pairs(
        *(bootstrap.estimate(values, people) for values in (*own, *copy)),
        *(bootstrap.estimate(a - b, people) for a, b in zip(own, copy, strict=True)),
    )


def ssim_and_psnr(faces: Tensor, goal: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return SSIM and PSNR in dB of faces against others: (N,) float each.

    Args:
        faces, goal: (N, 3, S, S) uint8.

    Raises:
        MissingDependencyError: torchmetrics is not installed.
    """
    try:
        from torchmetrics.functional.image import peak_signal_noise_ratio as psnr
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim
    except ImportError as error:
        raise MissingDependencyError(
            "SSIM and PSNR need torchmetrics: pip install 'expraug[train]'"
        ) from error
    # one by one: SSIM's windows would need gigabytes for many faces at once
    pairs = [
        (a[None].float() / 255, b[None].float() / 255) for a, b in zip(faces, goal, strict=True)
    ]
    similar = [float(torch.as_tensor(ssim(a, b, data_range=1.0))) for a, b in pairs]
    near = [min(float(psnr(a, b, data_range=1.0)), _MAX_PSNR) for a, b in pairs]
    return np.array(similar), np.array(near)
