# SPDX-License-Identifier: Apache-2.0
"""A publisher of one disk, with a catalogue of it, in the network namespace of a daemon: as fast as can be, and slowly below /slow/.

    moments_web.py FOLDER       serve FOLDER/www by HTTPS with FOLDER/cert/{cert,key}.pem, on a port that is printed"""
import hashlib
import http.server
import json
import os
import pathlib
import platform
import random
import ssl
import subprocess
import sys
import time

SLOW_S, CHUNK = 0.05, 64 << 10


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name, slow = self.path.rpartition("/")[2], self.path.startswith("/slow/")
        with open(os.path.join(self.server.root, os.path.basename(name)), "rb") as f:
            data = f.read()
        etag, begin = f'"{hashlib.sha256(data).hexdigest()}"', 0
        if self.headers.get("Range") and self.headers.get("If-Range", etag) == etag:
            begin = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(data) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        for at in range(begin, len(data), CHUNK):
            self.wfile.write(data[at:at + CHUNK])
            time.sleep(SLOW_S if slow else 0)

    def log_message(self, *_):
        pass


def serve(folder):
    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        root = os.path.join(folder, "www")

        def handle_error(self, *_):
            """Whoever asked has been killed."""
    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, "cert/cert.pem"), os.path.join(folder, "cert/key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_port, flush=True)
    server.serve_forever()


class Web:
    """That, as a process; PREFIX is what it is started by."""

    def __init__(self, folder, prefix, catalogue, size):
        from authority import Authority
        self.folder = pathlib.Path(folder) / "web"
        (self.folder / "www").mkdir(parents=True)
        issued = Authority(self.folder / "ca").issue("server", "IP:127.0.0.1")
        (self.folder / "cert").symlink_to(issued)
        data = random.Random(1).randbytes(size)
        self.sum = hashlib.sha256(data).hexdigest()
        (self.folder / "www/disk").write_bytes(data)
        (self.folder / "www/SHA256SUMS").write_text(f"{self.sum}  disk\n")
        self.proc = subprocess.Popen([*prefix, sys.executable, os.path.abspath(__file__), str(self.folder)], stdout=subprocess.PIPE, text=True)
        self.url = f"https://127.0.0.1:{int(self.proc.stdout.readline())}"
        (self.folder / "catalogues").mkdir()
        (self.folder / "catalogues" / f"{catalogue}.json").write_text(json.dumps({
            "format": 1, "kind": "list", "title": "Tiny", "systems": [catalogue], "arch": {platform.machine(): "here"},
            "images": [{"version": "1", "url": f"{self.url}/disk", "sums": f"{self.url}/SHA256SUMS"}]}))
        self.options = ["--fetch-from", "127.0.0.1/32", "--fetch-ca", str(issued / "ca.pem"), "--catalogues", str(self.folder / "catalogues")]

    def end(self):
        self.proc.kill()
        self.proc.wait()


if __name__ == "__main__":
    serve(sys.argv[1])
