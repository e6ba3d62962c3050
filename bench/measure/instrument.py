# SPDX-License-Identifier: Apache-2.0
"""instrument - clocks, CPU time and memory of processes, and guests of a few bytes.

CPU time is user + system of the whole process, threads included, as the kernel counts it: the
process's CPU clock while it runs, rusage once it has ended.
"""
import os
import re
import resource
import struct
import subprocess
import time

from .subject import WORK, GuestError, vivguest

# ACPI PM1a control at 0x604: sleep type 5 is S5 here, 0 is S5 of QEMU's q35.
POWER_OFF = bytes.fromhex("66ba0406" "66b80034" "66ef" "66b80020" "66ef" "faf4ebfd")
# 'A' to COM1, then halted for good.
HELLO = bytes.fromhex("66baf803" "b041" "ee" "faf4ebfd")


def tiny(name, code):
    """A multiboot kernel of 32-bit CODE at 1 MiB + 32: every one of the monitors loads that."""
    base = 0x100000
    magic, flags = 0x1badb002, 0x10000
    end = base + 32 + len(code)
    path = os.path.join(WORK, name + ".bin")
    with open(path, "wb") as f:
        f.write(struct.pack("<8I", magic, flags, -(magic + flags) & 0xffffffff, base, base, end, end, base + 32))
        f.write(code)
    return path


def machine_pids(pid):
    """Those of a machine of which PID is the one that was started: itself, and behind it the machine's if that is another."""
    return {pid, vivguest.machine_of(pid)}


def cpu_ns(pid):
    """The CPU clock of a machine, ended threads included: what clock_getcpuclockid() returns."""
    sched = 2
    return sum(time.clock_gettime_ns(~p << 3 | sched) for p in machine_pids(pid))


def children_s():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def run_to_end(argv, timeout=300):
    """Wall and CPU seconds of a process from exec to exit, which must be clean."""
    before, begin = children_s(), time.monotonic()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, timeout=timeout, check=False)
    wall = time.monotonic() - begin
    if done.returncode:
        raise GuestError(f"'{' '.join(argv)}' ended with status {done.returncode}: {done.stderr[-500:]}")
    return wall, children_s() - before


def memory_kib(pid):
    """The same of a machine, whose process may have another in front of it."""
    return tuple(map(sum, zip(*map(process_memory_kib, machine_pids(pid)))))


def process_memory_kib(pid):
    """(own, engine caches): what the process has resident besides guest RAM; pages shared with
    others count by their share. Caches of the software engines are what /proc shows as left out
    of core dumps; TCG's is what is writable and executable."""
    own = caches = pss = 0
    is_ram = False
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            m = re.match(r"[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ \S+ *(.*)", line)
            if m:
                mode, name = m.groups()
                is_ram = name.startswith(("/memfd:guest-ram", "/memfd:memory-backend"))
            elif line.startswith("Pss:"):
                pss = int(line.split()[1])
            elif line.startswith("VmFlags:") and not is_ram:
                if (not name and (" dd" in line or "wx" in mode)) or name.startswith("/memfd:guest-code"):
                    caches += pss
                else:
                    own += pss
    return own, caches
