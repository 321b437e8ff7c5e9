"""A persistent cache of synthetic faces that many processes read and write at once.

A cache is one folder with an LMDB environment (`data.mdb`, `lock.mdb`). It belongs on a local
disk: LMDB needs shared memory maps and POSIX locks, which network file systems do not give
reliably.
"""

from expraug.cache.entry import CacheEntry, entry_key, image_digest
from expraug.cache.environment import DATA as STAMP
from expraug.cache.environment import CacheError, CacheFormatError
from expraug.cache.maintenance import CacheInfo, FingerprintInfo, VerifyReport
from expraug.cache.store import SynthesisCache

__all__ = [
    "STAMP",
    "CacheEntry",
    "CacheError",
    "CacheFormatError",
    "CacheInfo",
    "FingerprintInfo",
    "SynthesisCache",
    "VerifyReport",
    "entry_key",
    "image_digest",
]
