"""Every recorded computation runs as on a GPU, with the CPU's numbers: see ``pretend_cuda``."""

import numpy as np
import pandas as pd
import pytest
from pretend_cuda import machine

from mflib import results, sources
from mflib.experiment.store import Store
from mflib.results import registry

# Closed forms: a layer from which nothing comes back shows rounding, which is another in blocks.
LOOSE = {"recon-fig4", "recon-fig5", "recon-fig8", "recon-fig9"}
TIMED = {"recon-tab1"}


@pytest.fixture(autouse=True)
def _one_version_of_the_code(monkeypatch):
    """Keep the keys of a test what they are, and no keys of this test for others."""
    registry.computation.cache_clear()
    monkeypatch.setattr(sources, "code_version", lambda _: "this code")
    yield
    registry.computation.cache_clear()


def shards(name, group, device, folder):
    known = registry.computation(name, rehearse=True)
    store = Store(folder)
    known.compute(group, store, device, False)
    keys = known.keys(group, device)
    assert keys
    return [store.read(key) for key in keys]


@pytest.mark.parametrize("name", [name for name in registry.REGISTRY if name not in TIMED])
def test_a_group_has_the_same_numbers_as_on_a_gpu(name, tmp_path):
    group = results.groups(name, rehearse=True)[0]
    here = shards(name, group, "cpu", tmp_path / "cpu")
    with machine() as gpu:
        there = shards(name, group, "cuda", tmp_path / "cuda")
    assert gpu.kernels
    for a, b in zip(here, there, strict=True):
        assert list(a) == list(b)
        numbers = list(a.select_dtypes("number"))
        pd.testing.assert_frame_equal(a.drop(columns=numbers), b.drop(columns=numbers))
        tolerance = {"rtol": 0.05, "atol": 0.1} if name in LOOSE else {"rtol": 1e-5, "atol": 1e-9}
        np.testing.assert_allclose(a[numbers], b[numbers], **tolerance)
