"""What is asked for, out of the cache or made now, and then kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch.utils.data import get_worker_info

from expraug.errors import CacheMissError
from expraug.faces.pixels import Pixels
from expraug.pipeline.device import existing_device
from expraug.pipeline.key import synthetic_key
from expraug.pipeline.requests import SynthesisRequest
from expraug.pipeline.synthetic import HostEntries, Result, digests_of

if TYPE_CHECKING:
    from expraug.pipeline.augmenter import ExpressionAugmenter

OnMiss = Literal["synthesize", "keep", "error"]


class Found(NamedTuple):
    """What there is of one request: nothing, from the cache, or made now."""

    result: Result | None
    cached: bool


def find_or_make(
    augmenter: ExpressionAugmenter,
    images: Sequence[Pixels],
    requests: Sequence[SynthesisRequest | None],
    digests: Sequence[bytes] | None,
    on_miss: OnMiss,
) -> dict[int, Found]:
    """Return what there is of each request, by its position.

    What is made stays on its device, and is copied to the host only for the cache. A thread stores
    it while the cache is `filling`, and always where it is made on another device than the CPU.

    Args:
        augmenter: makes and keeps it.
        images, requests, digests: as the augmenter takes them.
        on_miss: what to do about what is not cached.

    Raises:
        CacheMissError, UnsupportedExpressionError, DeviceError: as the augmenter does.
        CacheError: what was made before could not be stored.
    """
    asked = [(i, request) for i, request in enumerate(requests) if request is not None]
    if not asked:
        return {}
    if digests is None:
        some = iter(digests_of([images[i] for i, _ in asked]))
        digests = [b"" if request is None else next(some) for request in requests]
    cache, name = augmenter.cache, str(augmenter.fingerprint)
    keys = {i: synthetic_key(digests[i], name, request) for i, request in asked}
    found = dict.fromkeys(keys, Found(None, False))
    if cache is not None:
        for i, key in keys.items():
            if (entry := cache.get(key)) is not None:
                found[i] = Found(entry, True)
    missing = [(i, request) for i, request in asked if found[i].result is None]
    if not missing or not _may_synthesize(augmenter, len(missing), on_miss):
        return found
    made = augmenter.synthesize(
        [images[i] for i, _ in missing],
        [request for _, request in missing],
        [digests[i] for i, _ in missing],
    )
    results: list[Result] = [one for (one,) in made]
    if cache is not None:
        stored = [keys[i] for i, _ in missing]
        entries = HostEntries([one for (one,) in made])
        if not cache.lossless:  # the first time, too, a face looks as it will from the cache
            results = [cache.as_stored(k, e) for k, e in zip(stored, entries(), strict=True)]
        if cache.readonly:
            pass
        elif cache.is_filling or augmenter.device.type != "cpu":
            cache.put_later(stored, entries)
        else:
            cache.put_many(zip(stored, entries(), strict=True))
    return found | {i: Found(r, False) for (i, _), r in zip(missing, results, strict=True)}


def _may_synthesize(augmenter: ExpressionAugmenter, count: int, on_miss: OnMiss) -> bool:
    """Return whether missing faces are to be made; raise where that is an error."""
    if on_miss == "error":
        raise CacheMissError(
            f"{count} synthetic face(s) not in the cache, and on_miss='error': run "
            f"augmenter.warm(dataset) with these settings first"
        )
    if on_miss == "keep":
        return False
    if get_worker_info() is not None and augmenter.device.type == "cuda":
        raise CacheMissError(
            "a DataLoader worker met a face that is not cached, and CUDA cannot run in a "
            "worker. Either warm the cache before training (augmenter.warm(dataset)), or apply "
            "RandomExpression to whole batches in the training process"
        )
    existing_device(augmenter.device)
    return True
