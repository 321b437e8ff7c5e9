"""The measures of an evaluation, in the order of its report.

To add one, write a module with a `NAME`, a dataclass of figures that derives from `Result`, and a
function `measure(context)` that returns it, and list it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from expraug.evaluate import (
    ceiling,
    classifier_recall,
    detectability,
    diversity,
    examples,
    failures,
    frechet,
    gan_train,
    identity,
    motion,
    reconstruction,
    subgroups,
    throughput,
    untouched,
)
from expraug.evaluate.context import Context
from expraug.evaluate.result import Result


@dataclass(frozen=True)
class Measure:
    """One measure.

    Args:
        name: in the JSON, and for `evaluate(measures=…)`.
        run: measures; what it cannot measure raises an `ExpraugError` that says why.
        faces_to_make: how many synthetic faces it asks for beyond those at full intensity, which
            are made once for all.
        when_stopped: whether it runs even when the user has stopped the evaluation, as it makes
            nothing then.
    """

    name: str
    run: Callable[[Context], Result]
    faces_to_make: Callable[[Context], int] = lambda context: 0
    when_stopped: bool = False


MEASURES = (
    Measure("classifier_recall", classifier_recall.measure, classifier_recall.faces_to_make),
    Measure("identity", identity.measure),
    Measure("failures", failures.measure),
    Measure("subgroups", subgroups.measure),
    Measure("motion", motion.measure),
    Measure("diversity", diversity.measure),
    Measure("reconstruction", reconstruction.measure),
    Measure("frechet", frechet.measure),
    Measure("detectability", detectability.measure, detectability.faces_to_make),
    Measure("gan_train", gan_train.measure),
    Measure("ceiling", ceiling.measure),
    Measure("untouched", untouched.measure, untouched.faces_to_make),
    Measure("throughput", throughput.measure),
    Measure("examples", examples.measure, when_stopped=True),
)
