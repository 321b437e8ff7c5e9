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
from expraug.evaluate.regions import region_of
from expraug.evaluate.result import Headline, Line, Result, headline_of
from expraug.expressions import Expression
from expraug.faces.align import align, similarity
from expraug.faces.landmarks import SURE, five_points, read_aligned

NAME = "reconstruction"
MIN_COPY_SSIM = 0.5
"""Studio pairs reach about 0.7 and photographs from the press about 0.35, whatever is done."""
_EYES = ([33, 133], [362, 263])  # landmarks: the corners of either eye
_MAX_PSNR = 100.0  # of equal pictures, for which it is infinite


FIGURES = {
    "ssim": "SSIM",
    "psnr": "PSNR in dB",
    "mouth_ssim": "SSIM of the mouth",
    "landmark_error": "landmark error",
}


@dataclass(frozen=True)
class Pairs:
    """Synthetics against real photographs of the same people with the target expression.

    Args:
        ssim, psnr: means, of structural similarity (Wang et al. 2004) and in dB.
        mouth_ssim: SSIM of the mouth alone.
        landmark_error: mean distance of 478 landmarks from those of the real photograph, over the
            distance between its eyes: the less, the nearer.
        pixels: the same in pixels of the aligned face.
        copy_ssim, …: the same of the unchanged sources.
        ssim_gain, …: mean differences, above 0 where synthetics are nearer than sources.
    """

    ssim: Estimate
    psnr: Estimate
    mouth_ssim: Estimate
    landmark_error: Estimate
    pixels: Estimate
    copy_ssim: Estimate
    copy_psnr: Estimate
    copy_mouth_ssim: Estimate
    copy_landmark_error: Estimate
    copy_pixels: Estimate
    ssim_gain: Estimate
    psnr_gain: Estimate
    mouth_ssim_gain: Estimate
    landmark_error_gain: Estimate
    pixels_gain: Estimate


@dataclass
class Reconstruction(Result):
    """Comparisons by target, of the people photographed with both expressions."""

    targets: dict[str, Pairs]

    def headline(self) -> Headline:
        nearer = {target: pairs.landmark_error_gain for target, pairs in self.targets.items()}
        alike = {target: pairs.ssim_gain for target, pairs in self.targets.items()}
        return headline_of("gain in landmark error", nearer) | headline_of("gain in SSIM", alike)

    def lines(self) -> list[Line]:
        lines = []
        for word, title in FIGURES.items():
            for target, p in self.targets.items():
                own, copy, gain = (getattr(p, k) for k in (word, f"copy_{word}", f"{word}_gain"))
                beside = f"copying {copy.value:.3f}, gain {gain}"
                if word == "landmark_error":
                    beside += f"; {p.pixels.value:.2f} px, copying {p.copy_pixels.value:.2f}"
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
    # one smile of somebody is not another: what can be compared is the most typical one
    made = context.synthetics(target, first_variant=True)
    people, rows, real = pairs_of(data, made, target)
    if not people:
        return None
    goal, sources, own_faces = (
        aligned_by_themselves(faces)
        for faces in (data.faces[real], data.faces[made.sources[rows]], made.faces[rows])
    )
    own, copy = _figures(own_faces, goal), _figures(sources, goal)
    if copy["ssim"].mean() < MIN_COPY_SSIM:
        raise UnlikePhotographsError(
            f"copying the source reaches a mean SSIM of {copy['ssim'].mean():.2f} on {len(people)} "
            f"people: their photographs differ in pose and light, not only in expression"
        )
    found = {}
    for word in own:
        less_is_nearer = word in ("landmark_error", "pixels")
        gain = (own[word] - copy[word]) * (-1 if less_is_nearer else 1)
        there = np.isfinite(gain)  # landmarks may not be found
        who = [person for person, found_there in zip(people, there, strict=True) if found_there]
        for name, values in ((word, own[word]), (f"copy_{word}", copy[word])):
            found[name] = bootstrap.estimate(values[there], who)
        found[f"{word}_gain"] = bootstrap.estimate(gain[there], who)
    return Pairs(**found)


def aligned_by_themselves(faces: Tensor) -> Tensor:
    """Return aligned faces aligned anew, each by landmarks of its own.

    A synthetic lies as its source does, but the photograph of a smile lies as the smile, which
    moves the corners of the mouth, has it: between the two, all of the face would seem to shift.

    Args:
        faces: (N, 3, S, S) uint8; where no face is found in one, it stays.
    """
    side = faces.shape[-1]
    landmarks, _, sure = read_aligned(faces.float() / 255)
    again = []
    for face, mesh, there in zip(faces, landmarks, sure >= SURE, strict=True):
        points = five_points(mesh.double().numpy() * side - 0.5)[None]
        moved = align(face[None].float(), similarity(points), side)[0]
        again.append(moved.round().clamp(0, 255).to(torch.uint8) if there else face)
    return torch.stack(again) if again else faces


def _figures(faces: Tensor, goal: Tensor) -> dict[str, np.ndarray]:
    """Compare (N, 3, S, S) uint8 faces with others: (N,) float by name of the figure."""
    ssim, psnr = ssim_and_psnr(faces, goal)
    mouth, _ = ssim_and_psnr(region_of(faces, "mouth"), region_of(goal, "mouth"))
    error, eyes = landmark_error(faces, goal)
    return {
        "ssim": ssim,
        "psnr": psnr,
        "mouth_ssim": mouth,
        "landmark_error": error / eyes,
        "pixels": error,
    }


def landmark_error(faces: Tensor, goal: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return how far landmarks are from those of other faces, and how far apart the eyes are there.

    Args:
        faces, goal: (N, 3, S, S) uint8, aligned.

    Returns:
        (N,) float each, in pixels: the mean distance of 478 landmarks, nan where no face is found
        in either; and the distance between the eye centres in `goal`.
    """
    side = faces.shape[-1]
    points, _, sure = read_aligned(faces.float() / 255)
    real, _, real_sure = read_aligned(goal.float() / 255)
    apart = (points - real).norm(dim=2).mean(1) * side
    eyes = torch.stack([real[:, pair].mean(1) for pair in _EYES])
    distance = (eyes[0] - eyes[1]).norm(dim=1) * side
    there = (sure >= SURE) & (real_sure >= SURE)
    return apart.where(there, torch.nan).numpy(), distance.numpy()


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
