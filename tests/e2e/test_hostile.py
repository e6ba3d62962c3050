# SPDX-License-Identifier: Apache-2.0
"""A guest that does everything wrong: viv-vmm neither crashes, nor hangs, nor grows."""
import os
import re
import signal
import time

import pytest
import vivguest
from vivguest import Guest

ELF = os.path.join(vivguest.ROOT, "build/tests/guest/hostile/hostile.elf")
ASAN = os.path.join(vivguest.ROOT, "build-asan/viv-vmm")
# The leak detector stops its process by ptrace, which the jail forbids; unit tests look for leaks.
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0")
# (program, engine)
BUILDS = [pytest.param((vivguest.VMM, "interp"), id="interp"), pytest.param((vivguest.VMM, "bt"), id="bt"),
          pytest.param((ASAN, "interp"), id="sanitized", marks=pytest.mark.skipif(
              not os.path.exists(ASAN), reason="build-asan/viv-vmm has not been built"))]
INTERP = (vivguest.VMM, "interp")
EXIT_GOOD = 0x10 << 1 | 1
RANDOM_SECONDS = float(os.environ.get("VIV_HOSTILE_SECONDS", "5"))
# Decoded blocks may take 16 MiB per processor, what describes translated code 28 MiB; buffers and threads
# some more.
ROOM_KB = {"interp": 24 << 10, "bt": 56 << 10}


def start(test, build, folder, *extra, cpus=1, rounds=1):
    vmm, engine = build
    disk = os.path.join(folder, "d.img")
    with open(disk, "wb") as f:
        f.truncate(8 << 20)
    os.environ.setdefault("ASAN_OPTIONS", "abort_on_error=1:detect_stack_use_after_return=0")
    os.environ.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
    return Guest("--kernel", ELF, "--cmdline", f"test={test} cpus={cpus} rounds={rounds}", "--memory", "128M",
                 "--cpus", cpus, "--engine", engine, "--exit-port", "--disk", f"path={disk}", "--net", "none",
                 "--console", "stdio", *extra, vmm=vmm)


def own_memory_kb(guest):
    """What the process has for itself: guest RAM is shared memory and counts elsewhere."""
    with open(f"/proc/{guest.pid}/status", encoding="ascii") as f:
        rss = re.search(r"RssAnon:\s+(\d+)", f.read())
    return int(rss.group(1)) if rss else 0      # it has just ended and is not yet waited for


def check_errors(text, most=60):
    """Few lines, however often the guest did it; nothing from a sanitizer."""
    for bad in ("Sanitizer", "runtime error", "Assertion"):
        assert bad not in text, text[-5000:]
    assert text.count("\n") <= most, text[:5000]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("test,cpus", [("ports", 1), ("mmio", 1), ("virtio", 1), ("race", 2), ("console", 1),
                                       ("storm", 4), ("paging", 1), ("msrs", 1)])
def test_abuse_is_survived_without_growth(test, cpus, build, tmp_path):
    with start(test, build, tmp_path, "--no-reboot", cpus=cpus) as guest:
        guest.expect("BEGIN", 60)
        before = own_memory_kb(guest)
        if test not in ("paging", "msrs"):
            guest.expect("HALF", 120)
            half = own_memory_kb(guest)
            guest.expect("END", 120)
            if build[0] != ASAN:
                assert own_memory_kb(guest) - half < 4 << 10, "grows from one round to the next"
                assert half - before < ROOM_KB[build[1]] * cpus, "grows beyond its caches"
        assert guest.wait(120) == EXIT_GOOD, guest.stderr()
        check_errors(guest.stderr())


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("test", ["reboots", "inflight"])
def test_resets_of_every_kind_start_the_guest_again(test, build, tmp_path):
    """Triple fault, reset port, keyboard controller; once and a thousand times, with requests in flight."""
    with start(test, build, tmp_path) as guest:
        guest.expect("HALF", 120)
        assert guest.wait(60) == EXIT_GOOD, guest.stderr()
        assert guest.text().count("BEGIN") > 20
        check_errors(guest.stderr())


def test_triple_fault_is_one_sentence_with_no_reboot(tmp_path):
    with start("triple", INTERP, tmp_path, "--no-reboot") as guest:
        assert guest.wait(30) == 1
        assert guest.stderr() == "viv-vmm: error: the guest crashed: triple fault on processor 0\n"


def test_guest_that_only_crashes_ends_on_sigterm_and_stays_small(tmp_path):
    with start("triple", INTERP, tmp_path) as guest:
        for _ in range(10):
            guest.expect("BEGIN", 30)
        before = own_memory_kb(guest)
        for _ in range(200):
            guest.expect("BEGIN", 30)
        assert own_memory_kb(guest) - before < 4 << 10
        os.kill(guest.proc.pid, signal.SIGTERM)
        assert guest.wait(10) == 0
        check_errors(guest.stderr(), 5)


def test_power_off_by_acpi_ends_with_status_0(tmp_path):
    with start("poweroff", INTERP, tmp_path) as guest:
        assert guest.wait(30) == 0
        check_errors(guest.stderr(), 0)


@pytest.mark.parametrize("build", BUILDS)
def test_random_bytes_at_ring_0(build, tmp_path):
    """Until the time is over; random code may also reset, power off or use the exit port."""
    end = time.monotonic() + RANDOM_SECONDS
    while time.monotonic() < end:
        with start("random", build, tmp_path, cpus=2) as guest:
            guest.expect("BEGIN", 60)
            before = own_memory_kb(guest)
            while time.monotonic() < end and guest._read(0.2):
                pass
            if guest.proc.poll() is None:
                if build[0] != ASAN:
                    assert own_memory_kb(guest) - before < 2 * ROOM_KB[build[1]]
                try:
                    os.kill(guest.proc.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
            assert guest.wait(20) >= 0, guest.stderr()
            check_errors(guest.stderr())


def test_flood_that_nobody_reads_blocks_nothing(tmp_path):
    """Standard output is a pipe that is never read: the guest runs on and signals work."""
    with start("console", INTERP, tmp_path, rounds=100000) as guest:
        time.sleep(2)
        before = own_memory_kb(guest)
        time.sleep(1)
        assert own_memory_kb(guest) - before < 1 << 10
        os.kill(guest.proc.pid, signal.SIGTERM)
        assert guest.proc.wait(10) == 0, guest.stderr()
