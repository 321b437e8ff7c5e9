from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from expraug.expand import DestinationError, expand
from expraug.gate import IdentityGate

sys.path.insert(0, str(Path(__file__).parent))
from expanded_sets import write_faces
from test_expand import FakeEncoder

OPTIONS: dict[str, Any] = {"synthesizer": "pixel", "gate": None, "alignment": "crop"}


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Ten happy faces and four neutral ones, and a file that is no image."""
    write_faces(tmp_path / "set", 20)
    for path in sorted((tmp_path / "set" / "neutral").iterdir())[4:]:
        path.unlink()
    (tmp_path / "set" / "happy" / "x.jpg").write_text("not an image")
    return tmp_path / "set"


def test_card(uneven: Path, tmp_path: Path) -> None:
    gate = IdentityGate(FakeEncoder(knows=True), threshold=0.25)
    report = expand(
        uneven,
        tmp_path / "out",
        **OPTIONS | {"gate": gate, "balance": True, "license": "cc-by-4.0", "with_originals": True},
    )
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.annotations_creators == ["machine-generated"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "*/**"}],
            "default": True,
            "features": [
                {"name": "image", "dtype": "image"},
                {
                    "name": "label",
                    "dtype": {"class_label": {"names": {"0": "happy", "1": "neutral"}}},
                },
            ],
        }
    ]
    assert "| happy | 11 | 10 | 0 | 10 |" in card.text  # before, copied, made, after
    assert "| neutral | 4 | 4 | 6 | 10 |" in card.text
    assert "| **all** | 15 | 14 | 6 | 20 |" in card.text
    assert "| `unreadable_image` | 1 |" in card.text
    assert "balanced classes" in card.text
    assert "threshold 0.25" in report.gate
    assert f"- Gate: {report.gate}." in card.text
    for words in ("`pixel`", "did not agree", "Licence of the source set: cc-by-4.0", "IPTC"):
        assert words in card.text
    page = (tmp_path / "out" / "contact_sheet.html").read_text()
    data = page.partition("base64,")[2].partition('"')[0]
    sheet = Image.open(io.BytesIO(base64.b64decode(data)))
    assert sheet.height > 160
    assert "(contact_sheet.html)" in card.text


def test_card_without_a_face_or_a_licence(tmp_path: Path) -> None:
    (tmp_path / "set" / "happy").mkdir(parents=True)
    (tmp_path / "set" / "happy" / "x.jpg").write_text("not an image")
    expand(tmp_path / "set", tmp_path / "out", **OPTIONS)
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "unknown"
    assert "not stated" in card.text
    assert "contact_sheet" not in card.text
    assert "Note: no face in happy: ImageFolder needs allow_empty=True" in card.text
    assert not (tmp_path / "out" / "contact_sheet.html").exists()


def test_a_readme_that_is_not_ours_is_kept(uneven: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    with pytest.raises(DestinationError, match=r"README\.md would be replaced"):
        expand(uneven, tmp_path / "out", **OPTIONS)
    assert (tmp_path / "out" / "README.md").read_text() == "mine"
