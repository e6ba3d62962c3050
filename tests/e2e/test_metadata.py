# SPDX-License-Identifier: Apache-2.0
"""What guests ask at 169.254.169.254 about themselves: their own and nobody else's, by tokens or without, also after kills."""
import os
import re
import signal
import subprocess

import pytest
from test_network import OUTSIDE, address, bad, boot, good, guest, node, wait_for  # noqa: F401
from test_node import log_has

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making interfaces needs root")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@example.org"
# The wget of a static busybox cannot look up what it needs.
ASK = "printf '%s /latest/%s HTTP/1.1\\r\\nHost: x\\r\\n%b\\r\\n' {} {} '{}' | nc -w 10 169.254.169.254 80"


def reads(node, name, path, text):  # noqa: F811
    good(node, name, ASK.format("GET", path, "") + f" | grep -qx '{text}'")


def refused(node, name, path, status):  # noqa: F811
    asks(node, name, "GET", path, "", status)


def asks(node, name, verb, path, field, status):  # noqa: F811
    """A request with one field more, and how it is answered."""
    good(node, name, ASK.format(verb, path, field and field + "\\r\\n") + f" | grep 'HTTP/1.1 {status}'")


def token(node, name):  # noqa: F811
    field = "X-aws-ec2-metadata-token-ttl-seconds: 300\\r\\n"
    said = good(node, name, f"T=$({ASK.format('PUT', 'api/token', field)} | tail -n 1); echo token-is=$T")
    return re.findall(r"token-is=([0-9a-f]{80})", said)[-1]


def tells_own(node, name, made):  # noqa: F811
    reads(node, name, "meta-data/instance-id", "i-" + made["uid"])
    reads(node, name, "meta-data/local-ipv4", address(node, name)["address"])


def by_token(node, name, said, status):  # noqa: F811
    asks(node, name, "GET", "meta-data/instance-id", f"X-aws-ec2-metadata-token: {said}", status)


def listeners(node):  # noqa: F811
    return re.findall(r"(\S+):254 ", node.here.run("ss", "-H", "-ltn"))


