# SPDX-License-Identifier: Apache-2.0
"""vivd as a service: a socket that systemd made, what it tells systemd, machines that are shut down with the host and come back in
their order. The tool that says whether the host goes down is a mock, as systemd runs nothing here."""
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
import vivguest
from test_node import BUILD, guest, log_has, node   # noqa: F401, pylint: disable=unused-import

ROOT = os.path.dirname(BUILD)
# Powers off when the button is pressed: events of the ACPI button, as input of the kernel.
INIT = """
modprobe -q button
modprobe -q evdev
echo "ready"
cat /dev/input/event0 /dev/input/event1 2>/dev/null | head -c 1 >/dev/null
echo "the button"
poweroff -f
"""


@pytest.fixture(name="spec", scope="module")
def spec_of(guest):  # noqa: F811
    return dict(guest, initrd=vivguest.initrd("bookworm", INIT, "node-button", modules=["button", "evdev"]), shutdown_seconds=60)


def start_as_systemd(node, listener, notify, *args):  # noqa: F811
    """As systemd starts a service: its socket is descriptor 3, and the variables name it."""
    env = dict(os.environ, LISTEN_FDS="1", NOTIFY_SOCKET=notify)
    command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@" 3<&0 </dev/null', "sh", os.path.join(BUILD, "vivd"), "--data", node.data,
               "--run", node.run, *args]
    with open(os.path.join(node.folder, "vivd.log"), "ab") as log:
        node.proc = subprocess.Popen(command, stdin=listener, stdout=log, stderr=log, env=env)


