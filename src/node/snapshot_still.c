/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_still.c - pause, copies beside raw disks, snapshots inside the others, memory, resume. What is under way when the machine stands
 * still has not been answered, so that whether it is in a copy or not is what a power cut would leave open, too. A daemon that is killed leaves
 * the machine paused, and the next one lets it go on. */
#include "node/snapshot_still.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "node/disk_files.h"
#include "node/files.h"
#include "node/machine_talk.h"
#include "node/node.h"
#include "util/err.h"
#include "util/json.h"

enum { ANSWER_S = 600, NAMES_MAX = INSTANCE_DISKS_MAX * 8 + 1 };

bool snapshot_has_raw(const struct instance_disks *d)
{
	for (unsigned i = 0; i < d->n; i++)
		if (disk_files_is_raw(d->path[i]))
			return true;
	return false;
}

static bool is_ending(void *arg)
{
	return atomic_load_explicit(&((struct snapshot_still *)arg)->node->is_closing, memory_order_relaxed);
}

/* What a machine refuses has its own code. */
static int code_of(const struct talk *k, int r, struct err *err)
{
	if (r == -EREMOTEIO && k->refusal)
		err->code = r = k->refusal;
	return r;
}

/* --- the disks ---------------------------------------------------- */

static int check_new(const struct snapshot_still *s, struct err *err)
{
	for (unsigned i = 0; i < s->disks->n; i++)
		if (disk_files_is_raw(s->disks->path[i]) && disk_copy_is_there(s->disks->path[i], s->name))
			return err_set(err, -EEXIST, "'%s' has it already", s->disks->path[i]);
	return 0;
}

static void drop_copies(const struct snapshot_still *s)
{
	struct err ignored = ERR_INIT;

	for (unsigned i = 0; i < s->disks->n; i++)
		if (disk_files_is_raw(s->disks->path[i]))
			(void)disk_copy_remove(s->disks->path[i], s->name, &ignored);
}

static int make_copies(const struct snapshot_still *s, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < s->disks->n; i++)
		if (disk_files_is_raw(s->disks->path[i]))
			r = disk_copy_make(s->disks->path[i], s->name, err);
	return r;
}

static int make_inside(const struct snapshot_still *s, struct talk *k, struct err *err)
{
	char names[NAMES_MAX] = "";

	for (unsigned i = 0; i < s->disks->n; i++)
		if (!disk_files_is_raw(s->disks->path[i]))
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", names[0] ? "," : "", s->disks->name[i]);
	if (!names[0])
		return 0;
	return code_of(k, talk_ask(k, "snapshot-create", json_pack("{s:s, s:s}", "disks", names, "name", s->name), NULL, NULL, err), err);
}

/* --- the whole ---------------------------------------------------- */

/* Of one instant, as nobody runs. The last that may fail for a reason of its own is what would have to be taken back by the machine. */
static int take_all(struct snapshot_still *s, struct talk *k, struct err *err)
{
	int r = s->memory ? snapshot_memory_write(s->memory, k, err) : 0;

	if (!r)
		r = make_copies(s, err);
	if (!r)
		r = make_inside(s, k, err);
	if (r < 0) {
		drop_copies(s);
		if (s->memory)
			(void)unlink(s->memory->tmp);
	}
	return r;
}

static int keep_memory(struct snapshot_memory *m, struct err *err)
{
	if (rename(m->tmp, m->path) < 0)
		return err_set(err, -errno, "cannot rename '%s': %s", m->tmp, strerror(errno));
	int r = files_sync_above(m->path, err);
	return r < 0 || snapshot_memory_is_there(m) ? r : err_set(err, -EAGAIN, "'%s' has gone", m->path);
}

static int take(struct snapshot_still *s, struct talk *k, struct err *err)
{
	AUTO(json_decref) json_t *info = NULL;
	struct err ignored = ERR_INIT;
	int r = talk_ask(k, "info", NULL, NULL, &info, err);
	const char *state = json_string_value(json_object_get(info, "state"));
	bool is_running = state && strcmp(state, "paused") != 0;

	if (!r)
		r = talk_ask(k, "pause", NULL, NULL, NULL, err);
	if (r < 0)
		return code_of(k, r, err);
	r = take_all(s, k, err);
	if (is_running)
		(void)talk_ask(k, "resume", NULL, NULL, NULL, &ignored);
	return r < 0 || !s->memory ? r : keep_memory(s->memory, err);
}

int snapshot_still_take(struct snapshot_still *s, struct err *err)
{
	struct talk k = { .fd = -1, .patience_s = ANSWER_S, .is_unwanted = is_ending, .arg = s };
	int r = check_new(s, err);

	if (!r)
		r = talk_open(&k, s->control, err);
	if (!r)
		r = take(s, &k, err);
	talk_close(&k);
	return r;
}
