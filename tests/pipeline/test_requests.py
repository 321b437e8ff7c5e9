"""Requests, and the bounded menu of each image."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expraug import Expression, SynthesisRequest
from expraug.errors import LabelError
from expraug.pipeline.requests import sample_menu, uniforms_from_digest

EVERY = tuple(Expression)
digests = st.binary(min_size=16, max_size=16)
policies = st.lists(st.tuples(st.sampled_from(EVERY), st.floats(0.01, 1)), max_size=8).map(
    lambda rows: [(e, p / max(1.0, sum(q for _, q in rows))) for e, p in dict(rows).items()]
)


@given(st.sampled_from(EVERY), st.floats(0.005, 1), st.integers(0, 63))
def test_intensities_are_whole_percent(target, intensity, variant):
    if round(intensity * 100) < 1:
        return
    request = SynthesisRequest(str(target), intensity, variant)
    assert request.target is target
    assert request.percent == round(intensity * 100)
    assert request == SynthesisRequest(target, request.percent / 100, variant)


@pytest.mark.parametrize("wrong", [0, 0.001, 1.01, 60, -0.5])
def test_intensities_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="intensity must be in"):
        SynthesisRequest(Expression.HAPPY, wrong)


def test_other_refusals():
    with pytest.raises(ValueError, match="variant"):
        SynthesisRequest(Expression.HAPPY, variant=-1)
    with pytest.raises(LabelError, match="bored"):
        SynthesisRequest("bored")


@given(digests, policies, st.integers(1, 9), st.integers(1, 64), st.integers())
def test_a_menu_follows_from_its_arguments_alone(digest, policy, per_image, variants, seed):
    arguments = (digest, policy, (60, 80, 100), variants)
    menu = sample_menu(*arguments, per_image=per_image, seed=seed)
    assert menu == sample_menu(*arguments, per_image=per_image, seed=seed)
    assert len(menu) == per_image
    asked = [request for request in menu if request is not None]
    assert {request.target for request in asked} <= {target for target, _ in policy}
    assert all(r.percent in (60, 80, 100) and r.variant < variants for r in asked)
    for target, count in Counter(request.target for request in asked).items():
        different = {request for request in asked if request.target is target}
        assert len(different) == min(count, 3 * variants), "nothing twice while there are others"


@given(digests, st.integers(1, 7))
def test_the_slots_of_one_image_are_spread_over_its_targets(digest, count):
    targets = EVERY[:count]
    policy = [(target, 1 / count) for target in targets]
    menu = sample_menu(digest, policy, (100,), 9, per_image=4, seed=0)
    shown = Counter(request.target for request in menu if request)
    assert sum(shown.values()) in (3, 4)  # 1 / count, added up, may fall short of 1 by a rounding
    assert len(shown) >= min(count, 4) - 1
    assert max(shown.values()) <= -(-4 // count) + 1


def test_over_many_images_every_slot_has_the_policys_probabilities():
    policy = [(Expression.HAPPY, 0.5), (Expression.FEAR, 0.2)]
    slots = [Counter() for _ in range(4)]
    for number in range(4000):
        digest = number.to_bytes(16, "little")
        for slot, request in zip(
            slots, sample_menu(digest, policy, (100,), 1, per_image=4, seed=3), strict=True
        ):
            slot[request.target if request else None] += 1
    for slot in slots:
        assert slot[Expression.HAPPY] / 4000 == pytest.approx(0.5, abs=0.03)
        assert slot[Expression.FEAR] / 4000 == pytest.approx(0.2, abs=0.03)
        assert slot[None] / 4000 == pytest.approx(0.3, abs=0.03)


def test_another_image_or_seed_is_another_menu():
    def menus(seed):
        policy = [(e, 1 / 8) for e in EVERY]
        return [
            sample_menu(i.to_bytes(16, "big"), policy, (60, 80, 100), 8, per_image=4, seed=seed)
            for i in range(50)
        ]

    assert len(set(menus(0))) == 50
    assert not set(menus(0)) & set(menus(1))


@given(digests, st.integers(), st.integers(-(2**62), 2**62))
def test_uniforms(digest, seed, number):
    found = uniforms_from_digest(digest, seed, number)
    assert found == uniforms_from_digest(digest, seed, number)
    assert all(0 <= u < 1 for u in found)
    assert found != uniforms_from_digest(digest, seed, number + 1)
