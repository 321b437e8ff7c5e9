"""Small data sets of the sample faces, laid out as the real ones are.

Each function builds one below a folder and returns the images it should give, in any order:
(expression, identity or None, split or None).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from expraug import LabelScheme

SAMPLES = sorted((Path(__file__).parents[3] / "examples" / "faces").glob("*/*.jpg"))

Expected = list[tuple[str, str | None, str | None]]


class Tree(NamedTuple):
    """A layout, the name of the data set, its folder, and the images that it should give."""

    layout: str
    name: str
    root: Path
    expected: Expected


def sample(index: int, side: int = 64) -> Image.Image:
    """A sample face; each index gives other pixels."""
    return Image.open(SAMPLES[index % len(SAMPLES)]).resize((side, side + index // len(SAMPLES)))


def grey(index: int) -> np.ndarray:
    return np.asarray(sample(index, 48).convert("L").resize((48, 48)))


def save(path: Path, index: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sample(index).convert(mode).save(path)


FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


def fer_rows() -> list[tuple[int, str, str]]:
    """Emotion, pixels, usage: one face an emotion in each part."""
    rows = [(i % 7, list(USAGES)[i // 7]) for i in range(21)]
    return [(e, " ".join(map(str, grey(i).ravel())), u) for i, (e, u) in enumerate(rows)]


def fer2013_csv(root: Path) -> Expected:
    rows = fer_rows()
    with open(root / "fer2013.csv", "w", newline="") as file:
        csv.writer(file).writerows([("emotion", "pixels", "Usage"), *rows])
    return [(FER[emotion], None, USAGES[usage]) for emotion, _, usage in rows]


def fer2013_icml(root: Path) -> Expected:
    rows = fer_rows()
    (root / "fer2013").mkdir()
    with open(root / "fer2013" / "icml_face_data.csv", "w", newline="") as file:
        table = [("emotion", " Usage", " pixels"), *((e, u, p) for e, p, u in rows)]
        csv.writer(file).writerows(table)
    return [(FER[emotion], None, USAGES[usage]) for emotion, _, usage in rows]


def fer2013_folders(root: Path) -> Expected:
    expected: Expected = []
    for part in ("train", "test"):
        for i, name in enumerate(FER):
            save(root / part / name / f"{part}_{i}.jpg", i, "L")
            expected.append((name, None, part))
    return expected


def fer2013_parquet(root: Path) -> Expected:
    expected: Expected = []
    for part in ("train", "validation"):
        files = [io.BytesIO() for _ in FER]
        for i, file in enumerate(files):
            Image.fromarray(grey(i)).save(file, "JPEG")
        images = [{"bytes": file.getvalue(), "path": None} for file in files]
        table = pa.table({"image": images, "expression": list(FER)})
        pq.write_table(table, root / f"{part}.parquet")
        expected += [(name, None, part) for name in FER]
    return expected


FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")


def ferplus_csv(root: Path) -> Expected:
    fer2013_csv(root)
    expected: Expected = []
    with open(root / "fer2013new.csv", "w", newline="") as file:
        table = csv.writer(file)
        names = [*LabelScheme.named("fer+").classes.values(), "unknown", "NF"]
        table.writerow(["Usage", "Image name", *names])
        for i in range(21):
            votes = [0] * 10
            votes[i % 10] = 8
            votes[(i + 1) % 10] = 2
            usage = list(USAGES)[i // 7]
            table.writerow([usage, f"fer{i:07d}.png" if i % 10 != 9 else "", *votes])
            if i % 10 < 8:
                expected.append((FERPLUS[i % 10], None, USAGES[usage]))
    return expected


def ferplus_images(root: Path) -> Expected:
    expected = ferplus_csv(root)
    (root / "fer2013.csv").unlink()
    folders = ("FER2013Train", "FER2013Valid", "FER2013Test")
    for i in range(21):
        path = root / "data" / folders[i // 7] / f"fer{i:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey(i)).save(path)
    return expected


def rafdb(root: Path) -> Expected:
    classes = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
    expected: Expected = []
    lines = []
    for part in ("train", "test"):
        for i, name in enumerate(classes):
            stem = f"{part}_{i + 1:05d}" if part == "train" else f"{part}_{i + 1:04d}"
            save(root / "Image" / "aligned" / f"{stem}_aligned.jpg", i)
            lines.append(f"{stem}.jpg {i + 1}")
            expected.append((name, None, part))
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n")
    return expected


AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")


def affectnet_npy(root: Path) -> Expected:
    expected: Expected = []
    for folder, split in (("train_set", "train"), ("val_set", "validation")):
        (root / folder / "annotations").mkdir(parents=True)
        for i, name in enumerate(AFFECTNET):
            save(root / folder / "images" / f"{i}.jpg", i)
            for kind, value in (("exp", str(i)), ("val", "-0.1"), ("aro", "0.2")):
                np.save(root / folder / "annotations" / f"{i}_{kind}.npy", np.array(value))
            expected.append((name, None, split))
    return expected


def affectnet_csv(root: Path) -> Expected:
    lists = root / "Manually_Annotated_file_lists"
    lists.mkdir()
    names = "subDirectory_filePath face_x face_y face_width face_height facial_landmarks"
    header = [*names.split(), "expression", "valence", "arousal"]
    expected: Expected = []
    for file, split in (("training.csv", "train"), ("validation.csv", "validation")):
        rows = []
        for label in range(11):
            path = f"{label}/{split}{label}.jpg"
            save(root / "Manually_Annotated_Images" / path, label)
            rows.append([path, 8, 12, 40, 44, "1.0;2.0", label, -0.1, 0.2])
            if label < 8:
                expected.append((AFFECTNET[label], None, split))
        with open(lists / file, "w", newline="") as stream:  # validation.csv without header
            csv.writer(stream).writerows([header, *rows] if split == "train" else rows)
    return expected


def expw(root: Path) -> Expected:
    lines, expected = [], []
    for i, name in enumerate(FER):
        save(root / "image" / "origin" / f"{name} actor_{i}.jpg", i)
        lines.append(f"{name} actor_{i}.jpg 0 10 4 60 50 22.9362 {i}")
        expected.append((name, None, None))
    lines.append("angry actor_0.jpg 1 0 0 30 30 11.2 3")
    expected.append(("happy", None, None))
    (root / "label").mkdir()
    (root / "label" / "label.lst").write_text("\n".join(lines) + "\n")
    return expected


def ckplus(root: Path) -> Expected:
    emotions = ("angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
    expected: Expected = []
    for i, name in enumerate(emotions):
        person, sequence = f"S{i % 3 + 5:03d}", f"{i + 1:03d}"
        stem = f"{person}_{sequence}"
        for frame in range(4):
            path = root / "cohn-kanade-images" / person / sequence / f"{stem}_{frame + 1:08d}.png"
            save(path, i + frame)
        (path.parent / ".DS_Store").write_bytes(b"\0")
        folder = root / "Emotion" / person / sequence
        folder.mkdir(parents=True)
        (folder / f"{stem}_00000004_emotion.txt").write_text(f"   {i + 1:.7e}\n")
        expected += [("neutral", person, None), (name, person, None)]
    save(root / "cohn-kanade-images" / "S010" / "001" / "S010_001_00000001.png", 0)
    (root / "Emotion" / "S010" / "001").mkdir(parents=True)  # a sequence without emotion
    return expected


CODES = {"AN": "angry", "DI": "disgust", "HA": "happy", "NE": "neutral", "SA": "sad"}
CODES |= {"SU": "surprise"}


def jaffe(root: Path) -> Expected:
    expected: Expected = []
    for person in ("KA", "KL", "KM", "UY"):
        for i, (code, name) in enumerate({**CODES, "FE": "fear"}.items()):
            save(root / "jaffe" / f"{person}.{code}{i % 3 + 1}.{39 + i}.tiff", i, "L")
            expected.append((name, person, None))
    (root / "jaffe" / "README").write_text("about")
    return expected


def kdef(root: Path) -> Expected:
    expected: Expected = []
    for i, session in enumerate(("AF01", "BF01", "AM08")):
        for code, name in {**CODES, "AF": "fear"}.items():
            for angle in ("S", "FL"):
                save(root / "KDEF" / session / f"{session}{code}{angle}.JPG", i)
                expected.append((name, session[1:], None))
    save(root / "AKDEF" / "average_happy.jpg", 0)
    return expected


def rafd(root: Path) -> Expected:
    words = {"contemptuous": "contempt", "disgusted": "disgust", "fearful": "fear"}
    words |= {"surprised": "surprise"} | {w: w for w in ("angry", "happy", "neutral", "sad")}
    expected: Expected = []
    for i, (person, kind) in enumerate((("01", "Caucasian_female"), ("73", "Moroccan_male"))):
        for word, name in words.items():
            for angle in ("090", "045"):
                save(root / f"Rafd{angle}_{person}_{kind}_{word}_frontal.jpg", i)
                expected.append((name, person, None))
    return expected


def oulu_casia(root: Path) -> Expected:
    words = {"Anger": "angry", "Disgust": "disgust", "Fear": "fear", "Happiness": "happy"}
    words |= {"Sadness": "sad", "Surprise": "surprise"}
    expected: Expected = []
    for i, person in enumerate(("P001", "P004", "P010")):
        for word, name in words.items():
            for frame in range(3):
                folder = root / "B_OriginalImg" / "VL" / "Strong" / person / word
                save(folder / f"{frame:03d}.jpeg", i + frame)
            expected += [("neutral", person, None), (name, person, None)]
    return expected


def mug(root: Path) -> Expected:
    words = {"anger": "angry", "disgust": "disgust", "fear": "fear", "happiness": "happy"}
    words |= {"sadness": "sad", "surprise": "surprise"}
    expected: Expected = []
    for i, person in enumerate(("001", "002", "007")):
        base = root / "subjects3" / person / ("session0" if person == "002" else "")
        for word in (*words, "neutral"):
            for frame in range(5):
                save(base / word / "take000" / f"img_{frame:04d}.jpg", i + frame)
            (base / word / "take000" / "clip.avi").write_bytes(b"RIFF")
            still = (words.get(word, "neutral"), person, None)
            expected += [still] if word == "neutral" else [("neutral", person, None), still]
    return expected


TREES: dict[str, tuple[str, Callable[[Path], Expected]]] = {
    "fer2013-csv": ("fer2013", fer2013_csv),
    "fer2013-icml": ("fer2013", fer2013_icml),
    "fer2013-folders": ("fer2013", fer2013_folders),
    "fer2013-parquet": ("fer2013", fer2013_parquet),
    "ferplus-csv": ("fer+", ferplus_csv),
    "ferplus-images": ("fer+", ferplus_images),
    "rafdb": ("raf-db", rafdb),
    "affectnet-npy": ("affectnet", affectnet_npy),
    "affectnet-csv": ("affectnet", affectnet_csv),
    "expw": ("expw", expw),
    "ckplus": ("ck+", ckplus),
    "jaffe": ("jaffe", jaffe),
    "kdef": ("kdef", kdef),
    "rafd": ("rafd", rafd),
    "oulu-casia": ("oulu-casia", oulu_casia),
    "mug": ("mug", mug),
}
"""Data set's name and builder, by layout."""

ONE_FILE = ("fer2013-csv", "fer2013-icml", "fer2013-parquet", "ferplus-csv")
"""Layouts that keep all images in one file."""
