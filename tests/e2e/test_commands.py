# SPDX-License-Identifier: Apache-2.0
"""Every command of viv, from its own table: help with an example, JSON, the manual, completion, exit statuses that stay, and errors that say what to
do next. A command that is added is here without anybody writing it down, and fails when it lacks something."""
import json
import os
import re
import shlex
import subprocess

import pytest
from test_access import site  # noqa: F401
from test_node import BUILD, node  # noqa: F401

ROOT = os.path.dirname(BUILD)
FAILED, USAGE, NOT_FOUND, DENIED = 1, 2, 7, 8
COMMON = ["--json", "--quiet", "--help"]
# What stands for a word of a command line; whatever is not here is called 'nothing'.
WORDS = {"SIZE": "1M", "FIELD=VALUE...": "labels.a=b", "LIMIT...": "cpus=2", "ROLE": "viewer", "FROM": "nothing:/x", "TO": "/x", "PROGRAM": "true"}
NEEDED = {"image create": ["--from", "debian"], "pool create": ["--path", "/nowhere"], "token create": ["--user", "nothing"],
          "token ls": ["--user", "nothing"], "token rm": ["--user", "nothing"], "top": ["--once"], "events": ["--count", "1"],
          "login": ["--host", "https://127.0.0.1:1"], "logout": ["--host", "https://127.0.0.1:1"], "image build": []}
# What takes names, or a selector, or all of them: with a name.
MANY = {**{c: ["nothing"] for c in ("start", "stop", "restart", "pause", "rm", "snapshot create")}, "set": ["nothing", "labels.a=b"]}
# They need no daemon, read a password first, or speak with another one.
ALONE = {"user passwd", "totp enable", "login", "logout"}


def viv(*words, stdin=None, **more):
    done = subprocess.run([os.path.join(BUILD, "viv"), *words], capture_output=True, text=True, timeout=60, check=False,
                          **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}), **more)
    return done.returncode, done.stdout, done.stderr


def table():
    """{command: its options}, as completion has them."""
    return {path: words.split() for path, words in re.findall(r"^_viv_options\['([^']*)'\]='([^']*)'", viv("--print-completion")[1], re.M)}


TABLE = table()


def usage_of(command):
    """The arguments of COMMAND: those that have to be there, and whether there may be any number."""
    line = re.search(r"^usage: viv (.*)$", viv(*command.split(), "--help")[1], re.M).group(1)
    words = line[len(command):].replace("[OPTION...]", "").split()
    return [w for w in words if not w.startswith("[")], any(w.rstrip("]").endswith("...") for w in words), len(words)


def line_of(command, file):
    words = {**WORDS, "FILE": str(file), "FILE...": str(file)}
    return [*command.split(), *(words.get(w, "nothing") for w in usage_of(command)[0]), *MANY.get(command, []), *NEEDED.get(command, [])]


def told(status, out, err, command):
    """The sentence of an error, which is the same as JSON."""
    assert out == "" and re.fullmatch(r"viv: error: .+\n", err), (command, status, out, err)
    return err[len("viv: error: "):].strip()


def test_there_is_a_table():
    assert len(TABLE) > 100 and {"run", "volume create", "disk snapshot create"} <= set(TABLE)
    assert sorted(TABLE) == sorted({*re.findall(r"^  ([a-z]+) (?!COMMAND)", viv("--help")[1].split("options:")[0], re.M)} |
                                   {c for c in TABLE if " " in c})


@pytest.mark.parametrize("command", TABLE)
def test_what_it_says_about_itself(command):
    status, out, err = viv(*command.split(), "--help")
    assert (status, err) == (0, "") and out.startswith(f"usage: viv {command}")
    examples = re.findall(r"^  viv (.*)\n      (\S.*)$", out.split("\nexamples:\n")[1], re.M)
    assert examples and all(line.startswith(command) and says for line, says in examples), out
    for line, _ in examples:
        assert viv("--parse-only", *shlex.split(line))[0] == 0, line
    # Help, completion and the manual know the same options.
    options = re.findall(r"^ +(?:-\w, +)?(--[\w-]+)", out.split("\noptions:\n")[1].split("\nexamples:")[0], re.M)
    assert options == [o for o in TABLE[command] if o.startswith("--")] and options[-3:] == COMMON
    page = "viv-" + command.split()[0] if " " in command else "viv"
    with open(os.path.join(ROOT, f"docs/man/{page}.1"), encoding="utf-8") as f:
        manual = f.read().replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")
    assert f"viv {command}" in manual and all(option in manual for option in options)


@pytest.mark.parametrize("command", TABLE)
def test_what_is_typed_wrong(command):
    """Status 2 and a sentence, before anybody is asked; with --json a document as well."""
    needed, is_open, most = usage_of(command)
    wrong = [["--nonsense"], ["--help=1"]]
    if needed:
        wrong.append([])
    if not is_open:
        wrong.append(["x"] * (most + 1))
    for words in wrong:
        status, out, err = viv(*command.split(), *words)
        assert status == USAGE, (command, words, out, err)
        assert "--help'" in told(status, out, err, command) or "takes no value" in err, err
        if "--nonsense" in words or words == ["--help=1"]:
            continue
        status, out, _ = viv(*command.split(), *words, "--json")
        error = json.loads(out)["error"]
        assert status == USAGE and error["message"], (command, out)


