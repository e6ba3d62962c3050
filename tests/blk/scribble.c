/* SPDX-License-Identifier: Apache-2.0 */
/* scribble - random work on an image in lockstep with a model of it in memory.
 *
 *	scribble [--seed N] [--steps N] [--format F] [--options LIST] [--size BYTES] [--backing F]
 *		 [--cache BYTES] [--aio NAME] [--dir DIR] [--log] [--qemu] [--no-snapshots]
 *
 * DATA in the options stands for a file of the image's own (data_file=DATA). Each step is a batch of requests in flight at once, a snapshot taken, applied or deleted, a new size, a
 * new image on top, a commit of that into the one below, a check, or closing and opening again. After each read, and of the whole disk after each step that changes
 * more, what the image says must be what the model says; a check must find nothing at all. With --qemu
 * qemu-img has to agree (check, compare) whenever the image is closed. The same seed does the same again;
 * --log prints what is done. At the end stands how much it was. Exit status 1 and the seed when something is wrong. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/commit.h"
#include "blk/opts.h"
#include "blk/secret.h"
#include "util/err.h"

enum { BATCH = 12, SNAPSHOTS = 6, LAYERS = 3, MAX_SIZE = 64 << 20, SECTOR = BLK_SECTOR };

struct slot {
	struct blk_req r;
	struct iovec iov[3];
	uint8_t *buf;
	int result;
	bool is_over;
};

struct kept {
	char id[128];
	uint8_t *bytes;
	uint64_t size;
};

struct scribble {
	uint64_t seed, rng;
	unsigned steps, step;
	const char *format, *options, *backing_format, *aio, *dir;
	uint64_t cache;
	bool is_logging, has_qemu, has_no_snapshots, has_no_resize, can_discard, is_discard_zero, is_encrypted;
	bool has_no_overlays;
	unsigned n_layers;              /* images on top of each other, each made by a step; the uppermost is used */
	uint64_t n_requests, n_others;
	char *path, layer[LAYERS][256], backing[256], raw[256];
	struct blk *b;
	uint64_t size;
	uint8_t *model, *back;
	struct kept kept[SNAPSHOTS];
	struct slot slot[BATCH];
};

#define PASSPHRASE "scribble"
/* Of images that the options make encrypted ones. */
static const struct blk_secret passphrase = { (uint8_t *)PASSPHRASE, sizeof(PASSPHRASE) - 1 };

_Noreturn static void fail(const struct scribble *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
_Noreturn static void fail(const struct scribble *s, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "scribble: step %u: ", s->step);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nagain: --seed %" PRIu64 " --format %s --options '%s'%s%s\n", s->seed, s->format, s->options,
		s->backing_format ? " --backing " : "", s->backing_format ? s->backing_format : "");
	exit(1);
}

static void say(const struct scribble *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct scribble *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->is_logging)
		return;
	printf("%u: ", s->step);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* xorshift64* */
static uint64_t rnd(struct scribble *s, uint64_t below)
{
	s->rng ^= s->rng >> 12;
	s->rng ^= s->rng << 25;
	s->rng ^= s->rng >> 27;
	return (s->rng * 2685821657736338717ull >> 11) % below;
}

/* --- other programs --------------------------------------------------------------------------- */

