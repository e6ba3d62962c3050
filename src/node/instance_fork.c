/* SPDX-License-Identifier: Apache-2.0 */
/* instance_fork.c - an instance that begins as a template of its image (template.h), and becomes a machine of its own.
 *
 * Its files are a copy of the template's disk, another name of its memory, and a mark ("fork"), which says that it does not know yet
 * who it is. It is started from the memory like a copy of another machine; then its guest is told: the time, randomness, an identity of
 * its own, what its seed disk says, a network card with another address. When it has done all that the mark goes, and the instance
 * is "running". Told twice is as good as once, so a daemon that was killed is followed by one that tells it again. One that ends before, or
 * does not listen, has seen nothing of its owner: it is made anew from the image, and boots. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include "node/files.h"
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/template.h"
#include "node/work.h"
#include "util/base64.h"
#include "util/str.h"

enum { TELL_MS = 60000, AGAIN_MS = 100, RANDOM_LEN = 64 };

static char *mark_path(const struct instance *i)
{
	return node_path(i->dir, "fork");
}

bool instance_is_marked(const struct instance *i)
{
	AUTO(free) char *path = mark_path(i);

	return path && !access(path, F_OK);
}

void instance_fork_known(struct instance *i, const json_t *status)
{
	const char *note = json_string_value(json_object_get(status, "start"));

	i->is_fork = i->dir && instance_is_marked(i);
	/* The daemon before this one may not have lived to note it. */
	snprintf(i->start_note, sizeof(i->start_note), "%s", note ? note : i->is_fork ? "it began as the template of its image" : "");
}

/* --- its files ---------------------------------------------------- */

