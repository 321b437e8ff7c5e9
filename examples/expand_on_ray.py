"""Expand a set of faces on Ray: here on this machine, else on the cluster of `ray_address`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import ray

from expraug.expand import expand

FACES = Path(__file__).parent / "faces"

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    with TemporaryDirectory() as folder:
        # with device="cuda" each of the actors gets a GPU
        report = expand(FACES, folder, alignment="crop", gate=None, engine="ray", processes=2)
        print("made on Ray:", dict(report.synthetic))
    ray.shutdown()
