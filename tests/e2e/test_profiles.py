# SPDX-License-Identifier: Apache-2.0
"""Profiles: what instances have of them, where it comes from, what a change of one does, and what it may not do."""
import contextlib
import json
import os
import random
import sqlite3
import threading
import time

import pytest
from test_access import site  # noqa: F401, pylint: disable=unused-import
from test_node import guest, log_has, node  # noqa: F401, pylint: disable=unused-import

KERNEL = "/boot/none"


def profile(node, name, spec, **more):  # noqa: F811
    return node.ask("POST", "/v1/profiles", {"name": name, "spec": spec, **more}, status=201)


def change(node, name, spec, query="", **how):  # noqa: F811
    return node.ask("PATCH", f"/v1/profiles/{name}{query}", {"spec": spec}, **how)


def make(node, name, *profiles, status=201, **spec):    # noqa: F811
    """An instance that is off."""
    body = {"name": name, "spec": {"state": "stopped", "kernel": KERNEL, "profiles": list(profiles), **spec}}
    return node.ask("POST", "/v1/instances", body, status=status)


def users(node, name, count):   # noqa: F811
    """How many machines use it is told soon."""
    end = time.monotonic() + 60
    while node.wait(f"/v1/profiles/{name}", "ready")["status"]["instances"] != count:
        assert time.monotonic() < end
        time.sleep(0.02)


def edit(node, key, how):       # noqa: F811
    """Have HOW change a document of a daemon that does not run."""
    with contextlib.closing(sqlite3.connect(os.path.join(node.data, "store.db"))) as db:
        (text,), = db.execute("SELECT value FROM docs WHERE key = ?", (key,)).fetchall()
        doc = json.loads(text)
        how(doc)
        db.execute("UPDATE docs SET value = ? WHERE key = ?", (json.dumps(doc, separators=(",", ":")).encode(), key))
        db.commit()


def get(node, name):    # noqa: F811
    return node.ask("GET", f"/v1/instances/{name}")


def test_what_stands_last_counts_and_its_origin_is_told(node):  # noqa: F811
    profile(node, "small", {"memory": "64M", "cpus": 2, "limits": {"cpu": "0.5", "iops": 100}, "labels": {"size": "small", "env": "test"}})
    profile(node, "quiet", {"cpus": 3, "limits": {"cpu_weight": 10}, "labels": {"env": "night"}})
    made = make(node, "web", "small", "quiet", limits={"iops": 7})
    assert (made["spec"]["memory"], made["spec"]["cpus"], made["labels"]) == (64 << 20, 3, {"size": "small", "env": "night"})
    assert {k: made["spec"]["limits"][k] for k in ("cpu", "iops", "cpu_weight", "oom")} == {"cpu": "0.5", "iops": 7, "cpu_weight": 10, "oom": "normal"}
    assert made["own"] == {"limits": {"iops": 7}}
    assert made["inherited"]["fields"] == {"spec.memory": "small", "spec.cpus": "quiet", "spec.limits.cpu": "small", "spec.limits.cpu_weight": "quiet",
                                           "labels.size": "small", "labels.env": "quiet"}
    assert [p["name"] for p in made["inherited"]["profiles"]] == ["small", "quiet"]
    # The other way round.
    again = node.ask("PATCH", "/v1/instances/web", {"spec": {"profiles": ["quiet", "small"]}})
    assert (again["spec"]["cpus"], again["labels"]["env"], again["spec"]["limits"]["iops"]) == (2, "test", 7)
    alone = node.ask("PATCH", "/v1/instances/web", {"spec": {"profiles": []}})
    assert (alone["spec"]["memory"], alone["spec"]["cpus"], alone["labels"], alone["own"]) == (512 << 20, 1, {}, {"limits": {"iops": 7}})
    assert "inherited" not in alone


def test_default_is_used_by_those_who_name_none(node):  # noqa: F811
    before = node.ask("POST", "/v1/instances", {"name": "before", "spec": {"state": "stopped", "kernel": KERNEL}}, status=201)
    assert before["spec"]["profiles"] == []
    profile(node, "default", {"memory": "96M"})
    after = node.ask("POST", "/v1/instances", {"name": "after", "spec": {"state": "stopped", "kernel": KERNEL}}, status=201)
    assert (after["spec"]["profiles"], after["spec"]["memory"]) == (["default"], 96 << 20)
    assert make(node, "none")["spec"]["memory"] == 512 << 20
    assert get(node, "before")["spec"] == before["spec"]
    assert node.ask("POST", "/v1/instances", {"name": "bare"}, status=400)["error"]["field"] == "spec.image"


