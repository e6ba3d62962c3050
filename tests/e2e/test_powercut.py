# SPDX-License-Identifier: Apache-2.0
"""kill -9 of viv-vmm while the guest writes: nothing that was fsync'ed may be missing."""
import os
import random
import re
import subprocess
import time

import pytest
import vivguest
from vivguest import Guest

ROUNDS = int(os.environ.get("VIV_POWERCUT_ROUNDS", "20"))
ENV = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}

# Each line "done N" on the console says that file N, with its checksum, has been fsync'ed
# together with the directory entry that names it.
WRITER = """
mount -t ext4 /dev/vda /mnt || exit 1
n=$(ls /mnt | grep '^[0-9]' | sort -n | tail -n 1)
n=${n:-0}
echo "start $n"
while :; do
	n=$((n + 1))
	dd if=/dev/urandom of=/tmp/f bs=1k count=$((n % 64 + 1)) 2>/dev/null
	md5sum </tmp/f >/tmp/s
	cat /tmp/s /tmp/f | dd of=/mnt/t conv=fsync 2>/dev/null || exit 1
	mv /mnt/t /mnt/$n
	sync /mnt || exit 1
	rm -f /mnt/$((n - 40))
	echo "done $n"
done
"""


@pytest.mark.long
def test_killed_vmm_loses_nothing_that_was_synced(tmp_path):
    folder = vivguest.kernel("bookworm")
    initrd = vivguest.initrd("bookworm", WRITER, "writer")
    disk = str(tmp_path / "d.img")
    subprocess.run(["truncate", "-s", "64M", disk], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", disk], check=True, env=ENV)
    rng = random.Random(1)
    for number in range(ROUNDS):
        engine = "interp" if number % 5 == 0 else "bt"
        with Guest("--kernel", os.path.join(folder, "vmlinuz"), "--initrd", initrd, "--cmdline",
                   "console=ttyS0 quiet", "--memory", "256M", "--engine", engine, "--console", "stdio",
                   "--disk", f"path={disk},format=raw") as guest:
            guest.expect(r"start \d+", 180)
            guest.expect(r"done \d+", 120)
            deadline = time.monotonic() + rng.uniform(0.1, 4.0)
            while time.monotonic() < deadline:
                guest._read(0.02)
            guest.kill(drain=True)
            done = [int(n) for n in re.findall(rb"done (\d+)\r?\n", guest.seen)]
        check(disk, done[-1], number)


def check(disk, last, number):
    # Replay the journal, then a full check must find nothing to mend.
    replay = subprocess.run(["e2fsck", "-p", disk], capture_output=True, text=True, env=ENV, check=False)
    assert replay.returncode in (0, 1), f"round {number}: {replay.stdout}{replay.stderr}"
    full = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True, env=ENV, check=False)
    assert full.returncode == 0, f"round {number}: {full.stdout}{full.stderr}"
    for n in range(max(1, last - 38), last + 1):
        got = subprocess.run(["debugfs", "-R", f"cat /{n}", disk], capture_output=True, env=ENV, check=True).stdout
        assert got, f"round {number}: file {n} was fsync'ed and is gone"
        head, _, body = got.partition(b"\n")
        want = subprocess.run(["md5sum"], input=body, capture_output=True, check=True).stdout.split()[0]
        assert head.split()[0] == want, f"round {number}: file {n} has wrong contents"
