# SPDX-License-Identifier: Apache-2.0
"""Clones: of machines that run, with a disk in a pool, and linked ones, which share what nobody writes any more."""
import json
import os
import random
import subprocess

import pytest
from herd import Machines
from test_node import BUILD, guest, log_has, node   # noqa: F401, pylint: disable=unused-import
from test_snapshot_memory import restart
from words import WORDS_INIT


class Words(Machines):
    """Those whose guests can be told words and asked for the last."""
    init, initrd = WORDS_INIT, "node-clone"

    def write(self, name, word):
        self.node.viv("console", name, stdin=word + "\n")
        log_has(self.node, name, f"written {word}")

    def has(self, name, memory, disk):
        self.n += 1
        self.node.wait(f"/v1/instances/{name}", "running")
        self.node.viv("console", name, stdin=f"tell{self.n}\n")
        log_has(self.node, name, f"tell{self.n}: memory {memory} disk {disk}\r")

    def address(self, name):
        """That the machine has; a guest that goes on sees it when its driver starts anew."""
        uid = self.node.ask("GET", f"/v1/instances/{name}")["uid"]
        told = subprocess.run([os.path.join(BUILD, "viv-vmm"), "ctl", os.path.join(self.node.run, "i", uid, "control"), "info", "--json"],
                              capture_output=True, text=True, check=True).stdout
        return json.loads(told)["result"]["nets"][0]["mac"]

    def users(self):
        """Of each base, who is on it."""
        folder = os.path.join(self.node.data, "bases")
        if not os.path.isdir(folder):
            return {}
        names = {self.node.ask("GET", f"/v1/instances/{i['name']}")["uid"]: i["name"] for i in self.node.ask("GET", "/v1/instances")["items"]}
        return {b: sorted(names.get(u, u) for u in os.listdir(os.path.join(folder, b, "users"))) for b in os.listdir(folder)}


@pytest.fixture
def herd(node, guest, tmp_path):        # noqa: F811, pylint: disable=redefined-outer-name
    return Words(node, guest, str(tmp_path / "raw"))


def test_a_copy_of_a_machine_that_runs_goes_on_as_another(node, herd):    # noqa: F811
    herd.make("a")
    herd.write("a", "first")
    node.viv("clone", "--running", "a", "b")
    for name in "ab":
        herd.has(name, "first", "first")
    assert herd.address("a") != herd.address("b")
    herd.write("a", "second")
    assert b"boots" not in node.ask("GET", "/v1/instances/b/log")
    herd.has("b", "first", "first")
    # Its disk alone, as it is now; the daemon is killed meanwhile, and the original goes on.
    herd.clone("a", "c", lambda: restart(node, 0.1))
    herd.has("a", "second", "second")
    herd.set("c", "running")
    herd.has("c", "nothing", "second")
    wrong = node.ask("POST", "/v1/instances/a/clone", {"name": "d", "memory": True}, status=400)["error"]
    assert wrong["field"] == "state"
    assert "stop it first" in node.viv("clone", "--linked", "a", "d", status=4)
    herd.set("c", "stopped")
    assert "does not run" in node.viv("clone", "--running", "c", "d", status=4)
    assert not [f for uid in os.listdir(os.path.join(node.data, "instances")) for f in os.listdir(os.path.join(node.data, "instances", uid))
                if "memory" in f or f.endswith(".tmp")]


