# SPDX-License-Identifier: Apache-2.0
"""Shared pieces of the end-to-end tests: real kernels and a real Debian under build/viv-vmm."""
import os
import shutil
import signal
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
import vivguest  # noqa: E402


def pytest_configure(config):
    # Whoever runs the tests in the background may have these ignored, and so would all that is started: tests send them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for signo in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(signo, signal.SIG_DFL)
    config.addinivalue_line("markers", "long: takes a minute and more; tests/run runs these beside the others")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.failed = getattr(item, "failed", False) or report.failed


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    """Disks and memories of a test that has passed go with it: all of them together are more than ten gigabytes."""
    yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if folder and not item.failed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_umask():
    """What a test does to the umask does not reach those after it."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def bookworm():
    return vivguest.kernel("bookworm")


@pytest.fixture(scope="session")
def debian():
    return vivguest.debian()


@pytest.fixture
def disk(debian, tmp_path):
    """A throw-away copy of the Debian root disk."""
    return vivguest.copy_sparse(os.path.join(debian, "root.img"), str(tmp_path / "root.img"))
