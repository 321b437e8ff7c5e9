"""Offline expansion: a set of faces in, its synthetic faces as files out, with a manifest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expraug.expand.checks import SourceError
    from expraug.expand.expansion import expand
    from expraug.expand.layout import MANIFEST
    from expraug.expand.manifest import SCHEMA, Row
    from expraug.expand.options import ExpandOptions
    from expraug.expand.parts import DestinationError
    from expraug.expand.plan import Job, Plan
    from expraug.expand.previewing import preview, preview_clip
    from expraug.expand.quota import Quota
    from expraug.expand.report import Report

_MODULES = {
    "MANIFEST": "layout",
    "SCHEMA": "manifest",
    "DestinationError": "parts",
    "ExpandOptions": "options",
    "Job": "plan",
    "Plan": "plan",
    "Quota": "quota",
    "Report": "report",
    "Row": "manifest",
    "SourceError": "checks",
    "expand": "expansion",
    "preview": "previewing",
    "preview_clip": "previewing",
}
"""Where each name lives. It is imported when it is asked for: the command line reads the options
without torch."""

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "DestinationError",
    "ExpandOptions",
    "Job",
    "Plan",
    "Quota",
    "Report",
    "Row",
    "SourceError",
    "expand",
    "preview",
    "preview_clip",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'expraug.expand' has no attribute {name!r}")
    value = getattr(import_module(f"expraug.expand.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
