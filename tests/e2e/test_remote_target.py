# SPDX-License-Identifier: Apache-2.0
"""The disk of a guest in its jail goes to NBD servers while the guest writes."""
import os
import shutil
import signal
import subprocess
import time

import pytest

import vivguest
from test_disk_jobs import Events, ctl
from vivguest import Guest

pytestmark = pytest.mark.skipif(not shutil.which("qemu-nbd"), reason="qemu-nbd (package qemu-utils) is missing")

VIV = os.path.join(os.path.dirname(vivguest.VMM), "viv")
SIZE = 32 << 20

# Writes until it is told to stop, then says how it went.
WRITES = """
dd if=/dev/urandom of=/tmp/r bs=64k count=4 2>/dev/null
writes() {
	n=0
	while [ ! -e /tmp/stop ]; do
		dd if=/tmp/r of=/dev/vda bs=64k seek=$((n * 7 % 480)) conv=notrunc,fsync 2>/dev/null || echo WRITE-FAILED
		n=$((n + 1))
		[ $n = 5 ] && echo WRITING
	done
}
writes &
read go
touch /tmp/stop
wait
dd if=/tmp/r of=/dev/vda bs=64k conv=notrunc,fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda bs=64k count=4 2>/dev/null | cmp - /tmp/r && echo ALL-WRITTEN
"""


def serve(argv, socket):
    """A server for one export; its socket is there."""
    server = subprocess.Popen(argv)
    end = time.monotonic() + 60
    while not os.path.exists(socket):
        assert server.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    return server


def qemu_nbd(image, socket, *more):
    return serve(["qemu-nbd", "-t", "-f", "raw", "-x", "disk", "-k", socket, *more, image], socket)


def viv_serve(image, socket):
    return serve([VIV, "disk", "serve", "--nbd", f"unix:{socket}", "--export", "disk", "--format", "raw", image], socket)


def end(server, how=signal.SIGTERM):
    server.send_signal(how)
    server.wait(60)


def dirty(path, size=SIZE):
    """An image that is full of something else."""
    with open(path, "wb") as f:
        f.write(b"\x5a" * size)
    return str(path)


def same(disk, image):
    """The disk, which the machine has locked, and an image of it."""
    shutil.copyfile(disk, disk + ".copy")
    subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", disk + ".copy", image], check=True, timeout=120)


@pytest.fixture
def machine(tmp_path):
    """A guest that writes to its disk until it reads a line; (guest, socket, events, disk)."""
    disk, sock = dirty(tmp_path / "disk.raw"), str(tmp_path / "s")
    with Guest("--kernel", os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), "--initrd",
               vivguest.initrd("bookworm", WRITES, "writes"), "--cmdline", "console=ttyS0 quiet", "--memory", "256M", "--engine",
               "bt", "--console", "stdio", "--net", "none", "--control", sock, "--disk", f"path={disk},format=raw") as guest:
        guest.expect(r"WRITING", 240)
        events = Events(sock)
        try:
            yield guest, sock, events, disk
        finally:
            events.close()
            guest.kill()


def test_a_disk_goes_to_servers_while_the_guest_writes(machine, tmp_path):
    guest, sock, events, disk = machine
    for name, start, verb in (("one", qemu_nbd, "disk-mirror"), ("two", viv_serve, "disk-mirror"), ("three", viv_serve, "disk-backup")):
        image, nbd = dirty(tmp_path / name), str(tmp_path / f"{name}.nbd")
        server = start(image, nbd)
        try:
            ctl(sock, "image-add", name, f"nbd+unix:///disk?socket={nbd}")
            if verb == "disk-mirror":
                ctl(sock, verb, f"disk0={name}", f"id={name}", "--stay", "--wait", "mode=blocking")
                events.wait(name, "ready")
                ctl(sock, "pause")
                ctl(sock, "job-complete", name)
            else:
                ctl(sock, "pause")
                ctl(sock, verb, f"disk0={name}", f"id={name}", "speed=64M")
            events.wait(name, "completed")
        finally:
            end(server)
        same(disk, image)
        ctl(sock, "resume")
    assert ctl(sock, "info", "--json")["disks"][0]["path"] == disk
    guest.send("\n")
    guest.expect(r"ALL-WRITTEN", 120)
    assert "WRITE-FAILED" not in guest.text()


