/* SPDX-License-Identifier: Apache-2.0 */
/* audit.c - `viv audit`. */
#include <errno.h>
#include <stdio.h>
#include "cli/access.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/table.h"

static const struct table_column columns[] = {
	{ "SEQ", "seq", NULL }, { "TIME", "time", NULL }, { "USER", "user", NULL }, { "VIA", "via", NULL },
	{ "ADDRESS", "address", NULL }, { "OPERATION", "operation", NULL }, { "PROJECT", "project", NULL },
	{ "TARGET", "target", NULL }, { "STATUS", "status", NULL }, { .title = NULL },
};

static int ls(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *page = NULL;
	const char *user = cli_str(c, "--user");
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &page, err, "/v1/audit?limit=%llu%s%s",
				(unsigned long long)cli_num(c, "--last"), user ? "&user=" : "", user ? user : "");
	if (r < 0)
		return r;
	json_t *items = json_object_get(page, "items");
	if (c->is_json)
		return output_json(json_incref(items), err);
	table_print(items, columns);
	return 0;
}

static int verify(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *doc = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &doc, err, "/v1/audit/verify");
	if (r < 0)
		return r;
	bool is_whole = json_is_true(json_object_get(doc, "is_whole"));
	if (c->is_json)
		r = output_json(json_incref(doc), err);
	else if (is_whole)
		printf("%lld records, all as they were written; the last has hash %s\n",
		       (long long)json_integer_value(json_object_get(doc, "records")),
		       json_string_value(table_at(doc, "head.hash")));
	else
		printf("record %lld: %s\n", (long long)json_integer_value(json_object_get(doc, "bad")),
		       json_string_value(json_object_get(doc, "why")));
	return r < 0 ? r : is_whole ? CLI_DONE : CLI_DIFFERENT;
}

const struct cli_command audit_ls = {
	.path = "audit ls",
	.summary = "tell who has changed what",
	.about = "Every request that has changed something, and those that were refused.",
	.options = (const struct cli_option[]){ { "--last", 'n', CLI_UINT, .metavar = "N", .def = "100",
						  .help = "the last so many" },
						{ "--user", 'u', CLI_STRING, .metavar = "NAME", .help = "only this one's" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "audit ls --user alice", "what alice did" }, { .line = NULL } },
	.run = ls,
};

const struct cli_command audit_verify = {
	.path = "audit verify",
	.summary = "find out whether the audit log was altered",
	.about = "Each record has the hash of the one before it. Who writes the last hash down elsewhere can tell later that "
		 "nothing before it was changed. Ends with status 3 when something was.",
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "audit verify", "is it whole?" }, { .line = NULL } },
	.run = verify,
};

const struct cli_group audit_group = {
	.path = "audit", .summary = "who has changed what",
	.about = "A log in which nothing can be altered without its showing.", .see_also = ".BR viv-user (1)",
};
