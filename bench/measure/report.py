# SPDX-License-Identifier: Apache-2.0
"""report - rows of results, and the verdict on those that docs/promises.md promises."""
import math
import statistics

# What is promised: row, comparison, limit. The rest is told, not judged.
PROMISES = {
    "mips: interp": (">=", 60),
    "boot: interp, seconds to init": ("<=", 30),
    "ready: kvm, CPU ms": ("<=", 10),
    "ready: bt, CPU ms": ("<=", 10),
    "ready: interp, CPU ms": ("<=", 10),
    "memory: kvm, own KiB": ("<=", 8192),
    "memory: bt, own KiB without engine caches": ("<=", 8192),
    "memory: interp, own KiB without engine caches": ("<=", 8192),
    "idle: bt, % of one host CPU": ("<=", 1),
    "idle: interp, % of one host CPU": ("<=", 5),
    "speed: geomean of QEMU's time to bt's": (">=", 5),
    "speed: the least of QEMU's time to bt's": (">=", 2),
    "speed: user mode, geomean of bt's time to native": ("<=", 2.0),
    "speed: system calls, faults, processes, geomean of bt's time to native": ("<=", 3.5),
    "scaling: bt, make -j2 on 2 processors, times as fast": (">=", 1.7),
    "crowd: bt, complaints of the guest's kernel": ("<=", 0),
    "clock: bt, drift in ppm": ("<=", 50),
    "convert: raw to qcow2, times as fast as qemu-img -t writeback": (">=", 1.5),
    "convert: qcow2 to raw, times as fast as qemu-img -t writeback": (">=", 1.5),
    "convert: vmdk to qcow2, times as fast as qemu-img -t writeback": (">=", 1.5),
    "convert: raw to qcow2, zstd, times as fast as qemu-img -t writeback": (">=", 1.5),
    "convert: raw to qcow2, zlib, times as fast as qemu-img -t writeback": (">=", 1.5),
    "nbd: 4 KiB randread x1, times qemu-nbd's rate": (">=", 1.2),
    "nbd: 4 KiB randread x1, times qemu-storage-daemon's rate": (">=", 1.2),
    "nbd: 4 KiB randread x32, times qemu-nbd's rate": (">=", 1.2),
    "nbd: 4 KiB randread x32, times qemu-storage-daemon's rate": (">=", 1.2),
    "nbd: 4 KiB randwrite x1, times qemu-nbd's rate": (">=", 1.2),
    "nbd: 4 KiB randwrite x1, times qemu-storage-daemon's rate": (">=", 1.2),
    "nbd: 4 KiB randwrite x32, times qemu-nbd's rate": (">=", 1.2),
    "nbd: 4 KiB randwrite x32, times qemu-storage-daemon's rate": (">=", 1.2),
    "nbd: 4 KiB randread x1, times the rate of raw": (">=", 0.9),
    "nbd: 4 KiB randread x32, times the rate of raw": (">=", 0.9),
    "nbd: 4 KiB randwrite x1, times the rate of raw": (">=", 0.9),
    "nbd: 4 KiB randwrite x32, times the rate of raw": (">=", 0.9),
    "disk: creating 1 TiB, ms": ("<=", 20),
    "disk: snapshotting 1 TiB, ms": ("<=", 20),
    "disk: cloning 1 TiB, ms": ("<=", 20),
    "api: vivd, list of 1,000, ms, 99th percentile": ("<=", 20),
    "api: vivd, one of 1,000, ms, 99th percentile": ("<=", 2),
    "api: vivd, one of 1,000, per second of its processor": (">=", 5000),
    "api: vivd, resident, MiB": ("<=", 64),
    "api: vivd, start with 10,000 documents, ms": ("<=", 1000),
    "run: cold, seconds to the prompt": ("<=", 8),
    "run: warm, seconds to the prompt": ("<=", 1.5),
    "migrate: bt, ms of pause": ("<=", 100),
    "save: bt, times the time of writing its memory": ("<=", 1.5),
    "fork: bt, ms for each of 50 copies": ("<=", 100),
    "fork: bt, MiB of an idle copy's own": ("<=", 10),
    "fork: bt, percent of the machine's memory that a copy adds": ("<=", 10),
}
# The same of a row's ratio to QEMU's.
RATIOS = {
    "boot: bt, seconds to power off": ("<=", 0.45),
    "login: bt, seconds to the login prompt": ("<=", 0.45),
    "migrate: bt, ms of pause": ("<=", 0.5),
    "save: bt, ms": ("<=", 0.5),
    "restore: bt, ms to the guest's first word": ("<=", 0.5),
}


class Skip(Exception):
    pass


def geomean(values):
    return math.exp(statistics.fmean(math.log(v) for v in values))


class Report:
    def __init__(self):
        self.broken, self.failed = [], []
        self.speed = []                 # rows of speed.Row: what kernels and programs have measured

    def _judge(self, subject, value, promise):
        """The verdict's text."""
        sign, limit = promise
        kept = value >= limit if sign == ">=" else value <= limit
        if not kept:
            self.broken.append(subject)
        return f"   {'kept' if kept else 'BROKEN'}: {sign} {limit}"

    def line(self, subject, values, digits=1, ratio_to=None):
        """One row: the median of VALUES, its ratio to the median of RATIO_TO, the promise."""
        middle = statistics.median(values)
        text = f"{subject:70} {middle:12,.{digits}f}"
        if len(values) > 1:
            text += "   (" + " ".join(f"{v:,.{digits}f}" for v in values) + ")"
        if ratio_to:
            ratio = middle / statistics.median(ratio_to)
            text += f"   {ratio:.2f} of QEMU's"
            if subject in RATIOS:
                text += self._judge(subject, ratio, RATIOS[subject])
        if subject in PROMISES:
            text += self._judge(subject, middle, PROMISES[subject])
        print(text, flush=True)

    def pairs(self, table, digits=1):
        """Rows of TABLE {subject: values}; a QEMU row is the yardstick of those with its suffix."""
        for subject, values in table.items():
            name, _, unit = subject.partition(", ")
            yard = table.get(f"{name.split(': ')[0]}: QEMU, {unit}")
            self.line(subject, values, digits, yard if yard is not values else None)

    def fail(self, name, why):
        print(f"FAILED: {name}: {why}", flush=True)
        self.failed.append(name)
