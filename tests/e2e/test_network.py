# SPDX-License-Identifier: Apache-2.0
"""Networks of the platform with real guests, in a network namespace that the test makes and that has nothing of the host's."""
import json
import os
import random
import signal
import subprocess
import time

import pytest
import vivguest
from test_node import Node, log_has

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making interfaces needs root")
# What a guest does as soon as it is up: an address by DHCP, then what it reads from its console.
INIT = r"""
cat >/bin/dhcp-got <<'GOT'
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr add $ip/$mask dev $interface
[ -z "$router" ] || ip route add default via $router
: >/etc/resolv.conf
for s in $dns; do echo "nameserver $s" >>/etc/resolv.conf; done
echo "search $domain" >>/etc/resolv.conf
echo "got-address $ip router=$router dns=$dns domain=$domain"
GOT
chmod 755 /bin/dhcp-got
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -s /bin/dhcp-got -t 30 -T 1 -n -q 2>&1
echo "guest-is-up"
while read -r line; do
    eval "$line" 2>&1
    echo "status $? of $line"
done
"""
# The world outside the node's namespace: behind the cable, with an address of the documentation's.
OUTSIDE = "198.51.100.2"


class Netns:
    """A namespace that lasts as long as the process in it."""
    def __init__(self):
        self.proc = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        end = time.monotonic() + 20
        while os.readlink(f"/proc/{self.proc.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < end
            time.sleep(0.01)
        self.run("ip", "link", "set", "lo", "up")

    def words(self, *words):
        return ["nsenter", f"--net=/proc/{self.proc.pid}/ns/net", *words]

    def run(self, *words, check=True, text=None):
        done = subprocess.run(self.words(*words), capture_output=True, text=True, check=False, timeout=60, input=text)
        assert not check or done.returncode == 0, (words, done.stderr)
        return done.stdout

    def close(self):
        self.proc.kill()
        self.proc.wait()


class NetNode(Node):
    """A daemon in a namespace, with one cable to another namespace: the Internet."""
    def __init__(self, folder, here, outside):
        super().__init__(folder)
        self.here, self.outside = here, outside
        self.prefix = here.words()

    def dnsmasqs(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
                    if f"--conf-file={self.run}/" in f.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def links(self):
        return {k["ifname"]: k for k in json.loads(self.here.run("ip", "-j", "-d", "link")) if k["ifname"].startswith("v")}

    def end(self):
        super().end()
        for pid in self.dnsmasqs():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def node():
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    here, outside = Netns(), Netns()
    here.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "cable", "netns", str(outside.proc.pid))
    for ns, name, address in ((here, "up0", "198.51.100.1/24"), (outside, "cable", OUTSIDE + "/24")):
        ns.run("ip", "addr", "add", address, "dev", name)
        ns.run("ip", "link", "set", name, "up")
    here.run("ip", "route", "add", "default", "via", OUTSIDE)
    n = NetNode(folder, here, outside)
    yield n.start()
    n.end()
    outside.close()
    here.close()
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture(scope="module")
def guest():
    folder = vivguest.kernel("bookworm")
    return {"kernel": os.path.join(folder, "vmlinuz"), "initrd": vivguest.initrd("bookworm", INIT, "network"), "memory": "128M",
            "engine": "bt", "cmdline": "console=ttyS0 quiet cryptomgr.notests"}


def boot(node, guest, name, network, **net):
    spec = dict(guest, networks=[dict(net, kind="network", network=network)])
    node.ask("POST", "/v1/instances", {"name": name, "spec": spec}, status=201)


def command(node, name, line, timeout=60):
    """The status of a line that the guest's shell runs, and all that its console has said."""
    mark = f"status {{}} of : {random.randrange(1 << 40):x}; {line}"
    node.viv("console", name, stdin=mark[len("status {} of "):] + "\n")
    end = time.monotonic() + timeout
    while True:
        said = node.ask("GET", f"/v1/instances/{name}/log").decode(errors="replace")
        for status in range(256):
            if mark.format(status) in said:
                return status, said
        assert time.monotonic() < end, said
        time.sleep(0.05)


def good(node, name, line):
    status, said = command(node, name, line)
    assert status == 0, said
    return said


def bad(node, name, line):
    status, said = command(node, name, line)
    assert status != 0, said


def address(node, name):
    return next(p for p in node.ask("GET", "/v1/ports")["items"] if p["instance"] == name)


def wait_for(what, timeout=60):
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_guests_on_a_nat_network(node, guest):
    """Addresses by DHCP, names, the way out and in, no other's addresses; the daemon and dnsmasq are killed meanwhile."""
    made = node.ask("POST", "/v1/networks", {"name": "lan", "spec": {"subnet": "10.77.0.0/24"}}, status=201)
    assert made["spec"]["kind"] == "nat" and made["spec"]["subnet6"].startswith("fd")
    boot(node, guest, "a", "lan")
    boot(node, guest, "b", "lan", address="10.77.0.99", forwards=["tcp:8080:80"])
    bridge = node.wait("/v1/networks/lan", "ready")["status"]["bridge"]
    for name in ("a", "b"):
        log_has(node, name, "guest-is-up", 120)
    log_has(node, "b", "got-address 10.77.0.99 router=10.77.0.1 dns=10.77.0.1 domain=lan")
    a, b = address(node, "a"), address(node, "b")
    assert a["address"] == "10.77.0.2" and b["address"] == "10.77.0.99", (a, b)
    assert node.ask("GET", "/v1/instances/a")["status"]["networks"][0]["address"] == "10.77.0.2"
    assert "10.77.0.99" in node.viv("port", "ls") and bridge in node.viv("network", "ls")
    # Each other by name, the world by the host's address.
    good(node, "a", "ping -c 1 -W 10 b")
    good(node, "b", "ping -c 1 -W 10 a.lan")
    good(node, "a", f"ping -c 1 -W 10 {OUTSIDE}")
    assert "healthy" in node.viv("network", "doctor", "lan", "--json") and "BAD" not in node.viv("network", "doctor", "lan")
    # The way in: a port of the host.
    good(node, "b", "mkdir -p /www; echo it-is-b >/www/index.html; httpd -p 80 -h /www")
    assert "it-is-b" in node.outside.run("curl", "-s", "--max-time", "30", "http://198.51.100.1:8080/")
    # Nobody comes in otherwise.
    node.outside.run("ip", "route", "add", "10.77.0.0/24", "via", "198.51.100.1")
    assert node.outside.run("curl", "-s", "--max-time", "2", "http://10.77.0.99/", check=False) == ""
    # Another's address is no use: neither that of a neighbour nor one that nobody has, nor another MAC.
    bad(node, "a", "ip addr add 10.77.0.50/24 dev eth0; ping -c 1 -W 2 -I 10.77.0.50 10.77.0.1")
    bad(node, "a", "ip addr add 10.77.0.99/24 dev eth0; ping -c 1 -W 2 -I 10.77.0.99 10.77.0.1")
    good(node, "a", "ip addr del 10.77.0.50/24 dev eth0; ip addr del 10.77.0.99/24 dev eth0; ping -c 1 -W 10 b")
    bad(node, "a", "ip link set eth0 address 06:00:00:00:00:01; ping -c 1 -W 2 10.77.0.1")
    good(node, "a", f"ip link set eth0 address {a['mac']}; ping -c 1 -W 10 10.77.0.1")
    # What helps is killed; guests go on, and names are there again.
    pids = {name: node.ask("GET", f"/v1/instances/{name}")["status"]["pid"] for name in ("a", "b")}
    first = node.dnsmasqs()
    assert len(first) == 1
    node.kill()
    good_links = node.links()
    node.start()
    node.wait("/v1/networks/lan", "ready")
    node.wait("/v1/instances/a", "running")
    time.sleep(1)
    assert node.dnsmasqs() == first, "it was not taken over"
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: len(node.dnsmasqs()) == 1 and node.dnsmasqs() != first)
    good(node, "a", "for i in 1 2 3 4 5; do nslookup b.lan && break; sleep 1; done")
    assert {name: node.ask("GET", f"/v1/instances/{name}")["status"]["pid"] for name in ("a", "b")} == pids
    assert sorted(node.links()) == sorted(good_links)
    # What somebody removes by hand comes again.
    node.here.run("nft", "delete", "table", "bridge", next(w for w in node.here.run("nft", "list", "tables").split()
                                                           if w.startswith("viv_")))
    wait_for(lambda: "table bridge viv_" in node.here.run("nft", "list", "tables"))
    # With another name it is known by that alone, and goes on.
    node.viv("rename", "b", "shop")
    good(node, "a", "for i in 1 2 3 4 5 6 7 8 9; do nslookup shop.lan && break; sleep 1; done")
    bad(node, "a", "nslookup b.lan")
    assert "it-is-b" in node.outside.run("curl", "-s", "--max-time", "30", "http://198.51.100.1:8080/")
    # It cannot go while somebody is plugged in; afterwards nothing is left.
    assert "plugged into it" in node.ask("DELETE", "/v1/networks/lan", status=409)["error"]["message"]
    node.viv("rm", "--force", "a", "shop")
    wait_for(lambda: not any(name.startswith("vp") for name in node.links()))
    node.viv("network", "rm", "lan")
    assert node.links() == {} and node.dnsmasqs() == [] and node.here.run("nft", "list", "ruleset") == ""
    assert os.listdir(os.path.join(node.run, "n")) == []


