# SPDX-License-Identifier: Apache-2.0
"""Linked clones become independent, off and while they run, whatever is killed, and bases that nobody needs go."""
import json
import os
import random
import signal
import time

import pytest
from herd import herd, pair         # noqa: F401, pylint: disable=unused-import
from test_clone_volumes import chain
from test_node import guest, log_has, node          # noqa: F401, pylint: disable=unused-import
from test_snapshot_memory import restart


@pytest.fixture
def linked(node, pair):             # noqa: F811, pylint: disable=redefined-outer-name
    """The machines a and b (of which a is the original) share what was on their disks, and both are off."""
    pair.set("a", "stopped")
    pair.clone("a", "b", linked=True)
    assert pair.world() == 2
    return pair


def root(node, name):               # noqa: F811
    return os.path.join(node.data, "instances", node.ask("GET", f"/v1/instances/{name}")["uid"], "root.qcow2")


def is_linked(path):
    return "/bases/" in json.dumps(chain(path))


def end_of(node, task):             # noqa: F811
    end = time.monotonic() + 90
    while (doc := node.ask("GET", f"/v1/tasks/{task}")).get("status", {}).get("state") not in ("done", "failed", "cancelled"):
        assert time.monotonic() < end, (doc, node.log())
        time.sleep(0.02)
    return doc["status"]


def test_a_machine_that_is_off_stands_alone(node, linked):      # noqa: F811
    node.viv("flatten", "b")
    assert not is_linked(root(node, "b")) and not is_linked(linked.file("b-data"))
    # Its image is below it still; and what it was on is there for the original.
    assert "images" in json.dumps(chain(root(node, "b"))) and is_linked(root(node, "a")) and linked.world() == 2
    linked.wait_linked("b-data", False)
    linked.set("b", "running")
    assert linked.told("b") == ["root", "first", "data"]
    linked.put("b", "vdb", "second")
    linked.set("b", "stopped")
    # Nobody shares anything once the original does not, either; and with '--image' nothing is below a disk.
    node.viv("flatten", "a", "--image")
    assert linked.world() == 0 and "backing" not in chain(root(node, "a"))
    linked.set("a", "running")
    assert linked.told("a") == ["root", "first", "data"]
    # What stands alone already stays as it is.
    node.viv("flatten", "b")
    task = json.loads(node.viv("flatten", "b", "--dry-run"))
    assert task["operation"] == "flattenInstance" and "error" in node.get_any(f"/v1/tasks/{task['name']}")


def test_a_machine_that_runs_goes_on(node, linked):     # noqa: F811
    linked.set("b", "running")
    linked.put("b", "vdb", "mine")
    pid = node.ask("GET", "/v1/instances/b")["status"]["pid"]
    node.viv("console", "b", stdin="count\n")
    log_has(node, "b", "counts")
    node.viv("flatten", "b")
    assert not is_linked(root(node, "b")) and not is_linked(linked.file("b-data"))
    assert node.ask("GET", "/v1/instances/b")["status"]["pid"] == pid
    first = int(linked.told("b")[0])
    time.sleep(0.2)
    assert int(linked.told("b")[0]) > first
    # The original has it alone, and its volume is flattened by itself, while it runs.
    linked.set("a", "running")
    node.viv("volume", "flatten", "data")
    assert not is_linked(linked.file("data")) and is_linked(root(node, "a")) and linked.world() == 1
    assert linked.told("a") == ["root", "first", "data"]
    node.viv("flatten", "a")
    assert linked.world() == 0
    linked.set("b", "stopped")
    linked.set("b", "running")
    assert linked.told("b")[2] == "data" and int(linked.told("b")[0]) > first


@pytest.mark.parametrize("runs", (False, True))
def test_an_image_that_nobody_needs_any_more_goes(node, pair, runs):        # noqa: F811
    """What the machine was started with is its own then, and so is that of its clones."""
    spec = node.ask("GET", "/v1/instances/a")["spec"]
    if not runs:
        pair.set("a", "stopped")
    used = node.ask("GET", "/v1/projects/default/usage")["disk"]["used"]
    assert "viv flatten --image" in node.viv("image", "rm", "base", status=4)
    pid = node.ask("GET", "/v1/instances/a")["status"].get("pid")
    node.viv("flatten", "a")
    assert "viv flatten --image" in node.viv("image", "rm", "base", status=4)
    node.viv("flatten", "a", "--image")
    seen = node.ask("GET", "/v1/instances/a")
    assert seen["alone"] == 1 << 20 and seen["status"].get("pid") == pid and seen["spec"] == {**spec, "state": seen["spec"]["state"]}
    node.viv("image", "rm", "base")
    assert node.ask("GET", "/v1/projects/default/usage")["disk"]["used"] == used
    pair.clone("a", "b")
    pair.set("a", "stopped")
    pair.clone("a", "c", linked=True)
    node.kill()
    node.start()
    for name in "abc":
        pair.set(name, "running")
        assert pair.told(name) == ["root", "first", "data"], name
    node.viv("rename", "b", "d")
    node.ask("PATCH", "/v1/instances/d", {"labels": {"x": "y"}})
    assert pair.world() == 2


