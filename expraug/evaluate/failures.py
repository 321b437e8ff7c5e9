"""Failures: of which images nothing is made, which faces a gate refuses, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from expraug.evaluate.bootstrap import Estimate
from expraug.evaluate.context import Context, Synthetics
from expraug.evaluate.result import Headline, Line, Result, headline_of
from expraug.expressions import Expression
from expraug.landmark_gate import LandmarkGate

NAME = "failures"
_AT_ONCE = 32


@dataclass
class Failures(Result):
    """What was lost on the way, by reason; "no_face", "unchanged" or "not_finite", say.

    Args:
        found: faces in the data.
        lost: images of the data that were left out.
        asked: by target, how many synthetics were asked for at full intensity.
        failed: by target, how many of these were not made. They count as not recognised.
        refused: by target, how many of those that were made the landmark gate refuses. It is not
            asked in any other measure.
        share_refused: by target, their share.
        share_refused_all: the same of all targets.
    """

    found: int
    lost: dict[str, int]
    asked: dict[str, int]
    failed: dict[str, dict[str, int]]
    refused: dict[str, dict[str, int]]
    share_refused: dict[str, Estimate]
    share_refused_all: Estimate | None

    def headline(self) -> Headline:
        return headline_of("refused", self.share_refused, self.share_refused_all)

    def lines(self) -> list[Line]:
        total = self.found + sum(self.lost.values())
        lines = [Line("images used", "", f"{self.found / total:.3f}", _told(self.lost), str(total))]
        for target, asked in self.asked.items():
            made = asked - sum(self.failed[target].values())
            share = f"{made / asked:.3f}"
            lines.append(Line("made", target, share, _told(self.failed[target]), str(asked)))
        for target, e in self.share_refused.items():
            beside = _told(self.refused[target])
            lines.append(Line("refused by the landmark gate", target, str(e), beside, str(e.n)))
        return lines


def measure(context: Context) -> Failures:
    """Count, and show what was made to the landmark gate."""
    refused: dict[str, dict[str, int]] = {}
    shares: dict[str, Estimate] = {}
    rows: list[np.ndarray] = []
    people: list[str] = []
    gate = LandmarkGate()
    for target in context.targets:
        reasons = refusals(context, target, gate)
        if not reasons:
            continue
        wrong = np.array([bool(reason) for reason in reasons])
        made_of = _moved(context, target).made_of
        context.refused |= {
            (i, target): reason
            for i, reason in zip(made_of.tolist(), reasons, strict=True)
            if reason
        }
        who = context.data.who(made_of)
        refused[str(target)] = dict(Counter(filter(None, reasons)))
        shares[str(target)] = context.bootstrap.estimate(wrong, who)
        rows.append(wrong)
        people += who
    everything = context.bootstrap.estimate(np.concatenate(rows), people) if rows else None
    return Failures(
        found=len(context.data),
        lost=dict(context.data.lost),
        asked={str(t): len(context.sources(t)) for t in context.targets},
        failed={target: dict(reasons) for target, reasons in context.failures().items()},
        refused=refused,
        share_refused=shares,
        share_refused_all=everything,
    )


def refusals(context: Context, target: Expression, gate: LandmarkGate) -> list[str]:
    """Return why a landmark gate refuses each face that was made; "" where it does not.

    Faces whose source shows the target already, as a control has them, are left out.
    """
    made = _moved(context, target)
    reasons = []
    for sources, faces in zip(
        context.data.faces[made.made_of].split(_AT_ONCE),
        made.made_faces.split(_AT_ONCE),
        strict=True,
    ):
        asked = torch.full((len(faces),), int(target))
        scores = gate.score(sources.float() / 255, faces.float() / 255, asked)
        values = {name: score.tolist() for name, score in scores.items()}
        for i in range(len(faces)):
            reasons.append(gate.rejection({name: v[i] for name, v in values.items()}))
    return reasons


def _moved(context: Context, target: Expression) -> Synthetics:
    """Return what was made of sources that do not show the target yet."""
    made = context.synthetics(target)
    moved = context.data.labels[made.sources] != int(target)
    reasons = tuple(made.reasons[i] for i in moved.nonzero().flatten().tolist())
    return Synthetics(made.sources[moved], made.faces[moved], made.made[moved], reasons)


def _told(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none"
