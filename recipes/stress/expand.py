"""Does an expansion survive being killed, and whatever lies in the source set?

    python -m recipes.stress.expand --source LFW.parquet --faces 2000 --kills 30 --damaged 1000
    python -m recipes.stress.expand --source LFW.parquet --faces 2000 --ray-kills 5

A set of real faces, with damaged files among them, is expanded without interruption. Then it is
expanded again, in processes that are killed at random moments (SIGKILL) and go on; and on Ray,
whose workers are killed. Every file must come out the same, byte for byte; every good face must be
expanded, as in a set without damage; and every damaged file must be listed with a reason. Prints
one JSON line; the exit code is 1 if something differs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import torch
import typer

from expraug.datasets import open_source
from expraug.expand import MANIFEST, expand
from expraug.faces.detect import CropDetector
from recipes.stress.damage import damaged_files
from recipes.stress.ray_worker import kill_workers


def write_set(source: Path, folder: Path, count: int) -> None:
    """Write the first `count` faces that have an expression of their own as an ImageFolder."""
    faces = open_source(source)
    written = 0
    for index in range(len(faces)):
        item = faces[index]
        path = folder / item.class_name / f"{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.file if isinstance(item.file, bytes) else item.file.read_bytes())
        written += 1
        if written == count:
            return
    raise SystemExit(f"{source} holds {written} faces, not {count}")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def in_child(source: Path, dest: Path, options: dict[str, Any]) -> int:
    """Start an expansion in a forked process and return its id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            expand(source, dest, **options)
            code = 0
        finally:
            os._exit(code)
    return pid


def finished(pid: int) -> bool:
    """Say whether the process has ended; SystemExit if it failed."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended and status:
        raise SystemExit(f"an expansion failed with status {status}")
    return bool(ended)


def expand_under_kills(
    source: Path, dest: Path, options: dict[str, Any], kills: int, seconds: float, seed: int
) -> int:
    """Expand, killed at random moments and begun again each time; return how often it was killed.

    An expansion that is done before all kills have happened is begun anew.
    """
    draw = random.Random(seed)
    killed, anew = 0, False
    while killed < kills:
        pid = in_child(source, dest, options | {"overwrite": anew})
        end = time.monotonic() + draw.uniform(0, 2 * seconds / (kills + 1))
        while time.monotonic() < end and not (done := finished(pid)):
            time.sleep(0.002)
        done = done if time.monotonic() < end else finished(pid)
        if not done:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            killed += 1
        anew = done
    _, status = os.waitpid(in_child(source, dest, options), 0)
    if status:
        raise SystemExit(f"the last expansion failed with status {status}")
    return killed


def compare_damaged(
    good: dict[str, bytes], mixed: dict[str, bytes], manifest: Path, names: list[str]
) -> dict[str, Any]:
    """Compare the faces of a set without damage with those of one with it."""
    rows = pq.read_table(manifest).to_pylist()
    listed: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        listed.setdefault(row["source"], []).append(row)
    told = [n for n in names if any(r["reason"] and r["message"] for r in listed.get(n, []))]
    expanded = [n for n in names if any(r["file"] for r in listed.get(n, []))]
    faces = {name: data for name, data in good.items() if name.endswith(".png")}
    return {
        "damaged": len(names),
        "listed with a reason": len(told),
        "readable after all": len(set(expanded) - set(told)),
        "in neither list": len(set(names) - set(told) - set(expanded)),
        "good faces lost or changed": sum(mixed.get(n) != data for n, data in faces.items()),
    }


def main(
    source: Annotated[Path, typer.Option(help="Labelled faces: a folder, or a parquet file.")],
    faces: int = 2000,
    kills: int = 0,
    damaged: int = 0,
    ray_kills: int = 0,
    synthesizer: Annotated[str, typer.Option(help="One that needs no landmarks.")] = "unet_cgan",
    write: str = "folder",
    chunk_size: int = 16,
    seed: int = 0,
) -> None:
    torch.set_num_threads(1)  # processes are forked here, which other threads would not survive
    options: dict[str, Any] = {"synthesizer": synthesizer, "write": write, "gate": None}
    options |= {"chunk_size": chunk_size, "num_workers": 2}
    options |= {"alignment": CropDetector(), "check_landmarks": False}  # every face counts
    result: dict[str, Any] = {"faces": faces, "synthesizer": synthesizer, "write": write}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_set(source, root / "set", faces)
        names: list[str] = []
        if damaged:
            expand(root / "set", root / "good", **options)
            names = damaged_files(root / "set", damaged, seed)
        start = time.monotonic()
        reference = in_child(root / "set", root / "reference", options)
        if os.waitpid(reference, 0)[1]:
            raise SystemExit("the uninterrupted expansion failed")
        seconds = time.monotonic() - start
        whole = contents(root / "reference")
        result |= {"files": len(whole), "seconds": round(seconds, 1)}
        if damaged:
            manifest = root / "reference" / MANIFEST
            result |= compare_damaged(contents(root / "good"), whole, manifest, names)
        if kills:
            options_now = (root / "set", root / "killed", options)
            result["kills"] = expand_under_kills(*options_now, kills, seconds, seed)
            result["same after kills"] = contents(root / "killed") == whole
        if ray_kills:
            with kill_workers(ray_kills, seed) as killed:
                expand(root / "set", root / "ray", engine="ray", processes=2, **options)
            result["workers killed"] = len(killed)
            result["same on Ray"] = contents(root / "ray") == whole
    print(json.dumps(result))
    wrong = [result.get(name) for name in ("in neither list", "good faces lost or changed")]
    same = [result.get(name, True) for name in ("same after kills", "same on Ray")]
    sys.exit(0 if all(same) and not any(wrong) else 1)


if __name__ == "__main__":
    typer.run(main)
