/* SPDX-License-Identifier: Apache-2.0 */
/* powercut - what an image is when the power goes at any moment.
 *
 *	powercut [--seed N] [--steps N] [--cuts N] [--format F] [--options LIST] [--backing] [--size BYTES]
 *		 [--dir DIR] [--qemu] [--exhaustive] [--orders N] [--grow BYTES] [--to BYTES] [--spread BYTES]
 *		 [--cache BYTES] [--tight]
 *
 * A back end below the library records every write, hole, new length and flush of the image's files while a
 * guest's random work goes on, and the files that are made and renamed; requests end in random order. Then, for many moments: what was done before
 * a flush that had ended is in the file; of what was started after, any sectors are or are not. The image
 * made so must open, pass a check (leaks are allowed), hold in each sector a value that the guest may find
 * there - what it flushed, or something newer that it wrote - and go on working.
 *
 * The moments are --cuts random ones; with --exhaustive all at which something began or was flushed, each with
 * up to --orders different outcomes: all subsets of what may be missing where there are no more than that, else
 * nothing, everything, all but one, one alone, and random ones. Prints how many cuts that were.
 *
 * With --grow the disk begins with BYTES and is resized on the way: after a cut it has either size, and once that was
 * flushed the new one; with --to that is more than the guest uses. With --spread what the guest uses are pieces of 8 KiB,
 * one in each so many bytes of the disk. --cache is the memory for metadata, so that it is written back on the way, too.
 * --tight, of vdi: blocks begin right behind the map, as QEMU has it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/falloc.h>
#include "blk/blk_ops.h"
#include "blk/secret.h"
#include "util/endian.h"
#include "util/log.h"

enum { VDI_DATA_AT = 0x158, VDI_BLOCKS_AT = 0x180 };
enum { SECTOR = BLK_SECTOR, BATCH = 8, KEPT = 3, FILES = 64, FOLDER = FILES /* as a file of its own */, RUN = 16 /* sectors */,
       TORN_MAX = 4 << 20 /* bytes of a hole that is taken apart */ };

/* Of images that the options make encrypted ones. */
static const struct blk_secret passphrase = { (uint8_t *)"powercut", 8 };

/* --- the recorder ------------------------------------------------------------------------------- */

enum event_kind { EV_WRITE, EV_ZERO, EV_LENGTH, EV_FLUSH, EV_MADE, EV_RENAMED };
struct event {
	enum event_kind kind;
	unsigned file;
	uint64_t off, len, start, done;         /* times */
	uint8_t *data;
	char from[64], to[64];                  /* EV_MADE: TO, EV_RENAMED */
};

/* A file by what it is, whatever its name: as it was when recording began. */
struct rec_file { dev_t dev; ino_t ino; char name[64]; uint8_t *base; size_t len; off_t size; };

static struct {
	struct event *v;
	size_t n, cap;
	uint64_t now;
	bool is_on;
	uint64_t rng;
	struct rec_file file[FILES];
	unsigned n_files;
} recorder;

static uint64_t recorder_random(uint64_t below)
{
	recorder.rng ^= recorder.rng >> 12;
	recorder.rng ^= recorder.rng << 25;
	recorder.rng ^= recorder.rng >> 27;
	return (recorder.rng * 2685821657736338717ull >> 11) % below;
}

static size_t record(enum event_kind kind, unsigned file, uint64_t off, uint64_t len)
{
	if (recorder.n == recorder.cap) {
		recorder.cap = recorder.cap ? recorder.cap * 2 : 1024;
		recorder.v = realloc(recorder.v, recorder.cap * sizeof(*recorder.v));
	}
	recorder.v[recorder.n] = (struct event){ .kind = kind, .file = file, .off = off, .len = len, .start = ++recorder.now,
						 .done = UINT64_MAX };
	return recorder.n++;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The number of the file behind FD; one that is not known has just been made. */
static unsigned rec_file_of(int fd)
{
	char link[32], path[300] = "";
	struct stat st;

	if (fstat(fd, &st) < 0)
		abort();
	if (S_ISDIR(st.st_mode))
		return FOLDER;
	for (unsigned i = 0; i < recorder.n_files; i++)
		if (recorder.file[i].ino == st.st_ino && recorder.file[i].dev == st.st_dev)
			return i;
	if (recorder.n_files == FILES)
		abort();
	struct rec_file *f = &recorder.file[recorder.n_files];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof(path) - 1) < 0)
		abort();
	*f = (struct rec_file){ .dev = st.st_dev, .ino = st.st_ino };
	snprintf(f->name, sizeof(f->name), "%.63s", base_name(path));
	if (recorder.is_on) {
		size_t e = record(EV_MADE, FOLDER, 0, recorder.n_files);

		memcpy(recorder.v[e].to, f->name, sizeof(f->name));
		recorder.v[e].done = recorder.now;
	}
	return recorder.n_files++;
}

