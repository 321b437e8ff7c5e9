from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from expraug import Expression, __version__, create_synthesizer
from expraug.cache import CacheEntry, SynthesisCache, entry_key, image_digest
from expraug.cli import app
from expraug.expand import ExpandOptions, expand
from expraug.expand.contact_sheet import CAPTION, CELL, GAP, spread
from expraug.expressions import PUBLISHED_SCHEMES
from expraug.faces.video_file import write_video
from recipes.video.moving_camera import moving_camera

FACES = Path(__file__).parents[1] / "examples" / "faces"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    for name in ("neutral", "happy"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i, path in enumerate(sorted((FACES / name).iterdir())[:2]):
            shutil.copy(path, tmp_path / "set" / name / f"{name}{i}{path.suffix}")
    return tmp_path / "set"


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def error(*arguments: str | Path) -> str:
    result = run(*arguments, code=1)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from expraug.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'pyarrow', 'PIL', 'rich'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    for arguments in (["--help"], ["expand", "--help"], ["evaluate", "--help"]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Usage:" in done.stdout


def test_help_is_complete() -> None:
    text = "".join(run("expand", "--help").stdout.split())  # lines are cut at hyphens
    for scheme in PUBLISHED_SCHEMES:
        assert scheme in text
    options = [f for f in fields(ExpandOptions) if not f.metadata["cli"].get("hidden")]
    for option in options:
        flag = option.metadata["cli"].get("flag", "--" + option.name.replace("_", "-"))
        assert flag.split("/")[0] in text
        assert "".join(option.metadata["text"].split()) in text
    for words in ("NAME:SPLIT:FOLDER", "raf-db:train:FOLDER", "expraug[ray]", "crop|detect"):
        assert words in text
    signature = inspect.signature(expand).parameters
    assert list(signature)[3:] == [f.name for f in fields(ExpandOptions)]
    assert "image_format: Format of the synthetic faces" in (expand.__doc__ or "")


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "expraug", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"expraug {__version__}\n"


def test_names_of_sets_are_no_emoji(tmp_path: Path) -> None:
    message = error("expand", f"kdeff:train:{tmp_path}", tmp_path / "out", "--synthesizer", "pixel")
    assert f"kdeff:train:{tmp_path}: no such folder" in message
    assert "no data set is called 'kdeff'; there are fer2013" in message


def test_version_and_help() -> None:
    assert run("--version").stdout == f"expraug {__version__}\n"
    for command in ("expand", "list", "preview", "cache"):
        assert command in run("--help").stdout


def test_list() -> None:
    output = run("list").stdout
    for word in ("pixel", "transfer", *map(str, Expression), "128 px", "yes", "raf-db, affectnet"):
        assert word in output


def test_expand(faces: Path, tmp_path: Path) -> None:
    arguments = ["expand", faces, tmp_path / "out", "--gate", "none", "--targets", "happy"]
    arguments += ["--intensity", "0.8,1", "--format", "webp", "--with-originals"]
    arguments += ["--cache", tmp_path / "cache", "--seed", "3"]
    output = run(*arguments).stdout
    assert "skipped: already_target │      2" in output
    assert "gate: off" in output
    files = [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")]
    names = {re.sub(r"_\d+\.webp", "_variant.webp", name) for name in files}
    assert len(names) == len(files)
    assert names == {
        *(
            f"happy/neutral{i}__transfer_{level}_variant.webp"
            for i in (0, 1)
            for level in ("0.80", "1.00")
        ),
        *(f"{name}/{name}{i}.jpg" for name in ("happy", "neutral") for i in (0, 1)),
        *("manifest.pq", "README.md", "classes.txt", "contact_sheet.html"),
    }
    assert "from cache              │      4" in run(*arguments, "--overwrite").stdout
    rows = pq.read_table(tmp_path / "out" / "manifest.pq").to_pylist()
    assert {r["status"] for r in rows} == {"cached", "skipped"}
    assert {r["seed"] for r in rows} == {3}


def test_gate_choices(faces: Path, tmp_path: Path) -> None:
    arguments = ["expand", faces, "--synthesizer", "transfer", "--targets", "happy"]
    arguments += ["--alignment", "detect"]
    by_default = run(*arguments, tmp_path / "default").stdout
    assert "gate: identity-dlib-resnet, threshold 0.92" in by_default
    named = run(*arguments, tmp_path / "on", "--gate", "identity").stdout
    assert "gate: identity-dlib-resnet" in named
    natural = run(*arguments, tmp_path / "natural", "--gate", "natural").stdout
    assert "gate: identity-dlib-resnet+expression-fer_classifier" in natural
    assert "gate: off" in run(*arguments, tmp_path / "off", "--gate", "none").stdout
    scores = [
        row["score_identity"]
        for row in pq.read_table(tmp_path / "default" / "manifest.pq").to_pylist()
        if row["status"] == "made"
    ]
    assert scores
    assert min(scores) > 0.916


def test_classes_given_as_pairs(faces: Path, tmp_path: Path, smile: str) -> None:
    (faces / "neutral").rename(faces / "0")
    (faces / "happy").rename(faces / "1")
    out = tmp_path / "out"
    common = ("expand", faces, out, "--gate", "none", "--alignment", "crop", "--synthesizer", smile)
    assert "--scheme" in error(*common)
    run(*common, "--scheme", "0=neutral,1=happy")
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"0", "1"}


def test_errors_are_one_line(faces: Path, tmp_path: Path, smile: str) -> None:
    out = tmp_path / "out"
    assert "no such folder" in error("expand", tmp_path / "nowhere", out, "--synthesizer", "pixel")
    assert "lies in the source" in error("expand", faces, faces / "out", "--synthesizer", "pixel")
    common = ("expand", faces, out, "--gate", "none", "--synthesizer", "pixel")
    assert "cannot make sad" in error(*common, "--targets", "sad", "--synthesizer", smile)
    assert "no known expression" in error(*common, "--targets", "hapy")
    assert "intensity" in error(*common, "--intensity", "0")
    assert "could not convert" in error(*common, "--intensity", "much")
    assert "no weights" in error(*common, "--synthesizer", "nothing")
    assert "device" in error(*common, "--device", "nonsense")
    assert "variants" in error(*common, "--variants", "2")
    assert "picture format" in error(
        "preview", faces, tmp_path / "sheet.doc", "--synthesizer", "pixel"
    )
    assert not out.exists()
    run(*common, "--format", "bmp", code=2)


def test_expand_by_frames(faces: Path, tmp_path: Path) -> None:
    common = [
        "--synthesizer",
        "pixel",
        "--gate",
        "none",
        "--no-check-landmarks",
        "--targets",
        "happy",
    ]
    run("expand", faces, tmp_path / "frames", *common, "--frames", "3")
    run("expand", faces, tmp_path / "levels", *common, "--intensity", "0.33,0.67,1")
    frames, levels = (
        {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*.png"))}
        for root in (tmp_path / "frames", tmp_path / "levels")
    )
    assert frames == levels
    assert len(frames) == 6
    rows = pq.read_table(tmp_path / "frames" / "manifest.pq").to_pylist()
    assert [r["intensity"] for r in rows if r["status"] == "made"] == 2 * [0.33, 0.67, 1.0]
    again = run("expand", faces, tmp_path / "levels", *common, "--frames", "3")
    assert "made" in again.stdout, "the same set, however it is asked for"
    both = [*common, "--frames", "3", "--intensity", "1"]
    assert "not both" in error("expand", faces, tmp_path / "both", *both)
    run("expand", faces, tmp_path / "both", *common, "--frames", "101", code=2)


def test_preview(faces: Path, tmp_path: Path, smile: str) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    unchecked = ("--synthesizer", smile, "--no-check-landmarks")
    arguments = ("preview", faces, sheet, "--faces-shown", "2", *unchecked)
    assert "2 faces" in run(*arguments).stdout
    image = np.asarray(Image.open(sheet))
    step = CELL + GAP
    assert image.shape == (CAPTION + 2 * (CELL + CAPTION) + GAP, GAP + 3 * step, 3)

    def cell(row: int, column: int) -> np.ndarray:
        y, x = CAPTION + (CELL + CAPTION) * row, GAP + step * column
        return image[y : y + CELL, x : x + CELL]

    # rows: happy, neutral; columns: source, neutral, happy
    assert (cell(0, 0) != cell(0, 1)).mean() > 0.2
    assert (cell(1, 0) != cell(1, 2)).mean() > 0.2
    for empty in (cell(0, 2), cell(1, 1)):
        assert (empty[1:-1, 1:-1] == 255).all()
        assert (empty[0] == 205).all()
    before = sheet.read_bytes()
    run(*arguments)
    assert sheet.read_bytes() == before


def test_refused_faces_leave_their_cells_empty(faces: Path, tmp_path: Path, smile: str) -> None:
    for to, name in (
        ("happy/happy0", 22),
        ("happy/happy1", 19),
        ("neutral/neutral0", 19),
        ("neutral/neutral1", 31),
    ):
        kind = to.partition("/")[0]
        shutil.copy(FACES / kind / f"london_{name:03d}.jpg", faces / f"{to}.jpg")
    weak = create_synthesizer(smile)
    for name in ("weight", "bias", "displacement"):
        getattr(weak, name).mul_(0.05)  # a face changes, but shows what it did
    weak.save_pretrained(tmp_path / "weak")
    step = CELL + GAP

    def empty(synthesizer: str | Path, *more: str) -> int:
        run("preview", faces, tmp_path / "sheet.png", "--synthesizer", synthesizer, *more)
        with Image.open(tmp_path / "sheet.png") as picture:
            image = np.asarray(picture.convert("L"))
        corners = [
            (CAPTION + (CELL + CAPTION) * row + 2, GAP + step * column + 2)
            for row in range(4)
            for column in (1, 2)
        ]
        inner = CELL - 4
        return sum((image[y : y + inner, x : x + inner] == 255).all() for y, x in corners)

    moving = ("--clip", "all", "--frames", "2")
    unchecked = "--no-check-landmarks"
    assert empty(smile, unchecked) == empty(smile, unchecked, *moving) == 4
    assert empty(tmp_path / "weak", unchecked) == 4
    assert empty(tmp_path / "weak") > 4


def test_preview_of_grey_crops(faces: Path, tmp_path: Path) -> None:
    for path in faces.rglob("*.jpg"):
        Image.open(path).convert("L").resize((48, 48)).save(path)
    assert "4 faces" in run("preview", faces, tmp_path / "sheet.png", "--alignment", "crop").stdout


def test_preview_without_faces(tmp_path: Path) -> None:
    (tmp_path / "set" / "neutral").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "set" / "neutral" / "black.png")
    assert "--alignment crop" in error(
        "preview", tmp_path / "set", tmp_path / "sheet.png", "--synthesizer", "pixel",
        "--alignment", "detect",
    )  # fmt: skip


def test_preview_of_an_image_in_motion(faces: Path, tmp_path: Path, smile: str) -> None:
    image = faces / "neutral" / "neutral0.jpg"
    arguments = ["--synthesizer", "pixel", "--frames", "4", "--shows", "neutral"]
    arguments += ["--no-check-landmarks"]
    for suffix in (".gif", ".mp4", ".png"):
        out = tmp_path / f"clip{suffix}"
        assert "1 face\n" in run("preview", image, out, "--clip", "happy", *arguments).stdout
    with Image.open(tmp_path / "clip.gif") as moving:
        assert (moving.n_frames, moving.size) == (4, (256, 256))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert len(list(container.decode(video=0))) == 4
        assert "pixel-2-" in container.metadata["comment"]
    with Image.open(tmp_path / "clip.png") as strip:
        shown = np.asarray(strip).reshape(256, 4, 256, 3).swapaxes(0, 1)
    assert np.array_equal(shown[0], np.asarray(Image.open(image)))
    assert (shown[3] != shown[0]).any()
    out = tmp_path / "none.gif"
    assert "--shows" in error("preview", image, out, "--clip", "happy", "--synthesizer", smile)
    assert "one target" in error("preview", image, out, "--clip", "all", *arguments)
    assert "add --clip" in error("preview", faces, out, *arguments)
    assert "class folders" in error("preview", faces, out, "--clip", "all", *arguments)
    assert "--intensity" in error(
        "preview", faces, out, "--clip", "all", "--intensity", "0.5", "--synthesizer", "pixel"
    )
    webm = ("preview", faces, tmp_path / "clip.webm", "--clip", "all", "--synthesizer", "pixel")
    assert ".webm" in error(*webm)
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    assert "alignment='crop'" in error(
        "preview", tmp_path / "black.png", out, "--clip", "happy", "--alignment", "detect",
        *arguments,
    )  # fmt: skip
    assert not out.exists()


def test_preview_of_one_of_several_faces_in_motion(faces: Path, tmp_path: Path) -> None:
    group = Image.new("RGB", (400, 256), (200, 200, 200))
    with Image.open(faces / "neutral" / "neutral0.jpg") as face:
        group.paste(face, (0, 0))
        group.paste(face.resize((128, 128)), (264, 60))
    group.save(tmp_path / "group.png")
    out = tmp_path / "clip.png"
    command = ("preview", tmp_path / "group.png", out, "--clip", "happy", "--frames", "2")
    moved = []
    for chosen in ((), ("--face", "0"), ("--face", "1")):
        run(*command, "--alignment", "detect", *chosen)
        with Image.open(out) as strip:
            shown = np.asarray(strip).astype(int)
        changed = (shown[:, :400] != shown[:, 400:]).any(2).any(0).nonzero()[0]
        moved.append((changed[0] < 256, changed[-1] > 256))
    assert moved == [(True, False), (True, False), (False, True)]
    out.unlink()
    assert "no face 2: the image holds 2" in error(*command, "--alignment", "detect", "--face", "2")
    assert "one image" in error("preview", faces, out, "--clip", "all", "--face", "1")
    assert "add --clip" in error("preview", faces, out, "--face", "1")
    assert not out.exists()


def test_preview_of_a_set_in_motion(faces: Path, tmp_path: Path, smile: str) -> None:
    sheet = tmp_path / "sheet.gif"
    arguments = ["--clip", "all", "--synthesizer", smile, "--frames", "3", "--faces-shown", "2"]
    arguments += ["--no-check-landmarks"]
    assert "2 faces" in run("preview", faces, sheet, *arguments).stdout
    step = CELL + GAP
    with Image.open(sheet) as moving:
        assert moving.n_frames == 3
        assert moving.size == (GAP + 3 * step, CAPTION + 2 * (CELL + CAPTION) + GAP)
        shown = []
        for k in range(3):
            moving.seek(k)
            shown.append(np.asarray(moving.convert("RGB")).astype(int))

    def moved(row: int, column: int) -> float:
        y, x = CAPTION + (CELL + CAPTION) * row, GAP + step * column
        part = (slice(y, y + CELL), slice(x, x + CELL))
        return float(np.abs(shown[2][part] - shown[0][part]).mean())

    # rows: happy, neutral; columns: source, neutral, happy
    still = max(moved(row, 0) for row in (0, 1))
    assert moved(0, 1) > 2 * still
    assert moved(1, 2) > 2 * still
    run("preview", faces, tmp_path / "sad.gif", "--clip", "sad", "--synthesizer", smile, code=1)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 100])
