"""What the classes of a source set mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expraug.errors import LabelError
from expraug.expand.options import SchemeLike
from expraug.expressions import PUBLISHED_SCHEMES, Expression, LabelScheme


def class_expressions(
    classes: Sequence[str], scheme: SchemeLike | None = None
) -> dict[str, Expression | None]:
    """Return the expression of each class of a source set; None where it shows none.

    Folder names are names, not indices: where `expraug.labels` holds a scheme's order against the
    data set's, here a published scheme is looked up by class name or by the number in it.

    Args:
        classes: class names; numbers too, as "0", if a published scheme says what they mean.
        scheme: None: the class names are expression words, and other words show none; a published
            scheme's name ("fer2013"), whose indices or names the classes are; a `LabelScheme`; a
            mapping from class name to expression, others show none; or that as text,
            "0=angry,1=happy,2=none".

    Raises:
        LabelError: no class means an expression, two mean the same, or a mapping names a class
            that there is not.
    """
    if isinstance(scheme, str):
        scheme = _pairs(scheme) if "=" in scheme else _published(scheme, classes)
    if isinstance(scheme, Mapping):
        unknown = [name for name in scheme if name not in classes]
        if unknown:
            raise LabelError(
                f"the scheme names {', '.join(map(repr, unknown))}, and the source set's classes "
                f"are {', '.join(map(repr, classes))}"
            )
        found = {name: _parsed(scheme.get(name)) for name in classes}
    else:
        found = {name: _expression(name, scheme) for name in classes}
    if not any(e is not None for e in found.values()):
        raise LabelError(
            f"none of the classes {', '.join(map(repr, classes))} means an expression"
            + (f" in label scheme {scheme.name!r}" if isinstance(scheme, LabelScheme) else "")
            + f". Say what they mean: --scheme with a published scheme "
            f"({', '.join(PUBLISHED_SCHEMES)}) or with pairs (--scheme 0=angry,1=happy)"
        )
    LabelScheme.from_mapping(found)  # raises where two classes mean the same
    return found


def _parsed(value: str | Expression | None) -> Expression | None:
    return None if value is None else Expression.parse(value)


def _expression(name: str, scheme: LabelScheme | None) -> Expression | None:
    try:
        if scheme is None:
            return Expression.parse(name)
        is_index = name.isdecimal() and name not in scheme.classes.values()
        return scheme.expression(int(name) if is_index else name)
    except LabelError:
        return None


def _published(name: str, classes: Sequence[str]) -> LabelScheme:
    scheme = LabelScheme.named(name)
    if "0" not in classes and str(len(scheme)) in classes:  # counted from 1, as RAF-DB does
        return LabelScheme.named(name, first_index=1)
    return scheme


def _pairs(text: str) -> dict[str, str | None]:
    pairs = (pair.rpartition("=") for pair in text.split(","))
    return {name.strip(): None if means in ("", "none") else means for name, _, means in pairs}
