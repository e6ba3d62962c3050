# SPDX-License-Identifier: Apache-2.0
"""Clones of instances with volumes: copies of one instant, linked ones, shared ones, in their pools, within quotas, whatever is killed."""
import copy
import json
import os
import random
import subprocess
import time

import pytest
from herd import herd, pair         # noqa: F401, pylint: disable=unused-import
from test_node import BUILD, guest, log_has, node   # noqa: F401, pylint: disable=unused-import
from test_raw_volume import Pair
from test_reflink import sharing    # noqa: F401, pylint: disable=unused-import
from test_snapshot_memory import restart


def chain(path):
    return json.loads(subprocess.run([os.path.join(BUILD, "viv"), "disk", "info", "--chain", "--json", path], capture_output=True, text=True,
                                     check=True).stdout)


def test_each_volume_is_copied_and_each_machine_has_its_own(node, pair):      # noqa: F811, pylint: disable=redefined-outer-name
    pair.set("a", "stopped")
    node.viv("snapshot", "create", "a", "s")
    node.viv("clone", "a", "b")
    assert pair.volumes("b") == ["b-data"]
    assert node.ask("GET", "/v1/volumes/b-data")["spec"] == node.ask("GET", "/v1/volumes/data")["spec"]
    node.viv("clone", "a", "c", "--volume", "data=other")
    assert pair.volumes("c") == ["other"]
    listed = subprocess.run([os.path.join(BUILD, "viv"), "disk", "snapshot", "list", "--json", pair.file("b-data")], capture_output=True,
                            text=True, check=True).stdout
    assert json.loads(listed) == []
    for name in "abc":
        pair.set(name, "running")
        # A guest knows its disk as the original does.
        assert pair.told(name) == ["root", "first", "data"], name
    pair.put("a", "vdb", "second")
    pair.put("b", "vdb", "third")
    assert [pair.told(n)[1] for n in "abc"] == ["second", "third", "first"]
    assert "the instance 'b' has it" in node.viv("volume", "rm", "b-data", status=4)
    assert pair.world() == 0


def test_disks_of_a_machine_that_runs_are_of_one_instant(node, pair):      # noqa: F811, pylint: disable=redefined-outer-name
    node.viv("console", "a", stdin="count\n")
    log_has(node, "a", "counts")
    for turn in range(3):
        pair.clone("a", f"c{turn}")
    pair.clone("a", "live", memory=True, state="running")
    node.viv("rm", "-f", "a")
    for turn in range(3):
        pair.set(f"c{turn}", "running")
        first, second, _ = pair.told(f"c{turn}")
        assert int(first) - int(second) in (0, 1), (first, second)
        node.viv("rm", "-f", f"c{turn}")
    first, second, serial = pair.told("live")
    time.sleep(0.2)
    assert int(pair.told("live")[1]) > int(second) >= int(first) - 1 and serial == "data"
    assert b"boots" not in node.ask("GET", "/v1/instances/live/log")
    assert pair.world() == 0


def test_linked_clones_share_what_was_on_volumes(node, pair):      # noqa: F811, pylint: disable=redefined-outer-name
    pair.set("a", "stopped")
    node.viv("clone", "--linked", "a", "b")
    pair.clone("a", "c", linked=True)
    assert pair.world() == 2
    for volume in ("data", "b-data", "c-data"):
        assert "bases" in json.dumps(chain(pair.file(volume))) and os.path.getsize(pair.file(volume)) < 1 << 20
        pair.wait_linked(volume, True)
    for name in "ab":
        pair.set(name, "running")
        assert pair.told(name) == ["root", "first", "data"]
        pair.put(name, "vdb", f"of-{name}")
        pair.set(name, "stopped")
    # A full copy of a linked clone is on the same bases, which stay for it.
    pair.clone("b", "d")
    node.viv("rm", "a", "b", "c")
    node.viv("volume", "rm", "data", "b-data", "c-data")
    assert pair.world() == 2
    pair.set("d", "running")
    assert pair.told("d") == ["root", "of-b", "data"]
    said = node.ask("GET", "/v1/volumes/d-b-data/content", status=409)["error"]["message"]
    assert "in use" in said
    pair.set("d", "stopped")
    assert "linked clone" in node.ask("GET", "/v1/volumes/d-b-data/content", status=409)["error"]["message"]
    # What is taken away from an instance may be cloned on, and has its base, too.
    node.viv("rm", "d")
    assert pair.world() == 1
    node.viv("volume", "rm", "d-b-data")
    assert pair.world() == 0


