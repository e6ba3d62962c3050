# SPDX-License-Identifier: Apache-2.0
"""What the translator takes of the host's memory stays within --code-cache, whatever the guest runs."""
import os
import re

import vivguest
from test_saved_state import ctl
from vivguest import Guest

# Processes that come and go, each at addresses of its own, with several of them at a time.
CHURN = """
k=0
while [ $k -lt 8 ]; do
	k=$((k+1))
	( ls -lR /proc/self | sort | md5sum; dmesg | grep -c . ; dd if=/dev/zero bs=64k count=8 | gzip | gunzip | wc -c ) >/dev/null 2>&1
done
"""


def test_a_guest_that_churns_processes_stays_within_the_limit(tmp_path):
    folder, sock = vivguest.kernel("bookworm"), tmp_path / "control"
    with Guest("--kernel", os.path.join(folder, "vmlinuz"), "--initrd", vivguest.initrd("bookworm", CHURN, "churn"),
               "--cmdline", "console=ttyS0 quiet", "--engine", "bt", "--console", "stdio", "--code-cache", "24M",
               "--stats", "--control", sock) as guest:
        guest.expect(r"VIV-BOOT-OK", 240)
        counters = ctl(sock, "stats", "--json")["cpus"][0]["translation"]
        assert 4 << 20 < counters["memory"] <= 24 << 20, counters
        assert counters["code_bytes"] > 0 and counters["top_call_outs"][0]["count"] > 0, counters
        exits = counters["exits"]
        assert counters["exits_other"] == sum(exits.values()) - exits["link"] - exits["indirect"], counters
        assert all(exits[why] > 0 for why in ("link", "indirect", "end", "request", "changed")), exits
        assert guest.wait(240) == 0
        told = guest.stderr()
    assert re.search(r"cpu 0: exits from code: \d+ link \d+ indirect \d+ unmapped \d+ end ", told), told
    in_use = float(re.search(r"cpu 0: ([\d.]+) MiB in use for translations", told).group(1))
    assert 4 < in_use <= 24, told
    assert int(re.search(r"(\d+) times dropped", told).group(1)) > 0, told
    assert int(re.search(r"(\d+) address spaces dropped for want of memory", told).group(1)) > 0, told
