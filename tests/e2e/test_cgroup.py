# SPDX-License-Identifier: Apache-2.0
"""Machines in control groups of their own: who is in one, what ends with it, and what becomes of groups when daemons die."""
import os
import random
import signal
import subprocess
import time

import pytest
from groups import groups, members, places
from test_limits import wait_for
from test_node import Node, guest, log_has, node        # noqa: F401, pylint: disable=unused-import
from test_service import machines, spec_of              # noqa: F401, pylint: disable=unused-import

PLACES = places()
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not PLACES or not all(os.access(p, os.W_OK) for p in PLACES),
                                reason="control groups are made by root, where a hierarchy is mounted writable")
WITH_NET = {"networks": [{"kind": "user"}]}
HELPERS = {"viv-vmm", "viv-keeper", "viv-janitor", "passt"}


def name_of(pid):
    with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
        return f.read().strip().partition(".")[0]


def start(node, guest, name="a", **more):               # noqa: F811
    """Its folders and the processes in them by their names."""
    made = node.ask("POST", "/v1/instances", {"name": name, "spec": {**guest, **WITH_NET, **more}}, status=201)
    node.wait(f"/v1/instances/{name}", "running")
    folders = groups(node, node.proc.pid)[made["uid"]]
    return folders, {name_of(pid): pid for pid in members(folders[0])}


def bound_of(place):
    with open(os.path.join(place, "pids.max"), encoding="ascii") as f:
        return int(f.read())


def pid_of(node, name="a"):                             # noqa: F811
    return node.ask("GET", f"/v1/instances/{name}")["status"].get("pid")


