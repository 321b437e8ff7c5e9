"""A figure of every single face: its distribution as a plot, and the faces at its ends."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

from expraug.expressions import Expression

_BINS, _WIDTH, _HEIGHT = 24, 230, 90


@dataclass(frozen=True)
class Distribution:
    """What a measure says of every face of one target.

    Args:
        name: of the figure.
        target: expression asked for.
        synthetic: (M,) float, of each face that was made, in the order of
            `Context.synthetics(target).made_faces`; fewer where some have no such figure.
        real: (R,) float, of real faces of the class; empty where it means nothing there.
    """

    name: str
    target: Expression
    synthetic: np.ndarray
    real: np.ndarray


def plot(distribution: Distribution) -> str:
    """Return an SVG picture: real faces as a grey area, synthetics as a line; "" if none."""
    synthetic = distribution.synthetic[np.isfinite(distribution.synthetic)]
    real = distribution.real[np.isfinite(distribution.real)]
    if not len(synthetic):
        return ""
    both = np.concatenate([synthetic, real])
    # a few faces far out would squeeze all others into one bin
    low, high = np.quantile(both, [0.005, 0.995])
    edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    shares = [
        np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / max(len(values), 1)
        for values in (synthetic, real)
    ]
    top = max(float(share.max()) for share in shares)
    line, area = (_steps(share / top) for share in shares)
    name = escape(f"{distribution.name}, {distribution.target}")
    return (
        f"<figure class='plot'><svg viewBox='0 0 {_WIDTH} {_HEIGHT + 14}' role=img>"
        f"<title>{name}</title><polygon points='0,{_HEIGHT} {area} {_WIDTH},{_HEIGHT}' fill=#ccc />"
        f"<polyline points='{line}' fill=none stroke=#c33 stroke-width=1.5 />"
        f"<text x=0 y={_HEIGHT + 12}>{edges[0]:.2g}</text>"
        f"<text x={_WIDTH} y={_HEIGHT + 12} text-anchor=end>{edges[-1]:.2g}</text></svg>"
        f"<figcaption>{name}: {len(synthetic)} synthetic, {len(real)} real</figcaption></figure>"
    )


def _steps(heights: np.ndarray) -> str:
    """Return the corners of a histogram's outline."""
    step = _WIDTH / len(heights)
    return " ".join(
        f"{x * step:.1f},{(1 - height) * _HEIGHT:.1f}"
        for i, height in enumerate(heights)
        for x in (i, i + 1)
    )
