"""Sets of real faces for the tests of `expand`, and what an expanded set holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crop_augmenter import unchecked
from PIL import Image, ImageOps

FACES = Path(__file__).parents[2] / "examples" / "faces"

QUICK: dict[str, Any] = {"synthesizer": "pixel", "gate": None} | unchecked()
"""Options of `expand` with which faces are made in no time, and none is refused."""


def write_faces(folder: Path, count: int, side: int = 64) -> Path:
    """Write an ImageFolder of the bundled faces, small; mirrored and cut after the first 20."""
    paths = sorted(FACES.glob("*/*.jpg"))
    for number in range(count):
        path = paths[number % len(paths)]
        face = Image.open(path).convert("RGB")
        lap = number // len(paths)
        if lap % 2:
            face = ImageOps.mirror(face)
        face = face.crop((2 * lap, 2 * lap, 256 - 2 * lap, 256 - 2 * lap)).resize((side, side))
        out = folder / path.parent.name / f"{number:04d}.jpg"
        out.parent.mkdir(parents=True, exist_ok=True)
        face.save(out, quality=92)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, by its path in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