/* The library changes the length of a file with this; ours goes before the C library's. */
int ftruncate(int fd, off_t len)
{
	int r = (int)syscall(SYS_ftruncate, fd, len);

	if (!r && recorder.is_on) {
		size_t e = record(EV_LENGTH, rec_file_of(fd), (uint64_t)len, 0);

		recorder.v[e].done = recorder.now;
	}
	return r;
}

/* And names with these. */
int rename(const char *from, const char *to)
{
	int r = (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);

	if (!r && recorder.is_on) {
		size_t e = record(EV_RENAMED, FOLDER, 0, 0);

		snprintf(recorder.v[e].from, sizeof(recorder.v[e].from), "%.63s", base_name(from));
		snprintf(recorder.v[e].to, sizeof(recorder.v[e].to), "%.63s", base_name(to));
		recorder.v[e].done = recorder.now;
	}
	return r;
}

int fsync(int fd)
{
	if (recorder.is_on) {
		size_t e = record(EV_FLUSH, rec_file_of(fd), 0, 0);

		recorder.v[e].done = ++recorder.now;
	}
	return 0;
}

struct rec_job { struct aio_job *j; int64_t result; size_t event; };
struct aio { int event_fd; struct rec_job job[4096]; unsigned n; };

static int rec_open(struct aio **out, int event_fd, struct err *err)
{
	*out = calloc(1, sizeof(**out));
	(*out)->event_fd = event_fd;
	return 0;
}

static size_t rec_write(const struct aio_job *j)
{
	size_t e = record(EV_WRITE, rec_file_of(j->fd), j->off, j->len), at = 0;

	recorder.v[e].data = malloc(j->len);
	for (int i = 0; i < j->n_iov; i++) {
		memcpy(recorder.v[e].data + at, j->iov[i].iov_base, j->iov[i].iov_len);
		at += j->iov[i].iov_len;
	}
	return e;
}

static void rec_submit(struct aio *a, struct aio_job *j)
{
	uint64_t one = 1;
	size_t e = SIZE_MAX;

	if (j->op == AIO_WRITEV)
		e = rec_write(j);
	else if (j->op == AIO_FDATASYNC)
		e = record(EV_FLUSH, rec_file_of(j->fd), 0, 0);
	else if (j->op == AIO_FALLOCATE)
		e = record(EV_ZERO, rec_file_of(j->fd), j->off, j->len);
	a->job[a->n++] = (struct rec_job){ .j = j, .result = j->op == AIO_FDATASYNC ? 0 : aio_do(j), .event = e };
	if (write(a->event_fd, &one, sizeof(one)) < 0)
		abort();
}

/* One of those that wait, not the oldest. */
static void rec_reap(struct aio *a)
{
	while (a->n) {
		unsigned i = (unsigned)recorder_random(a->n);
		struct rec_job job = a->job[i];

		a->job[i] = a->job[--a->n];
		if (job.event != SIZE_MAX)
			recorder.v[job.event].done = ++recorder.now;
		job.j->done(job.j, job.result);
	}
}

static void rec_close(struct aio *a)
{
	free(a);
}

static const struct aio_ops rec_aio = {
	.name = "recorder", .open = rec_open, .submit = rec_submit, .reap = rec_reap, .close = rec_close,
	.has_threads = true,
};

/* --- the guest ---------------------------------------------------------------------------------- */

/* What a sector was given: a stamp, zeroes (0), or it was discarded. */
struct version { uint64_t stamp, start, done; bool is_discard; };
struct history { struct version *v; unsigned n, cap; };
struct flush { uint64_t start, done; };

