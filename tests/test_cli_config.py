"""`expand --config`, `list --json` and `review`: what the command line makes of them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_cli import FACES, run

from expraug import create_synthesizer, list_datasets
from expraug.pipeline import ExpressionAugmenter

sys.path.insert(0, str(Path(__file__).parent / "expand"))
from expanded_sets import contents

QUICK = ("--synthesizer", "pixel", "--gate", "none", "--no-check-landmarks")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    for name in ("neutral", "happy"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for path in sorted((FACES / name).iterdir())[:2]:
            shutil.copy(path, tmp_path / "set" / name)
    return tmp_path / "set"


YAML = """\
synthesizer: pixel
gate: none
check-landmarks: false
intensity: [0.5, 1.0]
targets: [happy]
per_class: 1
max-file-size: 10M
format: webp
"""
TOML = """\
synthesizer = "pixel"
gate = "none"
check_landmarks = false
intensity = [0.5, 1.0]
targets = "happy"
per_class = 1
max_file_size = "10M"
format = "webp"
"""


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.toml", TOML)])
def test_options_from_a_file(name: str, text: str, faces: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    run("expand", faces, tmp_path / "out", "--config", tmp_path / name)
    told = ("--intensity", "0.5,1", "--targets", "happy", "--per-class", "1", "--format", "webp")
    run("expand", faces, tmp_path / "same", *QUICK, *told, "--max-file-size", "10M")
    assert contents(tmp_path / "out") == contents(tmp_path / "same")
    assert [p for p in contents(tmp_path / "out") if p.endswith(".webp")]
    more = ("--config", tmp_path / name, "--intensity", "1", "--format", "png")
    run("expand", faces, tmp_path / "other", *more)  # the command line counts first
    rows = pq.read_table(tmp_path / "other" / "manifest.pq").to_pylist()
    assert {row["intensity"] for row in rows if row["file"]} == {1.0}
    assert [p for p in contents(tmp_path / "other") if p.endswith(".png")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour: red", "no option 'colour'"),
        ("source: here", "no option 'source'"),
        ("- happy", "options have names"),
        ("per_class: 2024-01-01", "no value of an option"),
        ("per_class: null", "no value of an option"),
        ("per_class: many", "valid integer"),
        ("write: zip", "Invalid value for '--write'"),
        ("a: &a [x]\nb: *a", "references"),
        ("targets: !!python/object/apply:os.system ['touch owned']", "could not determine"),
        ("targets: [", "cannot be read as options"),
        ("\udcff", "cannot be read as options"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, message: str, faces: Path, tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = run("expand", faces, tmp_path / "out", "--config", path, code=2)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_list_as_json() -> None:
    found = json.loads(run("list", "--json").stdout)
    assert found["data_sets"] == list_datasets()
    pixel = next(one for one in found["synthesizers"] if one["name"] == "pixel")
    assert pixel["expressions"] == [str(e) for e in create_synthesizer("pixel").expressions]
    assert pixel["embedded"] is True


def test_an_interrupted_command_tells_how_to_go_on(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ExpressionAugmenter, "__call__", stop)
        stopped = run("expand", faces, tmp_path / "out", *QUICK, code=130)
    assert "the same command goes on" in stopped.stderr
    assert "made" in run("expand", faces, tmp_path / "out", *QUICK).stdout


def test_one_image(faces: Path, tmp_path: Path) -> None:
    image = next((faces / "neutral").iterdir())
    assert "--shows neutral" in run("expand", image, tmp_path / "out", *QUICK, code=1).stderr
    assert "--shows neutral" in run("preview", image, tmp_path / "a.png", code=1).stderr
    shown = ("--shows", "neutral", "--targets", "happy,sad")
    run("expand", image, tmp_path / "out", *QUICK, *shown)
    made = sorted(p for p in contents(tmp_path / "out") if p.endswith(".png"))
    assert [name.split("/")[0] for name in made] == ["happy", "sad"]
    seen = run("preview", image, tmp_path / "a.png", *shown[:2], "--synthesizer", "pixel")
    assert "1 face" in seen.stdout
    wrong = run("expand", image, tmp_path / "x", "--shows", "glad", code=1)
    assert "'glad' is no known expression" in wrong.stderr


def test_images_without_classes(faces: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    shutil.copytree(faces / "neutral", folder / "deep" / "er")
    shutil.copy(next((faces / "neutral").iterdir()), folder / "top.jpg")
    told = run("expand", faces / "neutral", tmp_path / "out", *QUICK, code=1).stderr
    assert "but images; say what their faces show" in told
    arguments = ("expand", folder, tmp_path / "out", *QUICK, "--shows", "neutral")
    run(*arguments, "--with-originals", "--targets", "happy")
    found = contents(tmp_path / "out")
    assert len([name for name in found if name.startswith("happy/")]) == 3
    assert len([name for name in found if name.startswith("neutral/")]) == 3
    assert "other settings: targets" in run(*arguments, code=1).stderr
    page = run("review", tmp_path / "out", "--source", folder, "--shows", "neutral").stdout
    assert "review.html: 3 faces" in page
    text = (tmp_path / "out" / "review.html").read_text()
    assert text.count("../flat/") == 3


def test_review_of_what_is_no_set(tmp_path: Path) -> None:
    assert "holds no complete expanded set" in run("review", tmp_path, code=1).stderr
    (tmp_path / "manifest.pq").write_bytes(b"PAR1 no PAR1")
    assert "manifest.pq is damaged" in run("review", tmp_path, code=1).stderr
