"""What a trained net is worth on a test set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_average_precision,
    multiclass_calibration_error,
    multiclass_f1_score,
    multiclass_recall,
)

from expraug.expressions import Expression

OVERALL = ("accuracy", "balanced_accuracy", "macro_f1", "mean_ap", "ece")


def measure(
    probabilities: Tensor, labels: Tensor, classes: Sequence[Expression | str]
) -> dict[str, float]:
    """Return the metrics of one test, all in [0, 1].

    Args:
        probabilities: (N, E) float.
        labels: (N,) long, indices in `classes`. A class without a face is left out, in what the
            net says too: of other sets, only the expressions that both name are asked.
        classes: E of them, by expression or by name.

    Returns:
        accuracy, balanced_accuracy, macro_f1, mean_ap (of the average precision of each class
        against the others), ece (expected calibration error, 15 bins), and for each class
        "recall_happy" and "ap_happy".
    """
    there = torch.unique(labels)
    labels = torch.searchsorted(there, labels)
    probabilities = probabilities[:, there]
    probabilities = probabilities / probabilities.sum(1, keepdim=True)
    classes = [classes[int(i)] for i in there]
    count = len(classes)
    recall = multiclass_recall(probabilities, labels, count, average="none")
    precision = multiclass_average_precision(probabilities, labels, count, average="none")
    assert isinstance(precision, Tensor)
    found = {
        "accuracy": multiclass_accuracy(probabilities, labels, count, average="micro"),
        "balanced_accuracy": recall.mean(),
        "macro_f1": multiclass_f1_score(probabilities, labels, count, average="macro"),
        "mean_ap": torch.nanmean(precision),
        "ece": multiclass_calibration_error(probabilities, labels, count, n_bins=15),
    }
    for i, expression in enumerate(classes):
        found |= {f"recall_{expression}": recall[i], f"ap_{expression}": precision[i]}
    return {name: float(value) for name, value in found.items()}
