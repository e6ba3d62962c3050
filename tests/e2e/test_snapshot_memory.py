# SPDX-License-Identifier: Apache-2.0
"""Snapshots with memory: a machine goes back to an instant of memory and disk, whole or not at all."""
import json
import os
import random
import signal
import subprocess
import time

import pytest
import vivguest
from test_node import BUILD, guest, log_has, node   # noqa: F401, pylint: disable=unused-import
from test_node_faults import Small
from words import WORDS_INIT


class Teller:
    """An instance called a, whose guest can be told words, and asked for the last."""
    def __init__(self, node, guest):
        self.node, self.n = node, 0
        node.ask("POST", "/v1/volumes", {"name": "data", "spec": {"size": "8M"}}, status=201)
        node.wait("/v1/volumes/data", "ready")
        spec = dict(guest, initrd=vivguest.initrd("bookworm", WORDS_INIT, "node-memory"), disks=[{"volume": "data"}])
        self.uid = node.ask("POST", "/v1/instances", {"name": "a", "spec": spec}, status=201)["uid"]
        node.wait("/v1/instances/a", "running")
        log_has(node, "a", "boots")

    def write(self, word):
        self.node.viv("console", "a", stdin=word + "\n")
        log_has(self.node, "a", f"written {word}")

    def has(self, word):
        """Memory and disk hold WORD: the guest has not booted."""
        self.n += 1
        self.node.wait("/v1/instances/a", "running")
        self.node.viv("console", "a", stdin=f"tell{self.n}\n")
        log_has(self.node, "a", f"tell{self.n}: memory {word} disk {word}")

    def go_back(self, then=lambda: None):
        task = self.node.ask("POST", "/v1/instances/a/snapshots/s/revert", status=202)
        then()
        self.node.wait(f"/v1/tasks/{task['name']}", "done")

    def stop(self):
        self.node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
        self.node.wait("/v1/instances/a", "stopped")

    def files(self):
        return sorted(f for f in os.listdir(os.path.join(self.node.data, "instances", self.uid)) if ".memory" in f)

    def inside(self):
        """Snapshots in the disk of a machine that is off."""
        folder = os.path.join(self.node.data, "volumes")
        listed = subprocess.run([os.path.join(BUILD, "viv"), "disk", "snapshot", "list", os.path.join(folder, os.listdir(folder)[0]),
                                 "--json"], capture_output=True, text=True, check=True)
        return sorted(s["name"] for s in json.loads(listed.stdout))


@pytest.fixture
def teller(node, guest):                # noqa: F811, pylint: disable=redefined-outer-name
    return Teller(node, guest)


def restart(node, seconds=0.0):         # noqa: F811, pylint: disable=redefined-outer-name
    time.sleep(seconds)
    node.kill()
    node.start()


def test_a_machine_goes_on_from_its_snapshot_whether_it_runs_or_is_off(node, teller):    # noqa: F811
    teller.write("first")
    node.viv("snapshot", "create", "--memory", "a", "s")
    seen = node.ask("GET", "/v1/instances/a/snapshots/s")
    assert seen["status"]["memory_size"] > 1 << 20 and seen["memory_size"] == 128 << 20
    assert "MiB" in node.viv("snapshot", "ls", "a") and teller.files() == [f"{seen['uid']}.memory"]
    teller.has("first")
    teller.write("second")
    teller.go_back()
    teller.has("first")
    teller.write("third")
    teller.stop()
    teller.go_back()
    assert node.ask("GET", "/v1/instances/a")["spec"]["state"] == "running"
    teller.has("first")
    # Also when it has ended by itself, with the daemon killed at once.
    node.viv("console", "a", stdin="off\n")
    node.wait("/v1/instances/a", "stopped")
    teller.go_back(lambda: restart(node))
    teller.has("first")
    assert teller.files() == [f"{seen['uid']}.memory"], "what it went on from is not gone"
    # It is a machine like any other: what it writes now is there after the power was cut.
    teller.write("fourth")
    boots = node.ask("GET", "/v1/instances/a/log").count(b"boots")
    os.kill(node.ask("GET", "/v1/instances/a")["status"]["pid"], signal.SIGKILL)
    end = time.monotonic() + 60
    while node.ask("GET", "/v1/instances/a/log").count(b"boots") == boots:
        assert time.monotonic() < end
        time.sleep(0.05)
    node.viv("console", "a", stdin="tell-again\n")
    log_has(node, "a", "tell-again: memory nothing disk fourth")
    node.viv("snapshot", "rm", "a", "s")
    assert teller.files() == []


