"""Offline expansion: a set of faces in, its synthetic faces as files out, with a manifest."""

from expraug.expand.checks import SourceError
from expraug.expand.expansion import expand
from expraug.expand.manifest import MANIFEST, SCHEMA, Row
from expraug.expand.parts import DestinationError
from expraug.expand.plan import Job, Plan
from expraug.expand.preview import preview, preview_clip
from expraug.expand.quota import Quota
from expraug.expand.report import Report

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "DestinationError",
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
