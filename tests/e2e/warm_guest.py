# SPDX-License-Identifier: Apache-2.0
"""A guest that templates are made of, in seconds: a kernel and busybox with the guest agent, and what stands in for the programs of Debian that
are called in it (src/node/template_guest.c). What real ones make of it: test_template.py."""
import os
import stat

import vivguest

MEMORY = "96M"
PROGRAMS = "/usr/sbin/qemu-ga", "/usr/bin/flock"     # this busybox has no flock of its own
INIT = r"""
mkdir -p /usr/local/sbin /usr/local/var/run /var/run /run /etc /sbin /usr/bin
for p in /usr/local/sbin/guest-init /bin/systemctl; do printf '#!/bin/sh\nexit 0\n' >$p; chmod 755 $p; done
printf '#!/bin/sh\nexec head -c 64 >/dev/null\n' >/bin/perl
chmod 755 /bin/perl
echo 'PRETTY_NAME="warm"' >/etc/os-release
echo warm >/etc/hostname
export PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
ip link set lo up
for p in /sys/class/virtio-ports/*; do
    [ "$(cat $p/name)" = org.qemu.guest_agent.0 ] && port=/dev/${p##*/}
done
echo "guest-is-up"
while :; do /usr/sbin/qemu-ga -m virtio-serial -p $port -t /run; sleep 1; done
"""


def make_tool(folder):
    """What builds the image `debian` for a daemon (--image-tool): an empty disk, and that kernel with that initrd."""
    assert os.path.exists("/usr/sbin/qemu-ga"), "the package qemu-guest-agent is not installed"
    kernel, tool = os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), os.path.join(folder, "image-tool")
    base = vivguest.initrd("bookworm", INIT, "warm", into=folder)
    files = {p: p for p in PROGRAMS}
    for program in PROGRAMS:
        files |= vivguest.libraries(program)
    initrd = vivguest.initrd_with(base, os.path.join(folder, "warm-initrd"), files)
    with open(tool, "w", encoding="utf-8") as f:
        f.write(f'#!/bin/sh\ncd "$1" && truncate -s 2M root.img && cp {kernel} vmlinuz && cp {initrd} initrd.img && touch stamp\n')
    os.chmod(tool, 0o755 | stat.S_IXUSR)
    return tool
