# SPDX-License-Identifier: Apache-2.0
"""migrate - a machine whose guest writes 100 MB of memory in each second goes to another process of this host: how long the
guest stands still, and how long all of it takes. Both say it themselves: viv-vmm its pause_ns, QEMU its downtime, in whole
milliseconds. Both count from the stop of the source's processors to the destination's word that it has all and runs: QEMU's
destination says so only with a return path, as management software asks for; without one QEMU counts no more than sending."""
import json
import os
import re
import socket
import subprocess
import time

from . import subject
from .subject import WORK, GuestError, Options, command, guest, subjects, vivguest

# 10 MB each 100 ms, through a file of 100 MB.
DIRTY = r"""
mkdir -p /t; mount -t tmpfs none /t
dd if=/dev/urandom of=/t/r bs=1M count=10 2>/dev/null
while :; do
    for i in 0 1 2 3 4 5 6 7 8 9; do
        dd if=/t/r of=/t/f bs=1M count=10 seek=${i}0 conv=notrunc 2>/dev/null
        usleep 80000
    done
    echo round
done
"""


class Monitor:
    """QEMU's monitor for people."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 30
        while self.socket.connect_ex(path):
            if time.monotonic() > end:
                raise GuestError(f"QEMU does not listen on {path}")
            time.sleep(0.02)
        self.answer()

    def answer(self):
        text = ""
        while not text.endswith("(qemu) "):
            text += self.socket.recv(65536).decode(errors="replace")
        return text

    def say(self, line):
        self.socket.sendall(line.encode() + b"\n")
        return self.answer()


def migrate_ours(name, options):
    folder, engine, vmm = WORK, *subject.vmm_of(name)
    source, target, wire = (os.path.join(folder, n) for n in ("source", "target", "wire"))
    with guest([*options, "--control", source]) as g:
        g.expect(r"round\s+round", 120)
        with guest([vmm, "--engine", engine, "--control", target, "--incoming", f"unix:{wire}"]) as h:
            while not os.path.exists(wire):
                time.sleep(0.01)
            done = subprocess.run([vmm, "ctl", source, "migrate", f"unix:{wire}", "--json"], capture_output=True, text=True,
                                  timeout=300, check=True)
            result = json.loads(done.stdout)["result"]
            h.expect("round", 60)
            subprocess.run([vmm, "ctl", target, "quit"], timeout=20, check=True)
    return result["pause_ns"] / 1e6, result["total_ns"] / 1e9


def migrate_qemu(options):
    wire, monitors = os.path.join(WORK, "wire"), [os.path.join(WORK, f"hmp{i}") for i in (0, 1)]
    with guest([*options, "-monitor", f"unix:{monitors[0]},server,nowait"]) as g:
        g.expect(r"round\s+round", 300)
        with guest([*options, "-monitor", f"unix:{monitors[1]},server,nowait", "-incoming", f"unix:{wire}"]) as h:
            while not os.path.exists(wire):
                time.sleep(0.01)
            m = Monitor(monitors[0])
            m.say("migrate_set_parameter downtime-limit 100")
            m.say("migrate_set_parameter max-bandwidth 0")
            m.say("migrate_set_capability auto-converge on")
            m.say("migrate_set_capability return-path on")
            m.say(f"migrate -d unix:{wire}")
            end = time.monotonic() + 300
            while "completed" not in (text := m.say("info migrate")):
                if time.monotonic() > end:
                    raise GuestError(f"QEMU does not migrate: {text}")
                time.sleep(0.2)
            h.expect("round", 60)
            h.kill()
        if os.path.exists(wire):
            os.unlink(wire)
    return float(re.search(r"downtime: (\d+)", text).group(1)), float(re.search(r"total time: (\d+)", text).group(1)) / 1e3


def bench_migrate(report):
    """The pause and the whole of a migration."""
    kernel = os.path.join(vivguest.kernel("bookworm"), "vmlinuz")
    initrd = vivguest.initrd("bookworm", DIRTY, "dirty")
    names = subjects("bt", "interp", "QEMU")
    table = {f"migrate: {n}, {u}": [] for u in ("ms of pause", "seconds in all") for n in names}
    for _ in range(Options.rounds):
        for n in names:
            options = command(n, kernel, initrd, "console=ttyS0 quiet", memory_mib=512)
            pause, total = migrate_qemu(options) if n == "QEMU" else migrate_ours(n, options)
            table[f"migrate: {n}, ms of pause"].append(pause)
            table[f"migrate: {n}, seconds in all"].append(total)
    report.pairs(table, 1)


MEASUREMENTS = {"migrate": bench_migrate}
