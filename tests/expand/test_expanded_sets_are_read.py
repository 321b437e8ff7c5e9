"""torchvision, timm and `datasets` give an expanded set the class indices of its source."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torchvision.datasets import ImageFolder

from expraug.expand import Report, expand
from expraug.expand.layout import WORK

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import FACES, QUICK, contents, write_faces

OPTIONS: dict[str, Any] = QUICK | {"chunk_size": 8}
CLASSES = ["angry", "happy", "neutral"]
CASES = [(write, copy) for write in ("folder", "webdataset", "parquet") for copy in (False, True)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder of 24 faces in three classes, with folders in one of them."""
    root = write_faces(tmp_path_factory.mktemp("source") / "set", 20)
    (root / "angry").mkdir()
    for i in range(4):
        (root / "angry" / f"{i}.jpg").write_bytes((root / "neutral" / "0010.jpg").read_bytes())
    (root / "neutral" / "deep").mkdir()
    (root / "neutral" / "0011.jpg").rename(root / "neutral" / "deep" / "0011.jpg")
    assert ImageFolder(str(root)).classes == CLASSES
    return root


@pytest.fixture(scope="module")
def expanded(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Report]:
    root = tmp_path_factory.mktemp("expanded")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {
            (write, copy): expand(
                source, root / f"{write}{copy}", write=write, with_originals=copy, **OPTIONS
            )
            for write, copy in CASES
        }


def counts_of(report: Report) -> dict[int, int]:
    """Return how many faces each class index of the source set should have."""
    there = {i: report.synthetic[c] + report.originals[c] for i, c in enumerate(CLASSES)}
    assert all(there.values())
    assert sum(there.values()) == report.made + sum(report.originals.values())
    return there


def load(*names: str, **given: Any) -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(*names, split="train", **given)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return {"cache_dir": str(tmp_path / "cache")}


@pytest.mark.parametrize("copy", [False, True])
def test_folders(expanded: dict[Any, Report], copy: bool, cache: dict[str, str]) -> None:
    report = expanded["folder", copy]
    dest, wanted = str(report.folder), dict(enumerate(CLASSES))
    folder = ImageFolder(dest)
    assert folder.classes == CLASSES
    assert Counter(folder.targets) == counts_of(report)
    timm_data = pytest.importorskip("timm.data")
    for name in ("", "folder"):
        reader = timm_data.create_dataset(name, dest).reader
        assert reader.class_to_idx == folder.class_to_idx
        assert Counter(label for _, label in reader.samples) == counts_of(report)
    for loaded in (load("imagefolder", data_dir=dest, **cache), load(dest, **cache)):
        assert dict(enumerate(loaded.features["label"].names)) == wanted
        assert Counter(loaded["label"]) == counts_of(report)


def test_nothing_but_classes_and_no_image_outside(expanded: dict[Any, Report]) -> None:
    report = expanded["folder", True]
    assert sorted(p.name for p in report.folder.iterdir() if p.is_dir()) == CLASSES
    for name in contents(report.folder):
        assert name.count("/") == 1 or Path(name).suffix in (".html", ".md", ".txt", ".pq")
    page = (report.folder / "contact_sheet.html").read_text()
    assert '<img alt="Some faces' in page


@pytest.mark.parametrize("copy", [False, True])
def test_tar_shards(expanded: dict[Any, Report], copy: bool, cache: dict[str, str]) -> None:
    report = expanded["webdataset", copy]
    loaded = load(str(report.folder), **cache)
    assert loaded.features["cls"].names == CLASSES
    assert Counter(loaded["cls"]) == counts_of(report)
    assert sum(row["synthetic"] for row in loaded["json"]) == report.made
    for row in loaded:
        assert (row["png"] is not None) == row["json"]["synthetic"]
        assert row["json"]["name"].split("/")[0] == CLASSES[row["cls"]]
    info = json.loads((report.folder / "_info.json").read_text())["splits"]
    assert info.keys() == ({"train", "synthetic", "original"} if copy else {"train", "synthetic"})
    assert info["train"]["num_samples"] == sum(info["train"]["shard_lengths"]) == len(loaded)
    if copy:
        synthetic = load(str(report.folder), "synthetic", **cache)
        assert len(synthetic) == info["synthetic"]["num_samples"] == report.made


@pytest.mark.parametrize("copy", [False, True])
def test_tar_shards_in_timm(expanded: dict[Any, Report], copy: bool) -> None:
    pytest.importorskip("webdataset")
    timm_data = pytest.importorskip("timm.data")
    report = expanded["webdataset", copy]
    dataset = timm_data.create_dataset("wds/", str(report.folder), split="train", batch_size=1)
    assert Counter(label for _, label in dataset) == counts_of(report)


