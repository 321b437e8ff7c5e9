"""A persistent cache of synthetic faces that many processes read and write at once.

A cache is one folder. On a local disk it holds an LMDB environment; on a network file system, one
file a key.
"""

from expraug.cache.entry import CacheEntry, entry_key, image_digest
from expraug.cache.maintenance import CacheInfo, FingerprintInfo, VerifyReport
from expraug.cache.store import CacheError, CacheFormatError, StoreKind
from expraug.cache.synthesis_cache import SynthesisCache, find_store

__all__ = [
    "CacheEntry",
    "CacheError",
    "CacheFormatError",
    "CacheInfo",
    "FingerprintInfo",
    "StoreKind",
    "SynthesisCache",
    "VerifyReport",
    "entry_key",
    "find_store",
    "image_digest",
]
