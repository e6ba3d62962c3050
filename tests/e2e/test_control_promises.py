# SPDX-License-Identifier: Apache-2.0
"""What a running machine is promised to bear, each on a guest that tells whether anything went wrong (tests/guest/hostile/ticks.c)."""
import os
import json
import re
import socket
import subprocess
import threading
import time

import pytest
import vivguest
from test_engine_kvm import ELF, LINE
from test_saved_state import ctl
from vivguest import Guest

MACHINE = ["--kernel", ELF, "--cmdline", "test=ticks cpus=1", "--memory", "64M", "--engine", "bt"]
COPIES = 50


class One:
    def __init__(self, folder, name, *options):
        self.console, self.sock = folder / f"{name}.console", str(folder / f"{name}.sock")
        self.guest = Guest(*options, "--console", f"file:{self.console}", "--control", self.sock)

    def lines(self):
        text = self.console.read_text() if self.console.exists() else ""
        assert "BAD" not in text, text
        return len(LINE.findall(text))

    def goes_on(self, timeout=120):
        end, before = time.monotonic() + timeout, self.lines()
        while self.lines() < before + 2:
            assert time.monotonic() < end and self.guest.proc.poll() is None, self.guest.stderr()
            time.sleep(0.05)


@pytest.fixture(name="one")
def one_fixture(tmp_path):
    made = []

    def make(name, *options):
        made.append(One(tmp_path, name, *options))
        return made[-1]
    yield make
    for m in made:
        m.guest.kill()


def test_fifty_copies_run_each_with_its_own_address(one):
    m = one("first", *MACHINE, "--net", "none,name=net0")
    m.goes_on()
    own = ctl(m.sock, "info", "--json")["nets"][0]["mac"]
    copies = [line.split() for line in ctl(m.sock, "fork", "-n", COPIES, "--", "--console", "none", timeout=600).splitlines()]
    try:
        assert len(copies) == COPIES and len({pid for pid, _ in copies}) == COPIES
        infos = [ctl(sock, "info", "--json") for _, sock in copies]
        assert {i["state"] for i in infos} == {"running"}
        assert len({i["nets"][0]["mac"] for i in infos} | {own}) == COPIES + 1
        m.goes_on()
    finally:
        for _, sock in copies:
            ctl(sock, "quit")


def test_a_machine_comes_to_any_address_of_the_host(one):
    m = one("here", *MACHINE)
    m.goes_on()
    there = one("there", *MACHINE, "--incoming", "tcp:0.0.0.0:0", "--log-level", "info")
    end, port = time.monotonic() + 60, None
    while not port:
        assert time.monotonic() < end
        port = re.search(r"TCP port (\d+)", there.guest.stderr())
        time.sleep(0.02)
    ctl(m.sock, "migrate", f"tcp:127.0.0.1:{port.group(1)}")
    assert m.guest.wait(60) == 0
    there.goes_on()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.parametrize("packing", ["raw", "zstd", "lz4"])
def test_a_disk_that_fills_up_during_a_save_costs_the_file_and_nothing_else(one, tmp_path, packing):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        m = one("here", *MACHINE)
        m.goes_on()
        told = ctl(m.sock, "save", small / "state", f"packing={packing}", status=1)
        assert "No space left" in told, told
        assert not os.listdir(small)
        m.goes_on()
        assert ctl(m.sock, "info", "--json")["state"] == "running"
        ctl(m.sock, "save", tmp_path / "state", f"packing={packing}")           # and elsewhere there is room
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_limits_are_set_while_it_runs_and_told(one, tmp_path):
    disk = tmp_path / "d.img"
    disk.write_bytes(bytes(1 << 20))
    m = one("here", *MACHINE, "--balloon", "on", "--disk", f"path={disk},format=raw,name=root")
    m.goes_on()
    ctl(m.sock, "set", "cpu-limit=0.5,disk.root.iops=500,balloon=16M")
    info = ctl(m.sock, "info", "--json")
    assert info["cpu_limit"] == "0.5" and info["disks"][0]["limits"]["iops"] == 500
    assert ctl(m.sock, "stats", "--json")["balloon"]["target"] == 16 << 20
    m.goes_on()


@pytest.mark.parametrize("model", ["x86-64-v1", "x86-64-v2", "x86-64-v2,vendor=amd", "x86-64-v2,vendor=intel"])
def test_a_named_baseline_goes_between_engines_of_different_features(one, model):
    """The interpreter has features that the translator announces to nobody; a named model is the same on both."""
    m = one("here", *MACHINE, "--cpu", model)
    for i, engine in enumerate(("interp", "bt")):
        m.goes_on()
        there = one(f"there{i}", "--incoming", f"unix:{m.sock}.wire", "--engine", engine)
        end = time.monotonic() + 60
        while not os.path.exists(f"{m.sock}.wire"):
            assert time.monotonic() < end
            time.sleep(0.02)
        ctl(m.sock, "migrate", f"unix:{m.sock}.wire")
        assert m.guest.wait(60) == 0
        m = there
    m.goes_on()


def answer(client, replies):
    """Play a machine for one client, which asks once."""
    with client:
        asked = json.loads(client.recv(int.from_bytes(client.recv(4), "little")))
        text = json.dumps({"result": replies[asked["request"]], "id": 1}).encode()
        client.sendall(len(text).to_bytes(4, "little") + text)


def test_what_a_machine_calls_its_socket_is_removed_only_if_it_is_one(tmp_path):
    """A machine that its guest has taken over says what it likes, and 'ctl' may be root's."""
    precious, mine = tmp_path / "precious", tmp_path / "mine"
    precious.write_text("of the host")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as console:
        console.bind(str(mine))
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        consoles = [{"id": "c", "device": "virtio", "target": f"socket:{path}"} for path in (precious, mine, tmp_path / "none")]
        done = subprocess.Popen([vivguest.VMM, "ctl", str(tmp_path / "s"), "unplug", "c"])
        clients = [threading.Thread(target=answer, args=(listener.accept()[0], {"info": {"consoles": consoles}, "unplug": {}})) for _ in range(2)]
        for one_client in clients:
            one_client.start()
        assert done.wait(60) == 0
    assert precious.read_text() == "of the host" and not mine.exists()


def test_every_request_has_help_that_needs_no_machine():
    text = subprocess.run([vivguest.VMM, "ctl", "--help"], capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^  ([a-z]\S+) +\S", text, re.M) + ["upgrade"]
    assert len(listed) > 50 and {"plug", "fork", "agent", "upgrade"} < set(listed)
    for name in listed:
        told = ctl("/nowhere", name, "--help")
        assert told.startswith(f"usage: viv-vmm ctl SOCKET {name}") and "[]" not in told and "()" not in told and "?." not in told, told


def test_a_file_without_a_name_is_not_written():
    assert "has no name" in ctl("/nowhere", "save", "", status=2)
