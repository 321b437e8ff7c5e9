import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expraug import Balance, Expression, Matrix, Uniform
from expraug.policy import create_policy

EVERY = tuple(Expression)


def available(source):
    return [e for e in EVERY if e != source]


@given(st.sampled_from(EVERY), st.sets(st.sampled_from(EVERY)))
def test_uniform_is_even_over_allowed_targets(source, targets):
    drawn = Uniform(targets).probabilities(source, available(source))
    assert set(drawn) == targets - {source}
    assert sum(drawn.values()) == pytest.approx(1 if drawn else 0)
    assert len(set(drawn.values())) <= 1


@given(st.lists(st.integers(0, 5000), min_size=8, max_size=8).filter(any))
def test_balance_brings_every_class_to_the_mean(counts):
    policy = Balance(dict(zip(EVERY, counts, strict=True)))
    after = np.array(counts, float)
    for source in EVERY:
        for target, probability in policy.probabilities(source, available(source)).items():
            after[source] -= counts[source] * probability
            after[target] += counts[source] * probability
    assert after == pytest.approx(np.full(8, np.mean(counts)))


def test_matrix_uses_only_what_is_available():
    policy = Matrix({"neutral": {"happy": 0.4, "sad": 0.2}})
    assert policy.probabilities(Expression.NEUTRAL, [Expression.HAPPY]) == {Expression.HAPPY: 0.4}
    assert policy.probabilities(Expression.SAD, EVERY) == {}
    assert policy.probabilities(None, EVERY) == {}


@pytest.mark.parametrize("row", [{"happy": -0.1}, {"happy": 0.7, "sad": 0.4}])
def test_matrix_refuses_what_is_no_probability(row):
    with pytest.raises(ValueError, match="Matrix row neutral"):
        Matrix({"neutral": row})


def test_policies_from_json():
    assert create_policy(None) == Uniform()
    assert create_policy({"uniform": ["happy"]}) == Uniform(["happy"])
    assert create_policy({"balance": {"happy": 3}}) == Balance({"happy": 3})
    assert create_policy({"matrix": {}}) == Matrix({})
    with pytest.raises(ValueError, match="a policy is one of"):
        create_policy({"random": 1})
    with pytest.raises(ValueError, match="counts"):
        Balance({})
