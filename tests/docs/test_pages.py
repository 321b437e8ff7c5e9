"""Every snippet and command of README and docs runs, in a folder with the files that they name."""

from __future__ import annotations

import re
import shutil
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from expraug.faces.video_file import write_video
from recipes.video.moving_camera import moving_camera

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "datasets" / "readers"))
from dataset_trees import TREES
from page_commands import Block, blocks, commands, run

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / ".github/CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
FACES = REPOSITORY / "examples" / "faces"
PUBLISHED = {"FER2013": "fer2013-csv", "FERPLUS": "ferplus-csv", "RAF-DB": "rafdb",
             "AffectNet": "affectnet-csv"}  # fmt: skip
OPTIONAL = ("albumentations", "datasets", "timm", "ray")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages call by name."""
    root = tmp_path_factory.mktemp("world")
    rows = []
    for expression in ("happy", "neutral"):
        files = sorted((FACES / expression).iterdir())
        for part, chosen in (("train", files[:3]), ("val", files[3:5])):
            folder = root / "faces" / part / expression
            folder.mkdir(parents=True)
            for file in chosen:
                shutil.copy(file, folder)
                image = {"bytes": file.read_bytes(), "path": file.name}
                rows.append({"image": image, "expression": expression, "identity": file.stem})
    for number, expression in enumerate(("neutral", "happy", "neutral")):
        (root / "numbered" / str(number)).mkdir(parents=True)
        shutil.copy(min((FACES / expression).iterdir()), root / "numbered" / str(number))
    pq.write_table(pa.Table.from_pylist(rows), root / "faces.parquet")
    one, other = (Image.open(f) for f in sorted((FACES / "neutral").iterdir())[1:3])
    one.save(root / "face.jpg", quality=95)
    group = Image.new("RGB", (512, 256))
    group.paste(one, (0, 0))
    group.paste(other, (256, 0))
    group.save(root / "group.jpg", quality=95)
    still = [np.asarray(one.resize((128, 128)))] * 8
    film = moving_camera(still, size=(144, 176))
    write_video(film.frames, root / "talk.mp4", times=film.times, fps=25, xmp="")
    for name, layout in PUBLISHED.items():
        (root / name).mkdir()
        TREES[layout][1](root / name)
    return root


@pytest.fixture
def there(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of that folder, as the working directory; what a page registers goes again."""
    from expraug import synthesizer

    folder = tmp_path / "here"
    shutil.copytree(world, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setattr(synthesizer, "_REGISTRY", dict(synthesizer._REGISTRY))
    return folder


def optional(block: Block) -> None:
    """Skip what needs a library that is not installed."""
    for library in OPTIONAL:
        if re.search(rf"\b(import|from) {library}\b|engine=\"{library}\"", block.code):
            pytest.importorskip(library)


def runnable(page: Path) -> list[Block]:
    return [b for b in blocks(page) if b.language == "python" or commands(b)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_page(page: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page after its first line to its last: later snippets use what earlier ones made."""
    module = types.ModuleType("__main__")  # snippets say `if __name__ == "__main__"`
    namespace = module.__dict__
    for block in runnable(page):
        optional(block)
        where = f"{page.relative_to(REPOSITORY)}:{block.line}"
        try:
            if block.language == "python":
                # dataclasses and pickle look a class's module up
                monkeypatch.setitem(sys.modules, "__main__", module)
                source = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    exec(source, namespace)
            else:
                for command in commands(block):
                    run(command)
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error


def test_pages_have_something_to_run() -> None:
    count = {name: len(runnable(page)) for name, page in zip(NAMES, PAGES, strict=True)}
    assert sum(count.values()) > 60
    assert all(count[name] for name in NAMES if "/doors/" in name or "/data/" in name)


def test_links_lead_somewhere() -> None:
    """Between files of the repository; `mkdocs build --strict` checks those of the site."""
    cards = sorted((REPOSITORY / "expraug/weights").glob("*/README.md"))
    missing = []
    for page in (*PAGES, *cards):
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text):
            made_by_the_site = target.startswith("../reference/") or target == "reference/"
            if not made_by_the_site and not (page.parent / target).exists():
                missing.append(f"{page.relative_to(REPOSITORY)}: {target}")
    assert missing == []


def test_a_wrong_command_is_found(there: Path) -> None:
    for wrong in ("expraug expand faces/train there --no-such-option", "make coffee",
                  "pip install 'expraug[coffee]'", "python -m recipes.sheet --coffee"):  # fmt: skip
        with pytest.raises(BaseException, match=r"[Nn]o such option|no target|no extra|coffee"):
            run(wrong)
    with pytest.raises(AssertionError, match="no test knows how"):
        run("coffee please")
