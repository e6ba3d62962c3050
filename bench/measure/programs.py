# SPDX-License-Identifier: Apache-2.0
"""programs - gzip, Python, gcc, OpenSSL and SQLite in a Debian guest, and natively: the same files of
the same packages, from the folder that the guest's disk was made of."""
import os
import random
import re

from . import speed, tools
from .report import Skip
from .subject import BUILD, ROOT, GuestError, Options, finish, subjects, vivguest

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


def prepare():
    """(folder of the Debian with the programs, disk of our tools)"""
    here = os.path.join(ROOT, "bench", "guest")
    files = {"bin/vivbench": os.path.join(BUILD, "bench", "vivbench"), "bin/programs": os.path.join(here, "programs"),
             "pure.py": os.path.join(here, "pure.py"), "zlib": tools.source("zlib"),
             "mix.sql": "\n".join(mixed_sql()) + "\n"}
    return vivguest.debian("programs", PACKAGES, 2000), tools.disk("programs", files)


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


def console(subject, where, names, cpus=1):
    """Run the programs once, WHERE being what prepare() has made: what they print, and shares of
    processor time as speed.run_guest() returns them."""
    argv = ["programs", *names]
    if subject == "native":
        return speed.run_native(tools.native(*where, argv), TIMEOUT_S), None
    with tools.start(subject, *where, argv, cpus) as g:
        shares = speed.run_guest(subject, g, names, TIMEOUT_S)
        finish(subject, g)
        return g.text(), shares


def bench_programs(report):
    names = [n for n in NAMES if not Options.only or n in Options.only]
    if not names:
        raise Skip("none of the names after --only is one of " + ", ".join(NAMES))
    where = prepare()

    def run(subject):
        return judged(subject, speed.results(*console(subject, where, names)))

    speed.measure(report, "programs", names, (), subjects("bt", "QEMU", "native"), run)


MEASUREMENTS = {"programs": bench_programs}
