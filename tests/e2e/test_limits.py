# SPDX-License-Identifier: Apache-2.0
"""What an instance may take of its node: live, as the kernel and the machine say that they hold, and what has no room is not started."""
import json
import os
import subprocess
import time

import pytest
from test_node import BUILD, guest, log_has, node   # noqa: F401, pylint: disable=unused-import

ME = os.sched_getaffinity(0)


def threads(node):
    """Numbers of all threads of all processes of the node's only machine."""
    todo, found = node.processes(), []
    assert len(todo) == 1
    while todo:
        pid = todo.pop()
        for tid in os.listdir(f"/proc/{pid}/task"):
            found.append(int(tid))
            with open(f"/proc/{pid}/task/{tid}/children", encoding="ascii") as f:
                todo += map(int, f.read().split())
    return found


def wait_for(what, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


def ctl(node, *words):
    uid = node.ask("GET", "/v1/instances/a")["uid"]
    return subprocess.run([os.path.join(BUILD, "viv-vmm"), "ctl", os.path.join(node.run, "i", uid, "control"), *words],
                          check=True, capture_output=True, text=True, timeout=60).stdout


def info(node):
    return json.loads(ctl(node, "info", "--json"))["result"]


def oom(tid):
    with open(f"/proc/{tid}/oom_score_adj", encoding="ascii") as f:
        return int(f.read())


def io_level(tid):
    return subprocess.run(["ionice", "-p", str(tid)], capture_output=True, text=True, check=True).stdout.strip()


def start(node, guest, **limits):
    node.ask("POST", "/v1/instances", {"name": "a", "spec": dict(guest, limits=limits)}, status=201)
    node.wait("/v1/instances/a", "running")


def change(node, **limits):
    node.ask("PATCH", "/v1/instances/a", {"spec": {"limits": limits}})


def test_threads_are_where_and_what_they_shall_be_at_once(node, guest):  # noqa: F811
    one = min(ME)
    nice, here = os.getpriority(os.PRIO_PROCESS, 0), oom("self")
    start(node, guest, cpus=str(one), cpu_weight=50, io_weight=25, oom="first")
    wait_for(lambda: all(os.sched_getaffinity(t) == {one} for t in threads(node)))
    wait_for(lambda: all(os.getpriority(os.PRIO_PROCESS, t) == min(nice + 3, 19) for t in threads(node)))
    wait_for(lambda: all(oom(t) == min(here + 500, 1000) for t in threads(node)))
    assert {io_level(t) for t in threads(node)} == {"best-effort: prio 6"}
    # Another daemon knows nothing of them, and what is taken away holds no more.
    node.kill()
    node.start()
    node.wait("/v1/instances/a", "running")
    change(node, cpus=None, cpu_weight=None, io_weight=None, oom=None)
    wait_for(lambda: all(os.sched_getaffinity(t) == ME for t in threads(node)))
    if os.geteuid() == 0:
        wait_for(lambda: all(os.getpriority(os.PRIO_PROCESS, t) == nice and oom(t) == here for t in threads(node)))
        assert "limits" not in node.ask("GET", "/v1/instances/a")["status"]


def test_the_machine_keeps_its_own(node, guest):  # noqa: F811
    for name in ("v", "w"):
        node.ask("POST", "/v1/volumes", {"name": name, "spec": {"size": "1M"}}, status=201)
        node.wait(f"/v1/volumes/{name}", "ready")
    spec = dict(guest, disks=[{"volume": "v"}, {"volume": "w", "iops": 7}])
    start(node, spec, cpu="0.5", iops=300, bps="20M", memory="96M")
    wait_for(lambda: info(node).get("cpu_limit") == "0.5")
    node.viv("set", "a", "limits.cpu=0.25", "limits.iops=null")
    wait_for(lambda: info(node).get("cpu_limit") == "0.25")
    change(node, cpu=None)
    wait_for(lambda: "cpu_limit" not in info(node))
    assert "limits" not in node.ask("GET", "/v1/instances/a")["status"]
    why = node.ask("GET", "/v1/instances/a/why")
    assert why["state"] == "running"


def test_what_cannot_hold_is_told(node, guest):  # noqa: F811
    start(node, guest, cpus=str(max(ME) + 500))
    wait_for(lambda: "none of these processors" in node.ask("GET", "/v1/instances/a")["status"].get("limits", {}).get("reason", ""))
    assert any(f["about"] == "limits" for f in node.ask("GET", "/v1/instances/a/why")["facts"])
    change(node, cpus=None)
    wait_for(lambda: "limits" not in node.ask("GET", "/v1/instances/a")["status"])


@pytest.mark.parametrize("limits, field", [
    ({"cpu": "0"}, "cpu"), ({"cpu": "65"}, "cpu"), ({"cpu": "nan"}, "cpu"), ({"cpu": "1e0"}, "cpu"), ({"cpu": "0.5555"}, "cpu"), ({"cpu": -1}, "cpu"),
    ({"cpus": "3-1"}, "cpus"), ({"cpus": "1,"}, "cpus"), ({"cpus": "0-99999"}, "cpus"), ({"cpu_weight": 0}, "cpu_weight"),
    ({"memory": "129M"}, "memory"), ({"oom": "never"}, "oom"), ({"iops": -1}, "iops"), ({"speed": 1}, "speed"),
])
def test_nonsense_is_refused_at_its_field(node, guest, limits, field):  # noqa: F811
    error = node.ask("POST", "/v1/instances", {"name": "a", "spec": dict(guest, limits=limits)}, status=400)["error"]
    assert error["field"] == f"spec.limits.{field}"


def test_what_has_no_room_is_not_started_until_there_is(node, guest):  # noqa: F811
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    node.kill()
    room = ("--overcommit-memory", f"{2.5 * 128 * (1 << 20) / host:.12f}")    # for two machines and a half
    node.start(*room, "--overcommit-cpus", "500")
    for name in "abc":
        node.ask("POST", "/v1/instances", {"name": name, "spec": guest}, status=201)
        if name != "c":
            node.wait(f"/v1/instances/{name}", "running")
    assert "no room" in node.wait("/v1/instances/c", "failed")["status"]["reason"]
    # What runs is counted by another daemon, too, and one that has gone makes room.
    node.kill()
    node.start(*room)
    node.wait("/v1/instances/b", "running")
    assert "no room" in node.wait("/v1/instances/c", "failed")["status"]["reason"]
    node.viv("rm", "-f", "a")
    node.wait_gone("/v1/instances/a")
    node.ask("PATCH", "/v1/instances/c", {"spec": {"state": "running"}})
    node.wait("/v1/instances/c", "running")
    node.ask("POST", "/v1/instances", {"name": "huge", "spec": dict(guest, memory=2 * host)}, status=201)
    assert "more than the host has" in node.wait("/v1/instances/huge", "failed")["status"]["reason"]
    node.kill()
    node.start("--overcommit-cpus", str(2 / os.sysconf("SC_NPROCESSORS_ONLN")), "--overcommit-memory", "0")
    node.ask("POST", "/v1/instances", {"name": "d", "spec": guest}, status=201)
    assert "processors" in node.wait("/v1/instances/d", "failed")["status"]["reason"]


def test_a_machine_that_does_nothing_is_called_idle(node, guest):  # noqa: F811
    node.kill()
    node.start("--idle-after", "6")
    start(node, guest)
    wait_for(lambda: node.ask("GET", "/v1/instances/a")["status"].get("idle_since"), 120)
    assert any(f["about"] == "idle" for f in node.ask("GET", "/v1/instances/a/why")["facts"])


def test_wrong_factors_are_refused(tmp_path):
    for option, value in (("--overcommit-memory", "x"), ("--overcommit-cpus", "-1"), ("--idle-after", "1e9")):
        done = subprocess.run([os.path.join(BUILD, "vivd"), "--data", str(tmp_path / "d"), "--run", str(tmp_path / "r"), option, value],
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2 and option in done.stderr
