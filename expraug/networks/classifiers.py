"""FER classifiers by name: the embedded ones, folders of weights, and other people's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expraug.errors import MissingDependencyError
from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERClassifier, load_fer_classifier
from expraug.networks.landmark_classifier import load_landmark_classifier

EMBEDDED_CLASSIFIERS: dict[str, Callable[[], FERClassifier]] = {
    "image": load_fer_classifier,
    "landmarks": load_landmark_classifier,
}
"""Two families that share no features: one sees pixels, the other landmarks alone."""


def create_fer_classifier(classifier: FERClassifier | str | Path) -> FERClassifier:
    """Return a FER classifier, ready for inference.

    Args:
        classifier: "image" or "landmarks", the embedded ones; a folder that
            `FERNet.save_pretrained` wrote; "module:object", whatever can be imported: a
            `FERClassifier`, or a class or function that returns one when called without arguments;
            or a `FERClassifier`, which is returned as it is. One that was imported needs only
            `expressions`, also by name, and `probabilities`.

    Raises:
        MissingWeightsError, InvalidWeightsError: no such folder, or what is in it is damaged.
        MissingDependencyError: the module or the object cannot be imported.
        TypeError: the object is no FER classifier.
    """
    if not isinstance(classifier, (str, Path)):
        return classifier
    name = str(classifier)
    if name in EMBEDDED_CLASSIFIERS:
        return EMBEDDED_CLASSIFIERS[name]()
    if ":" in name and not Path(name).exists():
        return _imported(name)
    return load_fer_classifier(name)


def _imported(name: str) -> FERClassifier:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"the classifier {name!r} cannot be imported ({error}): give MODULE:OBJECT, and put "
            f"the module's folder on PYTHONPATH"
        ) from error
    if isinstance(found, type) or not hasattr(found, "probabilities"):
        found = found() if callable(found) else found
    if not callable(getattr(found, "probabilities", None)) or not hasattr(found, "expressions"):
        raise TypeError(
            f"{name!r} is no FER classifier: it needs `expressions` and `probabilities(faces)`, as "
            f"expraug.networks.fer_classifier.FERClassifier describes them"
        )
    return _Outside(found, getattr(found, "name", name))


class _Outside:
    """A classifier of other people's making, which may know fewer words than ours."""

    def __init__(self, classifier: Any, name: str) -> None:
        self._classifier, self.name = classifier, name
        self.expressions = tuple(map(Expression.parse, classifier.expressions))

    def probabilities(self, faces: Tensor) -> Tensor:
        found: Tensor = torch.as_tensor(self._classifier.probabilities(faces))
        return found

    def features(self, faces: Tensor) -> Tensor:
        if hasattr(self._classifier, "features"):
            return torch.as_tensor(self._classifier.features(faces))
        return self.probabilities(faces).clamp(min=1e-6).log()
