# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels with every instruction of the translator repeated by the interpreter."""
import os
import re

import pytest
import vivguest
from vivguest import Guest

# Not only the boot: processes, pipes, signals, arithmetic, and a program that is compressed and hashed.
RUN = """
set -e
i=0; while [ $i -lt 20 ]; do ls -l /proc /sys/class | wc -l >/dev/null; i=$((i + 1)); done
head -c 200000 /dev/urandom >/tmp/a; gzip -c /tmp/a | gunzip | cmp - /tmp/a
sha256sum /tmp/a | wc -c
awk 'BEGIN { x = 1.5; for (i = 0; i < 20000; i++) x = x * 1.0001 + i / 7; printf "%.6f\\n", x }'
echo LOCKSTEP-OK
"""


@pytest.mark.parametrize("suite", ["bookworm", "bookworm-backports"])
def test_kernel_and_programs_run_without_a_difference_between_the_engines(suite):
    folder = vivguest.kernel(suite)
    with Guest("--kernel", os.path.join(folder, "vmlinuz"), "--initrd", vivguest.initrd(suite, RUN, "lockstep"),
               "--cmdline", "console=ttyS0 quiet", "--memory", "256M", "--engine", "lockstep", "--console", "stdio",
               "--log-level", "info") as guest:
        guest.expect(r"VIV-BOOT-OK", 300)
        guest.expect(r"LOCKSTEP-OK", 300)
        assert guest.wait(60) == 0
        compared = re.search(r"lockstep: (\d+) instructions compared", guest.stderr())
    assert compared and int(compared.group(1)) > 1_000_000_000


def test_more_than_one_processor_is_refused_in_a_sentence():
    with Guest("--kernel", os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), "--engine", "lockstep",
               "--cpus", "2") as guest:
        assert guest.wait(10) != 0
        assert "compares one processor only" in guest.stderr()
