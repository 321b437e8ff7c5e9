"""Clips: recognised, the same person in every frame, smooth, and rising all along.

A clip is what `ExpressionAugmenter.clip` makes of the original image; its frames are aligned
afterwards, by the points found in the source, at one size whatever the synthesizer's own, and kept
in 8 bits, as users get them. Change over time is that of the luminance under the face mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expraug.datasets.readers.clip import Clip
from expraug.errors import (
    ExpraugError,
    MissingDependencyError,
    MissingWeightsError,
    NoFaceError,
    RejectedError,
)
from expraug.evaluate.bootstrap import Bootstrap, Estimate, ratio
from expraug.evaluate.classifier_recall import classified, short_name
from expraug.evaluate.context import Context
from expraug.evaluate.face_set import SIZE, TooFewFacesError, aligned
from expraug.evaluate.identity import embed
from expraug.expressions import Expression
from expraug.faces import face_mask
from expraug.faces.composite import luminance
from expraug.faces.detect import Detector
from expraug.networks.fer_classifier import FERClassifier
from expraug.networks.identity import IdentityEncoder

TOLERANCE = 0.02
"""Fall in the target's probability from one frame to the next that still counts as none."""
ALL = "all"
"""Names the figures of all targets together."""
STILL = 1e-4
"""Mean change of luminance, of a range of 1, up to which a clip counts as standing still."""

RECALLS = ("apex recall", "recall at half of the change", "recall at half of the time")
"""Figures of each classifier: in the last frame, and in two that are in the middle."""

Curves = dict[str, np.ndarray]
"""By name of the figure, a value for each clip, (N,) float; nan where it cannot be had."""
Figures = dict[str, dict[str, Estimate]]
"""By name of the figure, then by target or `ALL`."""


# -- making clips


@dataclass(frozen=True)
class MadeClips:
    """Clips that the pipeline made of N sources.

    Args:
        frames: (M, T, 3, S, S) float in [0, 1], aligned, of those that could be made.
        made: (N,) bool, which could.
    """

    frames: Tensor
    made: np.ndarray


def make_clips(context: Context, target: Expression, indices: Tensor, frames: int) -> MadeClips:
    """Make clips with the pipeline and align their frames.

    Args:
        context: its augmenter makes them of the images of its data.
        target: what the last frames show.
        indices: (N,) long, of the sources in the data.
        frames: their number T.
    """
    data, made, found = context.data, [], []
    for i in indices.tolist():
        image = data.items[i].read()
        source = Expression(int(data.labels[i]))
        try:
            clip = context.augmenter.clip(image, source, target, frames)
        except (NoFaceError, RejectedError):
            made.append(False)
            continue
        made.append(True)
        pictures = [frame.transpose(1, 2, 0) for frame in clip]
        found.append(torch.stack([context.align(image, picture) for picture in pictures]))
        context.advance(f"clips of {target}", 1)
    stacked = torch.stack(found) if found else torch.empty(0, frames, 3, SIZE, SIZE)
    return MadeClips(stacked.float() / 255, np.array(made, bool))


def cross_faded(clips: Tensor) -> Tensor:
    """Return what fading each clip's first frame over into its last would give.

    The share of the last frame is that of the clip's own change that has happened by then, so the
    two differ in what the frames show, not in their timing.

    Args:
        clips: (N, T, 3, S, S) float in [0, 1].
    """
    share = progress(step_sizes(clips)).nan_to_num(0)[:, :, None, None, None]
    return torch.lerp(clips[:, :1], clips[:, -1:], share)


def _bytes(clips: Tensor) -> Tensor:
    return (clips * 255).round().to(torch.uint8)


# -- change over time


def step_sizes(clips: Tensor) -> Tensor:
    """Return the mean change of luminance under the face mask from each frame to the next.

    Args:
        clips: (N, T, 3, S, S) float in [0, 1].

    Returns:
        (N, T - 1) float, of a range of 1.
    """
    return torch.stack([_masked(grey[1:] - grey[:-1]) for grey in _grey(clips)])


def _grey(clips: Tensor) -> list[Tensor]:
    return [luminance(clip) for clip in clips]


def _masked(change: Tensor) -> Tensor:
    """Return the mean size of (B, 1, S, S) changes under the face mask, (B,)."""
    mask = face_mask(change.shape[-1])
    return (change.abs() * mask).flatten(1).sum(1) / mask.sum()


def progress(steps: Tensor) -> Tensor:
    """Return the share of all change that has happened by each frame: (N, T), from 0 to 1.

    Args:
        steps: (N, T - 1) from `step_sizes`; clips that stand still give nan.
    """
    total = steps.sum(1, keepdim=True)
    done = F.pad(steps.cumsum(1), (1, 0)) / total
    return torch.where(total > STILL, done, torch.nan)