struct guest {
	uint64_t seed, rng, size, n_stamps;
	uint64_t first_size, size_now;  /* SIZE is what the guest uses in the end */
	uint64_t spread, to;
	uint64_t grow_start, grow_end;  /* times */
	unsigned steps, cuts, orders;
	uint64_t n_cuts;
	const char *format, *options, *dir, *cache;
	struct blk_opts opts;           /* for opening */
	char folder[256], path[300], cut_folder[256], cut[300], backing[256];
	bool has_backing, has_qemu, is_exhaustive, is_tight;
	struct blk *b;
	struct history *sector;
	struct flush *flush;
	unsigned n_flushes;
	struct { char id[128]; uint64_t *stamps; bool *is_known; } kept[KEPT];
};

_Noreturn static void fail(const struct guest *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
_Noreturn static void fail(const struct guest *g, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "powercut: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr,
		"\nagain: --seed %" PRIu64
		" --steps %u --cuts %u --format %s --options '%s' --size %" PRIu64 " --grow %" PRIu64 " --spread %" PRIu64
		" --to %" PRIu64 "%s%s%s%s%s (cut %" PRIu64 ", image: %s)\n",
		g->seed, g->steps, g->cuts, g->format, g->options, g->size, g->first_size, g->spread, g->to,
		g->has_backing ? " --backing" : "", g->is_exhaustive ? " --exhaustive" : "", g->is_tight ? " --tight" : "",
		g->cache ? " --cache " : "", g->cache ? g->cache : "", g->n_cuts, g->cut);
	exit(1);
}

static uint64_t rnd(struct guest *g, uint64_t below)
{
	g->rng ^= g->rng >> 12;
	g->rng ^= g->rng << 25;
	g->rng ^= g->rng >> 27;
	return (g->rng * 2685821657736338717ull >> 11) % below;
}

/* Where the guest's sector is on the disk, in bytes. */
static uint64_t place(const struct guest *g, uint64_t sector)
{
	return g->spread ? sector / RUN * g->spread + sector % RUN * SECTOR : sector * SECTOR;
}

/* What the disk has when the guest uses SIZE bytes of it. */
static uint64_t disk_size(const struct guest *g, uint64_t size)
{
	if (g->to && size == g->size)
		return g->to;
	return g->spread ? (size + RUN * SECTOR - 1) / (RUN * SECTOR) * g->spread : size;
}

static void sector_fill(uint8_t *p, uint64_t sector, uint64_t stamp)
{
	memset(p, 0, SECTOR);
	if (!stamp)
		return;
	for (int i = 0; i < SECTOR; i += 16) {
		memcpy(p + i, &sector, 8);
		memcpy(p + i + 8, &stamp, 8);
	}
}

static struct version *sector_push(struct guest *g, uint64_t sector, uint64_t stamp, bool is_discard)
{
	struct history *h = &g->sector[sector];

	if (h->n == h->cap) {
		h->cap = h->cap ? h->cap * 2 : 4;
		h->v = realloc(h->v, h->cap * sizeof(*h->v));
	}
	h->v[h->n] = (struct version){ .stamp = stamp,
				       .start = ++recorder.now,
				       .done = UINT64_MAX,
				       .is_discard = is_discard };
	return &h->v[h->n++];
}

struct work {
	struct blk_req r;
	struct iovec iov;
	struct guest *g;
	uint64_t start, first, n;       /* sectors of the guest */
	int result;
	bool is_over;
};

static void work_done(struct blk_req *r, int result)
{
	struct work *w = r->arg;
	uint64_t now = ++recorder.now;

	w->result = result;
	w->is_over = true;
	if (r->op == BLK_FLUSH) {
		w->g->flush = realloc(w->g->flush, (w->g->n_flushes + 1) * sizeof(*w->g->flush));
		w->g->flush[w->g->n_flushes++] = (struct flush){ .start = w->start, .done = now };
		return;
	}
	for (uint64_t s = w->first; r->op != BLK_READ && s < w->first + w->n; s++)
		w->g->sector[s].v[w->g->sector[s].n - 1].done = now;
}

