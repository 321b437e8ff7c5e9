"""What an expansion will make, decided for each source alone, so the same however work is split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np

from expraug.datasets.exclusions import Excluded, listed_origin
from expraug.datasets.source import FaceItem, Listed
from expraug.errors import LabelError, UnsupportedExpressionError
from expraug.expand.classes import class_expressions
from expraug.expand.naming import clashing, digest_of, original_path, safe_name
from expraug.expand.options import SchemeLike
from expraug.expand.quota import Quota, choose
from expraug.expressions import Expression
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest

NOT_CHOSEN = "not_chosen"
"""Reason of sources of which nothing is made because enough is made of others."""
EXCLUDED = "excluded"
"""Reason of faces that are on a list of rejected ones."""
REJECTED = "it is on the list of rejected faces"


@dataclass(frozen=True)
class Job:
    """One source and what is to be made of it.

    Args:
        item: the source.
        requests: what to ask for; empty if the source is skipped.
        excluded: what is left out because someone rejected it.
        reason, message: why it is skipped; "" otherwise.
    """

    item: FaceItem
    requests: tuple[SynthesisRequest, ...] = ()
    excluded: tuple[SynthesisRequest, ...] = ()
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Plan:
    """Plain data that turns each source into a `Job`, without looking at any other source.

    Args:
        expression_of: expression by source class; None: the class shows none of the eight.
        makes: the targets that are made of each expression.
        folders: folder name by target, of all targets that are asked for.
        percents: intensities in whole percent.
        variants: how many variants are made for each target and intensity.
        available_variants: how many the synthesizer has.
        seed: decides which variants are taken where the synthesizer has more.
        classes: folder name of each class of the expanded set, those of the source set first: the
            position is the label.
        source_classes: how many of them are the source set's.
        renamed: by origin, another stem for sources whose synthetic faces would get the names of
            another's.
        renamed_originals: by origin, another path for sources whose copy would get that of another
            or of a synthetic face.
        chosen: (sources, requests) bool, which of the requests that are possible are made; None:
            all.
        excluded: by origin, what is not made because someone rejected it.
    """

    expression_of: Mapping[str, Expression | None]
    makes: Mapping[Expression, tuple[Expression, ...]]
    folders: Mapping[Expression, str]
    percents: tuple[int, ...] = (100,)
    variants: int = 1
    available_variants: int = 1
    seed: int = 0
    classes: Sequence[str] = ()
    source_classes: int = 0
    renamed: Mapping[str, str] = field(default_factory=dict)
    renamed_originals: Mapping[str, str] = field(default_factory=dict)
    chosen: np.ndarray | None = None
    excluded: Excluded = field(default_factory=dict)

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
        quota: Quota | None = None,
        excluded: Excluded | None = None,
    ) -> Plan:
        """Plan an expansion.

        Args:
            augmenter: says what can be made.
            classes: the source set's class names.
            scheme: what they mean, as `expand` takes it.
            targets: expressions to make; None: all that the source set has a class for.
            intensity: one or several, each in [0.01, 1]; they are rounded to whole percent.
            variants: for each target and intensity.
            seed: any integer.
            listing: the source set's items, among which names are kept apart.
            quota: how many are made; None: all that can be.
            excluded: what of these is left out; nothing takes its place.

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
        known = class_expressions(classes, scheme)
        names = {e: name for name, e in known.items() if e is not None}
        if targets is None:
            wanted = [e for e in synthesizer.expressions if e in names]
        else:
            wanted = [Expression.parse(target) for target in targets]
            augmenter.require(sorted(wanted))
        folders = {t: safe_name(names.get(t, str(t))) for t in sorted(wanted)}
        plan = cls(
            classes=list(dict.fromkeys([*map(safe_name, classes), *folders.values()])),
            source_classes=len(classes),
            expression_of=known,
            makes={
                source: tuple(t for t in augmenter.available(source) if t in wanted)
                for source in Expression
            },
            folders=folders,
            percents=tuple(sorted({round(float(i) * 100) for i in intensities})),
            variants=variants,
            available_variants=synthesizer.variants,
            seed=seed,
            excluded=excluded or {},
        )
        renamed = plan._distinct_stems(listing)
        plan = replace(
            plan,
            renamed=renamed,
            renamed_originals=plan._distinct_originals(listing, renamed, synthesizer.name),
        )
        if quota is None or not listing:
            return plan
        expressions = [known.get(listed.class_name) for listed in listing]
        limits = quota.limits(expressions, list(folders), fixed=targets is not None)
        origins = [listed.origin for listed in listing]
        repeats = len(plan.percents) * variants
        chosen = choose(
            expressions, origins, plan.makes, limits, repeats, quota.max_per_source, seed
        )
        return replace(plan, chosen=chosen)

    def job(self, item: FaceItem, index: int | None = None) -> Job:
        """Return what is to be made of a source.

        Args:
            item: the source.
            index: its position in the listing, which a plan with `chosen` needs.
        """
        if item.origin in self.renamed:
            item = replace(item, stem=self.renamed[item.origin])
        if item.class_name not in self.expression_of:
            message = f"class {item.class_name!r} is none of {', '.join(self.expression_of)}"
            return Job(item, reason=LabelError.reason, message=message)
        source = self.expression_of[item.class_name]
        if source is None:
            message = f"class {item.class_name!r} shows none of the expressions"
            return Job(item, reason="no_expression", message=message)
        if set(self.folders) == {source}:
            message = f"shows {source} already, which is all that is asked for; name other targets"
            return Job(item, reason="already_target", message=message)
        if not self.makes[source]:
            asked = ", ".join(map(str, self.folders))
            message = f"none of what is asked for ({asked}) can be made of {source}"
            return Job(item, reason=UnsupportedExpressionError.reason, message=message)
        requests = [
            SynthesisRequest(target, percent / 100, variant)
            for target in self.makes[source]
            for percent in self.percents
            for variant in self._variants(item)
        ]
        if self.chosen is not None and index is not None:
            chosen = self.chosen[index]
            requests = [r for r, made in zip(requests, chosen, strict=False) if made]
            if not requests:
                return Job(item, reason=NOT_CHOSEN, message="enough faces are made of others")
        rejected = self.excluded.get(listed_origin(item.origin), frozenset())
        left_out = tuple(r for r in requests if r in rejected)
        requests = [r for r in requests if r not in rejected]
        if not requests:
            return Job(item, (), left_out, EXCLUDED, REJECTED)
        return Job(item, tuple(requests), left_out)

    def jobs(self, listing: Sequence[Listed]) -> Iterator[Job]:
        """Yield the job of every item of a listing, with no file to work on."""
        for index, listed in enumerate(listing):
            yield self.job(FaceItem(listed.stem, listed.class_name, listed.origin, b""), index)

    def original(self, item: FaceItem) -> str:
        """Return the path that a source is copied to; see `original_path`."""
        path = original_path(item.class_name, item.origin, item.stem)
        return self.renamed_originals.get(item.origin, path)

    def _variants(self, item: FaceItem) -> list[int]:
        if self.variants == self.available_variants:
            return list(range(self.variants))
        name = int(digest_of(item.origin), 16)
        chosen = np.random.default_rng([abs(self.seed), name]).permutation(self.available_variants)
        return sorted(chosen[: self.variants].tolist())

    def _targets(self, listed: Listed) -> tuple[Expression, ...]:
        source = self.expression_of.get(listed.class_name)
        return () if source is None else self.makes[source]

    def _distinct_stems(self, listing: Sequence[Listed]) -> dict[str, str]:
        """Give sources of one stem and one target a hash of their origin in their stem."""
        claims = [
            (listed, f"{int(target)}/{safe_name(listed.stem)}")
            for listed in listing
            for target in self._targets(listed)
        ]
        found = {claims[i][0] for i in clashing([name for _, name in claims])}
        return {c.origin: f"{c.stem}-{digest_of(c.origin)}" for c in found}

    def _distinct_originals(
        self, listing: Sequence[Listed], renamed: Mapping[str, str], synthesizer: str
    ) -> dict[str, str]:
        """Give originals that would have one name, or that of a synthetic face, a hash as well."""
        paths = [original_path(c.class_name, c.origin, c.stem) for c in listing]
        mark = f"__{safe_name(synthesizer)}_"
        found = set(clashing(paths))
        alike = [i for i, path in enumerate(paths) if mark in path]  # may be one of an earlier run
        if alike:
            made = {
                f"{self.folders[target]}/{safe_name(renamed.get(c.origin, c.stem))}".casefold()
                for c in listing
                for target in self._targets(c)
            }
            found |= {i for i in alike if paths[i].rpartition(mark)[0].casefold() in made}
        return {listing[i].origin: _with_digest(paths[i], listing[i].origin) for i in sorted(found)}


def _with_digest(path: str, origin: str) -> str:
    suffix = PurePosixPath(path).suffix if "/" in origin else ""
    return f"{path.removesuffix(suffix)}-{digest_of(origin)}{suffix}"