def test_a_server_that_is_killed_fails_the_job_and_the_guest_goes_on(machine, tmp_path):
    guest, sock, events, disk = machine
    for name, verb in (("one", "disk-mirror"), ("two", "disk-backup")):
        nbd = str(tmp_path / f"{name}.nbd")
        server = qemu_nbd(dirty(tmp_path / name), nbd)
        ctl(sock, "image-add", name, f"nbd+unix:///disk?socket={nbd}")
        ctl(sock, verb, f"disk0={name}", f"id={name}", "speed=1M", *(["--stay", "mode=blocking"] if verb == "disk-mirror" else []))
        events.wait(name, "progress")
        end(server, signal.SIGKILL)
        events.wait(name, "failed")
    assert ctl(sock, "jobs", "--json")["jobs"] == []
    assert ctl(sock, "info", "--json")["disks"][0]["path"] == disk
    guest.send("\n")
    guest.expect(r"ALL-WRITTEN", 120)
    assert "WRITE-FAILED" not in guest.text()


def test_what_cannot_be_a_target_is_refused_with_a_reason(machine, tmp_path):
    guest, sock, events, _ = machine
    nbd = str(tmp_path / "nbd")

    def refused(says, verb="disk-mirror", *more):
        ctl(sock, "image-add", "t", f"nbd+unix:///disk?socket={nbd}")
        assert says in ctl(sock, verb, "disk0=t", *more, status=1)

    for url, says in ((f"nbd+unix:///disk?socket={nbd}", "cannot find the socket"), ("nbds://localhost/x", "TLS"),
                      ("http://localhost/x", "only be read"), ("rbd://pool/image", "viv disk serve"), ("nbd:///x", "no address")):
        assert says in ctl(sock, "image-add", "t", url, status=2)
    small = qemu_nbd(dirty(tmp_path / "small", SIZE - 512), nbd)
    try:
        refused("needs the same", "disk-mirror", "--stay")
        refused("bytes, and the disk", "disk-backup")
        refused("needs the same")
        refused("only a backup and a mirror", "disk-snapshot")
        ctl(sock, "image-add", "t", f"nbd+unix:///other?socket={nbd}")
        assert "no such export" in ctl(sock, "disk-backup", "disk0=t", status=1)
    finally:
        end(small)
    readonly = qemu_nbd(dirty(tmp_path / "readonly"), nbd, "-r")
    try:
        refused("for reading only", "disk-backup")
    finally:
        end(readonly)
    guest.send("\n")
    guest.expect(r"ALL-WRITTEN", 120)


def test_a_disk_moves_to_a_server_and_outlives_its_connections_and_the_machine(machine, tmp_path):
    guest, sock, events, disk = machine
    image, nbd = dirty(tmp_path / "target"), str(tmp_path / "nbd")
    url = f"nbd+unix:///disk?socket={nbd}"
    server = qemu_nbd(image, nbd)
    try:
        ctl(sock, "image-add", "t", url)
        ctl(sock, "disk-mirror", "disk0=t", "id=t", "mode=blocking")
        events.wait("t", "completed")
        assert ctl(sock, "info", "--json")["disks"][0]["path"] == url
        old = open(disk, "rb").read()
        for how in (signal.SIGKILL, signal.SIGTERM):
            end(server, how)
            if os.path.exists(nbd):
                os.unlink(nbd)
            server = qemu_nbd(image, nbd)
        guest.send("\n")
        guest.expect(r"ALL-WRITTEN", 240)
        assert "WRITE-FAILED" not in guest.text()
        assert open(disk, "rb").read() == old           # nothing goes there any more
        guest.kill()                                    # as kill -9
    finally:
        end(server)
    with open(image, "rb") as f:                        # what the guest has flushed last
        assert b"\x5a" * 4096 not in f.read(256 << 10)
