# SPDX-License-Identifier: Apache-2.0
"""machine - measurements of viv-vmm itself: the interpreter's speed, time to start, memory."""
import os
import re
import struct
import subprocess
import time

from . import subject
from .instrument import HELLO, POWER_OFF, cpu_ns, memory_kib, run_to_end, tiny
from .subject import BUILD, WORK, Options, command, guest, subjects, vivguest

LOOPS, LOOP_INSNS = 20_000_000, 11
LOOP = b"".join((
    b"\xbb\x00\x00\x20\x00",                    # mov ebx, 0x200000
    b"\xbc\x00\x10\x20\x00",                    # mov esp, 0x201000
    b"\xb9" + struct.pack("<I", LOOPS),         # mov ecx, LOOPS
    bytes.fromhex("8b03"                        # l: mov eax, [ebx]
                  "01d0" "c1e803"               # add eax, edx; shr eax, 3
                  "894304" "8d541005"           # mov [ebx+4], eax; lea edx, [eax+edx+5]
                  "31c6" "0fb6fa"               # xor esi, eax; movzx edi, dl
                  "57" "5d" "49"                # push edi; pop ebp; dec ecx
                  "75e8"),                      # jnz l
)) + POWER_OFF


def bench_mips(report):
    """Instructions per second of the interpreter, without a machine around it."""
    values = []
    for _ in range(Options.rounds):
        out = subprocess.run([os.path.join(BUILD, "bench", "interp_mips")], capture_output=True, text=True, check=True)
        values.append(float(re.search(r"([\d.]+) M instructions/s", out.stdout).group(1)))
    report.line("mips: interp", values)


def bench_loop(report):
    """The same loop as a guest, everywhere: million instructions per CPU second, start excluded."""
    loop, nothing = tiny("loop", LOOP), tiny("off", POWER_OFF)
    engines = subjects("bt", "interp", "QEMU")
    table = {f"loop: {e}, M instructions per CPU second": [] for e in engines}
    for _ in range(Options.rounds):
        for e in engines:
            start = run_to_end(command(e, nothing))[1]
            both = run_to_end(command(e, loop))[1]
            table[f"loop: {e}, M instructions per CPU second"].append(LOOPS * LOOP_INSNS / (both - start) / 1e6)
    report.pairs(table, 0)


def bench_ready(report):
    """CPU time from exec until the guest's first instructions have written to the UART, and what
    a real kernel adds: it is unpacked and loaded before the first instruction."""
    hello = tiny("hello", HELLO)
    folder = vivguest.kernel("bookworm")
    check = [subject.vmm_of("interp")[1], "--check", "--engine", "interp", "--kernel",
             os.path.join(folder, "vmlinuz"), "--initrd", vivguest.initrd("bookworm")]
    engines = subjects("kvm", "bt", "interp", "QEMU")
    table = {f"ready: {e}, {u}": [] for u in ("CPU ms", "ms") for e in engines}
    with_kernel = []
    for _ in range(Options.rounds * 3):
        for e in engines:
            begin = time.monotonic()
            with guest(command(e, hello)) as g:
                g.expect("A", 30)
                table[f"ready: {e}, ms"].append((time.monotonic() - begin) * 1e3)
                table[f"ready: {e}, CPU ms"].append(cpu_ns(g.proc.pid) / 1e6)
        with_kernel.append(run_to_end(check)[1] * 1e3)
    report.pairs(table)
    report.line("ready: interp with Debian's kernel, CPU ms", with_kernel)


def bench_memory(report):
    """Own memory beside guest RAM while a guest is up: two processors, a disk, a network card."""
    hello = tiny("hello", HELLO)
    disk = os.path.join(WORK, "empty.img")
    with open(disk, "wb") as f:
        f.truncate(64 << 20)
    machine = {"cpus": 2, "disks": [disk], "nic": True}
    engines = subjects("kvm", "bt", "interp", "QEMU")
    own = {f"memory: {e}, own KiB" + (" without engine caches" if e != "kvm" else ""): [] for e in engines}
    caches = {}
    for _ in range(Options.rounds):
        for e, key in zip(engines, own):
            with guest(command(e, hello, **machine)) as g:
                g.expect("A", 30)
                time.sleep(0.2)
                kib = memory_kib(g.proc.pid)
            own[key].append(kib[0])
            if e != "kvm":
                caches.setdefault(f"memory: {e}, engine caches KiB", []).append(kib[1])
    report.pairs(own, 0)
    report.pairs(caches, 0)
    # After a real kernel the caches are warm, and whatever the load of it left behind shows.
    with guest(command("interp", os.path.join(vivguest.kernel("bookworm"), "vmlinuz"),
                       initrd=vivguest.initrd("bookworm", "sleep 5\n", "sleep"), cmdline="console=ttyS0 quiet",
                       **machine)) as g:
        g.expect("VIV-BOOT-OK", 300)
        time.sleep(1)
        kib = memory_kib(g.proc.pid)
    report.line("memory: interp with Linux, own KiB", [kib[0]], 0)
    report.line("memory: interp with Linux, engine caches KiB", [kib[1]], 0)


MEASUREMENTS = {"mips": bench_mips, "loop": bench_loop, "ready": bench_ready, "memory": bench_memory}
