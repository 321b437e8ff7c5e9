"""The page of faces: each synthetic one beside its source, to be filtered and looked at.

`expraug review` shows an expanded set with it, `expraug evaluate` the faces behind its figures.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any


@dataclass
class Faces:
    """What the page shows, with each name once. Pictures are links or data URIs.

    Args:
        scores: names of the figures that each face may have.
        decide: whether faces can be accepted and rejected, and the list of these exported.
        messages: what each reason of refusal means.
    """

    scores: Sequence[str]
    decide: bool = False
    messages: dict[str, str] = field(default_factory=dict)
    sources: list[list[str | None]] = field(default_factory=list)
    makers: list[list[str]] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    _source: dict[tuple[str, str], int] = field(default_factory=dict)
    _maker: dict[tuple[str, str], int] = field(default_factory=dict)

    def source(self, name: str, shows: str) -> tuple[int, bool]:
        """Return the number of a source of this name, and whether its picture is known."""
        key = name, shows
        if key not in self._source:
            self._source[key] = len(self.sources)
            self.sources.append([*key, None])
        number = self._source[key]
        return number, self.sources[number][2] is not None

    def add(
        self,
        source: int,
        maker: tuple[str, str],
        target: str,
        picture: str | None,
        *,
        intensity: float | None = None,
        variant: int | None = None,
        reason: str = "",
        scores: Mapping[str, float | None],
    ) -> None:
        """Add a face.

        Args:
            source: its number.
            maker: name and fingerprint of the synthesizer.
            target: what it was to show.
            picture: None where there is none.
            intensity, variant: as asked; None: all alike.
            reason: why it is refused; "" where it is not.
            scores: its figures by name.
        """
        if maker not in self._maker:
            self._maker[maker] = len(self.makers)
            self.makers.append(list(maker))
        values = [_rounded(scores.get(name)) for name in self.scores]
        number = self._maker[maker]
        self.rows.append([source, number, target, intensity, variant, reason, values, picture])


def _rounded(score: float | None) -> float | None:
    return None if score is None or not math.isfinite(score) else round(score, 3)


def page_of(title: str, faces: Faces, *, above: str = "", heading: str = "review") -> str:
    """Return the page.

    Args:
        title: of what is shown.
        faces: that are shown.
        above: HTML that stands over them, with everything in it escaped; no scripts, no styles.
        heading: what the page is, for the browser's title.
    """
    text = _as_script(
        {
            "scores": list(faces.scores),
            "decide": faces.decide,
            "sources": faces.sources,
            "makers": faces.makers,
            "messages": faces.messages,
            "rows": faces.rows,
        }
    )
    style, script = (_file(f"page.{kind}") for kind in ("css", "js"))
    # names are other people's: whatever they hold, no other script runs
    policy = (
        f"default-src 'none'; img-src 'self' file: data: blob:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}"
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}: {escape(heading)}</title><style>{style}</style>",
            f'<section id="above">{above}</section>' if above else "",
            f'<header id="faces"><h1>{escape(title)}</h1></header>',
            "<noscript>This page needs JavaScript.</noscript>",
            f'<script type="application/json" id="data">{text}</script>',
            f"<script>{script}</script></html>\n",
        ]
    )


def _as_script(value: Any) -> str:
    """Return JSON that may stand in a script element: no "<" ends it or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").encode("utf-8", "replace").decode()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _file(name: str) -> str:
    return (files("expraug.review") / name).read_text(encoding="utf-8")