def test_a_volume_is_shared_when_nobody_writes_to_it(node, pair):      # noqa: F811, pylint: disable=redefined-outer-name
    assert "writes to 'data'" in node.viv("clone", "a", "b", "--share", "data", status=1)
    pair.set("a", "stopped")
    node.ask("PATCH", "/v1/instances/a", {"spec": {"disks": [{"volume": "data", "readonly": True}]}})
    pair.set("a", "running")
    node.viv("clone", "a", "b", "--share", "data", "--start")
    node.wait("/v1/instances/b", "running")
    log_has(node, "b", "boots")
    assert pair.volumes("b") == ["data"]
    for name in "ab":
        assert pair.told(name) == ["root", "first", "data"]
        pair.put(name, "vdb", "no", "refused")
    # One that is only read is cloned unless it shall be shared.
    pair.clone("a", "c")
    assert pair.volumes("c") == ["c-data"]
    assert pair.world() == 0


def test_what_cannot_be_is_said_at_once(node, pair):      # noqa: F811, pylint: disable=redefined-outer-name
    def refused(status, field=None, **body):
        error = node.ask("POST", "/v1/instances/a/clone", {"name": "b", **body}, status=status)["error"]
        assert error.get("field") == field, error
        return error["message"]
    pair.set("a", "stopped")
    assert "no volume 'x'" in refused(400, "volumes[0].volume", volumes=[{"volume": "x"}])
    assert "twice" in refused(400, "volumes[1].volume", volumes=[{"volume": "data", "name": "p"}, {"volume": "data", "name": "q"}])
    assert "keeps its name" in refused(400, "volumes[0].shared", volumes=[{"volume": "data", "name": "p", "shared": True}])
    assert "already" in refused(409, "volumes", volumes=[{"volume": "data", "name": "data"}])
    assert "too long" in node.ask("POST", "/v1/instances/a/clone", {"name": "b" * 60}, status=400)["error"]["message"]
    assert "VOLUME=NAME" in node.viv("clone", "a", "b", "--volume", "data", status=1)
    # The clone's disks count: of 1 and 8 MiB there are 9, and there is room for 9 more, less one byte.
    node.viv("quota", "set", "default", f"disk={(18 << 20) - 1}")
    assert "quota 'disk'" in refused(422)
    node.viv("quota", "set", "default", f"disk={18 << 20}")
    pair.clone("a", "b")
    node.viv("quota", "set", "default", "disk=none")
    # Another has taken the name before it came to that.
    node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "running"}})
    node.wait("/v1/instances/a", "running")
    body = {"name": "c", "spec": {"size": 1 << 20}}
    task = node.ask("POST", "/v1/instances/a/clone", {"name": "d", "volumes": [{"volume": "data", "name": "c"}]}, status=202)
    node.ask("POST", "/v1/volumes", body, status=201)
    end = time.monotonic() + 60
    while (state := node.ask("GET", f"/v1/tasks/{task['name']}").get("status", {}).get("state")) not in ("done", "failed"):
        assert time.monotonic() < end
    assert state == "failed" and node.ask("GET", "/v1/volumes/c")["spec"]["size"] == 1 << 20
    assert "c" not in pair.volumes("a") and "error" in node.get_any("/v1/instances/d")
    node.wait("/v1/volumes/c", "ready")
    assert pair.world() == 0


@pytest.mark.parametrize("linked", (False, True))
def test_kills_leave_all_of_a_clone_or_nothing(node, pair, linked):      # noqa: F811, pylint: disable=redefined-outer-name
    dice = random.Random(11)
    pair.set("a", "stopped")
    for turn in range(6):
        pair.clone("a", f"c{turn}", lambda: restart(node, dice.random() * 0.04), linked=linked)
        node.wait(f"/v1/volumes/c{turn}-data", "ready")
        pair.world()
    pair.set("c4", "running")
    assert pair.told("c4") == ["root", "first", "data"]
    # Cancelled at some moment, and the daemon killed at another: there is a clone, or there is nothing of it.
    for turn in range(6):
        task = node.ask("POST", "/v1/instances/a/clone", {"name": f"d{turn}", "linked": linked}, status=202)["name"]
        time.sleep(dice.random() * 0.02)
        if node.ask("GET", f"/v1/tasks/{task}").get("status", {}).get("state") in (None, "queued", "running"):
            subprocess.run([os.path.join(BUILD, "viv"), "task", "cancel", task, "--socket", node.socket], capture_output=True, check=False)
        restart(node, dice.random() * 0.02)
        end = time.monotonic() + 60
        while (state := node.ask("GET", f"/v1/tasks/{task}").get("status", {}).get("state")) not in ("done", "cancelled"):
            assert time.monotonic() < end, (state, node.log())
        # One that was cancelled when all was there already is there.
        is_there = "error" not in node.get_any(f"/v1/instances/d{turn}")
        assert is_there == ("error" not in node.get_any(f"/v1/volumes/d{turn}-data")) and (is_there or state == "cancelled")
        pair.world()
    for i in node.ask("GET", "/v1/instances")["items"]:
        node.viv("rm", "-f", i["name"])
    for v in node.ask("GET", "/v1/volumes")["items"]:
        node.ask("DELETE", f"/v1/volumes/{v['name']}", status=202)
        node.wait_gone(f"/v1/volumes/{v['name']}")
    assert pair.world() == 0