def test_what_is_read_and_sent_back_is_not_made_its_own(node):  # noqa: F811
    profile(node, "small", {"memory": "64M", "cpus": 2, "labels": {"size": "small"}})
    made = make(node, "web", "small")
    for _ in range(2):
        read = get(node, "web")
        read["spec"]["limits"] = {"iops": 5}
        node.ask("PATCH", "/v1/instances/web", read, headers={"If-Match": f'"{read["revision"]}"'})
    assert get(node, "web")["own"] == {"limits": {"iops": 5}}
    change(node, "small", {"memory": "80M"})
    assert get(node, "web")["spec"]["memory"] == 80 << 20
    # What was read before that is not what it says itself.
    for sent in (made, read):
        refused = node.ask("PATCH", "/v1/instances/web", sent, status=412)["error"]
        assert refused["field"] == "inherited" and "read it again" in refused["message"]
    node.ask("PATCH", "/v1/instances/web", {"spec": {"memory": "80M"}})
    assert "memory" not in get(node, "web")["own"]
    # Said on purpose it is its own, and null gives it back.
    node.ask("PATCH", "/v1/instances/web", {"own": {"memory": "80M"}})
    change(node, "small", {"memory": "90M"})
    assert get(node, "web")["spec"]["memory"] == 80 << 20 and "spec.memory" not in get(node, "web")["inherited"]["fields"]
    node.ask("PATCH", "/v1/instances/web", {"spec": {"memory": None}})
    assert get(node, "web")["spec"]["memory"] == 90 << 20
    node.ask("PATCH", "/v1/instances/web", {"labels": {"size": "odd", "own": "yes"}})
    assert (get(node, "web")["labels"], get(node, "web")["own"]["labels"]) == ({"size": "odd", "own": "yes"}, {"size": "odd", "own": "yes"})
    node.ask("PATCH", "/v1/instances/web", {"labels": {"size": None}})
    assert get(node, "web")["labels"] == {"size": "small", "own": "yes"}
    # A copy of what was read is like it, and follows the profile.
    copy = node.ask("POST", "/v1/instances", dict(get(node, "web"), name="copy"), status=201)
    assert copy["own"] == get(node, "web")["own"] and copy["spec"] == get(node, "web")["spec"]
    node.ask("PATCH", "/v1/instances/web", {"own": None})
    assert get(node, "web")["own"] == {}


def test_instances_from_before_there_were_profiles(node):       # noqa: F811
    """A document without 'own': what differs from what is so by default is its own."""
    make(node, "old", memory="128M")
    node.kill()
    def without(doc):
        del doc["own"], doc["spec"]["profiles"]

    edit(node, "instance/default/old", without)
    node.start()
    profile(node, "p", {"memory": "64M", "cpus": 4})
    got = node.ask("PATCH", "/v1/instances/old", {"spec": {"profiles": ["p"]}})
    assert (got["spec"]["memory"], got["spec"]["cpus"], got["own"]) == (128 << 20, 4, {"memory": 128 << 20})


def test_what_a_change_of_a_profile_may_not_do(node):   # noqa: F811
    profile(node, "p", {"memory": "64M"})
    make(node, "one", "p")
    make(node, "two", "p", limits={"memory": "48M"})
    refused = change(node, "p", {"memory": "32M"}, status=400)["error"]
    assert "'two'" in refused["message"] and get(node, "one")["spec"]["memory"] == 64 << 20
    node.ask("PATCH", "/v1/projects/default", {"spec": {"quota": {"memory": "150M"}}})
    refused = change(node, "p", {"memory": "100M"}, status=422)["error"]
    assert refused["code"] == "quota" and "the instance '" in refused["message"]
    plan = change(node, "p", {"memory": "70M"}, query="?dry-run")["plan"]["instances"]
    assert sorted(p["name"] for p in plan) == ["one", "two"]
    assert plan[0]["changes"] == [{"field": "spec.memory", "from": 64 << 20, "to": 70 << 20}]
    assert get(node, "one")["spec"]["memory"] == 64 << 20
    assert "plan" not in change(node, "p", {"memory": "70M"})
    assert get(node, "two")["spec"]["memory"] == 70 << 20
    for bad, field in (({"networks": [{"kind": "network", "network": "none"}]}, "spec.networks[0]"), ({"pool": "none"}, "spec.pool"),
                       ({"limits": {"cpus": "x"}}, "spec.limits.cpus"), ({"state": "running"}, "spec.state"),
                       ({"networks": [{"mac": "52:54:00:12:34:56"}]}, "spec.networks[0].mac"), ({"image": "x"}, "spec.image"), ({"cpus": 0}, "spec.cpus")):
        assert change(node, "p", bad, status=400)["error"]["field"].startswith(field)
    for bad in (["none"], ["p", "p"], ["P"], ["p"] * 17):
        assert make(node, "three", *bad, status=400)["error"]["field"].startswith("spec.profiles")