@pytest.mark.parametrize("command", [c for c in TABLE if "--socket" in TABLE[c]])
def test_no_daemon(command, tmp_path):
    file = tmp_path / "file"
    if command in ALONE:
        return
    line = [*line_of(command, file), "--socket", str(tmp_path / "none")]
    if command in ("exec", "ssh"):
        line = [*command.split(), "--socket", str(tmp_path / "none"), *line[len(command.split()):]]
    if command in ("image import", "image upload", "volume upload", "import"):
        # What is sent is looked at first.
        status, out, err = viv(*line)
        assert status == NOT_FOUND and "file" in told(status, out, err, command)
        return
    status, out, err = viv(*line)
    assert status == FAILED, (command, out, err)
    assert "no daemon serves" in told(status, out, err, command) and "'vivd'" in err and "--host" in err
    status, out, _ = viv(*line[:1], *line[1:len(command.split())], "--json", *line[len(command.split()):])
    assert status == FAILED and "no daemon serves" in json.loads(out)["error"]["message"]


# What is not refused by a name that nobody has: it makes that, or asks for none.
MAKES = {"run", "ls", "top", "events", "metrics", "task ls", "image ls", "image catalogue ls", "volume ls", "volume create", "pool ls", "pool create",
         "network ls", "network create", "profile ls", "profile create", "port ls", "whoami", "user ls", "user add", "role ls", "role grant", "project ls", "project create", "audit ls",
         "audit verify", "token ls", "image create", "image build", "image import", "image upload", "volume upload", "import", *ALONE}


def test_names_that_nobody_has(node, tmp_path):  # noqa: F811
    """Status 7, and what lists those that are there."""
    left = [c for c in TABLE if "--socket" in TABLE[c] and c not in MAKES]
    assert len(left) > 40
    for command in left:
        words = line_of(command, tmp_path / "file")
        at = len(command.split())
        status, out, err = viv(*words[:at], "--socket", node.socket, *words[at:])
        assert status == NOT_FOUND, (command, status, out, err)
        assert "nothing" in told(status, out, err, command) and re.search(r"; 'viv [\w ]*ls[\w ]*' lists those that are there", err), (command, err)
        status, out, _ = viv(*words[:at], "--socket", node.socket, "--json", *words[at:])
        doc = json.loads(out)
        # Of what takes many each has its own.
        error = doc.get("error") or doc["items"][0]["error"]
        assert status == NOT_FOUND and "lists those" in error["message"], (command, out)


def test_lists_and_answers_are_json(node):  # noqa: F811
    for command in TABLE:
        if command.split()[-1] == "ls" or command in ("whoami", "audit verify", "image catalogue ls"):
            more = {"snapshot ls": None, "token ls": None}.get(command, NEEDED.get(command, []))
            if more is None:
                continue
            status, out, err = viv(*command.split(), *more, "--json", "--socket", node.socket)
            assert (status, err) == (0, "") and json.loads(out) is not None, (command, out, err)
            # A table for people has a head, with or without rows; an object has its words.
            assert viv(*command.split(), *more, "--socket", node.socket)[1].strip()


def test_list_is_ls(node):  # noqa: F811
    for command in ("snapshot list nothing", "volume list", "list"):
        asked = [*command.split(), "--socket", node.socket]
        assert viv(*asked) == viv(*[("ls" if word == "list" else word) for word in asked])
    assert viv("volume", "list", "--socket", node.socket)[0] == 0


def test_values_that_cannot_be(node):  # noqa: F811
    """What is wrong is named, with what would be right."""
    for words, status, says in (
            (["volume", "create", "Not A Name", "1M"], FAILED, "name"), (["volume", "create", "v", "many"], FAILED, "many"),
            (["run", "--memory", "lots", "debian"], USAGE, "--memory"), (["run", "--cpus", "x", "debian"], USAGE, "--cpus"),
            (["role", "grant", "ann", "king"], FAILED, "viewer|operator|admin"), (["quota", "set", "default", "cups=1"], FAILED, "cpus=N"),
            (["pool", "create", "p", "--path", "relative"], FAILED, "path"), (["network", "create", "n", "--kind", "token-ring"], USAGE, "nat"),
            (["disk", "create", "--format", "nonsense", "x", "1M"], FAILED, "qcow2"), (["volum", "ls"], USAGE, "did you mean 'volume ls'?")):
        more = [] if words[0] in ("disk", "volum") else ["--socket", node.socket]
        got, out, err = viv(*words, *more)
        assert got == status and says in told(got, out, err, words), (words, got, out, err)


def test_who_may_not(site):  # noqa: F811
    """Status 8, who one is and where to read more; who is nobody learns how to become somebody."""
    site.ask("POST", "/v1/users", {"name": "looker", "spec": {"role": "viewer"}}, status=201)
    site.ask("POST", "/v1/users/looker/password", {"password": "battery staple"}, status=204)
    fingerprint = re.findall(r"certificate's SHA-256 is (\w{64})", site.log())[-1]
    env = {**os.environ, "XDG_CONFIG_HOME": os.path.join(site.folder, "config"), "VIV_HOST": ""}
    status, out, err = viv("volume", "create", "v", "1M", "--host", site.url, env=env)
    assert status == DENIED and "viv login" in told(status, out, err, "volume create"), (status, out, err)
    status, _, err = viv("login", "looker", "--host", site.url, "--fingerprint", fingerprint, stdin="battery staple\n", env=env)
    assert status == 0, err
    for words in (["volume", "create", "v", "1M"], ["network", "create", "n"], ["user", "add", "x"], ["pool", "create", "p", "--path", "/tmp"]):
        status, out, err = viv(*words, "--host", site.url, env=env)
        assert status == DENIED and "may not" in told(status, out, err, words), (words, status, out, err)
        status, out, _ = viv(*words, "--host", site.url, "--json", env=env)
        assert status == DENIED and json.loads(out)["error"]["message"]
    assert viv("ls", "--host", site.url, env=env)[0] == 0
