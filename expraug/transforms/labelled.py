"""What all transforms share: a label scheme that may be told later, and their `repr`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expraug.errors import LabelError
from expraug.expressions import Expression, LabelScheme
from expraug.labels import SchemeLike, agreed_scheme
from expraug.pipeline import ExpressionAugmenter

ALONE = (
    "A data set's `transform=` sees the image alone, without its label: wrap the data set in "
    "expraug.JointTransform(dataset, transform) instead"
)
"""What to do where an image comes without its label."""


class LabelledTransform:
    """A transform that changes labels, and must know what they mean.

    Attributes:
        scheme: what the labels mean; None as long as that was not told.
        augmenter: makes the faces.
    """

    scheme: LabelScheme | None
    augmenter: ExpressionAugmenter
    _arguments: dict[str, Any]
    """What the transform was made with, by name, for `repr` and saving."""

    def bind(self, scheme: LabelScheme) -> None:
        """Take over a data set's label scheme, or hold it against the one that was given.

        Raises:
            LabelError: the two contradict each other (the message names the first index), or the
                scheme has no class for one of `targets`.
        """
        agreed = agreed_scheme(scheme, self.scheme)
        for target in self._arguments.get("targets") or ():
            agreed.index(Expression.parse(target))
        if self.scheme is None:
            self._arguments["scheme"] = agreed
        self.scheme = agreed

    def _scheme_of(self, label: Any) -> LabelScheme:
        """Return what a label means.

        Without a scheme, a class name is enough where `targets` spells all that it can become.

        Raises:
            LabelError: there is no telling.
        """
        if self.scheme is not None:
            return self.scheme
        targets = self._arguments.get("targets") or ()
        if isinstance(label, str) and targets and all(isinstance(t, str) for t in targets):
            return LabelScheme.from_classes(list(dict.fromkeys([label, *targets])))
        raise LabelError(
            f"there is no telling what label {label!r:.100} means: give RandomExpression a scheme "
            f"(a published one's name as 'fer2013', the class names in index order, or a mapping), "
            f"or wrap the data set in expraug.JointTransform(dataset, transform), which reads it "
            f"off the data set"
        )


def resolve_scheme(scheme: SchemeLike | None) -> LabelScheme | None:
    """Return what a door's argument `scheme` stands for."""
    return None if scheme is None else LabelScheme.resolve(scheme)


def check_p(p: float) -> None:
    """Raise ValueError unless `p` is a probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], not {p}")


def shown(arguments: Mapping[str, Any]) -> str:
    """Return arguments as `repr` shows them, a scheme by its class names."""
    plain = {
        name: list(value.classes.values()) if isinstance(value, LabelScheme) else value
        for name, value in arguments.items()
    }
    return ", ".join(f"{name}={value!r}" for name, value in plain.items())
