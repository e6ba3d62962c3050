# SPDX-License-Identifier: Apache-2.0
"""speed - what kernels and programs have in common: run timed work in a guest and natively, compare
times and checksums, judge them.

The work tells on its console "BENCH NAME begin", then "BENCH NAME NS CHECKSUM CPU_NS" (bench/guest/main.c).
NS is by the clock of where it runs; a guest's is held against the host's wall clock.

With --cpu-time the figures are the time that the work had a processor: of a guest, that of the monitor's
process as the host accounts for it. That is what can be compared on a host with other work.
"""
import dataclasses
import re
import statistics
import subprocess
import time

from .instrument import cpu_ns
from .report import geomean
from .subject import GuestError, Options

# How far a guest's clock may be from the host's between two lines: what is buffered, and who has to
# wait for a processor, counts here. A clock that stands still or runs twice as fast does not pass.
CLOCK_SLACK_S, CLOCK_SLACK = 0.15, 0.1


@dataclasses.dataclass
class Row:
    name: str
    system: bool                        # mostly work of the guest's kernel
    seconds: dict                       # {subject: [per round]}

    def median(self, subject):
        values = self.seconds.get(subject)
        return statistics.median(values) if values else None

    def ratio(self, above, below):
        a, b = self.median(above), self.median(below)
        return a / b if a and b else None


def results(text, shares=None, cpu_time=None):
    """{name: (seconds, checksum)} of what was printed. With CPU_TIME, else as the command line says, the
    seconds are processor time: by the host's account, SHARES {name: part of the wall time}, or by the
    program's own where there are no SHARES."""
    cpu_time = Options.cpu_time if cpu_time is None else cpu_time
    out = {}
    for name, ns, checksum, own_ns in re.findall(r"BENCH (\S+) (\d+) ([0-9a-f]+)(?: (\d+))?", text):
        seconds = int(ns) / 1e9
        if cpu_time and own_ns:
            seconds *= shares[name] if shares else int(own_ns) / int(ns)
        out[name] = seconds, checksum
    return out


def run_guest(subject, g, names, timeout, slack_s=CLOCK_SLACK_S):
    """Wait on the console for the results of NAMES, in that order: {name: share}, the share of its time
    that the monitor's process, all its threads, had a processor."""
    shares = {}
    for name in names:
        g.expect(f"BENCH {name} begin", timeout)
        begin, cpu = time.monotonic(), cpu_ns(g.proc.pid)
        m = g.expect(rf"BENCH {name} (\d+) [0-9a-f]+ \d+\s", timeout)
        host, here = time.monotonic() - begin, int(m.group(1)) / 1e9
        shares[name] = (cpu_ns(g.proc.pid) - cpu) / 1e9 / host
        if abs(host - here) > slack_s + CLOCK_SLACK * host:
            raise GuestError(f"{subject}: '{name}' took {here:.3f} s by the guest's clock, {host:.3f} s by the host's")
    return shares


def run_native(argv, timeout, **how):
    """What a program printed that is run here; it must end with status 0."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False, **how)
    if done.returncode:
        raise GuestError(f"'{' '.join(argv)}' ended with status {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def measure(report, title, names, system, subjects, run):
    """RUN(subject) -> {name: (seconds, checksum)}, each of SUBJECTS in each round; rows to the report."""
    rows = [Row(n, n in system, {}) for n in names]
    sums = {}
    for _ in range(Options.rounds):
        for s in subjects:
            got = run(s)
            for row in rows:
                seconds, checksum = got[row.name]
                row.seconds.setdefault(s, []).append(seconds)
                sums.setdefault(row.name, {}).setdefault(checksum, s)
    for name, seen in sums.items():
        if len(seen) > 1:
            report.fail(title, f"'{name}' computed different results: " +
                        ", ".join(f"{s} {checksum}" for checksum, s in seen.items()))
    table(title, rows, subjects)
    report.speed += rows


def _figure(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def table(title, rows, subjects):
    """Medians in milliseconds, and their ratios to the first subject's."""
    first, others = subjects[0], subjects[1:]
    marks = [f"{s}/{first}" if s != "native" else f"{first}/native" for s in others]
    unit = "CPU ms" if Options.cpu_time else "ms"
    print(f"{title + ': medians in ' + unit:28}" + "".join(f"{s:>11}" for s in subjects) + "".join(f"{m:>14}" for m in marks))
    ratios = {m: [] for m in marks}
    for row in rows:
        text = f"  {row.name + (' (system)' if row.system else ''):26}"
        text += "".join(f"{_figure(row.median(s) * 1e3, 1):>11}" for s in subjects)
        for s, m in zip(others, marks):
            ratio = row.ratio(first, s) if s == "native" else row.ratio(s, first)
            ratios[m].append(ratio)
            text += f"{_figure(ratio, 2):>14}"
        print(text)
    if others and len(rows) > 1:
        print(f"  {'geomean':26}" + " " * 11 * len(subjects) + "".join(f"{geomean(r):14.2f}" for r in ratios.values()))
    print("", end="", flush=True)


def summary(report, complete):
    """Over everything that kernels and programs have measured in this run: what is promised, which is
    judged when all of them were measured, COMPLETE being how many these are."""
    rows = report.speed
    part = "" if len(rows) == complete else f", of {len(rows)}"
    beside = [r.ratio("QEMU", "bt") for r in rows if r.ratio("QEMU", "bt")]
    if beside:
        report.line(f"speed: geomean of QEMU's time to bt's{part}", [geomean(beside)], 2)
        report.line(f"speed: the least of QEMU's time to bt's{part}", [min(beside)], 2)
    for system, what in ((False, "user mode"), (True, "system calls, faults, processes")):
        native = [r.ratio("bt", "native") for r in rows if r.system == system and r.ratio("bt", "native")]
        if native:
            report.line(f"speed: {what}, geomean of bt's time to native{part}", [geomean(native)], 2)
