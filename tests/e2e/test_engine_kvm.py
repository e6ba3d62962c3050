# SPDX-License-Identifier: Apache-2.0
"""A machine of engine kvm, whose local APICs and clocks are the kernel's, goes to files and other processes and engines, and back.
The guest (tests/guest/hostile/ticks.c) has all sources of interrupts and time tick on two processors; it can be run by a KVM
without hardware below it, too."""
import os
import re
import subprocess
import time

import pytest
import vivguest
from test_saved_state import ctl
from vivguest import Guest

ELF = os.path.join(vivguest.ROOT, "build/tests/guest/hostile/hostile.elf")
# What a KVM without hardware below it offers, too.
CPU = "x86-64-v1,spec_ctrl=off,stibp=off,arch_capabilities=off"
MACHINE = ["--kernel", ELF, "--cmdline", "test=ticks cpus=2", "--memory", "64M", "--cpus", "2", "--cpu", CPU]
LINE = re.compile(r"TICKS ([0-9a-f]{16}) ([0-9a-f]{16}) ([0-9a-f]{16}) ([0-9a-f]{16})\r?\n")
LINES = 4               # of them show that all goes on
STEP_MS = 2000          # between two lines; a guest on a busy host says less often than it wants


def no_kvm():
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "there is no usable /dev/kvm"
    told = subprocess.run([vivguest.VMM, "--list-engines"], capture_output=True, text=True, check=True).stdout
    line = next(line for line in told.splitlines() if line.startswith("kvm"))
    return "" if "works" in line or "by emulation" in line else line


pytestmark = pytest.mark.skipif(bool(no_kvm()), reason=no_kvm() or "there is one")


class Ticks:
    """The guest, whichever process runs it; its console is one file."""

    def __init__(self, folder):
        self.folder, self.console, self.n, self.seen = folder, folder / "console", 0, 0
        self.guests = []

    def start(self, *options):
        self.n += 1
        sock = str(self.folder / f"s{self.n}")
        guest = Guest(*options, "--console", f"file:{self.console}", "--control", sock)
        self.guests.append(guest)
        return guest, sock

    def values(self):
        return [[int(x, 16) for x in line] for line in LINE.findall(self.console.read_text() if self.console.exists() else "")]

    def go_on(self, timeout=60):
        """More of them come, each greater than the one before, and nothing is wrong."""
        end = time.monotonic() + timeout
        while len(self.values()) < self.seen + LINES:
            assert time.monotonic() < end, (self.values()[self.seen:], [g.stderr() for g in self.guests])
            time.sleep(0.05)
        text, values = self.console.read_text(), self.values()
        assert "BAD" not in text and text.count("BEGIN") == 1, text
        for was, now in zip(values[self.seen:], values[self.seen + 1:]):
            steps = [b - a for a, b in zip(was, now)]
            assert 0 < steps[0] < STEP_MS * 1000000, (was, now)         # the paravirtual clock neither jumps nor goes back
        assert all(b > a for a, b in zip(values[self.seen], values[-1])), (values[self.seen], values[-1])
        self.seen = len(values) - 1

    def end(self):
        for guest in self.guests:
            guest.kill()


@pytest.fixture(name="ticks")
def ticks_fixture(tmp_path):
    t = Ticks(tmp_path)
    yield t
    t.end()


@pytest.mark.parametrize("engines", ["kvm bt kvm", "bt kvm bt", "kvm interp kvm", "kvm kvm"])
def test_saved_under_one_engine_and_continued_under_another(ticks, engines):
    first, *others = engines.split()
    guest, sock = ticks.start(*MACHINE, "--engine", first)
    for i, engine in enumerate(others):
        ticks.go_on()
        state = ticks.folder / f"state{i}"
        ctl(sock, "save", state, "--stop", f"packing={('raw', 'zstd', 'lz4')[i % 3]}")
        assert guest.wait(30) == 0
        guest, sock = ticks.start("--restore", state, "--engine", engine)
    ticks.go_on()


@pytest.mark.parametrize("there", ["kvm", "bt"])
@pytest.mark.parametrize("here", ["kvm", "bt"])
def test_migrated_and_upgraded(ticks, here, there):
    guest, sock = ticks.start(*MACHINE, "--engine", here)
    ticks.go_on()
    at = f"unix:{ticks.folder}/wire"
    other, there_sock = ticks.start("--incoming", at, "--engine", there)
    end = time.monotonic() + 30
    while not os.path.exists(at[5:]):
        assert time.monotonic() < end
        time.sleep(0.02)
    ctl(sock, "migrate", at)
    assert guest.wait(30) == 0
    ticks.go_on()
    ctl(there_sock, "upgrade")
    assert other.wait(30) == 0
    ticks.go_on()
    ctl(there_sock, "quit")


def test_a_save_that_goes_on_and_copies(ticks):
    guest, sock = ticks.start(*MACHINE, "--engine", "kvm")
    ticks.go_on()
    ctl(sock, "save", ticks.folder / "state")
    ticks.go_on()
    copies = [line.split() for line in ctl(sock, "fork", "-n", 2, "--", "--console", "none").splitlines()]
    try:
        for _, copy in copies:
            assert ctl(copy, "info", "--json")["state"] == "running"
        ticks.go_on()
    finally:
        for _, copy in copies:
            ctl(copy, "quit")
    assert guest.proc.poll() is None


def test_what_this_kvm_lacks_is_refused_and_named(ticks):
    """A machine with processors that only the translator has here goes on where it is."""
    guest, sock = ticks.start(*MACHINE[:-1], f"{CPU},sse3=on", "--engine", "bt")
    ticks.go_on()
    state = ticks.folder / "state"
    ctl(sock, "save", state)
    done = subprocess.run([vivguest.VMM, "--restore", state, "--engine", "kvm", "--check"], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:         # with hardware below, it has them
        assert "features" in done.stderr and "KVM" in done.stderr, done.stderr
    ticks.go_on()
    assert guest.proc.poll() is None