@pytest.fixture(name="activated")
def activated_node(node):  # noqa: F811
    node.kill(signal.SIGTERM)
    os.makedirs(node.run, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    if os.path.exists(node.socket):
        os.unlink(node.socket)
    listener.bind(node.socket)
    listener.listen(16)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(os.path.join(node.folder, "notify"))
    notify.settimeout(60)
    start_as_systemd(node, listener, notify.getsockname())
    yield node, listener, notify
    listener.close()
    notify.close()


def test_a_socket_of_systemd_is_served_and_stays(activated):
    node, listener, notify = activated  # noqa: F811
    # Who comes before it is ready waits.
    assert node.ask("GET", "/v1/node")["kind"] == "node"
    assert b"READY=1" in notify.recv(4096)
    threads = [subprocess.Popen([os.path.join(BUILD, "viv"), "ls", "--json", "--socket", node.socket], stdout=subprocess.PIPE)
               for _ in range(20)]
    assert all(t.wait(60) == 0 and t.stdout.read().strip() == b"[]" for t in threads)
    assert node.kill(signal.SIGTERM) == 0
    assert b"STOPPING=1" in notify.recv(4096)
    # The socket is systemd's: it starts the daemon again when somebody comes.
    assert os.path.exists(node.socket)
    start_as_systemd(node, listener, notify.getsockname())
    assert node.ask("GET", "/v1/node")["kind"] == "node"


def test_what_is_no_socket_of_ours_is_refused(node, tmp_path):  # noqa: F811
    node.kill(signal.SIGTERM)
    with socket.socket(socket.AF_UNIX) as other, open(tmp_path / "file", "w+b") as file:
        other.bind(str(tmp_path / "other"))
        other.listen()
        for descriptor, words in ((other, "is where it is looked for"), (file, "no listening Unix socket")):
            start_as_systemd(node, descriptor, "")
            assert node.proc.wait(60) == 1 and words in node.log()


def wait_running(node, *names):  # noqa: F811
    for name in names:
        node.wait(f"/v1/instances/{name}", "running", timeout=120)


def machines(node):  # noqa: F811
    return len(node.processes())


def make(node, spec, name, **more):  # noqa: F811
    node.ask("POST", "/v1/instances", {"name": name, "spec": dict(spec, **more)}, status=201)


def test_machines_are_shut_down_with_the_daemon_and_come_back(node, spec):  # noqa: F811
    node.kill(signal.SIGTERM)
    node.start("--on-stop", "shutdown")
    make(node, spec, "a")
    make(node, spec, "off", state="stopped")
    wait_running(node, "a")
    log_has(node, "a", "ready", 120)
    uid = node.ask("GET", "/v1/instances/a")["uid"]
    node.proc.send_signal(signal.SIGTERM)
    assert node.proc.wait(100) == 0
    assert machines(node) == 0
    # It was asked, and not cut off; that it shall run has not been forgotten, nor that the other shall not.
    with open(os.path.join(node.data, "instances", uid, "console.log"), "rb") as f:
        assert b"the button" in f.read()
    node.start()
    wait_running(node, "a")
    assert node.ask("GET", "/v1/instances/off")["status"]["state"] == "stopped"


def test_machines_go_on_when_only_the_daemon_ends(node, spec, tmp_path, monkeypatch):  # noqa: F811
    """The mock stands in for systemctl, whose word decides."""
    tool = tmp_path / "bin" / "systemctl"
    tool.parent.mkdir()
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    make(node, spec, "a", shutdown_seconds=0)
    wait_running(node, "a")
    for word, left in (("running", 1), ("stopping", 0)):
        tool.write_text(f"#!/bin/sh\necho {word}\n")
        tool.chmod(0o755)
        # Also a daemon that is told to end before it has looked what runs.
        node.proc.send_signal(signal.SIGTERM)
        assert node.proc.wait(100) == 0
        assert machines(node) == left
        node.start()
        if left == 0:
            wait_running(node, "a")


def lose_power(node):  # noqa: F811
    """All are gone at once; what was seen of them before is not what is."""
    node.kill()
    gone = node.processes()
    for pid in gone:
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while node.processes() or not all(has_let_go(pid) for pid in gone):
        assert time.monotonic() < end
        time.sleep(0.05)
    node.start()
    return gone


def has_let_go(pid):
    """Of its locks, too: what has no command line any more may still have those."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_new(node, gone, *names):  # noqa: F811
    end = time.monotonic() + 120
    for name in names:
        while (status := node.wait(f"/v1/instances/{name}", "running", timeout=120)["status"])["pid"] in gone:
            assert time.monotonic() < end, status
            time.sleep(0.02)


def starts(node, names):  # noqa: F811
    """When each machine's process began, in ticks of the kernel."""
    ticks = {}
    for name in names:
        with open(f"/proc/{node.ask('GET', f'/v1/instances/{name}')['status']['pid']}/stat", encoding="ascii", errors="replace") as f:
            ticks[name] = int(f.read().rpartition(")")[2].split()[19])
    return ticks


def test_machines_start_in_their_order(node, guest):  # noqa: F811
    for name, order in (("web", 20), ("data", -5), ("app", 10), ("app2", 10)):
        make(node, guest, name, start_order=order)
    wait_running(node, "web", "data", "app", "app2")
    wait_new(node, lose_power(node), "web", "data", "app", "app2")
    at = starts(node, ("web", "data", "app", "app2"))
    assert at["data"] < min(at["app"], at["app2"]) and max(at["app"], at["app2"]) < at["web"]


def test_a_machine_that_fails_keeps_nobody_waiting(node, guest):  # noqa: F811
    make(node, guest, "broken", start_order=-10, kernel="/nowhere/vmlinuz")
    make(node, guest, "good")
    wait_running(node, "good")
    wait_new(node, lose_power(node), "good")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze (package systemd) is missing")
def test_units_are_what_systemd_understands(tmp_path):
    with open(os.path.join(ROOT, "dist/systemd/vivd.service.in"), encoding="ascii") as f:
        text = f.read().replace("@bindir@", BUILD).replace("@docdir@", "/usr/share/doc/vivarium")
    (tmp_path / "vivd.service").write_text(text)
    shutil.copy(os.path.join(ROOT, "dist/systemd/vivd.socket"), tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "vivd.service", "vivd.socket"], cwd=tmp_path,
                          env=dict(os.environ, SYSTEMD_UNIT_PATH=f"{tmp_path}:"), capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if "vivd" in line]
    assert not said, done.stderr
