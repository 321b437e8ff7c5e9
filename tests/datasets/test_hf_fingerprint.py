"""`datasets` knows a result by its fingerprint: the same in every process, and after use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

datasets = pytest.importorskip("datasets")

from crop_augmenter import crop_augmenter  # noqa: E402
from datasets.fingerprint import Hasher  # noqa: E402
from labelled_rows import NAMES, NotTheFirst, described  # noqa: E402

from expraug import ExpressionAugmenter, Matrix, Uniform, create_synthesizer  # noqa: E402
from expraug.datasets.hf import ExpressionMap  # noqa: E402

REPOSITORY = Path(__file__).parents[2]


SCRIPT = """
import sys
import datasets, multiprocess
from datasets.fingerprint import Hasher
from expraug import ExpressionAugmenter, Uniform
from expraug.datasets.hf import ExpressionMap
from crop_augmenter import MeanFaceDetector

def refuse(self, batch, rank=None):
    raise SystemExit("was called although the result is cached")

def main(task, rows, result):
    policy = Uniform(["happy", "neutral", "sad", "fear"])
    augmenter = ExpressionAugmenter("pixel", policy=policy, alignment="detect")
    print(Hasher.hash(ExpressionMap(augmenter, ["happy", "neutral"])))
    unchecked = {"alignment": MeanFaceDetector(), "check_landmarks": False}  # quick
    augmenter = ExpressionAugmenter("pixel", policy=policy, **unchecked)
    function = ExpressionMap(augmenter, copies=2)
    print(Hasher.hash(function))
    rows = datasets.load_from_disk(rows)
    if task == "refuse":
        ExpressionMap.__call__ = refuse
    made = rows.map(function, batched=True, batch_size=4)
    print(Hasher.hash(function))
    print(made._fingerprint)
    made.save_to_disk(result)
    if task == "make":
        multiprocess.set_start_method("spawn")
        spawned = rows.map(function, batched=True, batch_size=2, num_proc=1)
        assert spawned["source_digest"][:] == made["source_digest"][:]
        assert all(a == b for a, b in zip(spawned["image"], made["image"], strict=True))

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def test_fresh_processes(rows, tmp_path):
    """The fingerprint is the same whatever was used before; a second run takes the first's rows."""
    rows.save_to_disk(str(tmp_path / "rows"))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    printed = []
    for task, hash_seed in (("make", "0"), ("refuse", "4711")):
        modules = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": modules}
        run = subprocess.run(
            [sys.executable, script, task, tmp_path / "rows", tmp_path / task],
            env=os.environ | environment, capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-2000:]
        printed.append(run.stdout.split())
    assert printed[0] == printed[1]
    assert printed[0][1] == printed[0][2], "use must not change the fingerprint"
    first, second = (datasets.load_from_disk(str(tmp_path / task)) for task in ("make", "refuse"))
    assert described(first) == described(second)
    assert first.num_rows > 2 * rows.num_rows


@pytest.fixture
def brighter(tmp_path):
    """Return a function that saves `pixel` with other weights into one and the same folder."""

    def save(amount):
        model = create_synthesizer("pixel")
        model.bias += amount
        model.save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return save


def test_every_setting_that_changes_rows_changes_the_fingerprint(brighter):
    def hashed(name="pixel", options=None, **settings):
        return Hasher.hash(ExpressionMap(ExpressionAugmenter(name, **settings), **options or {}))

    hashes = [
        hashed(),
        hashed(brighter(0.1)),
        hashed(brighter(0.2)),
        hashed(policy=Uniform(["happy"])),
        hashed(policy=Matrix({"happy": {"neutral": 0.5}})),
        hashed(policy=Matrix({"happy": {"neutral": 0.6}})),
        hashed(intensity=(0.5, 1.0)),
        hashed(alignment="detect"),
        hashed(gate=NotTheFirst()),
        hashed(options={"mode": "replace"}),
        hashed(options={"copies": 2}),
        hashed(options={"seed": 1}),
        hashed(options={"p": 0.5}),
        hashed(options={"scheme": NAMES}),
        hashed(options={"scheme": NAMES[::-1]}),
        hashed(options={"image_format": "webp"}),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hashed() == hashes[0]


def test_a_changed_synthesizer_is_no_hit(rows, brighter, tmp_path):
    rows.save_to_disk(str(tmp_path / "rows"))
    on_disk = datasets.load_from_disk(str(tmp_path / "rows"))
    first, again, other = (
        on_disk.map(ExpressionMap(crop_augmenter(brighter(amount))), batched=True)
        for amount in (0.1, 0.1, 0.2)
    )
    assert first._fingerprint == again._fingerprint != other._fingerprint
    assert first.cache_files == again.cache_files != other.cache_files
    assert described(first) == described(again) != described(other)


@pytest.mark.parametrize("by_name", [True, False])
def test_use_does_not_change_the_fingerprint(rows, tmp_path, by_name):
    synthesizer = "pixel" if by_name else create_synthesizer("pixel")
    augmenter = ExpressionAugmenter(synthesizer, alignment="detect", cache=tmp_path)
    function = ExpressionMap(augmenter, NAMES)
    before = Hasher.hash(function)
    function(rows[:])
    assert augmenter.stats
    assert Hasher.hash(function) == before
