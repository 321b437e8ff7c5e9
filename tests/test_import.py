"""`import expraug` must cost torch and torchvision and little else."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

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


def test_imports_and_synthesizes_with_torch_torchvision_numpy_and_safetensors_alone():
    run(
        BLOCKED.format(blocked=NOT_THERE)
        + "import numpy as np, expraug\n"
        + "augmenter = expraug.ExpressionAugmenter()\n"
        + "from expraug.transforms.torchvision import RandomExpression\n"
        + "image = np.full((48, 48), 128, np.uint8)\n"
        + "outcome, = augmenter([image], [expraug.SynthesisRequest(expraug.Expression.HAPPY)])\n"
        + "assert outcome.target is expraug.Expression.HAPPY\n"
        + "assert augmenter.synthesizer.name == 'unet_cgan'\n"
    )


def test_import_loads_no_optional_package():
    run(f"import sys, expraug; found = set(sys.modules) & set({NOT_THERE!r}) - {{'lmdb'}}"
        "; assert not found, found")  # fmt: skip
