# SPDX-License-Identifier: Apache-2.0
"""Every device and option of matrix.py, all in one machine, after each operation; and nothing is missing from that table."""
import os
import re
import shutil
import subprocess

import matrix
import pytest
import vivguest
from matrix import ELSEWHERE, OF_THE_PROCESS, OPERATIONS, ROWS
from test_hotplug import FUNCTIONS, Machine, wait
from test_saved_state import ctl

ROOT = vivguest.ROOT

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img (package qemu-utils) is missing")


class Whole(Machine):
    """A machine that has all rows."""

    of_the_host = (matrix.Stream, matrix.FileConsole, matrix.Shell, matrix.Vsock)

    def __init__(self, tmp_path, bookworm):
        self.sockets = str(tmp_path / "p1")
        os.mkdir(self.sockets)
        self.tmp, self.upgraded = tmp_path, None
        options = ["--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", matrix.initrd(str(tmp_path)), "--cmdline",
                   "console=ttyS0 quiet", "--name", "whole"]
        super().__init__(options + [o for row in ROWS for o in row.options(self)], tmp_path, "bt")

    def socket_path(self, name):
        return os.path.join(self.sockets, name)

    def until(self, condition, what):
        wait(condition, what, 120)

    def elsewhere(self, folder):
        """--console and --vsock of another process: with sockets of its own."""
        self.sockets = str(self.tmp / folder)
        os.mkdir(self.sockets)
        return [o for row in ROWS for o in row.options(self) if isinstance(row, self.of_the_host)]

    def end(self):
        if self.upgraded:
            try:
                os.kill(self.upgraded, 9)
            except ProcessLookupError:
                pass
        super().end()

    def check(self):
        for row in ROWS:
            try:
                row.check(self)
            except Exception as why:
                raise AssertionError(f"{row.name}: {why}") from why


class Copy:
    """One of a fork, whose shell is on a socket."""

    def __init__(self, whole, sock, sockets):
        self.whole, self.sock, self.sockets, self.tmp = whole, sock, sockets, whole.tmp
        import socket
        self.shell = socket.socket(socket.AF_UNIX)
        self.shell.settimeout(120)
        self.shell.connect(os.path.join(sockets, "shell"))
        self.lines = self.shell.makefile("r", errors="replace")

    def socket_path(self, name):
        return os.path.join(self.sockets, name)

    def until(self, condition, what):
        wait(condition, what, 120)

    def ctl(self, *args, **kw):
        return ctl(self.sock, *args, **kw)

    def run(self, line):
        self.shell.sendall(f"{line}; echo __status_$?__\n".encode())
        while not (m := re.search(r"__status_(\d+)__", told := self.lines.readline())):
            assert told, "the copy is gone"
        assert m.group(1) == "0", f"'{line}' in the copy: status {m.group(1)}"


def do_save(m):
    m.save_and_continue()


def do_other_engine(m):
    key = m.tmp / "saved.key"
    key.touch(0o600)
    key.write_text("correct horse")
    for engine, packing in (("interp", "lz4"), ("bt", "zstd")):
        m.save_and_continue("--restore-key-file", str(key), engine=engine, how=[f"key-file={key}", f"packing={packing}"])
        if engine == "interp":
            m.check()


def do_fork(m):
    mine = m.sockets
    consoles = m.elsewhere("copy")
    sockets, m.sockets = m.sockets, mine
    consoles[consoles.index("stdio")] = f"socket:{sockets}/shell"
    told = m.ctl("fork", "--", *consoles)
    copy = Copy(m, told.split()[1], sockets)
    try:
        for row in ROWS:
            try:
                row.check(copy)
            except Exception as why:
                raise AssertionError(f"{row.name} in a copy: {why}") from why
    finally:
        ctl(copy.sock, "quit")


def do_migrate(m):
    m.migrate(*m.elsewhere("p2"))


def do_upgrade(m):
    old = m.guest.proc
    pid = int(m.ctl("upgrade").split()[1])
    old.wait(60)
    m.upgraded = pid
    assert m.ctl("info", "--json")["pid"] == pid


def do_hotplug(m):
    for row in ROWS:
        try:
            row.plug(m)
        except Exception as why:
            raise AssertionError(f"{row.name}: {why}") from why


def do_reset(m):
    m.ctl("reset")
    m.guest.expect("SHELL-READY", 300)
    m.run(FUNCTIONS)


DO = dict(zip(OPERATIONS, (do_save, do_other_engine, do_fork, do_migrate, do_upgrade, do_hotplug, do_reset)))


def test_every_device_works_after_every_operation(bookworm, tmp_path):
    m = Whole(tmp_path, bookworm)
    try:
        m.check()
        devices = {d["device"] for d in m.ctl("stats", "--json")["devices"]}
        assert devices == {d for row in ROWS for d in row.devices}, devices
        # The upgrade comes late: the process is nobody's child then. A fork puts images on top of all disks.
        for operation in sorted(OPERATIONS, key=lambda o: ("upgrade", "fork").index(o) if o in ("upgrade", "fork") else -1):
            try:
                DO[operation](m)
                m.check()
            except Exception as why:
                raise AssertionError(f"{operation}: {why}") from why
        m.ctl("quit")
    finally:
        m.end()


