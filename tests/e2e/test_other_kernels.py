# SPDX-License-Identifier: Apache-2.0
"""Kernels and firmware of other people, as Debian's packages bring them."""
import os

import pytest
import vivguest
from vivguest import Guest

ENGINES = ["bt", "interp"]


def start(engine, *args, memory="256M"):
    return Guest("--engine", engine, "--memory", memory, "--cpus", "2", "--console", "stdio", *args)


@pytest.mark.long
@pytest.mark.parametrize("engine,goal,seconds", [("bt", r"Pass:\s+1\D+Errors: 0", 900),
                                                 ("interp", r"Status: Testing[\s\S]*Errors: 0", 120)])
def test_memtest86_finds_two_processors_and_no_error(engine, goal, seconds):
    """One full pass where that takes minutes; on the interpreter the beginning of one."""
    kernel = os.path.join(vivguest.package("memtest86+"), "boot", "memtest86+x64.bin")
    with start(engine, "--kernel", kernel, "--cmdline", "console=ttyS0,115200 nobench", memory="32M") as guest:
        guest.expect(r"2 Cores 2 Threads", seconds)
        guest.expect(goal, seconds)


@pytest.mark.parametrize("engine", ENGINES)
def test_xen_comes_up_to_looking_for_its_first_domain(engine):
    kernel = os.path.join(vivguest.package("xen-hypervisor-4.17-amd64"), "boot", "xen-4.17-amd64.gz")
    with start(engine, "--kernel", kernel, "--cmdline", "com1=115200,8n1 console=com1 noreboot", memory="512M") as guest:
        guest.expect(r"Xen version 4\.17", 120)
        guest.expect(r"dom0 kernel not specified", 120)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rom", ["bios.bin", "bios-256k.bin"])
def test_seabios_shows_its_menu_and_boots_from_a_disk(engine, rom, tmp_path):
    code = b"\xb4\x0e" + b"".join(b"\xb0" + bytes([c]) + b"\xcd\x10" for c in b"booted-by-viv") + b"\xf4\xeb\xfd"
    disk = tmp_path / "d.img"
    disk.write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    log = tmp_path / "bios.log"
    bios = os.path.join(vivguest.package("seabios"), "usr", "share", "seabios", rom)
    with start(engine, "--firmware", bios, "--firmware-log", log, "--disk", f"path={disk}") as guest:
        guest.expect(r"SeaBIOS \(version", 120)
        guest.expect(r"Press ESC for boot menu", 120)
        guest.expect(r"booted-by-viv", 120)
    text = log.read_text(errors="replace")
    for part in ("Running on QEMU", "Found 2 cpu(s) max supported 2 cpu(s)", "Found QEMU fw_cfg",
                 "found virtio-blk", "Press ESC for boot menu", "Booting from Hard Disk"):
        assert part in text, f"no '{part}' in the log:\n{text}"


def test_ovmf_comes_up_to_its_shell_and_powers_off(tmp_path):
    """Firmware for UEFI: it unpacks itself from the ROM, finds the disk and the second processor."""
    disk = tmp_path / "d.img"
    disk.write_bytes(b"\0" * (1 << 20))
    rom = os.path.join(vivguest.package("ovmf"), "usr", "share", "ovmf", "OVMF.fd")
    with start("bt", "--firmware", rom, "--disk", f"path={disk}") as guest:
        guest.expect(r"UEFI Interactive Shell", 240)
        guest.expect(r"BLK0", 60)
        guest.expect(r"Shell> ", 60)
        guest.send("pci\r")
        guest.expect(r"Vendor 1AF4 Device 1042", 60)
        guest.expect(r"Shell> ", 60)
        guest.send("reset -s\r")
        assert guest.wait(60) == 0
