"""The eight expressions, and label schemes that tie a data set's own classes to them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from expraug.errors import LabelError


class Expression(IntEnum):
    """A facial expression. Its integer value is the target index that synthesizers take."""

    NEUTRAL = 0
    HAPPY = 1
    SAD = 2
    SURPRISE = 3
    FEAR = 4
    DISGUST = 5
    ANGRY = 6
    CONTEMPT = 7

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, value: Expression | str | int) -> Expression:
        """Return the expression that a name, a synonym ("joy", "anger", "AF") or a value means.

        Raises:
            LabelError: nothing known by that name or value.
        """
        if isinstance(value, str):
            found = _NAMES.get(value.strip().lower())
            if found is None:
                raise LabelError(f"{value!r} is no known expression; use one of {_listed(cls)}")
            return found
        try:
            return cls(_integer(value))
        except ValueError:
            raise LabelError(f"{value!r} is no expression index; use 0 to {len(cls) - 1}") from None


def _integer(label: object) -> int | None:
    """Return an integer of any library as an int; None for anything else, such as 4.7 and True."""
    try:
        return None if isinstance(label, bool) else operator.index(label)  # type: ignore[call-overload,no-any-return]
    except TypeError:
        return None


def _listed(expressions: Iterable[Expression]) -> str:
    return ", ".join(str(e) for e in expressions)


_SYNONYMS = {
    Expression.NEUTRAL: "neutral neutrality calm ne neu",
    Expression.HAPPY: "happy happiness joy smile smiling ha hap",
    Expression.SAD: "sad sadness sa",
    Expression.SURPRISE: "surprise surprised su sur",
    Expression.FEAR: "fear fearful afraid fe af fea",
    Expression.DISGUST: "disgust disgusted di dis",
    Expression.ANGRY: "angry anger an ang",
    Expression.CONTEMPT: "contempt contemptuous co con",
}
_NAMES = {name: expression for expression, names in _SYNONYMS.items() for name in names.split()}

_PUBLISHED: dict[str, tuple[str, ...]] = {
    "fer2013": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
    "raf-db": ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
    "affectnet-7": ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"),
    "affectnet-8": (
        *("neutral", "happiness", "sadness", "surprise"),
        *("fear", "disgust", "anger", "contempt"),
    ),
    "ck+": (
        *("neutral", "anger", "contempt", "disgust"),
        *("fear", "happy", "sadness", "surprise"),
    ),
    "kdef": ("AF", "AN", "DI", "HA", "NE", "SA", "SU"),
    "jaffe": ("AN", "DI", "FE", "HA", "NE", "SA", "SU"),
    "fer+": (
        *("neutral", "happiness", "surprise", "sadness"),
        *("anger", "disgust", "fear", "contempt"),
    ),
    "expw": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
    "rafd": (
        *("angry", "contemptuous", "disgusted", "fearful"),
        *("happy", "neutral", "sad", "surprised"),
    ),
    "oulu-casia": (
        *("Neutral", "Anger", "Disgust", "Fear"),
        *("Happiness", "Sadness", "Surprise"),
    ),
    "mug": ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
}


_ALIASES = {"ckplus": "ck+", "ferplus": "fer+", "rafdb": "raf-db", "oulucasia": "oulu-casia"}


@dataclass(frozen=True)
class LabelScheme:
    """A data set's classes, by index and name, and the expression that each of them shows.

    Args:
        classes: class name by index, in the data set's own spelling.
        expressions: expression by index; None marks a class that shows none of the eight
            ("unknown", "bored"): its images are left alone.
        name: how the scheme is called in messages.
    """

    classes: Mapping[int, str]
    expressions: Mapping[int, Expression | None]
    name: str = "custom"
    _index_of: dict[Expression, int] = field(init=False, repr=False, compare=False)
    _index_of_class: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index_of: dict[Expression, int] = {}
        for index, expression in self.expressions.items():
            if expression is None:
                continue
            if expression in index_of:
                names = [self.classes[index_of[expression]], self.classes[index]]
                raise LabelError(
                    f"label scheme {self.name!r}: classes {names} both mean {expression}; "
                    f"map one of them to None"
                )
            index_of[expression] = index
        object.__setattr__(self, "_index_of", index_of)
        object.__setattr__(self, "_index_of_class", {c: i for i, c in self.classes.items()})

    @classmethod
    def named(cls, name: str, *, first_index: int = 0) -> LabelScheme:
        """Return the scheme of a published data set.

        Args:
            name: "fer2013", "fer+", "raf-db", "affectnet-7", "affectnet-8", "expw", "ck+",
                "kdef", "jaffe", "rafd", "oulu-casia" or "mug".
            first_index: index of the first class; RAF-DB's own list file counts from 1.

        Raises:
            LabelError: no scheme of that name.
        """
        key = name.lower().replace("_", "-")
        key = _ALIASES.get(key, key)
        if key not in _PUBLISHED:
            raise LabelError(f"no label scheme {name!r}; there are {', '.join(_PUBLISHED)}")
        names = dict(enumerate(_PUBLISHED[key], start=first_index))
        return cls(names, {i: Expression.parse(n) for i, n in names.items()}, name=key)

    @classmethod
    def from_classes(cls, classes: Sequence[str]) -> LabelScheme:
        """Read the expressions off class names, in index order (`ImageFolder.classes`, say).

        Raises:
            LabelError: a name that means no expression; it is named in the message.
        """
        expressions: dict[int, Expression | None] = {}
        for index, name in enumerate(classes):
            try:
                expressions[index] = Expression.parse(name)
            except LabelError:
                raise LabelError(
                    f"class {name!r} (index {index}) has no expression; known are "
                    f"{_listed(Expression)}. Give a mapping, with None for classes that show none: "
                    f"LabelScheme.from_mapping({{{name!r}: None, ...}})"
                ) from None
        return cls(dict(enumerate(classes)), expressions, name="from classes")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str | Expression | None]) -> LabelScheme:
        """Use a mapping from class name, in index order, to expression (None: shows none).

        Raises:
            LabelError: an unknown expression, or two classes with the same one.
        """
        expressions = {
            index: None if value is None else Expression.parse(value)
            for index, value in enumerate(mapping.values())
        }
        return cls(dict(enumerate(mapping)), expressions, name="from mapping")

    @classmethod
    def resolve(
        cls, scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | Expression | None]
    ) -> LabelScheme:
        """Return the scheme that a published name, class names or a mapping stands for.

        Raises:
            LabelError: none of these, or as `named`, `from_classes` and `from_mapping` do.
        """
        if isinstance(scheme, LabelScheme):
            return scheme
        if isinstance(scheme, str):
            return cls.named(scheme)
        if isinstance(scheme, Mapping):
            return cls.from_mapping(scheme)
        if not isinstance(scheme, Iterable):
            raise LabelError(
                f"{scheme!r} is no label scheme; give a published name ({', '.join(_PUBLISHED)}), "
                f"class names in index order, or a mapping from class name to expression"
            )
        return cls.from_classes([str(name) for name in scheme])

    def expression(self, label: int | str) -> Expression | None:
        """Return the expression of a class, by index or by the data set's own class name.

        Returns None for a class that the scheme marks as showing no expression.

        Raises:
            LabelError: a label that the scheme does not hold.
        """
        found = self._index_of_class.get(label) if isinstance(label, str) else _integer(label)
        if found is None or found not in self.expressions:
            listed = ", ".join(f"{i}={n}" for i, n in self.classes.items())
            raise LabelError(f"label {label!r} is outside label scheme {self.name!r} ({listed})")
        return self.expressions[found]

    def index(self, expression: Expression) -> int:
        """Return the class index of an expression.

        Raises:
            LabelError: the data set has no class for it.
        """
        if expression not in self._index_of:
            raise LabelError(
                f"label scheme {self.name!r} has no class for {expression}; it has "
                f"{_listed(self._index_of)}"
            )
        return self._index_of[expression]

    def class_name(self, expression: Expression) -> str:
        """Return the data set's own class name for an expression. Raises as `index` does."""
        return self.classes[self.index(expression)]

    def __contains__(self, expression: object) -> bool:
        return expression in self._index_of

    def __len__(self) -> int:
        return len(self.classes)