def test_without_a_way_out(node, guest):
    node.viv("network", "create", "lab", "--kind", "host-only", "--subnet", "192.168.77.0/24", "--subnet6", "none")
    boot(node, guest, "c", "lab", limit_out=20000)
    log_has(node, "c", "guest-is-up", 120)
    log_has(node, "c", "got-address 192.168.77.2 router= dns=192.168.77.1")
    good(node, "c", "ping -c 1 -W 10 192.168.77.1")
    bad(node, "c", f"ip route add default via 192.168.77.1; ping -c 1 -W 2 {OUTSIDE}")
    # A bucket of 64 KiB, into which 20 kB a second come, lets one such ping through, but not four in four seconds.
    pings = "ping -q -c 4 -A -s 60000 -W 1 192.168.77.1 | grep ' [0-3] packets received'"
    good(node, "c", pings)
    spec = dict(guest, networks=[{"kind": "network", "network": "lab"}])
    node.ask("PATCH", "/v1/instances/c", {"spec": {"networks": spec["networks"]}})
    wait_for(lambda: "bytes/second" not in node.here.run("nft", "list", "ruleset"))
    good(node, "c", "ping -q -c 4 -s 60000 -W 10 192.168.77.1 | grep ' 4 packets received'")
    # Plugged in elsewhere while it runs.
    node.viv("network", "create", "other", "--kind", "host-only", "--subnet", "192.168.78.0/24")
    spec = dict(guest, networks=[{"kind": "network", "network": "other", "address": "192.168.78.2"}])
    node.ask("PATCH", "/v1/instances/c", {"spec": {"networks": spec["networks"]}})
    bridge = node.wait("/v1/networks/other", "ready")["status"]["bridge"]
    wait_for(lambda: [k["master"] for name, k in node.links().items() if name.startswith("vp")] == [bridge])
    good(node, "c", "ip addr flush dev eth0; ip addr add 192.168.78.2/24 dev eth0; ping -c 1 -W 10 192.168.78.1")