def is_there(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(name="stray")
def stray_of():
    """Adds a process to groups that would outlive all others there; returns its number."""
    made = []

    def add(folders):
        made.append(subprocess.Popen(["sleep", "600"]))
        for folder in folders:
            with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as f:
                f.write(str(made[-1].pid))
        return made[-1].pid
    yield add
    for one in made:
        one.kill()
        one.wait()


def daemon_with(script):
    """A daemon that is started after SCRIPT in a mount namespace of its own."""
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    n = Node(folder)
    n.prefix = ["unshare", "--mount", "sh", "-ec", script + '\nexec "$@"', "sh"]
    return n


def end_daemon(n):
    n.end()
    subprocess.run(["rm", "-rf", n.folder], check=True)


@pytest.fixture(name="with_script")
def with_script_of():
    made = []

    def begin(script):
        made.append(daemon_with(script))
        return made[-1].start()
    yield begin
    for n in made:
        end_daemon(n)


def test_all_that_a_machine_has_started_is_in_its_group(node, guest):           # noqa: F811
    folders, inside = start(node, guest)
    assert len(folders) == len(PLACES) and set(inside) == HELPERS and inside["viv-vmm"] == pid_of(node)
    for folder in folders:
        assert members(folder) == sorted(inside.values())
        assert node.proc.pid not in members(folder)
    assert node.ask("GET", "/v1/node")["control_groups"] == {"own": True, "reason": ""}
    # Enough for it, and not for more.
    bounds = [os.path.join(folder, "pids.max") for folder in folders]
    bound = [int(open(path, encoding="ascii").read()) for path in bounds if os.path.exists(path)]       # pylint: disable=consider-using-with
    assert len(bound) == 1 and 1024 < bound[0] < 4096
    other, _ = start(node, guest, "b", networks=[])
    assert len(members(other[0])) == 2 and not set(members(other[0])) & set(inside.values())
    # It sees nothing above it.
    with open(f"/proc/{inside['viv-vmm']}/ns/cgroup", "rb") as machine, open("/proc/self/ns/cgroup", "rb") as here:
        assert os.fstat(machine.fileno()).st_ino != os.fstat(here.fileno()).st_ino


def test_a_machine_cannot_have_more_threads_than_its_bound(node, guest):        # noqa: F811
    folders, inside = start(node, guest, networks=[])
    place = next(f for f in folders if os.path.exists(os.path.join(f, "pids.max")))
    with open(os.path.join(place, "pids.current"), encoding="ascii") as f:
        threads = int(f.read())
    assert threads == sum(len(os.listdir(f"/proc/{pid}/task")) for pid in inside.values())
    with open(os.path.join(place, "pids.max"), "w", encoding="ascii") as f:
        f.write(str(threads))
    # As who has taken over the machine would: one more.
    more = subprocess.run(["sh", "-c", f"echo 0 >{place}/cgroup.procs && (:)"], capture_output=True, text=True, check=False)
    assert more.returncode and "fork" in more.stderr
    # The bound of a daemon that comes is the right one again.
    node.kill()
    node.start()
    node.wait("/v1/instances/a", "running")
    wait_for(lambda: bound_of(place) > 1024)        # it is said to be running before that
    assert members(place) == sorted(inside.values())


def test_what_hangs_ends_with_its_machine_and_the_group_goes(node, guest, stray):      # noqa: F811
    folders, inside = start(node, guest, restart="never")
    inside["stray"] = stray(folders)
    uid = node.ask("GET", "/v1/instances/a")["uid"]
    os.kill(inside["viv-vmm"], signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: not is_there(inside["viv-janitor"]))
    # The process that removes sockets has had its time.
    assert not os.path.exists(os.path.join(node.run, "i", uid, "control"))
    wait_for(lambda: not any(map(os.path.exists, folders)))
    assert time.monotonic() - began > 0.9
    assert not any(is_there(pid) for pid in inside.values())
    assert f"processes that machine {uid} has left behind are killed" in node.log()
    # Where nothing hangs there is nothing to wait for, and nothing to say.
    node.viv("start", "a")
    node.wait("/v1/instances/a", "running")
    node.ask("DELETE", "/v1/instances/a", status=202)
    node.wait_gone("/v1/instances/a")
    wait_for(lambda: not groups(node))
    assert node.log().count("left behind") == 1


def test_a_machine_begins_again_when_nothing_is_left_of_it(node, guest, stray):        # noqa: F811
    """What hung of the one before is not in the group of the next."""
    folders, inside = start(node, guest, restart="always")
    inside["stray"] = stray(folders)
    os.kill(inside["viv-vmm"], signal.SIGKILL)
    wait_for(lambda: pid_of(node) not in (None, inside["viv-vmm"]))
    assert not set(members(folders[0])) & set(inside.values()) and not is_there(inside["stray"])
    node.wait("/v1/instances/a", "running")
    wait_for(lambda: {name_of(pid) for pid in members(folders[0])} == HELPERS)


def test_a_machine_that_was_told_to_stop_says_why_it_ended(node, spec):         # noqa: F811
    """Whatever becomes of its group meanwhile."""
    folders, _ = start(node, spec, networks=[])
    log_has(node, "a", "ready", 120)
    node.viv("stop", "a")
    assert node.wait("/v1/instances/a", "stopped")["status"]["reason"] == "power off"
    wait_for(lambda: not any(map(os.path.exists, folders)))
    assert "left behind" not in node.log()


def test_groups_of_what_ended_while_no_daemon_looked_are_removed(node, guest, stray):  # noqa: F811
    folders, inside = start(node, guest, "a", restart="never")
    stays, others = start(node, guest, "b")
    node.kill()
    inside["stray"] = stray(folders)
    os.kill(inside["viv-vmm"], signal.SIGKILL)
    # And one that was made for a machine that never came.
    empty = [f.replace(f.rpartition("machine-")[2].partition(".")[0], "0123456789abcdef") for f in folders]
    for folder in empty:
        os.mkdir(folder)
    time.sleep(0.2)
    assert is_there(inside["stray"]) and all(map(os.path.exists, folders))
    node.start()
    wait_for(lambda: not any(map(os.path.exists, folders + empty)))
    assert not any(is_there(pid) for pid in inside.values())
    # The other one never noticed.
    assert sorted(members(stays[0])) == sorted(others.values()) and pid_of(node, "b") == others["viv-vmm"]
    os.kill(others["viv-vmm"], signal.SIGKILL)
    wait_for(lambda: pid_of(node, "b") not in (None, others["viv-vmm"]))
    wait_for(lambda: {name_of(pid) for pid in members(stays[0])} == HELPERS)


def test_the_groups_of_another_daemon_are_its_own(node, guest, with_script):    # noqa: F811
    """Both are in the same group, and one comes and goes while the other's machine runs, or is about to."""
    folders, inside = start(node, guest)
    other = with_script(":")
    start(other, guest, networks=[])
    for _ in range(2):
        other.kill()
        before = other.processes()
        os.kill(before[0], signal.SIGKILL)
        other.start()
        # What is said of it may still be of the one before.
        wait_for(lambda: other.processes() not in ([], before) and other.processes() == [pid_of(other)])    # pylint: disable=cell-var-from-loop
    assert sorted(members(folders[0])) == sorted(inside.values()) and set(groups(node)).isdisjoint(groups(other, other.proc.pid))


@pytest.mark.parametrize("what", ["is not writable", "is not mounted"])
def test_without_groups_a_machine_runs_and_the_daemon_says_why(with_script, guest, what):      # noqa: F811
    if "writable" in what:
        n = with_script("\n".join(f"mount -o remount,bind,ro {p}" for p in PLACES))
        assert "machines have no control groups of their own: '/sys/fs/cgroup/" in n.log() and "cannot be written" in n.log()
    else:
        n = with_script("umount -l /sys/fs/cgroup")
        assert "machines have no control groups of their own: none are mounted" in n.log()
    n.ask("POST", "/v1/instances", {"name": "a", "spec": dict(guest, **WITH_NET, restart="on-failure")}, status=201)
    pid = n.wait("/v1/instances/a", "running")["status"]["pid"]
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as machine, open("/proc/self/cgroup", encoding="ascii") as here:
        assert machine.read() == here.read()
    assert not groups(n)
    said = n.ask("GET", "/v1/node")["control_groups"]
    assert not said["own"] and said["reason"] in n.log()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid_of(n) not in (None, pid))
    assert n.log().count("control group") == 1


