"""What is particular to one data set."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
from dataset_trees import FER, SAMPLES, fer2013_csv, save
from PIL import Image
from torchvision import datasets as torchvision_datasets

from expraug import LabelScheme
from expraug.datasets.readers import (
    FER2013,
    JAFFE,
    KDEF,
    MUG,
    RAFDB,
    AffectNet,
    CKPlus,
    ExpW,
    FERPlus,
    LayoutError,
    OuluCASIA,
    RaFD,
    Skipped,
)
from expraug.datasets.readers.ferplus import majority, shares
from expraug.errors import UnreadableImageError


@pytest.fixture
def torchvision_tree(tmp_path, monkeypatch):
    """FER2013's folder as torchvision wants it; its digest is that of the full file."""
    (tmp_path / "fer2013").mkdir()
    fer2013_csv(tmp_path / "fer2013")
    resources = {"fer": ("fer2013.csv", None), "test": ("test.csv", None)}
    resources |= {"train": ("train.csv", None), "icml": ("icml_face_data.csv", None)}
    monkeypatch.setattr(torchvision_datasets.FER2013, "_RESOURCES", resources)
    return tmp_path


def test_fer2013_equals_torchvisions_class(torchvision_tree):
    theirs = torchvision_datasets.FER2013(torchvision_tree, "train")
    ours = FER2013(torchvision_tree, "train")
    assert len(ours) == len(theirs) == 7
    for (image, label), (expected, target) in zip(ours, theirs, strict=True):
        assert label == target
        assert np.array_equal(np.array(image), np.array(expected))


def test_fer2013_takes_an_instance_of_torchvisions_class(torchvision_tree):
    theirs = torchvision_datasets.FER2013(torchvision_tree, "test", transform=lambda image: None)
    ours = FER2013(theirs)
    assert [ours.classes[label] for _, label in ours] == [*FER, *FER]
    assert {item.split for item in ours.items} == {"test"}
    assert np.array_equal(np.array(ours[3][0]), theirs._samples[3][0].numpy())
    unlabelled = torchvision_tree / "fer2013"
    shutil.copy(unlabelled / "fer2013.csv", unlabelled / "train.csv")
    shutil.copy(unlabelled / "fer2013.csv", unlabelled / "test.csv")
    (unlabelled / "fer2013.csv").unlink()
    with pytest.raises(LayoutError, match=r"no labelled face in it \(21 no_annotation\)"):
        FER2013(torchvision_datasets.FER2013(torchvision_tree, "test"))


def test_fer2013_takes_a_file_and_folders_by_number(tmp_path):
    fer2013_csv(tmp_path)
    assert len(FER2013(tmp_path / "fer2013.csv", "test")) == 7
    for label in range(7):
        save(tmp_path / "folders" / "train" / str(label) / "a.png", label)
    save(tmp_path / "folders" / "train" / "bored" / "a.png", 0)
    numbered = FER2013(tmp_path / "folders", "train")
    assert numbered.targets == list(range(7))
    assert numbered.skipped == [Skipped("train/bored/a.png", "stray_file")]


def test_fer2013_of_full_size_has_its_counts(shared):
    train = FER2013(shared / "data" / "fer2013", "train")
    # of the challenge's 28,709 and 3,589 images, those whose original pixels are known
    assert len(train) == 28131
    counts = np.bincount(train.targets)
    assert counts.tolist() == [3937, 428, 4001, 7071, 4738, 3077, 4879]
    assert train[0][0].size == (48, 48)
    assert len(FER2013(shared / "data" / "fer2013" / "validation.parquet", "validation")) == 3541


