import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.small import Small, make_small

# The same commit gives the same result: `make test` draws the same examples each time, `make test-all` (--hypothesis-profile=new) others.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None)
settings.load_profile("same")


def seed() -> None:
    """What a test draws from the global generators does not depend on which tests ran before it in this process."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


def pytest_fixture_setup() -> None:
    seed()


def pytest_runtest_call() -> None:
    seed()


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
