"""Published data sets at the front doors: transforms, `warm`, `expand`, damage of any kind."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from crop_augmenter import crop_augmenter, unchecked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2
from typer.testing import CliRunner

from expraug.cli import app
from expraug.datasets import open_dataset
from expraug.datasets.readers import LayoutError
from expraug.datasets.source import IMAGE_SUFFIXES
from expraug.evaluate.face_set import collect
from expraug.expand import DestinationError, SourceError, expand
from expraug.faces.detect import CropDetector
from expraug.transforms.torchvision import RandomExpression


def test_a_joint_transform_changes_image_and_label_together(tree_of, smile):
    tree = tree_of("rafdb")
    change = RandomExpression("raf-db", synthesizer=smile, p=1.0, **unchecked())
    plain = open_dataset("raf-db", tree.root, split="train")
    changed = open_dataset("raf-db", tree.root, split="train", transforms=change)
    torch.manual_seed(0)
    index = plain.targets.index(plain.class_to_idx["neutral"])
    image, label = changed[index]
    assert changed.classes[label] == "happiness"
    assert not np.array_equal(np.array(image), np.array(plain[index][0]))


def test_transforms_may_be_given_or_assigned_later(tree_of):
    tree = tree_of("rafdb")
    given_ = open_dataset(
        "raf-db", tree.root, transform=v2.Grayscale(), target_transform=lambda label: -label
    )
    assert given_[3][0].mode == "L"
    assert given_[3][1] == -3
    assigned = open_dataset("raf-db", tree.root, transforms=lambda image, label: (image, label + 1))
    assigned.transform = v2.Resize((20, 20))  # as timm's loaders do
    image, label = assigned[3]
    assert image.size == (20, 20)
    assert label == 4
    with pytest.raises(ValueError, match="Only transforms or transform"):
        open_dataset("raf-db", tree.root, transform=str, transforms=str)


def test_warm_takes_a_data_set_and_counts_its_damage(own, tmp_path, smile):
    root = own("ckplus").root
    dataset = open_dataset("ck+", root, split="all")
    dataset.items[0].file.write_bytes(b"")
    augmenter = crop_augmenter(smile, cache=tmp_path / "cache")
    report = augmenter.warm(dataset, dataset.scheme, progress=False)
    # 6 neutral faces smile, one happy face goes back, at each of 3 intensities
    assert report.made == 7 * 3
    assert [(index, reason) for index, reason, _ in report.failures] == [(0, "unreadable_image")]


@pytest.mark.parametrize(
    # one face of each of six other expressions smiles; in KDEF, in three sessions from two angles
    ("layout", "faces"),
    [("rafdb", 6), ("expw", 6), ("fer2013-csv", 6), ("kdef", 36)],
)
def test_expand_takes_a_set_by_name(tree_of, tmp_path, layout, faces):
    tree = tree_of(layout)
    split = "train" if layout in ("rafdb", "fer2013-csv") else "all"
    report = expand(
        f"{tree.name}:{split}:{tree.root}",
        tmp_path / "out",
        synthesizer="pixel",
        targets=["happy"],
        alignment="crop",
        gate=None,
        with_originals=True,
    )
    dataset = open_dataset(tree.name, tree.root, split=split)
    assert report.made == faces
    classes = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert classes <= set(dataset.classes)
    copied = {path.stem: path for path in (tmp_path / "out").glob("*/*") if "__" not in path.stem}
    for index, item in enumerate(dataset.items):
        face = dataset[index][0]
        with Image.open(copied[item.stem]) as image:
            assert np.array_equal(np.array(image.convert(dataset.mode)), np.array(face))
        assert copied[item.stem].parent.name == item.class_name
    rows = pq.read_table(report.manifest).to_pylist()
    assert {row["source"] for row in rows} <= {item.origin for item in dataset.items}


def test_expand_guards_the_folder_of_a_named_set(tree_of, tmp_path):
    tree = tree_of("rafdb")
    with pytest.raises(DestinationError, match="lies in the source set"):
        expand(f"raf-db:{tree.root}", tree.root / "out", gate=None)
    with pytest.raises(SourceError, match="RAF-DB is expected as its owners distribute it"):
        expand(f"raf-db:{tmp_path}", tmp_path / "out", gate=None)


def test_the_command_line_takes_a_set_by_name_and_shows_its_layout(tree_of, tmp_path):
    root, out = tree_of("kdef").root, tmp_path / "out"
    arguments = [
        "--targets",
        "happy",
        "--alignment",
        "crop",
        "--gate",
        "none",
        "--synthesizer",
        "pixel",
    ]
    done = CliRunner().invoke(app, ["expand", f"kdef:test:{root}", str(out), *arguments])
    wrong = CliRunner().invoke(app, ["expand", f"raf-db:{root}", str(out), *arguments])
    assert done.exit_code == 0
    assert (
        len(list((out / "HA").iterdir())) == 6 * 2
    )  # other expressions, angles of the one person in test
    assert wrong.exit_code == 1
    assert "\n  Image/aligned/train_00001_aligned.jpg\n" in wrong.output


def test_evaluate_takes_people_of_a_named_set(tree_of):
    tree = tree_of("kdef")
    found = collect([f"kdef:{tree.root}"], CropDetector(), 48, split="all")
    assert found.named
    assert set(found.people) == {"F01", "M08"}
    assert len(found) == 42


FILES = {
    "rafdb": "EmoLabel/list_patition_label.txt",
    "expw": "label/label.lst",
    "fer2013-csv": "fer2013.csv",
    "fer2013-parquet": "train.parquet",
    "ferplus-csv": "fer2013new.csv",
    "affectnet-npy": "train_set/annotations/0_exp.npy",
    "affectnet-csv": "Manually_Annotated_file_lists/training.csv",
    "ckplus": "Emotion/S005/001/S005_001_00000004_emotion.txt",
}


@pytest.mark.parametrize("layout", FILES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_damage_to_a_list_is_an_unexplained_crash(own, tmp_path, layout, data):
    root = tmp_path / layout
    if not root.exists():
        own(layout)
        (tmp_path / "whole").write_bytes((root / FILES[layout]).read_bytes())
    whole = (tmp_path / "whole").read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 200)))
    noise = data.draw(st.binary(max_size=40))
    rest = whole[end:] if data.draw(st.booleans()) else b""
    (root / FILES[layout]).write_bytes(whole[:start] + noise + rest)
    name = layout.split("-")[0]
    with suppress(LayoutError):  # which tells what is wrong
        dataset = open_dataset(name, root, split="all", missing="skip")
        assert len(dataset) + len(dataset.skipped) > 0


def test_image_suffixes_are_those_of_torchvision():
    assert IMAGE_SUFFIXES == IMG_EXTENSIONS
