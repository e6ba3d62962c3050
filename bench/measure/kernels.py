# SPDX-License-Identifier: Apache-2.0
"""kernels - ten small programs (bench/guest) in a guest of a kernel and an initrd, and natively."""
import os

from . import speed
from .report import Skip
from .subject import BUILD, Options, command, finish, guest, subjects, vivguest

PROGRAM = os.path.join(BUILD, "bench", "vivbench")
USER = ("sha", "sort", "fp", "matmul", "chase", "memcpy")
SYSTEM = ("getppid", "fault", "fork", "pipe")
NAMES = USER + SYSTEM
TIMEOUT_S = 300
# The initrd is the same whatever is asked for: names come by the kernel's command line.
RUN = "vivbench kernel $(sed -n 's/.*bench=\\([^ ]*\\).*/\\1/p' /proc/cmdline | tr , ' ')\n"


def bench_kernels(report):
    names = [n for n in NAMES if not Options.only or n in Options.only]
    if not names:
        raise Skip("none of the names after --only is one of " + ", ".join(NAMES))
    folder = vivguest.kernel("bookworm")
    initrd = vivguest.initrd("bookworm", RUN, "kernels", [PROGRAM])

    def run(subject):
        if subject == "native":
            return speed.results(speed.run_native([PROGRAM, "kernel", *names], TIMEOUT_S))
        argv = command(subject, os.path.join(folder, "vmlinuz"), initrd,
                       f"console=ttyS0 quiet cryptomgr.notests bench={','.join(names)}", memory_mib=512)
        with guest(argv) as g:
            shares = speed.run_guest(subject, g, names, TIMEOUT_S)
            finish(subject, g)
            return speed.results(g.text(), shares)

    speed.measure(report, "kernels", names, SYSTEM, subjects("bt", "QEMU", "native"), run)


MEASUREMENTS = {"kernels": bench_kernels}
