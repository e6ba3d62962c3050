# SPDX-License-Identifier: Apache-2.0
"""What guests on networks of their own (passt) ask at 169.254.169.254: answered about themselves, and nothing of theirs goes further."""
import os
import re
import signal

import pytest
import vivguest
from test_node import guest, log_has, node      # noqa: F401, pylint: disable=unused-import
from test_snapshot_memory import restart

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@example.org"
# Runs what it is told, and says how that went. The gateway is somebody whose address is known, so no network of the host is needed.
INIT = """
mount -t proc proc /proc 2>/dev/null
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip neigh replace 10.0.2.2 lladdr 52:55:0a:00:02:02 dev eth0 nud permanent
ip route add default via 10.0.2.2
mac=$(cat /sys/class/net/eth0/address)
ask() { printf '%s /latest/%s HTTP/1.1\\r\\nHost: x\\r\\n%b\\r\\n' "$1" "$2" "$3" | nc -w 10 169.254.169.254 80 >/tmp/said 2>&1; }
mkdir -p /tmp
echo "guest-is-up"
while read -r n line; do
    eval "$line" >/tmp/out 2>&1 </dev/null; r=$?
    cat /tmp/out
    echo "done-$n: $r"
done
"""


class Asked:
    def __init__(self, node, guest):       # noqa: F811
        self.node, self.n = node, 0
        self.spec = dict(guest, initrd=vivguest.initrd("bookworm", INIT, "node-metadata-user"), networks=[{"kind": "user"}], shutdown_seconds=0)

    def make(self, name, **spec):
        self.node.ask("POST", "/v1/instances", {"name": name, "spec": {**self.spec, **spec}}, status=201)
        self.node.wait(f"/v1/instances/{name}", "running")
        log_has(self.node, name, "guest-is-up", 120)

    def run(self, name, line, good=True):
        """What a line for the guest's shell says."""
        self.n += 1
        before = len(self.node.ask("GET", f"/v1/instances/{name}/log"))
        self.node.viv("console", name, stdin=f"{self.n} {line}\n")
        log_has(self.node, name, f"done-{self.n}: ", 90)
        said = self.node.ask("GET", f"/v1/instances/{name}/log")[max(0, before - 200):].decode(errors="replace")
        how = re.search(f"done-{self.n}: (\\d+)", said)
        assert how and (how.group(1) == "0") == good, said
        return said

    def has(self, name, path, text):
        self.run(name, f"ask GET {path}; tr -d '\\r' </tmp/said | grep -qx '{text}'")

    def status(self, name, verb, path, field, status):
        self.run(name, f"ask {verb} {path} '{field}'; grep 'HTTP/1.1 {status}' /tmp/said")

    def token(self, name):
        said = self.run(name, "ask PUT api/token 'X-aws-ec2-metadata-token-ttl-seconds: 300\\r\\n'; echo token-is=$(tail -n 1 /tmp/said)")
        return re.findall(r"token-is=([0-9a-f]{80})", said)[-1]

    def by_token(self, name, token, status):
        self.status(name, "GET", "meta-data/instance-id", f"X-aws-ec2-metadata-token: {token}\\r\\n", status)


@pytest.fixture
def asked(node, guest):         # noqa: F811
    return Asked(node, guest)


def test_a_guest_is_told_about_itself_and_nobody_else(node, asked):     # noqa: F811, pylint: disable=redefined-outer-name
    long = "#!/bin/sh\n" + "".join(f"echo {n:08d}\n" for n in range(4000))
    asked.make("a", user_data=long, ssh_keys=[KEY])
    asked.make("b", metadata="token")
    uid = {name: node.ask("GET", f"/v1/instances/{name}")["uid"] for name in "ab"}
    asked.has("a", "meta-data/instance-id", f"i-{uid['a']}")
    asked.has("a", "meta-data/hostname", "a")
    asked.has("a", "meta-data/public-keys/0/openssh-key", KEY)
    asked.run("a", "ask GET meta-data/mac; test \"$(tail -n 1 /tmp/said)\" = $mac")
    # More than a window, whole.
    asked.run("a", "ask GET user-data; test $(grep -c '^echo 0000' /tmp/said) = 4000 && tail -n 1 /tmp/said | grep 00003999")
    asked.status("a", "GET", "meta-data/nothing", "", 404)
    asked.status("a", "POST", "meta-data/", "", 405)
    # busybox has a wget for what has an address of numbers.
    asked.run("a", f"wget -q -O - http://169.254.169.254/latest/meta-data/instance-id | grep -x i-{uid['a']}")
    # Whose link it is on answers for the address, too.
    asked.run("a", "ip route add 169.254.0.0/16 dev eth0")
    asked.has("a", "meta-data/instance-id", f"i-{uid['a']}")
    # With a token, which is the machine's alone.
    asked.status("b", "GET", "meta-data/instance-id", "", 401)
    tokens = {name: asked.token(name) for name in "ab"}
    for name, other in ("ab", "ba"):
        asked.by_token(name, tokens[name], 200)
        asked.by_token(name, tokens[other], 401)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"metadata": "off"}})
    asked.status("a", "GET", "meta-data/instance-id", "", 403)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"metadata": "any"}})
    # Many at once, and those who say nothing: others are heard as soon as one has gone.
    asked.run("a", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (sleep 8 | nc 169.254.169.254 80 >/dev/null 2>&1) & done; sleep 1")
    asked.run("a", f"k=0; until ask GET meta-data/instance-id; grep -q i-{uid['a']} /tmp/said; do k=$((k+1)); test $k -lt 30 || break; sleep 1; "
              "done; test $k -lt 30")
    # After a kill of the daemon the next one answers; tokens are new.
    restart(node, 0)
    node.wait("/v1/instances/b", "running")
    asked.run("b", "k=0; until ask GET meta-data/; grep -q HTTP /tmp/said; do k=$((k+1)); test $k -lt 30 || break; sleep 1; done; test $k -lt 30")
    asked.by_token("b", tokens["b"], 401)
    asked.by_token("b", asked.token("b"), 200)
    # Nobody answers while there is no daemon, and the guest is told so at once.
    node.kill(signal.SIGKILL)
    node.start()
    asked.has("a", "meta-data/instance-id", f"i-{uid['a']}")


def test_nothing_for_that_address_leaves_the_machine(node, asked):     # noqa: F811, pylint: disable=redefined-outer-name
    asked.make("a")
    pid = node.ask("GET", "/v1/instances/a")["status"]["pid"]
    passt = [int(p) for p in os.listdir("/proc") if p.isdigit() and session(p) == session(pid) and words(p).startswith("passt")]
    assert passt
    asked.run("a", "nc -w 2 169.254.169.254 81", good=False)
    asked.run("a", "ping -c 1 -W 1 169.254.169.254", good=False)
    asked.run("a", "echo x | nc -u -w 1 169.254.169.254 53; true")
    # Connections and bytes that make no sense cost the service nothing.
    asked.run("a", "head -c 100000 /dev/zero | nc -w 5 169.254.169.254 80; true")
    asked.has("a", "meta-data/instance-id", f"i-{node.ask('GET', '/v1/instances/a')['uid']}")


def session(pid):
    """passt is not below its machine, but of the session that the daemon has started."""
    try:
        return os.getsid(int(pid))
    except OSError:
        return 0


def words(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""