static void work_start(struct guest *g, struct work *w, uint64_t first, uint64_t sectors)
{
	static const enum blk_op ops[] = { BLK_WRITE, BLK_WRITE,  BLK_WRITE,   BLK_WRITE,
					   BLK_WRITE, BLK_ZEROES, BLK_DISCARD, BLK_FLUSH };
	enum blk_op op = ops[rnd(g, 8)];
	uint64_t s = first + rnd(g, sectors), most = first + sectors - s;

	if (g->spread && most > RUN - s % RUN)
		most = RUN - s % RUN;
	uint64_t n = 1 + rnd(g, rnd(g, 4) ? most < 9 ? most : 9 : most);
	uint64_t stamp = op == BLK_WRITE ? ++g->n_stamps : 0;

	w->is_over = false;
	w->g = g;
	w->first = s;
	w->n = n;
	w->iov = (struct iovec){ malloc(n * SECTOR), n * SECTOR };
	w->r = (struct blk_req){ .op = op, .off = place(g, s), .len = n * SECTOR, .iov = &w->iov, .n_iov = 1, .arg = w,
				 .done = work_done, .may_unmap = rnd(g, 2) };
	for (uint64_t i = 0; i < n && op != BLK_FLUSH; i++) {
		sector_fill((uint8_t *)w->iov.iov_base + i * SECTOR, s + i, stamp);
		sector_push(g, s + i, stamp, op == BLK_DISCARD);
	}
	w->start = ++recorder.now;
	blk_submit(g->b, &w->r);
}

static void guest_batch(struct guest *g)
{
	struct work w[BATCH];
	unsigned n = 1 + (unsigned)rnd(g, BATCH);
	uint64_t each = g->size_now / SECTOR / n;

	for (unsigned i = 0; i < n; i++)
		work_start(g, &w[i], i * each, each);
	while (blk_in_flight(g->b))
		blk_wait(g->b);
	for (unsigned i = 0; i < n; i++) {
		if (w[i].result < 0)
			fail(g, "a request failed: %s", strerror(-w[i].result));
		free(w[i].iov.iov_base);
	}
}

/* The stamps as they are now; after a discard they are not known. */
static void snapshot_keep(struct guest *g, int k)
{
	uint64_t n = g->size / SECTOR;

	g->kept[k].stamps = calloc(n, sizeof(uint64_t));
	g->kept[k].is_known = calloc(n, sizeof(bool));
	for (uint64_t s = 0; s < n; s++) {
		const struct history *h = &g->sector[s];

		g->kept[k].is_known[s] = h->n && !h->v[h->n - 1].is_discard;
		g->kept[k].stamps[s] = h->n ? h->v[h->n - 1].stamp : 0;
	}
}

static void snapshot_apply(struct guest *g, int k)
{
	struct err err = ERR_INIT;

	/* A sector whose value is not known may be anything from now on: as if discarded and more. */
	for (uint64_t s = 0; s < g->size / SECTOR; s++) {
		if (!g->kept[k].is_known[s])
			return;
		sector_push(g, s, g->kept[k].stamps[s], false);
	}
	if (blk_snapshot_apply(g->b, g->kept[k].id, &err) < 0)
		fail(g, "%s", err.msg);
	for (uint64_t s = 0; s < g->size / SECTOR; s++)
		g->sector[s].v[g->sector[s].n - 1].done = recorder.now + 1;
	recorder.now++;
}

static void guest_snapshot(struct guest *g)
{
	struct blk_snapshot sn = { .name = "" };
	struct err err = ERR_INIT;
	int k = (int)rnd(g, KEPT);

	if (!g->kept[k].stamps) {
		int r = blk_snapshot_create(g->b, &sn, &err);

		if (r == -ENOTSUP)
			return;
		if (r < 0)
			fail(g, "%s", err.msg);
		snprintf(g->kept[k].id, sizeof(g->kept[k].id), "%s", sn.id);
		snapshot_keep(g, k);
	} else if (rnd(g, 3) == 0) {
		snapshot_apply(g, k);
	} else {
		if (blk_snapshot_delete(g->b, g->kept[k].id, &err) < 0)
			fail(g, "%s", err.msg);
		free(g->kept[k].stamps);
		free(g->kept[k].is_known);
		g->kept[k].stamps = NULL;
	}
}

/* --- the cut ------------------------------------------------------------------------------------ */

