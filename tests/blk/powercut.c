/* SPDX-License-Identifier: Apache-2.0 */
/* powercut - what an image is when the power goes at any moment.
 *
 *	powercut [--seed N] [--steps N] [--cuts N] [--format F] [--options LIST] [--backing] [--size BYTES]
 *		 [--dir DIR] [--qemu] [--exhaustive] [--orders N] [--grow BYTES]
 *
 * A back end below the library records every write, hole, new length and flush of the image file while a
 * guest's random work goes on; requests end in random order. Then, for many moments: what was done before
 * a flush that had ended is in the file; of what was started after, any sectors are or are not. The image
 * made so must open, pass a check (leaks are allowed), hold in each sector a value that the guest may find
 * there - what it flushed, or something newer that it wrote - and go on working.
 *
 * The moments are --cuts random ones; with --exhaustive all at which something began or was flushed, each with
 * up to --orders different outcomes: all subsets of what may be missing where there are no more than that, else
 * nothing, everything, all but one, one alone, and random ones. Prints how many cuts that were.
 *
 * With --grow the disk begins with BYTES and is resized on the way: after a cut it has either size, and once that was
 * flushed the new one. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/falloc.h>
#include "blk/blk_ops.h"
#include "blk/secret.h"
#include "util/endian.h"
#include "util/log.h"

enum { SECTOR = BLK_SECTOR, BATCH = 8, KEPT = 3 };

/* Of images that the options make encrypted ones. */
static const struct blk_secret passphrase = { (uint8_t *)"powercut", 8 };

/* --- the recorder ------------------------------------------------------------------------------- */

enum event_kind { EV_WRITE, EV_ZERO, EV_LENGTH, EV_FLUSH };
struct event {
	enum event_kind kind;
	uint64_t off, len, start, done;         /* times */
	uint8_t *data;
};

static struct {
	struct event *v;
	size_t n, cap;
	uint64_t now;
	bool is_on;
	uint64_t rng;
} recorder;

static uint64_t recorder_random(uint64_t below)
{
	recorder.rng ^= recorder.rng >> 12;
	recorder.rng ^= recorder.rng << 25;
	recorder.rng ^= recorder.rng >> 27;
	return (recorder.rng * 2685821657736338717ull >> 11) % below;
}

static size_t record(enum event_kind kind, uint64_t off, uint64_t len)
{
	if (recorder.n == recorder.cap) {
		recorder.cap = recorder.cap ? recorder.cap * 2 : 1024;
		recorder.v = realloc(recorder.v, recorder.cap * sizeof(*recorder.v));
	}
	recorder.v[recorder.n] = (struct event){ .kind = kind, .off = off, .len = len, .start = ++recorder.now,
						 .done = UINT64_MAX };
	return recorder.n++;
}

/* The library changes the length of a file with this; ours goes before the C library's. */
int ftruncate(int fd, off_t len)
{
	int r = (int)syscall(SYS_ftruncate, fd, len);

	if (!r && recorder.is_on) {
		size_t e = record(EV_LENGTH, (uint64_t)len, 0);

		recorder.v[e].done = recorder.now;
	}
	return r;
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
	size_t e = record(EV_WRITE, j->off, j->len), at = 0;

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
		e = record(EV_FLUSH, 0, 0);
	else if (j->op == AIO_FALLOCATE)
		e = record(EV_ZERO, j->off, j->len);
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
	uint64_t first_size, size_now;  /* SIZE is what the disk has in the end */
	uint64_t grow_start, grow_end;  /* times */
	unsigned steps, cuts, orders;
	uint64_t n_cuts;
	const char *format, *options, *dir;
	char path[256], cut[256], backing[256];
	bool has_backing, has_qemu, is_exhaustive;
	struct blk *b;
	struct history *sector;
	struct flush *flush;
	unsigned n_flushes;
	uint8_t *base;                  /* the file when recording starts */
	size_t base_len;
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
		" --steps %u --cuts %u --format %s --options '%s' --size %" PRIu64 " --grow %" PRIu64 "%s%s (cut %" PRIu64 ", image: %s)\n",
		g->seed, g->steps, g->cuts, g->format, g->options, g->size, g->first_size,
		g->has_backing ? " --backing" : "", g->is_exhaustive ? " --exhaustive" : "", g->n_cuts, g->cut);
	exit(1);
}

