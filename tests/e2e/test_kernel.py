# SPDX-License-Identifier: Apache-2.0
"""Debian's unmodified cloud kernels to a busybox init and to power off."""
import fcntl
import hashlib
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest
import vivguest
from vivguest import Guest


def boot(suite, *extra, run=None, name="initrd", cmdline="console=ttyS0 quiet", engine="interp"):
    folder = vivguest.kernel(suite)
    return Guest("--kernel", os.path.join(folder, "vmlinuz"), "--initrd", vivguest.initrd(suite, run, name),
                 "--cmdline", cmdline, "--memory", "256M", "--engine", engine, "--console", "stdio", *extra)


@pytest.mark.parametrize("engine", ["interp", "bt"])
@pytest.mark.parametrize("suite", ["bookworm", "bookworm-backports"])
def test_cloud_kernel_boots_to_init_and_powers_off(suite, engine):
    with boot(suite, "--cpus", "2", run="nproc", name="nproc", engine=engine) as guest:
        guest.expect(r"VIV-BOOT-OK", 120)
        guest.expect(r"^2\r?$|\n2\r", 30)
        assert guest.wait(60) == 0


@pytest.mark.parametrize("engine", ["interp", "bt"])
def test_32_bit_kernel_boots_to_init_and_powers_off(engine):
    with boot("bookworm-686", run="uname -m", name="uname", cmdline="console=ttyS0 quiet cryptomgr.notests",
              engine=engine) as guest:
        guest.expect(r"VIV-BOOT-OK", 240)
        guest.expect(r"i686", 30)
        assert guest.wait(60) == 0


def test_reboot_starts_the_kernel_again_and_no_reboot_ends():
    with boot("bookworm", run="reboot -f", name="reboot") as guest:
        guest.expect(r"VIV-BOOT-OK", 120)
        guest.expect(r"VIV-BOOT-OK", 120)


def test_kernel_log_is_free_of_complaints():
    """No oops, lockup, hung IRQ or 'firmware bug': the machine is one that Linux knows."""
    with boot("bookworm", "--cpus", "2", run="dmesg", name="dmesg", cmdline="console=ttyS0") as guest:
        guest.expect(r"VIV-BOOT-OK", 120)
        assert guest.wait(120) == 0
        text = guest.text()
    for bad in ("Oops", "BUG:", "WARNING:", "Firmware Bug", "lockup", "nobody cared", "Call Trace",
                "unchecked MSR", "ACPI Error", "ACPI BIOS Error"):
        assert bad not in text, f"'{bad}' in the kernel log"


def test_virtio_devices_are_found_and_work(tmp_path):
    disk = tmp_path / "d.img"
    disk.write_bytes(b"\0" * (8 << 20))
    run = """
set -e
echo hello >/tmp/a; dd if=/tmp/a of=/dev/vda conv=fsync 2>/dev/null
[ "$(head -c 5 /dev/vda)" = hello ]
cat /sys/block/vda/size; echo "$(cat /sys/block/vda/serial)"
head -c 64 /dev/hwrng | wc -c
ls /sys/class/net
echo from-hvc >/dev/hvc0
echo DEVICES-OK
"""
    with boot("bookworm", "--disk", f"path={disk},format=raw,serial=abc123", "--net", "none",
              run=run, name="devices") as guest:
        guest.expect(r"16384", 120)
        guest.expect(r"abc123", 10)
        guest.expect(r"\b64\b", 30)
        guest.expect(r"eth0", 10)
        guest.expect(r"DEVICES-OK", 10)
        assert guest.wait(60) == 0
    assert disk.read_bytes()[:6] == b"hello\n"


def test_a_qcow2_disk_over_a_backing_image_works_and_stays_whole(tmp_path):
    base, disk = tmp_path / "base.img", tmp_path / "d.qcow2"
    base.write_bytes(b"from-base\n" + b"\0" * ((8 << 20) - 10))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", disk, "32M"], check=True)
    run = """
set -e
[ "$(head -c 9 /dev/vda)" = from-base ]
dd if=/dev/urandom of=/tmp/r bs=64k count=64 2>/dev/null
dd if=/tmp/r of=/dev/vda bs=4k seek=1000 conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda bs=4k skip=1000 count=1024 2>/dev/null | cmp - /tmp/r
echo QCOW2-OK
"""
    with boot("bookworm", "--disk", f"path={disk}", "--net", "none", run=run, name="qcow2") as guest:
        guest.expect(r"QCOW2-OK", 240)
        assert guest.wait(60) == 0
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", disk], check=True)
    assert base.read_bytes()[:10] == b"from-base\n"


def test_disks_of_other_products_work_and_stay_whole(tmp_path):
    formats = ("vmdk", "vdi", "vpc", "vhdx", "parallels")
    disks = [tmp_path / f"d.{name}" for name in formats]
    for name, disk in zip(formats, disks):
        subprocess.run(["qemu-img", "create", "-q", "-f", name, disk, "32M"], check=True)
    run = """
set -e
dd if=/dev/urandom of=/tmp/r bs=64k count=32 2>/dev/null
for d in vda vdb vdc vdd vde; do
	dd if=/tmp/r of=/dev/$d bs=4k seek=1001 conv=fsync 2>/dev/null
done
echo 3 >/proc/sys/vm/drop_caches
for d in vda vdb vdc vdd vde; do
	dd if=/dev/$d bs=4k skip=1001 count=512 2>/dev/null | cmp - /tmp/r
done
echo FORMATS-OK
"""
    options = [word for disk in disks for word in ("--disk", f"path={disk},format=auto")]
    with boot("bookworm", *options, "--net", "none", run=run, name="formats") as guest:
        guest.expect(r"FORMATS-OK", 240)
        assert guest.wait(60) == 0
    for name, disk in zip(formats, disks):
        # 63: for this format there is no check
        assert subprocess.run(["qemu-img", "check", "-q", "-f", name, disk], check=False).returncode in (0, 63)
        out = subprocess.run(["qemu-io", "-r", "-f", name, "-c", "read -P 0 0 3M", disk], capture_output=True, text=True,
                             check=True).stdout
        assert "verification failed" not in out


