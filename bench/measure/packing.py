# SPDX-License-Identifier: Apache-2.0
"""packing - a machine of 512 MiB, 240 of which its guest has filled with programs and with what does not compress, is written to
files in every way that there is, encrypted and not, and continued from each."""
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
WAYS |= {f"{name}, encrypted": [*ask, "key-file={key}"] for name, ask in WAYS.items()}


def one(g, vmm, engine, control, ask):
    """(ms to save, of which the guest stands still, CPU ms, MiB of the file, ms to the first word, CPU ms)"""
    state, key = paths("state", "key")
    with open(key, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
        f.write(os.urandom(32))
    has_key = any("{key}" in word for word in ask)
    begin, cpu = time.monotonic(), cpu_ns(g.proc.pid)
    done = subprocess.run([vmm, "ctl", control, "save", state, "--json", *(word.format(key=key) for word in ask)], capture_output=True, text=True, timeout=120, check=True)
    took, cpu = time.monotonic() - begin, cpu_ns(g.proc.pid) - cpu
    word = timed_word([vmm, "--restore", state, *(["--restore-key-file", key] if has_key else []), "--engine", engine, "--console", "stdio"])
    os.unlink(state)
    os.unlink(key)
    result = json.loads(done.stdout)["result"]
    return took * 1e3, result["pause_ns"] / 1e6, cpu / 1e6, result["file"] / 2**20, *word


def bench_packing(report):
    """The same machine in every packing, one after the other."""
    engine, vmm = subject.vmm_of("bt")
    kernel, initrd = os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), vivguest.initrd("bookworm", FILL, "packing")
    control, = paths("control")
    units = ("save: {}, ms", "save: {}, ms of pause", "save: {}, CPU ms", "save: {}, MiB of the file", "restore: {}, ms to the guest's first word",
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
