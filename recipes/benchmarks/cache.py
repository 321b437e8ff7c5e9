"""What a cache hit costs, against decoding the same face from JPEG.

    python -m recipes.benchmarks.cache --faces examples/faces --json cache.json

Times are medians in µs. All methods take turns in one process, on one thread, so that a busy
machine slows all of them alike. Every hit brings back a patch of the whole image.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from expraug.cache import CacheEntry, StoreKind, SynthesisCache, entry_key, image_digest

ENCODINGS = ("raw", "png", "webp", "jpeg:95")
FINGERPRINT = "benchmark"
Method = Callable[[int], object]


def load_faces(folder: Path, side: int, limit: int) -> list[np.ndarray]:
    suffixes = {".jpg", ".jpeg", ".png", ".webp"}
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes)[:limit]
    if not paths:
        raise SystemExit(f"{folder}: no PNG, JPEG or WebP files; give a folder with --faces")
    size = (side, side)
    return [
        np.array(Image.open(path).convert("RGB").resize(size, Image.Resampling.LANCZOS))
        for path in paths
    ]


def interleaved(methods: dict[str, Method], count: int, rounds: int) -> dict[str, float]:
    """Median time of a call in µs; each round lets every method take every face once."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for method in methods.values():
        for index in range(count):  # warm-up
            method(index)
    for _ in range(rounds):
        for index in range(count):
            for name, method in methods.items():
                start = time.perf_counter_ns()
                method(index)
                times[name].append((time.perf_counter_ns() - start) / 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def decode_with_pillow(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def measure_hits(
    faces: list[np.ndarray], folder: Path, store: StoreKind, rounds: int
) -> dict[str, Any]:
    """A hit in each encoding, its parts, and both JPEG decoders, for faces of one size."""
    jpegs = []
    for face in faces:
        out = io.BytesIO()
        Image.fromarray(face).save(out, "JPEG", quality=95)
        jpegs.append(out.getvalue())
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in jpegs]
    keys = [entry_key(image_digest(face), FINGERPRINT, 2, 3, 0) for face in faces]
    caches: dict[str, SynthesisCache] = {}
    sizes: dict[str, float] = {}
    for encoding in ENCODINGS:
        cache = SynthesisCache(folder / encoding, store, encoding=encoding)
        cache.put_many(
            (key, CacheEntry(face, (0, 0), {"identity": 0.97}))
            for key, face in zip(keys, faces, strict=True)
        )
        caches[encoding] = cache
        info = cache.info()
        sizes[encoding] = info.bytes / info.entries
        if cache.get(keys[0]) is None:
            raise SystemExit(f"{cache.path}: a value that was just stored cannot be read")

    def lookup(cache: SynthesisCache) -> Method:
        return lambda i: cache.get(keys[i])

    def hit(cache: SynthesisCache) -> Method:
        # Not the face that `lookup` takes, so that neither finds the other's bytes at hand.
        def call(i: int) -> object:
            face = faces[i - len(faces) // 2]
            return cache.get(entry_key(image_digest(face), FINGERPRINT, 2, 3, 0))

        return call

    methods: dict[str, Method] = {
        "hash": lambda i: image_digest(faces[i]),
        "jpeg decode, Pillow": lambda i: decode_with_pillow(jpegs[i]),
        "jpeg decode, torchvision": lambda i: decode_jpeg(tensors[i], mode=ImageReadMode.RGB),
    }
    for encoding, cache in caches.items():
        # The hit first: it pays for what the method before it pushed out of the caches.
        methods[f"hit {encoding}"] = hit(cache)
        methods[f"lookup+verify+decode {encoding}"] = lookup(cache)
    microseconds = interleaved(methods, len(faces), rounds)
    fastest = min(value for name, value in microseconds.items() if name.startswith("jpeg decode"))
    for cache in caches.values():
        cache.close()
    return {
        "microseconds": microseconds,
        "hit_over_fastest_decode": {e: microseconds[f"hit {e}"] / fastest for e in ENCODINGS},
        "bytes_per_value": sizes,
        "bytes_per_jpeg": statistics.mean(map(len, jpegs)),
    }


def measure_puts(
    faces: list[np.ndarray], folder: Path, store: StoreKind, rounds: int
) -> dict[str, float]:
    """Median cost of storing one new raw value, in µs, by the size of the batch."""
    cache = SynthesisCache(folder, store)
    number = 0
    costs: dict[str, float] = {}
    for batch in (1, 64, 256):
        times = []
        for _ in range(rounds):
            items = []
            for _ in range(batch):
                face = faces[number % len(faces)]
                key = entry_key(image_digest(face), FINGERPRINT, *divmod(number, 65536))
                items.append((key, CacheEntry(face, (0, 0), {"identity": 0.97})))
                number += 1
            start = time.perf_counter_ns()
            if cache.put_many(items) != batch:
                raise SystemExit(f"{folder}: values cannot be stored; is the disk full?")
            times.append((time.perf_counter_ns() - start) / 1000 / batch)
        costs[str(batch)] = statistics.median(times)
    cache.close()
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, default=Path("examples/faces"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 224], metavar="PIXELS")
    parser.add_argument("--count", type=int, default=32, help="faces to use")
    parser.add_argument("--rounds", type=int, default=30, help="measurements of each face")
    parser.add_argument("--puts", type=int, default=20, help="batches stored for each batch size")
    parser.add_argument("--store", choices=("lmdb", "directory"), default="lmdb")
    parser.add_argument("--folder", type=Path, help="where to put the caches (default: temporary)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures here too")
    args = parser.parse_args()

    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        for side in args.sizes:
            faces = load_faces(args.faces, side, args.count)
            folder = Path(temporary, str(side))
            result = measure_hits(faces, folder, args.store, args.rounds)
            puts = measure_puts(faces, folder / "put", args.store, args.puts)
            result["put_microseconds_per_value"] = puts
            results[str(side)] = result
            print(f"\n{side} px, {len(faces)} faces, median µs")
            for name, value in result["microseconds"].items():
                print(f"  {name:32}{value:9.1f}")
            print("  hit / fastest JPEG decode, and bytes of a value:")
            for encoding, ratio in result["hit_over_fastest_decode"].items():
                size = result["bytes_per_value"][encoding]
                print(f"    {encoding:30}{ratio:9.2f}{size:12,.0f}")
            print("  put, raw, µs for each value:")
            for batch, cost in result["put_microseconds_per_value"].items():
                print(f"    batches of {batch:19}{cost:9.1f}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
