# SPDX-License-Identifier: Apache-2.0
"""Machines in a PID namespace of their own: who is in it, who is outside, and who ends with whom."""
import os
import signal
import subprocess
import time

import pytest
import vivguest
from test_host_faults import ELF, NET, linux, passts
from test_node import guest, log_has, node     # noqa: F401, pylint: disable=unused-import
from test_saved_state import ctl, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's machines have namespaces")
BESIDE = ("viv-janitor", "viv-keeper")


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
            return f.read().strip()
    except OSError:
        return None


def namespace(pid):
    return os.readlink(f"/proc/{pid}/ns/pid")


def numbers(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(line.split()[1:] for line in f if line.startswith("NSpid:"))


def is_alone(pid):
    """Is it the first of a namespace that is not ours?"""
    return numbers(pid)[-1] == "1" and len(numbers(pid)) == len(numbers("self")) + 1 and namespace(pid) != namespace("self")


def named_by(word):
    """Processes that have WORD in their command line: {number: name}."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if word.encode() in f.read():
                    found[int(pid)] = comm(pid)
        except OSError:
            continue
    return found


# ---- of a daemon ----

def place(node, name="a"):      # noqa: F811
    return os.path.join(node.run, "i", node.ask("GET", f"/v1/instances/{name}")["uid"])


def pid_of(node, name="a"):     # noqa: F811
    return node.ask("GET", f"/v1/instances/{name}")["status"].get("pid")


def test_a_machine_of_the_daemon_is_the_first_of_its_own(node, guest):          # noqa: F811
    node.ask("POST", "/v1/instances", {"name": "a", "spec": {**guest, "restart": "never"}}, status=201)
    node.wait("/v1/instances/a", "running")
    log_has(node, "a", "guest-is-up")
    pid, run = pid_of(node), place(node)
    assert is_alone(pid) and node.processes() == [pid]
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        assert int(f.read().rpartition(")")[2].split()[1]) == node.proc.pid     # which waits for it
    beside = {p: name for p, name in named_by(f"{run}/config.json").items() if p != pid}
    assert beside and set(beside.values()) <= set(BESIDE)
    assert all(namespace(p) == namespace("self") for p in beside)
    # Whoever comes next knows it; and how it ended, though it is nobody's child then.
    node.kill()
    node.start()
    node.wait("/v1/instances/a", "running")
    assert pid_of(node) == pid
    os.kill(pid, signal.SIGKILL)
    node.wait("/v1/instances/a", "failed")
    until(lambda: not named_by(f"{run}/config.json"))
    assert not os.path.exists(os.path.join(run, "control"))
    node.viv("start", "a")
    node.wait("/v1/instances/a", "running")
    again = pid_of(node)
    assert again != pid and is_alone(again)
    os.kill(again, signal.SIGABRT)          # which is for others to send, not for itself
    node.wait("/v1/instances/a", "failed")
    assert not os.path.exists(f"/proc/{again}")


def test_why_it_ended_is_known(node, guest):            # noqa: F811
    node.ask("POST", "/v1/instances", {"name": "a", "spec": {**guest, "restart": "never"}}, status=201)
    node.wait("/v1/instances/a", "running")
    log_has(node, "a", "guest-is-up")
    os.kill(pid_of(node), signal.SIGKILL)
    node.wait("/v1/instances/a", "failed")
    assert "killed by signal 9" in node.viv("why", "a")


def test_the_daemon_is_killed_while_it_starts_machines(node, guest):            # noqa: F811
    """At moments before, while and after the first process hands over to the second: one machine each in the end, which is known."""
    for n in range(12):
        name = f"m{n}"
        node.ask("POST", "/v1/instances", {"name": name, "spec": guest}, status=201)
        time.sleep(0.0015 * n)
        node.kill()
        node.start()
        node.wait(f"/v1/instances/{name}", "running", 60)
        pid = pid_of(node, name)
        assert is_alone(pid) and sorted(node.processes()) == [pid]
        node.viv("rm", "--force", name)
        until(lambda: not node.processes())


# ---- by hand ----

def test_who_was_started_waits_in_front(tmp_path):
    sock, end = str(tmp_path / "s"), tmp_path / "end"
    with linux(NET, "net", "--net", "user", "--control", sock, "--end-file", str(end)) as vm:
        wait_for(vm, sock)
        vm.expect("NET-UP", 120)
        info = ctl(sock, "info", "--json")
        pid = info["pid"]
        assert pid != vm.proc.pid and is_alone(pid) and not is_alone(vm.proc.pid) and info["front"] == vm.proc.pid and vm.pid == pid
        # passt is outside, and comes again there.
        assert passts(pid) == []
        old = passts(vm.proc.pid)
        assert len(old) == 1 and not is_alone(old[0])
        os.kill(old[0], signal.SIGKILL)
        until(lambda: passts(vm.proc.pid) not in ([], old))
        vm.send("again\n")
        vm.expect("NET-AGAIN again", 60)
        vm.proc.send_signal(signal.SIGTERM)
        assert vm.proc.wait(30) == 0
        until(lambda: end.read_text() == "signal\n" and not os.path.exists(sock) and not named_by(sock))


def test_killed_with_the_one_in_front(tmp_path):
    sock = str(tmp_path / "s")
    with linux(NET, "net", "--net", "user", "--control", sock) as vm:
        wait_for(vm, sock)
        vm.expect("NET-UP", 120)
        vm.proc.kill()
        assert vm.proc.wait(30) == -signal.SIGKILL
        until(lambda: not named_by(sock) and not os.path.exists(sock))


def test_the_one_in_front_ends_as_the_machine_does(tmp_path):
    sock = str(tmp_path / "s")
    with linux("sleep 1000", "pidns", "--control", sock) as vm:
        wait_for(vm, sock)
        os.kill(ctl(sock, "info", "--json")["pid"], signal.SIGKILL)
        assert vm.proc.wait(30) == -signal.SIGKILL
    with subprocess.Popen([vivguest.VMM, "--kernel", ELF, "--cmdline", "test=poweroff", "--memory", "64M", "--engine", "interp", "--pid-namespace", "front"],
                          stdout=subprocess.DEVNULL) as done:
        assert done.wait(60) == 0


def state(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


@pytest.mark.parametrize("signo", [signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM, signal.SIGRTMIN])
def test_what_ends_a_process_ends_both(tmp_path, signo):
    """An error's is the machine's, which says so; nobody expects any other one."""
    sock = str(tmp_path / "s")
    with linux("sleep 1000", "pidns", "--control", sock) as vm:
        wait_for(vm, sock)
        pid = ctl(sock, "info", "--json")["pid"]
        vm.proc.send_signal(signo)
        assert vm.proc.wait(30) == -signo
        until(lambda: state(pid) in "ZX" and not os.path.exists(sock))
        told = [line for line in vm.stderr().splitlines() if "the process ends" in line]
        assert len(told) == (signo in (signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT)), vm.stderr()


def test_stopped_from_a_terminal_it_goes_on(tmp_path):
    sock = str(tmp_path / "s")
    with linux("sleep 1000", "pidns", "--control", sock) as vm:
        wait_for(vm, sock)
        pid = ctl(sock, "info", "--json")["pid"]
        for signo in (signal.SIGTSTP, signal.SIGTTIN):
            vm.proc.send_signal(signo)
            until(lambda: state(pid) == state(vm.proc.pid) == "T")
            vm.proc.send_signal(signal.SIGCONT)
            until(lambda: "T" not in (state(pid), state(vm.proc.pid)))
            assert ctl(sock, "info", "--json")["state"] == "running"
        vm.proc.send_signal(signal.SIGTERM)
        assert vm.proc.wait(30) == 0


def test_the_one_in_front_can_do_little(tmp_path):
    sock = str(tmp_path / "s")
    with linux("sleep 1000", "pidns", "--control", sock, "--net", "user") as vm:
        wait_for(vm, sock)
        front = ctl(sock, "info", "--json")["front"]
        with open(f"/proc/{front}/status", encoding="utf-8") as f:
            told = {name: value.strip() for name, value in (line.split(":", 1) for line in f)}
        assert told["Seccomp"] == "2" and told["NoNewPrivs"] == "1" and int(told["CapEff"], 16) == 1 << 5 == int(told["CapPrm"], 16)  # CAP_KILL
        assert all(os.readlink(f"/proc/{front}/ns/{n}") != os.readlink(f"/proc/self/ns/{n}") for n in ("net", "ipc", "uts"))
        open_there = {os.readlink(f"/proc/{front}/fd/{n}") for n in os.listdir(f"/proc/{front}/fd") if int(n) > 2}
        assert len(open_there) == 2 and {x.partition(":")[0] for x in open_there} <= {"pipe", "anon_inode", "pidfd"}, open_there


def test_one_that_ignores_its_children_hears_of_them(tmp_path):
    """As some who start it do, and what is ignored stays so over exec()."""
    end = tmp_path / "end"
    done = subprocess.run([vivguest.VMM, "--kernel", ELF, "--cmdline", "test=poweroff", "--memory", "64M", "--engine", "interp", "--end-file", str(end)],
                          stdout=subprocess.DEVNULL, timeout=60, check=False, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert done.returncode == 0
    until(lambda: end.read_text() == "power off\n")


def test_its_network_goes_on_after_an_upgrade(tmp_path):
    """The first process of a namespace takes all others of it along."""
    sock = str(tmp_path / "s")
    with linux(NET, "net", "--net", "user", "--control", sock) as vm:
        wait_for(vm, sock)
        vm.expect("NET-UP", 120)
        old = passts(vm.proc.pid)
        done = subprocess.run([vivguest.VMM, "ctl", sock, "upgrade"], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert vm.proc.wait(30) == 0
        pid = ctl(sock, "info", "--json")["pid"]
        assert f"pid: {pid}\n" in done.stdout and is_alone(pid)
        try:
            assert comm(old[0]).startswith("passt")
        finally:
            subprocess.run([vivguest.VMM, "ctl", sock, "quit"], check=True, stdout=subprocess.DEVNULL)
        until(lambda: not os.path.exists(f"/proc/{pid}"))


def refused(*args, **more):
    done = subprocess.run([vivguest.VMM, "--kernel", ELF, "--memory", "64M", "--engine", "interp", *args], capture_output=True, text=True, timeout=60,
                          check=False, **more)
    assert done.returncode == 1
    return done.stderr


def test_what_cannot_be_is_refused(tmp_path):
    read, write = os.pipe()
    assert "standard input has to be the file" in refused("--pid-namespace", "detached", stdin=read)
    with open(tmp_path / "lock", "w", encoding="ascii") as lock:
        assert f"'fd:{read}' names an open descriptor" in refused("--pid-namespace", "detached", "--restore-key-file", f"fd:{read}", pass_fds=[read], stdin=lock)
    os.close(read)
    os.close(write)
    assert "none of: auto off front detached" in refused("--pid-namespace", "on")
    assert "comes from elsewhere" in refused("--pid-namespace", "detached", "--incoming", f"unix:{tmp_path}/in")


def test_who_may_not_goes_on_without(tmp_path):
    """Of an ordinary user, as in many containers."""
    done = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", vivguest.VMM, "--kernel", ELF, "--cmdline", "test=poweroff",
                           "--memory", "64M", "--engine", "interp", "--pid-namespace", "front", "--log-level", "info"], capture_output=True,
                          text=True, timeout=60, check=False, cwd=tmp_path.root)
    assert done.returncode == 0 and "no PID namespace of its own: Operation not permitted" in done.stderr, done.stderr
