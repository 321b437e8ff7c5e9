"""These tests hold a CUDA device against the CPU; without one they are skipped.

`EXPRAUG_TEST_DEVICE=cpu` puts the CPU in the place of the card, to try the tests themselves.
They need torch, torchvision, safetensors and what the pipeline itself imports, no more.
"""

from __future__ import annotations

import os

import pytest
import torch

DEVICE = os.environ.get("EXPRAUG_TEST_DEVICE", "cuda")
"""What is held against the CPU."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cuda/" not in item.path.as_posix() or "cuda" not in item.fixturenames:  # type: ignore[attr-defined]
            continue
        item.add_marker(pytest.mark.cuda)
        if DEVICE == "cuda" and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    # TF32 has three digits; what is compared here is the same arithmetic
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(DEVICE)
