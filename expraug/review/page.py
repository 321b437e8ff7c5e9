"""One page that shows an expanded set: each synthetic face beside its source, to be accepted or
rejected."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
from expraug.review.component import Faces, page_of
from expraug.review.pictures import SetPictures, SourcePictures

_COLUMNS = (
    "file", "source", "source_class", "synthesizer", "fingerprint", "target", "intensity",
    "variant", "status", "reason", "message", "score_identity",
)  # fmt: skip
SCORE = "gate score"
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
    faces = Faces([SCORE], decide=True)
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
            _add(faces, row, made, sources)
    write_file(page, page_of(folders[0].resolve().name, faces).encode())
    return len(faces.rows)


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


def _add(
    faces: Faces, row: dict[str, Any], made: SetPictures, sources: SourcePictures | None
) -> None:
    """Add a row of a manifest."""
    named = row["source"], row["source_class"]
    number, known = faces.source(*named)
    if not known:  # not shown yet, or copied along only here
        shown = sources(named[0]) if sources else None
        faces.sources[number][2] = shown or made.original(*named)
    if row["reason"]:
        faces.messages[row["reason"]] = row["message"] or row["reason"]
    faces.add(
        number,
        (row["synthesizer"], row["fingerprint"]),
        row["target"],
        made.synthetic(row["file"]) if row["file"] else None,
        intensity=row["intensity"],
        variant=row["variant"],
        reason=row["reason"],
        scores={SCORE: row["score_identity"]},
    )
