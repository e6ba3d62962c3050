# SPDX-License-Identifier: Apache-2.0
"""Linux reads from drives whose media come and go, from inside and outside, while the machine is saved, migrated and reset."""
import hashlib
import os
import random
import subprocess

import iso9660
import pytest
import vivguest
from test_hotplug import SHELL, Machine

MODULES = ("virtio_scsi", "sr_mod", "isofs")


def iso(tmp_path, name, size):
    """A disk with one big file; its path, what the file's checksum is."""
    data = random.Random(name).randbytes(size)
    path = iso9660.write(tmp_path / name, name.split(".", maxsplit=1)[0].upper(), {"DATA.BIN": data, "NAME.TXT": name.encode() + b"\n"})
    return path, hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def options(bookworm, tmp_path_factory):
    program = str(tmp_path_factory.mktemp("programs") / "tray")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs/tray.c")
    subprocess.run(["cc", "-O2", "-static", "-o", program, source], check=True)
    initrd = vivguest.initrd("bookworm", SHELL, "cdrom", programs=(program,), modules=MODULES)
    return ["--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", initrd, "--cmdline", "console=ttyS0 quiet", "--memory", "256M", "--console", "stdio"]


def reads(m, medium, drive="sr0", more=""):
    """The guest mounts it, reads all of it, lets go."""
    m.run(f"mount -t iso9660 -o ro /dev/{drive} /mnt && test \"$(sha256sum </mnt/data.bin)\" = '{medium[1]}  -' && {more or 'true'}; "
          "s=$?; umount /mnt; test $s = 0")


def drive(m, number=0):
    return m.ctl("info", "--json")["cdroms"][number]


def test_media_come_and_go(options, tmp_path):
    one, two = iso(tmp_path, "one.iso", 3_000_001), iso(tmp_path, "two.iso", 900_000)
    m = Machine(options, tmp_path, "bt", "--cdrom", one[0], "--cdrom", "none,name=spare")
    try:
        assert [d["name"] for d in m.ctl("info", "--json")["cdroms"]] == ["cdrom0", "spare"]
        m.run("grep -q 'VIRTUAL CD/DVD' /sys/block/sr0/device/model")
        reads(m, one)
        m.run("! dd if=/dev/sr1 of=/dev/null bs=2048 count=1 2>/dev/null")

        # A mounted medium is locked; by force it goes all the same.
        m.run("mount -t iso9660 -o ro /dev/sr0 /mnt && head -c 4096 /mnt/data.bin >/dev/null")
        assert drive(m)["locked"]
        assert "has locked the drive" in m.ctl("eject", "cdrom0", status=1)
        m.run("umount /mnt")
        assert not drive(m)["locked"]
        assert "eject it first" in m.ctl("insert", "cdrom0", two[0], status=1)
        m.ctl("eject", "cdrom0")
        m.event("medium-ejected", "cdrom0")
        assert drive(m)["tray"] == "open" and "path" not in drive(m)
        m.run("! mount -t iso9660 -o ro /dev/sr0 /mnt 2>/dev/null")
        m.ctl("insert", "cdrom0", two[0])
        m.event("medium-inserted", "cdrom0")
        assert drive(m)["path"] == two[0] and drive(m)["tray"] == "closed"
        reads(m, two)

        # The other drive gets one, and what was changed is known after a save.
        m.ctl("insert", "spare", one[0])
        m.save_and_continue()
        assert [d["path"] for d in m.ctl("info", "--json")["cdroms"]] == [two[0], one[0]]
        reads(m, one, "sr1")
        reads(m, two)
        m.migrate("--cdrom", f"{two[0]},name=cdrom0", "--cdrom", f"{one[0]},name=spare")
        reads(m, two)
        m.ctl("eject", "spare", "--force")
        m.event("medium-ejected", "spare")
        m.run("! dd if=/dev/sr1 of=/dev/null bs=2048 count=1 2>/dev/null")
        assert "there is no drive 'disk0'" in m.ctl("eject", "disk0", status=1)
    finally:
        m.end()


def test_the_guest_opens_the_tray(options, tmp_path):
    one, two = iso(tmp_path, "one.iso", 500_000), iso(tmp_path, "two.iso", 400_000)
    m = Machine(options, tmp_path, "bt", "--cdrom", f"{one[0]},name=cd")
    try:
        reads(m, one)
        m.run("tray open /dev/sr0")
        m.event("tray-opened", "cd")
        assert drive(m)["tray"] == "open" and drive(m)["path"] == one[0]
        m.run("test $(tray status /dev/sr0) = 2")       # CDS_TRAY_OPEN
        m.save_and_continue()
        assert drive(m)["tray"] == "open"
        m.run("! mount -t iso9660 -o ro /dev/sr0 /mnt 2>/dev/null")
        m.run("tray close /dev/sr0")
        m.event("tray-closed", "cd")
        reads(m, one)
        # What lies in an open tray is replaced.
        m.run("tray open /dev/sr0")
        m.ctl("insert", "cd", two[0])
        m.event("medium-ejected", "cd")
        reads(m, two)
        m.run("tray open /dev/sr0")
        m.ctl("reset")
        m.event("tray-closed", "cd")
        m.guest.expect("SHELL-READY", 300)
        reads(m, two)
    finally:
        m.end()


def test_media_of_other_formats_and_bad_ones(options, tmp_path):
    one = iso(tmp_path, "one.iso", 300_000)
    packed = str(tmp_path / "one.qcow2")
    subprocess.run([os.path.join(os.path.dirname(vivguest.VMM), "viv"), "disk", "convert", one[0], packed], check=True,
                   stdout=subprocess.DEVNULL)
    m = Machine(options, tmp_path, "bt", "--cdrom", "none")
    try:
        short = tmp_path / "short.iso"
        short.write_bytes(b"x" * 512)
        assert "less than a block of a CD" in m.ctl("insert", "cdrom0", str(short), status=1)
        assert "No such file" in m.ctl("insert", "cdrom0", str(tmp_path / "none.iso"), status=2)
        assert "path" not in drive(m)
        m.ctl("insert", "cdrom0", packed)
        assert drive(m)["format"] == "qcow2"
        reads(m, one)
    finally:
        m.end()
