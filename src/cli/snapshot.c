/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.c - `viv snapshot` and `viv clone`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cli/bulk.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/resource.h"
#include "cli/table.h"
#include "cli/task.h"

enum { PATH_LEN = 256 };

#define ONLY_CLIENT (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define TWO_NAMES (const struct cli_arg[]){ \
	{ "MACHINE", .help = "the machine" }, { "NAME", .help = "of the snapshot" }, { .name = NULL } }

static const struct table_column columns[] = {
	{ "NAME", "name", NULL }, { "STATE", "status.state", NULL }, { "MEMORY", "status.memory_size", table_size }, { "CREATED", "created", NULL }, { "ABOUT", "spec.about", NULL },
	{ "WHY", "status.reason", NULL }, { .title = NULL },
};

static int ls(struct cli *c, struct err *err)
{
	char plural[PATH_LEN];

	snprintf(plural, sizeof(plural), "instances/%s/snapshots", cli_arg(c, 0));
	return resource_ls(c, plural, columns, err);
}

static int wait_ready(struct client *cl, const char *machine, const char *name, json_t **made, struct err *err)
{
	char path[PATH_LEN];

	snprintf(path, sizeof(path), "/v1/instances/%s/snapshots/%s", machine, name);
	return client_wait(cl, path, "ready", made, NULL, err);
}

static int create_one(struct cli *c, struct client *cl, const json_t *body, struct err *err)
{
	json_t *made = NULL;
	int r = client_call(cl, "POST", body, NULL, err, "/v1/instances/%s/snapshots", cli_arg(c, 0));

	if (!r)
		r = wait_ready(cl, cli_arg(c, 0), cli_arg(c, 1), &made, err);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(made, err);
	json_decref(made);
	return 0;
}

static int create_many(struct cli *c, struct client *cl, const json_t *body, struct err *err)
{
	const char *name = cli_arg(c, c->n_args - 1);
	struct bulk_request b = { .action = "snapshot", .n_names = c->n_args - 1, .member = "snapshot", .body = body };
	json_t *result = NULL, *item;
	int r = bulk_begin(c, cl, &b, &result, err);
	size_t k;

	if (r < 0)
		return r;
	json_array_foreach(json_object_get(result, "items"), k, item) {
		struct err one = ERR_INIT;
		json_t *made = NULL;

		if (!cli_flag(c, "--dry-run") && json_is_true(json_object_get(item, "ok")) &&
		    wait_ready(cl, json_string_value(json_object_get(item, "name")), name, &made, &one) < 0)
			bulk_failed(result, k, &one);
		json_decref(made);
	}
	return bulk_tell(c, result, err);
}

static int create(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	bool has_selector = cli_str(c, "--selector") || cli_flag(c, "--all");
	bool is_one = c->n_args == 2 && !has_selector && !cli_flag(c, "--dry-run");
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:{s:s*, s:b}}", "name", cli_arg(c, c->n_args - 1), "spec", "about",
						   cli_str(c, "--about"), "memory", cli_flag(c, "--memory"));
	int r = bulk_is_single(c, c->n_args - 1, err);

	if (r >= 0)
		r = client_open(&cl, c, err);
	if (r < 0)
		return r;
	return is_one ? create_one(c, cl, body, err) : create_many(c, cl, body, err);
}

static int revert(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *task = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "POST", NULL, &task, err, "/v1/instances/%s/snapshots/%s/revert", cli_arg(c, 0),
				cli_arg(c, 1));
	return r < 0 ? r : task_follow(c, cl, task, "reverting", NULL, err);
}

static int rm(struct cli *c, struct err *err)
{
	char plural[PATH_LEN];
	struct cli names = *c;

	/* What resource_rm() takes are names alone. */
	for (unsigned i = 1; i < c->n_args; i++)
		names.args[i - 1] = c->args[i];
	names.n_args = c->n_args - 1;
	snprintf(plural, sizeof(plural), "instances/%s/snapshots", cli_arg(c, 0));
	return resource_rm(&names, plural, err);
}

/* What becomes of the volumes that are named. */
static int add_volumes(const struct cli *c, json_t *volumes, struct err *err)
{
	const char *word;

	for (unsigned i = 0; (word = cli_nth(c, "--volume", i)) != NULL; i++) {
		const char *eq = strchr(word, '=');

		if (!eq || eq == word || !eq[1])
			return err_set(err, -EINVAL, "'--volume %s': it is VOLUME=NAME", word);
		json_array_append_new(volumes, json_pack("{s:s%, s:s}", "volume", word, (size_t)(eq - word), "name", eq + 1));
	}
	for (unsigned i = 0; (word = cli_nth(c, "--share", i)) != NULL; i++)
		json_array_append_new(volumes, json_pack("{s:s, s:b}", "volume", word, "shared", 1));
	return 0;
}

