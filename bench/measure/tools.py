# SPDX-License-Identifier: Apache-2.0
"""tools - programs of ours in Debian guests: a disk of them beside Debian's own, mounted on /mnt, and the
same files beside the folder that the guest's root was made of, to run them natively."""
import os
import shutil
import subprocess

from .subject import BUILD, ROOT, WORK, Guest, command, guest, vivguest

# The guest's first process: what runs then is /mnt/init (bench/guest/init) with a command's words.
INIT = 'init=/bin/sh -- -c "mount /dev/vdb /mnt && exec /mnt/init {}"'


def disk(name, files):
    """(folder, image) with FILES, {path: file or folder to copy, or text}, and with init."""
    folder, image = os.path.join(WORK, name), os.path.join(WORK, name + ".img")
    shutil.rmtree(folder, ignore_errors=True)
    for path, source in {"init": os.path.join(ROOT, "bench", "guest", "init"), **files}.items():
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, target, symlinks=True)
        elif os.path.isfile(source):
            shutil.copy(source, target)
        else:
            with open(target, "w") as f:
                f.write(source)
    kib = int(subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True).stdout.split()[0])
    if os.path.exists(image):
        os.unlink(image)
    env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", folder, image, f"{kib * 5 // 4 + 16384}k"], check=True,
                   capture_output=True, env=env)
    return folder, image


def start(subject, debian, tools, argv, cpus=1, memory_mib=1024, echo=None, kind=Guest):
    """A guest of the image DEBIAN with the disk TOOLS that runs one command and powers off."""
    kernel, initrd = (os.path.join(debian, f) for f in ("vmlinuz", "initrd.img"))
    cmdline = "console=ttyS0 cryptomgr.notests root=/dev/vda ro " + INIT.format(" ".join(map(str, argv)))
    disks = [os.path.join(debian, "root.img") + ",readonly", tools[1] + ",readonly"]
    return guest(command(subject, kernel, initrd, cmdline, disks, cpus, memory_mib), echo, kind)


def native(debian, tools, argv):
    """The command line that runs the same here: in the folder that DEBIAN was made of, with a tmpfs of its
    own on /tmp, TOOLS on /mnt and this machine's devices."""
    inside = 'mount -t tmpfs tmpfs "$1/tmp" && mount --bind "$2" "$1/mnt" && mount --rbind /dev "$1/dev" && ' \
        'mount --rbind /proc "$1/proc" && root=$1 && shift 2 && export PATH=/mnt/bin:/usr/sbin:/usr/bin && ' \
        'exec chroot "$root" "$@"'
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    return [*unshare, "sh", "-c", inside, "sh", os.path.join(debian, "root"), tools[0], *map(str, argv)]


def source(package):
    """Folder of the unpacked source of a package of Debian's."""
    folder = os.path.join(BUILD, "bench", "src", package)
    vivguest.script("guest-source", package, folder)
    return folder
