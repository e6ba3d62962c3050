# SPDX-License-Identifier: Apache-2.0
"""scaling - a build of zlib by make: two processors against one, and more processors than the host has."""
import os
import re

from . import programs, speed
from .report import Skip
from .subject import Options, finish, subjects


def bench_scaling(report):
    """make -j1 on one processor, make -j2 on two; the ratio of each round."""
    if os.cpu_count() < 2:
        raise Skip("the host has one processor")
    folder = programs.image()
    engines = subjects("bt", "native")
    table = {f"scaling: {e}, seconds of make -j{n}": [] for e in engines for n in (1, 2)}
    times = {f"scaling: {e}, make -j2 on 2 processors, times as fast": [] for e in engines}
    for _ in range(Options.rounds):
        for e, row in zip(engines, times.values()):
            took = [programs.run(e, folder, [f"make{n}"], cpus=n)[f"make{n}"][0] for n in (1, 2)]
            for n in (1, 2):
                table[f"scaling: {e}, seconds of make -j{n}"].append(took[n - 1])
            row.append(took[0] / took[1])
    report.pairs(table, 2)
    report.pairs(times, 2)


def bench_crowd(report):
    """Four processors, or twice as many as the host has, at work: the guest's kernel must not complain."""
    folder = programs.image()
    cpus = max(4, 2 * os.cpu_count())
    for e in subjects("bt"):
        names = [f"make{cpus}", "dmesg"]
        with programs.start(e, folder, names, cpus) as g:
            speed.run_guest(e, g, names, programs.TIMEOUT_S, slack_s=2)
            finish(e, g)
            got = programs.judged(e, speed.results(g.text()))
            trouble = re.findall(r"TROUBLE (.*?)\r?\n", g.text())
        for line in trouble:
            print(f"        {line}")
        report.line(f"crowd: {e}, seconds of make -j{cpus} on {cpus} processors of {os.cpu_count()}",
                    [got[names[0]][0]], 2)
        report.line(f"crowd: {e}, complaints of the guest's kernel", [len(trouble)], 0)


MEASUREMENTS = {"scaling": bench_scaling, "crowd": bench_crowd}