int instance_fork_init(struct fork_files *f, const struct instance *i, struct err *err)
{
	f->mark = mark_path(i);
	f->memory = instance_memory_path(i, MEMORY_COPY);
	if (!f->mark || !f->memory)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

void instance_fork_fini(struct fork_files *f)
{
	free(f->mark);
	free(f->memory);
	free(f->from);
	template_give(f->template);
	*f = (struct fork_files){ .mark = NULL };
}

int instance_fork_clear(const struct fork_files *f, struct err *err)
{
	int r = files_remove(f->memory, err);

	return r < 0 ? r : files_remove(f->mark, err);
}

static bool goes_on(void *arg, uint64_t done, uint64_t total)
{
	return !atomic_load_explicit(&((struct node *)arg)->is_closing, memory_order_relaxed);
}

static int copy_disk(const struct fork_files *f, const char *to, struct err *err)
{
	AUTO(free) char *path = node_path(f->from, "root.qcow2");
	AUTO_FD int in = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	AUTO_FD int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (in < 0 || out < 0)
		return err_set(err, -errno, "cannot copy '%s/root.qcow2' to '%s': %s", f->from, to, strerror(errno));
	return files_copy(in, out, goes_on, f->template->node, err);
}

int instance_fork_make(const struct fork_files *f, const char *disk, struct err *err)
{
	AUTO(free) char *memory = node_path(f->from, "memory");
	AUTO_FD int mark = open(f->mark, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (mark < 0 || fsync(mark) < 0)
		return err_set(err, -errno, "cannot make '%s': %s", f->mark, strerror(errno));
	int r = memory ? files_remove(f->memory, err) : err_set(err, -ENOMEM, "out of memory");
	if (!r && link(memory, f->memory) < 0)
		r = err_set(err, -errno, "cannot make '%s': %s", f->memory, strerror(errno));
	if (!r)
		r = files_sync_above(f->mark, err);
	return r < 0 ? r : copy_disk(f, disk, err);
}

void instance_fork_choose(struct instance *i, const json_t *doc, struct fork_files *f)
{
	const json_t *spec = json_object_get(doc, "spec");
	const char *policy = json_string_value(json_object_get(spec, "template")), *state = json_string_value(json_object_get(spec, "state"));
	struct err err = ERR_INIT;
	char why[TEMPLATE_WHY_LEN] = "";

	if (!policy || strcmp(policy, "auto") || !templates_max(i->c.node->templates) || i->is_cold)
		return;
	i->start_note[0] = 0;
	if (template_check(spec, &err) < 0) {
		snprintf(i->start_note, sizeof(i->start_note), "it booted: %s", err.msg);
	} else if (!state || strcmp(state, "running") != 0) {
		snprintf(i->start_note, sizeof(i->start_note), "it booted: it was made to be %s", state ? state : "nothing");
	} else if ((f->template = template_take(i->c.node, i->c.project, spec, why)) != NULL) {
		f->from = strdup(f->template->dir);
		snprintf(i->start_note, sizeof(i->start_note), "it began as the template of its image that was made at %s", f->template->made);
	} else {
		if (!strstr(why, "could be made"))
			template_want(i->c.node, doc, why);
		snprintf(i->start_note, sizeof(i->start_note), "it booted: %.280s", why);
	}
}

/* --- made anew ---------------------------------------------------- */

struct discard_job {
	struct instance *i;
	struct fork_files files;
	char *disk;
};

static int discard(void *arg, struct err *err)
{
	struct discard_job *j = arg;
	int r = files_remove(j->disk, err);

	return r < 0 ? r : instance_fork_clear(&j->files, err);
}

static void job_free(struct discard_job *j)
{
	instance_fork_fini(&j->files);
	free(j->disk);
	free(j);
}

static void discarded(void *arg, int r, const struct err *err)
{
	struct discard_job *j = arg;
	struct instance *i = j->i;

	job_free(j);
	i->is_fork = instance_is_marked(i);
	instance_disk_done(i, r, err);
}

void instance_fork_discard(struct instance *i)
{
	struct discard_job *j = calloc(1, sizeof(*j));
	struct err err = ERR_INIT;

	if (!strstr(i->start_note, "instead"))
		snprintf(i->start_note, sizeof(i->start_note), "it ended before it was a machine of its own, and has booted instead");
	i->is_cold = true;
	i->phase = PHASE_DISK;
	if (j) {
		j->i = i;
		j->disk = instance_root_path(i);
	}
	if (j && j->disk && !instance_fork_init(&j->files, i, &err) && !work_start(i->c.node->works, discard, discarded, j))
		return;
	if (j)
		job_free(j);
	instance_disk_done(i, err_set(&err, -ENOMEM, "out of memory"), &err);
}

/* --- told who it is ---------------------------------------------------- */

static void give_up(struct instance *i, const char *why)
{
	snprintf(i->start_note, sizeof(i->start_note), "it could not be made a machine of its own (%.180s), and has booted instead", why);
	i->wants_restart = true;
	snprintf(i->stop_reason, sizeof(i->stop_reason), "cut off");
	controlled_set(&i->c, "starting", "it is made anew from its image");
	process_kill(&i->proc, SIGKILL);
}

struct unmark_job {
	struct instance *i;
	char *mark;
};

static int unmark(void *arg, struct err *err)
{
	const struct unmark_job *j = arg;
	int r = files_remove(j->mark, err);

	return r < 0 ? r : files_sync_above(j->mark, err);
}

static void unmarked(void *arg, int r, const struct err *err)
{
	struct unmark_job *j = arg;
	struct instance *i = j->i;

	free(j->mark);
	free(j);
	i->is_telling = false;
	instance_release(i);
	if (r < 0) {
		controlled_failed(&i->c, err);
		return;
	}
	i->is_fork = false;
	instance_seen(i);
}

/* That it knows is durable before anybody sees it. */
static void has_listened(struct instance *i)
{
	struct unmark_job *j = calloc(1, sizeof(*j));

	if (j) {
		j->i = i;
		j->mark = mark_path(i);
	}
	if (j && j->mark && !work_start(i->c.node->works, unmark, unmarked, j)) {
		instance_hold(i, false);
		return;
	}
	free(j ? j->mark : NULL);
	free(j);
	i->is_telling = false;
	controlled_later(&i->c, AGAIN_MS);
}

/* The last line that the guest's programs have said, which shell and programs alike say before they end. */
static void last_words(const json_t *result, char *words, size_t cap)
{
	const char *coded = json_string_value(json_object_get(result, "out")) ?: "";
	AUTO(free) char *said = calloc(1, strlen(coded) + 1);
	ssize_t len = said ? base64_decode((uint8_t *)said, coded, strlen(coded)) : 0;

	while (len > 0 && said[len - 1] == '\n')
		said[--len] = 0;
	const char *line = len > 0 ? strrchr(said, '\n') : NULL;
	snprintf(words, cap, "%s", line ? line + 1 : len > 0 ? said : "");
	str_make_harmless(words);
}

static void told(void *arg, int r, const json_t *result, const struct err *err)
{
	struct instance *i = arg;
	const json_t *status = json_object_get(result, "exit");

	if (!r && json_is_integer(status) && !json_integer_value(status)) {
		has_listened(i);
		return;
	}
	i->is_telling = false;
	if (r == -ECONNRESET || r == -ECANCELED)
		return;
	if (!r) {
		char words[100], why[160];

		last_words(result, words, sizeof(words));
		snprintf(why, sizeof(why), "what its guest was to do has failed%s%s", words[0] ? ": " : "", words);
		give_up(i, why);
	} else if (loop_now_ns() > i->tell_until_ns)
		give_up(i, err->msg);
	else
		controlled_later(&i->c, AGAIN_MS);
}

void instance_fork_tell(struct instance *i)
{
	uint8_t random[RANDOM_LEN];
	char input[BASE64_LEN(RANDOM_LEN) + 1], now[48];
	struct timespec t;

	if (i->is_telling)
		return;
	if (!i->tell_until_ns)
		i->tell_until_ns = loop_now_ns() + (uint64_t)TELL_MS * 1000000u;
	(void)!getrandom(random, sizeof(random), 0);
	base64_encode(input, random, sizeof(random));
	clock_gettime(CLOCK_REALTIME, &t);
	snprintf(now, sizeof(now), "%lld.%09ld", (long long)t.tv_sec, t.tv_nsec);
	i->is_telling = true;
	vmm_request(i->vmm, "agent-exec", json_pack("{s:s, s:[s,s,s,s], s:s, s:i}", "program", "/bin/sh", "args", "-c", template_renew, "sh", now,
						    "input", input, "timeout", TELL_MS / 1000), told, i);
	explicit_bzero(random, sizeof(random));
	explicit_bzero(input, sizeof(input));
}
