# SPDX-License-Identifier: Apache-2.0
"""A host whose clock is set while the daemon runs: years ahead, back, back by an hour, to 1970."""
import json
import time

from test_node import Unix
from test_node_disk import metric, unwell  # noqa: F401 (a fixture)
from test_node_faults import STOPPED, post
from test_totp import Person, code_of

HOUR, YEARS = 3600, 10 * 365 * 86400


def set_clock(n, seconds):
    """Ahead of the host's by SECONDS, and the daemon has seen it."""
    before = metric(n, "viv_clock_jumps_total")
    n.faults.clock_s = int(seconds)
    n.until(lambda: metric(n, "viv_clock_jumps_total") > before)


def at(seconds, offset=0):
    return {"offset": offset, "at": time.time() + seconds}


def test_the_clock_is_set_years_ahead_and_back(unwell):  # noqa: F811
    """What was good for long is over meanwhile; what it did then does not last for years; what lasts by itself goes on."""
    alice = Person(unwell, "alice")
    secret, recovery = alice.enrol()
    token = unwell.ask("POST", "/v1/tokens?user=alice", {"name": "t", "spec": {"days": 30}}, status=201)["token"]
    unwell.ask("POST", "/v1/images", {"name": "up", "spec": {"source": {"upload": {"size": 1 << 20}}}}, status=201)
    unwell.wait("/v1/images/up", "waiting")
    shown = unwell.ask("GET", "/v1/node")["certificate"]["sha256"]
    old = dict(alice.headers)

    def seen():
        return unwell.far("GET", "/v1/session", token=token)[0], unwell.far("GET", "/v1/session", headers=old)[0]

    assert seen() == (200, 200)
    set_clock(unwell, YEARS)
    assert "has been set forward by" in unwell.log() and abs(metric(unwell, "viv_clock_jump_seconds") - YEARS) < 5
    # Its own certificate has ended: another is shown, with the same key.
    unwell.until(lambda: unwell.ask("GET", "/v1/node")["certificate"]["sha256"] != shown)
    then = unwell.ask("GET", "/v1/node")["certificate"]["sha256"]
    assert post(unwell, "then")[0] == 201
    assert unwell.ask("GET", "/v1/instances/then")["created"][:4] > time.strftime("%Y")
    unwell.ask("GET", "/v1/node/history?span=3600")
    assert unwell.ask("GET", "/v1/images/up")["status"]["state"] == "waiting"      # nobody has waited for years
    # Somebody whose authenticator is wrong in the same way comes in, and stays for as long as others.
    came = unwell.ask("POST", "/v1/login", {"user": "alice", "password": "battery staple", "code": code_of(secret, **at(YEARS))})
    assert came["expires"][:4] > time.strftime("%Y")

    set_clock(unwell, 0)
    assert "has been set back by" in unwell.log() and abs(metric(unwell, "viv_clock_jump_seconds") + YEARS) < 5
    # The certificate is of today again, so clients come in; the token is good still, and so is the old session.
    unwell.until(lambda: unwell.ask("GET", "/v1/node")["certificate"]["sha256"] != then)
    unwell.until(lambda: unwell.ask("GET", "/v1/node")["certificate"]["problem"] == "")
    assert unwell.far("GET", "/v1/session", token=token)[0] == 200
    # The code of then does not lock out those of today.
    status, doc = alice.log_in(code_of(secret, 1))
    assert status == 200, doc
    assert unwell.far("GET", "/v1/session", headers=old)[0] in (200, 401)          # if it has been tidied away meanwhile
    assert unwell.ask("GET", "/v1/audit/verify")["is_whole"]
    assert len(recovery) == 10


def test_the_clock_is_set_back_by_an_hour(unwell):  # noqa: F811
    alice = Person(unwell, "alice")
    secret, recovery = alice.enrol()
    assert alice.log_in(code_of(secret, 1))[0] == 200
    key = {"Idempotency-Key": "one"}
    made = unwell.ask("POST", "/v1/instances", {"name": "a", "spec": STOPPED}, status=201, headers=key)
    set_clock(unwell, -HOUR)
    # Who is in stays in; what was asked for is not asked for twice; a code that may have been seen is not taken again.
    assert alice.ask("GET", "/v1/session")[0] == 200
    again = unwell.ask("POST", "/v1/instances", {"name": "a", "spec": STOPPED}, status=201, headers=key)
    assert again["uid"] == made["uid"]
    status, doc = alice.log_in(code_of(secret, **at(-HOUR)))
    assert status == 401 and "has been set back" in doc["error"]["message"] and "recovery code" in doc["error"]["message"], doc
    assert alice.log_in(recovery[0])[0] == 200
    # Revisions go on, whatever the time is.
    conn = Unix(unwell.socket)
    conn.request("PATCH", "/v1/instances/a", json.dumps({"labels": {"x": "y"}}), {"If-Match": f'"{made["revision"]}"'})
    answer = conn.getresponse()
    assert answer.status == 200 and json.loads(answer.read())["revision"] > made["revision"]
    conn.close()
    unwell.kill()
    unwell.start(port=unwell.port)
    assert unwell.ask("GET", "/v1/instances/a")["labels"] == {"x": "y"}
    assert unwell.ask("GET", "/v1/audit/verify")["is_whole"]


def test_a_host_begins_in_1970_and_learns_the_time(unwell):  # noqa: F811
    """As one whose battery is empty does, until it has asked others."""
    unwell.kill()
    unwell.faults.clock_s = -int(time.time()) + 60
    unwell.start()
    assert unwell.ask("GET", "/v1/node")["certificate"]["problem"] == ""
    assert post(unwell, "early")[0] == 201
    assert unwell.ask("GET", "/v1/instances/early")["created"].startswith("1970-01-01T")
    unwell.ask("POST", "/v1/images", {"name": "up", "spec": {"source": {"upload": {"size": 1 << 20, "keep_seconds": 7200}}}}, status=201)
    unwell.wait("/v1/images/up", "waiting")
    assert unwell.ask("GET", "/v1/node/history?span=3600")["from"] >= 0
    unwell.kill()
    unwell.faults.clock_s = 0
    unwell.start()
    # What waits is not thrown away for having waited 50 years, and the certificate is of today.
    unwell.until(lambda: unwell.ask("GET", "/v1/images/up")["status"]["upload"]["expires"][:4] >= time.strftime("%Y"))
    assert unwell.far("GET", "/v1/setup")[0] == 200
    assert {i["name"] for i in unwell.ask("GET", "/v1/instances?sort=created")["items"]} == {"early"}
