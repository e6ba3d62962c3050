# SPDX-License-Identifier: Apache-2.0
"""The same done to many: by names, labels and fields; what became of each; as a task that is killed with the daemon; by whom."""
import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from test_access import site  # noqa: F401, pylint: disable=unused-import
from test_node import BUILD, guest, log_has, node  # noqa: F401, pylint: disable=unused-import

KERNEL = "/boot/none"


def make(node, *names, labels=None, **spec):    # noqa: F811
    """Instances that are off."""
    for name in names:
        node.ask("POST", "/v1/instances", {"name": name, "labels": labels or {}, "spec": {"state": "stopped", "kernel": KERNEL, **spec}}, status=201)


def ended(node, task, project="default"):       # noqa: F811
    end = time.monotonic() + 90
    while (doc := node.ask("GET", f"/v1/tasks/{task}?project={project}")).get("status", {}).get("state", "queued") in ("queued", "running"):
        assert time.monotonic() < end, (doc, node.log())
        time.sleep(0.02)
    return doc["status"]


def bulk(node, action, headers=None, **body):   # noqa: F811
    """What became of each, by name: True, or the error."""
    task = node.ask("POST", "/v1/bulk", {"action": action, **body}, status=202, headers=headers)
    status = ended(node, task["name"])
    assert status["state"] == "done", status
    result = status["result"]
    assert result["done"] + result["failed"] == len(result["items"]) and result["failed"] == sum("error" in i for i in result["items"])
    return {i["name"]: i.get("error", True) for i in result["items"]}


def plan(node, action, status=200, **body):     # noqa: F811
    return node.ask("POST", "/v1/bulk?dry-run", {"action": action, **body}, status=status)


def labels(node):       # noqa: F811
    return {i["name"]: i["labels"] for i in node.ask("GET", "/v1/instances")["items"]}


def test_by_names_by_labels_by_fields_or_all(node):     # noqa: F811
    make(node, "a", "b", labels={"env": "test"})
    make(node, "c", labels={"env": "live", "tier": "web"})
    make(node, "d", cpus=4)
    for body, which in (({"names": ["c", "a"]}, "ca"), ({"labels": "env=test"}, "ab"), ({"labels": "env"}, "abc"), ({"filter": "spec.cpus>1"}, "d"),
                        ({"labels": "env", "filter": "labels.tier=web"}, "c"), ({"all": True}, "abcd"), ({"labels": "env=none"}, "")):
        assert list(bulk(node, "label", set_labels={"seen": which or "x", "env": None} if which == "abcd" else {"seen": which or "x"}, **body)) == list(which)
        assert all(labels(node)[n]["seen"] == which for n in which)
    assert labels(node)["c"] == {"tier": "web", "seen": "abcd"}


def test_what_one_cannot_is_told_of_that_one(node):     # noqa: F811
    make(node, "a", "b", "c")
    make(node, "small", limits={"memory": "400M"})
    done = bulk(node, "patch", patch={"spec": {"memory": "256M"}}, names=["a", "none", "small", "b"])
    assert (done["a"], done["b"], done["none"]["code"], done["small"]["code"]) == (True, True, "not_found", "invalid")
    assert done["small"]["field"] == "spec.limits.memory" and "MiB" in done["small"]["message"]
    assert [i["spec"]["memory"] >> 20 for i in node.ask("GET", "/v1/instances")["items"]] == [256, 256, 512, 512]
    node.ask("PATCH", "/v1/projects/default", {"spec": {"quota": {"memory": "2G"}}})
    done = bulk(node, "patch", patch={"spec": {"memory": "700M"}}, names=["a", "b", "c"])
    assert sorted(v is True for v in done.values()) == [False, False, True] and {"code": "quota"}.items() <= next(v for v in done.values() if v is not True).items()


def test_a_plan_is_no_deed(node):       # noqa: F811
    make(node, "a", "b")
    for action, more in (("patch", {"patch": {"spec": {"cpus": 3}, "labels": {"x": "y"}}}), ("start", {}), ("delete", {}), ("restart", {})):
        planned = plan(node, action, all=True, **more)
        assert [i["name"] for i in planned["items"]] == ["a", "b"] and planned["failed"] == 0, planned
        if action == "patch":
            assert planned["items"][0]["changes"] == [{"field": "spec.cpus", "from": 1, "to": 3}, {"field": "labels.x", "to": "y"}]
        if action == "start":
            assert planned["items"][0]["changes"] == [{"field": "spec.state", "from": "stopped", "to": "running"}]
    assert plan(node, "patch", patch={"spec": {"cpus": 99}}, all=True)["failed"] == 2
    assert [i["spec"]["cpus"] for i in node.ask("GET", "/v1/instances")["items"]] == [1, 1] and not node.ask("GET", "/v1/tasks")["items"]


