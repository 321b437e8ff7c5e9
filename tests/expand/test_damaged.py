"""A set in which everything that can be wrong with a file is wrong, through `expand` and `warm`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crop_augmenter import MeanFaceDetector
from PIL import Image
from torchvision.datasets import ImageFolder

from expraug.expand import expand
from expraug.faces.detect import create_detector
from expraug.pipeline import ExpressionAugmenter

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
from expanded_sets import contents, write_faces

from recipes.stress.damage import KINDS, damaged_files

DAMAGED = {
    "truncated.jpg": "unreadable_image",
    "empty.png": "unreadable_image",
    "text.png": "unreadable_image",
    "one pixel.png": "unreadable_image",
    "landscape.jpg": "no_face",
    "huge.png": "image_too_large",
}
"""What the damaged set holds that cannot be expanded, and why."""

SOUND = {
    "two.jpg": ("RGB", 2),
    "cmyk.jpg": ("RGB", 1),
    "grey16.png": ("L", 1),
    "Zoë Ångström (été).jpg": ("RGB", 1),
}
"""What it holds that can: mode of the expanded face, and how many faces there are."""


@pytest.fixture
def damaged_set(tmp_path: Path, neutral: list[Path]) -> Path:
    folder = tmp_path / "damaged" / "neutral"
    (tmp_path / "damaged" / "happy").mkdir(parents=True)
    folder.mkdir()
    face = Image.open(neutral[0]).convert("RGB")
    whole = neutral[0].read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not an image\n")
    Image.new("RGB", (1, 1)).save(folder / "one pixel.png")
    landscape().save(folder / "landscape.jpg")
    Image.new("P", (12_000, 12_000)).save(folder / "huge.png")
    two_faces(neutral).save(folder / "two.jpg", quality=95)
    face.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    grey = np.asarray(face.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "grey16.png")
    face.save(folder / "Zoë Ångström (été).jpg", quality=95)
    return folder.parent


def landscape() -> Image.Image:
    """A sky over hills."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:300, :400]
    ground = y > 180 + 30 * np.sin(x / 60) + 12 * np.sin(x / 17)
    sky = np.stack([90 + y / 3, 130 + y / 3, 230 - y / 6], axis=-1)
    grass = np.array([60, 110, 40]) + generator.normal(0, 12, (300, 400, 1))
    return Image.fromarray(np.where(ground[..., None], grass, sky).clip(0, 255).astype(np.uint8))


def two_faces(people: list[Path]) -> Image.Image:
    """A larger face on the right, a smaller one on the left."""
    picture = Image.new("RGB", (448, 256), (180, 180, 180))
    picture.paste(Image.open(people[1]).convert("RGB").resize((160, 160)), (16, 60))
    picture.paste(Image.open(people[0]).convert("RGB").resize((256, 256)), (192, 0))
    return picture


def test_expand(damaged_set: Path, tmp_path: Path, smile: str) -> None:
    report = expand(
        damaged_set,
        tmp_path / "out",
        synthesizer=smile,
        gate=None,
        with_originals=True,
        alignment="detect",
    )
    rows = {Path(r["source"]).name: r for r in pq.read_table(report.manifest).to_pylist()}
    assert rows.keys() == DAMAGED.keys() | SOUND.keys()
    assert {name: rows[name]["reason"] for name in DAMAGED} == DAMAGED
    for name in DAMAGED:
        assert rows[name]["status"] == "skipped"
        assert rows[name]["file"] is None
        assert rows[name]["message"]
        assert str(tmp_path) not in rows[name]["message"]
        assert len(rows[name]["source_digest"]) == 64
    for name, (mode, faces) in SOUND.items():
        assert rows[name]["status"] == "made"
        assert rows[name]["faces"] == faces
        assert rows[name]["file"] == f"happy/{Path(name).stem}__pixel_1.00_0.png"
        with Image.open(report.folder / rows[name]["file"]) as image:
            assert image.mode == mode
    assert report.made == len(SOUND)
    assert report.several == {"neutral": 1}
    # one image in ten without a face is no sign of a wrong alignment
    assert not any("alignment" in note for note in report.notes)
    assert sum(report.skipped.values()) == len(DAMAGED)
    originals = {path.name for path in (report.folder / "neutral").iterdir()}
    assert originals == {*SOUND, "landscape.jpg"}  # what can be read
    assert not list(report.folder.rglob("*.tmp"))


