"""Real faces for every test: the bundled samples."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import browser, opened
from known_faces import remember
from PIL import Image
from small_faces import small_face

from expraug import create_synthesizer
from expraug.expand import card
from expraug.synthesizers.pixel import PixelSynthesizer

__all__ = ["browser", "opened"]  # one browser for all tests

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Ray keeps the token of the first home folder of its process, and some tests have their own
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
# tests run side by side in several processes, and start others; more threads would only get in each
# other's way
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
card.FACES_SHOWN = 2  # each is synthesized once more, for every set that a test expands

REPOSITORY = Path(__file__).parents[1]
FACES = REPOSITORY / "examples" / "faces"
SHARED = REPOSITORY.parent / "shared"


LONG = (
    "pipeline/test_same_bytes.py",
    "docs/test_notebooks.py",
    "docs/test_pages.py",
    "test_examples.py",
    "pipeline/test_warm.py",
    "datasets/test_hf_fingerprint.py",
    "expand/test_spawned_processes.py",
    "expand/test_resume.py",
    "expand/test_ray.py",
    "evaluate/test_evaluate.py",
    "evaluate/test_controls.py",
    "gpu/test_gpu.py",
    "fer/test_fer_tables.py",
)
"""Files of many seconds. They come first: where several processes share the tests, none is to wait
for another's last one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, one process also runs all of `evaluate`, whose files share what is
    slow to make."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            folder = file.rpartition("/")[0]
            return folder if folder.endswith("tests/evaluate") else file

    return Files(config, log) if config.getoption("dist") == "loadfile" else None


NETS = ("faces", "cuda", "networks", "benchmarks", "landmarker")
"""Folders of tests in which landmarks are read anew each time."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """What was read off a face by one test, or its fixtures, is known to the next."""
    with pytest.MonkeyPatch.context() as patch:
        if item.path.parent.name not in NETS:
            remember(patch)
        return (yield)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a transform samples must not depend on which tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def faces() -> Path:
    """The folder of sample faces: neutral/ and happy/, 256 px, London people."""
    return FACES


@pytest.fixture(scope="session")
def neutral_images() -> list[np.ndarray]:
    """Neutral sample faces, (256, 256, 3) uint8."""
    return [np.array(Image.open(path)) for path in sorted((FACES / "neutral").iterdir())]


@pytest.fixture(scope="session")
def happy_images() -> list[np.ndarray]:
    """Smiling sample faces of the same people, in the same order."""
    return [np.array(Image.open(path)) for path in sorted((FACES / "happy").iterdir())]


@pytest.fixture(scope="session")
def face() -> np.ndarray:
    """A small neutral face, (64, 64, 3) uint8."""
    return small_face("neutral")


@pytest.fixture(scope="session")
def happy_face() -> np.ndarray:
    """The same person smiling, (64, 64, 3) uint8."""
    return small_face("happy")


@pytest.fixture(scope="session")
def smile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a synthesizer that makes neutral faces smile, happy ones neutral, no more."""
    embedded = create_synthesizer("pixel")
    assert isinstance(embedded, PixelSynthesizer)
    sources = {"happy": ["neutral"], "neutral": ["happy"]}
    model = PixelSynthesizer(**embedded.config | {"sources": sources})
    rows = embedded.row[[int(e) for e in model.expressions]]
    for name, buffer in embedded.named_buffers():
        if name != "row":
            of_targets = name in ("weight", "bias", "displacement", "interior")
            getattr(model, name).copy_(buffer[rows] if of_targets else buffer)
    folder = tmp_path_factory.mktemp("smile")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with full data sets and third-party models, where there is one."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data and model files in {SHARED.name}/ beside the checkout")
    return SHARED