def test_what_makes_no_sense_is_refused(node):  # noqa: F811
    make(node, "a")
    for body, field in (({"action": "start"}, "names"), ({"action": "start", "all": True, "names": ["a"]}, "names"), ({"action": "start", "names": ["a", "a"]}, "names[1]"),
                        ({"action": "start", "names": ["A"]}, "names[0]"), ({"action": "start", "names": []}, "names"), ({"action": "none", "all": True}, "action"),
                        ({"action": "patch", "all": True}, "patch"), ({"action": "label", "all": True, "set_labels": 1}, "set_labels"),
                        ({"action": "start", "kind": "volume", "all": True}, "action"), ({"action": "start", "kind": "user", "all": True}, "kind"),
                        ({"action": "start", "filter": "a", "names": None}, "names"), ({"action": "start", "filter": "??"}, "filter"),
                        ({"action": "start", "names": [f"a{i}" for i in range(1001)]}, "names")):
        assert node.ask("POST", "/v1/bulk", body, status=400)["error"]["field"] == field, body
    assert not node.ask("GET", "/v1/tasks")["items"]


def test_what_waits_for_the_next_start_of_each_is_told(node, guest):     # noqa: F811
    for name in "ab":
        node.ask("POST", "/v1/instances", {"name": name, "labels": {"env": "test"}, "spec": dict(guest, shutdown_seconds=0)}, status=201)
    make(node, "off", labels={"env": "test"})
    make(node, "other")
    for name in "ab":
        node.wait(f"/v1/instances/{name}", "running")

    def told(*args, status=0):
        done = subprocess.run([os.path.join(BUILD, "viv"), "set", *args, "--socket", node.socket], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done
        return done.stdout, [line for line in done.stderr.splitlines() if "until it is started" in line]
    waits = "'cpus' is 1 until it is started the next time, and 2 then"
    assert told("--selector", "env=test", "cpus=2", "--dry-run")[1] == [] == told("--all", "restart=never")[1]
    assert told("--selector", "env=test", "cpus=2") == ("", [f"'a': {waits}", f"'b': {waits}"])
    assert told("a", "none", "cpus=2", status=7)[1] == [f"'a': {waits}"]
    assert told("a", "b", "labels.x=y", "--json")[1] == []
    assert told("b", "off", "cpus=1")[1] == []
    node.viv("set", "--selector", "x=y,env=test", "labels.only=a")
    node.viv("set", "b", "labels.x=null")
    assert told("--selector", "x=y", "labels.x=z") == ("", [waits])


def test_machines_start_stop_and_go(node, guest):       # noqa: F811
    for name in "ab":
        node.ask("POST", "/v1/instances", {"name": name, "labels": {"env": "test"}, "spec": dict(guest, shutdown_seconds=0)}, status=201)
    make(node, "c")
    for name in "ab":
        log_has(node, name, "guest-is-up")
    before = {n: node.wait(f"/v1/instances/{n}", "running")["status"]["pid"] for n in "ab"}
    result = json.loads(node.viv("restart", "--selector", "env=test", "--json"))
    assert result == {"items": [{"ok": True, "name": "a"}, {"ok": True, "name": "b"}], "done": 2, "failed": 0}
    end = time.monotonic() + 60
    while any(node.ask("GET", f"/v1/instances/{n}")["status"].get("pid") in (None, before[n]) for n in "ab"):
        assert time.monotonic() < end
        time.sleep(0.05)
    node.viv("pause", "a", "b")
    assert {node.ask("GET", f"/v1/instances/{n}")["status"]["state"] for n in "ab"} == {"paused"}
    node.viv("start", "--selector", "env=test")
    assert "is running" in node.viv("rm", "--all", status=4) and len(node.ask("GET", "/v1/instances")["items"]) == 3
    node.viv("stop", "a", "b")
    said = node.viv("stop", "a", "none", "b", status=7)
    assert "'none': there is no instance 'none' in the project 'default'" in said and "1 of 3 could not be done" in said
    result = json.loads(node.viv("rm", "--all", "--json"))
    assert result["done"] == 3 and not node.ask("GET", "/v1/instances")["items"] and node.processes() == []


def with_volume(node, name):    # noqa: F811
    """One that is off and has a disk of which there can be a snapshot."""
    node.ask("POST", "/v1/volumes", {"name": f"v-{name}", "spec": {"size": 1 << 20}}, status=201)
    node.wait(f"/v1/volumes/v-{name}", "ready")
    make(node, name, labels={"env": "test"}, disks=[{"volume": f"v-{name}"}])


def test_commands(node):        # noqa: F811
    for name in ("a", "b"):
        with_volume(node, name)
    shown = node.viv("set", "--all", "--dry-run", "memory=256M", "labels.x=y")
    assert shown.splitlines() == ["a", "    spec.memory: 536870912 -> 268435456", '    labels.x: nothing -> "y"', "b", "    spec.memory: 536870912 -> 268435456",
                                  '    labels.x: nothing -> "y"']
    node.viv("set", "a", "b", "labels.x=y")
    assert labels(node) == {"a": {"env": "test", "x": "y"}, "b": {"env": "test", "x": "y"}}
    assert "b" in node.viv("snapshot", "create", "--selector", "env=test", "--dry-run", "before")
    node.viv("snapshot", "create", "--selector", "env=test", "before")
    assert [node.ask("GET", f"/v1/instances/{n}/snapshots/before")["status"]["state"] for n in ("a", "b")] == ["ready", "ready"]
    # What is there already is told of each, in the document and by the status.
    assert "2 of 2 could not be done" in node.viv("snapshot", "create", "a", "b", "before", status=6)
    node.viv("snapshot", "create", "a", "again")
    for words in (("start",), ("start", "a", "--all"), ("set", "a"), ("stop", "--all", "--selector", "x")):
        node.viv(*words, status=1)
    assert "b" in node.viv("rm", "--selector", "env", "--dry-run")
    node.viv("set", "a", "labels.env=null")
    node.viv("rm", "--selector", "env=test")
    assert list(labels(node)) == ["a"]


def test_other_kinds(node):     # noqa: F811
    for name in ("v1", "v2"):
        node.ask("POST", "/v1/volumes", {"name": name, "labels": {"old": "1"}, "spec": {"size": 1 << 20}}, status=201)
        node.ask("POST", "/v1/profiles", {"name": name, "spec": {"memory": "64M"}}, status=201)
    assert bulk(node, "label", kind="volume", labels="old", set_labels={"new": "1"}) == {"v1": True, "v2": True}
    assert bulk(node, "patch", kind="profile", all=True, patch={"spec": {"cpus": 2}}) == {"v1": True, "v2": True}
    assert bulk(node, "delete", kind="profile", all=True) == {"v1": True, "v2": True}
    assert bulk(node, "delete", kind="volume", names=["v1"]) == {"v1": True}
    node.wait_gone("/v1/volumes/v1")
    node.wait_gone("/v1/profiles/v2")


def test_sent_twice_it_is_done_once(node):      # noqa: F811
    make(node, "a")
    body = {"action": "label", "set_labels": {"n": "1"}, "all": True}
    first = node.ask("POST", "/v1/bulk", body, status=202, headers={"Idempotency-Key": "k"})
    ended(node, first["name"])
    node.ask("PATCH", "/v1/instances/a", {"labels": {"n": "2"}})
    assert node.ask("POST", "/v1/bulk", body, status=202, headers={"Idempotency-Key": "k"})["name"] == first["name"]
    assert labels(node) == {"a": {"n": "2"}}
    # The same of changes and deletions of one.
    for _ in range(2):
        node.ask("PATCH", "/v1/instances/a", {"labels": {"n": "3"}}, headers={"Idempotency-Key": "p"})
    node.ask("PATCH", "/v1/instances/a", {"labels": {"n": "4"}})
    assert node.ask("PATCH", "/v1/instances/a", {"labels": {"n": "3"}}, headers={"Idempotency-Key": "p"})["labels"] == {"n": "4"}
    node.ask("PATCH", "/v1/instances/a", {"labels": {"n": "5"}}, headers={"Idempotency-Key": "p"}, status=409)
    for _ in range(2):
        node.ask("DELETE", "/v1/instances/a", headers={"Idempotency-Key": "d"}, status=202)
        node.wait_gone("/v1/instances/a")
    node.ask("DELETE", "/v1/instances/a", status=404)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_is_done_once_whoever_is_killed(node, seed):        # noqa: F811
    """A task that is killed with its daemon goes on, and what somebody has said of a thing after it had its turn stays."""
    rng = random.Random(seed)
    names = [f"m{i:03}" for i in range(150)]
    make(node, *names)
    task = node.ask("POST", "/v1/bulk", {"action": "label", "set_labels": {"of": "bulk"}, "all": True}, status=202)["name"]
    said = set()
    for _ in range(3):
        timer = threading.Timer(rng.random() * 0.15, node.kill)
        timer.start()
        try:
            while timer.is_alive():
                name = rng.choice(names)
                if node.ask("GET", f"/v1/instances/{name}")["labels"].get("of") == "bulk":
                    node.ask("PATCH", f"/v1/instances/{name}", {"labels": {"of": "me"}})
                    said.add(name)
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            pass
        timer.join()
        node.start()
    status = ended(node, task)
    assert (status["state"], status["result"]["done"], status["result"]["failed"]) == ("done", 150, 0)
    now = labels(node)
    assert all(now[n]["of"] == "me" for n in said) and all(v["of"] in ("me", "bulk") for v in now.values())


def test_snapshots_and_deletions_go_on_after_a_kill(node):      # noqa: F811
    names = [f"m{i:02}" for i in range(24)]
    for name in names:
        with_volume(node, name)
    for action, more in (("snapshot", {"snapshot": {"name": "s"}}), ("delete", {})):
        task = node.ask("POST", "/v1/bulk", {"action": action, "all": True, **more}, status=202)["name"]
        time.sleep(0.02)
        node.kill()
        node.start()
        status = ended(node, task)
        assert (status["state"], status["result"]["failed"]) == ("done", 0), status
        if action == "snapshot":
            for name in names:
                node.wait(f"/v1/instances/{name}/snapshots/s", "ready")
    for name in names:
        node.wait_gone(f"/v1/instances/{name}")
    assert os.listdir(os.path.join(node.data, "instances")) == []


def test_one_that_is_cancelled_tells_how_far_it_came(node):     # noqa: F811
    make(node, *(f"m{i:03}" for i in range(300)))
    task = node.ask("POST", "/v1/bulk", {"action": "label", "set_labels": {"of": "bulk"}, "all": True}, status=202)["name"]
    node.ask("POST", f"/v1/tasks/{task}/cancel", status=202)
    status = ended(node, task)
    done = sum(v.get("of") == "bulk" for v in labels(node).values())
    assert status["result"]["done"] == done and (status["state"] == "done") == (done == 300)


def test_by_whom(site): # noqa: F811
    for project in ("a", "b"):
        site.ask("POST", "/v1/projects", {"name": project, "spec": {}}, status=201)
    tokens = {role: site.user(f"a-{role}", a=role) for role in ("viewer", "operator", "admin")}
    stranger = site.user("b-admin", b="admin")
    for project in ("a", "b"):
        site.ask("POST", f"/v1/instances?project={project}", {"name": "x", "spec": {"state": "stopped", "kernel": KERNEL}}, status=201)
        site.ask("POST", f"/v1/networks?project={project}", {"name": "lan", "spec": {"kind": "user"}}, status=201)
    body = {"action": "label", "set_labels": {"of": "bulk"}, "all": True}
    for token, status in ((None, 401), (stranger, 403), (tokens["viewer"], 403), (tokens["operator"], 202)):
        assert site.far("POST", "/v1/bulk?project=a", body, token)[0] == status
    end = time.monotonic() + 60
    while site.ask("GET", "/v1/instances/x?project=a")["labels"] != {"of": "bulk"}:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert site.ask("GET", "/v1/instances/x?project=b")["labels"] == {}
    # Networks are their administrators': that is asked of each, and is told of each; so are paths of the node.
    networks, kernel = dict(body, kind="network"), {"action": "patch", "all": True, "patch": {"spec": {"kernel": "/etc/passwd"}}}
    for sent, who, code in ((networks, "operator", "forbidden"), (networks, "admin", None), (kernel, "operator", "forbidden")):
        planned = site.far("POST", "/v1/bulk?project=a&dry-run", sent, tokens[who])[1]["items"][0]
        task = site.far("POST", "/v1/bulk?project=a", sent, tokens[who])[1]["name"]
        status = ended(site, task, "a")
        assert [i.get("error", {}).get("code") for i in (planned, status["result"]["items"][0])] == [code, code]
    # Each is in the audit log, as done by who has asked.
    records = site.ask("GET", "/v1/audit?limit=1000&of-project=a")["items"]
    assert any(r["operation"] == "changeInstance" and r["user"] == "a-operator" and r["via"] == "task" and r["target"] == "x" and r["status"] == 200 for r in records)


def test_a_right_that_is_gone_is_gone(site):    # noqa: F811
    """Who may nothing any more goes on doing nothing by a task."""
    token = site.user("alice", default="operator")
    make(site, *(f"m{i:03}" for i in range(200)))
    task = site.far("POST", "/v1/bulk", {"action": "label", "set_labels": {"of": "bulk"}, "all": True}, token)[1]["name"]
    site.kill(signal.SIGKILL)
    site.start()
    site.ask("DELETE", "/v1/roles/alice", status=204)
    status = ended(site, task)
    codes = {i.get("error", {}).get("code") for i in status["result"]["items"]}
    assert codes <= {None, "forbidden"}
