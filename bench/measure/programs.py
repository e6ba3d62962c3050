# SPDX-License-Identifier: Apache-2.0
"""programs - gzip, Python, gcc, OpenSSL and SQLite in a Debian guest, and natively: the same files of
the same packages, from the folder that the guest's disk was made of."""
import os
import random
import re
import shutil

from . import speed
from .report import Skip
from .subject import BUILD, ROOT, WORK, GuestError, Options, command, finish, guest, subjects, vivguest

NAMES = ("gzip", "python", "gcc", "openssl", "sqlite")
PACKAGES = ("gzip", "python3", "gcc", "libc6-dev", "make", "openssl", "sqlite3")
TIMEOUT_S = 600
# What a rate of OpenSSL's is turned into: the time for so many bytes.
OPENSSL_BYTES, OPENSSL_SECONDS = 64 << 20, 2


def mixed_sql():
    """A mixed transaction load on one table with two indices, 12 rows at a time; always the same."""
    r = random.Random(12)
    yield "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    yield "CREATE TABLE account(id INTEGER PRIMARY KEY, owner TEXT, town TEXT, balance INTEGER);"
    yield "CREATE INDEX by_owner ON account(owner); CREATE INDEX by_town ON account(town, balance);"
    for t in range(1500):
        yield "BEGIN;"
        for _ in range(8):
            yield (f"INSERT INTO account(owner, town, balance) VALUES('owner{r.randrange(5000)}', "
                   f"'town{r.randrange(200)}', {r.randrange(100000)});")
        a, b = r.randrange(1, t * 6 + 2), r.randrange(1, t * 6 + 2)
        yield f"UPDATE account SET balance = balance - 10 WHERE id = {a};"
        yield f"UPDATE account SET balance = balance + 10 WHERE id = {b};"
        yield f"DELETE FROM account WHERE owner = 'owner{r.randrange(5000)}';"
        yield f"SELECT id, balance FROM account WHERE owner = 'owner{r.randrange(5000)}';"
        yield "COMMIT;" if t % 16 else "ROLLBACK;"
        if t % 30 == 0:
            yield "SELECT town, count(*), sum(balance) FROM account GROUP BY town ORDER BY 3 DESC LIMIT 5;"
            yield f"SELECT count(*) FROM account WHERE town LIKE 'town{t % 10}%' AND balance > 50000;"


def tree():
    """The files that the guest has beside Debian's, as a folder."""
    source = os.path.join(BUILD, "bench", "src", "zlib")
    vivguest.script("guest-source", "zlib", source)
    top = os.path.join(WORK, "tree")
    shutil.rmtree(top, ignore_errors=True)
    share, programs, sbin = (os.path.join(top, "usr", "local", d) for d in ("share/bench", "bin", "sbin"))
    for folder in (share, programs, sbin):
        os.makedirs(folder)
    here = os.path.join(ROOT, "bench", "guest")
    shutil.copy(os.path.join(BUILD, "bench", "vivbench"), programs)
    shutil.copy(os.path.join(here, "programs"), os.path.join(programs, "bench-programs"))
    shutil.copy(os.path.join(here, "init"), os.path.join(sbin, "bench-init"))
    shutil.copy(os.path.join(here, "pure.py"), share)
    shutil.copytree(source, os.path.join(share, "zlib"))
    with open(os.path.join(share, "mix.sql"), "w") as f:
        f.write("\n".join(mixed_sql()) + "\n")
    return top


def image():
    """Folder of the guest with the programs: root.img, vmlinuz, initrd.img, root/."""
    return vivguest.debian("programs", PACKAGES, tree(), 2000)


def native(folder, names):
    """Run the programs in the unpacked root, with a tmpfs of their own and this machine's devices."""
    inside = 'mount -t tmpfs tmpfs "$1/tmp" && mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && ' \
        'root=$1 && shift && exec chroot "$root" /usr/local/bin/bench-programs "$@"'
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    env = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return speed.run_native([*unshare, "sh", "-c", inside, "sh", os.path.join(folder, "root"), *names], TIMEOUT_S, env=env)


def start(subject, folder, names, cpus=1):
    """A guest that runs the programs and powers off."""
    kernel, initrd = (os.path.join(folder, f) for f in ("vmlinuz", "initrd.img"))
    cmdline = "console=ttyS0 quiet cryptomgr.notests root=/dev/vda ro init=/usr/local/sbin/bench-init -- bench-programs "
    return guest(command(subject, kernel, initrd, cmdline + " ".join(names),
                         [os.path.join(folder, "root.img,readonly")], cpus, 1024))


def judged(subject, got):
    """{name: (seconds, checksum)}: a program that failed is an error; its result is its checksum."""
    out = {}
    for name, (seconds, status) in got.items():
        if re.search("-(result|rate)$", name):
            continue
        if int(status, 16):
            raise GuestError(f"{subject}: '{name}' ended with status {int(status, 16)}")
        if f"{name}-result" not in got:
            raise GuestError(f"{subject}: '{name}' left no result")
        if f"{name}-rate" in got:
            # Of the seconds that it had, so many went into each so many bytes.
            seconds *= OPENSSL_BYTES / (got[f"{name}-rate"][0] * 1e9 * OPENSSL_SECONDS)
        out[name] = (seconds, got[f"{name}-result"][1])
    return out


def run(subject, folder, names, cpus=1):
    """Run the programs once: {name: (seconds, checksum)}."""
    if subject == "native":
        return judged(subject, speed.results(native(folder, names)))
    with start(subject, folder, names, cpus) as g:
        shares = speed.run_guest(subject, g, names, TIMEOUT_S)
        finish(subject, g)
        return judged(subject, speed.results(g.text(), shares))


def bench_programs(report):
    names = [n for n in NAMES if not Options.only or n in Options.only]
    if not names:
        raise Skip("none of the names after --only is one of " + ", ".join(NAMES))
    folder = image()
    speed.measure(report, "programs", names, (), subjects("bt", "QEMU", "native"), lambda s: run(s, folder, names))


MEASUREMENTS = {"programs": bench_programs}
