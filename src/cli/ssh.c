/* SPDX-License-Identifier: Apache-2.0 */
/* ssh.c - `viv ssh`: the system's ssh, told where a machine is, with which key, and which host key it has.
 *
 * Where: a forwarded port 22 first, which is reachable wherever the daemon is, else an address on a network of this host. Which host
 * key: the guest agent is asked, so that nobody in between can pretend to be the machine; it is kept under the machine's uid, as
 * addresses are used again. Who has no agent is believed the first time, as ssh does it. */
#include "cli/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/hosts.h"
#include "cli/output.h"
#include "util/base64.h"

enum { SSH_PORT = 22, FIXED_WORDS = 11, HOST_LEN = 256, KEY_LEN = 2048, AGENT_S = 20 };

struct target {
	char host[HOST_LEN];
	unsigned port;
};

static const char *text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name)) ?: "";
}

/* --- where it is ---------------------------------------------------- */

/* "tcp:[ADDR:]HOSTPORT:22", as the daemon has checked it. */
static bool take_forward(struct target *t, const char *forward, const char *host)
{
	const char *guest = strrchr(forward, ':'), *from = guest;
	size_t skip = strlen("tcp:");

	if (strncmp(forward, "tcp:", skip) != 0 || !guest || strtoul(guest + 1, NULL, 10) != SSH_PORT)
		return false;
	while (from > forward + skip && from[-1] != ':')
		from--;
	size_t len = from > forward + skip ? (size_t)(from - forward) - skip - 1 : 0;
	t->port = (unsigned)strtoul(from, NULL, 10);
	if (!len || !strncmp(forward + skip, "0.0.0.0", len))
		snprintf(t->host, sizeof(t->host), "%s", host);
	else
		snprintf(t->host, sizeof(t->host), "%.*s", (int)len, forward + skip);
	return true;
}

static bool find_forward(struct target *t, const json_t *doc, const char *host)
{
	const json_t *net, *forward;
	size_t i, k;

	json_array_foreach(json_object_get(json_object_get(doc, "spec"), "networks"), i, net)
		json_array_foreach(json_object_get(net, "forwards"), k, forward)
			if (take_forward(t, json_string_value(forward) ?: "", host))
				return true;
	return false;
}

static int find_target(struct target *t, const struct client *cl, const json_t *doc, struct err *err)
{
	char host[HOST_LEN] = "127.0.0.1";
	const json_t *port;
	size_t i;

	if (client_is_remote(cl))
		client_host(cl, host, sizeof(host));
	if (find_forward(t, doc, host))
		return 0;
	json_array_foreach(json_object_get(json_object_get(doc, "status"), "networks"), i, port) {
		if (client_is_remote(cl) || !*text_of(port, "address"))
			continue;
		snprintf(t->host, sizeof(t->host), "%s", text_of(port, "address"));
		t->port = SSH_PORT;
		return 0;
	}
	return err_set(err, -EHOSTUNREACH, "'%s' cannot be reached from here; forward a port to it (viv run -p 2222:22 ...), or plug it "
		       "into a network%s", text_of(doc, "name"), client_is_remote(cl) ? " with such a forward" : "");
}

/* --- keys ---------------------------------------------------- */

