"""`import expraug` must cost next to nothing, and the core few packages."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
FACE = min((REPOSITORY / "examples" / "faces" / "neutral").iterdir())

BLOCKED = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        missing = name.split(".")[0] in {blocked!r}
        return None if missing else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
"""
NOT_THERE = ("albumentations", "datasets", "timm", "facenet_pytorch", "mediapipe", "ray", "lmdb",
             "pyarrow", "typer", "rich", "huggingface_hub", "torchmetrics", "matplotlib",
             "cv2")  # fmt: skip


def run(code):
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_imports_and_synthesizes_with_few_packages():
    run(
        BLOCKED.format(blocked=tuple(set(NOT_THERE) - {"xxhash"}))
        + "import numpy as np, expraug\n"
        + "augmenter = expraug.ExpressionAugmenter(gate='identity')\n"
        + "from expraug.transforms.torchvision import RandomExpression\n"
        + "from PIL import Image\n"
        + f"image = np.array(Image.open({str(FACE)!r}))\n"
        + "outcome, = augmenter([image], [expraug.SynthesisRequest(expraug.Expression.HAPPY)])\n"
        + "assert outcome.target is expraug.Expression.HAPPY\n"
        + "assert augmenter.synthesizer.name == 'transfer'\n"
        + "assert outcome.scores['identity'] > 0.9\n"
    )


def test_import_loads_no_optional_package():
    run(f"import sys, expraug; found = set(sys.modules) & set({NOT_THERE!r}) - {{'lmdb'}}"
        "; assert not found, found")  # fmt: skip


def test_import_loads_nothing_that_is_not_asked_for_and_the_core_little_beside_torch():
    code = (
        "import sys, time, expraug\n"
        "assert not {'torch', 'numpy', 'torchvision'} & set(sys.modules)\n"
        "assert set(expraug.__all__) <= set(dir(expraug))\n"
        "from expraug import Expression, LabelScheme\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "start = time.process_time()\n"
        "from expraug import ExpressionAugmenter, create_synthesizer\n"
        "print(time.process_time() - start)\n"
        "assert create_synthesizer.__module__ == 'expraug.synthesizer'\n"
        "import expraug.datasets, expraug.evaluate, expraug.expand, expraug.review\n"
        "assert 'torchvision' not in sys.modules\n"
        "try: expraug.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "else: raise AssertionError\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert float(done.stdout) < 0.3
