# SPDX-License-Identifier: Apache-2.0
"""User programs that find their memory by the host's MMU (--windows on): what they compute is right, while memory comes and goes,
processes take turns, and the machine is saved."""
import hashlib
import os
import re

import pytest
import vivguest
from test_saved_state import ctl
from vivguest import Guest

LINES = 120000
WORK = f"""
mount -t tmpfs tmpfs /tmp
one() {{
	seq 1 {LINES} >/tmp/$1
	echo "GZIP-$1 $(gzip -9 </tmp/$1 | gunzip | sha256sum)"
	echo "SORT-$1 $(sort -r /tmp/$1 | sha256sum)"
	echo "SHELL-$1 $(k=0; n=0; while [ $k -lt 60000 ]; do k=$((k+1)); n=$(((n*31+k)%1000003)); done; echo $n)"
}}
one a & one b & one c
wait
echo ALL-DONE
"""


def expected(name):
    lines = [str(k) for k in range(1, LINES + 1)]
    digest = lambda of: hashlib.sha256("".join(x + "\n" for x in of).encode()).hexdigest()
    n = 0
    for k in range(1, 60001):
        n = (n * 31 + k) % 1000003
    return {f"GZIP-{name}": digest(lines), f"SORT-{name}": digest(sorted(lines, reverse=True)), f"SHELL-{name}": str(n)}


def machine(*more):
    folder = vivguest.kernel("bookworm")
    return ["--kernel", os.path.join(folder, "vmlinuz"), "--initrd", vivguest.initrd("bookworm", WORK, "windows"), "--memory", "512M",
            "--cmdline", "console=ttyS0 quiet", "--engine", "bt", "--console", "stdio", "--windows", "on", "--stats", *more]


def check(text):
    told = dict(re.findall(r"^([A-Z]+-[abc]) (\w+)", text, re.M))
    for name in "abc":
        for key, value in expected(name).items():
            assert told[key] == value, (key, told)


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_programs_compute_in_windows_what_they_should(cpus):
    with Guest(*machine("--cpus", cpus)) as guest:
        guest.expect("ALL-DONE", 300)
        assert guest.wait(240) == 0
        check(guest.text().replace("\r", ""))
        told = guest.stderr()
    faults = [int(n) for n in re.findall(r"cpu \d+: (\d+) faults in windows", told)]
    assert sum(faults) > 500, told


def test_a_machine_is_saved_and_goes_on_while_windows_are_open(tmp_path):
    sock, saved, again = tmp_path / "control", tmp_path / "saved", tmp_path / "again"
    with Guest(*machine("--cpus", 2, "--control", sock)) as guest:
        guest.expect("GZIP-[abc] ", 300)
        ctl(sock, "save", saved, "--stop")
        assert guest.wait(240) == 0
        before, told = guest.text(), guest.stderr()
    assert re.search(r"cpu \d+: \d+ faults in windows", told), told
    with Guest("--restore", saved, "--control", again) as guest:
        guest.expect("ALL-DONE", 300)
        assert guest.wait(240) == 0
        check((before + guest.text()).replace("\r", ""))
