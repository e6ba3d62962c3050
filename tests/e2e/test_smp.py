# SPDX-License-Identifier: Apache-2.0
"""More processors than the host has: no lockups, and time that goes as fast as outside."""
import os
import time

import pytest
import vivguest
from vivguest import Guest

PROCESSORS = 4

# Jobs that compute, fork and wait for each other. ROUNDS: how long.
LOAD = """
load() {
	n=0
	while [ $n -lt 6 ]; do
		( k=0; while [ $k -lt $1 ]; do k=$((k+1)); dd if=/dev/zero bs=64k count=16 2>/dev/null | md5sum >/dev/null
		  ls -lR /proc/self /sys/class/net >/dev/null 2>&1; done ) &
		n=$((n+1))
	done
}
"""


def boot(engine, name, run, cmdline=""):
    folder = vivguest.kernel("bookworm")
    return Guest("--kernel", os.path.join(folder, "vmlinuz"), "--initrd", vivguest.initrd("bookworm", run, name),
                 "--cmdline", f"console=ttyS0 quiet {cmdline}", "--memory", "512M", "--cpus", PROCESSORS,
                 "--engine", engine, "--console", "stdio")


@pytest.mark.parametrize("engine,rounds", [("bt", 20), ("interp", 2)])
def test_four_processors_share_two_cores_without_complaint(engine, rounds):
    run = LOAD + f"""
load {rounds}; wait
echo steal $(awk '/^cpu /{{print $9}}' /proc/stat)
echo clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
echo __LOG''__; dmesg; echo __END''__
"""
    with boot(engine, f"smp-{engine}", run) as guest:
        guest.expect(r"VIV-BOOT-OK", 120)
        guest.expect(r"steal \d+", 400)
        guest.expect(r"clock (tsc|kvm-clock)", 60)
        guest.expect(r"__END__", 60)
        assert guest.wait(60) == 0
        log = guest.text().split("__LOG__")[1]
    for good in ("PV spinlocks enabled", "pv remote TLB flush", "setup PV IPIs", "PV sched yield"):
        assert good in log, f"no '{good}' in the kernel log"
    for bad in ("lockup", "rcu: INFO", "stall", "Marking clocksource", "unstable", "hung task", "clock skew", "BUG:",
                "WARNING:", "Call Trace", "TSC doesn't count", "unsynchronized"):
        assert bad not in log, f"'{bad}' in the kernel log"


def guest_clock(guest):
    """(guest ns, host ns, +-ns): of several answers the one that took least, with the load held."""
    best = None
    guest.send("hold\n")
    time.sleep(2)
    for _ in range(40):
        before = time.monotonic_ns()
        guest.send("read\n")
        ns = int(guest.expect(r"now at (\d+) nsecs", 60).group(1))
        after = time.monotonic_ns()
        if best is None or after - before < 2 * best[2]:
            best = (ns, (before + after) // 2, (after - before) // 2)
    guest.send("go\n")
    return best


@pytest.mark.parametrize("engine", ["bt", "interp"])
@pytest.mark.parametrize("clock", ["kvm-clock", "tsc"])
def test_the_guests_clock_keeps_to_the_hosts_under_load(engine, clock):
    # The shell alone reads the clock: a program's start would blur it.
    run = LOAD + """
( while :; do while [ -e /tmp/hold ]; do sleep 0.1; done; load 1; wait; done ) &
echo reading-the-clock
while read x; do
	case $x in
	hold) : >/tmp/hold ;;
	go) rm /tmp/hold ;;
	*) { read a; read a; read a; echo $a; } </proc/timer_list ;;
	esac
done
"""
    with boot(engine, f"clock-{engine}", run, f"clocksource={clock}") as guest:
        guest.expect(r"reading-the-clock", 200)
        guest_0, host_0, error_0 = guest_clock(guest)
        time.sleep(20)
        guest_1, host_1, error_1 = guest_clock(guest)
    passed = host_1 - host_0
    ppm = abs(guest_1 - guest_0 - passed) * 1e6 / passed
    blur = (error_0 + error_1) * 1e6 / passed
    print(f"{engine} {clock}: {ppm:.1f} ppm, measured to +-{blur:.1f}")
    assert ppm <= 50 + blur
