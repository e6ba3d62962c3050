# SPDX-License-Identifier: Apache-2.0
"""A short run of tests/e2e/long: each operation once, in an order that the seed gives; and that its plan is what it says."""
import os
import re

import pytest
import survival_run
import vivguest
from survival_plan import OPERATIONS, REQUESTS, Plan

SEED = int(os.environ.get("VIV_SURVIVAL_SEED", "368"))       # one of the short ones: its jobs are on small disks
N = int(os.environ.get("VIV_SURVIVAL_OPERATIONS", str(len(OPERATIONS))))

needs_root = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/net/tun") or not vivguest.have("ip"),
                                reason="only root can make network namespaces with taps, and /dev/net/tun is needed")


def test_a_seed_is_the_same_steps_again():
    steps = list(Plan(7).steps(200))
    assert steps == list(Plan(7).steps(200)) != list(Plan(8).steps(200))
    assert steps[:50] == list(Plan(7).steps(50))


def test_a_run_has_each_operation_and_runs_have_all_of_its_kinds():
    seen = {}
    for seed in range(5):
        steps = list(Plan(seed).steps(200))
        assert {name for name, _ in steps[:len(OPERATIONS) + 5]} == set(OPERATIONS)
        for name, how in steps:
            for key, value in how.items():
                seen.setdefault(key, set()).add(str(value))
    for key, values in {"packing": {"none", "raw", "zstd", "lz4"}, "encrypted": {"True", "False"},
                        "kind": {"raw", "qcow2", "encrypted", "backed"}, "device": {"balloon", "agent", "vsock"}, "cancel": {"save", "set"}, "engine": {"bt", "interp"}, "via": {"unix", "tcp"}, "tls": {"True", "False"},
                        "streams": set("12348"), "postcopy": {"off", "round", "asked"}, "format": {"raw", "qcow2"},
                        "mode": {"auto", "background", "blocking"}, "end": {"at once", "completed", "cancelled"},
                        "quiesce": {"True", "False"}}.items():
        assert seen[key] == values, key
    assert seen["disks"] > {"shared", "plugged", "all"}


def test_the_fast_engine_alone_does_each_operation_at_once():
    steps = list(Plan(SEED, slow_engine=False).steps(len(OPERATIONS)))
    assert {name for name, _ in steps} == set(OPERATIONS) and {how["engine"] for _, how in steps if "engine" in how} == {"bt"}


def test_devices_come_before_they_go():
    there = {"terminal"}
    for name, how in Plan(3).steps(1000):
        if name in ("net", "user_net", "console", "terminal"):
            assert how["plug"] != (name in there)
            there ^= {name}
        elif name == "disk":
            assert ("unplug" in how) == (how.get("unplug") in there)
            there ^= {how.get("plug") or how["unplug"]}


def test_each_request_that_a_machine_takes_is_known():
    with open(os.path.join(vivguest.ROOT, "docs/api/control.md"), encoding="utf-8") as f:
        requests = set(re.findall(r"^### (\S+)", f.read(), re.MULTILINE))
    assert set(REQUESTS) == requests
    methods = {*OPERATIONS, "settle", "finish"}
    assert all(how.startswith("-: ") or how in methods for how in REQUESTS.values())
    assert all(hasattr(survival_run.Run, f"op_{name}") and hasattr(Plan, f"draw_{name}") for name in OPERATIONS)


@needs_root
def test_debian_survives_each_operation_under_load(debian, tmp_path):
    survival_run.survive(debian, SEED, N, slow_engine=False, folder=str(tmp_path / "run"))
