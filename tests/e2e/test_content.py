# SPDX-License-Identifier: Apache-2.0
"""Files of images and volumes, taken elsewhere: in parts, after interruptions, and only when they stand still."""
import glob
import os
import signal
import subprocess
import time

import pytest
from test_node import BUILD, Unix, guest, node  # noqa: F401


def get(node, path, **headers):  # noqa: F811
    conn = Unix(node.socket)
    conn.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = conn.getresponse()
    body = answer.read()
    conn.close()
    return answer.status, body, answer.headers


@pytest.fixture
def image(node, tmp_path):  # noqa: F811
    """The bytes of the image 'raw' as they are on the node."""
    (tmp_path / "raw").write_bytes(os.urandom(5 << 20))
    node.viv("image", "import", str(tmp_path / "raw"), "raw")
    uid = node.ask("GET", "/v1/images/raw")["uid"]
    with open(os.path.join(node.data, "images", uid, "disk.qcow2"), "rb") as f:
        return f.read()


def test_a_file_comes_whole_and_in_parts(node, image):  # noqa: F811
    path = "/v1/images/raw/content"
    status, body, headers = get(node, path)
    assert status == 200 and body == image and headers["accept-ranges"] == "bytes"
    etag, size = headers["etag"], len(image)
    for text, part in (("0-99", image[:100]), (f"{size - 5}-", image[-5:]), ("-7", image[-7:]), (f"100-{size + 9}", image[100:])):
        status, body, headers = get(node, path, Range=f"bytes={text}", If_Range=etag)
        assert status == 206 and body == part and headers["content-range"].endswith(f"/{size}"), text
    status, body, headers = get(node, path, Range=f"bytes={size}-")
    assert status == 416 and headers["content-range"] == f"bytes */{size}" and b"range" in body
    # Of something else, in several parts, or in a way that nobody understands: all.
    for more in ({"Range": "bytes=1-2", "If_Range": '"other"'}, {"Range": "bytes=0-1,4-5"}, {"Range": "lines=1-2"}):
        assert get(node, path, **more)[:2] == (200, image)
    assert get(node, path, If_None_Match=etag)[:2] == (304, b"")
    assert get(node, "/v1/images/none/content")[0] == 404


def test_plain_curl_goes_on_where_it_was(node, image, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    out.write_bytes(image[:12345])
    subprocess.run(["curl", "-sf", "-C", "-", "-o", str(out), "--unix-socket", node.socket, "http://viv/v1/images/raw/content"],
                   check=True, timeout=60)
    assert out.read_bytes() == image


def test_an_interrupted_download_goes_on(node, image, tmp_path):  # noqa: F811
    out = tmp_path / "out.qcow2"
    node.viv("image", "download", "raw", str(out))
    assert out.read_bytes() == image and not glob.glob(f"{out}*.part")
    assert "is there already" in node.viv("image", "download", "raw", str(out), status=6)
    out.unlink()
    uid = node.ask("GET", "/v1/images/raw")["uid"]
    part = tmp_path / f"out.qcow2.{uid}.part"
    # What is there is believed, and not fetched again.
    part.write_bytes(b"x" * 1000 + image[1000:70000])
    node.viv("image", "download", "raw", str(out))
    assert out.read_bytes() == b"x" * 1000 + image[1000:]
    out.unlink()
    part.write_bytes(image + b"too much")
    node.viv("image", "download", "raw", str(out))
    assert out.read_bytes() == image
    out.unlink()
    assert "no image 'none'" in node.viv("image", "download", "none", str(out), status=7)
    assert not out.exists()


def test_a_daemon_that_is_killed_costs_what_was_on_its_way(node, image, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    with subprocess.Popen([os.path.join(BUILD, "viv"), "image", "download", "raw", str(out), "--socket", node.socket],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
        end = time.monotonic() + 30
        while not glob.glob(f"{out}*") and p.poll() is None:
            assert time.monotonic() < end
        node.kill(signal.SIGKILL)
        p.wait(60)
    node.start()
    if not out.exists():
        node.viv("image", "download", "raw", str(out))
    assert out.read_bytes() == image


def test_a_volume_is_taken_while_it_stands_still(node, guest, tmp_path):  # noqa: F811
    node.viv("volume", "create", "v", "8M")
    node.viv("volume", "download", "v", str(tmp_path / "a"))
    done = subprocess.run([os.path.join(BUILD, "viv"), "disk", "check", str(tmp_path / "a")], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done
    before = get(node, "/v1/volumes/v/content")[2]["etag"]
    node.ask("POST", "/v1/instances", {"name": "c", "spec": dict(guest, disks=[{"volume": "v"}])}, status=201)
    node.wait("/v1/instances/c", "running")
    status, body, _ = get(node, "/v1/volumes/v/content")
    assert status == 409 and b"stop the machine" in body
    node.viv("rm", "-f", "c")
    assert get(node, "/v1/volumes/v/content")[0] == 200
    node.ask("PATCH", "/v1/volumes/v", {"spec": {"size": "16M"}})
    end = time.monotonic() + 30
    while node.ask("GET", "/v1/volumes/v")["status"]["size"] != 16 << 20:
        assert time.monotonic() < end
        time.sleep(0.02)
    status, _, headers = get(node, "/v1/volumes/v/content", Range="bytes=0-1", If_Range=before)
    assert status == 200 and headers["etag"] != before
