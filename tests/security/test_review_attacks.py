"""An expanded set that somebody else has made, looked at with `review`."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expraug.expand import SCHEMA
from expraug.review import review, show
from expraug.review.page import ReviewError

FACE = Path(__file__).parents[2] / "examples" / "faces" / "happy" / "london_022.jpg"


def write_manifest(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    base = dict.fromkeys(SCHEMA.names) | {"source_class": "neutral", "synthesizer": "transfer"}
    base |= {"fingerprint": "t", "target": "happy", "intensity": 1.0, "variant": 0, "reason": ""}
    table = pa.Table.from_pylist([base | {"source": "a.jpg"} | row for row in rows], SCHEMA)
    pq.write_table(table, folder / "manifest.pq")


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text()
    start = text.index('id="data">') + len('id="data">')
    found: dict[str, Any] = json.loads(text[start : text.index("</script>", start)])
    return found


OUTSIDE = [
    "../secret.jpg",
    "happy/../../secret.jpg",
    "/etc/hostname",
    "happy/link.jpg",
    "folder/secret.jpg",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "https://example.org/a.jpg",
    "//example.org/a.jpg",
    "happy/\0.jpg",
    "happy/" + "x" * 5000,
    "",
]


@pytest.mark.parametrize("embed", [False, True])
def test_a_manifest_shows_nothing_from_elsewhere(tmp_path: Path, embed: bool) -> None:
    shutil.copy(FACE, tmp_path / "secret.jpg")
    (tmp_path / "out" / "happy").mkdir(parents=True)
    (tmp_path / "out" / "happy" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "out" / "folder").symlink_to(tmp_path)
    shutil.copy(FACE, tmp_path / "out" / "happy" / "mine.jpg")
    rows = [{"file": name, "source": name, "source_class": ".."} for name in OUTSIDE]
    write_manifest(tmp_path / "out", [*rows, {"file": "happy/mine.jpg"}])
    assert review(tmp_path / "out", embed=embed) == len(OUTSIDE) + 1
    data = data_of(tmp_path / "out" / "review.html")
    pictures = [row[7] for row in data["rows"] if row[7]]
    assert len(pictures) == 1
    assert pictures[0].startswith("data:image/jpeg" if embed else "happy/mine.jpg")
    assert not [source for source in data["sources"] if source[2]]


def test_a_tar_file_of_other_things(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "data").mkdir(parents=True)
    shutil.copy(FACE, tmp_path / "secret.jpg")
    with tarfile.open(folder / "data" / "synthetic-000000.tar", "w") as tar:

        def add(name: str, data: bytes = b"", **about: Any) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in about.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))

        add("s0.jpg", type=tarfile.SYMTYPE, linkname=str(tmp_path / "secret.jpg"))
        add("s0.json", b'{"synthetic": true}')
        add("../../s1.jpg", FACE.read_bytes())
        add("../../s1.json", b'{"synthetic": true}')
        add("s2.jpg", b"\x89PNG no picture")
        add("s2.json", b'{"synthetic": true}')
        add("s3.jpg", FACE.read_bytes())
        add("s3.json", b"[1]")
        add("s4.jpg", FACE.read_bytes())
        add("s4.json", b'{"synthetic": true, "source": {"a": 1}}')
        add("s5.jpg", type=tarfile.FIFOTYPE)
        add("s6.jpg", FACE.read_bytes())
        add("s6.json", b"{" * 50_000)
    names = [f"s{i}.jpg" for i in range(7)]
    rows = [{"file": f"data/synthetic-000000.tar/{name}"} for name in names]
    write_manifest(folder, rows)
    review(folder)
    shown = [bool(row[7]) for row in data_of(folder / "review.html")["rows"]]
    assert shown == [name == "s4.jpg" for name in names]
    assert {p.name for p in tmp_path.iterdir()} == {"out", "secret.jpg"}  # nothing was unpacked


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 90 + b"PAR1", b"\0" * 9999])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "out"
    write_manifest(folder, [{"file": "data/faces-000000.parquet/a.png"}])
    (folder / "data").mkdir()
    for name in ("faces-000000.parquet", "synthetic-000000.tar"):
        (folder / "data" / name).write_bytes(content)
    assert review(folder) == 1
    (folder / "manifest.pq").write_bytes(content)
    with pytest.raises(ReviewError, match=r"manifest\.pq"):
        review(folder)


def test_a_table_that_is_no_manifest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"target": ["happy"], "file": [1]}), tmp_path / "manifest.pq")
    for look in (review, show):
        with pytest.raises(ReviewError, match="no manifest"):
            look(tmp_path)


def test_captions_in_a_notebook_are_text(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    name = "<img src=x onerror=alert(1)>"
    (folder / "happy").mkdir(parents=True)
    shutil.copy(FACE, folder / "happy" / "mine.jpg")
    write_manifest(folder, [{"file": "happy/mine.jpg", "source": name, "target": name}])
    page = show(folder)._repr_html_()
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") >= 2
