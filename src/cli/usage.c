/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/output.h"
#include "cli/table.h"

enum { NAME_LEN = 256 };

/* --- top ---------------------------------------------------- */

static void share(const json_t *v, char *buf, size_t cap)
{
	snprintf(buf, cap, "%.1f %%", 100 * json_number_value(v));
}

static void bytes(const json_t *v, char *buf, size_t cap)
{
	char size[OUTPUT_SIZE_LEN];

	snprintf(buf, cap, "%s", output_size(size, (uint64_t)json_number_value(v)));
}

static void per_second(const json_t *v, char *buf, size_t cap)
{
	char size[OUTPUT_SIZE_LEN];

	snprintf(buf, cap, "%s/s", output_size(size, (uint64_t)json_number_value(v)));
}

static const struct table_column columns[] = {
	{ "NAME", "name", NULL }, { "CPU", "cpu", share }, { "MEMORY", "memory", bytes }, { "READS", "read", per_second },
	{ "WRITES", "written", per_second }, { "RECEIVES", "received", per_second }, { "SENDS", "sent", per_second },
	{ "DISK", "storage", bytes }, { .title = NULL },
};

static int by_cpu(const void *a, const void *b)
{
	double x = json_number_value(json_object_get(*(json_t *const *)a, "cpu")),
	       y = json_number_value(json_object_get(*(json_t *const *)b, "cpu"));

	return x > y ? -1 : x < y;
}

/* Those of PROJECT, the busiest first. New reference. */
static json_t *busiest(const json_t *instances, const char *project)
{
	json_t *list = json_array();
	const char *key;
	json_t *v;
	size_t n = 0;
	char prefix[NAME_LEN];

	snprintf(prefix, sizeof(prefix), "instance/%s/", project);
	json_t **rows = calloc(json_object_size(instances) + 1, sizeof(*rows));
	json_object_foreach((json_t *)instances, key, v) {
		if (!rows || strncmp(key, prefix, strlen(prefix)) != 0)
			continue;
		rows[n] = json_copy(v);
		json_object_set_new(rows[n++], "name", json_string(key + strlen(prefix)));
	}
	if (n)
		qsort(rows, n, sizeof(*rows), by_cpu);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, rows[i]);
	free(rows);
	return list;
}

static void print_node(const json_t *node, const json_t *usage)
{
	char used[OUTPUT_SIZE_LEN], all[OUTPUT_SIZE_LEN], storage[OUTPUT_SIZE_LEN];

	if (!usage)
		return;
	printf("%s: %.2f of %lld processors, %s of %s memory, %s storage\n\n", json_string_value(json_object_get(node, "name")) ?: "node",
	       json_number_value(json_object_get(usage, "cpu")), json_integer_value(json_object_get(node, "cpus")),
	       output_size(used, (uint64_t)json_number_value(json_object_get(usage, "memory"))),
	       output_size(all, (uint64_t)json_integer_value(json_object_get(node, "memory"))),
	       output_size(storage, (uint64_t)json_number_value(json_object_get(usage, "storage"))));
}

/* Who sees only projects is told nothing of the node. */
static int print_once(struct cli *c, struct client *cl, bool clears, struct err *err)
{
	AUTO(json_decref) json_t *usage = NULL;
	AUTO(json_decref) json_t *node = NULL;
	AUTO(json_decref) json_t *list = NULL;
	int r = client_call(cl, "GET", NULL, &usage, err, "/v1/usage");

	if (!r && c->is_json)
		return output_json(json_incref(usage), err);
	if (!r && json_object_get(usage, "node"))
		r = client_call(cl, "GET", NULL, &node, err, "/v1/node");
	if (r < 0)
		return r;
	list = busiest(json_object_get(usage, "instances"), cli_str(c, "--project"));
	if (clears)
		fputs("\033[H\033[2J", stdout);
	print_node(node, json_object_get(usage, "node"));
	table_print(list, columns);
	fflush(stdout);
	return 0;
}

static int top(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	bool is_once = cli_flag(c, "--once") || c->is_json || !isatty(STDOUT_FILENO);
	int r = client_open(&cl, c, err);

	while (!r) {
		r = print_once(c, cl, !is_once, err);
		if (is_once)
			break;
		nanosleep(&(struct timespec){ .tv_sec = (time_t)cli_num(c, "--interval") }, NULL);
	}
	return r;
}

const struct cli_command usage_top = {
	.path = "top",
	.summary = "show what machines use",
	.about = "The busiest first, again and again until Ctrl-C: processor time (100 % is one processor), memory of the host, bytes per "
		 "second from and to disks and networks, and what the disk takes on the host. Measured every 5 seconds.",
	.options = (const struct cli_option[]){ { "--once", 0, CLI_FLAG, .help = "show it once; so it is without a terminal" },
						{ "--interval", 'n', CLI_UINT, .metavar = "SECONDS", .def = "5", .help = "between two looks" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "top", "what is busy" }, { "top --json", "once, for a program" }, { .line = NULL } },
	.run = top,
};

/* --- why ---------------------------------------------------- */

static int why(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *answer = NULL;
	const json_t *fact;
	size_t i;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &answer, err, "/v1/instances/%s/why", cli_arg(c, 0));
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_incref(answer), err);
	json_array_foreach(json_object_get(answer, "facts"), i, fact) {
		printf("%-11s ", json_string_value(json_object_get(fact, "about")) ?: "");
		output_text(stdout, json_string_value(json_object_get(fact, "text")) ?: "");
		putchar('\n');
	}
	return 0;
}

const struct cli_command usage_why = {
	.path = "why",
	.summary = "explain a machine's state",
	.about = "Why it runs or does not, where and how, what makes it slow, and how it failed last: from what is recorded and measured.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "why web", "what is the matter with it" }, { .line = NULL } },
	.run = why,
};

/* --- metrics ---------------------------------------------------- */

static int metrics(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(free) char *text = NULL;
	size_t len = 0;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_get_bytes(cl, &text, &len, err, "/v1/metrics");
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_pack("{s:s#}", "metrics", text, (int)len), err);
	fwrite(text, 1, len, stdout);
	return 0;
}

const struct cli_command usage_metrics = {
	.path = "metrics",
	.summary = "print all counters for Prometheus",
	.about = "In its text format: the host, the daemon, and every instance of every project. Prometheus itself reads them at /v1/metrics "
		 "with a token ('viv token create').",
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "metrics", "all there are" }, { .line = NULL } },
	.run = metrics,
};
