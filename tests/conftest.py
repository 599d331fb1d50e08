"""Shared fixtures: devices, seeds, reference material and the tolerance rule."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

SHARED = Path(os.environ.get("LEYOLO_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference material beside the checkout: goldens, official weights, images with ground truth."""
    if not SHARED.is_dir():
        pytest.skip("the reference material (../shared) is not on this machine")
    return SHARED


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True, scope="session")
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept in the user's cache folder, and nothing comes from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEYOLO_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tests of many small steps: threads that wait for each other make them many times slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a GPU the cuda variants are left out of the collection, so that a skip always means something.

    LEYOLO_TEST_SAMPLE=n keeps one test of n: for tools under which a test runs some hundred times slower.
    LEYOLO_TEST_FIRST=i: from the i-th on, so that n processes with 0 to n - 1 share the tests."""
    if not torch.cuda.is_available():
        items[:] = [item for item in items if item.get_closest_marker("cuda") is None]
    first, step = (int(os.environ.get(f"LEYOLO_TEST_{name}", n)) for name, n in (("FIRST", "0"), ("SAMPLE", "1")))
    items[:] = items[first::step]


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


@pytest.fixture
def as_good_as_torch() -> Callable[..., None]:
    """Our error against float64 is at most twice that of plain torch in the same dtype (plus an ulp of the largest
    value, since torch may happen to be exact)."""

    def compare(ours: Tensor, reference: Callable[..., Tensor], *args: Any, factor: float = 2.0, **kwargs: Any) -> None:
        exact = reference(*map(_double, args), **kwargs)
        plain = reference(*args, **kwargs)
        assert ours.shape == exact.shape, f"shape {tuple(ours.shape)}, expected {tuple(exact.shape)}"
        if exact.numel() == 0:
            return
        assert torch.equal(ours.isnan(), exact.isnan()), "NaN in other places than the reference"
        error, allowed = ((t.double() - exact).nan_to_num().abs().max().item() for t in (ours, plain))
        ulp = torch.finfo(ours.dtype).eps * exact.nan_to_num().abs().max().item()
        assert error <= factor * allowed + ulp, f"error {error:.3e}, torch's own {allowed:.3e}, an ulp {ulp:.3e}"

    return compare
