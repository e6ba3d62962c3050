# SPDX-License-Identifier: Apache-2.0
"""guest_disk - what a guest sees of its disks: virtio-blk on a qcow2 image beside virtio-blk on a raw one, in one guest."""
import os
import re
import statistics

from .disk_pair import CASES, disk_pair
from .subject import BUILD, Options, command, finish, guest, subjects, vivguest

PROGRAM = os.path.join(BUILD, "bench", "vivbench")
SIZE_MIB = 256
RUN = "vivbench disk $(sed -n 's/.*rounds=\\([0-9]*\\).*/\\1/p' /proc/cmdline) vda vdb\n"


def bench_guest_disk(report):
    """Requests of 4 KiB per second, past the guest's page cache; devices take turns."""
    disks = disk_pair("guest", SIZE_MIB)
    kernel = os.path.join(vivguest.kernel("bookworm"), "vmlinuz")
    initrd = vivguest.initrd("bookworm", RUN, "guest-disk", [PROGRAM])
    for subject in subjects("bt", "QEMU"):
        argv = command(subject, kernel, initrd, f"console=ttyS0 quiet cryptomgr.notests rounds={Options.rounds}", disks, memory_mib=512)
        with guest(argv) as g:
            finish(subject, g, 60 + 60 * Options.rounds)
            got = re.findall(r"DISK (vd[ab]) (\w+) (\d+) (\d+)", g.text())
        if len(got) != 2 * len(CASES) * Options.rounds:
            raise ValueError(f"{subject}: {len(got)} results; the guest said: {g.text()[-500:]}")
        for rw, depth in CASES:
            rate = {d: [int(n) for dev, w, q, n in got if (dev, w, int(q)) == (d, rw, depth)] for d in ("vda", "vdb")}
            label = f"guest-disk: {subject}, 4 KiB {rw} x{depth}"
            report.line(f"{label}, raw, requests/s", rate["vda"], 0)
            report.line(f"{label}, qcow2, requests/s", rate["vdb"], 0)
            report.line(f"{label}, times the rate of raw", [statistics.median(rate["vdb"]) / statistics.median(rate["vda"])], 2)
    for path in disks:
        os.unlink(path)


MEASUREMENTS = {"disk-guest": bench_guest_disk}
