/* SPDX-License-Identifier: Apache-2.0 */
#include "cut.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/falloc.h>

enum { TORN_MAX = 4 << 20 /* bytes of a hole that is taken apart */ };

void cut_durable(uint64_t cut, struct durable *d)
{
	*d = (struct durable){ { 0 } };
	for (size_t i = 0; i < recorder.n; i++) {
		const struct event *f = &recorder.v[i];

		if (f->kind == EV_FLUSH && f->done <= cut && f->start > d->at[f->file])
			d->at[f->file] = f->start;
	}
}

/* Zeroes, in a hole. */
static void hole_apply(struct guest *g, int fd, const struct event *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0 ||
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)e->off, (off_t)e->len) < 0 ||
	    ((uint64_t)st.st_size < e->off + e->len && syscall(SYS_ftruncate, fd, e->off + e->len) < 0))
		fail(g, "fallocate: %s", strerror(errno));
}

static void event_apply(struct guest *g, int fd, const struct event *e, bool is_whole)
{
	static const uint8_t zero[SECTOR];
	uint64_t step = is_whole ? e->len : SECTOR;

	if (e->kind == EV_LENGTH) {
		if (syscall(SYS_ftruncate, fd, e->off) < 0)
			fail(g, "ftruncate: %s", strerror(errno));
		return;
	}
	if (e->kind == EV_ZERO && (is_whole || e->len > TORN_MAX)) {
		hole_apply(g, fd, e);
		return;
	}
	for (uint64_t at = 0; at < e->len; at += step) {
		uint64_t n = e->len - at < step ? e->len - at : step;

		if ((is_whole || rnd(g, 2)) &&
		    pwrite(fd, e->kind == EV_WRITE ? e->data + at : zero, n, (off_t)(e->off + at)) < 0)
			fail(g, "pwrite: %s", strerror(errno));
	}
}

bool event_is_open(const struct event *e, uint64_t cut, const struct durable *d)
{
	return e->start <= cut && e->kind != EV_FLUSH && e->file != FOLDER && e->done >= d->at[e->file];
}

/* Is piece I of those in the file? *IS_WHOLE: all of it. */
static bool event_maybe(struct guest *g, const struct outcome *o, uint64_t i, bool *is_whole)
{
	*is_whole = true;
	switch (o->mood) {
	case ALL:
		return true;
	case NONE:
		return false;
	case TORN:
		*is_whole = rnd(g, 2);
		return rnd(g, 2);
	case BUT_ONE:
	case ONE:
		return (i == o->which) == (o->mood == ONE);
	case SUBSET:
		return i < 64 && o->which >> i & 1;
	case SOME:
		break;
	}
	return rnd(g, 2);
}

/* Names and the files behind them. Of changes of a folder that are not flushed the first ones may be there. */
struct names { char name[FILES][64]; bool is_there[FILES]; };

static void names_make(struct guest *g, uint64_t cut, const struct durable *d, const struct outcome *o, struct names *n)
{
	bool goes_on = true;

	for (unsigned i = 0; i < recorder.n_files; i++) {
		memcpy(n->name[i], recorder.file[i].name, sizeof(n->name[i]));
		n->is_there[i] = recorder.file[i].base;
	}
	for (size_t i = 0; i < recorder.n; i++) {
		const struct event *e = &recorder.v[i];

		if (e->start > cut || e->file != FOLDER || e->kind == EV_FLUSH)
			continue;
		if (e->done >= d->at[FOLDER])
			goes_on = goes_on && (o->mood == ALL || (o->mood != NONE && rnd(g, 4)));
		if (!goes_on)
			break;
		if (e->kind == EV_MADE)
			n->is_there[e->len] = true;
		for (unsigned k = 0; k < recorder.n_files && e->kind == EV_RENAMED; k++) {
			if (n->is_there[k] && !strcmp(n->name[k], e->to))
				n->is_there[k] = false;
			else if (n->is_there[k] && !strcmp(n->name[k], e->from))
				snprintf(n->name[k], sizeof(n->name[k]), "%s", e->to);
		}
	}
}

static int cut_file(struct guest *g, const struct rec_file *f, const char *name)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", g->cut_folder, name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || (f->len && pwrite(fd, f->base, f->len, 0) != (ssize_t)f->len) ||
	    syscall(SYS_ftruncate, fd, f->size) < 0)
		fail(g, "cannot write '%s'", path);
	return fd;
}

void cut_make(struct guest *g, uint64_t cut, const struct outcome *o)
{
	struct names names;
	struct durable d;
	uint64_t n_open = 0;
	int fd[FILES];

	cut_durable(cut, &d);
	names_make(g, cut, &d, o, &names);
	folder_empty(g->cut_folder);
	for (unsigned i = 0; i < recorder.n_files; i++)
		fd[i] = names.is_there[i] ? cut_file(g, &recorder.file[i], names.name[i]) : -1;
	for (size_t i = 0; i < recorder.n; i++) {
		const struct event *e = &recorder.v[i];
		bool is_whole = true;

		if (e->start > cut || e->kind == EV_FLUSH || e->file == FOLDER)
			continue;
		if (event_is_open(e, cut, &d) && !event_maybe(g, o, n_open++, &is_whole))
			continue;
		if (fd[e->file] >= 0)
			event_apply(g, fd[e->file], e, is_whole);
	}
	for (unsigned i = 0; i < recorder.n_files; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}
