/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk snapshot create, list, revert, rm */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "cli/disk.h"
#include "cli/output.h"

static int snapshot_say(const struct cli *c, const char *what, const char *id, struct err *err)
{
	if (c->is_json)
		return output_json(json_pack("{s:s, s:s, s:s}", "filename", cli_arg(c, 0), "snapshot", cli_arg(c, 1),
					     "id", id), err);
	if (!c->is_quiet)
		printf("%s: snapshot '%s' %s\n", cli_arg(c, 0), cli_arg(c, 1), what);
	return 0;
}

static int snapshot_open(struct blk **b, struct cli *c, struct err *err)
{
	return disk_open(b, c, cli_arg(c, 0), cli_str(c, "--format"), DISK_WRITABLE, err);
}

static int snapshot_create(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_snapshot s = { .icount = UINT64_MAX };
	struct timespec now;

	if (strlen(cli_arg(c, 1)) >= sizeof(s.name))
		return err_set(err, -ENAMETOOLONG, "the name of a snapshot has at most %zu bytes", sizeof(s.name) - 1);
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(s.name, sizeof(s.name), "%s", cli_arg(c, 1));
	s.date_s = (uint64_t)now.tv_sec;
	s.date_ns = (uint32_t)now.tv_nsec;
	int r = snapshot_open(&b, c, err);

	if (!r)
		r = blk_snapshot_create(b, &s, err);
	return r < 0 ? r : snapshot_say(c, "made", s.id, err);
}

static int snapshot_revert(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	int r = snapshot_open(&b, c, err);

	if (!r)
		r = blk_snapshot_apply(b, cli_arg(c, 1), err);
	return r < 0 ? r : snapshot_say(c, "is what the disk holds now", "", err);
}

static int snapshot_rm(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	int r = snapshot_open(&b, c, err);

	if (!r)
		r = blk_snapshot_delete(b, cli_arg(c, 1), err);
	return r < 0 ? r : snapshot_say(c, "removed", "", err);
}

static void snapshot_print(const struct blk_snapshot *s)
{
	time_t when = (time_t)s->date_s;
	char size[OUTPUT_SIZE_LEN], date[32] = "-";
	struct tm tm;

	if (localtime_r(&when, &tm))
		strftime(date, sizeof(date), "%F %T", &tm);
	printf("%-5s %-19s  %10s  ", s->id, date, output_size(size, s->disk_size));
	output_text(stdout, s->name);
	putchar('\n');
}

static int snapshot_list(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	AUTO(free) struct blk_snapshot *list = NULL;
	json_t *out = json_array();
	unsigned n = 0;
	int r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"), DISK_UNLOCKED | DISK_NO_BACKING | DISK_NO_KEY,
			  err);

	if (!r)
		r = blk_snapshot_list(b, &list, &n, err);
	if (!r && !c->is_json)
		printf("%-5s %-19s  %10s  %s\n", "id", "made", "disk", "name");
	for (unsigned i = 0; !r && i < n; i++) {
		if (!c->is_json)
			snapshot_print(&list[i]);
		else
			json_array_append_new(out, json_pack("{s:s, s:s?, s:I, s:I, s:I}", "id", list[i].id, "name",
							     list[i].name,
							     "disk-size", (json_int_t)list[i].disk_size,
								     "vm-state-size",
							     (json_int_t)list[i].vm_state_size, "date-sec",
							     (json_int_t)list[i].date_s));
	}
	if (r < 0 || !c->is_json) {
		json_decref(out);
		return r;
	}
	return output_json(out, err);
}

static const struct cli_arg snapshot_args[] = {
	{ "FILE", .help = "the image" }, { "NAME", .help = "of the snapshot, or its id" }, { .name = NULL },
};
static const struct cli_option snapshot_options[] = { DISK_OPTION_FORMAT, { .name = NULL } };

const struct cli_command disk_snapshot_create = {
	.path = "disk snapshot create",
	.summary = "remember what the disk holds now, inside the image",
	.about = "Takes a few milliseconds, whatever the size of the disk. The disk of a running machine is in use; "
		 "its own "
		 "snapshots are made by the machine.",
	.args = snapshot_args,
	.options = snapshot_options,
	.examples = (const struct cli_example[]){
		{ "disk snapshot create root.qcow2 before-upgrade", "before something that may go wrong" },
		{ .line = NULL },
	},
	.run = snapshot_create,
};

const struct cli_command disk_snapshot_list = {
	.path = "disk snapshot list",
	.summary = "list the snapshots in an image",
	.about = "Tells the id, the time and the name of each.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image" }, { .name = NULL } },
	.options = snapshot_options,
	.examples = (const struct cli_example[]){ { "disk snapshot list root.qcow2", "what there is" },
						  { .line = NULL } },
	.run = snapshot_list,
};

const struct cli_command disk_snapshot_revert = {
	.path = "disk snapshot revert",
	.summary = "make the disk what it was at a snapshot",
	.about = "What was written since is lost, unless another snapshot has it. The snapshot stays.",
	.args = snapshot_args,
	.options = snapshot_options,
	.examples = (const struct cli_example[]){
		{ "disk snapshot revert root.qcow2 before-upgrade", "after it went wrong" }, { .line = NULL },
	},
	.run = snapshot_revert,
};

const struct cli_command disk_snapshot_rm = {
	.path = "disk snapshot rm",
	.summary = "forget a snapshot",
	.about = "Frees what only the snapshot needed; the disk itself does not change.",
	.args = snapshot_args,
	.options = snapshot_options,
	.examples = (const struct cli_example[]){
		{ "disk snapshot rm root.qcow2 before-upgrade", "when all is well" }, { .line = NULL },
	},
	.run = snapshot_rm,
};
