# SPDX-License-Identifier: Apache-2.0
"""What --profile and --perf-map tell about a booting kernel."""
import os
import re

import pytest
import vivguest
from vivguest import Guest


@pytest.mark.parametrize("engine", ["interp", "bt"])
def test_profile_counts_instructions_and_names_places(engine, tmp_path):
    folder = vivguest.kernel("bookworm")
    symbols = tmp_path / "System.map"
    symbols.write_text("ffffffff81000000 T first_half\nffffffff81a00000 t second_half\n")
    options = ["--perf-map"] if engine == "bt" else []
    with Guest("--kernel", os.path.join(folder, "vmlinuz"), "--initrd", vivguest.initrd("bookworm"), "--cmdline",
               "console=ttyS0 quiet nokaslr", "--engine", engine, "--console", "stdio", "--profile",
               "--profile-symbols", symbols, *options) as guest:
        guest.expect(r"VIV-BOOT-OK", 120)
        perf_map = f"/tmp/perf-{guest.pid}.map"
        assert guest.wait(60) == 0
        told = guest.stderr()
    assert int(re.search(r"cpu 0: (\d+) instructions", told).group(1)) > 1_000_000_000
    assert int(re.search(r"profile: (\d+) samples: guest code", told).group(1)) > 100
    assert re.search(r"^ *\d+\.\d\d %  cpl 0  ffffffff81[0-9a-f]{6}  first_half\+0x", told, re.M), told
    if engine == "bt":
        lines = open(perf_map, encoding="ascii").read().splitlines()
        os.unlink(perf_map)
        assert len(lines) > 1000
        assert all(re.fullmatch(r"[0-9a-f]+ [0-9a-f]+ (bt_thunks|guest_(kernel|user)_[0-9a-f]+)", x) for x in lines)


def test_symbols_that_are_none_are_refused(tmp_path):
    other = tmp_path / "other"
    other.write_text("hello\n")
    with Guest("--kernel", os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), "--engine", "interp", "--profile",
               "--profile-symbols", other) as guest:
        assert guest.wait(10) != 0
        assert "has no line of the form" in guest.stderr()
