# SPDX-License-Identifier: Apache-2.0
"""Another viv-vmm takes a running machine over, with memory, consoles and sockets; what fails leaves it where it is."""
import os
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest
import vivguest
from test_migration import ended, is_alive, seed  # noqa: F401  (a fixture)
from test_saved_state import ctl, wait_for
from vivguest import Guest
from wire import BUILT, COMMIT, DONE, HANDS, MACHINE, READY, STATE, HandWire, ask_upgrade, flipped

ECHO = "stty -echo; while read -r line; do echo \"guest says $line\"; done"


def upgraded(sock, *binary):
    """The process number of the new one."""
    done = subprocess.run([vivguest.VMM, "ctl", sock, "upgrade", *binary], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[1]), int(done.stdout.split()[3])


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait_until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def source(bookworm, tmp_path):
    """A guest that echoes on its console, with a disk; (guest, control socket)."""
    disk, sock = tmp_path / "d.img", str(tmp_path / "s")
    disk.write_bytes(b"\0" * (1 << 20))
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", vivguest.initrd("bookworm", ECHO, "echo"), "--memory",
               "256M", "--cmdline", "console=ttyS0 quiet", "--disk", f"path={disk}", "--net", "none", "--console", "stdio",
               "--console", f"socket:{tmp_path / 'port'},device=virtio,name=test", "--engine", "bt", "--control", sock) as guest:
        wait_for(guest, sock)
        guest.expect("VIV-BOOT-OK", 60)
        yield guest, sock


def until_once_open(pid, kind):
    end = time.monotonic() + 20
    while True:
        opened = []
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                opened.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
            except OSError:
                pass                    # closed meanwhile
        opened = [o for o in opened if o.startswith(kind)]
        if opened and len(opened) == len(set(opened)):
            return
        assert time.monotonic() < end, opened
        time.sleep(0.05)


