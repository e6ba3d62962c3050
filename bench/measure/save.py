# SPDX-License-Identifier: Apache-2.0
"""save - a machine of 512 MiB, 200 of which its guest has filled, is written to a file, continued from it, and copied 50
times. QEMU saves by migration to a file. Either file is on the disk in the end: we sync what QEMU leaves in the page cache."""
import json
import os
import subprocess
import time

from . import subject
from .instrument import cpu_ns
from .migrate import Monitor
from .subject import WORK, GuestError, Options, command, guest, subjects, vivguest

MEMORY_MIB, FILLED_MIB, COPIES = 512, 200, 50

# Fills memory with what does not compress, then says a word each millisecond, or nothing.
FILL = f"""
mkdir -p /t; mount -t tmpfs -o size=400m none /t
dd if=/dev/urandom of=/t/f bs=1M count={FILLED_MIB} 2>/dev/null
echo FILLED
"""
TICK = FILL + "while :; do echo tick; usleep 1000; done\n"
IDLE = FILL + "sleep 100000\n"


def paths(*names):
    return [os.path.join(WORK, n) for n in names]


def write_time(size):
    """Seconds to write and sync SIZE bytes that are in memory, to the disk of the saved machines."""
    path, data = *paths("yard"), os.urandom(1 << 20)
    begin = time.monotonic()
    with open(path, "wb", buffering=0) as f:
        for _ in range(size >> 20):
            f.write(data)
        os.fsync(f.fileno())
    took = time.monotonic() - begin
    os.unlink(path)
    return took


def timed_word(argv):
    """(ms, CPU ms) from exec to the guest's first word."""
    begin = time.monotonic()
    with guest(argv) as g:
        g.expect("tick", 120)
        return (time.monotonic() - begin) * 1e3, cpu_ns(g.proc.pid) / 1e6


def save_ours(name, options):
    control, state = paths("control", "state")
    engine, vmm = subject.vmm_of(name)
    with guest([*options, "--control", control]) as g:
        g.expect("FILLED", 120)
        g.expect("tick", 10)
        begin, cpu = time.monotonic(), cpu_ns(g.proc.pid)
        done = subprocess.run([vmm, "ctl", control, "save", state, "--json"], capture_output=True, text=True, timeout=120, check=True)
        took, cpu = time.monotonic() - begin, cpu_ns(g.proc.pid) - cpu
    memory = json.loads(done.stdout)["result"]["memory"]
    word = timed_word([vmm, "--restore", state, "--engine", engine, "--console", "stdio"])
    os.unlink(state)
    return (took * 1e3, cpu / 1e6), memory, word


def save_qemu(options):
    monitor, state = paths("hmp", "state")
    with guest([*options, "-monitor", f"unix:{monitor},server,nowait"]) as g:
        g.expect("FILLED", 300)
        g.expect("tick", 30)
        m = Monitor(monitor)
        m.say("migrate_set_parameter max-bandwidth 0")
        begin, cpu = time.monotonic(), cpu_ns(g.proc.pid)
        m.say(f"migrate -d file:{state}")
        while "completed" not in (text := m.say("info migrate")):
            if time.monotonic() > begin + 120 or "failed" in text:
                raise GuestError(f"QEMU does not save: {text}")
            time.sleep(0.005)
        with open(state, "rb") as f:
            os.fsync(f.fileno())
        took, cpu = time.monotonic() - begin, cpu_ns(g.proc.pid) - cpu
    word = timed_word([*options, "-incoming", f"file:{state}"])
    os.unlink(state)
    return (took * 1e3, cpu / 1e6), word


def bench_save(report):
    """Time to save, with what the guest does meanwhile, and from the file to the guest's first word."""
    kernel, initrd = os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), vivguest.initrd("bookworm", TICK, "tick")
    names = subjects("bt", "interp", "QEMU")
    units = ("save: {}, ms", "save: {}, CPU ms", "restore: {}, ms to the guest's first word", "restore: {}, CPU ms to the guest's first word")
    table = {u.format(n): [] for u in units for n in names}
    ratio = {n: [] for n in names if n != "QEMU"}
    for _ in range(Options.rounds):
        for n in names:
            options = command(n, kernel, initrd, "console=ttyS0 quiet", memory_mib=MEMORY_MIB)
            if n == "QEMU":
                took, word = save_qemu(options)
            else:
                took, memory, word = save_ours(n, options)
                ratio[n].append(took[0] / 1e3 / write_time(memory))
            for u, value in zip(units, (*took, *word)):
                table[u.format(n)].append(value)
    report.pairs(table, 1)
    for n, values in ratio.items():
        report.line(f"save: {n}, times the time of writing its memory", values, 2)


def own_kib(pid):
    """What only this process has, of memory and of its guest's pages."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Private_"))


def fork_once(name, options):
    """(ms for each copy, MiB of its own that a copy has after a second, percent of the machine's memory that all of them add)"""
    control, = paths("control")
    _, vmm = subject.vmm_of(name)
    with guest([*options, "--control", control]) as g:
        g.expect("FILLED", 120)
        time.sleep(1)
        begin = time.monotonic()
        done = subprocess.run([vmm, "ctl", control, "fork", "-n", str(COPIES)], capture_output=True, text=True, timeout=300, check=True)
        took = time.monotonic() - begin
        copies = [line.split() for line in done.stdout.splitlines()]
        time.sleep(1)
        own = [own_kib(pid) / 1024 for pid, _ in copies]
        for _, sock in copies:
            subprocess.run([vmm, "ctl", sock, "quit"], timeout=60, check=True, capture_output=True)
    if len(copies) != COPIES:
        raise GuestError(f"there are {len(copies)} copies")
    return took * 1e3 / COPIES, sum(own) / COPIES, 100 * sum(own) / COPIES / MEMORY_MIB


def bench_fork(report):
    """50 running copies of an idle machine."""
    kernel, initrd = os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), vivguest.initrd("bookworm", IDLE, "idle")
    names = subjects("bt", "interp")
    units = (f"fork: {{}}, ms for each of {COPIES} copies", "fork: {}, MiB of an idle copy's own",
             "fork: {}, percent of the machine's memory that a copy adds")
    table = {u.format(n): [] for u in units for n in names}
    for _ in range(Options.rounds):
        for n in names:
            for u, value in zip(units, fork_once(n, command(n, kernel, initrd, "console=ttyS0 quiet", memory_mib=MEMORY_MIB))):
                table[u.format(n)].append(value)
    report.pairs(table, 1)


MEASUREMENTS = {"save": bench_save, "fork": bench_fork}