/* What was done to a file before this time is in it when the power goes at a cut. */
struct durable { uint64_t at[FILES + 1]; };

static void cut_durable(uint64_t cut, struct durable *d)
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

/* What becomes of the pieces that may or may not be in the file. */
enum mood { ALL, NONE, SOME, TORN, BUT_ONE, ONE, SUBSET };
struct outcome {
	enum mood mood;
	uint64_t which;                 /* BUT_ONE, ONE: number of the piece; SUBSET: a bit for each */
};

/* Done to a file by the cut, and maybe not in it. */
static bool event_is_open(const struct event *e, uint64_t cut, const struct durable *d)
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

static void folder_empty(const char *path)
{
	DIR *d = opendir(path);
	char name[600];

	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		if (e->d_name[0] != '.')
			unlink(name);
	}
	if (d)
		closedir(d);
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

static void cut_make(struct guest *g, uint64_t cut, const struct outcome *o)
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

static bool version_allows(const struct history *h, unsigned i, uint64_t sector,
			   const uint8_t *found, const uint8_t *initial)
{
	uint8_t want[SECTOR];

	if (!i)
		return !memcmp(found, initial, SECTOR);
	const struct version *v = &h->v[i - 1];

	sector_fill(want, sector, v->stamp);
	return !memcmp(found, want, SECTOR) || (v->is_discard && version_allows(h, i - 1, sector, found, initial));
}

static void cut_verify_sector(struct guest *g, uint64_t cut, uint64_t s, const uint8_t *found)
{
	const struct history *h = &g->sector[s];
	uint64_t flushed = 0;
	uint8_t initial[SECTOR];
	unsigned base = 0;

	sector_fill(initial, s, g->has_backing ? UINT64_MAX : 0);
	for (unsigned i = 0; i < g->n_flushes; i++)
		if (g->flush[i].done <= cut && g->flush[i].start > flushed)
			flushed = g->flush[i].start;
	for (unsigned i = 0; i < h->n; i++)
		if (h->v[i].done < flushed)
			base = i + 1;
	for (unsigned i = base; i <= h->n; i++)
		if ((!i || h->v[i - 1].start <= cut) && version_allows(h, i, s, found, initial))
			return;
	fail(g, "cut at %" PRIu64 ": sector %" PRIu64 " has stamp %" PRIu64 "; flushed was version %u (stamp %" PRIu64
	     ") of %u", cut, s, get_le64(found + 8), base, base ? h->v[base - 1].stamp : 0, h->n);
}

static void check_report(void *arg, const char *line)
{
	fprintf(stderr, "check: %s\n", line);
}

static void cut_check(struct guest *g, struct blk *b, unsigned fix, bool may_leak)
{
	struct blk_check c = { .report = NULL };
	struct err err = ERR_INIT;
	int r = blk_check(b, fix, &c, &err);

	if (r < 0 && r != -ENOTSUP)
		fail(g, "%s", err.msg);
	if (!r && (c.n_errors || c.n_errors_fixed || (c.n_leaks && !may_leak))) {
		struct blk_check again = { .report = check_report };

		blk_check(b, 0, &again, &err);
		fail(g, "%" PRIu64 " errors, %" PRIu64 " leaks after the cut",
		     c.n_errors + c.n_errors_fixed, c.n_leaks);
	}
}

/* All that the guest uses of B, as sectors in a row. */
static void guest_read(struct guest *g, struct blk *b, uint64_t cut, uint64_t bytes, uint8_t *all)
{
	uint64_t step = g->spread ? RUN * SECTOR : bytes;

	for (uint64_t at = 0; at < bytes; at += step)
		if (blk_pread(b, place(g, at / SECTOR), all + at, bytes - at < step ? bytes - at : step) < 0)
			fail(g, "cut at %" PRIu64 ": the disk cannot be read", cut);
}

