# SPDX-License-Identifier: Apache-2.0
"""Volumes, images, networks and profiles get other names: who speaks of them follows in the same commit, and what runs goes on."""
import http.client
import json
import os
import random
import signal
import threading
import time

from herd import herd, pair                             # noqa: F401, pylint: disable=unused-import
from test_node import Unix, guest, log_has, node        # noqa: F401, pylint: disable=unused-import
from test_snapshot_memory import restart


def rename(node, kind, old, new, status=200, **kwargs):     # noqa: F811
    return node.ask("POST", f"/v1/{kind}/{old}/rename", {"name": new}, status=status, **kwargs)


def names(node, kind):                                  # noqa: F811
    return sorted(d["name"] for d in node.ask("GET", f"/v1/{kind}")["items"])


def test_a_volume_of_a_machine_that_runs(node, pair):       # noqa: F811
    before = node.ask("GET", "/v1/instances/a")
    uid = node.ask("GET", "/v1/volumes/data")["uid"]
    node.viv("snapshot", "create", "--memory", "a", "s")
    node.viv("volume", "rename", "data", "store")
    after = node.ask("GET", "/v1/instances/a")
    assert after["status"]["pid"] == before["status"]["pid"] and after["spec"]["disks"][0]["volume"] == "store"
    assert names(node, "volumes") == ["store"] and node.ask("GET", "/v1/volumes/store")["uid"] == uid
    node.wait("/v1/volumes/store", "ready")
    # It grows while the machine has it, and its memory still fits to it.
    node.viv("volume", "grow", "store", "9M")
    pair.put("a", "vdb", "second")
    node.viv("snapshot", "revert", "a", "s")
    assert pair.told("a") == ["root", "first", "data"]
    restart(node, 0)
    assert node.wait("/v1/volumes/store", "ready")["status"]["size"] == 9 << 20
    # Its guest knows it by the same number, also when it begins anew.
    pair.set("a", "stopped")
    pair.set("a", "running")
    assert pair.told("a") == ["root", "first", "data"]
    assert "the instance 'a' has it" in node.viv("volume", "rm", "store", status=4)
    assert rename(node, "volumes", "data", "store")["uid"] == uid       # sent again after it was done
    pair.world()


def test_an_image_and_a_machine_that_has_ended_by_itself(node, guest, tmp_path):    # noqa: F811
    (tmp_path / "raw").write_bytes(b"image".ljust(1 << 20, b"\0"))
    node.viv("image", "import", str(tmp_path / "raw"), "base")
    uid = node.ask("GET", "/v1/images/base")["uid"]
    import vivguest                 # pylint: disable=import-outside-toplevel
    off = vivguest.initrd("bookworm", "echo boots; read -r x; poweroff -f\n", "node-rename-off")
    node.ask("POST", "/v1/instances", {"name": "a", "spec": dict(guest, initrd=off, image="base", networks=[{"kind": "none"}])}, status=201)
    log_has(node, "a", "boots")
    node.viv("console", "a", stdin="off\n")
    node.wait("/v1/instances/a", "stopped")
    node.viv("image", "rename", "base", "golden")
    assert node.ask("GET", "/v1/instances/a")["spec"]["image"] == "golden" and names(node, "images") == ["golden"]
    for _ in range(2):
        time.sleep(0.5)
        assert node.wait("/v1/instances/a", "stopped")["spec"]["state"] == "running"
        restart(node, 0)
    assert node.ask("GET", "/v1/images/golden")["uid"] == uid
    assert "is a layer over it" in node.viv("image", "rm", "golden", status=4)
    node.viv("start", "a")
    node.wait("/v1/instances/a", "running")
    node.ask("POST", "/v1/instances", {"name": "b", "spec": dict(guest, image="golden", networks=[{"kind": "none"}])}, status=201)
    node.wait("/v1/instances/b", "running")
    used = node.ask("GET", "/v1/images/golden/disk")
    assert [u["instance"] for u in used["used_by"]] == ["a", "b"] and used["size"] == 1 << 20 and used["format"] == "qcow2"


