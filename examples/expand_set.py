"""Expand a set of faces into files that `datasets` reads; balanced, and safe to interrupt."""

from pathlib import Path
from tempfile import TemporaryDirectory

from expraug.expand import expand

FACES = Path(__file__).parent / "faces"

if __name__ == "__main__":  # worker processes import this file
    with TemporaryDirectory() as folder:
        options = {"alignment": "crop", "gate": None, "per_class": 6, "write": "parquet"}
        plan = expand(FACES, folder, dry_run=True, **options)
        print("to make:", dict(plan.planned))
        report = expand(FACES, folder, with_originals=True, license="cc-by-4.0", **options)
        # after an interruption: the same call goes on; on a cluster without Ray: one call with
        # shard=(i, n) in each of n jobs
        print(
            "made:", dict(report.synthetic), "beside", sum(report.originals.values()), "originals"
        )
        print(*sorted(path.name for path in report.folder.rglob("*") if path.is_file()))
