# SPDX-License-Identifier: Apache-2.0
"""A guest, in its jail, on a disk of an NBD server that goes away and comes back."""
import os
import shutil
import signal
import subprocess
import time

import pytest

import vivguest
from vivguest import Guest

PLUGINS = os.path.join(vivguest.ROOT, "build/src/blk/proto")

pytestmark = [pytest.mark.skipif(not shutil.which("qemu-nbd"), reason="qemu-nbd (package qemu-utils) is missing"),
              pytest.mark.skipif(not os.path.exists(os.path.join(PLUGINS, "viv-blk-nbd.so")),
                                 reason="the plug-in nbd is not built: libnbd-dev is missing")]


def serve(image, socket):
    if os.path.exists(socket):
        os.unlink(socket)
    server = subprocess.Popen(["qemu-nbd", "-t", "-f", "raw", "-x", "disk", "-k", socket, image])
    while not os.path.exists(socket):
        assert server.poll() is None
        time.sleep(0.1)
    os.chmod(socket, 0o666)
    return server


def test_a_jailed_guest_goes_on_when_its_nbd_server_comes_back(tmp_path, monkeypatch):
    monkeypatch.setenv("VIV_PLUGINS", PLUGINS)
    disk, socket = str(tmp_path / "disk.raw"), str(tmp_path / "nbd.sock")
    with open(disk, "wb") as f:
        f.truncate(16 << 20)
    server = serve(disk, socket)
    run = """
set -e
dd if=/dev/urandom of=/tmp/r bs=64k count=16 2>/dev/null
dd if=/tmp/r of=/dev/vda bs=64k conv=fsync 2>/dev/null
echo FIRST-OK
read go
dd if=/tmp/r of=/dev/vda bs=64k seek=32 conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda bs=64k skip=32 count=16 2>/dev/null | cmp - /tmp/r
dd if=/dev/vda bs=64k count=16 2>/dev/null | cmp - /tmp/r
echo SECOND-OK
"""
    try:
        with Guest("--kernel", os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), "--initrd",
                   vivguest.initrd("bookworm", run, "nbd"), "--cmdline", "console=ttyS0 quiet", "--memory", "256M",
                   "--engine", "bt", "--console", "stdio", "--net", "none", "--disk",
                   f"path=nbd+unix:///disk?socket={socket},format=raw") as guest:
            guest.expect(r"FIRST-OK", 240)
            server.send_signal(signal.SIGKILL)
            server.wait()
            server = serve(disk, socket)
            guest.send("\n")
            guest.expect(r"SECOND-OK", 120)
            assert guest.wait(60) == 0
    finally:
        server.kill()
        server.wait()
    with open(disk, "rb") as f:
        data = f.read()
    assert data[:1 << 20] == data[2 << 20:3 << 20] != bytes(1 << 20)