def test_fer2013_skips_damaged_rows_and_counts_them(tmp_path):
    good = " ".join(["7"] * 2304)
    rows = [(3, good, "Training"), (9, good, "Training"), ("x", good, "Training")]
    rows += [(3, good[:-1] + "x", "Training"), (3, "1 2", "Training"), (3,), ()]
    rows += [(3, good[:-1] + "256", "Training"), (4, good, "Training")]
    with open(tmp_path / "fer2013.csv", "w", newline="") as file:
        csv.writer(file).writerows([("emotion", "pixels", "Usage"), *rows])
    dataset = FER2013(tmp_path)
    assert dataset.targets == [3, 4]
    assert {skipped.reason for skipped in dataset.skipped} == {"damaged_annotation"}
    assert [skipped.origin for skipped in dataset.skipped] == [f"row {i}" for i in range(1, 8)]
    assert "Skipped: 7 damaged_annotation" in repr(dataset)


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([10, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([6, 4, 0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], None),  # no one has more than half
        ([5, 1, 1, 1, 1, 1, 0, 0, 0, 0], 0),  # single votes do not count
        ([4, 3, 3, 0, 0, 0, 0, 0, 0, 0], None),
        ([4, 2, 1, 1, 1, 1, 0, 0, 0, 0], 0),
        ([0, 0, 0, 0, 0, 0, 0, 2, 8, 0], 8),  # unknown
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], None),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], 9),  # no face
    ],
)
def test_ferplus_majority_is_the_authors(votes, winner):
    assert majority(votes) == winner


def test_ferplus_gives_soft_labels(tree_of):
    tree = tree_of("ferplus-csv")
    hard, soft = FERPlus(tree.root, "all"), FERPlus(tree.root, "all", soft_labels=True)
    _, target = soft[0]
    assert target.tolist() == pytest.approx([0.8, 0.2, 0, 0, 0, 0, 0, 0])
    assert target.dtype == torch.float32
    for index in range(len(hard)):
        assert int(soft[index][1].argmax()) == hard[index][1]
        assert float(soft[index][1].sum()) == pytest.approx(1)
    assert hard.to_hf()[0]["votes"] == pytest.approx(target.tolist())
    assert sum(skipped.reason == "no_expression" for skipped in hard.skipped) == 4
    assert shares([4, 2, 1, 0, 0, 0, 0, 0]) == pytest.approx((2 / 3, 1 / 3, 0, 0, 0, 0, 0, 0))