static uint64_t rnd(struct guest *g, uint64_t below)
{
	g->rng ^= g->rng >> 12;
	g->rng ^= g->rng << 25;
	g->rng ^= g->rng >> 27;
	return (g->rng * 2685821657736338717ull >> 11) % below;
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
	uint64_t start;
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
	for (uint64_t s = r->off / SECTOR; r->op != BLK_READ && s < (r->off + r->len) / SECTOR; s++)
		w->g->sector[s].v[w->g->sector[s].n - 1].done = now;
}

static void work_start(struct guest *g, struct work *w, uint64_t first, uint64_t sectors)
{
	static const enum blk_op ops[] = { BLK_WRITE, BLK_WRITE,  BLK_WRITE,   BLK_WRITE,
					   BLK_WRITE, BLK_ZEROES, BLK_DISCARD, BLK_FLUSH };
	enum blk_op op = ops[rnd(g, 8)];
	uint64_t s = first + rnd(g, sectors), most = first + sectors - s,
		 n = 1 + rnd(g, rnd(g, 4) ? most < 9 ? most : 9 : most);
	uint64_t stamp = op == BLK_WRITE ? ++g->n_stamps : 0;

	w->is_over = false;
	w->g = g;
	w->iov = (struct iovec){ malloc(n * SECTOR), n * SECTOR };
	w->r = (struct blk_req){ .op = op, .off = s * SECTOR, .len = n * SECTOR, .iov = &w->iov, .n_iov = 1, .arg = w,
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

/* What was done before this time is in the file when the power goes at CUT. */
static uint64_t cut_durable(uint64_t cut)
{
	uint64_t latest = 0;

	for (size_t i = 0; i < recorder.n; i++) {
		const struct event *f = &recorder.v[i];

		if (f->kind == EV_FLUSH && f->done <= cut && f->start > latest)
			latest = f->start;
	}
	return latest;
}

static void event_apply(struct guest *g, int fd, const struct event *e, bool is_whole)
{
	static const uint8_t zero[1 << 16];
	uint64_t step = !is_whole ? SECTOR : e->kind == EV_WRITE ? e->len : sizeof(zero);

	if (e->kind == EV_LENGTH) {
		if (syscall(SYS_ftruncate, fd, e->off) < 0)
			fail(g, "ftruncate: %s", strerror(errno));
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

static bool event_is_open(const struct event *e, uint64_t cut, uint64_t durable)
{
	return e->start <= cut && e->kind != EV_FLUSH && e->done >= durable;
}

static void event_maybe(struct guest *g, int fd, const struct event *e, const struct outcome *o, uint64_t i)
{
	switch (o->mood) {
	case ALL: event_apply(g, fd, e, true); break;
	case NONE: break;
	case SOME:
		if (rnd(g, 2))
			event_apply(g, fd, e, true);
		break;
	case TORN:
		if (rnd(g, 2))
			event_apply(g, fd, e, rnd(g, 2));
		break;
	case BUT_ONE:
	case ONE:
		if ((i == o->which) == (o->mood == ONE))
			event_apply(g, fd, e, true);
		break;
	case SUBSET:
		if (o->which >> i & 1)
			event_apply(g, fd, e, true);
		break;
	}
}

static void cut_make(struct guest *g, uint64_t cut, const struct outcome *o)
{
	int fd = open(g->cut, O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint64_t durable = cut_durable(cut), n_open = 0;

	if (fd < 0 || pwrite(fd, g->base, g->base_len, 0) != (ssize_t)g->base_len)
		fail(g, "cannot write '%s'", g->cut);
	for (size_t i = 0; i < recorder.n; i++) {
		const struct event *e = &recorder.v[i];

		if (event_is_open(e, cut, durable))
			event_maybe(g, fd, e, o, n_open++);
		else if (e->start <= cut && e->kind != EV_FLUSH)
			event_apply(g, fd, e, true);
	}
	close(fd);
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

static void cut_verify(struct guest *g, uint64_t cut)
{
	struct blk_options o = { .path = g->cut, .fd = -1, .format = g->format, .secrets = &passphrase,
				 .n_secrets = 1 };
	AUTO(free) uint8_t *all = malloc(g->size);
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	if (blk_open_with(&b, NULL, &o, &aio_threads, &err) < 0)
		fail(g, "cut at %" PRIu64 ": %s", cut, err.msg);
	uint64_t size = blk_size(b);

	if (!(size == g->first_size && cut < g->grow_end) && !(size == g->size && cut > g->grow_start))
		fail(g, "cut at %" PRIu64 ": the disk has %" PRIu64 " bytes", cut, size);
	cut_check(g, b, 0, true);
	if (blk_pread(b, 0, all, size) < 0)
		fail(g, "cut at %" PRIu64 ": the disk cannot be read", cut);
	for (uint64_t s = 0; s < size / SECTOR; s++)
		cut_verify_sector(g, cut, s, all + s * SECTOR);
	/* It goes on from there. */
	for (int i = 0; i < 8; i++) {
		uint64_t s = rnd(g, size / SECTOR);

		sector_fill(all + s * SECTOR, s, UINT64_MAX - 1);
		if (blk_pwrite(b, s * SECTOR, all + s * SECTOR, SECTOR) < 0)
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
	struct blk_create c = { .path = path, .format = backing || !g->has_backing ? g->format : "raw", .size = g->first_size,
				.backing = backing, .backing_format = backing ? "raw" : NULL, .opts = &opts,
				.secret = &passphrase };

	if (blk_opts_init(&opts, blk_format_create_opts(c.format), &err) < 0 ||
	    blk_opts_parse(&opts, options, &err) < 0 || blk_create(&c, &err) < 0)
		fail(g, "%s", err.msg);
}

static void make_images(struct guest *g)
{
	uint8_t sector[SECTOR];

	if (g->has_backing) {
		create(g, g->backing, "", NULL);
		int fd = open(g->backing, O_WRONLY);

		for (uint64_t s = 0; s < g->size / SECTOR; s++) {
			sector_fill(sector, s, UINT64_MAX);
			if (pwrite(fd, sector, SECTOR, (off_t)(s * SECTOR)) < 0)
				fail(g, "cannot fill the backing image");
		}
		close(fd);
	}
	create(g, g->path, g->options, g->has_backing ? g->backing : NULL);
	FILE *f = fopen(g->path, "rb");

	g->base = malloc(16 << 20);
	g->base_len = fread(g->base, 1, 16 << 20, f);
	fclose(f);
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

/* The outcomes of one moment. */
static void cut_at(struct guest *g, uint64_t cut)
{
	static const enum mood moods[] = { ALL, NONE, BUT_ONE, ONE, SOME, TORN };
	uint64_t durable = cut_durable(cut);
	unsigned n_open = 0;

	for (size_t i = 0; i < recorder.n; i++)
		n_open += event_is_open(&recorder.v[i], cut, durable);
	if (n_open < 32 && 1u << n_open <= g->orders) {
		for (uint64_t set = 0; set < 1u << n_open; set++)
			cut_one(g, cut, (struct outcome){ .mood = SUBSET, .which = set });
		cut_one(g, cut, (struct outcome){ .mood = TORN });
		return;
	}
	for (unsigned i = 0; i < g->orders; i++)
		cut_one(g, cut, (struct outcome){ .mood = moods[i < 6 ? i : 2 + rnd(g, 4)], .which = rnd(g, n_open) });
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
	if (blk_resize(g->b, g->size, BLK_PREALLOC_OFF, &err) < 0)
		fail(g, "%s", err.msg);
	if (blk_flush(g->b) < 0)
		fail(g, "the larger disk cannot be flushed");
	g->grow_end = ++recorder.now;
	g->size_now = g->size;
}

static void powercut(struct guest *g)
{
	struct err err = ERR_INIT;
	struct blk_options o = { .path = g->path, .fd = -1, .format = g->format, .secrets = &passphrase,
				 .n_secrets = 1 };

	g->rng = recorder.rng = g->seed * 0x9e3779b97f4a7c15ull + 1;
	snprintf(g->path, sizeof(g->path), "%.200s/powercut-%d.img", g->dir, getpid());
	snprintf(g->cut, sizeof(g->cut), "%.200s/powercut-%d.cut", g->dir, getpid());
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
	unlink(g->path);
	unlink(g->cut);
	unlink(g->backing);
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