def raised_cosine(frames: int) -> np.ndarray:
    """Return an onset that starts and ends at rest: (1 - cos(pi t)) / 2 at T even times, (T,)."""
    return (1 - np.cos(np.pi * np.linspace(0, 1, frames))) / 2


def onset_curve(
    clips: Sequence[Clip], detector: Detector, frames: int, size: int = SIZE
) -> np.ndarray:
    """Measure the onset of real sequences: the mean progress of their change, up to the apex.

    All frames are aligned as the first is, as those of a clip are. Movements of the head and a
    camera's noise are change as well; noise makes the curve more even.

    Args:
        clips: of which those are measured that start with a neutral face and have at least four
            frames up to the apex.
        detector: finds the faces.
        frames: T points, evenly from the first frame to the apex.
        size: side of the aligned faces, in pixels.

    Returns:
        (T,) float, from 0 to 1.

    Raises:
        TooFewFacesError: no clip could be measured.
    """
    found = []
    for clip in clips:
        curve = _progress_of(clip, detector, size) if clip.starts_neutral else None
        if curve is not None:
            at = np.linspace(0, 1, frames)
            found.append(np.interp(at, np.linspace(0, 1, len(curve)), curve))
    if not found:
        raise TooFewFacesError(
            f"none of the {len(clips)} sequences starts with a neutral face that is found and "
            f"has four frames up to its apex; leave them out to compare with a raised cosine"
        )
    return np.asarray(np.mean(found, axis=0))


def _progress_of(clip: Clip, detector: Detector, size: int) -> np.ndarray | None:
    try:
        images = list(clip.read()[: clip.apex + 1])
        (face,) = detector(images[:1])
    except (MissingDependencyError, MissingWeightsError):
        raise  # nothing is wrong with the sequence
    except ExpraugError:
        return None
    if face is None or len(images) < 4:
        return None
    faces = [aligned(image, face.points, size) for image in images]
    curve = progress(step_sizes(torch.stack(faces)[None].float() / 255))[0]
    return None if curve.isnan().any() else curve.numpy()


# -- measuring clips


def change_over_time(clips: Tensor, onset: np.ndarray) -> tuple[Curves, Tensor]:
    """Measure how smooth clips are.

    Args:
        clips: (N, T, 3, S, S) float in [0, 1], T at least 3.
        onset: (T,) progress that a real onset has.

    Returns:
        The figures, and (N,) long, the frame of each clip by which half of the change happened.
    """
    steps = step_sizes(clips)
    done = progress(steps)
    bends, whole = [], []
    for grey in _grey(clips):
        bends.append(_masked(grey[2:] - 2 * grey[1:-1] + grey[:-2]).mean())
        whole.append(_masked(grey[-1:] - grey[:1])[0])
    apart = torch.stack(whole)
    apart = torch.where(apart > STILL, apart, torch.nan)
    expected = torch.from_numpy(onset).to(done)
    half = (done.nan_to_num(1) >= 0.5).float().argmax(1)
    half[done.isnan().any(1)] = clips.shape[1] // 2
    figures = {
        "mean step / whole change": steps.mean(1) / apart,
        "largest step, share of all": torch.where(
            done[:, -1] > 0, steps.max(1).values / steps.sum(1), torch.nan
        ),
        "second difference / whole change": torch.stack(bends) / apart,
        "distance to real onset": (done - expected).abs().mean(1),
        "stands still": done.isnan().any(1).float(),
    }
    return {name: values.numpy() for name, values in figures.items()}, half


def identity_over_time(
    encoder: IdentityEncoder, clips: Tensor, threshold: float, batch_size: int = 32
) -> Curves:
    """Measure who is seen in the frames after the first.

    ACD-I is the mean distance between the unit embeddings of a frame and the source (Zhao et al.,
    Learning to Forecast and Refine Residual Motion for Image-to-Video Generation, ECCV 2018);
    ACD-C that of a frame and the next, after the average content distance of Tulyakov et al.
    (MoCoGAN, CVPR 2018), who take all pairs.

    Args:
        clips: (N, T, 3, S, S) float in [0, 1]; the first frames are the sources.
        threshold: cosine above which two faces are one person's.
    """
    who = (
        embed(encoder, _bytes(clips).flatten(0, 1), batch_size)
        .unflatten(0, clips.shape[:2])
        .float()
    )
    cosine = (who[:, 1:] * who[:, :1]).sum(2)
    figures = {
        "cosine, mean": cosine.mean(1),
        "cosine, worst frame": cosine.min(1).values,
        "verified in every frame": (cosine > threshold).all(1).float(),
        "ACD-I": (who[:, 1:] - who[:, :1]).norm(dim=2).mean(1),
        "ACD-C": (who[:, 1:] - who[:, :-1]).norm(dim=2).mean(1),
    }
    return {name: values.numpy() for name, values in figures.items()}


