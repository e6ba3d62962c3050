# SPDX-License-Identifier: Apache-2.0
"""Clones with volumes and flattening whose daemon is killed before each single change that it makes to the disk, and that have no room."""
import contextlib
import http.client
import json
import os
import random
import subprocess
import time

import pytest
from test_clone_volumes import chain
from test_node import BUILD
from test_node_disk import unwell       # noqa: F401, pylint: disable=unused-import
from test_node_faults import Small

MIB = 1 << 20
STEPS_MAX = 400


class Pair:
    """The machine a, which is off and has a disk, with the volume data, of which BYTES are random."""
    def __init__(self, node, size):     # noqa: F811
        self.node = node
        self.path = os.path.join(node.folder, "content")
        with open(self.path, "wb") as f:
            f.write(random.Random(3).randbytes(size))
        with open(os.path.join(node.folder, "raw"), "wb") as f:
            f.truncate(2 * MIB)
        node.viv("image", "import", f.name, "base")
        node.viv("volume", "upload", "data", self.path)
        # The disk of one that has never run is not there yet.
        spec = {"image": "base", "engine": "bt", "memory": "16M", "networks": [], "agent": False, "disks": [{"volume": "data"}], "shutdown_seconds": 0}
        node.ask("POST", "/v1/instances", {"name": "a", "spec": spec}, status=201)
        node.wait("/v1/instances/a", "running")
        node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "stopped"}})
        node.wait("/v1/instances/a", "stopped")

    def patient(self, method, path, body=None, key=None):
        """As a client asks that begins again when the daemon has gone."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                return self.node.ask(method, path, body, 202 if method == "POST" else 200, {"Idempotency-Key": key} if key else None)
            except (OSError, http.client.HTTPException):
                self.node.proc.wait(60)
                self.node.start()
        raise AssertionError("there is no answer")

    def do(self, path, body, key):
        """How the task that PATH begins has ended, whatever is killed."""
        task, end = self.patient("POST", path, body, key)["name"], time.monotonic() + 60
        while (how := self.patient("GET", f"/v1/tasks/{task}").get("status", {})).get("state") not in ("done", "failed", "cancelled"):
            assert time.monotonic() < end, (how, self.node.log())
            time.sleep(0.01)
        return how

    def calm(self):
        """No more kills; how many changes of the disk were left."""
        left, self.node.faults.kills_at = self.node.faults.kills_at, 0
        self.patient("GET", "/v1/node")
        return left

    def remove(self, name):
        """The machine NAME and its volume."""
        self.node.ask("DELETE", f"/v1/instances/{name}", status=202)
        self.node.wait_gone(f"/v1/instances/{name}")
        self.node.wait(f"/v1/volumes/{name}-data", "ready")
        self.node.ask("DELETE", f"/v1/volumes/{name}-data", status=202)
        self.node.wait_gone(f"/v1/volumes/{name}-data")

    def file(self, volume):
        return os.path.join(self.node.data, "volumes", self.node.ask("GET", f"/v1/volumes/{volume}")["uid"] + ".qcow2")

    def check(self, *volumes):
        """These show what was sent; and all files are somebody's."""
        for volume in volumes:
            done = subprocess.run([os.path.join(BUILD, "viv"), "disk", "compare", self.path, self.file(volume)], capture_output=True, text=True,
                                  check=False)
            assert done.returncode == 0, (volume, done.stdout, done.stderr)
        uids = {kind: {d["uid"] for d in self.node.ask("GET", f"/v1/{kind}")["items"]} for kind in ("instances", "volumes")}
        assert set(os.listdir(os.path.join(self.node.data, "instances"))) == uids["instances"]
        assert sorted(os.listdir(os.path.join(self.node.data, "volumes"))) == sorted(u + ".qcow2" for u in uids["volumes"])
        return self.check_bases(uids["instances"] | uids["volumes"])

    def check_bases(self, disks):
        folder = os.path.join(self.node.data, "bases")
        bases = os.listdir(folder) if os.path.isdir(folder) else []
        for base in bases:
            users = set(os.listdir(os.path.join(folder, base, "users")))
            assert users and not users - disks - set(bases), (base, users)
        return len(bases)


