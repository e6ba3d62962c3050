# SPDX-License-Identifier: Apache-2.0
"""How images of scripts/guest-image boot: by guest-boot in a small initrd, with little to do, and as a whole Debian."""
import os
import re
import subprocess

import pytest
from vivguest import Guest

CMDLINE = "console=ttyS0 loglevel=4 cryptomgr.notests"
# What it took before: 5.7 thousand million. It is counted, as times are those of a busy host.
INSTRUCTIONS = 3_300_000_000


def start(debian, disk, cmdline, *extra):
    return Guest("--kernel", os.path.join(debian, "vmlinuz"), "--initrd", os.path.join(debian, "initrd.img"), "--cmdline", f"{CMDLINE} {cmdline}",
                 "--memory", "512M", "--disk", f"path={disk},format=raw", "--net", "user", "--console", "stdio", "--engine", "bt", *extra)


def debugfs(disk, request, *write):
    done = subprocess.run(["/usr/sbin/debugfs", *write, "-R", request, disk], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.long
def test_it_boots_with_little_work_and_is_a_whole_debian(debian, disk):
    with start(debian, disk, "root=LABEL=root rw") as guest:
        guest.expect("login: ", 600)
        guest.send("root\n")
        guest.expect(r"root@\w+:~# ", 100)
        # Mounted by guest-boot, or by systemd when their modules come.
        for line in ("stty -echo; PS1=; systemctl is-system-running --wait",
                     "comes() { for i in $(seq 100); do grep -q \"$1\" /proc/mounts && return; sleep 1; done; false; }",
                     "test -z \"$(systemctl --failed --plain --no-legend)\"",
                     "grep -q ' /sys/kernel/debug debugfs ' /proc/mounts", "grep -q ' /sys/kernel/tracing tracefs ' /proc/mounts",
                     "grep -q ' /dev/mqueue mqueue ' /proc/mounts", "grep -q ' /dev/hugepages hugetlbfs ' /proc/mounts",
                     "modprobe fuse && comes ' /sys/fs/fuse/connections '", "modprobe configfs && comes ' /sys/kernel/config '",
                     "test -e /dev/disk/by-label/root -a -e /dev/net/tun -a -e /dev/fuse", "grep -q Power /proc/bus/input/devices",
                     # What the host asks of a drive is noticed.
                     "test $(cat /sys/module/block/parameters/events_dfl_poll_msecs) -gt 0",
                     # No image of them has keys for SSH: they are made at the first start, and stay.
                     "mkdir -p /etc/ssh; printf '#!/bin/sh\\nwhile [ \"$1\" != -f ]; do shift; done; cat /proc/sys/kernel/random/uuid >\"$2\"\\n' >/usr/bin/ssh-keygen",
                     "cd /etc/ssh; [ -e /usr/sbin/sshd ] || ln -s /bin/true /usr/sbin/sshd; chmod 755 /usr/bin/ssh-keygen; guest-init early; "
                     "k=$(cat ssh_host_ed25519_key ssh_host_ecdsa_key) && guest-init early && "
                     "test -n \"$k\" -a \"$k\" = \"$(cat ssh_host_ed25519_key ssh_host_ecdsa_key)\"",
                     "apt-get check", "dpkg --audit", "test $(cat /etc/machine-id | wc -c) = 33", "ls /boot/initrd.img-*", "ip -4 route | grep default"):
            guest.command(line, 300)
        guest.send("poweroff\n")
        assert guest.wait(300) == 0


@pytest.mark.long
def test_the_prompt_comes_after_few_instructions(debian, disk):
    uuid = re.search(r"Filesystem UUID:\s*(\S+)", debugfs(disk, "stats -h")).group(1)
    with start(debian, disk, f"root=UUID={uuid} rw", "--profile") as guest:
        guest.expect("login: ", 600)
        guest.proc.terminate()
        guest.wait(60)
        took = int(re.search(r"(\d+) instructions", guest.stderr()).group(1))
        assert took < INSTRUCTIONS, took


@pytest.mark.long
def test_a_file_system_with_errors_is_repaired_before_it_is_written(debian, disk):
    debugfs(disk, "set_super_value state 3", "-w")
    # e2fsck of a mounted file system may ask for a restart, which systemd does.
    with start(debian, disk, "root=/dev/vda rw") as guest:
        guest.expect("guest-boot: '/dev/vda' has errors, and is repaired before it is written", 300)
        guest.login(600)
        guest.command("grep -q '^/dev/[^ ]* / ext4 rw' /proc/mounts", 60)
        guest.send("poweroff\n")
        assert guest.wait(300) == 0
    assert re.search(r"Filesystem state:\s*clean\n", debugfs(disk, "stats -h"))


@pytest.mark.parametrize("root, why", [("root=/dev/vdz", "there is no disk '/dev/vdz'"), ("root=LABEL=none", "there is no disk 'LABEL=none'"),
                                       ("root=PARTUUID=1", "'root=PARTUUID=1' is not understood here"),
                                       ("root=/dev/vda init=/nothing", "cannot start '/nothing': No such file or directory"),
                                       ("root=/dev/vda rootflags=nonsense", "cannot mount '/dev/vda': Invalid argument")])
def test_what_cannot_be_booted_is_told_and_goes_off(debian, disk, root, why):
    with start(debian, disk, root) as guest:
        guest.expect(re.escape("guest-boot: " + why), 300)
        assert guest.wait(60) == 0


def test_a_disk_without_a_file_system_is_told(debian, tmp_path):
    disk = tmp_path / "empty.img"
    disk.write_bytes(bytes(1 << 20))
    with start(debian, disk, "root=/dev/vda rw") as guest:
        guest.expect("guest-boot: '/dev/vda' has no file system ext4 on it", 300)
        assert guest.wait(60) == 0


def test_it_is_for_guests():
    build = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "build")
    done = subprocess.run([os.path.join(build, "guest-boot")], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "nothing to be started by hand" in done.stderr
