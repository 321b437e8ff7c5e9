from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from unmoved import Unmoved

from expraug.errors import DeviceError, MissingWeightsError
from expraug.expand import SCHEMA, DestinationError, Report, SourceError, expand
from expraug.faces.align import similarity
from expraug.faces.composite import mask_box
from expraug.faces.detect import create_detector
from expraug.faces.image import read_image
from expraug.faces.image_file import DIGITAL_SOURCE_TYPE, encode
from expraug.gate import IdentityGate
from expraug.networks import identity
from expraug.synthesizer import Synthesizer, create_synthesizer

FACES = Path(__file__).parents[2] / "examples" / "faces"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
EXPRAUG = "{https://github.com/expraug/expraug/ns/1.0/}"


class FakeEncoder:
    """An identity encoder that knows everyone, or no one."""

    name = "fake"
    threshold = 0.5

    def __init__(self, knows: bool) -> None:
        self.knows, self.calls = knows, 0

    def __call__(self, faces: torch.Tensor) -> torch.Tensor:
        self.calls += 1  # source and synthetic are asked for in turn
        axis = 0 if self.knows else self.calls % 2
        return torch.eye(2)[axis].expand(len(faces), 2)


def rows_of(report: Report) -> list[dict[str, Any]]:
    return pq.read_table(report.manifest).to_pylist()


BESIDE = {"manifest.pq", "README.md", "classes.txt", "contact_sheet.html"}
"""What an expanded set holds besides faces."""


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_images_and_manifest(small_set: Path, tmp_path: Path, smile: str) -> None:
    report = expand(
        small_set, tmp_path / "out", synthesizer=smile, check_landmarks=False, gate=None, seed=5
    )
    assert pq.read_schema(report.manifest).names == SCHEMA.names
    assert pq.read_schema(report.manifest).types == SCHEMA.types
    rows = rows_of(report)
    assert [r["source"] for r in rows] == [
        *("Happiness/ann.jpg", "bored/cid.jpg", "neutral/ann.jpg", "neutral/bob.jpg")
    ]
    bob = rows[3]
    assert bob["file"] == "Happiness/bob__pixel_1.00_0.png"  # the set's own class name
    digest = hashlib.sha256((small_set / "neutral/bob.jpg").read_bytes()).hexdigest()
    fingerprint = create_synthesizer(smile).fingerprint
    assert bob == {
        **{"file": bob["file"], "source": "neutral/bob.jpg", "source_class": "neutral"},
        **{"identity": None, "source_digest": digest, "synthesizer": "pixel"},
        **{"fingerprint": fingerprint, "target": "happy", "intensity": 1.0, "variant": 0},
        **{"seed": 5, "status": "made", "reason": "", "message": "", "faces": 1},
        **{"score_identity": None, "width": 256, "height": 256},
    }
    assert (rows[1]["status"], rows[1]["reason"]) == ("skipped", "no_expression")
    # one stem in two classes: both are there, under names of their own
    assert len({r["file"] for r in rows if r["file"]}) == 3
    assert {r["file"] for r in rows if r["file"]} | BESIDE == contents(report.folder).keys()
    classes = ["Happiness", "bored", "neutral"]
    assert ImageFolder(str(report.folder), allow_empty=True).classes == classes
    assert (report.made, report.cached, dict(report.skipped)) == (3, 0, {"no_expression": 1})
    assert report.sources == {"neutral": 2, "Happiness": 1, "bored": 1}
    assert report.synthetic == {"neutral": 1, "Happiness": 2}


def test_background_stays(small_set: Path, tmp_path: Path) -> None:
    report = expand(small_set, tmp_path / "out", gate=None, targets=["happy"], alignment="detect")
    rows = [r for r in rows_of(report) if r["file"]]
    assert len(rows) == 2
    for row in rows:
        source = read_image(small_set / row["source"])
        made = read_image(report.folder / row["file"])
        (location,) = create_detector("detect")([source])
        assert location is not None
        matrix = similarity(location.points[None].astype(np.float64))[0]
        top, left, bottom, right = mask_box(matrix, *source.shape[:2], moves=True)
        changed = (made != source).any(axis=2)
        assert changed[top:bottom, left:right].mean() > 0.3
        changed[top:bottom, left:right] = False
        assert not changed.any()