class Inside(Pair):
    """The same, of a daemon whose data is a file system of its own, which nobody else sees."""
    def at(self, *parts):
        return os.path.join(f"/proc/{self.node.proc.pid}/root", *parts)

    @contextlib.contextmanager
    def full(self):
        ballast = self.at(self.node.data.lstrip("/"), "ballast")

        def room():
            found = os.statvfs(os.path.dirname(ballast))
            return found.f_bavail * found.f_frsize
        with open(ballast, "wb") as f:
            f.write(bytes(room() - 6 * MIB))
        yield room
        os.unlink(ballast)

    def check(self, *volumes):
        data, self.node.data = self.node.data, self.at(self.node.data.lstrip("/"))
        try:
            return super().check(*volumes)
        finally:
            self.node.data = data


def steps(pair, once):
    """ONCE(N) with a kill before the N-th change of the disk, until that comes no more. How many there are."""
    faults, n = pair.node.faults, 0
    while n < STEPS_MAX:
        n += 1
        once(n)
        if faults.kills_at:
            faults.kills_at = 0
            return n - 1
    raise AssertionError(f"after {n} changes of the disk it is not done")


@pytest.mark.parametrize("linked", (False, True))
def test_a_clone_is_whole_after_a_kill_before_each_change_of_the_disk(unwell, linked):     # noqa: F811
    pair = Pair(unwell, 3 * MIB + 4096)

    def once(n):
        unwell.faults.kills_at = n
        how = pair.do("/v1/instances/a/clone", {"name": "b", "linked": linked}, f"clone-{n}")
        left = pair.calm()
        assert how["state"] == "done" and how["result"] == {"instance": "b", "volumes": ["b-data"]}, (n, how)
        pair.check("data", "b-data")
        pair.remove("b")
        unwell.faults.kills_at = left
    assert steps(pair, once) > 20
    assert pair.check("data") == (2 if linked else 0)


def test_flattening_goes_on_after_a_kill_before_each_change_of_the_disk(unwell):       # noqa: F811
    pair = Pair(unwell, 3 * MIB + 4096)

    def once(n):
        assert pair.do("/v1/instances/a/clone", {"name": "b", "linked": True}, f"clone-{n}")["state"] == "done"
        unwell.wait("/v1/volumes/b-data", "ready")
        unwell.faults.kills_at = n
        how = pair.do("/v1/instances/b/flatten", {}, f"flatten-{n}")
        left = pair.calm()
        assert how["state"] == "done", (n, how)
        pair.check("data", "b-data")
        assert "bases" not in json.dumps(chain(pair.file("b-data")))
        pair.remove("b")
        unwell.faults.kills_at = left
    assert steps(pair, once) > 10


@pytest.fixture
def small():
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    n = Small(folder, "48M")
    yield n.start()
    n.end()
    subprocess.run(["rm", "-rf", folder], check=True)


def test_without_room_nothing_is_left_of_a_clone_and_flattening_may_be_repeated(small):
    pair = Inside(small, 12 * MIB)
    with pair.full():
        how = pair.do("/v1/instances/a/clone", {"name": "b"}, "full")
        assert how["state"] == "failed" and "No space left" in how["reason"], how
        assert "error" in small.get_any("/v1/instances/b") and "error" in small.get_any("/v1/volumes/b-data")
        assert pair.check() == 0
    assert pair.do("/v1/instances/a/clone", {"name": "b", "linked": True}, "linked")["state"] == "done"
    # What is copied stays, so the store has no room, either, and tells of the end when there is some.
    with pair.full() as room:
        task = small.ask("POST", "/v1/instances/b/flatten", {}, status=202)["name"]
        end = time.monotonic() + 60
        while room() > 256 << 10:
            assert time.monotonic() < end, small.log()
            time.sleep(0.05)
        time.sleep(0.5)
    assert "No space left" in small.wait(f"/v1/tasks/{task}", "failed")["status"]["reason"]
    assert pair.check() == 2
    assert pair.do("/v1/instances/b/flatten", {}, "flatten")["state"] == "done"
    pair.check()
    pair.remove("b")
    assert pair.do("/v1/instances/a/flatten", {}, "flatten-a")["state"] == "done"
    assert pair.check() == 0