class Free(Whole):
    """A machine without a jail, and with little else."""

    def __init__(self, tmp_path, bookworm):
        self.sockets = self.tmp = tmp_path
        self.upgraded = None
        Machine.__init__(self, ["--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", matrix.initrd(str(tmp_path)), "--cmdline",
                                "console=ttyS0 quiet", "--console", "stdio", "--jail", "off"], tmp_path, "bt")


def test_disks_are_plugged_where_there_is_no_jail(bookworm, tmp_path):
    m = Free(tmp_path, bookworm)
    try:
        for row in [r for r in ROWS if isinstance(r, matrix.Disk)]:
            row.plug(m)
    finally:
        m.end()


class Bare(Whole):
    """With a shell, and OPTIONS."""
    of_the_host = (matrix.Shell, matrix.Vsock)

    def __init__(self, tmp_path, bookworm, *options):
        self.sockets, self.tmp, self.upgraded = str(tmp_path / "p1"), tmp_path, None
        os.mkdir(self.sockets)
        options = [o(self) if callable(o) else o for o in options]
        Machine.__init__(self, ["--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", matrix.initrd(str(tmp_path)), "--cmdline",
                                "console=ttyS0 quiet", "--console", "stdio", *options], tmp_path, "bt")


def test_what_there_is_one_of_comes_to_a_machine_that_had_none_goes_through_all_and_goes(bookworm, tmp_path):
    m = Bare(tmp_path, bookworm, "--rng", "off", "--hvc", "off")
    ones = [row for row in ROWS if isinstance(row, matrix.One)]
    try:
        assert not m.ctl("stats", "--json")["devices"]
        for row in ones:
            row.come(m)
            row.check(m)
        assert "already" in m.ctl("plug", "rng", status=1)
        m.save_and_continue()
        for row in ones:
            row.check(m)
        m.migrate(*m.elsewhere("p2"))
        for row in ones:
            row.check(m)
            row.go(m)
        m.save_and_continue()
        assert not m.ctl("stats", "--json")["devices"]
        m.run("true")
    finally:
        m.end()


def test_the_console_device_goes_with_its_ports_and_consoles_come_as_devices_of_their_own(bookworm, tmp_path):
    rows = [row for row in ROWS if row.hotplug == matrix.WITH_ITS_DEVICE]
    m = Bare(tmp_path, bookworm, *[o for row in rows for o in (lambda m, row=row: row.options(m)[0], lambda m, row=row: row.options(m)[1])])
    try:
        for row in rows:
            row.check(m)
        m.ctl("unplug", "hvc")
        m.until(lambda: [c["device"] for c in m.ctl("info", "--json")["consoles"]] == ["uart"], "they go")
        m.run("wait_until '! test -e /sys/class/virtio-ports/vport*'")
        assert not os.path.exists(m.socket_path("org.viv.stream"))
        m.ctl("plug", "console", f"socket:{m.socket_path('org.viv.stream')},name=org.viv.stream")
        m.run("wait_until 'grep -qs org.viv.stream /sys/class/virtio-ports/*/name'")
        m.save_and_continue()
        rows[-1].check(m)
        m.ctl("plug", "hvc")
        m.until(lambda: m.ctl("info", "--json")["hvc"], "it comes")
        m.save_and_continue()
        rows[-1].check(m)
    finally:
        m.end()


def test_no_device_and_no_option_is_missing_from_the_table():
    told = subprocess.run([vivguest.VMM, "--print-man"], capture_output=True, text=True, check=True).stdout
    keys = set(re.findall(r"^([a-z_]+(?:\[\]\.[a-z_]+)?)\t[a-z]", told.split("CONFIGURATION DOCUMENT")[1], re.M))
    keys -= {"key", "disks", "cdroms", "nets", "consoles"}
    known = {k for row in ROWS for k in row.keys} | OF_THE_PROCESS | set(ELSEWHERE)
    if not shutil.which("passt"):
        known |= {"nets[].hostfwd", "nets[].metadata"}
    assert len(keys) > 40 and keys == known, (sorted(keys - known), sorted(known - keys))
    sources = os.path.join(ROOT, "src/virtio")
    made = {n for f in os.listdir(sources) for n in re.findall(r"\.name = \"(virtio-\w+)\",$", open(os.path.join(sources, f)).read(), re.M)}
    assert made == {d for row in ROWS for d in row.devices}, made
    kinds = set(re.search(r"fBkind\\fR=\\fI([a-z|]+)", told).group(1).split("|"))
    assert kinds - {"tap"} == {row.kind for row in ROWS if isinstance(row, matrix.Net)} | ({"user"} if not shutil.which("passt") else set())


def test_the_table_in_the_documents_is_this_one():
    if not shutil.which("passt"):
        pytest.skip("passt is not installed: a row is missing here")
    with open(os.path.join(ROOT, "docs/design/matrix.md"), encoding="utf-8") as f:
        assert matrix.table() in f.read(), f"docs/design/matrix.md is old; the table is\n{matrix.table()}"
    assert not any(re.search(r"not allowed|refused", matrix.cell(row, o)) for row in ROWS for o in OPERATIONS)
