/* SPDX-License-Identifier: Apache-2.0 */
/* instance_set.c - `viv set`, `viv console` and `viv logs`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cli/client.h"
#include "cli/instance.h"
#include "cli/output.h"

/* "a.b=value" into DOC: as JSON when it is that, else as a string. */
static int put(json_t *doc, const char *word, struct err *err)
{
	const char *eq = strchr(word, '='), *p = word;

	if (!eq || eq == word)
		return err_set(err, -EINVAL, "'%s' is no FIELD=VALUE", word);
	while (memchr(p, '.', (size_t)(eq - p))) {
		size_t n = strcspn(p, ".");
		json_t *sub = json_object_getn(doc, p, n);

		if (!sub) {
			sub = json_object();
			json_object_setn_new(doc, p, n, sub);
		}
		doc = sub;
		p += n + 1;
	}
	json_t *value = json_loads(eq + 1, JSON_DECODE_ANY, NULL);
	json_object_setn_new(doc, p, (size_t)(eq - p), value ? value : json_string(eq + 1));
	return 0;
}

static int set(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *patch = json_object(), *spec = json_object();
	json_t *doc = NULL;
	const char *word;
	int r = 0;

	for (unsigned i = 1; !r && (word = cli_arg(c, i)) != NULL; i++)
		r = put(strncmp(word, "labels.", 7) ? spec : patch, word, err);
	if (json_object_size(spec))
		json_object_set(patch, "spec", spec);
	if (!r)
		r = client_open(&cl, c, err);
	if (!r)
		r = client_call(cl, "PATCH", patch, &doc, err, "/v1/instances/%s%s", cli_arg(c, 0),
				cli_flag(c, "--dry-run") ? "?dry-run=1" : "");
	if (r < 0)
		return r;
	if (c->is_json || cli_flag(c, "--dry-run"))
		return output_json(doc, err);
	json_decref(doc);
	return 0;
}

const struct cli_command instance_set = {
	.path = "set",
	.summary = "change fields of a machine",
	.about = "FIELD is a member of 'spec', or 'labels.NAME'; 'null' takes one away. Most take effect when the "
		 "machine is started the "
		 "next time.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" },
					  { "FIELD=VALUE", .help = "what to change", .is_repeated = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--dry-run", 0, CLI_FLAG,
						  .help = "show what it would be, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "set web memory=2G cpus=2 labels.tier=web", "three of them" },
						  { "set web --dry-run restart=always", "only look" },
						  { .line = NULL } },
	.run = set,
};

static int console(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, NULL, err, "/v1/instances/%s", cli_arg(c, 0));
	return r < 0 ? r : client_console(cl, cli_arg(c, 0), err);
}

const struct cli_command instance_console = {
	.path = "console",
	.summary = "open the console of a machine",
	.about = "On a terminal, Ctrl-a x leaves it and Ctrl-a a types Ctrl-a. Several may look at once. What was "
		 "said last is shown first. It ends with the machine, or a second after the end of an input that is "
		 "no terminal.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "console web", "look and type" }, { .line = NULL } },
	.run = console,
};

static int logs(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(free) char *text = NULL;
	size_t len = 0;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_get_bytes(cl, &text, &len, err, "/v1/instances/%s/log", cli_arg(c, 0));
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_pack("{s:s%}", "log", text ? text : "", len) ?: json_pack("{s:n}", "log"), err);
	fwrite(text, 1, len, stdout);
	return 0;
}

const struct cli_command instance_logs = {
	.path = "logs", .summary = "print what a machine's console has said",
	.about = "The last 64 KiB, as they came: control characters included.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "logs web", "what it said" }, { .line = NULL } },
	.run = logs,
};
