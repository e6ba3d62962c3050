# SPDX-License-Identifier: Apache-2.0
"""The daemon and what helps it are killed at random moments of a random workload; tests/e2e/moments does it for longer."""
import os

import moments_run
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making interfaces needs root")


@pytest.mark.parametrize("seed", [7, 20261122])
def test_the_documents_and_the_world_agree_after_kills_at_any_moment(seed, tmp_path):
    print(moments_run.moments(seed, 12, str(tmp_path), small=True))
