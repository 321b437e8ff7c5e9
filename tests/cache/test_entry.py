import numpy as np
import pytest
from cached_faces import pattern

from expraug.cache import entry_key, image_digest


def test_digest_depends_on_pixels_and_shape_only():
    image = pattern(1)
    assert len(image_digest(image)) == 16
    assert image_digest(image) == image_digest(np.asfortranarray(image))
    assert image_digest(image) == image_digest(image[:, ::-1][:, ::-1])
    assert image_digest(image) != image_digest(image.reshape(12, 48, 3))
    assert image_digest(image[..., 0]) != image_digest(image[..., :1])
    with pytest.raises(ValueError, match="uint8"):
        image_digest(image.astype(np.float32))


def test_keys_start_with_the_synthesizer():
    digest = image_digest(pattern(1))
    key = entry_key(digest, "pixel 1", 3, 65535)
    assert len(key) == 8 + 16 + 4
    assert key[8:24] == digest
    assert key[:8] == entry_key(digest, "pixel 1", 0)[:8] != entry_key(digest, "pixel 2", 0)[:8]
    with pytest.raises(ValueError, match="65535"):
        entry_key(digest, "pixel", 65536)
    with pytest.raises(ValueError, match="16 bytes"):
        entry_key(b"short", "pixel")
