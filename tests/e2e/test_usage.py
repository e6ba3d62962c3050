# SPDX-License-Identifier: Apache-2.0
"""What machines and the node use: measured, kept, told, explained."""
import json
import os
import re
import socket
import time

import pytest
import vivguest
from test_node import node, log_has  # noqa: F401

# Works and reads its disk when told to.
INIT = """
echo "guest-is-up"
while read -r line; do
    case $line in
        work) while :; do :; done & dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null; echo "has-read" ;;
        off) poweroff -f ;;
    esac
done
"""
FIELDS = {"cpu", "memory", "read", "written", "received", "sent", "storage"}


@pytest.fixture(scope="module")
def spec():
    folder = vivguest.kernel("bookworm")
    return {"kernel": os.path.join(folder, "vmlinuz"), "initrd": vivguest.initrd("bookworm", INIT, "usage"), "memory": "128M",
            "engine": "bt", "cmdline": "console=ttyS0 quiet cryptomgr.notests", "networks": [], "disks": [{"volume": "v"}]}


def until(look, what, timeout=90):
    end = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < end, what
        time.sleep(0.2)
    return found


class Listener:
    """Messages of a WebSocket."""
    def __init__(self, node, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(node.socket)
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: viv\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                          f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'x' * 22}==\r\n\r\n".encode())
        self.said = b""
        while b"\r\n\r\n" not in self.said:
            self.more()
        self.said = self.said.partition(b"\r\n\r\n")[2]
        self.whole = b""

    def more(self):
        data = self.sock.recv(65536)
        assert data, "the daemon has closed the connection"
        self.said += data

    def take(self, n):
        while len(self.said) < n:
            self.more()
        taken, self.said = self.said[:n], self.said[n:]
        return taken

    def message(self):
        """The next one; one that comes in pieces is put together (RFC 6455, 5.2)."""
        while True:
            first, length = self.take(2)
            if length >= 126:
                length = int.from_bytes(self.take(2 if length == 126 else 8), "big")
            self.whole += self.take(length)
            if first & 0x80:
                text, self.whole = self.whole, b""
                return json.loads(text)


def series(node, name):
    """Samples of a metric: labels and value. The text is what Prometheus' format says."""
    text = node.ask("GET", "/v1/metrics").decode()
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"\\]*"(,\w+="[^"\\]*")*\})? [0-9.e+-]+', line), line
    return re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.M)


def test_what_a_machine_uses_is_measured_kept_and_told(node, spec):
    node.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "16M"}}, status=201)
    node.wait("/v1/volumes/v", "ready")
    node.ask("POST", "/v1/instances", {"name": "a", "spec": spec}, status=201)
    node.wait("/v1/instances/a", "running")
    log_has(node, "a", "guest-is-up")
    listener = Listener(node, "/v1/events?usage=1")
    node.viv("console", "a", stdin="work\n")
    log_has(node, "a", "has-read")

    def usage():
        return node.ask("GET", "/v1/usage")["instances"].get("instance/default/a")

    busy = until(lambda: (u := usage()) and u["cpu"] > 0.1 and u, "a busy machine uses a processor")
    assert set(busy) == FIELDS and busy["memory"] > 1 << 20
    assert set(until(lambda: node.ask("GET", "/v1/usage").get("node"), "the node is measured")) == FIELDS
    told = until(lambda: (m := listener.message()) and m.get("type") == "usage" and m["usage"]["instances"] and m, "events tell")
    assert set(told["usage"]["instances"]["instance/default/a"]) == FIELDS

    labels = 'project="default",instance="a"'
    until(lambda: float(dict(series(node, "viv_instance_disk_read_bytes_total"))[labels]) >= 16 << 20, "what it read is counted")
    history = node.ask("GET", "/v1/instances/a/history?span=600")
    assert set(history["fields"]) == FIELDS and history["step"] == 5
    assert max(v or 0 for v in history["fields"]["cpu"]) > 0.1
    assert sum((v or 0) * history["step"] for v in history["fields"]["read"]) > 1 << 20
    whole = node.ask("GET", "/v1/node/history?span=2678400&points=100")
    assert len(whole["fields"]["cpu"]) <= 100 and any(v is not None for v in whole["fields"]["cpu"])
    node.ask("GET", "/v1/instances/a/history?span=1", status=400)
    assert node.ask("GET", "/v1/instances/a/history?points=many", status=400)["error"]["field"] == "points"
    node.ask("GET", "/v1/instances/b/history", status=404)

    assert float(dict(series(node, "viv_instance_cpu_seconds_total"))[labels]) > 0.1
    assert dict(series(node, "viv_instances"))['state="running"'] == "1"
    assert float(series(node, "viv_api_answers_total")[0][1]) >= 0

    # The history outlives the daemon, and the machine is measured again.
    node.kill()
    node.start()
    node.wait("/v1/instances/a", "running")
    assert max(v or 0 for v in node.ask("GET", "/v1/instances/a/history")["fields"]["cpu"]) > 0.1
    until(usage, "it is measured after the daemon's restart")
    until(lambda: node.ask("GET", "/v1/usage").get("node"), "and so is the node")
    table = node.viv("top", "--once")
    assert "processors" in table and re.search(r"^a +\d", table, re.M), table
    assert "viv_instance_memory_bytes" in node.viv("metrics")


def test_why_explains_states(node, spec):
    node.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "16M"}}, status=201)
    node.wait("/v1/volumes/v", "ready")
    node.ask("POST", "/v1/instances", {"name": "a", "spec": spec}, status=201)
    node.wait("/v1/instances/a", "running")
    log_has(node, "a", "guest-is-up")
    text = node.viv("why", "a")
    assert "it is running since" in text and "engine 'bt'" in text
    node.viv("console", "a", stdin="work\n")
    # On a host with other work it gets less of one.
    until(lambda: re.search(r"^(processors|host) ", node.viv("why", "a"), re.M), "what is busy is told")
    node.viv("console", "a", stdin="off\n")
    node.wait("/v1/instances/a", "stopped")
    facts = {f["about"]: f["text"] for f in node.ask("GET", "/v1/instances/a/why")["facts"]}
    assert "power off" in facts["state"] and "viv start a" in facts["wanted"]
    node.ask("PATCH", "/v1/instances/a", {"spec": {"kernel": "/etc/hostname", "state": "running"}})
    node.ask("POST", "/v1/instances/a/restart", status=202)
    until(lambda: "failure" in [f["about"] for f in node.ask("GET", "/v1/instances/a/why")["facts"]], "failures are counted")
    assert "/etc/hostname" in node.viv("why", "a")
