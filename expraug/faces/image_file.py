"""Writing synthetic faces: encoded, marked as synthetic, whole or not at all."""

from __future__ import annotations

import io
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

ImageFormat = Literal["png", "jpeg", "webp"]

DIGITAL_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
"""IPTC's term for a real photograph with parts made by a trained model."""

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:expraug="https://github.com/expraug/expraug/ns/1.0/"
 Iptc4xmpExt:DigitalSourceType={digital_source_type}
 expraug:Synthesizer={fingerprint}
 expraug:Target={target}
 expraug:Intensity={intensity}
 expraug:Source={source}/>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def provenance(fingerprint: str, target: str, intensity: float, source: str) -> str:
    """Return the XMP packet of a synthetic face: that it is one, and where it came from."""

    def attribute(value: str) -> str:
        return quoteattr(_NOT_XML.sub("?", value))

    return _XMP.format(
        digital_source_type=attribute(DIGITAL_SOURCE_TYPE),
        fingerprint=attribute(fingerprint),
        target=attribute(target),
        intensity=attribute(f"{intensity:.2f}"),
        source=attribute(source),
    )


def encode(image: np.ndarray, image_format: ImageFormat, xmp: str) -> bytes:
    """Return the bytes of an image file that carries an XMP packet.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        image_format: "png" and "webp" are lossless; "jpeg" has quality 95, colour at full
            resolution.
        xmp: the packet.

    Raises:
        ValueError, OSError: the format cannot hold the image (WebP: 16,383 pixels per side).
    """
    out = io.BytesIO()
    picture = Image.fromarray(image)
    if image_format == "png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp)
        picture.save(out, "PNG", pnginfo=info, compress_level=3)
    elif image_format == "webp":
        picture.save(out, "WEBP", lossless=True, exact=True, method=0, quality=20, xmp=xmp.encode())
    else:
        picture.save(out, "JPEG", quality=95, subsampling=0, xmp=xmp.encode())
    return out.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or absent, whatever happens; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, path.parent) as partial:
        partial.write_bytes(data)


@contextmanager
def replacing(path: Path, staging: Path) -> Iterator[Path]:
    """Give a temporary path in a folder of the same file system; what was written there becomes
    `path` when the block is left, unless by an exception."""
    partial = staging / f".{uuid.uuid4().hex}.tmp"
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