@pytest.mark.parametrize("copy", [False, True])
def test_parquet(expanded: dict[Any, Report], copy: bool, cache: dict[str, str]) -> None:
    report = expanded["parquet", copy]
    dest = report.folder
    for loaded in (
        load(str(dest), **cache),
        load("parquet", data_files=f"{dest}/**/*.parquet", **cache),
        load("parquet", data_dir=str(dest / "data"), **cache),
    ):
        assert loaded.features["label"].names == CLASSES
        assert Counter(loaded["label"]) == counts_of(report)
        assert sum(loaded["synthetic"]) == report.made


def test_a_set_that_is_not_complete(source: Path, tmp_path: Path) -> None:
    report = expand(source, tmp_path / "out", shard="0/2", **OPTIONS)
    assert not report.complete
    assert (tmp_path / "out" / "angry" / WORK).is_dir()
    folder = ImageFolder(str(tmp_path / "out"), allow_empty=True)
    assert folder.classes == CLASSES
    assert len(folder) == report.made
    timm_data = pytest.importorskip("timm.data")
    reader = timm_data.create_dataset("", str(tmp_path / "out")).reader
    assert set(reader.class_to_idx) <= set(CLASSES)
    assert len(reader.samples) == report.made


def test_an_empty_class_keeps_its_index(
    source: Path, tmp_path: Path, cache: dict[str, str]
) -> None:
    report = expand(source, tmp_path / "out", targets=["neutral", "happy"], **OPTIONS)
    dest = str(report.folder)
    wanted = {name: i for i, name in enumerate(CLASSES)}
    assert ImageFolder(dest, allow_empty=True).class_to_idx == wanted
    timm_data = pytest.importorskip("timm.data")
    reader = timm_data.create_dataset("", dest, class_map="classes.txt").reader
    assert reader.class_to_idx == wanted
    assert load(dest, **cache).features["label"].names == CLASSES
    # these two cannot know, and so the user is told
    assert timm_data.create_dataset("", dest).reader.class_to_idx == {"happy": 0, "neutral": 1}
    blind = load("imagefolder", data_dir=dest, **cache)
    assert blind.features["label"].names == ["happy", "neutral"]
    (note,) = report.notes
    for words in ("no face in angry", "allow_empty=True", "classes.txt", "load_dataset(DEST)"):
        assert words in note
    assert note in (report.folder / "README.md").read_text()


def test_only_classes_of_the_source_set(source: Path, tmp_path: Path) -> None:
    report = expand(source, tmp_path / "out", dry_run=True, **OPTIONS)
    assert set(report.planned) == set(CLASSES)
    assert report.notes == []
    given = OPTIONS | {"targets": ["happy", "neutral", "contempt", "angry"]}
    with pytest.warns(UserWarning, match="has no class for contempt: .* 4 classes instead of 3"):
        report = expand(source, tmp_path / "out", write="folder", **given)
    (note,) = report.notes
    assert "index 1 is 'contempt' here, and the source set has 'happy' there" in note
    assert ImageFolder(str(report.folder)).class_to_idx["happy"] == 2
    names = (report.folder / "classes.txt").read_text().split()
    assert names == [*CLASSES, "contempt"]  # timm's class_map keeps the indices
    with pytest.warns(UserWarning, match="what is new comes last"):
        expand(source, tmp_path / "tar", write="webdataset", **given)


def test_a_source_in_another_order(tmp_path: Path, cache: dict[str, str]) -> None:
    faces = [(i, p) for i, c in enumerate(("neutral", "happy"))
             for p in sorted((FACES / c).iterdir())[:2]]  # fmt: skip
    rows = [{"image": {"bytes": p.read_bytes(), "path": p.name}, "label": i} for i, p in faces]
    names = {"_type": "ClassLabel", "names": ["neutral", "happy"]}
    about = json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": names}}})
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.replace_schema_metadata({"huggingface": about}), tmp_path / "set.parquet")
    with pytest.warns(UserWarning, match="index 0 is 'happy' here, .* has 'neutral' there"):
        report = expand(tmp_path / "set.parquet", tmp_path / "out", **OPTIONS)
    assert load(str(report.folder), **cache).features["label"].names == ["neutral", "happy"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = expand(tmp_path / "set.parquet", tmp_path / "pq", write="parquet", **OPTIONS)
    assert load(str(report.folder), **cache).features["label"].names == ["neutral", "happy"]


def test_timm_sorts_in_another_way(source: Path, tmp_path: Path) -> None:
    timm_data = pytest.importorskip("timm.data")
    (tmp_path / "set").mkdir()
    for name in CLASSES:
        link = name.capitalize() if name == "neutral" else name
        (tmp_path / "set" / link).symlink_to(source / name)
    report = expand(tmp_path / "set", tmp_path / "out", **OPTIONS)
    dest = str(report.folder)
    wanted = ImageFolder(dest).class_to_idx
    assert wanted == {"Neutral": 0, "angry": 1, "happy": 2}
    assert timm_data.create_dataset("", dest).reader.class_to_idx != wanted
    assert timm_data.create_dataset("", dest, class_map="classes.txt").reader.class_to_idx == wanted
    assert any("timm sorts folders in another way" in note for note in report.notes)
