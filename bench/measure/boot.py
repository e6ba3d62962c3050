# SPDX-License-Identifier: Apache-2.0
"""boot - Debian: the cloud kernel to its init and to power off, an installed system to its login
prompt, and what that takes of the host while nobody logs in."""
import os
import time

from .instrument import cpu_ns
from .subject import WORK, Options, command, finish, guest, subjects, vivguest


def bench_boot(report):
    """Debian's cloud kernel to its init in an initrd, and to power off."""
    folder = vivguest.kernel("bookworm")
    kernel, initrd = os.path.join(folder, "vmlinuz"), vivguest.initrd("bookworm")
    engines = subjects("bt", "interp", "QEMU")
    units = ("seconds to init", "CPU seconds to init", "seconds to power off")
    table = {f"boot: {e}, {u}": [] for u in units for e in engines}
    for _ in range(Options.rounds):
        for e in engines:
            begin = time.monotonic()
            with guest(command(e, kernel, initrd, "console=ttyS0 quiet")) as g:
                g.expect("VIV-BOOT-OK", 300)
                values = [time.monotonic() - begin, cpu_ns(g.proc.pid) / 1e9]
                finish(e, g)
                values.append(time.monotonic() - begin)
            for u, v in zip(units, values):
                table[f"boot: {e}, {u}"].append(v)
    report.pairs(table, 2)


def start_debian(name):
    """An installed Debian on a fresh copy of its disk; (guest, path of the copy)."""
    folder = vivguest.debian()
    disk = vivguest.copy_sparse(os.path.join(folder, "root.img"), os.path.join(WORK, "root.img"))
    kernel, initrd = (os.path.join(folder, f) for f in ("vmlinuz", "initrd.img"))
    return guest(command(name, kernel, initrd, "console=ttyS0 root=/dev/vda rw", [disk], memory_mib=512)), disk


def bench_login(report):
    """An installed Debian with systemd, from exec to its login prompt."""
    engines = subjects("bt", "QEMU")
    table = {f"login: {e}, seconds to the login prompt": [] for e in engines}
    for _ in range(Options.rounds):
        for e, row in zip(engines, table.values()):
            g, disk = start_debian(e)
            begin = time.monotonic()
            with g:
                g.expect("login: ", 900)
                row.append(time.monotonic() - begin)
            os.unlink(disk)
    report.pairs(table, 2)


def bench_idle(report):
    """Host CPU that a Debian waiting at its login prompt takes, over ten seconds. One round: what
    is to be seen is in a single one."""
    settle_s, watch_s = 20, 10
    table = {}
    for e in subjects("bt", "interp", "QEMU"):
        g, disk = start_debian(e)
        with g:
            g.expect("login: ", 900)
            time.sleep(settle_s)
            before = cpu_ns(g.proc.pid)
            time.sleep(watch_s)
            table[f"idle: {e}, % of one host CPU"] = [(cpu_ns(g.proc.pid) - before) / watch_s / 1e7]
        os.unlink(disk)
    report.pairs(table, 2)


MEASUREMENTS = {"boot": bench_boot, "login": bench_login, "idle": bench_idle}
