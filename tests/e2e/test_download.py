# SPDX-License-Identifier: Apache-2.0
"""Images from web servers: a real one, with an authority of its own, that stops in the middle, changes its mind, and sends one elsewhere."""
import hashlib
import http.server
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from authority import Authority
from test_node import BUILD, node  # noqa: F401
from test_upload import MIB, disk, same, wait

CONF = """
daemon off; pid nginx.pid; error_log stderr; worker_processes 1; master_process off; {user}
events {{ worker_connections 64; }}
http {{
  access_log access.log;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  ssl_certificate {cert}/cert.pem; ssl_certificate_key {cert}/key.pem;
  server {{ listen 127.0.0.1:{tls} ssl; listen 127.0.0.2:{tls} ssl; listen 127.0.0.1:{plain}; root {root}; {how}
    location /moved/ {{ rewrite ^/moved/(.*)$ https://127.0.0.1:{tls}/$1 redirect; }}
    location /away/ {{ rewrite ^/away/(.*)$ https://127.0.0.2:{tls}/$1 redirect; }}
    location /down/ {{ rewrite ^/down/(.*)$ http://127.0.0.1:{plain}/$1 redirect; }}
    location /file/ {{ return 302 file:///etc/passwd; }}
    location /round/ {{ return 302 $request_uri; }}
    location /secret/ {{ return 403; }}
  }}
}}
"""
STALLS = "limit_rate_after 20m; limit_rate 1k;"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Web:
    def __init__(self, folder, cert):
        self.folder, self.cert, self.proc = folder, cert, None
        self.root = folder / "www"
        self.root.mkdir(parents=True)
        self.tls, self.plain = free_port(), free_port()
        self.https, self.http = f"https://127.0.0.1:{self.tls}", f"http://127.0.0.1:{self.plain}"

    def start(self, how=""):
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(CONF.format(cert=self.cert, tls=self.tls, plain=self.plain, root=self.root, how=how, user=user))
        log = open(self.folder / "log", "ab")
        self.proc = subprocess.Popen([shutil.which("nginx") or "/usr/sbin/nginx", "-p", str(self.folder), "-c", "nginx.conf"], stderr=log)
        log.close()
        end = time.monotonic() + 30
        while True:
            assert self.proc.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.plain), 5).close()
                return self
            except OSError:
                time.sleep(0.02)

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait(30)

    def put(self, name, data):
        (self.root / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def asked(self):
        """What has been asked for: (path, status)."""
        path = self.folder / "access.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(line.split('"')[1].split()[1], int(line.split('"')[2].split()[0])) for line in lines]


@pytest.fixture
def web(tmp_path):
    w = Web(tmp_path / "web", Authority(tmp_path / "ca").issue("server", "IP:127.0.0.1,IP:127.0.0.2"))
    yield w.start()
    w.stop()


def allow(node, web, *nets):  # noqa: F811
    node.kill()
    node.start("--fetch-ca", str(web.cert / "ca.pem"), *[word for net in nets or ("127.0.0.1/32",) for word in ("--fetch-from", net)])


def make(node, name, url, status=201, **download):  # noqa: F811
    return node.ask("POST", "/v1/images", {"name": name, "spec": {"source": {"download": {"url": url, **download}}}}, status=status)


def fails(node, name, url, *words, **download):  # noqa: F811
    make(node, name, url, **download)
    reason = node.wait(f"/v1/images/{name}", "failed")["status"]["reason"]
    assert all(word in reason for word in words), reason


def folder_of(node, name):  # noqa: F811
    return os.path.join(node.data, "images", node.ask("GET", f"/v1/images/{name}")["uid"])


def stalled(node, name):  # noqa: F811
    """Wait until most of NAME is there and safe, and no more comes. The number of the process that fetches it."""
    folder, end = folder_of(node, name), time.monotonic() + 60
    while True:
        assert time.monotonic() < end, node.log()
        try:
            with open(os.path.join(folder, "fetched.from"), encoding="utf-8") as f:
                if int(f.read(20) or 0) >= 16 * MIB:
                    break
        except FileNotFoundError:
            pass
        time.sleep(0.02)
    with open(os.path.join(folder, "process"), encoding="utf-8") as f:
        return int(f.read())


def test_a_disk_comes_from_a_web_server(node, web, tmp_path):  # noqa: F811
    data = os.urandom(3 * MIB)
    raw = tmp_path / "raw"
    raw.write_bytes(data)
    disk("convert", raw, web.root / "disk.qcow2")
    digest = web.put("disk.raw", data)
    allow(node, web)
    node.viv("image", "import", f"{web.https}/disk.qcow2", "a")
    same(node, "a", raw, tmp_path)
    # What it came as goes.
    wait(node, "/v1/images/a", lambda _: sorted(os.listdir(folder_of(node, "a"))) == ["disk.qcow2", "log", "process", "progress"])
    for name, url, kind in (("b", f"{web.https}/moved/disk.raw", "sha256"), ("c", f"{web.http}/disk.raw", "sha512"),
                            ("d", f"{web.http}/moved/disk.raw", "sha256")):
        node.viv("image", "import", url, name, "--checksum", f"{kind}:{hashlib.new(kind, data).hexdigest()}")
        same(node, name, raw, tmp_path)
    assert make(node, "e", f"{web.https}/disk.raw", sha256=digest, size=len(data), format="raw")["spec"]["source"]["download"]["sha256"] == digest
    node.wait("/v1/images/e", "ready")
    # It is what the daemon's own tool does.
    out = tmp_path / "out"
    fetch = [os.path.join(BUILD, "viv"), "disk", "fetch", "--ca", str(web.cert / "ca.pem")]
    subprocess.run([*fetch, f"{web.https}/disk.raw", str(out)], check=True, timeout=60)
    assert out.read_bytes() == data
    assert subprocess.run([*fetch, f"{web.https}/disk.raw", str(out)], check=False, timeout=60, stderr=subprocess.DEVNULL).returncode == 6


def test_what_is_not_right_is_told_and_not_made(node, web):  # noqa: F811
    digest = web.put("disk.raw", b"x" * MIB)
    web.put("empty", b"")
    web.put("odd", b"x" * 1000)
    allow(node, web)
    fails(node, "sum", f"{web.https}/disk.raw", digest, "0" * 64, sha256="0" * 64)
    assert not [name for name in os.listdir(folder_of(node, "sum")) if name.startswith(("fetched", "upload", "disk"))]
    fails(node, "none", f"{web.https}/none", "no such file", "404")
    fails(node, "secret", f"{web.https}/secret/disk.raw", "does not give", "403")
    fails(node, "long", f"{web.https}/disk.raw", str(MIB), "may have 1000", size=1000)
    fails(node, "empty", f"{web.https}/empty", "empty")
    fails(node, "odd", f"{web.https}/odd", "512")
    # No redirect to what is less safe, with a checksum neither; nor in circles.
    fails(node, "down", f"{web.https}/down/disk.raw", "https://", sha256=digest)
    fails(node, "file", f"{web.https}/file/x", "no address of a file", sha256=digest)
    fails(node, "round", f"{web.https}/round/x", "more than 8")
    assert "could not be made" in node.viv("image", "import", f"{web.https}/none", "none2", status=1)
    for field, bad in (("url", {"url": "file:///etc/passwd"}), ("url", {"url": "/etc/passwd"}), ("url", {"url": f"{web.http}/disk.raw"}),
                       ("url", {"url": "https://me:secret@a.example/x"}), ("url", {"url": "ftp://a.example/x"}), ("url", {}),
                       ("sha256", {"url": f"{web.https}/x", "sha256": "A" * 64}), ("sha512", {"url": f"{web.https}/x", "sha512": "0" * 64}),
                       ("sha512", {"url": f"{web.https}/x", "sha256": "0" * 64, "sha512": "0" * 128}),
                       ("format", {"url": f"{web.https}/x", "format": "odd"}), ("size", {"url": f"{web.https}/x", "size": 0})):
        error = node.ask("POST", "/v1/images", {"name": "x", "spec": {"source": {"download": bad}}}, status=400)["error"]
        assert error["field"] == f"spec.source.download.{field}", error
    node.ask("POST", "/v1/images", {"name": "x", "spec": {"source": {"download": {"url": "https://a.example/x"}, "build": "debian"}}}, status=400)
    assert "checksum" in node.viv("image", "import", f"{web.https}/disk.raw", "x", "--checksum", "md5:1", status=1)
    # What has failed is tried again when somebody says so.
    web.put("none", b"y" * MIB)
    node.ask("PATCH", "/v1/images/none", {"labels": {"again": "1"}})
    node.wait("/v1/images/none", "ready")


def test_it_counts_as_what_it_takes(node, web):  # noqa: F811
    web.put("disk.raw", os.urandom(2 * MIB))
    allow(node, web)
    node.viv("quota", "set", "default", "disk=3M")
    error = make(node, "a", f"{web.https}/disk.raw", status=422, size=4 * MIB)["error"]
    assert error["code"] == "quota" and error["field"] == "spec.source.download.size", error
    make(node, "a", f"{web.https}/disk.raw")
    node.wait("/v1/images/a", "ready")
    assert 2 * MIB <= node.ask("GET", "/v1/projects/default/usage")["disk"]["used"] < 3 * MIB
    make(node, "b", f"{web.https}/disk.raw", status=422, size=2 * MIB)
    # There is no room at all: what runs ends, and says why.
    node.viv("quota", "set", "default", "disk=none")
    node.viv("image", "rm", "a")
    node.ask("PATCH", "/v1/pools/default", {"spec": {"warn_percent": 1, "limit_percent": 1}})
    node.wait("/v1/pools/default", "full")
    assert make(node, "c", f"{web.https}/disk.raw", status=507)["error"]["code"] == "no_space"


def test_only_servers_that_are_known_and_not_those_of_the_node(node, web):  # noqa: F811
    web.put("disk.raw", b"x" * MIB)
    url = f"{web.https}/disk.raw"
    # Nothing of the host's, by whatever name, unless the administrator says so.
    fails(node, "own", url, "127.0.0.1", "--fetch-from")
    fails(node, "named", f"https://localhost:{web.tls}/disk.raw", "--fetch-from")
    fails(node, "mapped", f"https://[::ffff:127.0.0.1]:{web.tls}/disk.raw", "127.0.0.1", "--fetch-from")
    node.kill()
    node.start("--fetch-from", "127.0.0.1/32")
    fails(node, "stranger", url, "certificate", "--fetch-ca")
    assert web.asked() == []
    # The one that is allowed sends to one that is not.
    allow(node, web)
    fails(node, "away", f"{web.https}/away/disk.raw", "127.0.0.2")
    assert ("/away/disk.raw", 302) in web.asked()
    allow(node, web, "127.0.0.0/8")
    make(node, "now", f"{web.https}/away/disk.raw")
    node.wait("/v1/images/now", "ready")
    node.kill()
    for bad in (("--fetch-from", "127.0.0.1/8"), ("--fetch-from", "x"), ("--fetch-ca", "/nowhere")):
        done = subprocess.run([node.proc.args[0], "--data", node.data, "--run", node.run, *bad], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and bad[1] in done.stderr, done.stderr


def stall(node, web, tmp_path):         # noqa: F811
    """The image a comes, and stops to: its file, and the process that fetches it."""
    raw = tmp_path / "raw"
    raw.write_bytes(os.urandom(24 * MIB))
    digest = web.put("disk.raw", raw.read_bytes())
    allow(node, web)
    web.stop()
    web.start(STALLS)
    make(node, "a", f"{web.https}/disk.raw", sha256=digest)
    return raw, stalled(node, "a")


def test_it_goes_on_after_all_that_may_happen(node, web, tmp_path):  # noqa: F811
    raw, fetcher = stall(node, web, tmp_path)
    seen = wait(node, "/v1/images/a", lambda d: d["status"].get("progress", {}).get("done", 0) >= 16 * MIB)["status"]
    assert seen["state"] == "making" and seen["progress"]["what"] == "downloading" and seen["progress"]["total"] == 24 * MIB
    # A daemon that is killed disturbs nothing; the server that ends, does not for long.
    node.kill(signal.SIGKILL)
    allow(node, web)
    assert stalled(node, "a") == fetcher
    web.stop()
    part = os.path.join(folder_of(node, "a"), "fetched.part")
    before = os.path.getsize(part)
    web.start(STALLS.replace("20m", "1m"))
    end = time.monotonic() + 60
    while os.path.getsize(part) <= before:
        assert time.monotonic() < end, node.log()
        time.sleep(0.02)
    # Both are killed, as when the host ends.
    node.kill(signal.SIGKILL)
    os.kill(fetcher, signal.SIGKILL)
    web.stop()
    web.start()
    allow(node, web)
    node.wait("/v1/images/a", "ready")
    assert ("/disk.raw", 206) in web.asked() and ("/disk.raw", 200) not in web.asked()
    same(node, "a", raw, tmp_path)


def test_one_that_is_killed_begins_again_by_itself(node, web, tmp_path):  # noqa: F811
    """Nobody has to say anything: what has no last word was killed, by the kernel that had no memory, say."""
    raw, fetcher = stall(node, web, tmp_path)
    os.kill(fetcher, signal.SIGKILL)
    wait(node, "/v1/images/a", lambda d: "without a word; the next attempt follows" in d["status"]["reason"])
    wait(node, "/v1/images/a", lambda d: d["status"]["state"] == "making")
    web.stop()
    web.start()
    node.wait("/v1/images/a", "ready")
    same(node, "a", raw, tmp_path)


def test_a_file_that_has_changed_begins_anew(node, web, tmp_path):  # noqa: F811
    web.put("disk.raw", b"\1" * (24 * MIB))
    allow(node, web)
    web.stop()
    web.start(STALLS)
    make(node, "a", f"{web.https}/disk.raw")
    make(node, "b", f"{web.https}/disk.raw")
    stalled(node, "a")
    gone = stalled(node, "b")
    node.ask("DELETE", "/v1/images/b", status=202)
    node.wait_gone("/v1/images/b")
    assert not os.path.exists(f"/proc/{gone}")
    web.stop()
    raw = tmp_path / "raw"
    raw.write_bytes(os.urandom(23 * MIB))
    web.put("disk.raw", raw.read_bytes())
    web.start()
    node.wait("/v1/images/a", "ready")
    assert web.asked()[-1] == ("/disk.raw", 200)
    same(node, "a", raw, tmp_path)
    node.viv("image", "rm", "a")
    node.wait_gone("/v1/images/a")
    assert os.listdir(os.path.join(node.data, "images")) == []


class Odd(http.server.BaseHTTPRequestHandler):
    """Has not heard of If-Range."""
    data, asked = os.urandom(3000), []

    def log_message(self, *_):
        pass

    def do_GET(self):
        at = int((self.headers["Range"] or "bytes=0-")[6:-1])
        self.asked.append((at, self.headers["If-Range"]))
        body = self.data[at:]
        self.send_response(200 if not at else 206 if body else 416)
        self.send_header("ETag", '"new"')
        self.send_header("Content-Length", str(len(body)))
        if at:
            self.send_header("Content-Range", f"bytes {at}-2999/3000" if body else "bytes */3000")
        self.end_headers()
        self.wfile.write(body)


def test_a_server_that_does_not_compare_is_compared_with(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    out, url = tmp_path / "out", f"http://127.0.0.1:{server.server_port}/x"
    try:
        for there, tag, wanted in ((Odd.data[:1000], '"new"', [(1000, '"new"')]), (b"o" * 1000, '"old"', [(1000, '"old"'), (0, None)]),
                                   (Odd.data, '"new"', [(3000, '"new"')]), (b"o" * 4000, '"new"', [(4000, '"new"'), (0, None)]),
                                   (Odd.data[:1000], "", [(0, None)])):
            (tmp_path / "out.part").write_bytes(there + b"not safe yet")
            (tmp_path / "out.from").write_text(f"{len(there):020}\n{tag}\n{url}\n")
            Odd.asked.clear()
            subprocess.run([os.path.join(BUILD, "viv"), "disk", "fetch", url, str(out), "--checksum", f"sha256:{hashlib.sha256(Odd.data).hexdigest()}"],
                           check=True, timeout=60, stdout=subprocess.DEVNULL)
            assert Odd.asked == wanted and out.read_bytes() == Odd.data and os.listdir(tmp_path) == ["out"]
            out.unlink()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
