"""What several tests of the kernels share; a file with other needs defines its own."""

import pytest
from networks import stirred

from relcore.data.encoders import make_encoder


@pytest.fixture(scope="module")
def model():
    return stirred(0.05)


@pytest.fixture(scope="module")
def encoder():
    return make_encoder("rte")