def test_clones_of_volumes_are_in_the_pools_of_the_originals(node, herd, tmp_path):      # noqa: F811, pylint: disable=redefined-outer-name
    pool = tmp_path / "pool"
    pool.mkdir(mode=0o700)
    node.viv("pool", "create", "fast", "--path", str(pool))
    node.viv("volume", "create", "data", "8M", "--pool", "fast")
    herd.make("a", disks=[{"volume": "data"}])
    herd.put("a", "vdb", "first")
    herd.clone("a", "b")
    herd.set("a", "stopped")
    herd.clone("a", "c", linked=True)
    for name in "bc":
        assert os.path.exists(herd.file(f"{name}-data", str(pool)))
        herd.set(name, "running")
        assert herd.told(name)[1] == "first"
        herd.set(name, "stopped")
    # A linked clone that is moved takes along what it shows of others, and their base goes with the last of them.
    assert len(os.listdir(pool / "bases")) == 1
    node.viv("volume", "move", "c-data", "default")
    assert "backing" not in chain(herd.file("c-data"))
    node.viv("volume", "move", "data", "default")
    assert os.listdir(pool / "bases") == []
    for name in "ac":
        herd.set(name, "running")
        assert herd.told(name)[1] == "first"
    herd.wait_linked("c-data", False)


def test_raw_volumes_are_cloned_and_linked_where_blocks_are_shared(sharing, guest):    # noqa: F811
    """On btrfs, where each disk is in a subvolume of its own, and on XFS: a raw volume and a qcow2 one, and no first disk."""
    n = sharing
    p = Pair(n, guest)
    n.viv("snapshot", "create", "c", "s")
    before = p.last()
    n.viv("clone", "c", "d")
    after = p.last() + 1

    def begins(name, low, high):
        q = copy.copy(p)
        q.name = name
        assert low <= q.begins(lambda: n.ask("PATCH", f"/v1/instances/{name}", {"spec": {"state": "running"}})) <= high, name
        n.ask("PATCH", f"/v1/instances/{name}", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
        n.wait(f"/v1/instances/{name}", "stopped")
        return q.last()
    begins("d", before, after)
    formats = {v["name"]: v["spec"]["format"] for v in n.ask("GET", "/v1/volumes")["items"]}
    assert formats == {"v": "raw", "w": "qcow2", "d-v": "raw", "d-w": "qcow2"}
    n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    n.wait("/v1/instances/c", "stopped")
    assert "snapshots in its disk" in n.viv("clone", "--linked", "c", "e", status=1)
    n.viv("snapshot", "rm", "c", "s")
    n.wait_gone("/v1/instances/c/snapshots/s")
    last = p.last()
    n.viv("clone", "--linked", "c", "e")
    bases = n.inside("ls", f"{p.place}/bases").split()
    assert len(bases) == 1 and n.wait("/v1/volumes/e-w", "ready")["status"]["linked"] and "linked" not in n.wait("/v1/volumes/e-v", "ready")["status"]
    for name in ("e", "c"):
        begins(name, last - 1, last + 1)
    # A clone of a linked one is on the same base; elsewhere it stands alone. Who is flattened shows what it showed.
    n.viv("volume", "clone", "e-w", "same")
    n.viv("volume", "clone", "e-w", "far", "--pool", "default")
    users = n.inside("ls", f"{p.place}/bases/{bases[0]}/users").split()
    uid = {v["name"]: v["uid"] for v in n.ask("GET", "/v1/volumes")["items"]}
    assert sorted(users) == sorted(uid[v] for v in ("w", "e-w", "same"))
    assert "linked" not in n.wait("/v1/volumes/far", "ready")["status"]
    n.viv("flatten", "e")
    n.viv("flatten", "c")
    n.viv("volume", "flatten", "same")
    assert not n.inside("ls", f"{p.place}/bases").split()
    begins("e", last, 1 << 30)
    for name in "cde":
        n.viv("rm", name)
    n.viv("volume", "rm", *uid)
    assert not n.inside("ls", f"{p.place}/volumes").split()