static void cut_verify(struct guest *g, uint64_t cut)
{
	struct blk_options o = { .path = g->cut, .fd = -1, .format = g->format, .opts = g->cache ? &g->opts : NULL,
				 .secrets = &passphrase, .n_secrets = 1 };
	AUTO(free) uint8_t *all = malloc(g->size);
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	if (blk_open_with(&b, NULL, &o, &aio_threads, &err) < 0)
		fail(g, "cut at %" PRIu64 ": %s", cut, err.msg);
	bool is_first = blk_size(b) == disk_size(g, g->first_size);
	uint64_t size = is_first ? g->first_size : g->size;

	if (!(is_first && cut < g->grow_end) && !(blk_size(b) == disk_size(g, g->size) && cut > g->grow_start))
		fail(g, "cut at %" PRIu64 ": the disk has %" PRIu64 " bytes", cut, blk_size(b));
	cut_check(g, b, 0, true);
	guest_read(g, b, cut, size, all);
	for (uint64_t s = 0; s < size / SECTOR; s++)
		cut_verify_sector(g, cut, s, all + s * SECTOR);
	/* It goes on from there. */
	for (int i = 0; i < 8; i++) {
		uint64_t s = rnd(g, size / SECTOR);

		sector_fill(all + s * SECTOR, s, UINT64_MAX - 1);
		if (blk_pwrite(b, place(g, s), all + s * SECTOR, SECTOR) < 0)
			fail(g, "cut at %" PRIu64 ": the disk cannot be written", cut);
	}
	cut_check(g, b, BLK_FIX_LEAKS, false);
	blk_close(b);
	if (g->has_qemu) {
		char command[600];

		snprintf(command, sizeof(command), "qemu-img check -q -f %s '%s'", g->format, g->cut);
		if (system(command))
			fail(g, "cut at %" PRIu64 ": qemu-img finds damage", cut);
	}
}

/* --- the run ------------------------------------------------------------------------------------ */

static void create(struct guest *g, const char *path, const char *options, const char *backing)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct err err = ERR_INIT;
	struct blk_create c = { .path = path, .format = backing || !g->has_backing ? g->format : "raw", .size = disk_size(g, g->first_size),
				.backing = backing, .backing_format = backing ? "raw" : NULL, .opts = &opts,
				.secret = &passphrase };

	if (blk_opts_init(&opts, blk_format_create_opts(c.format), &err) < 0 ||
	    blk_opts_parse(&opts, options, &err) < 0 || blk_create(&c, &err) < 0)
		fail(g, "%s", err.msg);
}

/* A VDI image without room between map and blocks. */
static void make_tight(struct guest *g)
{
	uint8_t h[SECTOR];
	int fd = open(g->path, O_RDWR);

	if (fd < 0 || pread(fd, h, sizeof(h), 0) != sizeof(h))
		fail(g, "cannot read '%s'", g->path);
	uint32_t data = (SECTOR + get_le32(h + VDI_BLOCKS_AT) * 4 + SECTOR - 1) / SECTOR * SECTOR;

	put_le32(h + VDI_DATA_AT, data);
	if (pwrite(fd, h, sizeof(h), 0) != sizeof(h) || syscall(SYS_ftruncate, fd, data) < 0)
		fail(g, "cannot write '%s'", g->path);
	close(fd);
}

/* What the image consists of before the guest's work. */
static void note_files(struct guest *g)
{
	DIR *d = opendir(g->folder);
	char path[600];
	struct stat st;

	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(path, sizeof(path), "%s/%s", g->folder, e->d_name);
		int fd = e->d_name[0] == '.' ? -1 : open(path, O_RDONLY);

		if (fd < 0)
			continue;
		struct rec_file *f = &recorder.file[rec_file_of(fd)];

		if (fstat(fd, &st) < 0)
			fail(g, "cannot read '%s'", path);
		f->size = st.st_size;
		for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; f->len = (size_t)at)
			at = lseek(fd, at, SEEK_HOLE);
		f->base = calloc(1, f->len + 1);
		if (!f->base || pread(fd, f->base, f->len, 0) != (ssize_t)f->len)
			fail(g, "cannot read '%s'", path);
		close(fd);
	}
	if (d)
		closedir(d);
}

static void make_images(struct guest *g)
{
	uint8_t sector[SECTOR];

	if (g->has_backing) {
		create(g, g->backing, "", NULL);
		int fd = open(g->backing, O_WRONLY);

		for (uint64_t s = 0; s < g->size / SECTOR; s++) {
			sector_fill(sector, s, UINT64_MAX);
			if (pwrite(fd, sector, SECTOR, (off_t)place(g, s)) < 0)
				fail(g, "cannot fill the backing image");
		}
		close(fd);
	}
	create(g, g->path, g->options, g->has_backing ? g->backing : NULL);
	if (g->is_tight)
		make_tight(g);
	note_files(g);
}