def test_one_that_has_never_run_still_begins_as_its_image(node, pair):      # noqa: F811
    node.ask("POST", "/v1/instances", {"name": "n", "spec": {**pair.spec, "state": "stopped"}}, status=201)
    node.viv("flatten", "n", "--image")
    assert "alone" not in node.ask("GET", "/v1/instances/n")
    assert "viv flatten --image" in node.viv("image", "rm", "base", status=4)
    node.ask("PATCH", "/v1/instances/n", {"spec": {"state": "running"}})
    node.wait("/v1/instances/n", "running")


def test_what_is_worked_on_keeps_its_name(node, linked):        # noqa: F811
    """Tasks that wait, because the machine has no end, hold the names of all that they work on."""
    linked.set("b", "running")
    machine = node.ask("GET", "/v1/instances/b")["status"]["pid"]
    os.kill(machine, signal.SIGSTOP)
    try:
        task = node.ask("POST", "/v1/instances/b/flatten", {}, status=202)["name"]
        for path in ("volumes/b-data", "images/base", "instances/b"):
            error = node.ask("POST", f"/v1/{path}/rename", {"name": "other"}, status=409)["error"]["message"]
            assert task in error, (path, error)
        for what in ("move", "clone", "flatten"):
            body = {"move": {"pool": "default", "format": "raw"}, "clone": {"name": "x"}, "flatten": None}[what]
            assert task in node.ask("POST", f"/v1/volumes/b-data/{what}", body, status=409)["error"]["message"], what
        assert task in node.ask("POST", "/v1/instances/b/flatten", {}, status=409)["error"]["message"]
        node.ask("POST", f"/v1/tasks/{task}/cancel", status=202)
    finally:
        os.kill(machine, signal.SIGCONT)
    assert end_of(node, task)["state"] in ("cancelled", "done")
    node.viv("volume", "rename", "b-data", "other")
    assert linked.told("b") == ["root", "first", "data"]


def test_a_volume_of_nobody_is_flattened(node, linked):     # noqa: F811
    node.viv("rm", "b")
    node.viv("volume", "flatten", "b-data")
    assert not is_linked(linked.file("b-data")) and linked.world() == 2
    node.viv("rm", "a")
    node.viv("volume", "rm", "data")
    assert linked.world() == 0
    linked.make("c", disks=[{"volume": "b-data"}])
    assert linked.told("c") == ["image", "first", "b-data"]


def test_snapshots_need_what_is_shared(node, linked):       # noqa: F811
    node.viv("snapshot", "create", "b", "s")
    assert "snapshots" in node.viv("flatten", "b", status=1)
    linked.set("b", "running")
    assert "snapshots" in node.viv("flatten", "b", status=1)
    linked.put("b", "vdb", "second")
    node.viv("snapshot", "revert", "b", "s")
    assert linked.told("b") == ["root", "first", "data"]
    node.viv("snapshot", "rm", "b", "s")
    node.viv("flatten", "b")
    assert linked.told("b") == ["root", "first", "data"] and not is_linked(root(node, "b"))


@pytest.mark.parametrize("runs", (False, True))
def test_kills_leave_it_as_it_was_or_alone(node, pair, runs):       # noqa: F811
    dice = random.Random(5)
    pair.set("a", "stopped")
    for turn in range(8):
        name = f"c{turn}"
        pair.clone("a", name, linked=True)
        if runs:
            pair.set(name, "running")
        task = node.ask("POST", f"/v1/instances/{name}/flatten", {}, status=202)["name"]
        if runs and turn % 2:
            time.sleep(dice.random() * 0.02)
            pid = node.ask("GET", f"/v1/instances/{name}")["status"].get("pid")
            if pid:
                os.kill(pid, signal.SIGKILL)
        if turn % 4 == 3 and node.ask("GET", f"/v1/tasks/{task}").get("status", {}).get("state") in (None, "queued", "running"):
            node.ask("POST", f"/v1/tasks/{task}/cancel", status=202)
        restart(node, dice.random() * 0.03)
        how = end_of(node, task)
        assert how["state"] == "done" or (how["state"] == "cancelled" and turn % 4 == 3), how
        if how["state"] == "done":
            assert not is_linked(root(node, name)) and not is_linked(pair.file(f"{name}-data"))
        pair.world()
        if not runs or turn > 5:
            if not runs:
                pair.set(name, "running")
            assert pair.told(name) == ["root", "first", "data"], how
        node.ask("DELETE", f"/v1/instances/{name}", status=202)
        node.wait_gone(f"/v1/instances/{name}")
        node.viv("volume", "rm", f"{name}-data")
    node.viv("rm", "a")
    node.viv("volume", "rm", "data")
    assert pair.world() == 0
