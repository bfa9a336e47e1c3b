"""What the tests of sweeps share."""

import pytest


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder to sweep in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("home"))
        yield
