# SPDX-License-Identifier: Apache-2.0
"""Debian's qemu-guest-agent in a guest is asked for all that requests agent-* can."""
import os
import subprocess
import threading
import time

import pytest
import vivguest
from test_saved_state import ctl, wait_for
from vivguest import Guest

ENV = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
AGENT = r"""
for m in /extra/*.ko; do insmod $m; done
mkdir -p /sbin; ln -s /bin/busybox /sbin/hwclock; printf '#!/bin/sh\nexec poweroff -f\n' > /sbin/shutdown; chmod 755 /sbin/shutdown; mkdir -p /var/run /run /usr/local/var/run; mount -t ext4 /dev/vda /mnt
for p in /sys/class/virtio-ports/*; do
    [ "$(cat $p/name)" = org.qemu.guest_agent.0 ] && port=/dev/${p##*/}
done
echo "agent-begins on $port"
while :; do
    /usr/sbin/qemu-ga -m virtio-serial -p $port -t /run
    echo "agent-ended $?"; sleep 1
done &
n=0
while :; do echo "line $n" >> /mnt/grows; sync; n=$((n + 1)); echo "wrote-$n"; sleep 0.2; done
"""


@pytest.fixture(scope="module")
def initrd(tmp_path_factory):
    assert os.path.exists("/usr/sbin/qemu-ga"), "the package qemu-guest-agent is not installed"
    files = {f"/extra/{i:02}{os.path.basename(m)}": m for i, m in enumerate(vivguest.modules("bookworm", "ext4"))}
    files |= vivguest.libraries("/usr/sbin/qemu-ga") | {"/usr/sbin/qemu-ga": "/usr/sbin/qemu-ga"}
    base = vivguest.initrd("bookworm", AGENT, "agent")
    return vivguest.initrd_with(base, str(tmp_path_factory.mktemp("agent") / "initrd"), files)


@pytest.fixture
def machine(bookworm, initrd, tmp_path):
    """A machine with an agent that answers; (guest, control socket)."""
    sock, raw, disk = str(tmp_path / "s"), tmp_path / "raw", tmp_path / "d.qcow2"
    subprocess.run(["truncate", "-s", "64M", raw], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", raw], check=True, env=ENV)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True)
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", initrd, "--cmdline", "console=ttyS0 quiet", "--memory",
               "256M", "--engine", "bt", "--console", "stdio", "--agent", "on", "--control", sock, "--net", "none",
               "--disk", f"path={disk}") as guest:
        wait_for(guest, sock)
        guest.expect("wrote-2", 240)
        end = time.monotonic() + 60
        while "no guest agent runs" in (told := ctl_any(sock, "agent-ping")):
            assert time.monotonic() < end, told
            time.sleep(0.2)
        assert told == ""
        yield guest, sock


def ctl_any(sock, *args):
    done = subprocess.run([vivguest.VMM, "ctl", sock, *args], capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def agent(sock, *args, status=0, data=None):
    done = subprocess.run([vivguest.VMM, "ctl", sock, "agent", *args], input=data, capture_output=True, timeout=120, check=False)
    assert done.returncode == status, (args, done.stdout[-500:], done.stderr)
    return done.stdout


def keep_reading(guest):
    """The guest's console must not stand still while requests are made."""
    def read():
        try:
            while guest.proc.poll() is None and guest._read(0.2):
                pass
        except ValueError:
            pass                        # the test is over
    threading.Thread(target=read, daemon=True).start()


def test_the_agent_is_asked_for_all_it_can(machine, tmp_path):
    guest, sock = machine
    keep_reading(guest)
    info = ctl(sock, "agent", "info", "--json")
    assert info["version"].startswith("7.2") and "guest-exec" in info["commands"] and info["os"]["kernel-release"].startswith("6.1")
    assert {i["name"] for i in ctl(sock, "agent", "addresses", "--json")["interfaces"]} == {"lo", "eth0"}
    assert agent(sock, "exec", "/bin/sh", "-c", "echo $0 $1; echo wrong >&2; exit 7", "a b", "ä", status=7) == "a b ä\n".encode()
    assert b"says" in subprocess.run([vivguest.VMM, "ctl", sock, "agent", "exec", "/nonexistent"], capture_output=True, check=False).stderr
    blob = os.urandom(100000)
    agent(sock, "write", "/tmp/blob", data=blob)
    assert agent(sock, "read", "/tmp/blob") == blob
    assert agent(sock, "exec", "sha256sum", "/tmp/blob").split()[0].decode() == subprocess.run(
        ["sha256sum"], input=blob, capture_output=True, check=True).stdout.split()[0].decode()
    # A program that does not end, and more output than an answer can have: the agent goes on answering.
    assert "still runs" in ctl(sock, "agent-exec", "--timeout", "1", "sleep", "100", status=1)
    flood = subprocess.run([vivguest.VMM, "ctl", sock, "agent", "exec", "head", "-c", "3000000", "/dev/zero"], capture_output=True, check=False)
    assert flood.returncode == 1 and b"longer than" in flood.stderr
    agent(sock, "ping")
    agent(sock, "exec", "date", "-s", "@1000000")
    ctl(sock, "agent", "set-time")
    assert abs(int(agent(sock, "exec", "date", "+%s")) - time.time()) < 3600
    # File systems stand still and go on.
    assert ctl(sock, "agent", "freeze", "--json")["file_systems"] == 1
    assert "frozen" in ctl(sock, "agent", "exec", "true", status=1)
    assert ctl(sock, "agent", "thaw", "--json")["file_systems"] == 1
    seen = guest.text().count("wrote-")
    ctl(sock, "snapshot-create", "disk0", "whole", "--quiesce")
    assert "nodisk" in ctl(sock, "snapshot-create", "nodisk", "other", "--quiesce", status=1)
    end = time.monotonic() + 30
    while guest.text().count("wrote-") < seen + 3:  # thawed
        assert time.monotonic() < end, guest.text()[-500:]
        time.sleep(0.1)
    # Saved, the agent goes on where it was.
    state = tmp_path / "state"
    ctl(sock, "save", state, "--stop")
    assert guest.proc.wait(60) == 0
    with Guest("--restore", state, "--control", sock, "--console", "none", "--engine", "bt") as again:
        wait_for(again, sock)
        agent(sock, "ping")
        ctl(sock, "agent", "shutdown")
        assert again.wait(60) == 0
    check = tmp_path / "check"
    subprocess.run(["qemu-img", "convert", "-l", "snapshot.name=whole", "-O", "raw", tmp_path / "d.qcow2", check], check=True)
    # A frozen file system needs no journal to be replayed.
    told = subprocess.run(["dumpe2fs", "-h", check], capture_output=True, text=True, check=True, env=ENV).stdout
    assert "needs_recovery" not in told
    subprocess.run(["e2fsck", "-fn", check], check=True, env=ENV, capture_output=True)


def test_without_an_agent_requests_say_so(bookworm, tmp_path):
    sock = str(tmp_path / "s")
    kernel = ["--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "rootwait root=/dev/vdz", "--console", "none",
              "--engine", "bt", "--control", sock]
    with Guest(*kernel) as guest:
        wait_for(guest, sock)
        assert "--agent on" in ctl(sock, "agent", "ping", status=1)
    with Guest(*kernel, "--agent", "on") as guest:
        wait_for(guest, sock)
        assert "no guest agent runs" in ctl(sock, "agent", "ping", status=1)
        assert "no guest agent runs" in ctl(sock, "snapshot-create", "disk0", "x", "--quiesce", status=1)
