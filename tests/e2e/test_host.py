# SPDX-License-Identifier: Apache-2.0
"""The host under the daemon: it loses its power and comes back, it goes down in order, its memory is not enough, and a machine that does nothing."""
import os
import shutil
import signal
import time

import pytest
from test_limits import oom, wait_for
from test_network import address, good, guest, node as netted     # noqa: F401, pylint: disable=unused-import
from test_node import log_has, node                     # noqa: F401, pylint: disable=unused-import
from test_service import machines, spec_of              # noqa: F401, pylint: disable=unused-import

MEMORY = "/sys/fs/cgroup/memory"
BOOT = "got-address"


def status(node, name):                                 # noqa: F811
    return node.ask("GET", f"/v1/instances/{name}")["status"]


def make(node, name, spec, **more):                     # noqa: F811
    node.ask("POST", "/v1/instances", {"name": name, "spec": {**spec, **more}}, status=201)


def tree_of(pid):
    found = [pid]
    for one in found:
        with open(f"/proc/{one}/task/{one}/children", encoding="ascii") as f:
            found += map(int, f.read().split())
    return found


def lose_power(node):                                   # noqa: F811
    """Nothing runs, the kernel has none of our interfaces and rules, and what is in memory - /run - is empty."""
    node.kill()
    for pid in [*node.processes(), *node.dnsmasqs()]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not node.processes() and not node.dnsmasqs())
    for name in node.links():
        node.here.run("ip", "link", "del", name, check=False)
    node.here.run("nft", "flush", "ruleset")
    assert node.links() == {}
    shutil.rmtree(node.run)


def test_a_host_that_lost_its_power(netted, guest):     # noqa: F811
    """What shall run does again, on its network with its address and its forwards, in its order; what shall not does not."""
    n, nowhere = netted, {"networks": []}
    n.ask("POST", "/v1/networks", {"name": "lan", "spec": {"subnet": "10.78.0.0/24"}}, status=201)
    n.wait("/v1/networks/lan", "ready")
    lan = {"networks": [{"kind": "network", "network": "lan", "forwards": ["tcp:8080:80"]}]}
    make(n, "web", guest, **lan, start_order=10)
    make(n, "base", guest, **nowhere, start_order=-10)
    make(n, "off", guest, **nowhere, state="stopped")
    make(n, "still", guest, **nowhere)
    make(n, "ended", guest, **nowhere)
    log_has(n, "web", BOOT, 120)
    for name in ("base", "still", "ended"):
        log_has(n, name, "guest-is-up", 120)
    n.viv("pause", "still")
    n.viv("console", "ended", stdin="poweroff -f\n")
    n.wait("/v1/instances/still", "paused")
    n.wait("/v1/instances/ended", "stopped")
    had = address(n, "web")
    before = {name: n.ask("GET", f"/v1/instances/{name}")["spec"] for name in ("web", "base", "off", "still", "ended")}
    lose_power(n)
    n.start()
    n.wait("/v1/networks/lan", "ready")
    for name in ("web", "base"):
        n.wait(f"/v1/instances/{name}", "running")
        log_has(n, name, "guest-is-up", 120, more_than=1)
    n.wait("/v1/instances/still", "paused")
    assert {name: n.ask("GET", f"/v1/instances/{name}")["spec"] for name in before} == before
    began = {name: os.stat(f"/proc/{status(n, name)['pid']}").st_ctime_ns for name in ("web", "base")}
    assert began["base"] < began["web"]
    assert [status(n, name)["state"] for name in ("off", "ended")] == ["stopped", "stopped"]
    # It is on its network as it was: address, rules, names, the way in.
    log_has(n, "web", BOOT, 120, more_than=1)
    assert address(n, "web")["address"] == had["address"] and len(n.dnsmasqs()) == 1
    good(n, "web", "mkdir -p /www; echo it-is-web >/www/index.html; httpd -p 80 -h /www")
    assert "it-is-web" in n.outside.run("curl", "-s", "--max-time", "30", "http://198.51.100.1:8080/")
    assert "BAD" not in n.viv("network", "doctor", "lan")
    time.sleep(1)
    assert [status(n, name)["state"] for name in ("off", "ended")] == ["stopped", "stopped"] and len(n.processes()) == 3
    # And what has ended by itself is started by who wants it.
    n.viv("start", "ended")
    n.wait("/v1/instances/ended", "running")