def test_guests_are_told_about_themselves(node, guest):  # noqa: F811
    node.ask("POST", "/v1/networks", {"name": "lan", "spec": {"subnet": "10.77.0.0/24"}}, status=201)
    node.ask("POST", "/v1/networks", {"name": "lab", "spec": {"kind": "host-only", "subnet": "192.168.77.0/24"}}, status=201)
    boot(node, dict(guest, user_data="#!/bin/sh\necho it-is-a\n", ssh_keys=[KEY]), "a", "lan")
    boot(node, dict(guest, metadata="token"), "b", "lan")
    boot(node, guest, "c", "lab")
    made = {name: node.ask("GET", f"/v1/instances/{name}") for name in "abc"}
    assert made["a"]["spec"]["metadata"] == "any"
    for name in "abc":
        log_has(node, name, "guest-is-up", 180)
    a, b = address(node, "a"), address(node, "b")
    # Its own.
    tells_own(node, "a", made["a"])
    reads(node, "a", "meta-data/local-hostname", "a.lan")
    reads(node, "a", "meta-data/mac", a["mac"])
    reads(node, "a", "meta-data/public-keys/0/openssh-key", KEY)
    reads(node, "a", f"meta-data/network/interfaces/macs/{a['mac']}/subnet-ipv4-cidr-block", "10.77.0.0/24")
    reads(node, "a", "meta-data/placement/availability-zone", "local-1a")
    reads(node, "a", "user-data", "echo it-is-a")
    reads(node, "a", "dynamic/instance-identity/document", f'  "instanceId": "i-{made["a"]["uid"]}",')
    refused(node, "a", "meta-data/nothing", 404)
    asks(node, "a", "POST", "meta-data/", "", 405)
    # With a token, which is the machine's alone.
    refused(node, "b", "meta-data/instance-id", 401)
    asks(node, "b", "PUT", "api/token", "", 400)
    asks(node, "b", "PUT", "api/token", "X-aws-ec2-metadata-token-ttl-seconds: 9\\r\\nX-Forwarded-For: 1.2.3.4", 403)
    # The answer with a token, and no other, lives for one hop.
    hops = "table bridge hops { chain c { type filter hook postrouting priority 9; ip ttl 1 tcp sport 80 counter; }; }"
    node.here.run("nft", "-f", "-", text=hops)
    tells_own(node, "a", made["a"])
    assert "packets 0 " in node.here.run("nft", "list", "table", "bridge", "hops")
    tokens = {name: token(node, name) for name in "ab"}
    assert "packets 0 " not in node.here.run("nft", "list", "table", "bridge", "hops")
    node.here.run("nft", "delete", "table", "bridge", "hops")
    for name, other in ("ab", "ba"):
        by_token(node, name, tokens[name], 200)
        by_token(node, name, tokens[other], 401)
    # Without a way out the way there is told by DHCP.
    good(node, "c", "printf '#!/bin/sh\\necho routes=$staticroutes\\n' >/bin/r; chmod 755 /bin/r; udhcpc -i eth0 -n -q "
         "-O staticroutes -s /bin/r | grep 'routes=169.254.169.254/32 192.168.77.1'")
    good(node, "c", "ip route add 169.254.169.254 via 192.168.77.1")
    tells_own(node, "c", made["c"])
    refused(node, "c", "user-data", 404)
    # Whoever says that he is another is not heard, nor who goes around the rules, nor who is no machine.
    bad(node, "a", f"ip addr add {b['address']}/24 dev eth0; ip route add 169.254.169.254 via 10.77.0.1 src {b['address']}; "
        "nc -w 3 169.254.169.254 80 </dev/null")
    good(node, "a", f"ip route del 169.254.169.254; ip addr del {b['address']}/24 dev eth0")
    bad(node, "a", "nc -w 3 10.77.0.1 254 </dev/null")
    assert node.here.run("curl", "-s", "--max-time", "30", "http://10.77.0.1:254/latest/") == "Not Found"
    node.outside.run("ip", "route", "add", "10.77.0.0/24", "via", "198.51.100.1")
    assert node.outside.run("curl", "-s", "--max-time", "3", "http://10.77.0.1:254/latest/", check=False) == ""
    # What the host has at such an address is no business of guests.
    for there in ("169.254.1.1", "203.0.113.1"):
        node.outside.run("ip", "addr", "add", there + "/32", "dev", "cable")
        node.here.run("ip", "route", "add", there, "via", OUTSIDE)
    good(node, "a", "ping -c 1 -W 10 203.0.113.1")
    bad(node, "a", "ping -c 1 -W 2 169.254.1.1")
    # Turned off and on again.
    node.ask("PATCH", "/v1/instances/a", {"spec": {"metadata": "off"}})
    refused(node, "a", "meta-data/instance-id", 403)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"metadata": "any"}})
    # Who keeps connections open gets no more of them, and the others theirs.
    good(node, "a", "for i in 1 2 3 4 5 6 7 8 9; do sleep 30 | nc 169.254.169.254 80 >/dev/null 2>&1 & done; sleep 1")
    by_token(node, "b", tokens["b"], 200)
    # After a kill: tokens are new, what is told is the same.
    node.kill()
    node.start()
    node.wait("/v1/networks/lan", "ready")
    wait_for(lambda: len(listeners(node)) == 2)
    tells_own(node, "a", made["a"])
    by_token(node, "b", tokens["b"], 401)
    by_token(node, "b", token(node, "b"), 200)
    node.viv("rm", "--force", "a", "b", "c")
    node.viv("network", "rm", "lan", "lab")
    assert listeners(node) == [] and node.links() == {} and node.here.run("nft", "list", "ruleset") == ""


def test_it_comes_and_goes_with_the_network(node):  # noqa: F811
    node.viv("network", "create", "lan", "--subnet", "10.66.0.0/24")
    bridge = node.wait("/v1/networks/lan", "ready")["status"]["bridge"]
    assert listeners(node) == [f"10.66.0.1%{bridge}"]
    # A bridge that somebody removes by hand comes again, as another one.
    node.here.run("ip", "link", "del", bridge)
    wait_for(lambda: bridge in node.links() and listeners(node) == [f"10.66.0.1%{bridge}"])
    # Its port is somebody else's: that is told, and keeps nobody from the network.
    node.kill(signal.SIGKILL)
    taken = node.here.words("/usr/bin/python3", "-c", "import socket, time; s = socket.create_server(('', 254)); time.sleep(600)")
    with subprocess.Popen(taken) as other:
        wait_for(lambda: listeners(node) == ["0.0.0.0"])
        node.start()
        wait_for(lambda: "port 254 of 10.66.0.1" in node.ask("GET", "/v1/networks/lan")["status"]["reason"])
        assert node.ask("GET", "/v1/networks/lan")["status"]["state"] == "ready"
        other.kill()
    wait_for(lambda: listeners(node) == [f"10.66.0.1%{bridge}"])
    node.viv("network", "rm", "lan")
    assert listeners(node) == []
