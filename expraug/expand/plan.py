"""What an expansion will make, decided for each source alone, so the same however work is split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xxhash

from expraug.augmenter import Draw, ExpressionAugmenter
from expraug.datasets.source import FaceItem, Listed
from expraug.errors import LabelError, UnsupportedExpressionError
from expraug.expand.naming import safe_name
from expraug.expressions import Expression, LabelScheme

SchemeLike = LabelScheme | str | Mapping[str, str | None]


@dataclass(frozen=True)
class Job:
    """One source and what is to be made of it.

    Args:
        item: the source.
        draws: what to ask for; empty if the source is skipped.
        reason, message: why it is skipped; "" otherwise.
    """

    item: FaceItem
    draws: tuple[Draw, ...] = ()
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Plan:
    """Plain data that turns each source into a `Job`, without looking at any other source.

    Args:
        expression_of: expression by source class; None: the class shows none of the eight.
        makes: the targets that are made of each expression.
        folders: folder name by target, of all targets that are asked for.
        levels: intensities in whole percent.
        variants: how many variants are made for each target and intensity.
        variants_there: how many the synthesizer has.
        seed: decides which variants are taken where the synthesizer has more.
        renamed: by origin, another stem for sources whose synthetic faces would get the names of
            another's.
    """

    expression_of: Mapping[str, Expression | None]
    makes: Mapping[Expression, tuple[Expression, ...]]
    folders: Mapping[Expression, str]
    levels: tuple[int, ...] = (100,)
    variants: int = 1
    variants_there: int = 1
    seed: int = 0
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def create(
        cls,
        augmenter: ExpressionAugmenter,
        classes: Sequence[str],
        *,
        scheme: SchemeLike | None = None,
        targets: Sequence[Expression | str] | None = None,
        intensity: float | Sequence[float] = 1.0,
        variants: int = 1,
        seed: int = 0,
        listing: Sequence[Listed] = (),
    ) -> Plan:
        """Plan an expansion.

        Args:
            augmenter: says what can be made.
            classes: the source set's class names.
            scheme: what they mean, as `expand` takes it.
            targets: expressions to make; None: all that can be made of each source.
            intensity: one or several, each in [0.01, 1]; they are rounded to whole percent.
            variants: for each target and intensity.
            seed: any integer.
            listing: the source set's items, among which names are kept apart.

        Raises:
            LabelError: no class means an expression, or a target is no expression.
            UnsupportedExpressionError: a target that the synthesizer does not have, or more
                variants than it has.
            ValueError: an intensity out of range.
        """
        intensities = np.atleast_1d(np.asarray(intensity, np.float64))
        if not len(intensities) or not ((intensities >= 0.01) & (intensities <= 1)).all():
            raise ValueError(f"intensity must be in [0.01, 1], not {intensity}")
        synthesizer = augmenter.synthesizer
        if not 1 <= variants <= synthesizer.variants:
            raise UnsupportedExpressionError(
                f"{synthesizer.name!r} makes 1 to {synthesizer.variants} variants, not {variants}"
            )
        wanted = (
            synthesizer.expressions if targets is None else list(map(Expression.parse, targets))
        )
        augmenter.require(sorted(wanted))
        known = class_expressions(classes, scheme)
        names = {e: name for name, e in known.items() if e is not None}
        makes = {
            source: tuple(t for t in augmenter.available(source) if t in wanted)
            for source in Expression
        }
        return cls(
            expression_of=known,
            makes=makes,
            folders={t: safe_name(names.get(t, str(t))) for t in sorted(wanted)},
            levels=tuple(sorted({round(float(i) * 100) for i in intensities})),
            variants=variants,
            variants_there=synthesizer.variants,
            seed=seed,
            renamed=_renamed(listing, known, makes),
        )

    def job(self, item: FaceItem) -> Job:
        """Return what is to be made of a source."""
        item = replace(item, stem=self.renamed.get(item.origin, item.stem))
        if item.class_name not in self.expression_of:
            message = f"class {item.class_name!r} is none of {', '.join(self.expression_of)}"
            return Job(item, reason=LabelError.reason, message=message)
        source = self.expression_of[item.class_name]
        if source is None:
            message = f"class {item.class_name!r} shows none of the expressions"
            return Job(item, reason="no_expression", message=message)
        if set(self.folders) == {source}:
            message = f"shows {source} already, which is all that is asked for"
            return Job(item, reason="already_target", message=message)
        if not self.makes[source]:
            asked = ", ".join(map(str, self.folders))
            message = f"none of what is asked for ({asked}) can be made of {source}"
            return Job(item, reason=UnsupportedExpressionError.reason, message=message)
        draws = (
            Draw(target, level, variant)
            for target in self.makes[source]
            for level in self.levels
            for variant in self._variants(item)
        )
        return Job(item, tuple(draws))

    def _variants(self, item: FaceItem) -> list[int]:
        if self.variants == self.variants_there:
            return list(range(self.variants))
        name = int(_digest(item.origin), 16)
        chosen = np.random.default_rng([abs(self.seed), name]).permutation(self.variants_there)
        return sorted(chosen[: self.variants].tolist())


def _renamed(
    listing: Sequence[Listed],
    expression_of: Mapping[str, Expression | None],
    makes: Mapping[Expression, tuple[Expression, ...]],
) -> dict[str, str]:
    """Give sources of one stem and one target a hash of their origin in their stem."""
    claims: dict[tuple[Expression, str], list[Listed]] = defaultdict(list)
    for listed in listing:
        source = expression_of.get(listed.class_name)
        for target in () if source is None else makes[source]:
            claims[target, listed.stem].append(listed)
    clashing = {listed for found in claims.values() if len(found) > 1 for listed in found}
    return {c.origin: f"{c.stem}-{_digest(c.origin)[:8]}" for c in clashing}


def _digest(origin: str) -> str:
    return xxhash.xxh64_hexdigest(origin.encode("utf-8", "replace"))


def class_expressions(
    classes: Sequence[str], scheme: SchemeLike | None = None
) -> dict[str, Expression | None]:
    """Return the expression of each class of a source set; None where it shows none.

    Args:
        classes: class names; numbers too, as "0", if a published scheme says what they mean.
        scheme: None: the class names are expression words, and other words show none; a published
            scheme's name ("fer2013"), whose indices or names the classes are; a `LabelScheme`; a
            mapping from class name to expression; or that as text, "0=angry,1=happy,2=none".

    Raises:
        LabelError: no class means an expression, or two mean the same.
    """
    if isinstance(scheme, str):
        scheme = _pairs(scheme) if "=" in scheme else _published(scheme, classes)
    if isinstance(scheme, Mapping):
        means = {name: e if e is None else Expression.parse(e) for name, e in scheme.items()}
        found = {name: means.get(name) for name in classes}
    else:
        found = {name: _expression(name, scheme) for name in classes}
    if not any(e is not None for e in found.values()):
        raise LabelError(
            f"none of the classes {', '.join(map(repr, classes))} means an expression"
            + (f" in label scheme {scheme.name!r}" if isinstance(scheme, LabelScheme) else "")
            + ". Say what they mean: --scheme with a published scheme (fer2013, raf-db, "
            "affectnet-7, affectnet-8, ck+, kdef, jaffe) or with pairs (--scheme 0=angry,1=happy)"
        )
    LabelScheme.from_mapping(dict(found))  # raises where two classes mean the same
    return found


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
    return {name: None if means in ("", "none") else means for name, _, means in pairs}