static void cut_one(struct guest *g, uint64_t cut, struct outcome o)
{
	g->n_cuts++;
	cut_make(g, cut, &o);
	cut_verify(g, cut);
}

static void cut_anywhere(struct guest *g)
{
	static const enum mood moods[] = { ALL, NONE, TORN, TORN };

	for (unsigned i = 0; i < g->cuts; i++) {
		uint64_t cut = i ? 1 + rnd(g, recorder.now) : recorder.now;

		cut_one(g, cut, (struct outcome){ .mood = moods[rnd(g, 4)] });
	}
}

/* Are there names that may be the old ones or the new ones? */
static bool folder_is_open(uint64_t cut, const struct durable *d)
{
	for (size_t i = 0; i < recorder.n; i++) {
		const struct event *e = &recorder.v[i];

		if (e->file == FOLDER && e->kind != EV_FLUSH && e->start <= cut && e->done >= d->at[FOLDER])
			return true;
	}
	return false;
}

/* The outcomes of one moment. */
static void cut_at(struct guest *g, uint64_t cut)
{
	static const enum mood moods[] = { ALL, NONE, BUT_ONE, ONE, SOME, TORN };
	struct durable durable;
	unsigned n_open = 0;

	cut_durable(cut, &durable);
	for (size_t i = 0; i < recorder.n; i++)
		n_open += event_is_open(&recorder.v[i], cut, &durable);
	if (n_open < 32 && 1u << n_open <= g->orders && !folder_is_open(cut, &durable)) {
		for (uint64_t set = 0; set < 1u << n_open; set++)
			cut_one(g, cut, (struct outcome){ .mood = SUBSET, .which = set });
		cut_one(g, cut, (struct outcome){ .mood = TORN });
		return;
	}
	for (unsigned i = 0; i < g->orders; i++)
		cut_one(g, cut, (struct outcome){ .mood = moods[i < 6 ? i : 2 + rnd(g, 4)], .which = n_open ? rnd(g, n_open) : 0 });
}

static int time_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Between two of these moments neither the file can change nor what the guest may rely on. */
static void cut_everywhere(struct guest *g)
{
	AUTO(free) uint64_t *when = calloc(recorder.n * 2 + g->n_flushes + 1, sizeof(*when));
	size_t n = 0;

	for (size_t i = 0; i < recorder.n; i++) {
		when[n++] = recorder.v[i].start;
		if (recorder.v[i].kind == EV_FLUSH && recorder.v[i].done != UINT64_MAX)
			when[n++] = recorder.v[i].done;
	}
	for (unsigned i = 0; i < g->n_flushes; i++)
		when[n++] = g->flush[i].done;
	when[n++] = recorder.now;
	qsort(when, n, sizeof(*when), time_compare);
	for (size_t i = 0; i < n; i++)
		if (!i || when[i] != when[i - 1])
			cut_at(g, when[i]);
}

static void guest_grow(struct guest *g)
{
	struct err err = ERR_INIT;

	g->grow_start = recorder.now;
	if (blk_resize(g->b, disk_size(g, g->size), BLK_PREALLOC_OFF, &err) < 0)
		fail(g, "%s", err.msg);
	if (blk_flush(g->b) < 0)
		fail(g, "the larger disk cannot be flushed");
	g->grow_end = ++recorder.now;
	g->size_now = g->size;
}

