"""Processes that write and read one cache while a parent kills them at random moments.

    python tests/cache/crash_worker.py FOLDER KILLS STORE [MAX_BYTES]

Every worker notes the numbers whose `put_many` has returned; at the end the parent reads each of
them, which without MAX_BYTES must all be there. Prints one JSON line. A script of its own, so that
no thread of pytest is forked.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from expraug.cache import CacheEntry, StoreKind, SynthesisCache, entry_key, image_digest

WORKERS = 4
WRONG = 3


def key_of(number: int) -> bytes:
    return entry_key(image_digest(np.full((1, 4), number % 256, np.uint8)), "crash", number)


def pattern(number: int) -> np.ndarray:
    side = 8 + number * 7 % 150
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


def work(cache: SynthesisCache, folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    log = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        numbers = [draw.randrange(4000) for _ in range(draw.choice((1, 4, 32)))]
        entries = [(key_of(n), CacheEntry(pattern(n), scores={"n": n})) for n in numbers]
        if (stored := cache.put_many(entries)) != len(entries):
            print(f"{stored} of {len(entries)} stored", file=sys.stderr)
            os._exit(WRONG)
        os.write(log, np.array(numbers, "<u4").tobytes())
        for number in (draw.randrange(4000) for _ in range(32)):
            entry = cache.get(key_of(number))
            if entry is not None and not np.array_equal(entry.patch, pattern(number)):
                os._exit(WRONG)
        if cache.stats.damaged:
            os._exit(WRONG)


def start(cache: SynthesisCache, folder: Path, seed: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work(cache, folder, seed)
        except BaseException:
            traceback.print_exc()  # for whoever looks for the reason
        finally:
            os._exit(WRONG)
    return pid


def main(folder: Path, kills: int, store: StoreKind, max_bytes: int | None) -> None:
    cache = SynthesisCache(folder / "cache", store, max_bytes=max_bytes)
    draw = random.Random(kills)
    workers = [start(cache, folder, seed) for seed in range(WORKERS)]
    failures = 0
    for seed in range(kills):
        time.sleep(draw.uniform(0, 0.4))
        index = draw.randrange(WORKERS)
        os.kill(workers[index], signal.SIGKILL)
        failures += os.WIFEXITED(os.waitpid(workers[index], 0)[1])
        workers[index] = start(cache, folder, WORKERS + seed)
    time.sleep(0.3)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
        failures += os.WIFEXITED(os.waitpid(pid, 0)[1])
    logged = (folder / "acknowledged").read_bytes()
    acknowledged = np.frombuffer(logged, "<u4").tolist()
    entries = {n: cache.get(key_of(n)) for n in set(acknowledged)}
    found = {n: e for n, e in entries.items() if e is not None}
    wrong = sum(
        not np.array_equal(e.patch, pattern(n)) or e.scores != {"n": n} for n, e in found.items()
    )
    report = cache.verify()
    cache.put(key_of(0), CacheEntry(pattern(0)))  # the writers' lock outlived its holders
    total, accounted = cache.info().bytes, cache.backend.size().bytes
    print(
        json.dumps(
            {
                "kills": kills,
                "acknowledged": len(acknowledged),
                "distinct": len(entries),
                "lost": len(entries) - len(found),
                "wrong": wrong,
                "failures": failures,
                "damaged": report.damaged,
                "bytes": total,
                "accounted": accounted,
            }
        )
    )


if __name__ == "__main__":
    limit = int(sys.argv[4]) if sys.argv[4:] else None
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], limit)  # type: ignore[arg-type]
