"""The order in which the workers take the files."""

from tests.conftest import HERE, ORDER


def test_every_file_of_the_order_is_there() -> None:
    assert [name for name in ORDER if not (HERE / name).is_file()] == []
