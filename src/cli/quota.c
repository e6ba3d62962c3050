/* SPDX-License-Identifier: Apache-2.0 */
/* quota.c - `viv quota`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cli/access.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/table.h"
#include "util/str.h"

static const char *const names[] = { "instances", "cpus", "memory", "disk" };
enum { N_NAMES = sizeof(names) / sizeof(names[0]), FIRST_SIZE = 2 };

static void tell_amount(unsigned i, const json_t *value)
{
	char buf[OUTPUT_SIZE_LEN];

	if (!value)
		printf("%-12s", "-");
	else if (i >= FIRST_SIZE)
		printf("%-12s", output_size(buf, (uint64_t)json_integer_value(value)));
	else
		printf("%-12lld", (long long)json_integer_value(value));
}

static int show(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *usage = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &usage, err, "/v1/projects/%s/usage", cli_arg(c, 0));
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_incref(usage), err);
	printf("%-12s%-12s%s\n", "WHAT", "USED", "LIMIT");
	for (unsigned i = 0; i < N_NAMES; i++) {
		const json_t *one = json_object_get(usage, names[i]);

		printf("%-12s", names[i]);
		tell_amount(i, json_object_get(one, "used"));
		tell_amount(i, json_object_get(one, "limit"));
		putchar('\n');
	}
	return 0;
}

/* "memory=16G" into QUOTA; "none" takes a limit away. */
static int put(json_t *quota, const char *word, struct err *err)
{
	const char *eq = strchr(word, '=');
	uint64_t v = 0;

	for (unsigned i = 0; eq && i < N_NAMES; i++) {
		if (strlen(names[i]) != (size_t)(eq - word) || strncmp(names[i], word, (size_t)(eq - word)) != 0)
			continue;
		if (!strcmp(eq + 1, "none"))
			return json_object_set_new(quota, names[i], json_null());
		int r = i >= FIRST_SIZE ? str_parse_size(&v, eq + 1, err) : str_parse_u64(&v, eq + 1, err);

		return r < 0 ? err_wrap(err, r, "'%s'", names[i]) : json_object_set_new(quota, names[i], json_integer((json_int_t)v));
	}
	return err_set(err, -EINVAL, "'%s' is none of instances=N, cpus=N, memory=SIZE and disk=SIZE", word);
}

static int set(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *quota = json_object(), *doc = NULL;
	AUTO(json_decref) json_t *patch = json_pack("{s:{s:O}}", "spec", "quota", quota);
	bool is_dry = cli_flag(c, "--dry-run");
	const char *word;
	int r = 0;

	for (unsigned i = 1; !r && (word = cli_arg(c, i)) != NULL; i++)
		r = put(quota, word, err);
	if (!r)
		r = client_open(&cl, c, err);
	if (!r)
		r = client_call(cl, "PATCH", patch, &doc, err, "/v1/projects/%s%s", cli_arg(c, 0), is_dry ? "?dry-run=1" : "");
	if (r < 0)
		return r;
	return c->is_json || is_dry ? output_json(json_incref(doc), err) : 0;
}

const struct cli_command quota_show = {
	.path = "quota show",
	.summary = "tell how much a project has, and may have",
	.about = "Machines count whether they run or not, and disks as large as guests see them.",
	.args = (const struct cli_arg[]){ { "PROJECT", .help = "whose" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "quota show default", "of one" }, { .line = NULL } },
	.run = show,
};

const struct cli_command quota_set = {
	.path = "quota set",
	.summary = "limit how much a project may have",
	.about = "LIMIT is instances=N, cpus=N, memory=SIZE or disk=SIZE; 'none' for N or SIZE takes a limit away. It holds for what is "
		 "made or grows from now on; what there is stays. Only administrators of the node may do it.",
	.args = (const struct cli_arg[]){ { "PROJECT", .help = "whose" },
					  { "LIMIT", .help = "what it may have at most", .is_repeated = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--dry-run", 0, CLI_FLAG, .help = "show what it would be, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "quota set shop instances=10 cpus=16 memory=32G disk=500G", "all four" },
						  { "quota set shop disk=none", "no longer of disks" },
						  { .line = NULL } },
	.run = set,
};

const struct cli_group quota_group = {
	.path = "quota", .summary = "how much projects may have",
	.about = "A request that would take a project beyond its quota is refused with the sentence that says which.",
	.see_also = ".BR viv-project (1)",
};
