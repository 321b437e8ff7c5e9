"""These tests hold a CUDA device against the CPU; without one they are skipped.

They need torch, torchvision, safetensors and what the pipeline itself imports, no more.
"""

from __future__ import annotations

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if "tests/cuda/" in item.path.as_posix()]
    for item in here:
        item.add_marker(pytest.mark.cuda)
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    # TF32 has three digits; what is compared here is the same arithmetic
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")