/* Run ssh-keygen; what it says goes nowhere. */
static int make_key(const char *path, struct err *err)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		execlp("ssh-keygen", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "viv", "-f", path, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return err_set(err, -errno, "cannot start ssh-keygen: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(err, -ENOENT, "the program 'ssh-keygen' is not installed; install the package 'openssh-client'");
	return status ? err_set(err, -EIO, "ssh-keygen could not make '%s'", path) : 0;
}

static int read_line(const char *path, char line[KEY_LEN], struct err *err)
{
	FILE *f = fopen(path, "re");
	bool is_read = f && fgets(line, KEY_LEN, f);

	if (f)
		fclose(f);
	if (!is_read)
		return err_set(err, f ? -EIO : -errno, "cannot read '%s': %s", path, f ? "it is empty" : strerror(errno));
	line[strcspn(line, "\n")] = 0;
	return 0;
}

/* viv's own key, made when it is not there yet: PATH of the private one, the public one as a LINE. */
static int own_key(char **path, char line[KEY_LEN], struct err *err)
{
	AUTO(free) char *dir = hosts_path("ssh");
	AUTO(free) char *public = NULL;
	int r = hosts_make_dir(err);

	if (r < 0)
		return r;
	if (!dir || asprintf(path, "%s/id_ed25519", dir) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (asprintf(&public, "%s.pub", *path) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make '%s': %s", dir, strerror(errno));
	if (access(public, R_OK) < 0)
		r = make_key(*path, err);
	return r < 0 ? r : read_line(public, line, err);
}

/* --- what the machine tells and is told ---------------------------------------------------- */

/* $1: a public key, or nothing; $2: whose. Prints the host's. */
static const char script[] =
	"home=$(awk -F: -v u=\"$2\" '$1 == u { print $6 }' /etc/passwd)\n"
	"if [ -n \"$1\" ] && [ -n \"$home\" ]; then\n"
	"	umask 077; mkdir -p \"$home/.ssh\"\n"
	"	grep -qxF \"$1\" \"$home/.ssh/authorized_keys\" 2>/dev/null || echo \"$1\" >>\"$home/.ssh/authorized_keys\"\n"
	"	chown -R \"$2\" \"$home/.ssh\" 2>/dev/null\n"
	"fi\n"
	"cat /etc/ssh/ssh_host_*_key.pub\n";

/* The lines of the machine's host keys, from malloc(), and our key PUBLIC ("": none) is one of USER's. NULL: its agent does not answer,
 * or there are none; the caller does without. */
static char *ask_agent(struct client *cl, const char *name, const char *public, const char *user)
{
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:[s,s,s,s,s], s:i}", "program", "/bin/sh", "args", "-c", script, "sh", public,
						   user, "timeout", AGENT_S);
	AUTO(json_decref) json_t *result = NULL;
	struct err why = ERR_INIT;

	if (!body || client_call(cl, "POST", body, &result, &why, "/v1/instances/%s/exec", name) < 0 ||
	    json_integer_value(json_object_get(result, "exit")) != 0)
		return NULL;
	const char *text = text_of(result, "out");
	char *keys = calloc(1, strlen(text) + 1);
	if (keys && base64_decode((uint8_t *)keys, text, strlen(text)) > 0)
		return keys;
	free(keys);
	return NULL;
}

/* FILE knows KEYS as those of UID, and no others. */
static int write_known(const char *file, const char *uid, char *keys, struct err *err)
{
	AUTO(free) char *tmp = NULL;
	char *save = NULL;

	if (asprintf(&tmp, "%s.tmp", file) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	FILE *f = fopen(tmp, "we");
	for (char *line = f ? strtok_r(keys, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
		fprintf(f, "%s %s\n", uid, line);
	if (!f || fclose(f) || rename(tmp, file) < 0)
		return err_set(err, -errno, "cannot write '%s': %s", file, strerror(errno));
	return 0;
}

/* --- the command ---------------------------------------------------- */

struct plan {
	struct target target;
	char *key, *known;              /* files */
	bool is_pinned;                 /* KNOWN has what the machine itself has told */
	char uid[64];
};

/* The daemon may be anybody's: what it says goes into the name of a file and to ssh. */
static int check_told(const struct plan *p, struct err *err)
{
	bool is_good = p->uid[0] && !p->uid[strspn(p->uid, "0123456789abcdef")] && p->target.host[0] != '-' &&
		       !p->target.host[strspn(p->target.host, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.:-")];

	return is_good ? 0 : err_set(err, -EPROTO, "the daemon's answer is not understood");
}

static int make_plan(struct plan *p, const struct cli *c, struct client *cl, struct err *err)
{
	AUTO(json_decref) json_t *doc = NULL;
	AUTO(free) char *dir = NULL;
	AUTO(free) char *keys = NULL;
	const char *given = cli_str(c, "--identity");
	char public[KEY_LEN] = "";
	int r = client_call(cl, "GET", NULL, &doc, err, "/v1/instances/%s", cli_arg(c, 0));

	if (!r && strcmp(text_of(json_object_get(doc, "status"), "state"), "running") != 0)
		r = err_set(err, -EBUSY, "'%s' is not running; start it first: viv start %s", cli_arg(c, 0), cli_arg(c, 0));
	if (!r)
		r = find_target(&p->target, cl, doc, err);
	if (!r && given)
		r = (p->key = strdup(given)) ? 0 : err_set(err, -ENOMEM, "out of memory");
	else if (!r)
		r = own_key(&p->key, public, err);
	if (!r)
		r = hosts_make_dir(err);
	snprintf(p->uid, sizeof(p->uid), "%s", text_of(doc, "uid"));
	if (!r)
		r = check_told(p, err);
	dir = hosts_path("known");
	if (!r && (!dir || asprintf(&p->known, "%s/%s", dir, p->uid) < 0))
		r = err_set(err, -ENOMEM, "out of memory");
	if (!r && mkdir(dir, 0700) < 0 && errno != EEXIST)
		r = err_set(err, -errno, "cannot make '%s': %s", dir, strerror(errno));
	if (r < 0)
		return r;
	keys = ask_agent(cl, cli_arg(c, 0), public, cli_str(c, "--user"));
	p->is_pinned = keys != NULL;
	return keys ? write_known(p->known, p->uid, keys, err) : 0;
}

static void __attribute__((format(printf, 2, 3))) add_word(json_t *words, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	json_array_append_new(words, json_string(text));
	free(text);
}

/* The words of ssh's command line; NULL: not all of them are text. */
static json_t *make_words(const struct plan *p, const struct cli *c)
{
	json_t *words = json_pack("[s, s, s]", "ssh", "-i", p->key);

	add_word(words, "-oIdentitiesOnly=yes");
	add_word(words, "-oHostKeyAlias=%s", p->uid);
	add_word(words, "-oUserKnownHostsFile=%s", p->known);
	add_word(words, "-oStrictHostKeyChecking=%s", p->is_pinned ? "yes" : "accept-new");
	add_word(words, "-oPort=%u", p->target.port);
	add_word(words, "-oUser=%s", cli_str(c, "--user"));
	add_word(words, "--");
	add_word(words, "%s", p->target.host);
	for (unsigned i = 1; i < c->n_args; i++)
		add_word(words, "%s", c->args[i]);
	if (json_array_size(words) == FIXED_WORDS + (c->n_args ? c->n_args - 1 : 0))
		return words;
	json_decref(words);
	return NULL;
}

static int run_ssh(const json_t *words, struct err *err)
{
	size_t n = json_array_size(words), i;
	char **argv = calloc(n + 1, sizeof(*argv));
	const json_t *word;

	if (!argv)
		return err_set(err, -ENOMEM, "out of memory");
	json_array_foreach(words, i, word)
		argv[i] = (char *)json_string_value(word);
	execvp(argv[0], argv);
	int r = err_set(err, -errno, "cannot start 'ssh': %s; install the package 'openssh-client'", strerror(errno));
	free(argv);
	return r;
}

static int ssh(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct plan p = { .key = NULL };
	int r = client_open(&cl, c, err);

	if (!r)
		r = make_plan(&p, c, cl, err);
	AUTO(json_decref) json_t *words = r < 0 ? NULL : make_words(&p, c);
	free(p.key);
	free(p.known);
	if (r < 0)
		return r;
	if (!words)
		return err_set(err, -EINVAL, "the command must be text in UTF-8");
	return c->is_json ? output_json(json_pack("{s:O, s:s, s:i, s:b}", "command", words, "host", p.target.host, "port",
						  (int)p.target.port, "pinned", (int)p.is_pinned), err)
			  : run_ssh(words, err);
}

const struct cli_command guest_ssh = {
	.path = "ssh",
	.summary = "log in to a machine by SSH",
	.about = "Starts ssh(1) with the machine's address: a port of the host that is forwarded to its port 22, or its address on a network. "
		 "Without -i the key is viv's own, made when it is used first; the guest agent, where there is one, lets it in and tells which host "
		 "keys the machine has, so that nobody can take its place. Without an agent, the key has to be among those of 'viv run --ssh-key', "
		 "and the host key is believed the first time. Keys are in $XDG_CONFIG_HOME/viv. With --json the command is printed, not run.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" },
					  { "WORD", .help = "a command for it; without one, a shell", .is_optional = true, .is_repeated = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--user", 'l', CLI_STRING, .metavar = "NAME", .def = "root", .help = "who logs in" },
						{ "--identity", 'i', CLI_STRING, .metavar = "FILE", .help = "a private key of one's own" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "ssh web", "a shell on it" },
						  { "ssh web -- uname -a", "one command" },
						  { "ssh -l debian -i ~/.ssh/id_ed25519 web", "another user, with a key of one's own" },
						  { .line = NULL } },
	.run = ssh,
};
