import subprocess
import sys
from pathlib import Path

import expraug

SCRIPT = """
import sys
for name in ("lmdb", "xxhash", "pyarrow", "typer"):
    sys.modules[name] = None  # an import of it fails
import expraug
from expraug.cache import SynthesisCache, image_digest
from expraug.errors import MissingDependencyError
import numpy as np
expraug.ExpressionAugmenter("pixel")
for use in (
    lambda: image_digest(np.zeros((2, 2), np.uint8)),
    lambda: SynthesisCache(sys.argv[1]).get(b"key"),
):
    try:
        use()
    except MissingDependencyError as error:
        print(error)
"""


def test_the_package_works_without_and_the_cache_says_what_is_missing(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "cache")],
        cwd=Path(expraug.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[3] for line in result.stdout.splitlines()] == ["xxhash,", "lmdb,"]