def test_on_a_bridge_of_the_host(node, guest):
    node.here.run("ip", "link", "add", "br0", "type", "bridge")
    node.here.run("ip", "addr", "add", "172.30.0.1/24", "dev", "br0")
    node.here.run("ip", "link", "set", "br0", "up")
    node.viv("network", "create", "office", "--kind", "bridge", "--bridge", "br0")
    boot(node, guest, "d", "office", address="172.30.0.5")
    log_has(node, "d", "guest-is-up", 180)
    good(node, "d", "ip addr add 172.30.0.5/24 dev eth0; ping -c 1 -W 10 172.30.0.1")
    bad(node, "d", "ip addr add 172.30.0.6/24 dev eth0; ping -c 1 -W 2 -I 172.30.0.6 172.30.0.1")
    node.viv("rm", "--force", "d")
    node.viv("network", "rm", "office")
    assert "br0" in node.here.run("ip", "-br", "link") and node.links() == {}
    assert "viv" not in node.here.run("nft", "list", "ruleset")


def test_the_doctor_names_the_rule(node):
    node.viv("network", "create", "lan", "--subnet", "10.66.0.0/24")
    bridge = node.wait("/v1/networks/lan", "ready")["status"]["bridge"]
    # As Docker does it, and as a firewall that lets nothing in.
    node.here.run("nft", "-f", "-", text="""
        table ip filter {
            chain DOCKER-USER { }
            chain FORWARD { type filter hook forward priority 0; policy drop;
                jump DOCKER-USER
                iifname "docker0" oifname != "docker0" accept
            }
        }
        table inet firewall {
            chain IN { type filter hook input priority 0; policy accept;
                ct state established,related accept
                tcp dport 22 accept
                iifname "up*" accept
                reject with icmpx admin-prohibited
            }
        }
    """)
    said = node.viv("network", "doctor", "lan", status=3, stdin=None)
    found = {c["check"]: c for c in node.ask("GET", "/v1/networks/lan/doctor")["checks"]}
    assert not said
    assert "policy of chain 'FORWARD' in table 'ip filter'" in found["out"]["message"] and not found["back"]["ok"], found
    assert "chain 'IN' in table 'inet firewall'" in found["dhcp"]["message"] and "reject with" in found["dhcp"]["message"]
    # What it says helps does help.
    for check in ("out", "back", "dhcp"):
        assert bridge in found[check]["fix"]
        node.here.run("sh", "-c", found[check]["fix"])
    assert node.ask("GET", "/v1/networks/lan/doctor")["healthy"]
    node.viv("network", "doctor", "lan")


