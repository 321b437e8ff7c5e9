"""Examples: all faces that were made, beside their sources, with each figure of a single face."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from expraug.evaluate.context import Context
from expraug.evaluate.distribution import plot
from expraug.evaluate.result import Result
from expraug.expressions import Expression
from expraug.review.component import Faces
from expraug.review.thumbnail import thumbnail

_SHOWN = 112  # pixels


@dataclass
class Examples(Result):
    """The faces of the report, and plots as SVG; for the page alone."""

    faces: Faces
    plots: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {}

    def html(self) -> str:
        if not any(self.plots):
            return ""
        head = "<h2>Distributions</h2><p>Grey: real faces of the class. Red: synthetics.</p>"
        return f'{head}<div class="plots">{"".join(self.plots)}</div>'


def measure(context: Context) -> Examples:
    """Collect what the page shows: what was made, what was not, and why.

    When the user has stopped the evaluation, these are the faces of the targets made by then.
    """
    data, model = context.data, context.augmenter.synthesizer
    faces = Faces(list(dict.fromkeys(told.name for told in context.distributions)))
    for target in context.targets:
        made = context.made_already(target) if context.stopped else context.synthetics(target)
        if made is None:
            continue
        scores = dict(_scores(context, target, int(made.made.sum())))
        position = 0
        for i, face, there, reason in zip(
            made.sources.tolist(), made.faces, made.made.tolist(), made.reasons, strict=True
        ):
            name, person = data.items[i].origin, data.people[i]
            name = name if person in name else f"{person} · {name}"
            source, known = faces.source(name, str(Expression(int(data.labels[i]))))
            if not known:
                faces.sources[source][2] = _picture(data.faces[i])
            faces.add(
                source,
                (model.name, model.fingerprint),
                str(target),
                _picture(face) if there else None,
                reason=reason or context.refused.get((i, target), ""),
                scores={name: values[position] for name, values in scores.items()} if there else {},
            )
            position += there
    return Examples(faces, [plot(told) for told in context.distributions])


def _scores(context: Context, target: Expression, count: int) -> Iterable[tuple[str, list[float]]]:
    """Yield the figures that all `count` faces of a target have."""
    for told in context.distributions:
        if told.target == target and len(told.synthetic) == count:
            yield told.name, told.synthetic.tolist()


def _picture(face: Tensor) -> str | None:
    """Return a (3, S, S) uint8 face as a data URI."""
    return thumbnail(face.permute(1, 2, 0).contiguous().cpu().numpy(), _SHOWN)
