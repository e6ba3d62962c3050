# SPDX-License-Identifier: Apache-2.0
"""upgrade - apt-get dist-upgrade of an installed Debian 12 to 13, from a repository on a second disk,
then a boot of what came of it."""
import os

from . import soak
from .patient import PatientGuest
from .subject import BUILD, WORK, GuestError, command, guest, vivguest

REPOSITORY = os.path.join(BUILD, "bench", "repository.img")


def repository(folder):
    """A disk with every package that the upgrade of the image in FOLDER takes, and their index."""
    if not os.path.exists(REPOSITORY):
        vivguest.script("../bench/upgrade-repository", os.path.join(folder, "root"), REPOSITORY)
    return REPOSITORY


def session(g, limit):
    """Upgrade, then judge: what dpkg says of the files, of unfinished packages and of versions."""
    g.login(600)
    g.command("mount /dev/vdb /mnt", 60)
    g.command("rm -rf /etc/apt/sources.list* && mkdir -p /etc/apt/sources.list.d && "
              "echo 'deb [trusted=yes] file:/mnt ./' >/etc/apt/sources.list && apt-get -q update", 300)
    g.command("export DEBIAN_FRONTEND=noninteractive; apt-get -q -y -o Dpkg::Options::=--force-confnew "
              "-o Dpkg::Use-Pty=0 dist-upgrade", limit)
    check(g)


def check(g):
    # Configuration files are the image's own; documentation and the like must be whole.
    g.command("test -z \"$(dpkg --audit)\"", 300)
    g.command("! dpkg --verify | grep -v ' c /'", 900)
    g.command("grep -q '^13' /etc/debian_version", 60)
    g.command("test -z \"$(apt-get -s dist-upgrade | grep ^Inst)\"", 300)
    g.command("dmesg | grep -Ei 'lockup|stall|BUG:|Oops|hung' && exit 1; true", 60)


def start(engine, cpus, kernel, initrd, disk, folder, log):
    return guest(command(engine, kernel, initrd, "console=ttyS0 root=/dev/vda rw",
                         [disk, repository(folder) + ",readonly"], cpus, soak.MEMORY_MIB), log, PatientGuest)


def boot_files(disk, target):
    """The newest kernel and initrd of the disk's /boot, taken out with debugfs."""
    out = os.path.join(target, "vmlinuz"), os.path.join(target, "initrd.img")
    vivguest.script("../bench/newest-kernel", disk, *out)
    return out


def run(engine, item, cpus, seconds, limit):
    folder = soak.debian()
    disk = vivguest.copy_sparse(os.path.join(folder, "root.img"), os.path.join(WORK, "upgrade.img"))
    kernels = tuple(os.path.join(folder, f) for f in ("vmlinuz", "initrd.img"))
    path = soak.log_path(item, f"{engine}-{cpus}")
    try:
        for step in (lambda g: session(g, limit), lambda g: (g.login(600), check(g))):
            with open(path, "a") as log, start(engine, cpus, *kernels, disk, folder, log) as g:
                step(g)
                g.send("systemctl poweroff\n")
                g.wait(300)
                log.write("\n--- standard error\n" + g.stderr())
            kernels = boot_files(disk, WORK)
    except GuestError as why:
        return [str(why)[:300].splitlines()[0], *("console: " + line for line in str(why).splitlines()[-25:])]
    finally:
        os.unlink(disk)
    return []
