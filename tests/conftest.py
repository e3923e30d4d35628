import os
from pathlib import Path

import pytest

from tests.small import Small, make_small


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Small:
    return make_small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def data_root() -> Path:
    """The folder of the real data sets, which are other people's and stay out of the repository."""
    root = os.environ.get("TUTELAGE_DATA_ROOT")
    if not root:
        pytest.skip("TUTELAGE_DATA_ROOT is not set: the real data sets are not part of the repository")
    return Path(root)
