"""Offline expansion: a set of faces in, its synthetic faces as files out, with a manifest."""

from expraug.expand.expansion import DestinationError, Report, SourceError, expand
from expraug.expand.manifest import MANIFEST, SCHEMA, Row
from expraug.expand.plan import Job, Plan
from expraug.expand.preview import preview

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "DestinationError",
    "Job",
    "Plan",
    "Report",
    "Row",
    "SourceError",
    "expand",
    "preview",
]
