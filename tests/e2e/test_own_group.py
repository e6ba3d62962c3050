# SPDX-License-Identifier: Apache-2.0
"""The control group of a machine that root starts by hand: who is in it, what bounds it, and that it goes with the machine, however that ends."""
import os
import signal
import subprocess
import time

import pytest
import vivguest
from groups import members, places
from test_host_faults import NET, linux, passts
from test_pid_namespace import comm, named_by, refused, until
from test_saved_state import ctl, wait_for

PLACES = places()
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not PLACES or not all(os.access(p, os.W_OK) for p in PLACES),
                                reason="control groups are made by root, where a hierarchy is mounted writable")


def folders(front):
    return [os.path.join(place, f"viv-vmm-{front}") for place in PLACES]


def left():
    return sorted(name for place in PLACES for name in os.listdir(place) if name.startswith("viv-vmm-"))


def gone(front):
    until(lambda: not any(map(os.path.exists, folders(front))))


def names(folder):
    return sorted(str(comm(pid)).partition(".")[0] for pid in members(folder))


def test_machine_and_helpers_are_in_it(tmp_path):
    sock = str(tmp_path / "s")
    with linux(NET, "net", "--net", "user", "--control", sock) as vm:
        wait_for(vm, sock)
        vm.expect("NET-UP", 120)
        made = folders(vm.proc.pid)
        for folder in made:
            assert names(folder) == ["passt", "viv-keeper", "viv-vmm"] and vm.pid in members(folder)
            if os.path.exists(os.path.join(folder, "pids.max")):
                with open(os.path.join(folder, "pids.max"), encoding="ascii") as f:
                    assert 1000 < int(f.read()) < 10000
        assert vm.proc.pid not in members(made[0])
        # passt that comes again is in it, too.
        old = passts(vm.proc.pid)
        os.kill(old[0], signal.SIGKILL)
        until(lambda: passts(vm.proc.pid) not in ([], old))
        assert names(made[0]) == ["passt", "viv-keeper", "viv-vmm"]
        # The machine sees nothing above it.
        assert os.readlink(f"/proc/{vm.pid}/ns/cgroup") != os.readlink("/proc/self/ns/cgroup")
        vm.proc.send_signal(signal.SIGTERM)
        assert vm.proc.wait(30) == 0
        gone(vm.proc.pid)


@pytest.mark.parametrize("whom", ["front", "machine", "both", "janitor first"])
def test_it_goes_when_they_are_killed(tmp_path, whom):
    sock = str(tmp_path / "s")
    with linux(NET, "net", "--net", "user", "--control", sock) as vm:
        wait_for(vm, sock)
        vm.expect("NET-UP", 120)
        front, pid = vm.proc.pid, vm.pid
        if whom == "janitor first":
            os.kill(next(p for p, name in named_by(sock).items() if name == "viv-janitor"), signal.SIGKILL)
        for victim in {"front": [front], "machine": [pid], "both": [front, pid], "janitor first": [pid]}[whom]:
            os.kill(victim, signal.SIGKILL)
        assert vm.proc.wait(30) == -signal.SIGKILL
    if whom != "janitor first":
        gone(front)
        return
    # Nobody is there to remove it: it is empty, and the next one of this number does.
    until(lambda: not any(map(members, folders(front))))
    for folder in folders(front):
        os.rmdir(folder)


def test_what_hangs_in_it_is_killed(tmp_path):
    """Version 2 has a way to."""
    sock = str(tmp_path / "s")
    with subprocess.Popen(["sleep", "600"]) as stray:
        with linux("sleep 1000", "pidns", "--control", sock) as vm:
            wait_for(vm, sock)
            ctl(sock, "info")
            folder = next((f for f in folders(vm.proc.pid) if os.path.exists(os.path.join(f, "cgroup.kill"))), None)
            if not folder:
                stray.kill()
                pytest.skip("no unified hierarchy, or a kernel before 5.14")
            with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as f:
                f.write(str(stray.pid))
            front = vm.proc.pid
        assert stray.wait(30) == -signal.SIGKILL
        gone(front)


def test_one_that_does_not_start_leaves_none(tmp_path):
    before = left()
    assert "no_such" in refused("--disk", "path=/no_such")
    disk = tmp_path / "d.img"
    disk.write_bytes(b"\0" * (1 << 20))
    assert str(disk) in refused("--disk", f"path={disk},format=qcow2")
    until(lambda: left() == before)


def test_switched_off_it_is_that_of_who_starts_it(tmp_path):
    for n, options in enumerate((["--cgroup", "off"], ["--jail", "off"], ["--pid-namespace", "off"])):
        sock = str(tmp_path / str(n))
        with linux("sleep 1000", "pidns", "--control", sock, *options) as vm:
            wait_for(vm, sock)
            ctl(sock, "info")
            has_group = [os.path.exists(folder) for folder in folders(vm.proc.pid)]
            assert has_group == [n == 2] * len(PLACES)
            if n == 2:          # without a process in front the machine's own is in it from the start
                assert members(folders(vm.proc.pid)[0]) == [vm.proc.pid] == [vm.pid]
            vm.proc.send_signal(signal.SIGTERM)
            assert vm.proc.wait(30) == 0
            gone(vm.proc.pid)
    assert "none of: auto off" in refused("--cgroup", "on")


def test_an_upgraded_machine_has_another_and_both_go(tmp_path):
    """passt goes on in the first one."""
    sock = str(tmp_path / "s")
    with linux(NET, "net", "--net", "user", "--control", sock) as vm:
        wait_for(vm, sock)
        vm.expect("NET-UP", 120)
        first = vm.proc.pid
        subprocess.run([vivguest.VMM, "ctl", sock, "upgrade"], check=True, stdout=subprocess.DEVNULL, timeout=120)
        assert vm.proc.wait(30) == 0
        info = ctl(sock, "info", "--json")
        until(lambda: names(folders(first)[0]) == ["passt"])
        until(lambda: info["pid"] in members(folders(info["front"])[0]))
        time.sleep(3)           # longer than what hangs is let live: nothing does
        assert names(folders(first)[0]) == ["passt"]
        subprocess.run([vivguest.VMM, "ctl", sock, "quit"], check=True, stdout=subprocess.DEVNULL)
        gone(first)
        gone(info["front"])


def test_copies_have_their_own(tmp_path):
    sock = str(tmp_path / "s")
    with linux("sleep 1000", "pidns", "--control", sock) as vm:
        wait_for(vm, sock)
        subprocess.run([vivguest.VMM, "ctl", sock, "fork", "-n", "3"], check=True, stdout=subprocess.DEVNULL, timeout=120)
        infos = [ctl(f"{sock}-{n}", "info", "--json") for n in (1, 2, 3)]
        until(lambda: all(info["pid"] in members(folders(info["front"])[0]) for info in infos))
        for n, info in enumerate(infos, 1):
            subprocess.run([vivguest.VMM, "ctl", f"{sock}-{n}", "quit"], check=True, stdout=subprocess.DEVNULL)
            gone(info["front"])