def test_spread(count: int) -> None:
    order = list(spread(count))
    assert sorted(order) == list(range(count))
    if count == 100:
        assert max(np.diff(sorted(order[:8]))) <= 20


@pytest.fixture(params=["lmdb", "directory"])
def cache(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "cache"
    assert "empty cache" in run("cache", "create", folder, "--store", request.param).stdout
    assert "holds a cache already" in error("cache", "create", folder)
    store = SynthesisCache(folder)
    assert store.store == request.param
    store.register("pixel-1-abc")
    patch = np.zeros((20, 20, 3), np.uint8)
    digests = [image_digest(patch + np.uint8(i)) for i in range(3)]
    store.put_many((entry_key(d, "pixel-1-abc", 1, 100, 0), CacheEntry(patch)) for d in digests)
    store.close()
    return folder


def test_cache_commands(cache: Path, tmp_path: Path) -> None:
    output = run("cache", "info", cache).stdout
    assert "pixel-1-abc" in output
    assert "│       3 │" in output
    assert "0 │" in run("cache", "verify", cache).stdout
    assert "1 entries deleted" in run("cache", "prune", cache, "--max-bytes", "2.6K").stdout
    assert (
        "2 entries deleted" in run("cache", "prune", cache, "--fingerprint", "pixel-1-abc").stdout
    )
    assert "say what to delete" in error("cache", "prune", cache)
    assert "no size" in error("cache", "prune", cache, "--max-bytes", "much")
    for command in ("info", "verify", "prune"):
        extra = ("--max-bytes", "1G") if command == "prune" else ()
        assert "is no cache" in error("cache", command, tmp_path, *extra)


def test_cache_verify_finds_damage(cache: Path) -> None:
    store = SynthesisCache(cache)
    key = entry_key(image_digest(np.zeros((20, 20, 3), np.uint8)), "pixel-1-abc", 1, 100, 0)
    value = store.backend.get(key)
    assert value is not None
    store.backend.put_many([(key, value[:-1] + b"\1")], None)
    store.close()
    run("cache", "verify", cache, code=1)
    run("cache", "verify", cache, "--repair")
    run("cache", "verify", cache)
    assert "│       2 │" in run("cache", "info", cache).stdout


def test_dry_run(faces: Path, tmp_path: Path) -> None:
    (faces / "happy" / "happy0.jpg").unlink()
    arguments = (
        "expand",
        faces,
        tmp_path / "out",
        "--gate",
        "none",
        "--dry-run",
        "--alignment",
        "crop",
    )
    output = run(*arguments, "--balance", "--with-originals").stdout
    assert "│ happy   │      1 │      1 │       1 │                   2 │" in output
    assert "│ neutral │      2 │      2 │       0 │                   2 │" in output
    assert "2 sources of which nothing is made: not_chosen" in output
    assert not (tmp_path / "out").exists()


def test_targets_outside_the_source_set_are_told(faces: Path, tmp_path: Path) -> None:
    arguments = ("expand", faces, tmp_path / "out", "--gate", "none", "--dry-run", "--synthesizer")
    quiet = run(*arguments, "pixel")
    assert (quiet.stderr, "note:" in quiet.stdout) == ("", False)
    told = run(*arguments, "pixel", "--targets", "happy,fear")
    words = "the source set has no class for fear: the expanded set has 3 classes instead of 2"
    assert f"warning: {words}" in told.stderr
    assert f"note: {words}" in told.stdout
    assert "index 0 is 'fear' here, and the source set has 'happy' there" in told.stdout


def test_shards_resume_and_forms(faces: Path, tmp_path: Path) -> None:
    arguments = [
        "expand",
        faces,
        tmp_path / "out",
        "--gate",
        "none",
        "--alignment",
        "crop",
        "--synthesizer",
        "pixel",
    ]
    arguments += ["--write", "webdataset", "--chunk-size", "1", "--max-per-source", "1"]
    arguments += ["--no-check-landmarks"]
    output = run(*arguments, "--shard", "1/2").stdout
    assert "this shard is done" in output
    assert "shard must be i/n" in error(*arguments, "--shard", "2/2")
    assert "other settings: per_class" in error(*arguments, "--per-class", "1")
    run(*arguments, "--shard", "0/2", "--license", "cc-by-4.0")
    assert len(list((tmp_path / "out" / "data").glob("synthetic-*.tar"))) == 4
    assert "license: cc-by-4.0" in (tmp_path / "out" / "README.md").read_text()
    assert "no size" in error(*arguments, "--max-file-size", "much")
    assert "other settings: max_bytes" in error(*arguments, "--max-file-size", "1G")


def test_video(faces: Path, tmp_path: Path) -> None:
    photograph = np.array(Image.open(min((FACES / "neutral").iterdir())).resize((128, 128)))
    frames = list(moving_camera([photograph] * 12, size=(144, 176)).frames)
    for i in range(3, 12):
        frames[i][:] = 90
    write_video(frames, tmp_path / "in.gif", times=np.arange(12) / 10, fps=10, xmp="")
    arguments = ["--target", "happy", "--synthesizer", "pixel", "--gate", "none"]
    arguments += ["--no-check-landmarks"]
    result = run("video", tmp_path / "in.gif", tmp_path / "out.gif", *arguments)
    lines = result.stdout.splitlines()
    assert lines[0].endswith("out.gif: 3 of 4 frames show happy"), "equal frames are one in a .gif"
    assert lines[1] == "1 stay as they are, no_face: 0:00.30"
    with Image.open(tmp_path / "out.gif") as made:
        assert made.n_frames == 4
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert "text.mp4: not a video" in error("video", text, tmp_path / "o.gif", *arguments)


def test_several_faces_in_a_sheet_are_told(tmp_path: Path) -> None:
    one, other = (Image.open(f) for f in sorted((FACES / "neutral").iterdir())[:2])
    group = Image.new("RGB", (512, 256))
    group.paste(one, (0, 0))
    group.paste(other, (256, 0))
    group.save(tmp_path / "group.png")
    arguments = ["--shows", "neutral", "--alignment", "detect", "--synthesizer", "pixel"]
    result = run("preview", tmp_path / "group.png", tmp_path / "sheet.png", *arguments)
    assert "1 of 1 images hold several faces: the largest of each is shown" in result.stderr
