# SPDX-License-Identifier: Apache-2.0
"""What the host has no more of: descriptors, processes, files. The one thing is refused with the reason, and the rest goes on."""
import errno
import json
import os
import random
import socket
import subprocess

import pytest
from test_node import Node, Unix, guest  # noqa: F401
from test_node_disk import unwell  # noqa: F401 (a fixture)
from test_node_faults import Small, names, post
from unwell import until

FILES = 96


def folder_of_its_own():
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    return folder


@pytest.fixture
def few():
    """A daemon that may have few descriptors."""
    n = Node(folder_of_its_own())
    n.prefix = ["prlimit", f"--nofile={FILES}:{FILES}"]
    yield n.start()
    n.end()
    subprocess.run(["rm", "-rf", n.folder], check=True)


@pytest.fixture
def crowded():
    """A daemon whose file system has few inodes."""
    n = Small(folder_of_its_own(), "64M,nr_inodes=48")
    yield n.start()
    n.end()
    subprocess.run(["rm", "-rf", n.folder], check=True)


def ask_on(conn, method, path, body=None):
    conn.request(method, path, None if body is None else json.dumps(body))
    answer = conn.getresponse()
    return answer.status, json.loads(answer.read())


def said(doc):
    """What is seen of it, which may be nothing yet."""
    return doc.get("status", {}).get("state", ""), doc.get("status", {}).get("reason", "")


def test_a_daemon_without_descriptors_answers_who_is_there_and_goes_on_later(few, guest):  # noqa: F811
    inside = Unix(few.socket)
    assert ask_on(inside, "GET", "/v1/instances")[0] == 200
    crowd = []
    used = f"/proc/{few.proc.pid}/fd"
    while len(os.listdir(used)) < FILES and len(crowd) < 2 * FILES:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60)
        crowd.append(s)
        s.connect(few.socket)
        s.sendall(b"GET /v1/setup HTTP/1.1\r\nHost: viv\r\n")          # and nothing more
        count = len(crowd)
        until(lambda want=count: len(os.listdir(used)) >= FILES or len(os.listdir(used)) > want)
    assert ask_on(inside, "POST", "/v1/instances", {"name": "a", "spec": guest})[0] == 201
    until(lambda: "oo many open files" in said(ask_on(inside, "GET", "/v1/instances/a")[1])[1])
    for s in crowd:
        s.close()
    inside.close()
    few.wait("/v1/instances/a", "running")


def test_a_host_without_processes_says_so_and_the_machine_starts_later(unwell, guest):  # noqa: F811
    with unwell.with_fault(fork_error=errno.EAGAIN):
        unwell.ask("POST", "/v1/instances", {"name": "a", "spec": guest}, status=201)
        unwell.until(lambda: "temporarily unavailable" in said(unwell.ask("GET", "/v1/instances/a"))[1])
        assert "viv-vmm" in said(unwell.ask("GET", "/v1/instances/a"))[1]
        assert post(unwell, "b")[0] == 201
    unwell.wait("/v1/instances/a", "running")


def test_a_file_system_without_inodes_costs_what_needs_one(crowded):
    made = []
    while True:
        name = f"v-{len(made)}"
        assert len(made) < 100, "there are inodes still"
        crowded.ask("POST", "/v1/volumes", {"name": name, "spec": {"size": "1M"}}, status=201)
        doc = until(lambda n=name: said(d := crowded.ask("GET", f"/v1/volumes/{n}"))[0] in ("ready", "failed") and d)
        if said(doc)[0] == "failed":
            break
        made.append(name)
    assert made and "o space left" in said(doc)[1], doc
    # Documents need none.
    assert post(crowded, "a")[0] == 201 and names(crowded) == {"a"}
    for gone in made[:4]:
        crowded.ask("DELETE", f"/v1/volumes/{gone}", status=202)
    crowded.wait(f"/v1/volumes/{name}", "ready")
