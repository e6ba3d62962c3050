# SPDX-License-Identifier: Apache-2.0
"""A network gets another name: its guests stay plugged in, reachable, and are told about by that name."""
import os

import pytest
from test_network import address, boot, good, guest, node      # noqa: F401, pylint: disable=unused-import
from test_node import log_has

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making interfaces needs root")


def test_guests_stay_plugged_in(node, guest):       # noqa: F811
    node.ask("POST", "/v1/networks", {"name": "lan", "spec": {"subnet": "10.77.0.0/24"}}, status=201)
    boot(node, guest, "a", "lan")
    log_has(node, "a", "guest-is-up", 180)
    before, links = address(node, "a"), node.links()
    good(node, "a", "ping -c 1 -W 10 10.77.0.1")
    pid = node.ask("GET", "/v1/instances/a")["status"]["pid"]
    node.viv("network", "rename", "lan", "office")
    assert node.ask("GET", "/v1/instances/a")["spec"]["networks"][0]["network"] == "office"
    assert [n["name"] for n in node.ask("GET", "/v1/networks")["items"]] == ["office"]
    node.wait("/v1/networks/office", "ready")
    assert address(node, "a")["address"] == before["address"] and node.links().keys() == links.keys()
    assert [link["ifindex"] for link in node.links().values()] == [link["ifindex"] for link in links.values()]
    good(node, "a", "ping -c 1 -W 10 10.77.0.1")
    good(node, "a", "printf 'GET /latest/meta-data/hostname HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' | nc -w 10 169.254.169.254 80 | grep -x a.office")
    assert node.ask("GET", "/v1/instances/a")["status"]["pid"] == pid
    assert "is plugged into it" in node.viv("network", "rm", "office", status=4)
    node.kill()
    node.start()
    node.wait("/v1/networks/office", "ready")
    good(node, "a", "ping -c 1 -W 10 10.77.0.1")
    boot(node, guest, "b", "office")
    log_has(node, "b", "guest-is-up", 180)
    good(node, "b", f"ping -c 1 -W 10 {before['address']}")
    said = node.ask("POST", "/v1/networks/office/rename", {"name": "office"}, status=409)["error"]
    assert said["field"] == "name"