def test_linked_clones_share_what_was_there(node, herd):    # noqa: F811
    herd.make("a")
    herd.write("a", "first")
    herd.set("a", "stopped")
    node.viv("clone", "--linked", "a", "b")
    herd.clone("a", "c", linked=True)
    assert list(herd.users().values()) == [["a", "b", "c"]]
    disk = os.path.join(node.data, "instances", node.ask("GET", "/v1/instances/b")["uid"], "root.qcow2")
    assert os.path.getsize(disk) < 1 << 20
    for name in "ab":
        herd.set(name, "running")
        herd.write(name, f"of-{name}")
        herd.set(name, "stopped")
    # The original has been written since: what it is now becomes another base, on the first.
    herd.clone("a", "d", linked=True)
    assert sorted(len(u) for u in herd.users().values()) == [2, 4]
    # A linked clone of one that is on both, and what is inside: the first word of each.
    herd.clone("d", "e", linked=True)
    node.viv("rm", "a", "d", "c")
    for name, word in (("b", "of-b"), ("e", "of-a")):
        herd.set(name, "running")
        herd.has(name, "nothing", word)
        herd.set(name, "stopped")
    node.viv("snapshot", "create", "e", "s")
    task = node.ask("POST", "/v1/instances/e/clone", {"name": "f", "linked": True}, status=202)
    assert "snapshots" in node.wait(f"/v1/tasks/{task['name']}", "failed")["status"]["reason"]
    node.viv("rm", "e")
    assert list(herd.users().values()) == [["b"]]
    # A copy of the file of one that is linked is on the same base, whoever goes.
    herd.clone("b", "g")
    assert list(herd.users().values()) == [["b", "g"]]
    herd.set("b", "running")
    node.viv("clone", "--running", "b", "h")
    node.viv("rm", "-f", "b")
    assert list(herd.users().values()) == [["g", "h"]]
    for name in "gh":
        if name == "g":
            herd.set(name, "running")
        herd.write(name, f"also-{name}")
        herd.set(name, "stopped")
        herd.set(name, "running")
        herd.has(name, "nothing", f"also-{name}")
    node.viv("rm", "-f", "g", "h")
    assert herd.users() == {} and os.listdir(os.path.join(node.data, "instances")) == []


def test_kills_lose_no_linked_clone_and_leave_no_base(node, herd):    # noqa: F811
    dice = random.Random(7)
    herd.make("a")
    herd.write("a", "first")
    herd.set("a", "stopped")
    for turn in range(6):
        herd.clone("a", f"c{turn}", lambda: restart(node, dice.random() * 0.02), linked=True)
    for turn in range(6):
        uid = node.ask("GET", f"/v1/instances/c{turn}")["uid"]
        path = os.path.join(node.data, "instances", uid, "root.qcow2")
        info = json.loads(subprocess.run([os.path.join(BUILD, "viv"), "disk", "info", "--chain", "--json", path], capture_output=True, text=True,
                                         check=True).stdout)
        assert "bases" in json.dumps(info)
    herd.set("c3", "running")
    herd.has("c3", "nothing", "first")
    for name in ("a", *(f"c{turn}" for turn in range(6))):
        node.ask("DELETE", f"/v1/instances/{name}", status=202)
        restart(node, dice.random() * 0.02)
    for name in ("a", *(f"c{turn}" for turn in range(6))):
        node.wait_gone(f"/v1/instances/{name}")
    assert herd.users() == {}


def test_a_clone_is_in_the_pool_of_its_original(node, herd, tmp_path):    # noqa: F811
    pool = tmp_path / "pool"
    pool.mkdir(mode=0o700)
    node.ask("POST", "/v1/pools", {"name": "fast", "spec": {"path": str(pool), "warn_percent": 99, "limit_percent": 100}}, status=201)
    node.wait("/v1/pools/fast", "ready")
    herd.make("a", pool="fast")
    herd.write("a", "first")
    herd.clone("a", "b")
    herd.set("a", "stopped")
    herd.clone("a", "c")
    herd.clone("a", "d", linked=True)
    for name in "bcd":
        uid = node.ask("GET", f"/v1/instances/{name}")["uid"]
        assert os.path.exists(pool / "instances" / uid / "root.qcow2")
        assert not os.path.exists(os.path.join(node.data, "instances", uid, "root.qcow2"))
        herd.set(name, "running")
        herd.has(name, "nothing", "first")
    node.viv("rm", "-f", "a", "b", "c", "d")
    assert os.listdir(pool / "instances") == [] and os.listdir(pool / "bases") == []
    node.ask("DELETE", "/v1/pools/fast", status=202)
    node.wait_gone("/v1/pools/fast")