def expression_over_time(
    classifier: FERClassifier, clips: Tensor, target: Expression, half: Tensor
) -> Curves:
    """Measure where the classifier sees the target.

    What is the middle can be told by what has changed or by the time. At half of the change, a
    cross-fade shows half of the last frame with everything where it is to be at the end, and a face
    that moves is half-way; at half of the time both may be less far.

    Args:
        clips: (N, T, 3, S, S) float in [0, 1].
        half: (N,) long, the frames by which half of all change has happened.
    """
    column = classifier.expressions.index(target)
    seen = classified(classifier, _bytes(clips).flatten(0, 1)).unflatten(0, clips.shape[:2])
    probability = seen[:, :, column]
    named = seen.argmax(2) == column
    at, middle = torch.arange(len(clips)), clips.shape[1] // 2
    figures = {
        "apex recall": named[:, -1].float(),
        "recall at half of the change": named[at, half].float(),
        "recall at half of the time": named[:, middle].float(),
        "apex probability": probability[:, -1],
        "probability at half of the change": probability[at, half],
        "probability at half of the time": probability[:, middle],
        "never falls": (probability.diff(dim=1) >= -TOLERANCE).all(1).float(),
    }
    curves = {name: values.numpy() for name, values in figures.items()}
    curves["rank correlation with time"] = rank_correlation(probability.double().numpy())
    return {f"{name}, {short_name(classifier.name)}": values for name, values in curves.items()}


def rank_correlation(values: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of the (N, T) values with their column: (N,), nan for a
    constant row."""
    equal = values[:, :, None] == values[:, None, :]
    below = values[:, None, :] < values[:, :, None]
    ranks = below.sum(2) + (equal.sum(2) - 1) / 2  # ties share the mean of their ranks
    ranks = ranks - ranks.mean(1, keepdims=True)
    time = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((ranks @ time) / np.sqrt((ranks**2).sum(1) * (time**2).sum()))


@dataclass(frozen=True)
class ClipMeasures:
    """What clips of one kind are measured with.

    Args:
        classifiers, encoder: look at the frames.
        threshold: cosine above which two faces are one person's.
        onset: (T,) progress of a real onset.
    """

    classifiers: Sequence[FERClassifier]
    encoder: IdentityEncoder
    threshold: float
    onset: np.ndarray

    def __call__(self, clips: MadeClips, target: Expression) -> Curves:
        """Return all figures of the N clips of one target.

        Where none could be made the target is not recognised, and there is nothing else to measure.

        Raises:
            TooFewFacesError: none could be made at all.
        """
        if not clips.made.any():
            raise TooFewFacesError(f"no clip of {target} could be made")
        smooth, half = change_over_time(clips.frames, self.onset)
        found: Curves = {}
        for classifier in self.classifiers:
            found |= expression_over_time(classifier, clips.frames, target, half)
        found |= identity_over_time(self.encoder, clips.frames, self.threshold) | smooth
        return {name: _spread(name, values, clips.made) for name, values in found.items()}


def _spread(name: str, values: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Return the (M,) figures of the clips that were made as those of all N."""
    every = np.full(len(made), 0.0 if name.startswith(RECALLS) else np.nan)
    every[made] = values
    return every


def estimates(
    measured: Mapping[Expression, tuple[Curves, Sequence[str]]],
    real: Mapping[str, Mapping[Expression, np.ndarray]],
    bootstrap: Bootstrap,
) -> Figures:
    """Return the figures of one way of making clips with their intervals.

    Args:
        measured: by target, what `ClipMeasures` returned, and the N people shown.
        real: by classifier's name as in the figures and by target, the rounds of its recall of
            real faces; a target without has no ratio to it.
        bootstrap: on the people of the clips and of the real faces.
    """
    figures: Figures = {}
    for name in next(iter(measured.values()))[0]:
        row = {str(t): _estimate(c[name], people, bootstrap) for t, (c, people) in measured.items()}
        every = np.concatenate([curves[name] for curves, _ in measured.values()])
        everyone = [person for _, people in measured.values() for person in people]
        figures[name] = {ALL: _estimate(every, everyone, bootstrap)} | row
        figure, _, classifier = name.partition(", ")
        known = real.get(classifier, {})
        if figure != "apex recall":
            continue
        quotients = {
            target: (ratio(bootstrap.mean(curves[name], people), known[target]), len(people))
            for target, (curves, people) in measured.items()
            if target in known
        }
        if quotients:
            mean = np.mean([quotient for quotient, _ in quotients.values()], axis=0)
            of_all = Estimate.of(mean, sum(n for _, n in quotients.values()))
            own = {str(t): Estimate.of(q, n) for t, (q, n) in quotients.items()}
            figures[f"apex recall, synthetic/real, {classifier}"] = {ALL: of_all} | own
    return figures


def _estimate(values: np.ndarray, people: Sequence[str], bootstrap: Bootstrap) -> Estimate:
    there = np.isfinite(values)
    known = [person for person, seen in zip(people, there, strict=True) if seen]
    return bootstrap.estimate(values[there], known)
