# SPDX-License-Identifier: Apache-2.0
"""packing - a machine of 512 MiB, 240 of which its guest has filled with programs and with what does not compress, is written to
files in every way that there is, and continued from each."""
import json
import os
import subprocess
import time

from . import subject
from .instrument import cpu_ns
from .save import TICK, paths, timed_word
from .subject import Options, command, guest, vivguest

FILL = """
mkdir -p /t; mount -t tmpfs -o size=400m none /t
for i in $(seq 200); do dd if=/bin/busybox bs=1M count=1; done >/t/programs 2>/dev/null
dd if=/dev/urandom of=/t/noise bs=1M count=40 2>/dev/null
echo FILLED
""" + TICK.split("echo FILLED\n")[1]

WAYS = {"raw": [], "lz4": ["packing=lz4"], "zstd": ["packing=zstd"]}


def one(g, vmm, engine, control, ask):
    """(ms to save, CPU ms, MiB of the file, ms to the first word, CPU ms)"""
    state, = paths("state")
    begin, cpu = time.monotonic(), cpu_ns(g.proc.pid)
    done = subprocess.run([vmm, "ctl", control, "save", state, "--json", *ask], capture_output=True, text=True, timeout=120, check=True)
    took, cpu = time.monotonic() - begin, cpu_ns(g.proc.pid) - cpu
    word = timed_word([vmm, "--restore", state, "--engine", engine, "--console", "stdio"])
    os.unlink(state)
    return took * 1e3, cpu / 1e6, json.loads(done.stdout)["result"]["file"] / 2**20, *word


def bench_packing(report):
    """The same machine in every packing, one after the other."""
    engine, vmm = subject.vmm_of("bt")
    kernel, initrd = os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), vivguest.initrd("bookworm", FILL, "packing")
    control, = paths("control")
    units = ("save: {}, ms", "save: {}, CPU ms", "save: {}, MiB of the file", "restore: {}, ms to the guest's first word",
             "restore: {}, CPU ms to the guest's first word")
    table = {u.format(n): [] for u in units for n in WAYS}
    with guest([*command("bt", kernel, initrd, "console=ttyS0 quiet", memory_mib=512), "--control", control]) as g:
        g.expect("FILLED", 240)
        for _ in range(Options.rounds):
            for n, ask in WAYS.items():
                for u, value in zip(units, one(g, vmm, engine, control, ask)):
                    table[u.format(n)].append(value)
    report.pairs(table, 1)


MEASUREMENTS = {"packing": bench_packing}