def test_ferplus_refuses_votes_of_other_rows(own):
    root = own("ferplus-csv").root
    lines = (root / "fer2013.csv").read_text().splitlines()
    (root / "fer2013.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(LayoutError, match="row 20 is the first that differs"):
        FERPlus(root)
    (root / "fer2013.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    with pytest.raises(LayoutError, match="row 0 is the first that differs"):
        FERPlus(root)
    (root / "fer2013.csv").unlink()
    with pytest.raises(LayoutError, match=r"neither fer2013\.csv nor folders"):
        FERPlus(root)


def test_rafdb_counts_the_files_that_are_missing(own):
    root = own("rafdb").root
    for number in (2, 5):
        (root / "Image" / "aligned" / f"train_{number:05d}_aligned.jpg").unlink()
    message = r"2 of the 14 files .* missing: Image/aligned/train_00002_aligned.jpg, .*05_aligned"
    with pytest.raises(LayoutError, match=message):
        RAFDB(root, "test")
    kept = RAFDB(root, "train", missing="skip")
    assert kept.targets == [0, 2, 3, 5, 6]
    assert [skipped.reason for skipped in kept.skipped] == ["missing_file"] * 2
    shutil.rmtree(root / "Image" / "aligned")
    (root / "Image" / "aligned").mkdir()
    with pytest.raises(LayoutError, match="14 of the 14 files"):
        RAFDB(root, missing="skip")


def test_rafdb_skips_damaged_lines(own):
    root = own("rafdb").root
    listed = root / "EmoLabel" / "list_patition_label.txt"
    lines = ["train_00001.jpg 1", "train_00002.jpg 8", "train_00003.jpg", "other.jpg 1", "", "é 1"]
    listed.write_text("\n".join(lines), encoding="latin-1")
    dataset = RAFDB(root)
    assert dataset.targets == [0]
    assert [skipped.origin.split()[-1] for skipped in dataset.skipped] == ["2", "3", "4", "6"]


def test_affectnet_cuts_the_face_out_or_not(tree_of):
    root = tree_of("affectnet-csv").root
    face, whole = AffectNet(root), AffectNet(root, crop=False)
    assert face[0][0].size == (40, 44)
    assert whole[0][0].size == (64, 64)
    assert np.array_equal(np.array(face[0][0]), np.array(whole[0][0].crop((8, 12, 48, 56))))
    assert [s.reason for s in face.skipped] == ["no_expression"] * 3  # 8, 9 and 10


@pytest.mark.parametrize("layout", ["affectnet-npy", "affectnet-csv"])
def test_affectnet_with_seven_classes_leaves_contempt_out(tree_of, layout):
    seven = AffectNet(tree_of(layout).root, "validation", num_classes=7)
    assert seven.scheme == LabelScheme.named("affectnet-7")
    assert seven.targets == list(range(7))


def test_affectnet_reads_numbers_of_any_type_and_skips_damaged_ones(own):
    root = own("affectnet-npy").root / "train_set"
    np.save(root / "annotations" / "0_exp.npy", np.array(1))
    np.save(root / "annotations" / "1_exp.npy", np.array([2.0]))
    (root / "annotations" / "2_exp.npy").write_bytes(b"")
    (root / "annotations" / "3_exp.npy").write_bytes(b"\x93NUMPY\x01")
    np.save(root / "annotations" / "4_exp.npy", np.array({"a": 1}))  # pickled: refused
    (root / "annotations" / "5_exp.npy").unlink()
    dataset = AffectNet(root.parent)
    assert dataset.targets == [1, 2, 6, 7]
    reasons = [skipped.reason for skipped in dataset.skipped]
    assert reasons == ["damaged_annotation"] * 3 + ["no_annotation"]


def test_affectnet_without_box_gives_the_whole_image(own):
    root = own("affectnet-csv").root
    listed = root / "Manually_Annotated_file_lists" / "training.csv"
    text = listed.read_text().replace("0/train0.jpg,8,12,40,44", "0/train0.jpg,NULL,NULL,NULL,NULL")
    listed.write_text(text.replace("1/train1.jpg,8,12,40,44", "1/train1.jpg,500,500,40,44"))
    dataset = AffectNet(root)
    assert dataset[0][0].size == (64, 64)
    with pytest.raises(UnreadableImageError, match="lies outside the 64x64 image"):
        dataset[1]
    with pytest.warns(UserWarning, match="1 of 8 images are damaged and left out"):
        assert len(dataset.to_hf()) == 7


def test_expw_gives_each_face_of_a_photograph(tree_of):
    dataset = ExpW(tree_of("expw").root)
    assert dataset[0][0].size == (56, 40)
    first, second = (dataset.items[i] for i in (0, 7))
    assert first.file == second.file
    assert (first.origin, second.origin) == (
        "image/origin/angry actor_0.jpg#0",
        "image/origin/angry actor_0.jpg#1",
    )
    assert dataset[7][0].size == (30, 30)
    assert ExpW(tree_of("expw").root, crop=False)[7][0].size == (64, 64)
    with pytest.raises(ValueError, match="no official split and does not say who is who"):
        ExpW(tree_of("expw").root, "train")


def test_expw_skips_damaged_lines(own):
    root = own("expw").root
    listed = root / "label" / "label.lst"
    whole = listed.read_text()
    listed.write_text("x\na.jpg 0 1 2\na.jpg 0 50 4 60 10 1 2\na.jpg 0 1 1 9 9 1 7\n" + whole)
    dataset = ExpW(root)
    assert len(dataset) == 8
    damaged = [f"label.lst line {number}" for number in range(1, 5)]
    assert [skipped.origin for skipped in dataset.skipped] == damaged


def test_ckplus_clips_run_from_neutral_to_apex(tree_of):
    dataset = CKPlus(tree_of("ckplus").root, "all")
    assert len(dataset.clips) == 7
    clip = dataset.clips[0]
    frames = clip.read()
    assert frames.shape == (4, 64, 64, 3)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames[0], np.array(dataset[0][0]))
    assert np.array_equal(frames[-1], np.array(dataset[1][0]))
    assert [path.name[-5] for path in clip.frames] == list("1234")
    assert dataset.scheme.expression(dataset[0][1]) == 0
    assert clip.class_name == dataset.items[1].class_name == "anger"
    assert "Clips: 7" in repr(dataset)


def test_ckplus_says_which_sequence_is_missing(own):
    root = own("ckplus").root
    (folder,) = (root / "cohn-kanade-images").glob("*/003")
    shutil.rmtree(folder)
    emotion = next((root / "Emotion").glob("*/004/*"))
    emotion.write_text("damaged")
    with pytest.raises(LayoutError, match=f"missing: cohn-kanade-images/{folder.parent.name}/003"):
        CKPlus(root)
    kept = CKPlus(root, "all", missing="skip")
    assert len(kept.clips) == 5
    assert sorted(s.reason for s in kept.skipped) == ["damaged_annotation", "missing_file"]


def test_a_clip_of_frames_of_several_sizes_says_so(own):
    root = own("ckplus").root
    clip = CKPlus(root, "all").clips[0]
    Image.open(SAMPLES[0]).resize((50, 50)).save(clip.frames[2])
    with pytest.raises(UnreadableImageError, match=clip.frames[2].name):
        clip.read()


def test_jaffe_and_kdef_skip_stray_images(own):
    jaffe = own("jaffe").root
    save(jaffe / "jaffe" / "montage.jpg", 0)
    (jaffe / "jaffe" / "._KA.AN1.39.tiff").write_bytes(b"\0")
    assert JAFFE(jaffe, "all").skipped == [Skipped("jaffe/montage.jpg", "stray_file")]
    kdef = KDEF(own("kdef").root, "all")
    assert kdef.skipped == [Skipped("AKDEF/average_happy.jpg", "stray_file")]


def test_kdef_sessions_are_one_person_and_angles_can_be_chosen(tree_of):
    root = tree_of("kdef").root
    assert {*KDEF(root, "all").identities} == {"F01", "M08"}
    straight = KDEF(root, "all", angles=("S",))
    assert len(straight) == 21
    assert all(item.stem.endswith("S") for item in straight.items)
    with pytest.raises(ValueError, match="angles are FL, HL, S, HR, FR, not XX"):
        KDEF(root, angles=("XX",))


def test_rafd_cameras_can_be_chosen(tree_of):
    root = tree_of("rafd").root
    frontal = RaFD(root, "all", angles=(90,))
    assert len(frontal) == 16
    assert all("Rafd090" in item.stem for item in frontal.items)
    with pytest.raises(ValueError, match="angles are"):
        RaFD(root, angles=(30,))


def test_oulu_casia_has_two_spectra_and_three_lightings(own):
    root = own("oulu-casia").root
    save(root / "B_OriginalImg" / "NI" / "Dark" / "P001" / "Anger" / "000.jpeg", 0)
    dark = OuluCASIA(root, "all", spectrum="NI", lighting="Dark")
    assert [item.class_name for item in dark.items] == ["Anger"]  # one frame is the apex
    with pytest.raises(LayoutError, match="no folder VL/Weak"):
        OuluCASIA(root, lighting="Weak")
    with pytest.raises(ValueError, match="spectrum is VL or NI"):
        OuluCASIA(root, spectrum="UV")
    (root / "B_OriginalImg" / "VL").rename(root / "B_OriginalImg" / "VL_Acropped")
    assert len(OuluCASIA(root, "all").clips) == 18


def test_mug_takes_the_middle_of_a_clip(tree_of):
    dataset = MUG(tree_of("mug").root, "all")
    assert len(dataset.clips) == 21
    for clip in dataset.clips:
        assert len(clip) == 5
        stills = [item.file for item in clip.faces("neutral")]
        apex = [clip.frames[0], clip.frames[2]]
        assert stills == (apex[1:] if clip.class_name == "neutral" else apex)
    assert "002_session0_anger_take000" in {clip.stem for clip in dataset.clips}
