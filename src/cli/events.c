/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - `viv events`: changes of documents, a line each, as they happen. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cli/client.h"
#include "cli/client_priv.h"
#include "cli/client_socket.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/usage.h"

enum { GONE = 4410 /* the revision to go on from is too long ago */, MESSAGE_MAX = 16 << 20 };

struct watch {
	const char *kind, *name;        /* only these; NULL: any */
	uint64_t left;                  /* changes to be told still */
	bool is_json, is_endless, is_broken;
	long long revision;             /* of the last message */
	char *text;                     /* what of a message has come, of LEN bytes */
	size_t len;
};

/* "instance/default/web" is the instance web of the project default, "user/anna" the user anna. */
static bool is_wanted(const struct watch *w, const char *key)
{
	const char *name = strrchr(key, '/');
	size_t kind_len = strcspn(key, "/");

	return (!w->kind || (strlen(w->kind) == kind_len && !strncmp(w->kind, key, kind_len))) &&
	       (!w->name || !strcmp(w->name, name ? name + 1 : key));
}

static void print_line(const char *type, const char *key, const json_t *doc)
{
	const char *state = json_string_value(table_at(doc, "status.state")), *reason = json_string_value(table_at(doc, "status.reason"));
	size_t kind_len = strcspn(key, "/");
	char now[16];
	time_t t = time(NULL);
	struct tm tm;

	strftime(now, sizeof(now), "%H:%M:%S", localtime_r(&t, &tm));
	printf("%s  %-8s %-9.*s ", now, !strcmp(type, "put") ? "set" : !strcmp(type, "delete") ? "gone" : "state", (int)kind_len, key);
	output_text(stdout, key[kind_len] ? key + kind_len + 1 : "");
	if (state && strcmp(type, "delete") != 0) {
		printf("  %s", state);
		if (reason && reason[0]) {
			fputs(": ", stdout);
			output_text(stdout, reason);
		}
	}
	putchar('\n');
}

static void tell(struct watch *w, json_t *message)
{
	const char *type = json_string_value(json_object_get(message, "type")), *key = json_string_value(json_object_get(message, "key"));

	if (json_is_integer(json_object_get(message, "revision")))
		w->revision = json_integer_value(json_object_get(message, "revision"));
	if (!type || !key || !is_wanted(w, key) || (!w->is_endless && !w->left))
		return;
	if (w->is_json) {
		json_dumpf(message, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		print_line(type, key, json_object_get(message, "document"));
	}
	w->is_broken |= fflush(stdout) != 0;
	w->left -= w->left > 0;
}

static void on_data(void *arg, const char *data, size_t len, bool is_last)
{
	struct watch *w = arg;
	char *more = w->len + len <= MESSAGE_MAX ? realloc(w->text, w->len + len + 1) : NULL;

	if (!more) {
		w->is_broken = true;
		return;
	}
	w->text = more;
	memcpy(w->text + w->len, data, len);
	w->len += len;
	if (!is_last)
		return;
	AUTO(json_decref) json_t *message = json_loadb(w->text, w->len, 0, NULL);

	w->len = 0;
	if (message)
		tell(w, message);
}

/* Why it has ended by itself. */
static int explain(const struct client_socket *s, const struct watch *w, struct err *err)
{
	const char *why = client_socket_why(s);

	if (!client_socket_was_open(s))
		return err_set(err, -ECONNREFUSED, "changes cannot be watched: %s", why[0] ? why : "the daemon does not answer");
	if (client_socket_code(s) == GONE)
		return err_set(err, -ESTALE, "that revision is too long ago; list what there is, and watch from now on, without --from");
	return err_set(err, -EPIPE, "the daemon has closed the connection%s%s; go on with --from %lld", why[0] ? ": " : "", why, w->revision);
}

static int events(struct cli *c, struct err *err)
{
	static const struct client_socket_ops ops = { .data = on_data };
	AUTO(client_close) struct client *cl = NULL;
	AUTO(client_socket_free) struct client_socket *s = NULL;
	struct watch w = { .kind = cli_str(c, "--kind"), .name = cli_str(c, "--name"), .left = cli_num(c, "--count"),
			   .is_json = c->is_json, .revision = -1 };
	char path[64] = "/v1/events";

	w.is_endless = !w.left;
	if (cli_str(c, "--from"))
		snprintf(path, sizeof(path), "/v1/events?from=%llu", (unsigned long long)cli_num(c, "--from"));
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_socket_open(&s, cl, path, &ops, &w, err);
	bool is_open = !r;

	while (is_open && !w.is_broken && (w.is_endless || w.left))
		is_open = client_socket_serve(s);
	free(w.text);
	if (!r && w.is_broken)
		return err_set(err, -EIO, "what has changed cannot be printed");
	return r || is_open || (!w.is_endless && !w.left) ? r : explain(s, &w, err);
}

const struct cli_command usage_events = {
	.path = "events",
	.summary = "print what changes, as it happens",
	.about = "A line for each change of a machine, a volume, a network, a task and all the rest that one may see: 'set' when what is wanted "
		 "has changed, 'state' when what is so has, 'gone' when it has been deleted. With --json each line is one document: revision, "
		 "type, key, and the thing as it is then. After a break, --from goes on where it ended, and nothing is missing.",
	.options = (const struct cli_option[]){ { "--kind", 'k', CLI_STRING, .metavar = "KIND", .help = "only of these: instance, volume, task ..." },
						{ "--name", 'n', CLI_STRING, .metavar = "NAME", .help = "only of things with this name" },
						{ "--from", 0, CLI_UINT, .metavar = "REVISION", .help = "go on after this revision" },
						{ "--count", 'c', CLI_UINT, .metavar = "N", .def = "0", .help = "end after so many; 0: never" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "events --kind instance", "what machines do" },
						  { "events --json --count 1 --name web", "wait for a change of 'web'" },
						  { .line = NULL } },
	.run = events,
};