static void powercut(struct guest *g)
{
	struct err err = ERR_INIT;
	struct blk_options o = { .path = g->path, .fd = -1, .format = g->format, .opts = g->cache ? &g->opts : NULL,
				 .secrets = &passphrase, .n_secrets = 1 };

	g->rng = recorder.rng = g->seed * 0x9e3779b97f4a7c15ull + 1;
	snprintf(g->folder, sizeof(g->folder), "%.200s/powercut-%d", g->dir, getpid());
	snprintf(g->cut_folder, sizeof(g->cut_folder), "%.200s/powercut-%d.cut", g->dir, getpid());
	snprintf(g->path, sizeof(g->path), "%s/disk.img", g->folder);
	snprintf(g->cut, sizeof(g->cut), "%s/disk.img", g->cut_folder);
	if (mkdir(g->folder, 0700) < 0 || mkdir(g->cut_folder, 0700) < 0)
		fail(g, "cannot make '%s'", g->folder);
	if (g->cache && (blk_opts_init(&g->opts, blk_format_open_opts(g->format), &err) < 0 ||
			 blk_opts_set(&g->opts, "cache_size", g->cache, &err) < 0))
		fail(g, "%s", err.msg);
	snprintf(g->backing, sizeof(g->backing), "%.200s/powercut-%d.base", g->dir, getpid());
	g->sector = calloc(g->size / SECTOR, sizeof(*g->sector));
	make_images(g);
	recorder.is_on = true;
	if (blk_open_with(&g->b, NULL, &o, &rec_aio, &err) < 0)
		fail(g, "%s", err.msg);
	for (unsigned i = 0; i < g->steps; i++) {
		if (i == g->steps / 2 && g->size_now != g->size)
			guest_grow(g);
		else if (rnd(g, 12) == 0 && strcmp(g->format, "raw"))
			guest_snapshot(g);
		else
			guest_batch(g);
	}
	blk_close(g->b);
	recorder.is_on = false;
	if (g->is_exhaustive)
		cut_everywhere(g);
	else
		cut_anywhere(g);
	printf("%" PRIu64 " cuts of %zu writes and flushes\n", g->n_cuts, recorder.n);
	folder_empty(g->folder);
	folder_empty(g->cut_folder);
	rmdir(g->folder);
	rmdir(g->cut_folder);
	unlink(g->backing);
	blk_opts_fini(&g->opts);
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "seed", 1, NULL, 's' },    { "steps", 1, NULL, 'n' },
		{ "cuts", 1, NULL, 'c' },    { "format", 1, NULL, 'f' },
		{ "options", 1, NULL, 'o' }, { "backing", 0, NULL, 'b' },
		{ "dir", 1, NULL, 'd' },     { "qemu", 0, NULL, 'q' },
		{ "size", 1, NULL, 'z' },    { "exhaustive", 0, NULL, 'e' },
		{ "orders", 1, NULL, 'O' },  { "grow", 1, NULL, 'g' },
		{ "to", 1, NULL, 't' },      { "spread", 1, NULL, 'p' },
		{ "cache", 1, NULL, 'k' },   { "tight", 0, NULL, 'T' },
		{ NULL, 0, NULL, 0 },
	};
	static struct guest g = { .seed = 1, .steps = 60, .cuts = 60, .orders = 16, .format = "qcow2",
				  .dir = "/tmp", .size = 1 << 20 };
	int c;

	log_set_level(LOG_ERROR);
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
		switch (c) {
		case 's': g.seed = strtoull(optarg, NULL, 0); break;
		case 'n': g.steps = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'c': g.cuts = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'f': g.format = optarg; break;
		case 'o': g.options = optarg; break;
		case 'b': g.has_backing = true; break;
		case 'd': g.dir = optarg; break;
		case 'z': g.size = strtoull(optarg, NULL, 0) / SECTOR * SECTOR; break;
		case 'q': g.has_qemu = true; break;
		case 'e': g.is_exhaustive = true; break;
		case 'O': g.orders = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'g': g.first_size = strtoull(optarg, NULL, 0) / SECTOR * SECTOR; break;
		case 't': g.to = strtoull(optarg, NULL, 0) / SECTOR * SECTOR; break;
		case 'p': g.spread = strtoull(optarg, NULL, 0) / SECTOR * SECTOR; break;
		case 'k': g.cache = optarg; break;
		case 'T': g.is_tight = true; break;
		default: return 2;
		}
	}
	if (!g.options)
		g.options = strcmp(g.format, "qcow2") ? "" : "cluster_size=4k";
	g.first_size = g.first_size && g.first_size < g.size && !g.has_backing ? g.first_size : g.size;
	g.size_now = g.first_size;
	g.grow_end = g.first_size == g.size ? 0 : UINT64_MAX;
	powercut(&g);
	return 0;
}
