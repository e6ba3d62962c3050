# SPDX-License-Identifier: Apache-2.0
"""scaling - a build of zlib by make: two processors against one, and more processors than the host has."""
import os
import re

from . import programs, speed, tools
from .report import Skip
from .subject import Options, finish, subjects


def build(subject, where, jobs):
    """(seconds, seconds of processors) of make with so many jobs on so many processors."""
    name = f"make{jobs}"
    text, shares = programs.console(subject, where, [name], jobs)
    return [programs.judged(subject, speed.results(text, shares, cpu))[name][0] for cpu in (False, True)]


def bench_scaling(report):
    """make -j1 on one processor, make -j2 on two; the ratios of each round."""
    if os.cpu_count() < 2:
        raise Skip("the host has one processor")
    where, engines = programs.prepare(), subjects("bt", "native")
    took, times, work = {}, {}, {}
    for _ in range(Options.rounds):
        for e in engines:
            one, two = build(e, where, 1), build(e, where, 2)
            for n, wall in (1, one[0]), (2, two[0]):
                took.setdefault(f"scaling: {e}, seconds of make -j{n}", []).append(wall)
            times.setdefault(f"scaling: {e}, make -j2 on 2 processors, times as fast", []).append(one[0] / two[0])
            work.setdefault(f"scaling: {e}, processor time of make -j2 to that of make -j1", []).append(two[1] / one[1])
    for table in took, work, times:
        report.pairs(table, 2)


def bench_crowd(report):
    """Four processors, or twice as many as the host has, at work: the guest's kernel must not complain."""
    where = programs.prepare()
    cpus = max(4, 2 * os.cpu_count())
    for e in subjects("bt"):
        names = [f"make{cpus}", "dmesg"]
        with tools.start(e, *where, ["programs", *names], cpus) as g:
            speed.run_guest(e, g, names, programs.TIMEOUT_S, slack_s=2)
            finish(e, g, 300)
            got = programs.judged(e, speed.results(g.text()))
            trouble = re.findall(r"TROUBLE (.*?)\r?\n", g.text())
        for line in trouble:
            print(f"        {line}")
        report.line(f"crowd: {e}, seconds of make -j{cpus} on {cpus} processors of {os.cpu_count()}",
                    [got[names[0]][0]], 2)
        report.line(f"crowd: {e}, complaints of the guest's kernel", [len(trouble)], 0)


MEASUREMENTS = {"scaling": bench_scaling, "crowd": bench_crowd}
