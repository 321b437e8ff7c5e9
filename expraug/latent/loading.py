"""Which generator a latent synthesizer stands on: ours by its arguments, or anybody's by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeAlias

from expraug.errors import MissingDependencyError
from expraug.latent.generator import FaceGenerator, StyleGenerator

Description: TypeAlias = Mapping[str, Any] | str
"""JSON: the arguments of `StyleGenerator`, or "package.module:function"."""


def create_generator(description: Description) -> FaceGenerator:
    """Return the generator that is described.

    Args:
        description: the constructor arguments of `StyleGenerator`; or "package.module:function", a
            function without arguments that returns a `FaceGenerator`. If that is an `nn.Module`,
            its weights travel with the synthesizer's own, so the function need not load any. It is
            called without arguments, as the name may come out of a folder from elsewhere.

    Raises:
        MissingDependencyError: no such module or function here.
        TypeError: what the function returns is no `FaceGenerator`.
    """
    if not isinstance(description, str):
        return StyleGenerator(**description)
    module, _, name = description.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise MissingDependencyError(
            f"no generator {description!r} ({error}): it must read 'package.module:function', and "
            f"the package be installed or on PYTHONPATH"
        ) from error
    made: FaceGenerator = function()
    needed = ("layers", "width", "image_size", "mapping", "synthesis")
    lacking = [n for n in needed if not hasattr(made, n)]
    if lacking:
        raise TypeError(
            f"{description!r} returned a {type(made).__name__} without {', '.join(lacking)}: no "
            f"FaceGenerator (expraug/latent/generator.py)"
        )
    return made