def receive(s, end, timeout=30):
    """What comes from socket S up to the bytes END."""
    data = b""
    s.settimeout(timeout)
    while not data.endswith(end):
        more = s.recv(100)
        assert more, f"the guest closed after {data}"
        data += more
    return data


def test_two_uarts_and_several_virtio_ports_carry_bytes(tmp_path):
    """COM2, hvc0 and hvc1 to files, a named port to a socket and back, 1 MiB of it."""
    run = """
set -e
for p in /sys/class/virtio-ports/*; do
	[ "$(cat $p/name 2>/dev/null)" != org.viv.agent ] || agent=/dev/${p##*/}
done
echo to-com2 >/dev/ttyS1
echo to-hvc0 >/dev/hvc0
echo to-hvc1 >/dev/hvc1
grep -E '^[0-3]:' /proc/tty/driver/serial | cut -d' ' -f1,2
exec 3<>$agent
echo PORT-IS-OPEN
# Until somebody is at the other end, reading ends at once.
until read -r line <&3; do sleep 0.1; done
echo "you said $line" >&3
head -c 1048576 <&3 | md5sum | cut -d' ' -f1 >&3
read -r line <&3
echo PORTS-OK
"""
    path = str(tmp_path / "agent")
    block = os.urandom(1 << 20)
    with boot("bookworm", "--console", f"socket:{path},device=virtio,name=org.viv.agent",
              "--console", f"file:{tmp_path}/hvc0,device=virtio", "--console", f"file:{tmp_path}/com2",
              "--console", f"file:{tmp_path}/hvc1,device=virtio", run=run, name="ports") as guest:
        guest.expect(r"0: uart:16550A", 120)
        guest.expect(r"1: uart:16550A", 10)
        guest.expect(r"2: uart:unknown", 10)
        guest.expect(r"PORT-IS-OPEN", 10)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(b"hello\n")
            assert receive(s, b"\n") == b"you said hello\n"
            s.sendall(block)
            assert receive(s, b"\n", 120).strip().decode() == hashlib.md5(block).hexdigest()
            s.sendall(b"end\n")
            guest.expect(r"PORTS-OK", 30)
        assert guest.wait(60) == 0
    assert (tmp_path / "com2").read_bytes() == b"to-com2\r\n"
    assert (tmp_path / "hvc0").read_bytes() == b"to-hvc0\r\n"
    assert (tmp_path / "hvc1").read_bytes() == b"to-hvc1\r\n"


def test_without_a_second_uart_linux_finds_none():
    with boot("bookworm", run="grep -E '^[0-3]:' /proc/tty/driver/serial", name="oneuart") as guest:
        guest.expect(r"0: uart:16550A", 120)
        guest.expect(r"1: uart:unknown", 10)
        assert guest.wait(60) == 0


def wait_for(path, pattern, timeout, vmm):
    """Wait until the file PATH, which process VMM fills, has the regular expression PATTERN."""
    deadline = time.monotonic() + timeout
    is_running = True
    while is_running and time.monotonic() < deadline:
        is_running = vmm.poll() is None
        text = path.read_text(errors="replace") if path.exists() else ""
        if re.search(pattern, text, re.M):
            return
        time.sleep(0.2)
    raise AssertionError(f"'{pattern}' did not come within {timeout} s:\n{text[-3000:]}")


def set_size(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


@pytest.mark.parametrize("others", [[], ["--console", "none,device=virtio,name=agent"]],
                         ids=["configuration space", "multiport message"])
def test_the_terminal_s_size_reaches_the_virtio_console(tmp_path, others):
    """At the start and when it changes; both ways of telling it, columns and rows not swapped."""
    run = """
exec 3<>/dev/hvc0       # Linux forgets the size while nobody has the terminal open
size=
for i in $(seq 100); do size=$(stty size <&3 2>/dev/null); [ -z "$size" ] || break; usleep 50000; done
echo "FIRST $size"
for i in $(seq 200); do size=$(stty size <&3 2>/dev/null); [ "$size" = "43 132" ] || break; usleep 50000; done
echo "THEN $size"
"""
    folder, log = vivguest.kernel("bookworm"), tmp_path / "log"
    master, slave = pty.openpty()
    set_size(slave, 43, 132)
    argv = [vivguest.VMM, "--kernel", os.path.join(folder, "vmlinuz"), "--initrd",
            vivguest.initrd("bookworm", run, "size"), "--cmdline", "console=ttyS0 quiet", "--memory", "256M",
            "--engine", "interp", "--console", f"file:{log}", "--console", "stdio,device=virtio", *others]
    with subprocess.Popen(argv, stdin=slave, stdout=slave, start_new_session=True) as vmm:
        try:
            wait_for(log, r"^FIRST 43 132\r?$", 120, vmm)
            set_size(master, 50, 100)
            vmm.send_signal(signal.SIGWINCH)
            wait_for(log, r"^THEN 50 100\r?$", 30, vmm)
            assert vmm.wait(60) == 0
        finally:
            vmm.kill()
            os.close(master)
            os.close(slave)