def test_what_cannot_be_is_refused(node, pair, tmp_path):     # noqa: F811
    node.viv("volume", "create", "other", "1M")
    for name, status, field in (("other", 409, "name"), ("data", 409, "name"), ("Wrong_Name", 400, "name")):
        assert rename(node, "volumes", "data", name, status=status)["error"]["field"] == field
    for kind in ("volumes", "images", "networks"):
        assert "there is no" in rename(node, kind, "nobody", "x", status=404)["error"]["message"]
    node.ask("POST", "/v1/volumes", {"name": "sent", "spec": {"size": 1 << 20, "source": {"upload": {"size": 512}}}}, status=201)
    assert "not ready" in rename(node, "volumes", "sent", "x", status=409)["error"]["message"]
    planned = node.ask("POST", "/v1/volumes/data/rename?dry-run=1", {"name": "x"})
    assert planned["name"] == "x" and "data" in names(node, "volumes")
    # A task that works on it is waited for.
    side = tmp_path / "side"
    side.mkdir()
    node.ask("POST", "/v1/pools", {"name": "side", "spec": {"path": str(side)}}, status=201)
    node.wait("/v1/pools/side", "ready")
    pid = node.ask("GET", "/v1/instances/a")["status"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    task = node.ask("POST", "/v1/volumes/data/move", {"pool": "side"}, status=202)["name"]
    assert "works on" in rename(node, "volumes", "data", "x", status=409)["error"]["message"]
    os.kill(pid, signal.SIGCONT)
    node.wait(f"/v1/tasks/{task}", "done")
    node.wait("/v1/volumes/data", "ready")
    rename(node, "volumes", "data", "x")
    assert pair.volumes("a") == ["x"] and pair.told("a") == ["root", "first", "data"]


def test_what_is_made_meanwhile_names_what_there_is(node, guest, tmp_path):     # noqa: F811
    """An instance that is checked against the old name is not written with it."""
    (tmp_path / "raw").write_bytes(b"image".ljust(1 << 20, b"\0"))
    node.viv("image", "import", str(tmp_path / "raw"), "image-0")
    node.ask("POST", "/v1/networks", {"name": "lan-0", "spec": {"kind": "host-only"}}, status=201)
    now, over, made = {"image": "image-0", "network": "lan-0"}, threading.Event(), []

    def make(who):
        conn, count = Unix(node.socket), 0
        while not over.is_set() and count < 40:
            off = dict(guest, state="stopped", image=now["image"], networks=[{"kind": "network", "network": now["network"]}])
            conn.request("POST", "/v1/instances", json.dumps({"name": f"i{who}-{count}", "spec": off}))
            answer = conn.getresponse()
            answer.read()
            # One that names what has got another name meanwhile is refused.
            assert answer.status in (201, 400, 404, 409), answer.status
            made.append(answer.status)
            count += 1
        conn.close()
    makers = [threading.Thread(target=make, args=(k,)) for k in range(2)]
    for maker in makers:
        maker.start()
    for turn in range(1, 21):
        for kind in ("image", "network"):
            old = now[kind]
            new = f"{old.split('-')[0]}-{turn}"
            rename(node, f"{kind}s", old, new)
            now[kind] = new
    over.set()
    for maker in makers:
        maker.join()
    items = node.ask("GET", "/v1/instances")["items"]
    assert made.count(201) == len(items) > 0 and now["image"] != "image-0" and now["network"] != "lan-0"
    assert {(i["spec"]["image"], i["spec"]["networks"][0]["network"]) for i in items} == {(now["image"], now["network"])}


def test_kills_leave_one_name_in_all_documents(node, pair):     # noqa: F811
    dice, name = random.Random(3), "data"
    pair.set("a", "stopped")
    uid = node.ask("GET", "/v1/volumes/data")["uid"]
    for turn in range(12):
        new, done = f"data-{turn}", []

        def ask(old=name, to=new, done=done):
            conn = Unix(node.socket)
            try:
                conn.request("POST", f"/v1/volumes/{old}/rename", f'{{"name": "{to}"}}')
                done.append(conn.getresponse().status)
            except (OSError, http.client.HTTPException):
                pass
            conn.close()
        asking = threading.Thread(target=ask)
        asking.start()
        restart(node, dice.random() * 0.006)
        asking.join()
        is_now = names(node, "volumes")
        assert is_now in ([name], [new]) and (is_now == [new] or 200 not in done)
        name = is_now[0]
        assert pair.volumes("a") == [name] and node.wait(f"/v1/volumes/{name}", "ready")["uid"] == uid
    pair.set("a", "running")
    assert pair.told("a") == ["root", "first", "data"]
    pair.world()


def test_a_network_that_profiles_name(node, guest):     # noqa: F811
    node.ask("POST", "/v1/networks", {"name": "lan", "spec": {"kind": "host-only"}}, status=201)
    lan = [{"kind": "network", "network": "lan"}]
    node.ask("POST", "/v1/profiles", {"name": "p", "spec": {"networks": lan, "cpus": 2}}, status=201)
    node.ask("POST", "/v1/profiles", {"name": "q", "spec": {"cpus": 1}}, status=201)
    off = dict(guest, state="stopped")
    off.pop("networks", None)
    for name, profiles, more in (("inherits", ["p"], {}), ("says", [], {"networks": lan}), ("both", ["p"], {"networks": lan}),
                                 ("other", ["q"], {"networks": [{"kind": "none"}]}), ("overrides", ["p"], {"networks": [{"kind": "none"}]})):
        node.ask("POST", "/v1/instances", {"name": name, "spec": {**off, **more, "profiles": profiles}}, status=201)
    before = {n: node.ask("GET", f"/v1/profiles/{n}")["version"] for n in "pq"}
    node.viv("network", "rename", "lan", "office")
    told = node.ask("GET", "/v1/profiles/p")
    assert told["spec"]["networks"][0]["network"] == "office" and told["version"] == before["p"] + 1
    assert node.ask("GET", "/v1/profiles/q")["version"] == before["q"]
    for name in ("inherits", "says", "both"):
        assert node.ask("GET", f"/v1/instances/{name}")["spec"]["networks"][0]["network"] == "office", name
    assert "networks" not in node.ask("GET", "/v1/instances/inherits")["own"]
    assert node.ask("GET", "/v1/instances/both")["own"]["networks"][0]["network"] == "office"
    end = time.monotonic() + 60
    while any(node.ask("GET", f"/v1/instances/{n}")["inherited"]["profiles"][0]["version"] != before["p"] + 1
              for n in ("inherits", "both", "overrides")):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert node.ask("GET", "/v1/instances/inherits")["inherited"]["fields"]["spec.networks"] == "p"
    assert node.ask("GET", "/v1/instances/overrides")["spec"]["networks"][0]["kind"] == "none"
    # It is the profile's as before: a change of that changes the instance.
    node.ask("PATCH", "/v1/profiles/p", {"spec": {"networks": [{"kind": "none"}]}})
    end = time.monotonic() + 60
    while node.ask("GET", "/v1/instances/inherits")["spec"]["networks"][0]["kind"] != "none":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert node.ask("GET", "/v1/instances/both")["spec"]["networks"][0]["network"] == "office"


def test_quotas_count_the_same(node):               # noqa: F811
    node.ask("POST", "/v1/projects", {"name": "small", "spec": {"quota": {"disk": 8 << 20}}}, status=201)
    node.ask("POST", "/v1/volumes?project=small", {"name": "data", "spec": {"size": 8 << 20}}, status=201)
    node.wait("/v1/volumes/data?project=small", "ready")
    # There is no room for a second one, and it needs none.
    node.ask("POST", "/v1/volumes/data/rename?project=small", {"name": "store"})
    assert node.ask("GET", "/v1/projects/small/usage")["disk"] == {"used": 8 << 20, "limit": 8 << 20}


# --- profiles ---

def profile(node, name, spec, **more):              # noqa: F811
    return node.ask("POST", "/v1/profiles", {"name": name, "spec": spec, **more}, status=201)


def test_a_profile_that_instances_use(node, guest):     # noqa: F811
    small = profile(node, "small", {"cpus": 1, "memory": 128 << 20}, labels={"size": "s"})
    profile(node, "wide", {"cpus": 2})
    for name, profiles, more in (("one", ["small"], {}), ("two", ["small", "wide"], {"shutdown_seconds": 3}), ("other", ["wide"], {})):
        spec = {k: v for k, v in guest.items() if k not in ("memory", "cpus")}
        node.ask("POST", "/v1/instances", {"name": name, "spec": {**spec, **more, "profiles": profiles, "state": "running" if name == "one" else "stopped"}},
                 status=201)
    before = {n: node.ask("GET", f"/v1/instances/{n}") for n in ("two", "other")}
    pid = node.wait("/v1/instances/one", "running")["status"]["pid"]
    log_has(node, "one", "guest-is-up")
    assert node.viv("profile", "rename", "small", "tiny") == ""
    now = {n: node.ask("GET", f"/v1/instances/{n}") for n in ("one", "two", "other")}
    assert now["one"]["spec"]["profiles"] == ["tiny"] and now["one"]["status"]["pid"] == pid
    assert now["two"]["spec"] == {**before["two"]["spec"], "profiles": ["tiny", "wide"]} and now["two"]["own"] == before["two"]["own"]
    inherited = before["two"]["inherited"]
    assert now["two"]["inherited"] == {
        "profiles": [{**inherited["profiles"][0], "name": "tiny"}, inherited["profiles"][1]],
        "fields": {path: "tiny" if of == "small" else of for path, of in inherited["fields"].items()}}
    assert now["two"]["inherited"]["fields"]["spec.memory"] == "tiny" and now["two"]["inherited"]["fields"]["spec.cpus"] == "wide"
    assert now["other"]["revision"] == before["other"]["revision"]
    told = node.wait("/v1/profiles/tiny", "ready")
    assert names(node, "profiles") == ["tiny", "wide"] and told["uid"] == small["uid"] and told["version"] == small["version"]
    assert rename(node, "profiles", "small", "tiny")["uid"] == small["uid"]        # sent again after it was done
    # It is theirs as before, also for a daemon that begins now.
    for kills in (False, True):
        if kills:
            restart(node, 0)
        memory = (144 if kills else 136) << 20
        node.ask("PATCH", "/v1/profiles/tiny", {"spec": {"memory": memory}})
        for name in ("one", "two"):
            assert node.ask("GET", f"/v1/instances/{name}")["spec"]["memory"] == memory
        assert node.ask("GET", "/v1/profiles/tiny")["version"] == node.ask("GET", "/v1/instances/two")["inherited"]["profiles"][0]["version"]
        refused = node.viv("profile", "rm", "tiny", status=4)
        assert "'one'" in refused and "'two'" in refused
    assert node.ask("GET", "/v1/instances/one")["status"]["pid"] == pid
    # The old name is another profile's.
    profile(node, "small", {"memory": 32 << 20})
    assert node.ask("GET", "/v1/instances/two")["spec"]["memory"] == 144 << 20


def test_what_a_profile_cannot_be_called(node):     # noqa: F811
    for name in ("default", "small", "wide"):
        profile(node, name, {"cpus": 1})
    for old, new in (("default", "other"), ("small", "default")):
        refused = rename(node, "profiles", old, new, status=409 if new == "default" else 400)["error"]
        assert "default" in refused["message"]
    node.viv("profile", "rm", "default")
    node.wait_gone("/v1/profiles/default")
    assert "new instances" in rename(node, "profiles", "small", "default", status=400)["error"]["message"]
    assert rename(node, "profiles", "small", "wide", status=409)["error"]["field"] == "name"
    assert "there is no" in rename(node, "profiles", "nobody", "x", status=404)["error"]["message"]
    assert rename(node, "profiles", "small", "Wrong", status=400)["error"]["field"] == "name"
    planned = node.ask("POST", "/v1/profiles/small/rename?dry-run=1", {"name": "x"})
    assert planned["name"] == "x" and names(node, "profiles") == ["small", "wide"]
    # More of them than a commit has room for.
    off = {"kernel": "/vmlinuz", "memory": "16M", "state": "stopped", "networks": [], "profiles": ["small"]}
    for k in range(124):
        node.ask("POST", "/v1/instances", {"name": f"i{k}", "spec": off}, status=201)
    assert "more than 123 instances" in rename(node, "profiles", "small", "x", status=409)["error"]["message"]
    assert node.ask("GET", "/v1/instances/i0")["spec"]["profiles"] == ["small"]
    node.ask("DELETE", "/v1/instances/i0", status=202)
    node.wait_gone("/v1/instances/i0")
    rename(node, "profiles", "small", "x")
    assert all(d["spec"]["profiles"] == ["x"] for d in node.ask("GET", "/v1/instances?limit=1000")["items"])


def test_a_daemon_that_is_killed_while_a_profile_is_renamed(node):      # noqa: F811
    dice = random.Random(7301)
    off = {"kernel": "/vmlinuz", "memory": "16M", "state": "stopped", "networks": [], "profiles": ["p0"]}
    profile(node, "p0", {"cpus": 1})
    for k in range(40):
        node.ask("POST", "/v1/instances", {"name": f"i{k}", "spec": off}, status=201)
    name, version = "p0", 1
    for turn in range(1, 13):
        new, done = f"p{turn}", []

        def ask(old=name, new=new, done=done):
            conn = Unix(node.socket)
            try:
                conn.request("POST", f"/v1/profiles/{old}/rename", json.dumps({"name": new}))
                done.append(conn.getresponse().status)
            except (OSError, http.client.HTTPException):
                pass
            conn.close()
        asking = threading.Thread(target=ask)
        asking.start()
        restart(node, dice.random() * 0.01)
        asking.join()
        is_now = names(node, "profiles")
        assert is_now in ([name], [new]) and (is_now == [new] or 200 not in done)
        name = is_now[0]
        version += 1
        node.ask("PATCH", f"/v1/profiles/{name}", {"spec": {"cpus": 1 + turn % 2}})
        for d in node.ask("GET", "/v1/instances?limit=1000")["items"]:
            assert d["spec"]["profiles"] == [name] and d["spec"]["cpus"] == 1 + turn % 2, d
            assert [(p["name"], p["version"]) for p in d["inherited"]["profiles"]] == [(name, version)], d
