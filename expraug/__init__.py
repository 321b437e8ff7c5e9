"""expraug: facial-expression augmentation.

A face and its label go in; the same person with another expression, and the matching label, come
out, at training speed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from expraug.expressions import Expression, LabelScheme
from expraug.gate import AllGates, ExpressionGate, IdentityGate
from expraug.pipeline import ExpressionAugmenter, Outcome, SynthesisRequest, augment
from expraug.policy import Balance, Matrix, Uniform
from expraug.synthesizer import (
    Synthesizer,
    create_synthesizer,
    list_synthesizers,
    register_synthesizer,
)

if TYPE_CHECKING:
    from expraug.cache import SynthesisCache
    from expraug.datasets import (
        BalancedExpressionSampler,
        ExpressionAugmentedDataset,
        ExpressionMap,
        JointTransform,
        list_datasets,
        open_dataset,
    )

__version__ = "0.1.0"

_ON_DEMAND = {
    "BalancedExpressionSampler": "expraug.datasets",
    "ExpressionAugmentedDataset": "expraug.datasets",
    "ExpressionMap": "expraug.datasets",
    "JointTransform": "expraug.datasets",
    "SynthesisCache": "expraug.cache",
    "list_datasets": "expraug.datasets",
    "open_dataset": "expraug.datasets",
}
"""What is imported when it is asked for, so that `import expraug` costs torch and little else."""

__all__ = [
    "AllGates",
    "Balance",
    "BalancedExpressionSampler",
    "Expression",
    "ExpressionAugmentedDataset",
    "ExpressionAugmenter",
    "ExpressionGate",
    "ExpressionMap",
    "IdentityGate",
    "JointTransform",
    "LabelScheme",
    "Matrix",
    "Outcome",
    "SynthesisCache",
    "SynthesisRequest",
    "Synthesizer",
    "Uniform",
    "augment",
    "create_synthesizer",
    "list_datasets",
    "list_synthesizers",
    "open_dataset",
    "register_synthesizer",
]


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return getattr(import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module 'expraug' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_DEMAND])
