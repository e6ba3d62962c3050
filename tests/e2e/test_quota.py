# SPDX-License-Identifier: Apache-2.0
"""How much a project may have."""
import concurrent.futures
import http.client
import json

from test_node import Unix, node  # noqa: F401

OFF = {"kernel": "/dev/null", "state": "stopped", "networks": [], "memory": "256M"}


def test_a_project_has_what_it_may(node):  # noqa: F811
    make = lambda name, status=201, **spec: node.ask("POST", "/v1/instances", {"name": name, "spec": dict(OFF, **spec)}, status=status)
    refused = lambda *words, **more: make(*words, 422, **more)["error"]
    make("before", cpus=2)
    node.viv("quota", "set", "default", "cpus=4", "instances=3", "memory=1G", "disk=10M")
    assert node.ask("GET", "/v1/projects/default/usage") == {
        "instances": {"used": 1, "limit": 3}, "cpus": {"used": 2, "limit": 4}, "memory": {"used": 256 << 20, "limit": 1 << 30},
        "disk": {"used": 0, "limit": 10 << 20}}
    no = refused("a", cpus=3)
    assert no["code"] == "quota" and no["field"] == "spec.cpus"
    assert "may have 4 processors (its quota 'cpus'): 2 are taken, and this needs 3" in no["message"]
    assert refused("a", memory="800M")["field"] == "spec.memory"
    # A dry run says the same.
    node.ask("POST", "/v1/instances?dry-run", {"name": "a", "spec": dict(OFF, cpus=3)}, status=422)
    make("a", cpus=2)
    # What grows is asked for; what stays or shrinks is not.
    assert node.ask("PATCH", "/v1/instances/a", {"spec": {"cpus": 3}}, status=422)["error"]["field"] == "spec.cpus"
    node.ask("PATCH", "/v1/instances/a", {"spec": {"cpus": 1}, "labels": {"x": "y"}})
    make("b")
    assert refused("c")["field"] == "name"
    assert "instances" in node.ask("POST", "/v1/instances/a/clone", {"name": "c"}, status=422)["error"]["message"]
    # Less than there is: nothing goes, nothing more comes.
    node.viv("quota", "set", "default", "cpus=1", "instances=none")
    node.ask("PATCH", "/v1/instances/a", {"labels": {"x": "z"}})
    assert refused("c")["field"] == "spec.cpus"
    node.viv("rm", "before", "b")
    assert "cpus        1           1" in node.viv("quota", "show", "default")
    # Disks are those of volumes, too, and of other projects nothing.
    volume = lambda size, status, project="default": node.ask("POST", f"/v1/volumes?project={project}", {
        "name": "v", "spec": {"size": size}}, status=status)
    assert volume("11M", 422)["error"]["field"] == "spec.size"
    volume("8M", 201)
    assert node.ask("PATCH", "/v1/volumes/v", {"spec": {"size": "12M"}}, status=422)["error"]["field"] == "spec.size"
    node.ask("PATCH", "/v1/volumes/v", {"spec": {"size": "10M"}})
    node.viv("project", "create", "other")
    volume("1G", 201, "other")
    node.viv("quota", "set", "default", "cpus=x", status=1)
    node.viv("quota", "set", "default", "cups=1", status=1)


def test_who_asks_at_once_does_not_get_the_same_room(node):  # noqa: F811
    node.viv("quota", "set", "default", "cpus=5")

    def make(k):
        conn = Unix(node.socket)
        conn.request("POST", "/v1/instances", json.dumps({"name": f"i{k}", "spec": OFF}))
        try:
            return conn.getresponse().status
        except http.client.HTTPException:
            return 0
        finally:
            conn.close()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        got = list(pool.map(make, range(40)))
    assert sorted(set(got)) == [201, 422] and got.count(201) == 5, got
    assert node.ask("GET", "/v1/projects/default/usage")["cpus"] == {"used": 5, "limit": 5}
    # The claims have been given back.
    node.ask("DELETE", f"/v1/instances/i{got.index(201)}", status=202)
    node.wait_gone(f"/v1/instances/i{got.index(201)}")
    assert make(99) == 201
