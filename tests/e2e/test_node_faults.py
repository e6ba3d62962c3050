# SPDX-License-Identifier: Apache-2.0
"""What the host does to the daemon: it is refused, or goes on with less, and the reason is told."""
import http.client
import json
import os
import random
import socket
import subprocess
import time

import pytest
from test_node import BUILD, Node, Unix, guest, node  # noqa: F401
from test_pool import Apart

STOPPED = {"kernel": "/boot/vmlinuz", "state": "stopped", "networks": []}
MANY = 3000


class Small(Apart):
    """A daemon whose data is a file system of its own."""
    def __init__(self, folder, size):
        super().__init__(folder)
        os.mkdir(self.data, 0o700)
        self.prefix += ["sh", "-c", f'mount -t tmpfs -o size={size},mode=700 tmpfs "{self.data}" && exec "$@"', "sh"]


@pytest.fixture
def small():
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    n = Small(folder, "3M")
    yield n.start()
    n.end()
    subprocess.run(["rm", "-rf", folder], check=True)


def post(n, name, labels=None):
    """(status, document) of making a machine that is off."""
    conn = Unix(n.socket)
    conn.request("POST", "/v1/instances", json.dumps({"name": name, "labels": labels or {}, "spec": STOPPED}))
    answer = conn.getresponse()
    doc = json.loads(answer.read())
    conn.close()
    return answer.status, doc


def fill(n):
    """Names of those that were made until the disk was full, and what was said then."""
    made = []
    for i in range(MANY):
        status, doc = post(n, f"m-{i}", {"text": "x" * 1000})
        if status != 201:
            return made, status, doc
        made.append(f"m-{i}")
    raise AssertionError("the disk is not full yet")


def names(n):
    return {i["name"] for i in n.ask("GET", "/v1/instances?fields=name")["items"]}


def test_a_full_disk_refuses_changes_and_nothing_else(small):
    made, status, doc = fill(small)
    assert made and status == 507 and doc["error"]["code"] == "no_space" and "no space left" in doc["error"]["message"]
    # What was said to be made is there, the rest is not; reading goes on.
    assert names(small) == set(made)
    small.ask("GET", f"/v1/instances/{made[0]}")
    # Room, and it goes on by itself.
    small.inside("mount", "-o", "remount,size=32M", small.data)
    assert post(small, "later")[0] == 201
    assert names(small) == {*made, "later"}


def test_a_daemon_whose_disk_is_read_only_says_so(node):  # noqa: F811
    node.kill()
    read_only = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c",
                 f'mount --bind "{node.data}" "{node.data}" && mount -o remount,ro,bind "{node.data}" && exec "$@"', "sh"]
    said = refused(node, prefix=read_only)
    assert "the file system is read-only" in said and node.data in said, said
    node.start()


def refused(n, *args, prefix=()):
    """What a daemon says that does not start."""
    done = subprocess.run([*prefix, os.path.join(BUILD, "vivd"), "--data", n.data, "--run", n.run, *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, (done.returncode, done.stderr)
    return done.stderr


def test_a_port_that_is_taken_is_named(node):  # noqa: F811
    node.kill()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"cannot listen on port {port}" in refused(node, "--listen", f"https://127.0.0.1:{port}")
    node.start("--listen", f"https://127.0.0.1:{port}")


def test_a_forward_from_a_port_that_is_taken_is_told_and_tried_again(node, guest):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        node.ask("POST", "/v1/instances", {"name": "a", "spec": {
            **guest, "networks": [{"kind": "user", "forwards": [f"tcp:127.0.0.1:{port}:22"]}]}}, status=201)
        failed = node.wait("/v1/instances/a", "failed")
        assert str(port) in failed["status"]["reason"] and "taken by another program" in failed["status"]["reason"], failed["status"]
    node.wait("/v1/instances/a", "running")


def certificate(folder, name):
    paths = [os.path.join(folder, f"{name}.{end}") for end in ("cert", "key")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
                    "-keyout", paths[1], "-out", paths[0]], check=True, capture_output=True)
    return paths


def test_certificates_that_are_broken_are_refused_with_the_file(node, tmp_path):  # noqa: F811
    node.kill()
    (cert, key), (_, other) = certificate(tmp_path, "a"), certificate(tmp_path, "b")
    broken = tmp_path / "broken"
    with open(cert, "rb") as f:
        broken.write_bytes(f.read()[:200])
    listen = ("--listen", "https://127.0.0.1:0")
    for tls in ((broken, key), (cert, broken), (cert, other), (os.devnull, key)):
        said = refused(node, *listen, "--tls-cert", str(tls[0]), "--tls-key", str(tls[1]))
        assert any(str(t) in said for t in tls), said
    node.start(*listen)
    node.kill()
    # Its own, half written by a disk that was full, is made anew; the key, by which clients know it, is not.
    own, own_key = os.path.join(node.data, "tls/cert.pem"), os.path.join(node.data, "tls/key.pem")
    os.truncate(own, 100)
    node.start(*listen)
    assert os.path.getsize(own) > 100
    node.kill()
    os.truncate(own_key, 100)
    assert own_key in refused(node, *listen)
    node.start()                        # who is on this host comes in without
