# SPDX-License-Identifier: Apache-2.0
"""Machines that are saved encrypted: continued with their key under either engine, and by nobody without it."""
import os
import subprocess
import threading

import pytest
import vivguest
from test_saved_state import continue_machine, ctl, refused, wait_for
from vivguest import Guest

WORD = "told-to-nobody-but-the-guest"


@pytest.fixture
def machine(bookworm, tmp_path):
    """A kernel that waits for its root, in its jail; (guest, socket, key file, another)."""
    sock, keys = str(tmp_path / "s"), [tmp_path / "key", tmp_path / "other"]
    for key, text in zip(keys, (b"correct horse\0\n", b"correct horse")):
        key.write_bytes(text)
        key.chmod(0o600)
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", f"console=ttyS0 rootwait root=/dev/vdz {WORD}", "--memory", "256M",
               "--name", "the-name-of-the-machine", "--console", "stdio", "--engine", "bt", "--control", sock) as guest:
        guest.expect("Waiting for root device", 60)
        yield guest, sock, *map(str, keys)


def save(sock, state, *how):
    ctl(sock, "save", state, *how)
    with open(state, "rb") as f:
        return f.read()


@pytest.mark.parametrize("packing", ["raw", "lz4", "zstd"])
def test_an_encrypted_machine_goes_on_under_the_other_engine_and_in_copies(machine, tmp_path, packing):
    guest, sock, key, _ = machine
    state, again = str(tmp_path / "state"), str(tmp_path / "again")
    whole = save(sock, state, f"packing={packing}", f"key-file={key}", "--stop")
    assert guest.wait(30) == 0
    for told in (WORD, "the-name-of-the-machine", "rootwait", "lapic/0", "correct horse"):
        assert told.encode() not in whole
    with continue_machine(state, sock, "interp", "--restore-key-file", key) as second:
        wait_for(second, sock)
        before = ctl(sock, "stats", "--json")["cpus"][0]["instructions"]
        copies = [line.split()[1] for line in ctl(sock, "fork", "-n", 2).splitlines()]
        for copy in copies:
            assert ctl(copy, "info", "--json")["state"] == "running"
            ctl(copy, "quit")
        save(sock, again, f"--key-file={key}", "--stop", f"packing={packing}")
        assert second.wait(30) == 0
        assert "horse" not in second.stderr()
    with Guest(f"--restore-key-file={key}", "--restore", again, "--engine", "bt", "--control", sock) as third:
        wait_for(third, sock)
        assert ctl(sock, "info", "--json")["name"] == "the-name-of-the-machine"
        ctl(sock, "quit")


def test_nothing_opens_it_but_its_key_and_what_was_changed_is_refused(machine, tmp_path):
    _, sock, key, other = machine
    state, plain, bad = str(tmp_path / "state"), str(tmp_path / "plain"), str(tmp_path / "bad")
    whole = save(sock, state, f"key-file={key}", "packing=lz4")
    assert WORD.encode() in save(sock, plain)
    check = ["--restore-key-file", key, "--check"]
    subprocess.run([vivguest.VMM, "--restore", state, *check], check=True, timeout=60)
    refused("--restore", state, says=f"'{state}' is encrypted; give its passphrase with --restore-key-file")
    refused("--restore", state, "--restore-key-file", other, says=f"the passphrase does not open '{state}'")
    refused("--restore", state, "--restore-key-file", tmp_path / "none", says="cannot open the passphrase's file")
    refused("--restore", plain, *check, says=f"'{plain}' is not encrypted")

    def tampered(text, says):
        with open(bad, "wb") as f:
            f.write(text)
        refused("--restore", bad, *check, says=says)
    tampered(whole[:-1], "its length is not the one that was written")
    tampered(whole[:100], "is not a whole saved machine")
    for at, says in [(8, "header is damaged"), (90, "what it says of its key is damaged"), (5000, "is not what was encrypted"),
                     (len(whole) - 400, "are not what was encrypted"), (len(whole) - 10, "its end is not")]:
        tampered(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:], says)
    tampered(whole[:4096] + whole[8192:12288] + whole[4096:8192] + whole[12288:], "is not what was encrypted")
    again = save(sock, bad, f"key-file={key}", "packing=lz4")
    assert again[64:4200] != whole[64:4200]
    tampered(whole[:4096] + again[4096:4096 + (1 << 20)] + whole[4096 + (1 << 20):], "is not what was encrypted")


def test_a_key_comes_from_a_file_a_pipe_or_a_descriptor(machine, tmp_path):
    guest, sock, key, _ = machine
    state, pipe = str(tmp_path / "state"), str(tmp_path / "pipe")
    os.mkfifo(pipe, 0o600)

    def feed():
        with open(key, "rb") as f, open(pipe, "wb") as p:
            p.write(f.read())
    feeder = threading.Thread(target=feed)
    feeder.start()
    save(sock, state, f"key-file={pipe}")
    feeder.join()
    with open(key, "rb") as f:
        subprocess.run([vivguest.VMM, "--restore", state, "--restore-key-file", f"fd:{f.fileno()}", "--check"], check=True, timeout=60,
                       pass_fds=[f.fileno()])
    os.truncate(key, 0)
    assert "is empty" in ctl(sock, "save", state, f"key-file={key}", status=2)
    assert "cannot open the passphrase's file" in ctl(sock, "save", state, "key-file=/nonexistent/key", status=2)
    assert not [f for f in os.listdir(tmp_path) if f.endswith(".tmp")]
    assert "horse" not in guest.stderr()
    ctl(sock, "quit")