static void run(const struct scribble *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void run(const struct scribble *s, const char *fmt, ...)
{
	char command[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	int status = system(command);

	if (status)
		fail(s, "'%s' ended with %d", command, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static void write_model(const struct scribble *s)
{
	FILE *f = fopen(s->raw, "wb");

	if (!f || fwrite(s->model, 1, s->size, f) != s->size || fclose(f))
		fail(s, "cannot write '%s'", s->raw);
}

/* The other image of `compare` cannot be a plain file name then. */
static void judge_encrypted(const struct scribble *s)
{
	bool is_qcow2 = !strcmp(s->format, "qcow2");
	const char *object = "--object secret,id=s,data=" PASSPHRASE " --image-opts";
	static const char *const below[LAYERS] = {
		"", ",backing.encrypt.key-secret=s",
		",backing.encrypt.key-secret=s,backing.backing.encrypt.key-secret=s",
	};
	const char *keys = is_qcow2 ? below[s->n_layers - 1] : "";

	if (is_qcow2)
		run(s, "qemu-img check -q %s driver=qcow2,file.filename='%s',encrypt.key-secret=s%s", object, s->path,
		    keys);
	run(s, "qemu-img compare -q %s driver=%s,file.filename='%s',%skey-secret=s%s driver=raw,file.filename='%s'",
	    object, s->format, s->path, is_qcow2 ? "encrypt." : "", keys, s->raw);
}

/* QEMU knows no differencing images of these. */
static bool judge_knows(const struct scribble *s)
{
	return s->n_layers == 1 || (strcmp(s->format, "vpc") && strcmp(s->format, "vhdx"));
}

static void judge(const struct scribble *s)
{
	if (!s->has_qemu || !judge_knows(s))
		return;
	write_model(s);
	if (s->is_encrypted) {
		judge_encrypted(s);
		return;
	}
	if (strcmp(s->format, "raw"))
		/* 63: it cannot check this format. */
		run(s, "qemu-img check -q -f %s '%s' 2> /dev/null || [ $? = 63 ]", s->format, s->path);
	run(s, "qemu-img compare -q -f %s -F raw '%s' '%s'", s->format, s->path, s->raw);
	if (strstr(s->options, "data_file_raw=on"))
		run(s, "qemu-img compare -q -f raw -F raw '%s.data' '%s'", s->path, s->raw);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void fill(struct scribble *s, uint8_t *p, uint64_t len)
{
	/* Half of it compressible, some of it zero. */
	uint64_t kind = rnd(s, 4), v = rnd(s, UINT64_MAX);

	if (kind == 0)
		memset(p, 0, len);
	else if (kind == 1)
		memset(p, (int)v | 1, len);
	else
		for (uint64_t i = 0; i + 8 <= len; i += 8)
			memcpy(p + i, &(uint64_t){ v * (i + 1) }, 8);
}

static void open_as(struct scribble *s, bool is_committing)
{
	struct blk_options o = { .path = s->path, .fd = -1, .format = s->format, .aio = s->aio,
				 .secrets = &passphrase, .n_secrets = 1, .is_backing_writable = is_committing };
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct err err = ERR_INIT;
	char cache[32];

	if (s->cache && blk_format_open_opts(s->format)) {
		snprintf(cache, sizeof(cache), "%" PRIu64, s->cache);
		if (blk_opts_init(&opts, blk_format_open_opts(s->format), &err) < 0 ||
		    blk_opts_set(&opts, "cache_size", cache, &err) < 0)
			fail(s, "%s", err.msg);
		o.opts = &opts;
	}
	if (blk_open(&s->b, NULL, &o, &err) < 0)
		fail(s, "%s", err.msg);
	if (blk_size(s->b) != s->size)
		fail(s, "the disk has %" PRIu64 " bytes, not %" PRIu64, blk_size(s->b), s->size);
	s->can_discard = blk_can_discard(s->b);
	s->is_encrypted = blk_is_encrypted(s->b);
}

static void open_image(struct scribble *s)
{
	open_as(s, false);
}

/* OPTIONS with the name of a further file of PATH for DATA. */
static void name_data(char *out, size_t cap, const char *options, const char *path)
{
	const char *data = strstr(options, "DATA");

	if (data)
		snprintf(out, cap, "%.*s%s.data%s", (int)(data - options), options, path, data + 4);
	else
		snprintf(out, cap, "%s", options);
}

static int try_create(struct scribble *s, const char *path, const char *format, const char *options,
		      const char *backing, const char *backing_format, struct err *err)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct blk_create c = { .path = path, .format = format, .size = s->size, .backing = backing,
				.backing_format = backing_format, .opts = &opts, .secret = &passphrase };
	char named[1024];
	int r = blk_opts_init(&opts, blk_format_create_opts(format), err);

	name_data(named, sizeof(named), options, path);
	if (!r)
		r = blk_opts_parse(&opts, named, err);
	return r < 0 ? r : blk_create(&c, err);
}

static void create(struct scribble *s, const char *path, const char *format, const char *options, const char *backing,
		   const char *backing_format)
{
	struct err err = ERR_INIT;

	if (try_create(s, path, format, options, backing, backing_format, &err) < 0)
		fail(s, "%s", err.msg);
}

static void make_backing(struct scribble *s)
{
	struct blk_options o = { .path = s->backing, .fd = -1, .format = s->backing_format };
	struct err err = ERR_INIT;
	uint64_t disk = s->size;

	/* Shorter than the disk, so that its end shows. */
	s->size = disk / 4 * 3 / SECTOR * SECTOR;
	create(s, s->backing, s->backing_format, "", NULL, NULL);
	if (blk_open(&s->b, NULL, &o, &err) < 0)
		fail(s, "%s", err.msg);
	for (uint64_t off = 0; off < s->size; off += 64 << 10) {
		uint64_t n = s->size - off < 64 << 10 ? s->size - off : 64 << 10;

		fill(s, s->model + off, n);
		if (blk_pwrite(s->b, off, s->model + off, n) < 0)
			fail(s, "cannot fill the backing image");
	}
	blk_close(s->b);
	s->size = disk;
}

/* --- comparing -------------------------------------------------------------------------------- */

static void compare(struct scribble *s)
{
	int r = blk_pread(s->b, 0, s->back, s->size);

	if (r < 0)
		fail(s, "reading failed: %s", strerror(-r));
	for (uint64_t i = 0; i < s->size; i += SECTOR)
		if (memcmp(s->back + i, s->model + i, SECTOR))
			fail(s, "the sector at 0x%" PRIx64 " has %02x.. where %02x.. was written",
			     i, s->back[i], s->model[i]);
}

static void check_report(void *arg, const char *line)
{
	fprintf(stderr, "check: %s\n", line);
}

static void check(struct scribble *s)
{
	struct blk_check c = { .report = check_report };
	struct err err = ERR_INIT;
	int r = blk_check(s->b, BLK_FIX_NOTHING, &c, &err);

	if (r == -ENOTSUP)
		return;
	if (r < 0)
		fail(s, "%s", err.msg);
	if (c.n_errors || c.n_leaks)
		fail(s, "%" PRIu64 " errors, %" PRIu64 " leaks", c.n_errors, c.n_leaks);
}

/* --- steps ------------------------------------------------------------------------------------ */

static void slot_done(struct blk_req *r, int result)
{
	struct slot *q = r->arg;

	q->result = result;
	q->is_over = true;
}

/* Requests of a batch have parts of the disk of their own, which share clusters at their edges. */
static void start_one(struct scribble *s, struct slot *q, uint64_t lo, uint64_t sectors)
{
	static const enum blk_op ops[] = { BLK_READ, BLK_READ, BLK_WRITE, BLK_WRITE, BLK_WRITE, BLK_WRITE, BLK_ZEROES,
					   BLK_DISCARD, BLK_FLUSH };
	enum blk_op op = ops[rnd(s, 9)];
	uint64_t first = rnd(s, sectors), most = sectors - first,
		 n = 1 + rnd(s, rnd(s, 3) ? most < 16 ? most : 16 : most);
	uint64_t off = lo + first * SECTOR, len = n * SECTOR, cut = rnd(s, n + 1) * SECTOR;

	q->is_over = false;
	q->r = (struct blk_req){ .op = op, .off = off, .len = len, .iov = q->iov, .done = slot_done, .arg = q,
				 .may_unmap = rnd(s, 2) };
	q->iov[0] = (struct iovec){ q->buf, cut };
	q->iov[1] = (struct iovec){ q->buf + cut, len - cut };
	q->r.n_iov = 2;
	if (op == BLK_WRITE) {
		fill(s, q->buf, len);
		memcpy(s->model + off, q->buf, len);
	} else if (op == BLK_ZEROES) {
		memset(s->model + off, 0, len);
	}
	say(s, "op %d 0x%" PRIx64 "+0x%" PRIx64 "%s", op, off, len, q->r.may_unmap ? " unmap" : "");
	s->n_requests++;
	blk_submit(s->b, &q->r);
}

static void end_one(struct scribble *s, struct slot *q)
{
	uint64_t off = q->r.off, len = q->r.len;

	if (!q->is_over || q->result < 0)
		fail(s, "request %d at 0x%" PRIx64 " ended with %s", q->r.op, off, strerror(-q->result));
	if (q->r.op == BLK_READ && memcmp(q->buf, s->model + off, len))
		fail(s, "reading 0x%" PRIx64 "+0x%" PRIx64 " gave something else than was written", off, len);
	if (q->r.op != BLK_DISCARD)
		return;
	/* What was discarded is what it was, or zero. */
	if (blk_pread(s->b, off, s->back, len) < 0)
		fail(s, "reading failed");
	for (uint64_t i = 0; i < len; i += SECTOR) {
		static const uint8_t zero[SECTOR];

		if (!memcmp(s->back + i, zero, SECTOR))
			memset(s->model + off + i, 0, SECTOR);
		else if (memcmp(s->back + i, s->model + off + i, SECTOR))
			fail(s, "the sector at 0x%" PRIx64 " was discarded and is something else", off + i);
	}
}

static void step_batch(struct scribble *s)
{
	unsigned n = 1 + (unsigned)rnd(s, BATCH);
	uint64_t sectors = s->size / SECTOR / n;

	for (unsigned i = 0; i < n; i++)
		start_one(s, &s->slot[i], i * sectors * SECTOR, sectors);
	while (blk_in_flight(s->b))
		blk_wait(s->b);
	for (unsigned i = 0; i < n; i++)
		end_one(s, &s->slot[i]);
}

static void step_compressed(struct scribble *s)
{
	uint64_t cluster = blk_cluster_size(s->b);
	uint64_t off = cluster ? rnd(s, s->size / cluster + 1) * cluster : 0;
	uint64_t len = off + cluster > s->size ? s->size - off : cluster;

	if (!cluster || !len)
		return;
	say(s, "compressed 0x%" PRIx64 "+0x%" PRIx64, off, len);
	fill(s, s->slot[0].buf, len);
	int r = blk_pwrite_compressed(s->b, off, s->slot[0].buf, len);

	if (r == -ENOTSUP)
		return;
	if (r < 0)
		fail(s, "writing compressed ended with %s", strerror(-r));
	memcpy(s->model + off, s->slot[0].buf, len);
}

static void keep_free(struct kept *k)
{
	free(k->bytes);
	*k = (struct kept){ .size = 0 };
}

static void step_snapshot(struct scribble *s)
{
	struct kept *k = &s->kept[rnd(s, SNAPSHOTS)];
	struct blk_snapshot sn = { .name = "" };
	struct err err = ERR_INIT;
	int r;

	if (s->has_no_snapshots)
		return;
	if (!k->bytes) {
		snprintf(sn.name, sizeof(sn.name), "step %u", s->step);
		r = blk_snapshot_create(s->b, &sn, &err);
		if (r == -ENOTSUP)
			return;
		say(s, "snapshot %s", sn.id);
		k->bytes = malloc(s->size);
		memcpy(k->bytes, s->model, s->size);
		k->size = s->size;
		snprintf(k->id, sizeof(k->id), "%s", sn.id);
	} else if (rnd(s, 2)) {
		say(s, "apply %s", k->id);
		r = blk_snapshot_apply(s->b, k->id, &err);
		memcpy(s->model, k->bytes, k->size);
		s->size = k->size;
	} else {
		say(s, "delete %s", k->id);
		r = blk_snapshot_delete(s->b, k->id, &err);
		keep_free(k);
	}
	if (r < 0)
		fail(s, "%s", err.msg);
	if (blk_size(s->b) != s->size)
		fail(s, "the size is %" PRIu64 " after a snapshot", blk_size(s->b));
	compare(s);
}

static void step_resize(struct scribble *s)
{
	uint64_t size = (1 + rnd(s, MAX_SIZE / 8 / SECTOR)) * SECTOR;
	struct err err = ERR_INIT;

	if (s->has_no_resize)
		return;
	if (size < 1 << 16)
		size = 1 << 16;
	say(s, "resize to 0x%" PRIx64, size);
	int r = blk_resize(s->b, size, BLK_PREALLOC_OFF, &err);

	if (r == -ENOTSUP)
		return;
	if (r < 0)
		fail(s, "%s", err.msg);
	if (size > s->size)
		memset(s->model + s->size, 0, size - s->size);
	s->size = size;
	compare(s);
}

static void step_reopen(struct scribble *s)
{
	say(s, "reopen");
	blk_close(s->b);
	judge(s);
	open_image(s);
	compare(s);
}

/* What the images below have is of no interest any more. */
static void forget_snapshots(struct scribble *s)
{
	for (int i = 0; i < SNAPSHOTS; i++)
		keep_free(&s->kept[i]);
}

static void step_overlay(struct scribble *s)
{
	char *path = s->layer[s->n_layers % LAYERS];
	struct err err = ERR_INIT;

	if (s->n_layers == LAYERS || s->has_no_overlays)
		return;
	say(s, "overlay %u", s->n_layers);
	blk_close(s->b);
	judge(s);
	int r = try_create(s, path, s->format, s->options, s->path, s->format, &err);

	if (r == -ENOTSUP || r == -EINVAL) {
		say(s, "%s", err.msg);
		s->has_no_overlays = true;
	} else if (r < 0) {
		fail(s, "%s", err.msg);
	} else {
		forget_snapshots(s);
		s->path = path;
		s->n_layers++;
	}
	open_image(s);
	compare(s);
}

/* With the files that are beside it. */
static void remove_image(const char *path)
{
	static const char *const ends[] = { "", ".data", "-flat.vmdk", "-s001.vmdk", "-f001.vmdk" };
	char name[300];

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		snprintf(name, sizeof(name), "%s%s", path, ends[i]);
		unlink(name);
	}
}

/* The image below is the disk now; it may be larger, if the one above had been made smaller. */
static void commit_remove(struct scribble *s)
{
	uint64_t size = blk_size(blk_backing(s->b)), was = s->size;

	blk_close(s->b);
	remove_image(s->path);
	s->path = s->layer[--s->n_layers - 1];
	s->size = size;
	open_image(s);
	if (size > was && blk_pread(s->b, was, s->model + was, size - was) < 0)
		fail(s, "reading failed");
}

static void step_commit(struct scribble *s)
{
	struct err err = ERR_INIT;

	if (s->n_layers < 2)
		return;
	forget_snapshots(s);
	blk_close(s->b);
	open_as(s, true);
	int r = blk_commit(s->b, NULL, &err);

	say(s, "commit %u ends with %d", s->n_layers - 1, r);
	if (r < 0 && !(r == -ENOTSUP && blk_size(s->b) > blk_size(blk_backing(s->b))))
		fail(s, "%s", err.msg);
	compare(s);
	if (!r && rnd(s, 2))
		commit_remove(s);
	else if (!r)
		r = blk_make_empty(s->b, &err);
	if (r < 0 && r != -ENOTSUP)
		fail(s, "%s", err.msg);
	compare(s);
	blk_close(s->b);
	judge(s);
	open_image(s);
	compare(s);
	check(s);
}

static void step_rare(struct scribble *s)
{
	uint64_t what = rnd(s, 5);

	if (what < 2)
		step_overlay(s);
	else if (what < 4)
		step_commit(s);
	else
		step_reopen(s);
}

static void step(struct scribble *s)
{
	uint64_t what = rnd(s, 100);

	s->n_others += what >= 78;

	if (what < 78)
		step_batch(s);
	else if (what < 84)
		step_compressed(s);
	else if (what < 91)
		step_snapshot(s);
	else if (what < 93)
		step_resize(s);
	else if (what < 95)
		compare(s);
	else if (what < 97)
		check(s);
	else
		step_rare(s);
}

static void scribble(struct scribble *s)
{
	s->rng = s->seed * 0x9e3779b97f4a7c15ull + 1;
	for (int i = 0; i < LAYERS; i++)
		snprintf(s->layer[i], sizeof(s->layer[i]), "%.200s/scribble-%d.%d.img", s->dir, getpid(), i);
	s->path = s->layer[0];
	s->n_layers = 1;
	snprintf(s->backing, sizeof(s->backing), "%.200s/scribble-%d.base", s->dir, getpid());
	snprintf(s->raw, sizeof(s->raw), "%.200s/scribble-%d.raw", s->dir, getpid());
	s->model = calloc(1, MAX_SIZE);
	s->back = calloc(1, MAX_SIZE);
	for (int i = 0; i < BATCH; i++)
		s->slot[i].buf = aligned_alloc(4096, MAX_SIZE);
	if (s->backing_format)
		make_backing(s);
	create(s, s->path, s->format, s->options, s->backing_format ? s->backing : NULL, s->backing_format);
	open_image(s);
	if (!blk_is_zero_when_new(s->b) && blk_zeroes(s->b, 0, s->size, false) < 0)
		fail(s, "cannot write zeroes");
	compare(s);
	for (s->step = 1; s->step <= s->steps; s->step++)
		step(s);
	step_reopen(s);
	check(s);
	blk_close(s->b);
	for (int i = 0; i < LAYERS; i++)
		remove_image(s->layer[i]);
	unlink(s->backing);
	unlink(s->raw);
	printf("%" PRIu64 " requests, %" PRIu64 " other steps\n", s->n_requests, s->n_others);
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "seed", 1, NULL, 's' },      { "steps", 1, NULL, 'n' },
		{ "format", 1, NULL, 'f' },    { "options", 1, NULL, 'o' },
		{ "size", 1, NULL, 'z' },      { "backing", 1, NULL, 'b' },
		{ "cache", 1, NULL, 'c' },     { "aio", 1, NULL, 'a' },
		{ "dir", 1, NULL, 'd' },       { "log", 0, NULL, 'l' },
		{ "qemu", 0, NULL, 'q' },      { "no-snapshots", 0, NULL, 'S' },
		{ "no-resize", 0, NULL, 'R' }, { NULL, 0, NULL, 0 },
	};
	static struct scribble s = { .seed = 1,
				     .steps = 300,
				     .format = "qcow2",
				     .options = "",
				     .size = 6 << 20,
				     .dir = "/tmp" };
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
		switch (c) {
		case 's': s.seed = strtoull(optarg, NULL, 0); break;
		case 'n': s.steps = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'f': s.format = optarg; break;
		case 'o': s.options = optarg; break;
		case 'z': s.size = strtoull(optarg, NULL, 0) / SECTOR * SECTOR; break;
		case 'b': s.backing_format = optarg; break;
		case 'c': s.cache = strtoull(optarg, NULL, 0); break;
		case 'a': s.aio = optarg; break;
		case 'd': s.dir = optarg; break;
		case 'l': s.is_logging = true; break;
		case 'q': s.has_qemu = true; break;
		case 'S': s.has_no_snapshots = true; break;
		case 'R': s.has_no_resize = true; break;
		default: return 2;
		}
	}
	scribble(&s);
	return 0;
}
