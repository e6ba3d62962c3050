/* SPDX-License-Identifier: Apache-2.0 */
#include "node/sample.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include "node/node.h"
#include "node/work.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/log.h"

enum { BLOCK = 512 };

struct sample {
	struct sampler *of;             /* NULL: it has stopped */
	bool is_file_system;
	char *storage, *history;        /* owned; may be NULL */
	time_t at;
	double seconds;
	struct usage u;
	double taken, share;            /* what was found */
};

static void sample_free(struct sample *k)
{
	if (!k)
		return;
	free(k->storage);
	free(k->history);
	free(k);
}
DEFINE_AUTO(struct sample *, sample_free)

static void look(struct sample *k)
{
	struct statvfs fs;
	struct stat st;

	if (!k->storage)
		return;
	if (!k->is_file_system) {
		k->taken = stat(k->storage, &st) < 0 ? 0 : (double)st.st_blocks * BLOCK;
	} else if (!statvfs(k->storage, &fs) && fs.f_blocks) {
		k->taken = (double)(fs.f_blocks - fs.f_bfree) * (double)fs.f_frsize;
		k->share = 1 - (double)fs.f_bavail / (double)fs.f_blocks;
	}
}

static int take(void *arg, struct err *err)
{
	struct sample *k = arg;

	look(k);
	k->u.v[USAGE_STORAGE] = k->taken;
	return k->history ? history_add(k->history, k->at, k->seconds, &k->u, err) : 0;
}

static void taken(void *arg, int r, const struct err *err)
{
	struct sample *k = arg;

	if (k->of) {
		k->of->under_way = NULL;
		k->of->storage = k->taken;
		k->of->share = k->share;
		/* It is tried again and again: once is enough to be told. */
		if (r < 0 && !k->of->is_failing)
			log_warn("%s", err->msg);
		k->of->is_failing = r < 0;
	}
	sample_free(k);
}

void sampler_init(struct sampler *s, struct node *n, bool is_file_system)
{
	*s = (struct sampler){ .node = n, .is_file_system = is_file_system };
}

void sampler_stop(struct sampler *s)
{
	if (s->under_way)
		s->under_way->of = NULL;
	s->under_way = NULL;
}

void sampler_take(struct sampler *s, struct works *works, const char *storage, const char *history, double seconds, const struct usage *u)
{
	AUTO(sample_free) struct sample *k = s->under_way ? NULL : calloc(1, sizeof(*k));

	if (!k)
		return;
	*k = (struct sample){ .of = s, .is_file_system = s->is_file_system, .storage = storage ? strdup(storage) : NULL,
			      .history = history ? strdup(history) : NULL, .at = time(NULL), .seconds = seconds, .u = *u };
	if (work_start(works ? works : s->node->writer, take, taken, k) < 0)
		return;
	s->under_way = take_ptr(&k);
}