def test_machines_end_in_the_reverse_of_their_order(node, spec):        # noqa: F811
    """Who comes last goes first: those of a lower order are asked when the others are off."""
    node.kill(signal.SIGTERM)
    node.start("--on-stop", "shutdown")
    orders = {"data": -5, "app": 10, "app2": 10, "web": 20}
    for name, order in orders.items():
        make(node, name, spec, start_order=order)
    for name in orders:
        node.wait(f"/v1/instances/{name}", "running", timeout=120)
        log_has(node, name, "ready", 120)
    pids = {status(node, name)["pid"]: name for name in orders}
    node.proc.send_signal(signal.SIGTERM)
    gone, left, end = [], set(pids), time.monotonic() + 100
    while left:
        assert time.monotonic() < end, gone
        here = set(node.processes())
        gone += [pids[pid] for pid in left - here]
        left &= here
        time.sleep(0.005)
    assert node.proc.wait(60) == 0 and machines(node) == 0
    assert gone[0] == "web" and sorted(gone[1:3]) == ["app", "app2"] and gone[3] == "data", gone


@pytest.mark.skipif(os.geteuid() != 0 or not os.access(os.path.join(MEMORY, "cgroup.procs"), os.W_OK),
                    reason="the kernel's out-of-memory killer is tried in a memory cgroup (version 1), which root makes")
def test_who_goes_first_when_memory_is_not_enough(netted, guest):       # noqa: F811
    """The kernel takes the machine that says 'first', though another one has taken more; that goes on, and the other begins anew."""
    n, group = netted, os.path.join(MEMORY, f"viv-{os.getpid()}")
    for name, policy in (("first", "first"), ("last", "last")):
        make(n, name, guest, networks=[], memory="256M", limits={"oom": policy}, restart="on-failure")
        log_has(n, name, "guest-is-up", 120)
    pids = {name: status(n, name)["pid"] for name in ("first", "last")}
    for name, adjusted in (("first", 500), ("last", -500)):
        # Less than the daemon's own takes a right that not every root has; without it that is told.
        wait_for(lambda name=name, adjusted=adjusted: oom(pids[name]) == max(-1000, min(1000, oom("self") + adjusted)) or
                 (adjusted < 0 and "oom" in status(n, name).get("limits", {}).get("reason", "")))
    os.mkdir(group)
    try:
        for pid in pids.values():
            for one in tree_of(pid):
                with open(os.path.join(group, "cgroup.procs"), "w", encoding="ascii") as f:
                    f.write(str(one))
        # What they have taken until now is not the group's.
        with open(os.path.join(group, "memory.limit_in_bytes"), "w", encoding="ascii") as f:
            f.write(str(96 << 20))
        eat = "mkdir -p /eat; mount -t tmpfs -o size=90% tmpfs /eat; dd if=/dev/zero of=/eat/all bs=1M count={}"
        good(n, "last", eat.format(52))
        n.viv("console", "first", stdin=eat.format(80) + "\n")
        wait_for(lambda: status(n, "first").get("pid") != pids["first"], 120)
        # Its successor is not in the group.
        n.wait("/v1/instances/first", "running", timeout=120)
        assert status(n, "last")["pid"] == pids["last"]
        wait_for(lambda: oom(status(n, "first")["pid"]) == min(1000, oom("self") + 500))
        assert any(f["about"] == "failure" for f in n.ask("GET", "/v1/instances/first/why")["facts"])
    finally:
        for pid in n.processes():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: _removed(group))


def _removed(group):
    try:
        os.rmdir(group)
    except OSError:
        return False
    return True


def test_a_machine_is_idle_as_long_as_it_does_nothing(netted, guest):   # noqa: F811
    n = netted
    n.kill()
    n.start("--idle-after", "6")
    make(n, "a", guest, networks=[])
    make(n, "busy", guest, networks=[])
    for name in ("a", "busy"):
        log_has(n, name, "guest-is-up", 120)
    n.viv("console", "busy", stdin="while :; do :; done\n")
    wait_for(lambda: "idle_since" not in status(n, "busy"), 60)
    wait_for(lambda: status(n, "a").get("idle_since"), 120)
    assert "idle_since" not in status(n, "busy")
    assert not any(f["about"] == "idle" for f in n.ask("GET", "/v1/instances/busy/why")["facts"])
    # A daemon that is new looks for itself.
    n.kill()
    n.start("--idle-after", "6")
    wait_for(lambda: status(n, "a").get("idle_since"), 120)
    n.viv("console", "a", stdin="while :; do :; done\n")
    wait_for(lambda: "idle_since" not in status(n, "a"), 120)
    assert "idle_since" not in status(n, "busy") and status(n, "a")["state"] == "running"
