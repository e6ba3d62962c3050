# SPDX-License-Identifier: Apache-2.0
"""A machine that is continued twice learns that it is a copy: its random numbers, addresses and clock are its own."""
import os
import re
import time

import pytest
import vivguest
from test_saved_state import ctl, wait_for
from vivguest import Guest

# Random numbers, what the kernel has said of copies, and what it knows of its network, again and again.
TELL = r"""
ip link set eth0 up
n=0
while :; do
    seeded=$(dmesg | grep -c 'reseeded due to virtual machine fork')
    echo "tell $n seeded=$seeded random=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')"
    echo "link carrier=$(cat /sys/class/net/eth0/carrier) address=$(cat /sys/class/net/eth0/address) changes=$(cat /sys/class/net/eth0/carrier_changes)"
    n=$((n + 1)); sleep 0.1
done
"""


def options(tmp_path):
    folder, initrd = vivguest.kernel("bookworm-backports"), vivguest.initrd("bookworm-backports", TELL, "tell")
    return ["--kernel", os.path.join(folder, "vmlinuz"), "--initrd", initrd, "--cmdline", "console=ttyS0 quiet", "--memory", "256M",
            "--name", "seed", "--net", "none,mac=52:54:00:12:34:56", "--control", str(tmp_path / "s")]


def wait_until(path, pattern, timeout=120):
    """The match of PATTERN in the file at PATH."""
    end = time.monotonic() + timeout
    while True:
        text = path.read_text(errors="replace") if path.exists() else ""
        if m := re.search(pattern, text):
            return m
        assert time.monotonic() < end, f"'{pattern}' does not come in {path}: {text[-1000:]}"
        time.sleep(0.05)


def numbers(text):
    """The random numbers that were told after the kernel had been told that it is a copy."""
    return set(re.findall(r"seeded=[1-9]\d* random=([0-9a-f]{32})", text))


@pytest.mark.parametrize("engine", ["bt", "interp"])
def test_two_copies_generate_different_random_numbers_and_know_that_they_are_copies(tmp_path, engine):
    sock, copies = str(tmp_path / "s"), []
    with Guest(*options(tmp_path), "--engine", "bt", "--console", "stdio") as guest:
        guest.expect(r"tell 3 seeded=0", 120)
        try:
            told = ctl(sock, "fork", "-n", 2, "--", "--engine", engine, "--console", f"file:{tmp_path}/console{{}}")
            copies = [line.split()[1] for line in told.splitlines()]
            macs = {ctl(s, "info", "--json")["nets"][0]["mac"] for s in [sock, *copies]}
            assert len(macs) == 3 and "52:54:00:12:34:56" in macs
            logs = [tmp_path / f"console{i}" for i in (1, 2)]
            for log in logs:
                # The cable was pulled and plugged in again: two changes more than the one at the start.
                wait_until(log, r"seeded=1 random=[0-9a-f]{32}\r?\nlink carrier=1 address=\S+ changes=[3-9]")
            guest.expect(r"tell \d+ seeded=0", 60)
        finally:
            for copy in copies:
                ctl(copy, "quit")
        ctl(sock, "quit")
        guest.wait(30)
    told = [numbers(log.read_text(errors="replace")) for log in logs]
    assert told[0] and told[1] and not told[0] & told[1] and "seeded=1" not in guest.text()


def test_a_restored_machine_is_another_generation_each_time_and_a_migrated_one_is_not(tmp_path):
    sock, state, there = str(tmp_path / "s"), tmp_path / "state", str(tmp_path / "t")
    with Guest(*options(tmp_path), "--engine", "bt", "--console", "stdio") as guest:
        guest.expect(r"tell 2 seeded=0", 120)
        ctl(sock, "save", state, "--stop")
        guest.wait(30)
    for _ in range(2):
        log = tmp_path / "console"
        with Guest("--restore", state, "--control", sock, "--engine", "bt", "--console", f"file:{log}") as again:
            wait_for(again, sock)
            wait_until(log, r"seeded=1 random")
            assert ctl(sock, "info", "--json")["nets"][0]["mac"] == "52:54:00:12:34:56"
    with Guest("--restore", state, "--control", sock, "--engine", "bt", "--console", f"file:{log}") as again:
        wait_for(again, sock)
        wait_until(log, r"seeded=1 random")
        with Guest("--incoming", f"unix:{tmp_path}/m", "--control", there, "--engine", "bt", "--console", f"file:{tmp_path}/there",
                   "--log-level", "info") as other:
            while "waiting for a machine" not in other.stderr():
                time.sleep(0.01)
            ctl(sock, "migrate", f"unix:{tmp_path}/m")
            m = wait_until(tmp_path / "there", r"tell \d+ seeded=(\d)(?:.*\n)*.*tell \d+ seeded=(\d)")
            assert m.group(2) == "1"
            ctl(there, "quit")
