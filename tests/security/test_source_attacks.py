"""A source set that somebody else has named and filled, through `expand` and what it writes."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import sys
import threading
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from torchvision.datasets import ImageFolder

from expraug.expand import Report, expand
from expraug.review import review

sys.path.insert(0, str(Path(__file__).parents[1] / "expand"))
from expanded_sets import FACES

OPTIONS: dict[str, Any] = {"synthesizer": "pixel", "gate": None, "check_landmarks": False}

FILE_NAMES = [
    "<script>alert(1)<",
    "--help",
    "$(touch owned)",
    "`touch owned`",
    "a\nb: c",
    "...",
    "..\\..\\up",
    "%2e%2e%2fup",
    "con",
    "x" * 240,
    "{{7*7}} %s %(x)s {0}",
    "\u202egnp.exe",
    "🙂" * 30,
    "a'b\"c",
]
CLASS_NAMES = [
    "happy",
    "neutral",
    "<img src=x onerror=alert(1)>",
    "a: b # c",
    "- x",
    "!!binary [id]",
    "| cell |",
    "null",
    "&a",
    "$(SHELL touch owned)",
]
SCHEME = {name: name if name in ("happy", "neutral") else None for name in CLASS_NAMES}


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims these sides."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    """A PNG whose comment is 60 kB and would be 60 MB."""
    whole = png_of(8, 8)
    text = b"Comment\0\0" + zlib.compress(b"\0" * (60 << 20), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    return whole[:33] + chunk + struct.pack(">I", zlib.crc32(b"zTXt" + text)) + whole[33:]


def tiff_loop() -> bytes:
    """A TIFF whose directory of pictures leads back to itself."""
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)


class Payload:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


BOMBS = {
    "sides.png": png_of(60_000, 60_000),
    "line.png": png_of(2**31 - 1, 1),
    "text.png": text_bomb(),
    "loop.tif": tiff_loop(),
    "pickle.png": pickle.dumps(Payload()),
    "code.jpg": b"#!/bin/sh\ntouch owned\n",
    "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "ps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(owned) (w) file\n",
    "nul.bmp": b"BM" + b"\0" * 4000,
    "xpm.ppm": b"P6 99999999 99999999 255\n",
    "gif.webp": b"RIFF\xff\xff\xff\x7fWEBPVP8X" + b"\xff" * 64,
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The set, expanded, in a folder of its own; the test hangs on nothing but fails instead."""
    root = tmp_path_factory.mktemp("hostile")
    faces = sorted((FACES / "neutral").iterdir())
    for name in CLASS_NAMES:
        (root / "set" / name).mkdir(parents=True)
        shutil.copy(faces[0], root / "set" / name)
    for number, name in enumerate(FILE_NAMES):
        shutil.copy(faces[number % 10], root / "set" / "neutral" / f"{name}.jpg")
    shutil.copy(faces[3], os.fsencode(root / "set" / "neutral") + b"/\xff\xfe.jpg")
    for name, data in BOMBS.items():
        (root / "set" / "neutral" / name).write_bytes(data)
    (root / "secret.png").write_bytes(faces[1].read_bytes())
    (root / "secret").mkdir()
    shutil.copy(faces[2], root / "secret" / "private.jpg")
    (root / "set" / "neutral" / "folder").symlink_to(root / "secret")
    (root / "set" / "neutral" / "endless.png").symlink_to("/dev/zero")
    (root / "set" / "neutral" / "itself.png").symlink_to("itself.png")
    (root / "set" / "neutral" / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "set" / "neutral" / "pipe.png")
    found: list[Report] = []
    here = os.getcwd()
    os.chdir(root)  # where "touch owned" would leave its mark

    def work() -> None:
        found.append(expand("set", "out", scheme=SCHEME, with_originals=True, **OPTIONS))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(200)
    os.chdir(here)
    assert found, "it hangs, or has failed"
    return root, found[0]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "manifest.pq").to_pylist()


def test_every_file_is_listed_and_nothing_else_is_touched(hostile: tuple[Path, Report]) -> None:
    root, report = hostile
    names = {path.name for path in root.iterdir()}
    assert names == {"set", "out", "secret", "secret.png"}
    rows = rows_of(root / "out")
    listed = {row["source"] for row in rows}
    files = [os.fsencode(p.relative_to(root / "set")) for p in (root / "set").rglob("*")]
    wanted = {n.decode("utf-8", "replace").replace("\ufffd", "?") for n in files if b"." in n}
    images = (".jpg", ".png", ".tif", ".bmp", ".ppm", ".webp")
    assert {n for n in wanted if n.endswith(images)} == listed
    damaged = {row["source"].split("/")[1]: row for row in rows if row["source_class"] == "neutral"}
    for name in [*BOMBS, "endless.png", "itself.png", "gone.png", "pipe.png"]:
        assert damaged[name]["status"] == "skipped", name
        assert damaged[name]["reason"] in ("unreadable_image", "image_too_large"), name
        assert str(root) not in damaged[name]["message"]
    assert report.made == len(FILE_NAMES) + 2 + 1  # of each face, with or without a name


def test_all_that_is_written_lies_in_class_folders(hostile: tuple[Path, Report]) -> None:
    root, _ = hostile
    out = root / "out"
    folders = [path for path in out.iterdir() if path.is_dir()]
    assert len(folders) == len(CLASS_NAMES)
    for path in out.rglob("*"):
        assert not path.is_symlink()
        assert len(path.relative_to(out).parts) <= 2
        assert path.is_dir() or path.parent == out or path.suffix in (".png", ".jpg")
        assert all(c.isprintable() and c not in '/\\:*?"<>|' for c in path.name), path.name
    classes = (out / "classes.txt").read_text().splitlines()
    assert sorted(classes) == sorted(folder.name for folder in folders)
    assert len(ImageFolder(str(out), allow_empty=True).classes) == len(CLASS_NAMES)
    for row in rows_of(out):
        if row["file"]:
            with Image.open(out / row["file"]) as image:
                assert np.asarray(image).std() > 10


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def test_the_card_is_yaml_and_text(hostile: tuple[Path, Report]) -> None:
    root, _ = hostile
    _, header, body = (root / "out" / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(header)
    (config,) = card["configs"]
    names = next(f for f in config["features"] if f["name"] == "label")["dtype"]["class_label"]
    folders = {path.name for path in (root / "out").iterdir() if path.is_dir()}
    assert set(names["names"].values()) == folders
    assert "<img" not in body
    assert "<script" not in body
    cells = [line.count(" | ") for line in body.splitlines() if line.startswith("| ")]
    assert set(cells[: len(CLASS_NAMES) - 3]) == {4}


def test_pages_hold_no_foreign_tag(hostile: tuple[Path, Report]) -> None:
    root, _ = hostile
    review(root / "out", root / "page.html", source=root / "set")
    for page in (root / "out" / "contact_sheet.html", root / "page.html"):
        tags = Tags()
        tags.feed(page.read_text())
        kinds = {tag for tag, _ in tags.found}
        assert kinds <= {
            "html",
            "meta",
            "title",
            "style",
            "header",
            "h1",
            "noscript",
            "script",
            "img",
        }
        assert not [a for _, attributes in tags.found for a in attributes if a.startswith("on")]
    (root / "page.html").unlink()