def test_a_machine_is_upgraded_twice_and_its_sockets_stay(source, tmp_path):
    guest, sock = source
    guest.send("one\n")
    guest.expect("guest says one", 30)
    told, pid, pauses = [], 0, []
    with socket.socket(socket.AF_UNIX) as port:
        port.connect(str(tmp_path / "port"))
        for i in range(2):
            before = ctl(sock, "info", "--json")
            pid, pause = upgraded(sock)
            pauses.append(pause / 1e6)
            told.append(pid)
            if not i:
                assert ended(guest) == 0
            after = ctl(sock, "info", "--json")
            assert after["pid"] == pid != before["pid"] and after["state"] == "running"
            assert after["guest_time_ns"] >= before["guest_time_ns"]
            until_once_open(pid, "/memfd:")         # what was handed over is not kept besides: it could never be closed
            guest.send(f"two{i}\n")
            guest.expect(f"guest says two{i}", 30)
            assert stat.S_ISSOCK(os.stat(tmp_path / "port").st_mode)
    print("pauses, ms:", pauses)
    assert len(set(told)) == 2
    ctl(sock, "quit")
    end = time.monotonic() + 20
    while os.path.exists(sock) or os.path.exists(tmp_path / "port"):     # the janitor went along
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_machine_that_was_restored_is_upgraded_by_copying(seed, tmp_path):  # noqa: F811
    disk, sock = tmp_path / "d.img", str(tmp_path / "s")
    shutil.copy(seed / "d.img", disk)
    with Guest("--restore", seed / "state", "--changed-disks", "--engine", "bt", "--disk", f"path={disk}", "--console", "none",
               "--control", sock) as guest:
        wait_for(guest, sock)
        pid, _ = upgraded(sock)
        try:
            assert ended(guest) == 0
            then = ctl(sock, "stats", "--json")["cpus"][0]["interrupts"]
            end = time.monotonic() + 20
            while ctl(sock, "stats", "--json")["cpus"][0]["interrupts"] == then:
                assert time.monotonic() < end
            ctl(sock, "quit")
        finally:
            kill(pid)


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("text", [
    "exit 1", "sleep 3 & exit 0",
    'exec "$VIV_REAL" "$@" --memory 128M', 'exec "$VIV_REAL" "$@" --disk path=/nonexistent', 'exec "$VIV_REAL" "$@" --nonsense',
])
def test_a_new_program_that_cannot_leaves_the_machine_with_the_old_one(source, tmp_path, text, monkeypatch):
    guest, sock = source
    monkeypatch.setenv("VIV_REAL", vivguest.VMM)
    bad = script(tmp_path / "bad", text)
    done = subprocess.run([vivguest.VMM, "ctl", sock, "upgrade", bad], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1 and done.stderr
    assert is_alive(guest, sock)
    guest.send("still\n")
    guest.expect("guest says still", 30)
    assert not [f for f in os.listdir(tmp_path) if ".up" in f]


@pytest.mark.parametrize("kind,action", [(MACHINE, "kill"), (HANDS, "kill"), (HANDS, "flip"), (BUILT, "kill"), (STATE, "kill"),
                                         (STATE, "flip"), (READY, "kill"), (COMMIT, "kill"), (DONE, "drop")])
def test_whatever_happens_to_the_new_one_exactly_one_runs(source, tmp_path, kind, action):
    guest, sock = source
    at = str(tmp_path / "m")
    with Guest("--engine", "bt", "--takeover", f"unix:{at}") as other:
        end = time.monotonic() + 30
        while not os.path.exists(at):
            assert time.monotonic() < end
            time.sleep(0.005)
        wire = HandWire(tmp_path, at, kind, {"kill": lambda r: other.kill(), "flip": flipped, "drop": lambda r: None}[action])
        answer = ask_upgrade(sock, wire.path)
        if kind == DONE:
            assert ended(guest) == 0 and "error" not in answer
            assert ctl(sock, "info", "--json")["pid"] == other.pid
        else:
            assert "error" in answer and ended(other) is not None
            assert is_alive(guest, sock)
        guest.send("after\n")
        guest.expect("guest says after", 30)
        ctl(sock, "quit")


@pytest.mark.parametrize("kind,is_there", [(COMMIT, True), (READY, False)])
def test_a_machine_whose_old_process_is_killed_in_an_upgrade_stays_where_it_was_handed_over(source, tmp_path, kind, is_there, monkeypatch):
    guest, sock = source
    at = str(tmp_path / "m")
    monkeypatch.setenv("VIV_REAL", vivguest.VMM)
    new = script(tmp_path / "new", f'exec "$VIV_REAL" --engine bt --takeover unix:{at}')

    def killed(record):
        guest.kill()
        return record
    wire = HandWire(tmp_path, at, kind, killed)
    with subprocess.Popen([vivguest.VMM, "ctl", sock, "upgrade", new], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ctl_proc:
        wait_until(lambda: os.path.exists(at))
        os.symlink(wire.path, f"{sock}.up{ctl_proc.pid}")
        told, said = ctl_proc.communicate(timeout=60)
    assert ended(guest) is not None
    if not is_there:
        assert ctl_proc.returncode == 1 and ("broke" in said or "closed" in said)
        assert not os.path.exists(at)   # the new process has ended in order, without a machine
        return
    assert ctl_proc.returncode == 0, said
    pid = int(told.split()[1])
    try:
        time.sleep(6)                   # nobody ends it afterwards
        assert ctl(sock, "info", "--json")["pid"] == pid
        before = ctl(sock, "stats", "--json")["cpus"][0]["interrupts"]
        wait_until(lambda: ctl(sock, "stats", "--json")["cpus"][0]["interrupts"] > before)
        ctl(sock, "quit")
    finally:
        kill(pid)


COUNT = r"""
cat >/tmp/s <<'END'
#!/bin/sh
[ "$1" = bound ] && ip addr flush dev $interface && ip addr add $ip/${mask:-24} dev $interface && ip route add default via $router && echo $router >/tmp/gw
exit 0
END
chmod +x /tmp/s
up() { ip link set $1 up; udhcpc -q -n -i $1 -s /tmp/s >/dev/null 2>&1 && echo "up-$1"; }
count() { n=0; while echo $n; do n=$((n+1)); usleep 20000; done | nc $(cat /tmp/gw) $1; echo "count-ended"; }
stty -echo
while read -r line; do eval "$line"; done
"""


def numbers(peer, n):
    """The next N lines of PEER; they have to be one number after the other."""
    told = [int(peer.readline()) for _ in range(n)]
    assert told == list(range(told[0], told[0] + n)), told
    return told


def test_connections_through_passt_outlive_upgrades_also_of_an_interface_that_was_plugged(bookworm, tmp_path):
    if not shutil.which("passt"):
        pytest.skip("passt is not installed")
    sock = str(tmp_path / "s")
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", vivguest.initrd("bookworm", COUNT, "count"), "--cmdline",
               "console=ttyS0 quiet", "--memory", "256M", "--net", "user", "--console", "stdio", "--engine", "bt", "--control",
               sock) as guest, socket.create_server(("127.0.0.1", 0)) as server:
        wait_for(guest, sock)
        guest.expect("VIV-BOOT-OK", 120)
        server.settimeout(60)
        for nic in ("eth0", "eth1"):
            if nic == "eth1":       # in a jail: the client starts its passt
                guest.send("ip link set eth0 down\n")
                ctl(sock, "plug", "net", "user")
                guest.send("until test -e /sys/class/net/eth1; do usleep 100000; done\n")
            guest.send(f"up {nic}\n")
            guest.expect(f"up-{nic}", 60)
            guest.send(f"count {server.getsockname()[1]} &\n")
            connection, _ = server.accept()
            connection.settimeout(60)
            with connection, connection.makefile() as peer:
                numbers(peer, 20)
                for _ in range(3):
                    pid, _ = upgraded(sock)
                    numbers(peer, 100)
                assert pid == ctl(sock, "info", "--json")["pid"]
        ctl(sock, "quit")