def test_of_two_faces_the_larger_changes(neutral: list[Path], tmp_path: Path, smile: str) -> None:
    folder = tmp_path / "set" / "neutral"
    folder.mkdir(parents=True)
    two_faces(neutral).save(folder / "two.png")
    options: dict[str, Any] = {"gate": None, "alignment": "detect", "targets": ["happy"]}
    with pytest.warns(UserWarning, match="no class for happy"):
        report = expand(tmp_path / "set", tmp_path / "out", synthesizer=smile, **options)
    assert report.several == {"neutral": 1}
    assert any("1 of 1 images hold several faces" in note for note in report.notes)
    (row,) = pq.read_table(report.manifest).to_pylist()
    source = np.asarray(Image.open(folder / "two.png"))
    made = np.asarray(Image.open(report.folder / row["file"]))
    changed = (made != source).any(axis=(0, 2))
    assert changed[192:].any()
    assert not changed[:192].any()


def test_limit_can_be_lowered(small_set: Path, tmp_path: Path) -> None:
    report = expand(small_set, tmp_path / "out", gate=None, max_pixels=100 * 100)
    assert report.skipped == {"image_too_large": 4}


def test_limit_on_file_size_can_be_lowered(small_set: Path, tmp_path: Path) -> None:
    size = (small_set / "neutral" / "bob.jpg").stat().st_size
    report = expand(small_set, tmp_path / "out", gate=None, alignment="crop", max_bytes=size - 1)
    rows = {r["source"]: r for r in pq.read_table(report.manifest).to_pylist()}
    row = rows["neutral/bob.jpg"]
    assert (row["reason"], row["source_digest"]) == ("image_too_large", None)
    assert "raise max_bytes" in row["message"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("write", ["folder", "parquet"])
def test_any_damage_among_good_faces(tmp_path: Path, smile: str, write: Any) -> None:
    options: dict[str, Any] = {"synthesizer": smile, "gate": None, "check_landmarks": False}
    options |= {"alignment": MeanFaceDetector()}
    options |= {"chunk_size": 16, "write": write}
    source = write_faces(tmp_path / "set", 20, side=48)
    good = expand(source, tmp_path / "good", **options)
    names = damaged_files(source, 20 * len(KINDS))
    mixed = expand(source, tmp_path / "mixed", **options)
    rows = {r["source"]: r for r in pq.read_table(mixed.manifest).to_pylist()}
    assert set(names) < set(rows)
    assert len(rows) == 20 + len(names)
    for name in names:
        assert rows[name]["file"] or (rows[name]["reason"] and rows[name]["message"])
    listed = [name for name in names if rows[name]["reason"]]
    assert len(names) / 3 < len(listed) < len(names)  # odd modes can be read, most else cannot
    if write == "folder":
        faces = {n: d for n, d in contents(good.folder).items() if "/" in n}
        assert len(faces) == 20
        assert faces.items() <= contents(mixed.folder).items()


def test_parquet_of_rubbish(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    header = b"\x89PNG\r\n\x1a\n"
    rows = [
        {
            "image": {"bytes": header[: i % 9] + generator.bytes(50 * i), "path": f"{i}.png"},
            "label": "neutral",
        }
        for i in range(50)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set.parquet")
    digests = set()
    for run in "ab":
        report = expand(tmp_path / "set.parquet", tmp_path / run, gate=None)
        assert report.skipped == {"unreadable_image": 50}
        digests.add(report.manifest.read_bytes())
    assert len(digests) == 1  # messages hold no memory addresses


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_warm(damaged_set: Path, tmp_path: Path, smile: str) -> None:
    # torchvision's own loader makes 16-bit grey white
    dataset = ImageFolder(str(damaged_set), loader=Image.open, allow_empty=True)
    names = [Path(path).name for path, _ in dataset.samples]
    augmenter = ExpressionAugmenter(
        smile, alignment=create_detector("detect"), cache=tmp_path / "cache", intensity=(1.0, 1.0)
    )
    report = augmenter.warm(dataset, dataset.classes, progress=False)
    assert {names[i]: reason for i, reason, _ in report.failures} == DAMAGED
    assert all(message for _, _, message in report.failures)
    assert report.made == len(SOUND)
    again = augmenter.warm(dataset, dataset.classes, progress=False)
    assert (again.made, again.cached) == (0, len(SOUND))
