import pytest

from tests.small import Small, make_small


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Small:
    return make_small(tmp_path_factory.mktemp("small"))
