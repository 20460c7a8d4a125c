"""Settings of the experiment's tests."""

import pytest
import threadpoolctl
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Run small arrays on one thread: on a busy machine the barriers cost more than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        yield
    torch.set_num_threads(before)
