# SPDX-License-Identifier: Apache-2.0
"""Images and volumes that a client sends: in parts, after interruptions of all kinds, by strangers."""
import hashlib
import json
import os
import signal
import socket
import subprocess
import time

import pytest
from test_access import site  # noqa: F401
from test_node import BUILD, Unix, node  # noqa: F401

MIB = 1 << 20


def disk(*args):
    subprocess.run([os.path.join(BUILD, "viv"), "disk", *map(str, args)], check=True, timeout=60, stdout=subprocess.DEVNULL)


def put(node, path, data, off=None, total=None, **headers):  # noqa: F811
    """(status, document, headers) of a part that is sent."""
    conn = Unix(node.socket)
    if off is not None:
        headers["Content-Range"] = f"bytes {off}-{off + len(data) - 1}/{total}"
    conn.request("PUT", path, data, headers)
    answer = conn.getresponse()
    doc = json.loads(answer.read())
    conn.close()
    return answer.status, doc, answer.headers


def make(node, kind, name, size, status=201, spec=None, **upload):  # noqa: F811
    body = {"name": name, "spec": {**(spec or {}), "source": {"upload": {"size": size, **upload}}}}
    return node.ask("POST", f"/v1/{kind}s", body, status=status)


def wait(node, path, check, timeout=60):  # noqa: F811
    end = time.monotonic() + timeout
    while not check(doc := node.ask("GET", path)):
        assert time.monotonic() < end, (doc, node.log())
        time.sleep(0.02)
    return doc


def received(node, path):  # noqa: F811
    return node.ask("GET", path)["status"]["upload"]["received"]


