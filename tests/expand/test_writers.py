"""Class folders, tar shards and parquet files hold the same faces, and their readers find them."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from expraug.datasets import open_source
from expraug.expand import DestinationError, Report, expand

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import QUICK, contents, write_faces

OPTIONS: dict[str, Any] = QUICK | {
    "targets": ["happy", "neutral"],
    "chunk_size": 8,
    "with_originals": True,
}


@pytest.fixture(scope="module")
def expanded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """Twenty faces, expanded in each form."""
    root = tmp_path_factory.mktemp("expanded")
    write_faces(root / "set", 20)
    kinds: tuple[Any, ...] = ("folder", "webdataset", "parquet")
    return {kind: expand(root / "set", root / kind, write=kind, **OPTIONS) for kind in kinds}


def faces_of(report: Report) -> set[bytes]:
    return {data for name, data in contents(report.folder).items() if name.count("/") == 1}


def samples(path: Path) -> dict[str, dict[str, bytes]]:
    """Read a tar as WebDataset does: the key ends at the first dot."""
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            stream = tar.extractfile(member)
            assert stream is not None
            found[key][suffix] = stream.read()
            assert (member.mtime, member.uid, member.uname) == (0, 0, "")
    return found


def test_webdataset(expanded: dict[str, Report]) -> None:
    folder = expanded["webdataset"].folder
    rows = {r["source"]: r for r in pq.read_table(folder / "manifest.pq").to_pylist()}
    images = set()
    for kind, suffix in (("synthetic", "png"), ("original", "jpg")):
        for path in sorted((folder / "data").glob(f"{kind}-*.tar")):
            for key, sample in samples(path).items():
                assert sample.keys() == {suffix, "cls", "json"}
                about = json.loads(sample["json"])
                row = rows[about["source"]]
                assert about["synthetic"] == (kind == "synthetic")
                if kind == "synthetic":
                    assert row["file"] == f"data/{path.name}/{key}.png"
                    assert about["target"] == row["target"]
                assert about["name"].split("/")[0] == ["happy", "neutral"][int(sample["cls"])]
                images.add(sample[suffix])
    assert images == faces_of(expanded["folder"])


def test_parquet(expanded: dict[str, Report]) -> None:
    folder = expanded["parquet"].folder
    rows = pq.read_table(folder / "data").to_pylist()
    assert {row["image"]["bytes"] for row in rows} == faces_of(expanded["folder"])
    assert sum(row["synthetic"] for row in rows) == 20
    for row in rows:
        assert row["image"]["path"].split("/")[0] == ["happy", "neutral"][row["label"]]
        assert (row["target"] is not None) == row["synthetic"]
    made = {row["file"] for row in pq.read_table(folder / "manifest.pq").to_pylist()}
    files = sorted(folder.glob("data/*.parquet"))
    assert made == {
        f"data/{path.name}/{row['image']['path']}"
        for path in files
        for row in pq.read_table(path).to_pylist()
        if row["synthetic"]
    }


def test_an_expanded_parquet_is_a_source_again(expanded: dict[str, Report]) -> None:
    path = expanded["parquet"].folder / "data" / "faces-000000.parquet"
    source = open_source(path)
    assert source.classes == ["happy", "neutral"]
    names = [(source[i].class_name, source[i].stem) for i in range(len(source))]
    assert names[:2] == [("happy", "0000"), ("neutral", "0000__pixel_1.00_0")]


def test_the_manifests_tell_the_same(expanded: dict[str, Report]) -> None:
    tables = [pq.read_table(report.manifest) for report in expanded.values()]
    assert len({str(table.drop_columns("file").to_pylist()) for table in tables}) == 1
    assert len({(r.made, str(r.synthetic), str(r.originals)) for r in expanded.values()}) == 1


@pytest.mark.parametrize("kind", ["folder", "webdataset", "parquet"])
def test_datasets_reads_it(
    expanded: dict[str, Report], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = datasets.load_dataset(
        str(expanded[kind].folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == 40
    row = loaded[0]
    image = row["jpg"] or row["png"] if kind == "webdataset" else row["image"]
    assert image.size == (64, 64)
    label = "cls" if kind == "webdataset" else "label"
    assert loaded.features[label].names == ["happy", "neutral"]


def test_originals_of_a_set_without_files(parquet_set: Path, tmp_path: Path) -> None:
    report = expand(parquet_set, tmp_path / "out", write="webdataset", **OPTIONS)
    originals = samples(next(report.folder.glob("data/original-*.tar")))
    assert len(originals) == sum(report.originals.values()) == 4
    for sample in originals.values():
        assert Image.open(io.BytesIO(sample["jpg"])).format == "JPEG"
        assert json.loads(sample["json"])["identity"] in ("ann", "bob", "cid")


def test_a_chunk_of_which_nothing_is_made_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "happy"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(b"damaged")
    for write in ("webdataset", "parquet"):
        report = expand(tmp_path / "set", tmp_path / write, write=write, **OPTIONS)  # type: ignore[arg-type]
        assert report.skipped == {"unreadable_image": 3}
        info = {"_info.json"} if write == "webdataset" else set()
        assert set(contents(report.folder)) == {"README.md", "manifest.pq"} | info


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    write_faces(tmp_path / "set", 4)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "happy").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationError, match="leads out"):
        expand(tmp_path / "set", tmp_path / "out", **OPTIONS)
    assert not list((tmp_path / "elsewhere").iterdir())