def test_one_that_is_used_stays(node):  # noqa: F811
    profile(node, "p", {"memory": "64M"})
    make(node, "web", "p")
    refused = node.ask("DELETE", "/v1/profiles/p", status=409)["error"]
    assert "'web'" in refused["message"]
    users(node, "p", 1)
    node.ask("PATCH", "/v1/instances/web", {"spec": {"profiles": []}})
    node.ask("DELETE", "/v1/profiles/p", status=202)
    node.wait_gone("/v1/profiles/p")
    # Another one of that name is another one.
    profile(node, "p", {"memory": "80M"})
    node.ask("PATCH", "/v1/instances/web", {"spec": {"profiles": ["p"]}})
    assert get(node, "web")["spec"]["memory"] == 80 << 20


def test_a_machine_that_runs_takes_what_it_can_at_once(node, guest):    # noqa: F811
    profile(node, "p", {"limits": {"cpu": "1"}})
    node.ask("POST", "/v1/instances", {"name": "web", "spec": dict(guest, profiles=["p"])}, status=201)
    log_has(node, "web", "guest-is-up")
    pid = node.wait("/v1/instances/web", "running")["status"]["pid"]
    change(node, "p", {"limits": {"cpu": "0.5"}})
    assert get(node, "web")["spec"]["limits"]["cpu"] == "0.5"
    assert node.wait("/v1/instances/web", "running")["status"]["pid"] == pid
    # One that has powered itself off has not been told anything by that.
    node.viv("console", "web", stdin="off\n")
    node.wait("/v1/instances/web", "stopped")
    change(node, "p", {"limits": {"cpu": "0.7"}})
    node.kill()
    node.start()
    assert change(node, "p", {"limits": {"cpu": "0.8"}})["version"] == 4
    node.wait("/v1/profiles/p", "ready")
    assert get(node, "web")["status"]["state"] == "stopped" and node.processes() == []
    node.viv("start", "web")


def test_clones_and_other_names(node, guest):   # noqa: F811
    profile(node, "p", {"memory": "64M", "labels": {"a": "b"}})
    make(node, "web", "p", networks=[{"kind": "user", "forwards": ["tcp:127.0.0.1:18099:80"]}])
    node.viv("clone", "web", "copy")
    copy = get(node, "copy")
    assert (copy["spec"]["profiles"], copy["spec"]["memory"], copy["own"]["networks"]) == (["p"], 64 << 20, [{"kind": "user", "forwards": []}])
    node.viv("rename", "web", "shop")
    change(node, "p", {"memory": "72M"})
    assert [get(node, n)["spec"]["memory"] for n in ("shop", "copy")] == [72 << 20] * 2


def test_those_that_are_behind_are_brought_after_a_crash(node): # noqa: F811
    """As a daemon leaves them that was killed between the commit of the profile and those of the instances behind the first hundred."""
    profile(node, "p", {"memory": "64M"})
    make(node, "web", "p", limits={"iops": 7})
    make(node, "other")
    before = {n: get(node, n) for n in ("web", "other")}
    node.kill()

    def later(doc):
        doc["version"] += 1
        doc["spec"].update(memory=80 << 20, labels={"a": "b"})

    edit(node, "profile/default/p", later)
    node.start()
    end = time.monotonic() + 60
    while (web := get(node, "web"))["spec"]["memory"] != 80 << 20:
        assert time.monotonic() < end, node.log()
        time.sleep(0.02)
    assert (web["labels"], web["own"], web["spec"]["limits"]) == ({"a": "b"}, before["web"]["own"], before["web"]["spec"]["limits"])
    assert (web["inherited"]["profiles"][0]["version"], web["unchanged_since"]) == (2, before["web"]["revision"])
    assert get(node, "other")["revision"] == before["other"]["revision"]
    node.wait("/v1/profiles/p", "ready")


