from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expraug.expand import Quota, expand
from expraug.expand.quota import choose
from expraug.expressions import Expression

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import QUICK, contents, write_faces

HAPPY, NEUTRAL, SAD = Expression.HAPPY, Expression.NEUTRAL, Expression.SAD
ALL = (NEUTRAL, HAPPY, SAD)
MAKES = {e: tuple(t for t in ALL if t != e) for e in ALL}
OPTIONS = QUICK

sources = st.lists(st.sampled_from([*ALL, None]), max_size=30)
limit = st.one_of(st.none(), st.integers(1, 12))


def made(chosen: np.ndarray, expressions: list[Any], repeats: int) -> Counter[Expression]:
    pairs = zip(*chosen.nonzero(), strict=True)
    return Counter(MAKES[expressions[row]][request // repeats] for row, request in pairs)


@given(sources, st.booleans(), limit, limit, st.integers(1, 3), st.integers(0, 3))
def test_limits_hold_and_are_reached(
    expressions: list[Any],
    balance: bool,
    per_class: int | None,
    max_per_source: int | None,
    repeats: int,
    seed: int,
) -> None:
    quota = Quota(balance, per_class, max_per_source)
    origins = [f"o{i}" for i in range(len(expressions))]
    limits = quota.limits(expressions, ALL, fixed=False)
    chosen = choose(expressions, origins, MAKES, limits, repeats, max_per_source, seed)
    counts = made(chosen, expressions, repeats)
    there = Counter(expressions)
    assert chosen.shape == (len(expressions), 2 * repeats)
    for target in ALL:
        possible = repeats * sum(e is not None and e != target for e in expressions)
        assert counts[target] <= min(possible, limits[target])
        if max_per_source is None:
            assert counts[target] == min(possible, limits[target])
        if balance and counts[target]:
            assert there[target] > 0
            assert there[target] + counts[target] <= max(there[e] for e in ALL)
    if max_per_source is not None and len(chosen):
        assert chosen.sum(axis=1).max() <= max_per_source
    again = choose(expressions, origins, MAKES, limits, repeats, max_per_source, seed)
    assert (chosen == again).all()


def test_work_is_spread_over_the_sources() -> None:
    origins = [f"o{i}" for i in range(50)]
    chosen = choose(
        [NEUTRAL] * 50, origins, MAKES, {HAPPY: 60.0, SAD: 0.0, NEUTRAL: 0.0}, 4, None, 0
    )
    each = chosen.sum(axis=1)
    assert (each.min(), each.max(), each.sum()) == (1, 2, 60)
    some = [
        choose([NEUTRAL] * 50, origins, MAKES, {HAPPY: 10.0, SAD: 0, NEUTRAL: 0}, 1, None, seed)
        for seed in (0, 1)
    ]
    assert (some[0] != some[1]).any()


def test_balance_fills_classes_that_are_there_or_asked_for() -> None:
    expressions = [NEUTRAL] * 5 + [HAPPY] * 2
    assert Quota(balance=True).limits(expressions, ALL, fixed=False) == {
        NEUTRAL: 0,
        HAPPY: 3,
        SAD: 0,
    }
    assert Quota(balance=True).limits(expressions, ALL, fixed=True)[SAD] == 5
    assert Quota(balance=True, per_class=2).limits(expressions, ALL, fixed=False)[HAPPY] == 2


@pytest.mark.parametrize("wrong", [{"per_class": 0}, {"max_per_source": -1}])
def test_limits_that_are_none(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        expand(tmp_path, tmp_path / "out", **wrong, **OPTIONS)


def test_per_class(tmp_path: Path, smile: str) -> None:
    write_faces(tmp_path / "set", 20)
    options = OPTIONS | {"per_class": 3, "intensity": [0.5, 1.0], "max_per_source": 1}
    options["synthesizer"] = smile
    dry = expand(tmp_path / "set", tmp_path / "out", dry_run=True, **options)
    assert dry.planned == {"happy": 3, "neutral": 3}
    assert not (tmp_path / "out").exists()
    report = expand(tmp_path / "set", tmp_path / "out", **options)
    assert report.synthetic == dry.planned
    assert report.skipped == dry.skipped == {"not_chosen": 14}
    names = [name for name in contents(report.folder) if "__" in name]
    assert len({name.split("__")[0] for name in names}) == 6
    for shard in (1, 0):  # the choice is of the whole set, not of the shard
        expand(tmp_path / "set", tmp_path / "two", shard=(shard, 2), chunk_size=4, **options)
    assert names == [name for name in contents(tmp_path / "two") if "__" in name]


def test_balanced_set(tmp_path: Path) -> None:
    write_faces(tmp_path / "set", 20)
    for path in sorted((tmp_path / "set" / "happy").iterdir())[3:]:
        path.unlink()
    report = expand(
        tmp_path / "set", tmp_path / "out", balance=True, with_originals=True, **OPTIONS
    )
    assert report.originals + report.synthetic == {"happy": 10, "neutral": 10}
    assert report.synthetic == {"happy": 7}