def test_same_command_same_bytes(small_set: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"gate": None, "intensity": [0.5, 1.0], "with_originals": True}
    first = expand(small_set, tmp_path / "a", **options)
    other = expand(small_set, tmp_path / "b", **options, batch_size=1, num_workers=1)
    assert contents(first.folder) == contents(other.folder)
    before = contents(first.folder)
    expand(small_set, tmp_path / "a", **options)
    assert contents(first.folder) == before


def test_cache(small_set: Path, tmp_path: Path, smile: str) -> None:
    options: dict[str, Any] = {
        "synthesizer": smile,
        "check_landmarks": False,
        "gate": None,
        "cache": tmp_path / "cache",
    }
    first = expand(small_set, tmp_path / "a", **options)
    second = expand(small_set, tmp_path / "b", **options)
    assert (first.made, first.cached) == (3, 0)
    assert (second.made, second.cached) == (0, 3)
    assert {r["status"] for r in rows_of(second)} == {"cached", "skipped"}
    assert [r["faces"] for r in rows_of(second)] == [r["faces"] for r in rows_of(first)]
    files = [contents(r.folder) for r in (first, second)]
    assert all(files[0][name] == files[1][name] for name in files[0] if name.endswith("png"))


def test_parquet(parquet_set: Path, small_set: Path, tmp_path: Path, smile: str) -> None:
    report = expand(
        parquet_set,
        tmp_path / "out",
        synthesizer=smile,
        check_landmarks=False,
        gate=None,
        with_originals=True,
    )
    rows = rows_of(report)
    assert [(r["source"], r["reason"]) for r in rows] == [
        ("row 0", ""),
        ("row 1", "no_expression"),
        ("row 2", ""),
        ("row 3", ""),
        ("row 4", "unreadable_image"),
        ("row 5", "unreadable_image"),
    ]
    assert rows[3]["identity"] == "bob"
    assert rows[4]["identity"] is None
    copied = (report.folder / "neutral" / "bob.jpg").read_bytes()
    assert copied == (small_set / "neutral" / "bob.jpg").read_bytes()
    assert report.originals == {"neutral": 2, "Happiness": 1, "bored": 1}


def test_originals(small_set: Path, tmp_path: Path) -> None:
    (small_set / "neutral" / "deep").mkdir()
    shutil.copy(small_set / "neutral" / "bob.jpg", small_set / "neutral" / "deep" / "bob.jpg")
    report = expand(small_set, tmp_path / "out", gate=None, with_originals=True)
    there = contents(report.folder)
    for path in small_set.glob("*/*.jpg"):
        assert there[path.relative_to(small_set).as_posix()] == path.read_bytes()
    deep = small_set / "neutral" / "deep" / "bob.jpg"
    assert there["neutral/deep-bob.jpg"] == deep.read_bytes()  # a folder would be another class


def test_set_that_holds_synthetics_already(small_set: Path, tmp_path: Path) -> None:
    once = expand(small_set, tmp_path / "once", gate=None, with_originals=True)
    twice = expand(once.folder, tmp_path / "twice", gate=None, with_originals=True)
    files = contents(twice.folder)
    for name, data in contents(once.folder).items():
        assert name in BESIDE or data in files.values()
    assert len(files) == len(BESIDE) + sum(twice.originals.values()) + twice.made


