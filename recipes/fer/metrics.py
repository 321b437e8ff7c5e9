"""What a trained net is worth: metrics of one run, and comparisons over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
    multiclass_recall,
)

from expraug.expressions import Expression


def measure(
    probabilities: Tensor, labels: Tensor, classes: Sequence[Expression]
) -> dict[str, float]:
    """Return the metrics of one test.

    Where the test set has only some of the classes, the probabilities are those of the classes that
    it has, scaled to sum to 1: as across sets, where only shared classes can be asked for.

    Args:
        probabilities: (N, E).
        labels: (N,) long, indices in `classes`.
        classes: E of them.

    Returns:
        accuracy, macro_f1, balanced_accuracy, ece (expected calibration error, 15 bins), and for
        each class of the test set its recall, "recall_happy". All in [0, 1].
    """
    there = torch.unique(labels)
    place = torch.full((len(classes),), -1)
    place[there] = torch.arange(len(there))
    p, y = probabilities[:, there], place[labels]
    p = p / p.sum(1, keepdim=True)
    count = len(there)
    recall = multiclass_recall(p, y, count, average="none")
    found = {
        "accuracy": multiclass_accuracy(p, y, count, average="micro"),
        "macro_f1": multiclass_f1_score(p, y, count, average="macro"),
        "balanced_accuracy": recall.mean(),
        "ece": multiclass_calibration_error(p, y, count, n_bins=15),
    }
    by_class = {f"recall_{classes[c]}": recall[i] for i, c in enumerate(there.tolist())}
    return {name: float(value) for name, value in (found | by_class).items()}


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the mean over seeds and half the width of its t interval; nan for one seed."""
    v = np.asarray(values, float)
    if len(v) < 2:
        return float(v.mean()), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v))
    return float(v.mean()), float(half)


def paired(treated: Sequence[float], control: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean difference over seeds, half its 95 % interval, and the paired t-test's p."""
    difference = np.asarray(treated, float) - np.asarray(control, float)
    mean, half = interval(difference.tolist())
    if len(difference) < 2 or np.ptp(difference) == 0:
        return mean, half, float("nan")
    return mean, half, float(stats.ttest_rel(treated, control).pvalue)
