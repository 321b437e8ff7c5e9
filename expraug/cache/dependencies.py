"""lmdb and xxhash; where one is missing, a stand-in that says so once the cache is used."""

from importlib import import_module
from typing import Any

from expraug.errors import MissingDependencyError


class _Missing:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise MissingDependencyError(
            f"the cache needs {self._name}, which is not installed: pip install {self._name}"
        )


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return _Missing(name)


lmdb, xxhash = _optional("lmdb"), _optional("xxhash")
