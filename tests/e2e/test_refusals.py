# SPDX-License-Identifier: Apache-2.0
"""Bad input gives one clear sentence and a non-zero exit; never a crash, never half a start."""
import json
import os
import struct
import subprocess
import time

import pytest
import vivguest


def vmm(*args, timeout=20):
    done = subprocess.run([vivguest.VMM, *map(str, args)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=timeout, check=False)
    return done.returncode, done.stderr


def refused(*args, says, timeout=20):
    status, text = vmm(*args, timeout=timeout)
    assert status > 0, f"exit status {status}: {text}"
    lines = [line for line in text.splitlines() if "error" in line]
    assert len(lines) == 1, text
    assert says in lines[0], text


@pytest.fixture
def kernel(bookworm):
    return os.path.join(bookworm, "vmlinuz")


@pytest.mark.parametrize("option,value,says", [
    ("--memory", "0", "memory"), ("--memory", "4K", "memory"), ("--memory", "999999G", "memory"),
    ("--memory", "lots", "memory"), ("--cpus", "0", "cpus"), ("--cpus", "10000", "cpus"),
    ("--cpus", "-1", "cpus"), ("--engine", "warp", "warp"), ("--memroy", "512M", "--memory"),
    ("--disk", "path=/nonexistent.img", "/nonexistent.img"), ("--disk", "pth=/x", "pth"),
    ("--net", "carrier-pigeon", "carrier-pigeon"), ("--net", "user,hostfwd=tcp:99999:22", "99999"),
    ("--initrd", "/nonexistent", "/nonexistent"), ("--console", "teletype", "teletype"),
])
def test_bad_option_is_refused_with_its_name(kernel, option, value, says):
    refused("--kernel", kernel, option, value, "--check", says=says)


def test_kernel_that_is_missing_empty_random_or_truncated(kernel, tmp_path):
    refused("--kernel", "/nonexistent", says="/nonexistent")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    refused("--kernel", empty, says=str(empty))
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(100000))
    refused("--kernel", noise, says=str(noise))
    whole = open(kernel, "rb").read()
    for size in (600, 4096, 20000, len(whole) // 2, len(whole) - 70000):
        cut = tmp_path / "cut"
        cut.write_bytes(whole[:size])
        refused("--kernel", cut, says=str(cut))


def test_kernel_for_another_architecture(tmp_path):
    elf = tmp_path / "arm64.elf"
    elf.write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, 0x40000000,
                                                                     64, 0, 0, 64, 56, 1, 0, 0, 0) + b"\0" * 200)
    refused("--kernel", elf, says="64")
    image = tmp_path / "arm64.Image"
    image.write_bytes(b"\0" * 56 + b"ARM\x64" + b"\0" * 100000)
    refused("--kernel", image, says=str(image))


def test_initrd_that_does_not_fit(kernel, tmp_path):
    big = tmp_path / "initrd"
    with open(big, "wb") as f:
        f.truncate(300 << 20)
    refused("--kernel", kernel, "--initrd", big, "--memory", "256M", says="initrd")


def test_disk_refusals(kernel, tmp_path):
    odd = tmp_path / "odd.img"
    odd.write_bytes(b"x" * 1000)
    refused("--kernel", kernel, "--disk", f"path={odd}", says="512")
    refused("--kernel", kernel, "--disk", f"path={tmp_path}", says=str(tmp_path))
    good = tmp_path / "good.img"
    good.write_bytes(b"\0" * 4096)
    refused("--kernel", kernel, "--disk", f"path={good},format=qcow9", says="qcow9")


def test_second_vm_on_the_same_writable_disk_is_refused(bookworm, tmp_path):
    kernel = os.path.join(bookworm, "vmlinuz")
    disk = tmp_path / "d.img"
    disk.write_bytes(b"\0" * (1 << 20))
    with vivguest.Guest("--kernel", kernel, "--memory", "128M", "--disk", f"path={disk}", "--engine", "interp",
                        "--cmdline", "console=ttyS0", "--console", "stdio") as first:
        first.expect("Linux version", 60)
        refused("--kernel", kernel, "--disk", f"path={disk}", "--engine", "interp", says=str(disk))


def test_unwritable_disk_says_readonly_helps(kernel, tmp_path):
    if os.geteuid() == 0:
        os.chmod(tmp_path, 0o755)
    disk = tmp_path / "d.img"
    disk.write_bytes(b"\0" * 4096)
    os.chmod(disk, 0o444)
    argv = [vivguest.VMM, "--kernel", kernel, "--disk", f"path={disk}", "--check"]
    if os.geteuid() == 0:
        if not vivguest.have("setpriv"):
            pytest.skip("root may write everything and setpriv is not installed")
        for folder in [tmp_path, *tmp_path.parents][:3]:
            os.chmod(folder, 0o755)
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode > 0 and "readonly=on" in done.stderr, done.stderr


def test_config_document_is_checked_and_names_the_path(kernel, tmp_path):
    disk = tmp_path / "d.img"
    disk.write_bytes(b"\0" * 4096)
    good = {"kernel": kernel, "memory": "256M", "cpus": 2, "disks": [{"path": str(disk)}]}
    path = tmp_path / "c.json"
    path.write_text(json.dumps(good))
    status, text = vmm("--config", path, "--check")
    assert status == 0, text
    path.write_text(json.dumps({**good, "disks": [{"path": str(disk)}, {"pathh": "x"}]}))
    refused("--config", path, "--check", says="disks[1].pathh")
    path.write_text("{")
    refused("--config", path, "--check", says=str(path))


def test_guest_that_triple_faults_ends_with_a_sentence(tmp_path):
    """A kernel whose first instruction faults without an IDT: reset, and with --no-reboot the end."""
    code = b"\x0f\x0b"
    elf = tmp_path / "crash.elf"
    header = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x100000, 64, 0, 0,
                                                             64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0x1000, 0x100000, 0x100000, len(code), len(code), 0x1000)
    elf.write_bytes((header + segment).ljust(0x1000, b"\0") + code)
    begin = time.monotonic()
    status, text = vmm("--kernel", elf, "--engine", "interp", "--no-reboot")
    assert status > 0 and "triple fault" in text, text
    assert time.monotonic() - begin < 10
