"""One page that shows an expanded set: each synthetic face beside its source, to be judged."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from expraug.errors import ExpraugError
from expraug.expand.checks import open_face_set
from expraug.expand.layout import MANIFEST, REVIEW
from expraug.expand.manifest import SCHEMA, read_tables
from expraug.expressions import Expression
from expraug.faces.image_file import write_file
from expraug.review.pictures import SetPictures, SourcePictures

_COLUMNS = (
    "file", "source", "source_class", "synthesizer", "fingerprint", "target", "intensity",
    "variant", "status", "reason", "message", "score_identity",
)  # fmt: skip
_TEXT = ("source", "source_class", "synthesizer", "fingerprint", "reason")


class ReviewError(ExpraugError, ValueError):
    """A folder that holds no complete expanded set."""

    reason = "review"


def review(
    sets: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    source: str | os.PathLike[str] | None = None,
    shows: Expression | str | None = None,
    embed: bool = False,
) -> int:
    """Write one HTML page that shows the faces of expanded sets, each beside its source.

    The page needs no network and no other program than a browser. Faces are filtered by class,
    source class, synthesizer, gate score and reason of refusal, and accepted or rejected with a
    key. It exports a list of the rejected ones for `expand --exclude` and for
    `ExpressionAugmentedDataset(exclude=)`.

    Faces that lie in class folders are linked, so that the page belongs where it is written;
    those in tar or parquet files are put into it, as thumbnails.

    Args:
        sets: folder of an expanded set, or several of the same source set.
        out: the page; None: `review.html` in the first of them.
        source: the source set, as `expand` took it; without it, sources are shown only where the
            originals were copied along.
        shows: what all sources show, of a source set without classes.
        embed: put all pictures into the page, as thumbnails, so that it can be passed on alone.

    Returns:
        The number of synthetic faces and refusals shown.

    Raises:
        ReviewError: a folder holds no complete expanded set.
        SourceError: no such source set.
        OSError: the page cannot be written.
    """
    folders, page = _folders(sets), review_page(sets, out)
    sources = None
    if source is not None:
        sources = SourcePictures(open_face_set(source, shows), page, embed)
    data = _Data()
    for folder in folders:
        rows = list(manifest_rows(folder))
        made = SetPictures(
            folder,
            page,
            embed,
            [row["file"] for row in rows if row["file"]],
            [row["source"] for row in rows],
        )
        for row in rows:
            data.add(row, made, sources)
    write_file(page, _html(folders[0].resolve().name, data).encode())
    return len(data.rows)


def review_page(
    sets: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
) -> Path:
    """Return where `review` writes its page; raises ReviewError if no folder is given."""
    folders = _folders(sets)
    if not folders:
        raise ReviewError("give the folder of an expanded set")
    return folders[0] / REVIEW if out is None else Path(out)


def _folders(
    sets: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[Path]:
    return [Path(f) for f in ([sets] if isinstance(sets, (str, os.PathLike)) else sets)]


def manifest_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a manifest that name a synthetic face, made or refused.

    Raises:
        ReviewError: there is none, or it is damaged.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise ReviewError(
            f"{folder} holds no complete expanded set (no {MANIFEST}); make one with `expraug "
            f"expand`, or run the same command again if it was interrupted"
        )
    try:
        types = pq.read_schema(manifest)
        wrong = [n for n in _COLUMNS if n not in types.names or _type(types, n) != _type(SCHEMA, n)]
        if wrong:
            raise ValueError(f"no column {', '.join(wrong)}, or of another type")
        for table in read_tables(manifest, _COLUMNS):
            for row in table.to_pylist():
                if row["target"] is not None:
                    yield {k: "" if v is None and k in _TEXT else v for k, v in row.items()}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ReviewError(f"{manifest} is damaged, or no manifest ({error})") from error


def _type(schema: pa.Schema, name: str) -> pa.DataType:
    return schema.field(name).type


class _Data:
    """What the page knows, with each name once."""

    def __init__(self) -> None:
        self.sources: list[list[str | None]] = []
        self.makers: list[list[str]] = []
        self.messages: dict[str, str] = {}
        self.rows: list[list[Any]] = []
        self._source: dict[tuple[str, str], int] = {}
        self._maker: dict[tuple[str, str], int] = {}

    def add(self, row: dict[str, Any], made: SetPictures, sources: SourcePictures | None) -> None:
        """Add a row of a manifest."""
        named = row["source"], row["source_class"]
        if named not in self._source:
            self._source[named] = len(self.sources)
            shown = sources(named[0]) if sources else None
            self.sources.append([*named, shown or made.original(*named)])
        elif self.sources[self._source[named]][2] is None:  # copied along in another set
            self.sources[self._source[named]][2] = made.original(*named)
        maker = row["synthesizer"], row["fingerprint"]
        if maker not in self._maker:
            self._maker[maker] = len(self.makers)
            self.makers.append(list(maker))
        if row["reason"]:
            self.messages[row["reason"]] = row["message"] or row["reason"]
        score = row["score_identity"]
        self.rows.append(
            [
                self._source[named],
                self._maker[maker],
                row["target"],
                row["intensity"],
                row["variant"],
                row["reason"],
                None if score is None or not math.isfinite(score) else round(score, 3),
                row["file"] and made.synthetic(row["file"]),
            ]
        )


def _html(title: str, data: _Data) -> str:
    shown = {"sources": data.sources, "makers": data.makers}
    text = _as_script({**shown, "messages": data.messages, "rows": data.rows})
    style, script = (_file(f"page.{kind}") for kind in ("css", "js"))
    # names in the set are other people's: whatever they hold, no other script runs
    policy = (
        f"default-src 'none'; img-src 'self' file: data: blob:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}"
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}: review</title><style>{style}</style>",
            f"<header><h1>{escape(title)}</h1></header>",
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
