import numpy as np
import pytest
from cached_faces import pattern, same
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from expraug.cache import CacheEntry, SynthesisCache
from expraug.cache.encoding import decode, encode

shapes = st.one_of(
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 5)),
)
int32 = st.integers(-(2**31), 2**31 - 1)
entries = st.builds(
    CacheEntry,
    patch=st.none() | shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape)),
    origin=st.tuples(int32, int32),
    scores=st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False), max_size=3),
    reason=st.text(max_size=12),
    points=st.none()
    | st.integers(0, 9).flatmap(
        lambda n: hnp.arrays(np.float32, (n, 2), elements=st.floats(width=32))
    ),
)


@settings(max_examples=300, deadline=None)
@given(entries, st.sampled_from(["raw", "png", "webp"]), st.binary(min_size=1, max_size=40))
def test_values_round_trip(entry, encoding, key):
    assert same(decode(key, encode(key, entry, encoding)), entry)


@settings(max_examples=300, deadline=None)
@given(entries, st.sampled_from(["raw", "png", "webp"]), st.data())
def test_any_damage_is_a_miss(entry, encoding, data):
    value = encode(b"key", entry, encoding)
    at = data.draw(st.integers(0, len(value) - 1))
    flipped = bytearray(value)
    flipped[at] ^= data.draw(st.integers(1, 255))
    assert decode(b"key", bytes(flipped)) is None
    assert decode(b"key", value[:at]) is None
    assert decode(b"key", value + b"x") is None
    assert decode(b"other", value) is None


def test_webp_is_smaller_and_takes_any_layout():
    ramp = np.linspace(0, 255, 40 * 32 * 3).reshape(3, 40, 32).astype(np.uint8).transpose(1, 2, 0)
    value = encode(b"k", CacheEntry(ramp), "webp")
    assert len(value) < ramp.size / 3
    assert same(decode(b"k", value), CacheEntry(ramp))


@pytest.mark.parametrize("shape", [(40, 32, 3), (40, 32)])
def test_jpeg_comes_close(shape):
    smooth = np.linspace(0, 255, int(np.prod(shape))).reshape(shape).astype(np.uint8)
    patch = decode(b"k", encode(b"k", CacheEntry(smooth), "jpeg:95")).patch
    assert patch.shape == shape
    assert np.abs(patch.astype(int) - smooth).max() < 12


def test_places_may_be_numpy_integers():
    entry = CacheEntry(pattern(1), (np.int64(3), np.int32(-4)), {"identity": np.float32(0.5)})
    assert decode(b"k", encode(b"k", entry)).origin == (3, -4)


def test_unknown_encodings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="encoding"):
        SynthesisCache(tmp_path, encoding="jpeg:0")


@pytest.mark.parametrize(
    "entry",
    [
        CacheEntry(np.zeros((4, 4, 3), np.float32)),
        CacheEntry(np.zeros(4, np.uint8)),
        CacheEntry(None, points=np.zeros((3, 2))),
        CacheEntry(None, points=np.zeros((3, 3), np.float32)),
    ],
)
def test_malformed_entries_are_refused(cache, entry):
    with pytest.raises(ValueError, match=r"patch|points"):
        cache.put(b"key", entry)
