# SPDX-License-Identifier: Apache-2.0
"""Requests made at random from the API's own description: whatever comes, the answer is no 5xx, comes soon, and the daemon stays.

VIV_API_FUZZ_SECONDS and VIV_API_FUZZ_SEED make it longer, and repeat one."""
import http.client
import json
import os
import random
import string
import time
import urllib.parse

from test_node import Unix, guest, node  # noqa: F401

SECONDS = float(os.environ.get("VIV_API_FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("VIV_API_FUZZ_SEED", "1"))
NAMES = ["a", "b", "default", "web", "nothing", "x" * 63, "x" * 64, "x" * 3000, "A", "-", ".", "..", "%2e%2e", "a%2fb", "%00", "a b", "ä", "a'b\"",
         "${x}", "%", "%zz", "_", "0", "a/b"]
TEXTS = ["", "a", "a" * 70_000, "\u0000", "\ud7ff", "‮", "<script>", "../../etc/passwd", "/", "/etc/passwd", "/dev/zero", "%s%n", "1e999", "null",
         "\n", "a,b=c", "1M", "-1", "18446744073709551616"]
NUMBERS = [0, 1, -1, 2, 63, 64, 65, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, -(1 << 63), 1 << 63, 1 << 64, 1.5, -0.0, 1e308]
UNKNOWN = "unheard-of"   # a parameter that no operation has
# What may be answered to a request that only tries something: all but errors of the server. 507 is no space, 503 says "try again".
FINE = set(range(200, 500)) | {503, 507}


class Maker:
    """Values for the schemas of an OpenAPI document: mostly what they say, often something else."""
    def __init__(self, doc, rng):
        self.doc, self.rng = doc, rng

    def any(self, depth=0):
        kinds = ["text", "number", "null", "bool"] + (["list", "map"] if depth < 4 else [])
        kind = self.rng.choice(kinds)
        if kind == "list":
            return [self.any(depth + 1) for _ in range(self.rng.choice([0, 1, 3, 200]))]
        if kind == "map":
            return {self.rng.choice(TEXTS + NAMES)[:200]: self.any(depth + 1) for _ in range(self.rng.randrange(5))}
        return {"text": self.rng.choice(TEXTS + NAMES), "number": self.rng.choice(NUMBERS), "null": None, "bool": self.rng.random() < 0.5}[kind]

    def of(self, schema, depth=0):
        while "$ref" in schema:
            schema = self.doc["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        if self.rng.random() < 0.06 or depth > 12:
            return self.any(depth)
        kind = schema.get("type")
        kind = self.rng.choice(kind) if isinstance(kind, list) else kind
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        if kind == "object" or "properties" in schema:
            return self.object(schema, depth)
        if kind == "array":
            return [self.of(schema.get("items", {}), depth + 1) for _ in range(self.rng.randrange(4))]
        if kind == "integer":
            low, high = schema.get("minimum", 0), schema.get("maximum", 1 << 30)
            return self.rng.choice([low, high, low - 1, high + 1, self.rng.randint(low, max(low, high)), *NUMBERS])
        if kind == "boolean":
            return self.rng.random() < 0.5
        return self.rng.choice(TEXTS + NAMES + ["".join(self.rng.choices(string.ascii_lowercase, k=self.rng.randint(1, 12)))] * 20)

    def object(self, schema, depth):
        needed = schema.get("required", [])
        made = {name: self.of(sub, depth + 1) for name, sub in schema.get("properties", {}).items()
                if not sub.get("readOnly") and (name in needed or self.rng.random() < 0.3)}
        more = schema.get("additionalProperties")
        if isinstance(more, dict) or self.rng.random() < 0.03:
            made[self.rng.choice(NAMES + TEXTS)[:100]] = self.of(more, depth + 1) if isinstance(more, dict) else self.any(depth)
        return made


def one(maker, rng, path, verb, operation):
    """A request: method, URL, headers and body."""
    url = "/".join(rng.choice(NAMES[:6] if rng.random() < 0.8 else NAMES) if part.startswith("{") else part for part in path.split("/"))
    query = [f"{p['name']}={rng.choice([rng.choice(NAMES), str(rng.choice(NUMBERS)), 'true', ''])}" for p in operation.get("parameters", [])
             if p["in"] == "query" and rng.random() < 0.3]
    if rng.random() < 0.05:
        query.insert(rng.randrange(len(query) + 1), UNKNOWN + rng.choice(["", "=", "=1"]))
    headers = {}
    if rng.random() < 0.1:
        headers["If-Match"] = rng.choice(['"1"', '"999999"', "1", "*", '"', "x" * 300])
    if rng.random() < 0.1:
        headers["Idempotency-Key"] = rng.choice(["k", "k", "x" * 300, ""])
    body = None
    if verb in ("post", "patch", "put"):
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        body = json.dumps(maker.of(schema) if schema else maker.any())
        if rng.random() < 0.05:
            body = rng.choice([body[:len(body) // 2], "{" * 5000, "[" * 100_000, "\x00", "nul", '{"a":1,"a":2}', "\ufeff" + body])
        headers["Content-Type"] = "application/json" if rng.random() < 0.97 else "text/plain"
    return verb.upper(), url + ("?" + "&".join(query) if query else ""), headers, body


def ask(node, method, url, headers, body):
    conn = Unix(node.socket)
    try:
        conn.putrequest(method, urllib.parse.quote(url, safe=string.punctuation), skip_accept_encoding=True)
        data = body.encode("utf-8", "surrogatepass") if body is not None else b""
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            conn.putheader(name, value)
        conn.endheaders(data)
        answer = conn.getresponse()
        return answer.status, answer.read()
    finally:
        conn.close()


def test_requests_made_from_the_description_never_break_the_daemon(node, guest):  # noqa: F811
    rng = random.Random(SEED)
    doc = node.ask("GET", "/v1/openapi.json")
    operations = [(path, verb, operation) for path, verbs in doc["paths"].items() for verb, operation in verbs.items()
                  if "101" not in operation["responses"]]
    assert len(operations) > 40
    node.ask("POST", "/v1/instances", {"name": "a", "spec": guest | {"state": "stopped"}}, status=201)
    node.ask("POST", "/v1/volumes", {"name": "a", "spec": {"size": "1M"}}, status=201)
    maker, end, asked, seen = Maker(doc, rng), time.monotonic() + SECONDS, 0, set()
    while time.monotonic() < end:
        path, verb, operation = rng.choice(operations)
        request = one(maker, rng, path, verb, operation)
        try:
            status, text = ask(node, *request)
        except (http.client.HTTPException, ConnectionError) as e:
            # A request that is none may cost its connection; the daemon stays.
            assert node.proc.poll() is None, (request, e, node.log())
            continue
        assert status in FINE, (SEED, asked, request[0], request[1], request[2], (request[3] or "")[:2000], status, text[:500])
        assert UNKNOWN not in request[1] or status >= 400, (request, status)
        if status >= 400 and not ("%" in request[1] and b"<html>" in text):     # what is no URL is not the API's
            try:
                error = json.loads(text)["error"]
                assert error["code"] and error["message"], (request, text)
            except json.JSONDecodeError:
                raise AssertionError(f"{request} is answered with {status}, and no document: {text[:300]}") from None
        asked += 1
        seen.add((operation["operationId"], status // 100))
    assert node.proc.poll() is None and node.ask("GET", "/v1/node")["kind"] == "node"
    assert len({o for o, _ in seen}) >= len(operations) - 3, "every operation is asked"
    print(f"{asked} requests, seed {SEED}")
