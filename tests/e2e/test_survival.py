# SPDX-License-Identifier: Apache-2.0
"""A short run of tests/e2e/long: each operation once, in an order that the seed gives."""
import os

import pytest
import survival_run
import vivguest

SEED = int(os.environ.get("VIV_SURVIVAL_SEED", "5"))
OPERATIONS = int(os.environ.get("VIV_SURVIVAL_OPERATIONS", str(len(survival_run.Run.OPERATIONS))))

needs_root = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/net/tun") or not vivguest.have("ip"),
                                reason="only root can make network namespaces with taps, and /dev/net/tun is needed")


@needs_root
def test_debian_survives_each_operation_under_load(debian, tmp_path):
    survival_run.survive(debian, SEED, OPERATIONS, slow_engine=False, folder=str(tmp_path / "run"))
