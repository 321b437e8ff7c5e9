from expraug import Expression
from expraug.networks.class_index import class_index


def test_index_of_each_expression() -> None:
    some = (Expression.HAPPY, Expression.ANGRY, Expression.NEUTRAL)
    found = class_index(some)
    assert found.tolist() == [2, 0, -1, -1, -1, -1, 1, -1]
    assert class_index(()).tolist() == [-1] * len(Expression)
