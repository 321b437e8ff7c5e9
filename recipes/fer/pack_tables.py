"""Pack everything that the tables need into a small folder that travels to a machine with a GPU.

    python -m recipes.fer.pack_tables DATA --out .gpu/tables

LFW and the London faces are packed beside FER2013, people apart, where DATA has them. Images, real
and synthetic, are all coded alike (WebP, grey, quality 90), so that no net can tell
them by their coding.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from PIL import Image

from expraug.expressions import Expression
from expraug.gate import ExpressionGate
from recipes.fer.folds import LFW, LONDON, SIDE, FaceSet, validation_mask
from recipes.fer.synthetics import Synthetics, clear_rows
from recipes.real_faces import FER2013, FILES, SETS, Faces
from recipes.real_faces import LFW as LFW_FILE
from recipes.real_faces import LONDON as LONDON_FILE

QUALITY = 90
_COLUMNS, _ROWS = 200, 50
_LABELS = "labels.npz"


@dataclass(frozen=True)
class Pack:
    """The real faces of a packed folder.

    Args:
        train, test: FER2013's training and validation files.
        validation: (N,) bool, which training faces validate.
        clear: (N,) bool, which training faces can be sources.
        least: (8,) float, for each `Expression` the least probability of it by the embedded FER
            classifier with which a face passes `gate="natural"`.
    """

    train: FaceSet
    test: FaceSet
    validation: np.ndarray
    clear: np.ndarray
    least: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> Pack:
        """Read what `pack` wrote.

        Raises:
            FileNotFoundError: no such folder.
        """
        with np.load(folder / _LABELS) as saved:
            train, test = (
                FaceSet(
                    read_images(folder, name, len(saved[f"{name}_fer2013"])),
                    saved[f"{name}_fer2013"],
                    saved[f"{name}_ferplus"],
                    saved[f"{name}_duplicate"],
                )
                for name in ("train", "test")
            )
            return cls(train, test, saved["validation"], saved["clear"], saved["least"])

    def save(self, folder: Path) -> None:
        """Write the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        saved = {"validation": self.validation, "clear": self.clear, "least": self.least}
        for name, faces in (("train", self.train), ("test", self.test)):
            write_images(folder, name, faces.pixels)
            labels = {"fer2013": faces.fer2013, "ferplus": faces.ferplus}
            saved |= {f"{name}_{k}": v for k, v in labels.items()}
            saved[f"{name}_duplicate"] = faces.duplicate
        np.savez_compressed(folder / _LABELS, **saved)  # type: ignore[arg-type]