@pytest.mark.parametrize("gone", PLACES, ids=os.path.basename)
def test_one_hierarchy_is_enough(with_script, guest, stray, gone):                     # noqa: F811
    """Version 1 alone, which ends processes one by one; and version 2 alone."""
    n = with_script(f"umount -l {gone}")
    folders, inside = start(n, guest, restart="never")
    assert len(folders) == len(PLACES) - 1 and set(inside) == HELPERS
    inside["stray"] = stray(folders)
    os.kill(inside["viv-vmm"], signal.SIGKILL)
    wait_for(lambda: not any(map(os.path.exists, folders)))
    assert not any(is_there(pid) for pid in inside.values())
    n.kill()


# --- as below systemd's delegation ---

@pytest.fixture(name="service")
def service_of():
    """A group of the unified hierarchy, as a service has one."""
    unified = [p for p in PLACES if os.path.exists(os.path.join(p, "cgroup.subtree_control"))]
    if not unified:
        pytest.skip("the unified hierarchy is not mounted")
    folder = os.path.join(unified[0], f"viv-test-{os.getpid()}.service")
    os.mkdir(folder)
    yield folder
    with open(os.path.join(folder, "cgroup.kill"), "w", encoding="ascii") as f:
        f.write("1")
    wait_for(lambda: "populated 0" in open(os.path.join(folder, "cgroup.events"), encoding="ascii").read())     # pylint: disable=consider-using-with
    for below in [e.path for e in os.scandir(folder) if e.is_dir()]:
        os.rmdir(below)
    os.rmdir(folder)


def test_below_a_service_the_daemon_makes_room_for_controllers(service, with_script, guest):   # noqa: F811
    """It is in a leaf, its machines beside it, and whoever owns the service's group may give controllers to all of them and take
    them away again, which is what systemd does before it starts the service anew beside machines that run."""
    enter = f"echo 0 >{service}/cgroup.procs"
    n = with_script(enter)
    folders, inside = start(n, guest)
    assert members(service) == [] and n.proc.pid in members(os.path.join(service, "daemon"))
    mine = os.path.join(service, next(os.path.basename(f) for f in folders))
    assert members(mine) == sorted(inside.values())
    with open(os.path.join(service, "cgroup.controllers"), encoding="ascii") as f:
        controllers = f.read().split()
    for sign in "+-" if controllers else "":
        with open(os.path.join(service, "cgroup.subtree_control"), "w", encoding="ascii") as f:
            f.write(" ".join(sign + c for c in controllers))
    n.kill()
    n.start()                   # goes into the service's group first
    n.wait("/v1/instances/a", "running")
    assert members(service) == [] and n.proc.pid in members(os.path.join(service, "daemon"))
    assert members(mine) == sorted(inside.values()) and pid_of(n) == inside["viv-vmm"]
    n.ask("DELETE", "/v1/instances/a", status=202)
    n.wait_gone("/v1/instances/a")
    wait_for(lambda: sorted(e.name for e in os.scandir(service) if e.is_dir()) == ["daemon"])