static int clone_one(struct cli *c, struct err *err)
{
	bool goes_on = cli_flag(c, "--running");
	AUTO(json_decref) json_t *volumes = json_array();
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:s, s:b, s:b, s:O}", "name", cli_arg(c, 1), "state",
						   goes_on || cli_flag(c, "--start") ? "running" : "stopped", "linked",
						   cli_flag(c, "--linked"), "memory", goes_on, "volumes", volumes);
	int r = add_volumes(c, volumes, err);

	return r < 0 ? r : task_run(c, "instances", "clone", json_incref(body), cli_flag(c, "--dry-run"), "copying", err);
}

const struct cli_command snapshot_ls = {
	.path = "snapshot ls", .summary = "list the snapshots of a machine", .about = "By name.",
	.args = (const struct cli_arg[]){ { "MACHINE", .help = "the machine" }, { .name = NULL } }, .options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "snapshot ls web", "all" }, { .line = NULL } }, .run = ls,
};

const struct cli_command snapshot_create = {
	.path = "snapshot create",
	.summary = "take a snapshot",
	.about = "Of all disks that the machine can write, at the same instant, while it runs or not. Of one that runs it is what the "
		 "disks would be after a power failure, which file systems and databases mend. With --memory that of the machine, which must "
		 "run, is kept as well, in a file beside its disk: going back to it, the guest goes on as if nothing had been. It stands still "
		 "while its memory is written. Of several machines each gets one of that name, at its own instant.",
	.args = (const struct cli_arg[]){
		{ "MACHINE|NAME", .help = "the machine, or several, and last the name of the snapshot", .is_repeated = true }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--about", 0, CLI_STRING, .metavar = "TEXT", .help = "for people" },
						{ "--memory", 0, CLI_FLAG, .help = "with the memory of the machine, which runs" },
						BULK_OPTIONS,
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "snapshot create web before-upgrade", "before something risky" },
						  { "snapshot create --memory web now", "to come back to just this" },
						  { "snapshot create --selector env=test before", "of all with a label" },
						  { .line = NULL } },
	.run = create,
};

const struct cli_command snapshot_revert = {
	.path = "snapshot revert",
	.summary = "make a machine what it was",
	.about = "What was written since is lost. The power is cut when the machine is on, and it is started again afterwards. With the "
		 "memory of a snapshot it goes on where it was, also when it is off now; its disks and network interfaces must "
		 "be those that it had then. Later snapshots stay.",
	.args = TWO_NAMES,
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "snapshot revert web before-upgrade", "it went wrong" }, { .line = NULL } },
	.run = revert,
};

const struct cli_command snapshot_rm = {
	.path = "snapshot rm",
	.summary = "delete snapshots",
	.about = "The disks stay as they are.",
	.args = (const struct cli_arg[]){ { "MACHINE", .help = "the machine" },
					  { "NAME", .help = "of a snapshot", .is_repeated = true },
					  { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "snapshot rm web before-upgrade", "one" }, { .line = NULL } },
	.run = rm,
};

const struct cli_group snapshot_group = {
	.path = "snapshot", .summary = "what machines' disks were",
	.about = "A snapshot is kept inside the disks, and takes the space of what is written after it; with memory, a file beside them.",
	.see_also = ".BR viv-disk (1)",
};

const struct cli_command instance_clone = {
	.path = "clone",
	.summary = "make another machine like one",
	.about = "With disks of its own in the same pools, which share blocks with the original's where the file system can do that; without "
		 "its snapshots, addresses and forwarded ports. An original that runs stands still while it is copied: the new disks are "
		 "what its own would be after a power failure, all of the same instant, or, with --running, fit to the memory from which the copy "
		 "goes on. With --linked nothing is copied: what the disks of the original are now is kept for as long as one of the two, or "
		 "another clone, is on it, and each writes into a layer of its own; 'viv flatten' makes one independent. Each volume of the original "
		 "is cloned as its first disk is, as NAME-VOLUME unless --volume says another name; one that the original only reads may be "
		 "shared instead.",
	.args = (const struct cli_arg[]){ { "MACHINE", .help = "the original" }, { "NAME", .help = "of the new one" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--start", 0, CLI_FLAG, .help = "and start it" },
						{ "--running", 0, CLI_FLAG,
						  .help = "and let it go on where the original is, which runs" },
						{ "--linked", 0, CLI_FLAG, .help = "on top of the disks of the original, which is off" },
						{ "--volume", 0, CLI_STRING, .is_repeatable = true, .metavar = "VOLUME=NAME",
						  .help = "call the clone of that volume so" },
						{ "--share", 0, CLI_STRING, .is_repeatable = true, .metavar = "VOLUME",
						  .help = "show this volume, which the original has read-only, to both" },
						{ "--dry-run", 0, CLI_FLAG, .help = "show the task with all that would be made, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "clone web web2 --start", "a second one" },
						  { "clone --running web web2", "in the middle of what it does" },
						  { "clone --linked golden web3", "in no time, and no space" },
						  { "clone db db2 --volume data=data2", "with another name for the clone of a volume" },
						  { .line = NULL } },
	.run = clone_one,
};