@pytest.mark.parametrize(
    ("image_format", "suffix"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")]
)
def test_says_that_it_is_synthetic(
    small_set: Path, tmp_path: Path, smile: str, image_format: Any, suffix: str
) -> None:
    (small_set / "neutral" / "bob.jpg").rename(small_set / "neutral" / 'b<o>"b & é.jpg')
    report = expand(
        small_set,
        tmp_path / "out",
        synthesizer=smile,
        check_landmarks=False,
        gate=None,
        image_format=image_format,
        intensity=0.8,
    )
    row = rows_of(report)[-1]
    assert row["target"] == "happy"
    assert row["file"].endswith(f"__pixel_0.80_0.{suffix}")
    with Image.open(report.folder / row["file"]) as image:
        (description,) = ElementTree.fromstring(image.info["xmp"]).iter(f"{RDF}Description")
    assert description.get(f"{IPTC}DigitalSourceType") == DIGITAL_SOURCE_TYPE
    assert description.get(f"{EXPRAUG}Synthesizer") == row["fingerprint"]
    assert description.get(f"{EXPRAUG}Target") == "happy"
    assert description.get(f"{EXPRAUG}Intensity") == "0.80"
    assert description.get(f"{EXPRAUG}Source") == Path(row["source"]).stem


def test_gate(small_set: Path, tmp_path: Path, smile: str) -> None:
    gate = IdentityGate(FakeEncoder(knows=True))
    kept = expand(small_set, tmp_path / "kept", synthesizer=smile, check_landmarks=False, gate=gate)
    assert kept.made == 3
    assert {r["score_identity"] for r in rows_of(kept) if r["file"]} == {1.0}
    gate = IdentityGate(FakeEncoder(knows=False))
    lost = expand(small_set, tmp_path / "lost", synthesizer=smile, check_landmarks=False, gate=gate)
    assert dict(lost.skipped) == {"identity_lost": 3, "no_expression": 1}
    row = rows_of(lost)[0]
    assert (row["target"], row["score_identity"], row["file"]) == ("neutral", 0.0, None)
    assert row["message"]


def test_landmarks_are_checked(small_set: Path, tmp_path: Path, smile: str) -> None:
    options: dict[str, Any] = {"synthesizer": Unmoved(), "gate": None}
    report = expand(small_set, tmp_path / "checked", **options)
    unchecked = expand(small_set, tmp_path / "unchecked", check_landmarks=False, **options)
    refused = [row for row in rows_of(report) if row["reason"] == "landmarks_disagree"]
    assert refused
    assert all(row["message"] and row["file"] is None for row in refused)
    assert report.made + len(refused) == unchecked.made == 3
    assert "- Landmarks checked: yes." in (report.folder / "README.md").read_text()
    assert "- Landmarks checked: no." in (unchecked.folder / "README.md").read_text()
    moved = expand(small_set, tmp_path / "moved", synthesizer=smile, gate=None)
    assert moved.made == 3, "faces that do what they claim are kept"


def test_gates_thresholds_decide(small_set: Path, tmp_path: Path, smile: str) -> None:
    encoder = FakeEncoder(knows=True)
    expand(small_set, tmp_path, synthesizer=smile, gate=IdentityGate(encoder, 0.5))
    with pytest.raises(DestinationError, match="other settings: gate"):
        expand(small_set, tmp_path, synthesizer=smile, gate=IdentityGate(encoder, 0.6))


def test_the_identity_gate_is_on_unless_it_is_switched_off(
    small_set: Path, tmp_path: Path, smile: str
) -> None:
    report = expand(small_set, tmp_path / "out", synthesizer=smile, check_landmarks=False)
    assert report.made == 3
    assert report.gate == "identity-dlib-resnet, threshold 0.92"
    assert all(0.9 < r["score_identity"] < 1 for r in rows_of(report) if r["file"])
    with pytest.raises(ValueError, match="gate must be one of identity, natural, none"):
        expand(small_set, tmp_path / "other", synthesizer=smile, gate="auto")  # type: ignore[arg-type]


def test_the_identity_gate_without_its_weights_is_an_error_before_work_starts(
    small_set: Path, tmp_path: Path, smile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "EMBEDDED", tmp_path / "nowhere")
    with pytest.raises(MissingWeightsError, match="nowhere"):
        expand(small_set, tmp_path / "out", synthesizer=smile)
    assert not (tmp_path / "out").exists()


class Fragile(Synthesizer):
    """Fails on batches that hold a certain face."""

    name = "fragile"

    def __init__(self, inner: str, brittle: float | None, always: bool = False) -> None:
        super().__init__()
        self.inner = create_synthesizer(inner)
        self.expressions, self.image_size = self.inner.expressions, self.inner.image_size
        self.brittle, self.always, self.seen = brittle, always, set[float]()

    def supports(self, source: Any, target: Any) -> bool:
        return self.inner.supports(source, target)

    def forward(
        self, faces: torch.Tensor, target: torch.Tensor, intensity: torch.Tensor
    ) -> torch.Tensor:
        means = {round(float(face.mean()), 4) for face in faces}
        self.seen |= means
        if self.always or self.brittle in means:
            raise RuntimeError("out of memory")
        return self.inner(faces, target, intensity)


def test_one_face_that_fails(small_set: Path, tmp_path: Path, smile: str) -> None:
    spy = Fragile(smile, None)
    expand(
        small_set,
        tmp_path / "a",
        synthesizer=spy,
        check_landmarks=False,
        gate=None,
        targets=["neutral"],
    )
    (brittle,) = spy.seen
    report = expand(
        small_set,
        tmp_path / "b",
        synthesizer=Fragile(smile, brittle),
        check_landmarks=False,
        gate=None,
    )
    assert report.made == 2
    assert rows_of(report)[0]["reason"] == "failed"
    assert "out of memory" in rows_of(report)[0]["message"]
    broken = Fragile(smile, None, always=True)
    with pytest.raises(RuntimeError, match="out of memory"):
        expand(small_set, tmp_path / "c", synthesizer=broken, check_landmarks=False, gate=None)


def test_names_never_leave_the_folder(tmp_path: Path, neutral: list[Path]) -> None:
    stems = ["../../up", "/abs", "..", "a\0b", "long" * 100, "dots...", "con"]
    classes = ["../neutral", "neutral", "happy", ".."]
    data = neutral[0].read_bytes()
    rows = [
        {"image": {"bytes": data, "path": f"{stem}.jpg"}, "label": classes[i % 4]}
        for i, stem in enumerate(stems)
    ]
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "set.parquet"
    pq.write_table(pa.Table.from_pylist(rows), source)
    scheme = {"../neutral": "neutral", "..": "happy"}
    report = expand(
        source,
        tmp_path / "in" / "out",
        gate=None,
        alignment="crop",
        scheme=scheme,
        with_originals=True,
    )
    assert {p.name for p in tmp_path.iterdir()} == {"in"}
    assert {p.name for p in (tmp_path / "in").iterdir()} == {"set.parquet", "out"}
    assert len(contents(report.folder)) == len(BESIDE) + report.made + len(rows)
    for row in rows_of(report):
        if row["file"]:
            inside = (report.folder / row["file"]).resolve()
            assert report.folder.resolve() in inside.parents


def test_undecodable_file_name(small_set: Path, tmp_path: Path, smile: str) -> None:
    name = os.fsdecode(b"b\xff.jpg")
    try:
        (small_set / "neutral" / "bob.jpg").rename(small_set / "neutral" / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    report = expand(
        small_set,
        tmp_path / "out",
        synthesizer=smile,
        check_landmarks=False,
        gate=None,
        with_originals=True,
    )
    assert report.made == 3


def test_refusals(small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        expand(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(SourceError, match="no column"):
        expand(small_table(tmp_path), tmp_path / "out")
    for inside in (small_set, small_set / "new"):
        with pytest.raises(DestinationError, match="lies in the source"):
            expand(small_set, inside, gate=None)
    with pytest.raises(DeviceError, match="nonsense"):
        expand(small_set, tmp_path / "out", gate=None, device="nonsense")
    with pytest.raises(ValueError, match="image_format"):
        expand(small_set, tmp_path / "out", gate=None, image_format="gif")
    with pytest.raises(TypeError, match="'faces'; there are synthesizer, targets"):
        expand(small_set, tmp_path / "out", faces="crop")
    assert not (tmp_path / "out").exists()


def small_table(folder: Path) -> Path:
    pq.write_table(pa.table({"a": [1]}), folder / "table.parquet")
    return folder / "table.parquet"


def test_other_settings_need_another_folder(small_set: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"synthesizer": "pixel", "gate": None, "alignment": "crop"}
    expand(small_set, tmp_path / "out", **options)
    with pytest.raises(DestinationError, match="other settings: intensity"):
        expand(small_set, tmp_path / "out", intensity=0.5, **options)
    shutil.copy(small_table(tmp_path), tmp_path / "out" / "manifest.pq")
    with pytest.raises(DestinationError, match="no manifest of an expansion"):
        expand(small_set, tmp_path / "out", **options)


def test_image_that_a_format_cannot_hold_is_counted(
    small_set: Path, tmp_path: Path, smile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.zeros((20, 16_400), np.uint8)
    with pytest.raises(ValueError, match="16383"):
        encode(wide, "webp", "")
    # a face that wide takes long to synthesize
    monkeypatch.setattr("expraug.expand.local.encode", lambda *_: encode(wide, "webp", ""))
    options: dict[str, Any] = {"gate": None, "check_landmarks": False, "image_format": "webp"}
    report = expand(small_set, tmp_path / "out", synthesizer=smile, **options)
    assert dict(report.skipped) == {"no_expression": 1, "not_encodable": 3}
    assert rows_of(report)[0]["file"] is None
    assert "16383" in rows_of(report)[0]["message"]


def test_bundled_faces_all_expand(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = expand(FACES, tmp_path / "out", gate=None)
    # the check of the landmarks may refuse a few
    refused = report.skipped["landmarks_disagree"] + report.skipped["exaggerated"]
    assert report.made + refused == sum(report.sources.values()) > 0
    assert refused <= 2
