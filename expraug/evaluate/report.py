"""What an evaluation found: as JSON, as a printed table, as an HTML page."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.table import Table
from rich.text import Text

from expraug.evaluate.agreement import INTENSITIES, Agreement
from expraug.evaluate.bootstrap import Estimate
from expraug.evaluate.examples import Example
from expraug.evaluate.fidelity import Frechet, Paired
from expraug.evaluate.gan_train import Use
from expraug.evaluate.identity import Identity
from expraug.evaluate.road import Speed, Untouched
from expraug.evaluate.subgroups import Subgroup

COLUMNS = ("measure", "expression", "value [95 %]", "beside", "n")


class Line(NamedTuple):
    """One line of the table; all text."""

    measure: str
    expression: str
    value: str
    beside: str = ""
    n: str = ""


@dataclass
class Evaluation:
    """All figures of one synthesizer on one set of people.

    Args:
        synthesizer: its fingerprint.
        data, reference: names of the sets; the latter "" if there was none.
        split: whose faces were used.
        people, faces, lost: number of people, of faces by expression, of lost images by reason.
        classifier: its name, with the first digits of its weights' sha256.
        version: of expraug.
        agreement: by target.
        agreement_mean: mean ratio over the basic expressions there are; n counts those.
        paired, frechet: by target, where they could be measured.
        subgroups: figures of single kinds of sources, turned heads, say.
        identity, use, untouched, speed: None where they could not be.
        skipped: what was not measured, and why.
        examples: rows of the contact sheets; not in the JSON.
    """

    synthesizer: str
    data: str
    reference: str
    split: str
    people: int
    faces: dict[str, int]
    lost: dict[str, int]
    classifier: str
    version: str
    agreement: dict[str, Agreement]
    agreement_mean: Estimate | None
    identity: Identity | None
    subgroups: dict[str, Subgroup]
    paired: dict[str, Paired]
    frechet: dict[str, Frechet]
    use: Use | None
    untouched: Untouched | None
    speed: Speed | None
    skipped: dict[str, str]
    examples: list[Example]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures, in what JSON can say; nan becomes None."""
        values = asdict(self)
        del values["examples"]
        return _finite(values)

    def to_json(self, path: str | Path | None = None) -> str:
        """Return `to_dict` as JSON, and write it to a file if one is named."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def to_html(self, path: str | Path) -> None:
        """Write one HTML file with the table and contact sheets; it needs no other file."""
        from expraug.evaluate.page import write_page

        write_page(self, Path(path))

    def table(self) -> Table:
        """Return the table, to be printed by rich."""
        table = Table(title=self.title(), caption=self.caption())
        for column in COLUMNS:
            side: Literal["left", "right"] = "right" if column == "n" else "left"
            table.add_column(column, justify=side, overflow="fold", no_wrap=column != "beside")
        last = ""
        for line in self.lines():
            if last and line.measure != last:
                table.add_section()
            name = "" if line.measure == last else line.measure
            table.add_row(*(Text(cell) for cell in (name, *line[1:])))
            last = line.measure
        return table

    def title(self) -> str:
        """Return what was evaluated, on whom, in one line."""
        counts = ", ".join(f"{n} {e}" for e, n in self.faces.items())
        return f"{self.synthesizer} on {self.data}, {self.split}: {self.people} people, {counts}"

    def caption(self) -> str:
        """Return what the figures were measured with."""
        parts = [f"classifier {self.classifier}"]
        if self.identity:
            parts.append(f"identity {self.identity.encoder}")
        if self.frechet:
            parts.append(f"Fréchet on {next(iter(self.frechet.values())).features}")
        if self.reference:
            parts.append(f"reference {self.reference}")
        if self.lost:
            parts.append("lost: " + ", ".join(f"{n} {why}" for why, n in self.lost.items()))
        return "; ".join(parts) + "; intervals: bootstrap over people"

    def lines(self) -> list[Line]:
        """Return the table's lines."""
        return [
            *self._agreement_lines(),
            *self._identity_lines(),
            *self._stratum_lines(),
            *self._fidelity_lines(),
            *self._other_lines(),
            *(Line("not measured", name, "", why) for name, why in self.skipped.items()),
        ]

    def _agreement_lines(self) -> list[Line]:
        lines = []
        for name, a in self.agreement.items():
            where = "" if a.real_from == self.data else f" {a.real_from}"
            beside = f"{a.recall.value:.3f} made, {a.real.value:.3f} of {a.real.n} real{where}"
            lines.append(Line("agreement ratio", name, str(a.ratio), beside, str(a.ratio.n)))
        if self.agreement_mean:
            mean = self.agreement_mean
            lines.append(Line("agreement ratio", "mean", str(mean), f"{mean.n} of 6 basic ones"))
        for name, a in self.agreement.items():
            curve = " ".join(f"{p:.2f}" for p in a.curve)
            steps = ", ".join(f"{i:g}" for i in INTENSITIES)
            word = "rises" if a.rises else "DOES NOT RISE"
            beside = f"{word}; intensity {steps}"
            lines.append(Line("probability", name, curve, beside, str(a.recall.n)))
        for name, a in self.agreement.items():
            if (e := a.reference_recall) is not None:
                lines.append(Line("real recall elsewhere", name, str(e), self.reference, str(e.n)))
        for name, a in self.agreement.items():
            if a.other_recall is not None:
                n = str(a.other_recall.n)
                made = f"made of {a.other_sources}"
                lines.append(Line("recall", name, str(a.other_recall), made, n))
        return lines

    def _identity_lines(self) -> list[Line]:
        found = self.identity
        if found is None:
            return []
        lines = [
            Line("cosine to the source", name, str(e), n=str(e.n)) for name, e in found.kept.items()
        ]
        for word, values in (("same person", found.same), ("different people", found.different)):
            if values:
                text = f"{values[3]:.3f} [{values[1]:.3f}, {values[5]:.3f}]"
                lines.append(Line("real pairs", word, text, "median and where 90 % lie"))
        for name, e in [*found.verified.items(), ("all", found.verified_all)]:
            lines.append(Line("verified", name, str(e), n=str(e.n)))
        if found.real_verified:
            real = found.real_verified
            lines.append(
                Line("verified", "real", str(real), "photographs of one person", str(real.n))
            )
        where = f"1 % of {found.different_pairs:,} pairs of different people pass"
        if found.threshold_from == "encoder":
            where = "the encoder's own: too few different people here"
        lines.append(Line("verified", "threshold", f"{found.threshold:.3f}", where))
        return lines

    def _stratum_lines(self) -> list[Line]:
        made = sum(self.faces.values())
        asked = made + sum(self.lost.values())
        reasons = ", ".join(f"{n} {why}" for why, n in self.lost.items()) or "none lost"
        lines = [Line("processed", "", f"{made / asked:.3f}", reasons, str(asked))]
        for name, s in self.subgroups.items():
            beside = f"verified {s.verified}" if s.verified else ""
            lines.append(Line("seen as the target", name, str(s.recall), beside, str(s.sources)))
        return lines

    def _fidelity_lines(self) -> list[Line]:
        lines = []
        for word in ("ssim", "psnr"):
            for name, p in self.paired.items():
                own, copy, gain = (getattr(p, k) for k in (word, f"copy_{word}", f"{word}_gain"))
                title = {"ssim": "SSIM", "psnr": "PSNR in dB"}[word]
                beside = f"copying {copy.value:.3f}, gain {gain}"
                lines.append(Line(title, name, str(own), beside, str(own.n)))
        for name, f in self.frechet.items():
            where = "" if f.real_from == self.data else f" {f.real_from}"
            beside = f"copying {f.sources}, to {f.real} real{where}"
            lines.append(Line("Fréchet distance", name, str(f.made), beside, str(f.made.n)))
        return lines

    def _other_lines(self) -> list[Line]:
        lines = []
        if self.use:
            where = "" if self.use.real_from == self.data else f"; real from {self.use.real_from}"
            classes = ", ".join(self.use.expressions) + where
            for word, e in (
                ("GAN-train", self.use.gan_train),
                ("GAN-test", self.use.gan_test),
                ("real to real", self.use.real),
            ):
                lines.append(Line("balanced accuracy", word, str(e), classes, str(e.n)))
        if self.untouched:
            u = self.untouched
            text = f"{u.share:.6f}" if u.share < 1 else "1"
            lines.append(Line("untouched", "", text, f"{u.pixels:,} pixels", f"{u.images}"))
        if self.speed:
            s = self.speed
            where = f"{s.image_size} px, {s.device}, {s.threads} thread(s), {s.batch_size} a pass"
            first = f"new faces {s.first_faces_per_second:,.0f}; {where}"
            lines.append(Line("speed", "", f"{s.faces_per_second:,.0f} faces/s", first))
            lines.append(Line("size", "", f"{s.parameters:,} parameters", f"{s.bytes:,} bytes"))
        return lines


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