def write_images(folder: Path, name: str, pixels: np.ndarray) -> None:
    """Write (N, 48, 48) uint8 faces as sheets NAME-0.webp and so on."""
    for number, first in enumerate(range(0, len(pixels), _COLUMNS * _ROWS)):
        part = pixels[first : first + _COLUMNS * _ROWS]
        rows = -(-len(part) // _COLUMNS)
        sheet = np.zeros((rows * _COLUMNS, SIDE, SIDE), np.uint8)
        sheet[: len(part)] = part
        flat = sheet.reshape(rows, _COLUMNS, SIDE, SIDE).transpose(0, 2, 1, 3)
        image = Image.fromarray(flat.reshape(rows * SIDE, _COLUMNS * SIDE))
        image.save(folder / f"{name}-{number}.webp", quality=QUALITY)


def read_images(folder: Path, name: str, count: int) -> np.ndarray:
    """Return the (count, 48, 48) uint8 faces that `write_images` wrote."""
    parts = [np.empty((0, SIDE, SIDE), np.uint8)]
    for number in range(-(-count // (_COLUMNS * _ROWS))):
        with Image.open(folder / f"{name}-{number}.webp") as image:
            flat = np.asarray(image.convert("L"))
        tiles = flat.reshape(-1, SIDE, _COLUMNS, SIDE).transpose(0, 2, 1, 3)
        parts.append(tiles.reshape(-1, SIDE, SIDE))
    return np.concatenate(parts)[:count]


def pack_synthetics(file: Path, out: Path) -> None:
    """Write what `recipes.fer.make_synthetics` saved as sheets, and the rest as a small .npz."""
    made = Synthetics.load(file)
    write_images(out, file.stem, made.pixels)
    rest = {name: value for name, value in vars(made).items() if name != "pixels"}
    np.savez_compressed(out / f"{file.stem}.npz", **rest)


def load_synthetics(folder: Path, name: str) -> Synthetics | None:
    """Return packed synthetics, as "ferplus-transfer", or None where the folder has none."""
    file = folder / f"{name}.npz"
    if not file.is_file():
        return None
    with np.load(file) as saved:
        rest = dict(saved)
    if "pixels" not in rest:
        rest["pixels"] = read_images(folder, name, len(rest["target"]))
    return Synthetics(**{k: v for k, v in rest.items() if k != "done"})


def pack(data: Path, real_faces: Path, out: Path, synthetics: Path | None = None) -> None:
    """Write the folder.

    Args:
        data: folder with fer2013/train.parquet and fer2013/validation.parquet.
        real_faces: folder of `python -m recipes.real_faces`.
        out: the folder to write; sheets and labels that it held are deleted.
        synthetics: folder of `python -m recipes.fer.make_synthetics`, if made already.
    """
    for old in (*out.glob("*.webp"), *out.glob("*.npz")):
        old.unlink()
    train, test = (FaceSet.read(data / file) for file in FILES[FER2013])
    known = Faces.load(real_faces / f"{SETS[FER2013]}-train.npz")
    clear = np.zeros(len(train.pixels), bool)
    clear[clear_rows(known)] = True
    Pack(train, test, validation_mask(train.pixels), clear, _least()).save(out)
    for name, origin in ((LFW, LFW_FILE), (LONDON, LONDON_FILE)):
        faces = real_faces / f"{SETS[origin]}-train.npz"
        if faces.is_file() and (data / FILES[origin][0]).is_file():
            pack_people(Faces.load(faces), data / FILES[origin][0], origin == LFW_FILE, out / name)
    for file in sorted(synthetics.glob("*.npz")) if synthetics else ():
        pack_synthetics(file, out)


def pack_people(faces: Faces, file: Path, whole: bool, out: Path) -> None:
    """Write a set whose people are known: test people in test, the others in train.

    Args:
        faces: found in the file's images.
        file: .parquet with the column image.
        whole: whether an image is cut about as FER2013 cuts; else the aligned face stands for it.
        out: folder of the set.
    """
    opened: Iterator[Image.Image]
    if whole:
        images = pq.read_table(file, columns=["image"])["image"].to_pylist()
        opened = (Image.open(io.BytesIO(images[int(row)]["bytes"])) for row in faces.row)
    else:
        opened = (Image.fromarray(face[0]) for face in faces.grey().numpy())
    small = (image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) for image in opened)
    pixels = np.stack([np.asarray(image) for image in small])
    labels = faces.expression.astype(np.int64)
    test = faces.split == "test"
    clear = np.isin(faces.row, clear_rows(faces))
    others, tested = (
        FaceSet(pixels[m], labels[m], labels[m], np.zeros(m.sum(), bool)) for m in (~test, test)
    )
    Pack(others, tested, faces.split[~test] == "validation", clear[~test], _least()).save(out)


def _least() -> np.ndarray:
    thresholds = ExpressionGate().thresholds
    return np.array([thresholds.get(e, 0.0) for e in Expression])


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    real_faces: Path = Path("work/real_faces"),
    synthetics: Annotated[
        Path | None, typer.Option(help="Of recipes.fer.make_synthetics; none yet: leave it out.")
    ] = None,
    out: Path = Path(".gpu/tables"),
) -> None:
    pack(data, real_faces, out, synthetics)
    total = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