def test_what_cannot_be_is_refused(node, guest):
    ask = lambda spec, status: node.ask("POST", "/v1/networks", {"name": "x", "spec": spec}, status=status)
    field = lambda spec: ask(spec, 400)["error"]["field"]
    assert field({"subnet": "8.8.8.0/24"}) == "spec.subnet" and field({"subnet": "10.1.2.3/24"}) == "spec.subnet"
    assert field({"subnet6": "fd00::/48"}) == "spec.subnet6" and field({"kind": "bridge"}) == "spec.bridge"
    assert field({"kind": "user", "subnet": "10.1.2.0/24"}) == "spec.subnet"
    node.here.run("ip", "addr", "add", "10.9.0.1/16", "dev", "up0")
    assert "up0" in ask({"subnet": "10.9.3.0/24"}, 409)["error"]["message"]
    node.viv("network", "create", "lan", "--subnet", "10.1.2.0/29")
    assert "another network" in ask({"subnet": "10.1.0.0/16"}, 409)["error"]["message"]
    assert "cannot be changed" in node.ask("PATCH", "/v1/networks/lan", {"spec": {"subnet": "10.2.2.0/24"}},
                                           status=400)["error"]["message"]
    assert ask({"kind": "host-only"}, 201)
    off = dict(guest, state="stopped")
    plug = lambda name, status, **net: node.ask("POST", "/v1/instances", {"name": name, "spec": dict(off, networks=[
        dict({"kind": "network", "network": "lan"}, **net)])}, status=status)
    assert plug("p", 400, network="nowhere")["error"]["field"] == "spec.networks[0].network"
    assert plug("p", 400, address="10.1.2.1")["error"]["field"] == "spec.networks[0].address"
    assert plug("p", 400, address="10.1.3.4")["error"]["field"] == "spec.networks[0].address"
    assert plug("p", 400, mac="x\"; drop")["error"]["field"] == "spec.networks[0].mac"
    assert plug("p", 400, network="x", forwards=["tcp:80:80"])["error"]["field"] == "spec.networks[0].forwards"
    plug("p", 201, address="10.1.2.5", forwards=["tcp:8080:80"])
    assert plug("q", 409, address="10.1.2.5")["error"]["field"] == "spec.networks[0].address"
    assert plug("q", 409, forwards=["tcp:127.0.0.1:8080:80"])["error"]["field"] == "spec.networks[0].forwards[0]"
    # A subnet of 8 addresses has five for instances; who gets none is told.
    for k in range(5):
        plug(f"m{k}", 201)
    wait_for(lambda: "no address left" in node.ask("GET", "/v1/networks/lan")["status"]["reason"])
    addresses = [p.get("address") for p in node.ask("GET", "/v1/ports?network=lan")["items"]]
    assert sorted(filter(None, addresses)) == [f"10.1.2.{k}" for k in range(2, 7)] and addresses.count(None) == 1


def test_the_daemon_is_killed_while_networks_come_and_go(node):
    """Whatever the moment: what is on the host is what the documents say."""
    dice = random.Random(20261122)
    wanted = set()
    for k in range(12):
        name = f"n{k}"
        if wanted and dice.random() < 0.4:
            gone = wanted.pop()
            node.ask("DELETE", f"/v1/networks/{gone}", status=202)
        node.ask("POST", "/v1/networks", {"name": name, "spec": {"kind": dice.choice(["nat", "host-only"])}}, status=201)
        wanted.add(name)
        time.sleep(dice.random() * 0.2)
        node.kill()
        node.start()
    for name in wanted:
        node.wait(f"/v1/networks/{name}", "ready")
    wait_for(lambda: len(node.ask("GET", "/v1/networks")["items"]) == len(wanted))
    bridges = {n["status"]["bridge"] for n in node.ask("GET", "/v1/networks")["items"]}
    wait_for(lambda: len(node.dnsmasqs()) == len(wanted))
    assert set(node.links()) == bridges
    tables = node.here.run("nft", "list", "tables").split("\n")
    assert sum("inet viv_" in t for t in tables) == len(wanted) == sum("bridge viv_" in t for t in tables)
    node.viv("network", "rm", *sorted(wanted))
    assert node.links() == {} and node.dnsmasqs() == [] and node.here.run("nft", "list", "ruleset") == ""


def test_a_daemon_without_rights_says_so():
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    os.chown(folder, 65534, 65534)
    n = Node(folder)
    n.data, n.run = os.path.join(folder, "d"), os.path.join(folder, "r")
    n.proc = subprocess.Popen(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                               os.path.join(vivguest.ROOT, "build", "vivd"), "--data", n.data, "--run", n.run],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    n.socket = os.path.join(n.run, "api.sock")
    wait_for(lambda: os.path.exists(n.socket), 30)
    try:
        said = n.ask("POST", "/v1/networks", {"name": "x", "spec": {}}, status=403)
        assert "only root's" in said["error"]["message"]
        n.ask("POST", "/v1/networks", {"name": "x", "spec": {"kind": "user"}}, status=201)
    finally:
        n.end()
        subprocess.run(["rm", "-rf", folder], check=True)