@pytest.mark.parametrize("seed", [1, 2])
def test_many_follow_whoever_is_killed(node, seed):     # noqa: F811
    """More than one commit has room for: after kills at random moments all have what the profile says, and so do clients' own changes."""
    rng = random.Random(seed)
    profile(node, "p", {"memory": "64M", "labels": {"round": "0"}})
    for i in range(230):
        make(node, f"m{i}", "p", **({"cpus": 3} if i % 7 == 0 else {}))
    acknowledged = 0
    for turn in range(1, 7):
        timer = threading.Timer(rng.random() * 0.4, node.kill)
        timer.start()
        try:
            change(node, "p", {"memory": (64 + turn) << 20, "labels": {"round": str(turn)}})
            acknowledged = turn
        except (OSError, ConnectionError, json.JSONDecodeError, AssertionError):
            pass
        timer.join()
        node.start()
    end = time.monotonic() + 60
    while (p := node.ask("GET", "/v1/profiles/p"))["status"]["applied"] != p["version"]:
        assert time.monotonic() < end, (p, node.log())
        time.sleep(0.02)
    is_now = int(p["spec"]["labels"]["round"])
    assert is_now >= acknowledged and p["status"]["state"] == "ready"
    items = node.ask("GET", "/v1/instances")["items"]
    assert len(items) == 230 and all(i["labels"] == {"round": str(is_now)} for i in items)
    assert all(i["spec"]["memory"] == (64 + is_now) << 20 and i["spec"]["cpus"] == (3 if int(i["name"][1:]) % 7 == 0 else 1) for i in items)


def test_two_at_once(node):     # noqa: F811
    """An instance that is changed while its profile is has both, whoever was first."""
    profile(node, "p", {"memory": "64M"})
    make(node, "web", "p")

    def keep(path, body, turns=30):
        for i in range(turns):
            node.ask("PATCH", path, body(i))

    threads = [threading.Thread(target=keep, args=("/v1/profiles/p", lambda i: {"spec": {"memory": (65 + i) << 20}})),
               threading.Thread(target=keep, args=("/v1/instances/web", lambda i: {"labels": {"turn": str(i)}}))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    end = time.monotonic() + 60
    while (web := get(node, "web"))["spec"]["memory"] != 94 << 20:
        assert time.monotonic() < end, web
        time.sleep(0.02)
    assert web["labels"] == {"turn": "29"} and list(web["own"]) == ["labels"]


def test_what_a_profile_names_stays(node):      # noqa: F811
    node.ask("POST", "/v1/networks", {"name": "lan", "spec": {"kind": "user"}}, status=201)
    profile(node, "p", {"networks": [{"kind": "network", "network": "lan"}]})
    assert "'p'" in node.ask("DELETE", "/v1/networks/lan", status=409)["error"]["message"]
    assert make(node, "web", "p")["spec"]["networks"][0]["network"] == "lan"


def test_commands(node):        # noqa: F811
    node.viv("profile", "create", "small", "memory=64M", "limits.cpu=0.5", "labels.env=test", "--description", "for tests")
    make(node, "web")
    node.viv("set", "web", "profiles=small")
    assert get(node, "web")["labels"] == {"env": "test"}
    shown = json.loads(node.viv("show", "web"))
    assert shown["inherited"]["fields"]["spec.memory"] == "small"
    node.wait("/v1/profiles/small", "ready")
    listed = node.viv("profile", "ls")
    assert "small" in listed and "for tests" in listed
    plan = json.loads(node.viv("profile", "set", "small", "--dry-run", "memory=72M"))
    assert plan["plan"]["instances"][0]["name"] == "web"
    node.viv("profile", "set", "small", "memory=72M", "description=other")
    assert get(node, "web")["spec"]["memory"] == 72 << 20 and json.loads(node.viv("profile", "show", "small"))["description"] == "other"
    assert "'web'" in node.viv("profile", "rm", "small", status=4)
    node.viv("set", "web", "profiles=")
    node.viv("profile", "rm", "small")
    assert node.ask("GET", "/v1/profiles")["items"] == []


def test_others_have_no_part_in_it(site):       # noqa: F811
    for project in ("a", "b"):
        site.ask("POST", "/v1/projects", {"name": project, "spec": {}}, status=201)
    tokens = {role: site.user(f"a-{role}", a=role) for role in ("viewer", "operator")}
    stranger = site.user("b-admin", b="admin")
    assert site.far("POST", "/v1/profiles?project=a", {"name": "p", "spec": {"memory": "64M"}}, tokens["operator"])[0] == 201
    assert site.far("GET", "/v1/profiles/p?project=a", None, tokens["viewer"])[0] == 200
    assert site.far("PATCH", "/v1/profiles/p?project=a", {"spec": {}}, tokens["viewer"])[0] == 403
    for token, status in ((stranger, 403), (None, 401)):
        for verb, path, body in (("GET", "/v1/profiles", None), ("GET", "/v1/profiles/p", None), ("PATCH", "/v1/profiles/p", {"spec": {}}),
                                 ("DELETE", "/v1/profiles/p", None), ("POST", "/v1/profiles", {"name": "q", "spec": {}})):
            assert site.far(verb, f"{path}?project=a", body, token)[0] == status
    # The profile of another project is none of this one's.
    assert site.far("POST", "/v1/instances?project=b", {"name": "x", "spec": {"kernel": "/k", "profiles": ["p"]}}, stranger)[0] == 400