def test_what_cannot_be_gone_back_to_is_refused(node, teller):    # noqa: F811
    node.viv("snapshot", "create", "--memory", "a", "s")
    refused = node.ask("PATCH", "/v1/instances/a/snapshots/s", {"spec": {"memory": False}}, status=400)["error"]
    assert refused["field"] == "spec.memory"
    teller.stop()
    assert "does not run" in node.viv("snapshot", "create", "--memory", "a", "t", status=4)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"disks": []}})
    assert "'disks' are not what they were" in node.viv("snapshot", "revert", "a", "s", status=4)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"disks": [{"volume": "data"}]}})
    # A machine that cannot go on says so; stopping it gives its memory up, and it boots.
    node.ask("PATCH", "/v1/instances/a", {"spec": {"restart": "never"}})
    with open(os.path.join(node.data, "instances", teller.uid, teller.files()[0]), "wb") as f:
        f.write(b"not a saved machine")
    teller.go_back()
    assert "gives its saved memory up" in node.wait("/v1/instances/a", "failed")["status"]["reason"]
    node.viv("stop", "a")
    end = time.monotonic() + 30
    while "resume.memory" in teller.files():
        assert time.monotonic() < end
        time.sleep(0.02)
    node.viv("start", "a")
    # It counts as what it may take.
    node.ask("PATCH", "/v1/projects/default", {"spec": {"quota": {"disk": "200M"}}})
    error = node.ask("POST", "/v1/instances/a/snapshots", {"name": "t", "spec": {"memory": True}}, status=422)["error"]
    assert error["field"] == "spec.memory" and "quota 'disk'" in error["message"]
    node.ask("PATCH", "/v1/projects/default", {"spec": {"quota": None}})


def test_kills_leave_a_whole_snapshot_or_none(node, teller):    # noqa: F811
    """The daemon, the machine or both are killed while it is taken, gone back to and removed."""
    dice = random.Random(20261122)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"restart": "never"}})
    teller.write("word")
    for turn in range(3):
        node.ask("POST", "/v1/instances/a/snapshots", {"name": "s", "spec": {"memory": True}}, status=201)
        time.sleep(dice.random() * 0.4)
        node.kill()
        kills_machine = turn % 3 == 2
        if kills_machine:
            for pid in node.processes():
                os.kill(pid, signal.SIGKILL)
        node.start()
        node.ask("GET", "/v1/instances/a")
        if not kills_machine:
            uid = node.wait("/v1/instances/a/snapshots/s", "ready")["uid"]
            assert teller.files() == [f"{uid}.memory"]
            teller.go_back(lambda: restart(node, dice.random() * 0.3))
            teller.has("word")
        else:
            node.wait("/v1/instances/a", "failed")
            end = time.monotonic() + 60
            while (state := node.ask("GET", "/v1/instances/a/snapshots/s")["status"].get("state")) not in ("ready", "failed"):
                assert time.monotonic() < end, node.log()
                time.sleep(0.02)
            uid = node.ask("GET", "/v1/instances/a/snapshots/s")["uid"]
            assert (teller.files(), teller.inside()) == (([f"{uid}.memory"], [uid]) if state == "ready" else ([], []))
            node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "running"}})
            node.wait("/v1/instances/a/snapshots/s", "ready", timeout=120)
        node.ask("DELETE", "/v1/instances/a/snapshots/s", status=202)
        restart(node)
        node.wait_gone("/v1/instances/a/snapshots/s")
        assert teller.files() == []
    teller.stop()
    assert teller.inside() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system of its own")
def test_memory_without_room_fills_the_disk_once(guest):       # noqa: F811
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    small = Small(folder, "160M")
    small.start()
    try:
        small.ask("POST", "/v1/instances", {"name": "a", "spec": guest}, status=201)
        small.wait("/v1/instances/a", "running")
        log_has(small, "a", "guest-is-up")
        data = f"/proc/{small.proc.pid}/root{small.data}"
        with open(f"{data}/filler", "wb") as f:
            f.write(bytes(140 << 20))
        small.ask("POST", "/v1/instances/a/snapshots", {"name": "s", "spec": {"memory": True}}, status=201)
        told = lambda: small.ask("GET", "/v1/instances/a/snapshots/s").get("status", {})
        end = time.monotonic() + 60
        while "there is room for" not in told().get("reason", ""):
            assert time.monotonic() < end and told().get("state") != "ready", told()
            time.sleep(0.05)
        # From now on each attempt asks for room alone: the disk does not become full again, and the machine is left alone.
        room = lambda: os.statvfs(data).f_bavail * os.statvfs(data).f_frsize
        small.wait("/v1/instances/a", "running")
        had, end = room(), time.monotonic() + 8
        while time.monotonic() < end:
            assert room() > had - (4 << 20) and small.ask("GET", "/v1/instances/a")["status"]["state"] == "running"
            time.sleep(0.01)
        assert told()["state"] == "failed"
        os.unlink(f"{data}/filler")
        end = time.monotonic() + 90
        while told().get("state") != "ready":
            assert time.monotonic() < end, told()
            time.sleep(0.05)
    finally:
        small.end()
        subprocess.run(["rm", "-rf", folder], check=True)
