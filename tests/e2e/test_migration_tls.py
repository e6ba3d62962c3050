# SPDX-License-Identifier: Apache-2.0
"""Machines that go from one viv-vmm to another through TLS: only to whom, and from whom, the certificates say."""
import os
import signal
import subprocess
import time

import pytest
import vivguest
from authority import Authority
from test_migration import destination, ended, is_alive
from test_migration import seed, source  # noqa: F401 - fixtures
from test_saved_state import ctl
from wire import MACHINE, PAGES, Wire, flipped


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Folders: two hosts of one authority, and one of another."""
    top = tmp_path_factory.mktemp("keys")
    ours, theirs = Authority(top / "ours"), Authority(top / "theirs")
    return {"a": ours.issue("a", "DNS:a.example"), "b": ours.issue("b", "DNS:b.example,IP:127.0.0.1"),
            "stranger": theirs.issue("s", "DNS:b.example,IP:127.0.0.1")}


def place(bookworm, tmp_path):
    """What a destination must be told when it does not trust the source."""
    return ["--kernel", os.path.join(bookworm, "vmlinuz"), "--console", "none", "--disk", f"path={tmp_path / 'd.img'}"]


@pytest.mark.parametrize("address,options", [("tcp:127.0.0.1:0", ["streams=3"]), (None, ["tls_name=b.example", "packing=lz4"])])
def test_a_machine_goes_through_tls(source, keys, bookworm, tmp_path, address, options):  # noqa: F811
    guest, sock = source
    other, other_sock, at = destination(tmp_path, "--incoming-tls", keys["b"], *place(bookworm, tmp_path), address=address)
    with other:
        done = ctl(sock, "migrate", at, f"tls={keys['a']}", *options, "--json")
        assert ended(guest) == 0 and done["pages"] > 1000 and is_alive(other, other_sock)


@pytest.mark.parametrize("options,says", [
    (["tls=stranger"], "not accepted"), (["tls=a", "tls_name=c.example"], "not accepted"), (["tls=a"], "names no host"),
    (["tls=/nonexistent", "tls_name=b.example"], "cannot use"), (["tls_name=b.example"], "without 'tls'")])
def test_a_source_sends_nothing_to_whom_it_does_not_know(source, keys, tmp_path, options, says):  # noqa: F811
    guest, sock = source
    other, _, at = destination(tmp_path, "--incoming-tls", keys["b"])
    options = [f"tls={keys.get(o[4:], o[4:])}" if o.startswith("tls=") else o for o in options]
    if options[0].endswith("/s"):
        options.append("tls_name=b.example")
    with other:
        assert says in ctl(sock, "migrate", at, *options, status=2)
        assert is_alive(guest, sock) and other.proc.poll() is None


def test_a_destination_takes_nothing_from_whom_it_does_not_know(source, keys, tmp_path):  # noqa: F811
    guest, sock = source
    odd = tmp_path / "odd"          # knows our authority, but was signed by another
    odd.mkdir()
    for name in ("cert.pem", "key.pem"):
        (odd / name).write_bytes((keys["stranger"] / name).read_bytes())
    (odd / "ca.pem").write_bytes((keys["a"] / "ca.pem").read_bytes())
    other, _, at = destination(tmp_path, "--incoming-tls", keys["b"])
    with other:
        assert "TLS" in ctl(sock, "migrate", at, f"tls={odd}", "tls_name=b.example", status=2)
        end = time.monotonic() + 60         # the sentence may come after the end of the connection
        while "turned away" not in other.stderr():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert is_alive(guest, sock)
        # One that does not even try is turned away, too.
        assert ctl(sock, "migrate", at, status=1)
        assert is_alive(guest, sock) and other.proc.poll() is None


def test_a_source_that_wants_tls_does_without_nobody(source, keys, tmp_path):  # noqa: F811
    guest, sock = source
    other, _, at = destination(tmp_path)
    with other:
        assert "TLS" in ctl(sock, "migrate", at, f"tls={keys['a']}", "tls_name=b.example", status=2)
        assert is_alive(guest, sock)


def test_through_tls_even_this_host_says_nothing_about_files(source, keys, tmp_path):  # noqa: F811
    guest, sock = source
    other, _, at = destination(tmp_path, "--incoming-tls", keys["b"])
    with other:
        assert "give --disk" in ctl(sock, "migrate", at, f"tls={keys['a']}", "tls_name=b.example", status=1)
        assert ended(other) == 1 and is_alive(guest, sock)


def helpers():
    """Processes that speak TLS: number, and what the kernel says of each."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status", encoding="ascii") as f:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        except OSError:
            continue
        if status["Name"] == "viv-tls":
            found[int(pid)] = status
    return found


def test_who_holds_the_key_is_in_the_jail_and_its_death_harms_nobody(source, keys, bookworm, tmp_path):  # noqa: F811
    guest, sock = source
    before = set(helpers())
    other, _, at = destination(tmp_path, "--incoming-tls", keys["b"], *place(bookworm, tmp_path))
    end, new = time.monotonic() + 20, []
    while not new or any(status["Seccomp"] != "2" for _, status in new):
        assert time.monotonic() < end, new
        new = [(pid, status) for pid, status in helpers().items() if pid not in before]
    assert all(status["NoNewPrivs"] == "1" for _, status in new)
    if os.geteuid() == 0:
        assert all(status["Uid"].split()[0] == "65534" for _, status in new)
    with other, subprocess.Popen([vivguest.VMM, "ctl", sock, "migrate", at, f"tls={keys['a']}", "tls_name=b.example", "bandwidth=1M"],
                                 stderr=subprocess.PIPE) as asking:
        while ctl(sock, "migration", "--json")["phase"] != "memory":
            assert asking.poll() is None
        for pid, _ in new:
            os.kill(pid, signal.SIGKILL)
        assert asking.wait(60) == 1
        assert ended(other) == 1 and is_alive(guest, sock)


@pytest.mark.parametrize("kind", [MACHINE, PAGES])
def test_what_was_changed_on_the_way_ends_it(source, keys, tmp_path, kind):  # noqa: F811
    """The records of TLS are not ours: their heads look like any."""
    guest, sock = source
    other, _, at = destination(tmp_path, "--incoming-tls", keys["b"])

    class Flip(Wire):
        n = 0

        def pump(self, source, sink):  # noqa: F811
            try:
                while piece := source.recv(4096):
                    self.n += len(piece)
                    if self.n > (3000 if kind == MACHINE else 1 << 20):
                        piece = flipped(piece)
                    sink.sendall(piece)
            except OSError:
                pass

    wire = Flip(tmp_path, at.removeprefix("unix:"), 0, None)
    with other:
        done = subprocess.run([vivguest.VMM, "ctl", sock, "migrate", f"unix:{wire.path}", f"tls={keys['a']}", "tls_name=b.example"],
                              stderr=subprocess.DEVNULL, timeout=60, check=False)
        assert done.returncode in (1, 2) and is_alive(guest, sock)
