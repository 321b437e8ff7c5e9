"""Which nets are trained on which settings and under which conditions, by priority."""

from __future__ import annotations

from dataclasses import dataclass

from recipes.fer.conditions import BALANCED, OTHERS
from recipes.fer.nets import Net

LITE0 = "tf_efficientnet_lite0"
HALF, QUARTER = "resnet18", "resnet10, quarter width"
NETS = {
    HALF: Net("resnet18", {"channels": (32, 64, 128, 256)}),
    QUARTER: Net("resnet18", {"channels": (16, 32, 64, 128), "layers": (1, 1, 1, 1)}),
    LITE0: Net(LITE0, {"drop_rate": 0.0}, 112),
}
"""By the name that stands in the table: 2.8 and 0.3 million parameters from scratch, and 3.4
million from ImageNet."""

_CORE = ("none", "more draws 6/64", "own label 6/64", "transfer 6/64", "transfer 6/64, neutral")
_MORE = ("more draws 12/64", "transfer 12/64", "own label 12/64", "altered copies 6/64")
_MECHANISMS = (
    *("transfer 12/64, split norm", "transfer falling", "transfer 12/64, natural"),
    *("transfer 12/64, weight 0.5", "transfer first", "more draws falling", "more draws first"),
)
_OTHERS = tuple(f"{name} 6/64, neutral" for name in OTHERS)
CARD = (
    *(("ferplus", HALF, name) for name in (*_CORE, *_MORE)),
    *(("ferplus_20", HALF, name) for name in (*_CORE, *_MORE)),
    *(("fer2013_10pct", HALF, name) for name in (*_CORE, *_MORE)),
    *(("ferplus", HALF, name) for name in _MECHANISMS),
    *(("fer2013", HALF, name) for name in _CORE),
    *(("ferplus_20", HALF, name) for name in _MECHANISMS),
    *(("ferplus", LITE0, name) for name in ("none", "transfer 6/64", "more draws 6/64")),
    *(("fer2013", LITE0, name) for name in ("none", "transfer 6/64")),
    *(("ferplus", HALF, name) for name in _OTHERS),
    *(("fer2013_10pct", HALF, name) for name in _MECHANISMS),
    *(("lfw", HALF, name) for name in ("none", "more draws 6/64", "transfer 6/64, neutral")),
)
"""Setting, net and condition: what a GPU trains."""

_NEUTRAL = "transfer 6/64, neutral"
_FIRST = ("none", _NEUTRAL, "more draws 6/64", "own label 6/64")
_WAYS = (
    *("transfer 6/64, clearest", "transfer 3/64, clearest", "more draws 3/64"),
    *("transfer 6/64, neutral, weight 0.5", "transfer 12/64, neutral, falling"),
    *("transfer 12/64, neutral, split norm", "transfer 12/64, neutral, soft labels"),
    *("transfer 12/64, neutral", "transfer 12/64, neutral, first", "altered copies 6/64"),
)
_ON_BALANCED = tuple(
    name + BALANCED
    for name in (
        *("none", "transfer 6/64, neutral", "transfer 3/64, clearest", "more draws 3/64"),
        *("transfer 12/64, neutral, first", "transfer 1/64, clearest"),
    )
)
_SMALL = ("lfw", "ferplus_20", "fer2013_10pct")
CORE = (
    *(("ferplus", QUARTER, name) for name in (*_FIRST[:2], *_WAYS[:3], *_FIRST[2:])),
    *((setting, QUARTER, name) for setting in _SMALL for name in _FIRST[:3]),
    *(("ferplus", QUARTER, name) for name in _ON_BALANCED),
    *(("ferplus", QUARTER, name) for name in _OTHERS),
    *((setting, QUARTER, name) for setting in _SMALL for name in _FIRST[3:]),
    *(("ferplus_20", QUARTER, name) for name in ("more draws 12/64", "own label 12/64")),
    *((setting, QUARTER, name) for setting in _SMALL for name in _WAYS),
    *(("ferplus", QUARTER, name) for name in _WAYS[3:]),
)
"""What one core of a CPU trains."""


@dataclass(frozen=True)
class Plan:
    """What a machine trains, and how much of it.

    Args:
        groups: setting, net and condition, by priority.
        tuned_first: setting and net whose recipe the others start from.
        steps: share of a setting's steps.
        batch: real faces per step.
        tuned_seeds: seeds of each recipe that is tried.
        half: whether a CPU that has instructions for it computes in bfloat16, as a GPU does.
    """

    groups: tuple[tuple[str, str, str], ...]
    tuned_first: tuple[str, str]
    steps: float = 1.0
    batch: int = 128
    tuned_seeds: tuple[int, ...] = (100, 101)
    half: bool = False


PLANS = {
    "card": Plan(CARD, ("ferplus", HALF)),
    "core": Plan(CORE, ("ferplus", QUARTER), 1.0, 64, (100,), True),
}