def begin(node, path, total, data, off=0):  # noqa: F811
    """A connection on which DATA has been sent, as the beginning of all that follows OFF."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(node.socket)
    s.sendall(f"PUT {path}/content HTTP/1.1\r\nHost: viv\r\nContent-Length: {total - off}\r\n"
              f"Content-Range: bytes {off}-{total - 1}/{total}\r\n\r\n".encode() + data)
    return s


def same(node, name, raw, tmp_path):  # noqa: F811
    """Does the image NAME have what RAW has?"""
    out = tmp_path / f"{name}.out"
    node.viv("image", "download", name, str(out))
    disk("compare", out, raw)


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(os.urandom(3 * MIB))
    return path


def test_a_disk_is_sent_whole_and_in_parts(node, raw, tmp_path):  # noqa: F811
    data = raw.read_bytes()
    size, digest = len(data), hashlib.sha256(data).hexdigest()
    made = make(node, "image", "a", size, sha256=digest)
    assert made["spec"]["source"]["upload"]["keep_seconds"] == 86400
    seen = node.wait("/v1/images/a", "waiting")["status"]
    assert seen["upload"]["received"] == 0 and seen["upload"]["size"] == size and seen["upload"]["expires"] > made["created"]
    path = "/v1/images/a/content"
    # Nothing is there to be fetched, or stood on.
    assert node.ask("GET", path, status=503)["error"]["code"] == "try_again"
    for part, off, total, status, code, word in (
            (b"", None, None, 400, "invalid", "no content"), (data[:9], None, None, 400, "invalid", "Content-Range"),
            (data[:9], 0, 9, 400, "invalid", f"{size} bytes"), (data[:9], size - 4, size + 5, 400, "invalid", "bytes"),
            (data[:9], 9, size, 409, "offset", "0 bytes"), (data + b"x", None, None, 413, "too_long", "more")):
        answer = put(node, path, part, off, total)
        assert (answer[0], answer[1]["error"]["code"]) == (status, code) and word in answer[1]["error"]["message"], answer
    assert put(node, path, data[:9], Content_Range="x")[0] == 400
    status, doc, headers = put(node, path, data[:MIB], 0, size)
    assert (status, doc, headers["upload-offset"]) == (200, {"received": MIB, "size": size}, str(MIB))
    status, doc, headers = put(node, path, data[:MIB], 0, size)
    assert (status, doc["error"]["code"], headers["upload-offset"]) == (409, "offset", str(MIB))
    assert received(node, "/v1/images/a") == MIB
    # Longer than what is kept in memory.
    status, doc, _ = put(node, path, data[MIB:], MIB, size)
    assert (status, doc["received"]) == (200, size)
    seen = node.wait("/v1/images/a", "ready")["status"]
    assert "upload" not in seen and "progress" not in seen
    same(node, "a", raw, tmp_path)
    assert put(node, path, data)[1]["error"]["code"] == "busy"
    uid = made["uid"]
    wait(node, "/v1/images/a", lambda _: not os.path.exists(os.path.join(node.data, "images", uid, "upload")))
    # The tool that everybody has.
    make(node, "image", "b", size)
    subprocess.run(["curl", "-sf", "-T", str(raw), "--unix-socket", node.socket, "http://viv/v1/images/b/content"], check=True, timeout=60,
                   stdout=subprocess.DEVNULL)
    node.wait("/v1/images/b", "ready")
    same(node, "b", raw, tmp_path)


def test_one_at_a_time_and_nobody_waits_for_a_slow_one(node, raw):  # noqa: F811
    data, path = raw.read_bytes(), "/v1/images/a"
    make(node, "image", "a", len(data))
    with begin(node, path, len(data), data[:MIB]):
        node.wait(path, "uploading")
        status, doc, _ = put(node, f"{path}/content", data[:9], 0, len(data))
        assert (status, doc["error"]["code"]) == (409, "busy") and "somebody else" in doc["error"]["message"]
        wait(node, path, lambda d: d["status"]["progress"] == {"what": "uploading", "done": MIB, "total": len(data)})
    # It has gone away: what it has sent stays.
    assert wait(node, path, lambda d: d["status"]["state"] == "waiting")["status"]["upload"]["received"] == MIB
    with begin(node, path, len(data), data[MIB:], MIB) as s:
        assert b"200 OK" in s.recv(4096)
    node.wait(path, "ready")


def test_a_daemon_that_is_killed_has_what_it_said(node, tmp_path):  # noqa: F811
    data, path = os.urandom(40 * MIB), "/v1/images/a"
    (tmp_path / "raw").write_bytes(data)
    make(node, "image", "a", len(data), sha256=hashlib.sha256(data).hexdigest())
    assert put(node, f"{path}/content", data[:MIB], 0, len(data))[0] == 200
    node.kill(signal.SIGKILL)
    node.start()
    assert received(node, path) == MIB
    with begin(node, path, len(data), data[MIB:30 * MIB], MIB):
        wait(node, path, lambda d: d["status"]["upload"]["received"] > MIB)
        node.kill(signal.SIGKILL)
    node.start()
    at = wait(node, path, lambda d: d["status"]["state"] == "waiting")["status"]["upload"]["received"]
    assert MIB < at <= 30 * MIB
    assert put(node, f"{path}/content", data[at:], at, len(data))[0] == 200
    # What is being made of it goes on without a daemon, or begins anew.
    node.kill(signal.SIGKILL)
    node.start()
    node.wait(path, "ready")
    same(node, "a", tmp_path / "raw", tmp_path)


def test_the_command_goes_on_after_all_that_may_happen(node, tmp_path):  # noqa: F811
    raw = tmp_path / "raw"
    raw.write_bytes(os.urandom(48 * MIB))
    with subprocess.Popen([os.path.join(BUILD, "viv"), "image", "upload", "a", str(raw), "--socket", node.socket], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        end = time.monotonic() + 60
        while not node.get_any("/v1/images/a").get("status", {}).get("upload", {}).get("received"):
            if p.poll() is not None or node.get_any("/v1/images/a").get("status", {}).get("state") in ("making", "ready"):
                break
            assert time.monotonic() < end
        node.kill(signal.SIGKILL)
        node.start()
        _, said = p.communicate(timeout=120)
        assert p.returncode == 0, said
    same(node, "a", raw, tmp_path)
    assert "already" in node.viv("image", "upload", "a", str(raw), status=6)
    # Another command goes on where one has ended.
    digest = hashlib.sha256(raw.read_bytes()).hexdigest()
    make(node, "image", "b", 48 * MIB, sha256=digest)
    assert put(node, "/v1/images/b/content", b"\0" * MIB, 0, 48 * MIB)[0] == 200
    # It believes what is there, and the checksum does not.
    said = node.viv("image", "upload", "b", str(raw), status=1)
    assert "sha256" in said and digest in said
    assert node.ask("GET", "/v1/images/b")["status"]["upload"]["received"] == 0
    assert json.loads(node.viv("image", "upload", "b", str(raw), "--json"))["status"]["state"] == "ready"
    same(node, "b", raw, tmp_path)
    (tmp_path / "other").write_bytes(b"x" * 512)
    assert "already" in node.viv("image", "upload", "b", str(tmp_path / "other"), status=6)


def test_what_strangers_send_names_nothing_and_is_what_it_says(node, raw, tmp_path):  # noqa: F811
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * MIB)
    disk("create", tmp_path / "layer.qcow2", "--backing", secret, "--backing-format", "raw")
    (tmp_path / "flat.vmdk").write_text(f'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
                                        f'RW 2048 FLAT "{secret}" 0\n'.ljust(1024, "\n"))
    for name, file, word in (("layer", "layer.qcow2", "not inside"), ("flat", "flat.vmdk", "not inside")):
        said = node.viv("image", "upload", name, str(tmp_path / file), status=1)
        assert word in said, said
        node.ask("GET", f"/v1/images/{name}/content", status=503)
    # The same bytes are a raw disk for those who say so: a guest's own.
    node.viv("image", "upload", "plain", str(tmp_path / "layer.qcow2"), "--format", "raw")
    uid = node.ask("GET", "/v1/images/plain")["uid"]
    said = subprocess.run([os.path.join(BUILD, "viv"), "disk", "info", "--json", os.path.join(node.data, "images", uid, "disk.qcow2")],
                          capture_output=True, check=True, timeout=60)
    assert json.loads(said.stdout)["virtual-size"] == (tmp_path / "layer.qcow2").stat().st_size
    broken = tmp_path / "broken.qcow2"
    disk("create", broken, "64M")
    with open(broken, "r+b") as f:
        f.seek(40)
        f.write(b"\xff" * 8)   # where its first table is
    assert "could not be made" in node.viv("image", "upload", "broken", str(broken), status=1)
    (tmp_path / "odd").write_bytes(b"x" * 1000)
    assert "512" in node.viv("image", "upload", "odd", str(tmp_path / "odd"), status=1)
    for bad in ({"sha256": "abc"}, {"sha256": "A" * 64}, {"format": "odd"}, {"size": 0}, {"size": "65T"}, {"keep_seconds": 0}):
        error = node.ask("POST", "/v1/images", {"name": "x", "spec": {"source": {"upload": {"size": 512, **bad}}}}, status=400)["error"]
        assert error["field"] == f"spec.source.upload.{next(iter(bad))}", error
    node.ask("POST", "/v1/images", {"name": "x", "spec": {"source": {"upload": {"size": 512}, "build": "debian"}}}, status=400)
    node.ask("PATCH", "/v1/images/plain", {"spec": {"source": {"upload": {"size": 1024}}}}, status=400)
    assert put(node, "/v1/images/none/content", b"x")[0] == 404
    for name in ("layer", "flat", "plain", "broken", "odd"):
        node.viv("image", "rm", name)
    assert os.listdir(os.path.join(node.data, "images")) == []


def test_volumes_begin_as_what_is_sent(node, tmp_path):  # noqa: F811
    folder = os.path.join(node.data, "volumes")
    with open(tmp_path / "raw", "wb") as f:
        f.write(os.urandom(2 * MIB))
        f.truncate(64 * MIB)
    disk("convert", tmp_path / "raw", tmp_path / "disk.vmdk")
    node.viv("volume", "upload", "v", str(tmp_path / "disk.vmdk"))
    assert node.ask("GET", "/v1/volumes/v")["spec"]["size"] == 64 * MIB
    node.viv("volume", "download", "v", str(tmp_path / "v.qcow2"))
    disk("compare", tmp_path / "v.qcow2", tmp_path / "raw")
    # Room to grow.
    node.viv("volume", "upload", "large", str(tmp_path / "disk.vmdk"), "--size", "128M")
    node.viv("volume", "download", "large", str(tmp_path / "large.qcow2"))
    assert node.ask("GET", "/v1/volumes/large")["status"]["size"] == 128 * MIB
    subprocess.run([os.path.join(BUILD, "viv"), "disk", "check", str(tmp_path / "large.qcow2")], check=True, timeout=60, stdout=subprocess.DEVNULL)
    # One that is too small says how large it would have to be; and it is not sent again.
    said = node.viv("volume", "upload", "small", str(tmp_path / "disk.vmdk"), "--size", "32M", status=1)
    assert str(64 * MIB) in said, said
    node.ask("PATCH", "/v1/volumes/small", {"spec": {"size": "64M"}})
    assert node.wait("/v1/volumes/small", "ready")["status"]["size"] == 64 * MIB
    # A volume without that is what it was.
    node.viv("volume", "create", "empty", "1M")
    assert put(node, "/v1/volumes/empty/content", b"x")[1]["error"]["code"] == "busy"
    node.kill()
    node.start()
    for name in ("v", "large", "small", "empty"):
        node.wait(f"/v1/volumes/{name}", "ready")
    node.viv("volume", "rm", "v", "large", "small", "empty")
    assert os.listdir(folder) == [] and os.listdir(os.path.join(node.data, "uploads")) == []


def test_what_is_given_up_leaves_nothing(node):  # noqa: F811
    make(node, "image", "a", MIB, keep_seconds=1)
    make(node, "volume", "v", MIB, spec={"size": MIB}, keep_seconds=1)
    put(node, "/v1/images/a/content", b"x" * 1000, 0, MIB)
    for path in ("/v1/images/a", "/v1/volumes/v"):
        node.wait_gone(path)
    # Deleted in the middle of it.
    make(node, "image", "b", 4 * MIB)
    make(node, "volume", "w", 4 * MIB, spec={"size": 4 * MIB})
    with begin(node, "/v1/images/b", 4 * MIB, b"x" * MIB) as s, begin(node, "/v1/volumes/w", 4 * MIB, b"x" * MIB) as t:
        for path, conn in (("/v1/images/b", s), ("/v1/volumes/w", t)):
            node.wait(path, "uploading")
            node.ask("DELETE", path, status=202)
            answer = b""
            while b"being deleted" not in answer and (part := conn.recv(4096)):
                answer += part
            assert b"409" in answer and b"being deleted" in answer, answer
            node.wait_gone(path)
    for folder in ("images", "volumes"):
        assert os.listdir(os.path.join(node.data, folder)) == []


def test_it_takes_what_one_may_have_and_what_there_is(node):  # noqa: F811
    node.viv("quota", "set", "default", "disk=10M")
    make(node, "image", "a", 6 * MIB)
    error = make(node, "image", "b", 5 * MIB, status=422)["error"]
    assert error["code"] == "quota" and error["field"] == "spec.source.upload.size"
    node.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "5M"}}, status=422)
    assert node.ask("GET", "/v1/projects/default/usage")["disk"]["used"] == 6 * MIB
    node.viv("quota", "set", "default", "disk=none")
    error = make(node, "image", "b", 1 << 46, status=507)["error"]
    assert error["code"] == "no_space" and "room" in error["message"], error
    # The pool is full: nothing more is taken, and what is there stays.
    assert put(node, "/v1/images/a/content", b"x" * MIB, 0, 6 * MIB)[0] == 200
    node.ask("PATCH", "/v1/pools/default", {"spec": {"warn_percent": 1, "limit_percent": 1}})
    node.wait("/v1/pools/default", "full")
    status, doc, _ = put(node, "/v1/images/a/content", b"x" * MIB, MIB, 6 * MIB)
    assert (status, doc["error"]["code"]) == (507, "no_space")
    assert received(node, "/v1/images/a") == MIB
    node.ask("PATCH", "/v1/pools/default", {"spec": {"limit_percent": 100, "warn_percent": 100}})
    wait(node, "/v1/pools/default", lambda d: d["status"]["state"] != "full")
    assert put(node, "/v1/images/a/content", b"x" * (5 * MIB), MIB, 6 * MIB)[0] == 200
    node.wait("/v1/images/a", "ready")


def test_only_those_of_the_project_send(site):  # noqa: F811
    for project in ("a", "b"):
        site.ask("POST", "/v1/projects", {"name": project, "spec": {}}, status=201)
    owner, viewer, other = site.user("owner", a="operator"), site.user("viewer", a="viewer"), site.user("other", b="operator")
    body = {"name": "i", "spec": {"source": {"upload": {"size": 4}}}}
    assert [site.far("POST", "/v1/images?project=a", body, token)[0] for token in (None, viewer, other, owner)] == [401, 403, 403, 201]
    # json.dumps(1234) is the four bytes that are sent.
    send = lambda token: site.far("PUT", "/v1/images/i/content?project=a", 1234, token)[0]
    assert [send(token) for token in (None, viewer, other)] == [401, 403, 403]
    assert site.wait("/v1/images/i?project=a", "waiting")["status"]["upload"]["received"] == 0
    assert send(owner) == 200
    # Somebody else's name for something of one's own is another thing.
    assert site.far("PUT", "/v1/images/i/content?project=b", 1234, other)[0] == 404


def test_how_far_what_is_made_has_come_is_told(node, tmp_path):  # noqa: F811
    # One for each time: who opens the first again while its writer has not gone yet reads the end of that.
    tool, go, on = tmp_path / "tool", tmp_path / "go", tmp_path / "on"
    os.mkfifo(go)
    os.mkfifo(on)
    tool.write_text(f'#!/bin/sh\nmkdir -p "$1"\necho "I: downloading packages with apt..." >"$1/image.log"\nread -r x <{go}\n'
                    f'echo "I: extracting archives..." >>"$1/image.log"\nread -r x <{on}\n'
                    'truncate -s 1M "$1/root.img"; touch "$1/stamp"\n')
    tool.chmod(0o755)
    node.kill()
    node.start("--image-tool", str(tool))
    node.ask("POST", "/v1/images", {"name": "d", "spec": {"source": {"build": "debian"}}}, status=201)
    progress = lambda d: d.get("status", {}).get("progress", {})
    assert progress(wait(node, "/v1/images/d", lambda d: progress(d).get("what") == "fetching")) == {"what": "fetching", "done": 10, "total": 100}
    go.write_text("x\n")
    wait(node, "/v1/images/d", lambda d: progress(d).get("what") == "unpacking" and progress(d)["done"] == 30)
    on.write_text("x\n")
    assert "progress" not in node.wait("/v1/images/d", "ready")["status"]


def test_who_interrupts_before_a_byte_is_sent_is_told_so(node, tmp_path):       # noqa: F811
    with open(tmp_path / "large", "wb") as f:
        f.truncate(64 << 30)
    with subprocess.Popen([os.path.join(BUILD, "viv"), "volume", "upload", "--socket", node.socket, "v", tmp_path / "large"],
                          stderr=subprocess.PIPE, text=True) as upload:
        time.sleep(1)           # it reads the file for its checksum
        upload.send_signal(signal.SIGINT)
        assert upload.communicate(timeout=60)[1] == "viv: error: interrupted\n" and upload.returncode not in (0, None)
    assert not node.ask("GET", "/v1/volumes")["items"]
