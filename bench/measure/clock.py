# SPDX-License-Identifier: Apache-2.0
"""clock - how a guest's time drifts against the host's while the guest is busy."""
import os
import time

from .subject import BUILD, Options, command, guest, subjects, vivguest

PROGRAM = os.path.join(BUILD, "bench", "vivbench")
CPUS, SAMPLES = 2, 25
# Both processors busy with everything there is: computation, faults, switches.
RUN = "grep . /sys/devices/system/clocksource/clocksource0/current_clocksource\n" + \
    "while vivbench kernel >/dev/null; do :; done &\n" * CPUS + "stty -echo\necho CLOCK-READY\nvivbench clock\n"


def ask(g):
    """(host's time, seconds that the guest's is ahead of it, seconds of uncertainty to either side)"""
    begin = time.monotonic()
    g.send("\n")
    there = int(g.expect(r"BENCH clock (\d+) ", 60).group(1)) / 1e9
    end = time.monotonic()
    middle = (begin + end) / 2
    return middle, there - middle, (end - begin) / 2


def best(g):
    """Of several answers the one that came back soonest."""
    answers = []
    for _ in range(SAMPLES):
        answers.append(ask(g))
        time.sleep(0.05)
    return min(answers, key=lambda a: a[2])


def drift(name, folder, initrd):
    """(ppm, uncertainty in ppm, farthest in ms from a straight line, name of the guest's clock)"""
    argv = command(name, os.path.join(folder, "vmlinuz"), initrd, "console=ttyS0 quiet cryptomgr.notests",
                   cpus=CPUS, memory_mib=512)
    with guest(argv) as g:
        g.expect("VIV-BOOT-OK.*\n", 120)
        source = g.expect(r"(\S+)\s+CLOCK-READY", 120).group(1).decode()
        first = best(g)
        between = []
        while time.monotonic() < first[0] + Options.clock_seconds:
            time.sleep(5)
            between.append(min((ask(g) for _ in range(5)), key=lambda a: a[2]))
        last = best(g)
    length = last[0] - first[0]
    slope = (last[1] - first[1]) / length
    # Only what exceeds the uncertainty of the answer is the clock's.
    far = max(max(0, abs(o - first[1] - slope * (t - first[0])) - u) for t, o, u in between)
    return slope * 1e6, (first[2] + last[2]) / length * 1e6, far * 1e3, source


def bench_clock(report):
    folder = vivguest.kernel("bookworm")
    initrd = vivguest.initrd("bookworm", RUN, "clock", [PROGRAM])
    for e in subjects("bt", "QEMU"):
        ppm, unsure, far, source = drift(e, folder, initrd)
        print(f"        {e}: clock source {source}, {ppm:+.1f} ppm, give or take {unsure:.1f}; "
              f"never more than {far:.1f} ms off a straight line")
        report.line(f"clock: {e}, drift in ppm", [abs(ppm)], 1)


MEASUREMENTS = {"clock": bench_clock}
