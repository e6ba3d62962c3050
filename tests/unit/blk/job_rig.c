/* SPDX-License-Identifier: Apache-2.0 */
#include "job_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "test.h"
#include "util/endian.h"
#include "util/log.h"

const char *rig_path(struct rig *r, const char *name)
{
	static char path[4][200];
	static unsigned n;
	char *at = path[n++ % 4];

	snprintf(at, sizeof(path[0]), "%s/%s", r->dir, name);
	return at;
}

uint64_t rig_random(struct rig *r)
{
	r->rng ^= r->rng << 13;
	r->rng ^= r->rng >> 7;
	r->rng ^= r->rng << 17;
	return r->rng;
}

/* --- sectors -------------------------------------------------------------------------------------- */

static void sector_make(uint8_t *p, uint32_t sector, uint32_t version)
{
	if (!version || version & RIG_ZERO) {
		memset(p, 0, 512);
		return;
	}
	for (unsigned i = 0; i < 512; i += 8) {
		put_le32(p + i, sector);
		put_le32(p + i + 4, version);
	}
}

static bool sector_is(const uint8_t *p, uint32_t sector, uint32_t version)
{
	uint8_t want[512];

	sector_make(want, sector, version);
	return !memcmp(p, want, 512);
}

/* --- images --------------------------------------------------------------------------------------- */

static void told(void *arg, const struct blk_job_info *info, enum blk_job_event ev, const struct err *why)
{
	struct rig *r = arg;

	snprintf(r->last_id, sizeof(r->last_id), "%s", info->id);
	r->n_progress += ev == BLK_JOB_PROGRESS;
	r->n_ready += ev == BLK_JOB_READY;
	r->n_completed += ev == BLK_JOB_COMPLETED;
	r->n_cancelled += ev == BLK_JOB_CANCELLED;
	r->n_failed += ev == BLK_JOB_FAILED;
	if (why)
		snprintf(r->why, sizeof(r->why), "%.299s", why->msg);
	if (ev != BLK_JOB_COMPLETED)
		return;
	snprintf(r->m->top, sizeof(r->m->top), "%s", blk_name(info->front));
	snprintf(r->m->top_format, sizeof(r->m->top_format), "%s", blk_format(info->front));
	r->m->n_jobs_ended++;
}

void rig_init(struct rig *r, uint64_t seed)
{
	memset(r, 0, sizeof(*r));
	/* Much is flushed, and no power is cut. */
	strcpy(r->dir, access("/dev/shm", W_OK) ? "/tmp/viv-job-XXXXXX" : "/dev/shm/viv-job-XXXXXX");
	CHECK(mkdtemp(r->dir));
	r->rng = seed * 0x9e3779b97f4a7c15ull + 1;
	r->m = mmap(NULL, sizeof(*r->m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(r->m != MAP_FAILED);
	r->at_flush = calloc(RIG_SECTORS, 4);
	r->jobs.tell = told;
	r->jobs.arg = r;
	for (unsigned i = 0; i < RIG_SLOTS; i++) {
		r->slot[i].rig = r;
		r->slot[i].buf = aligned_alloc(4096, RIG_SLOT_SECTORS * 512);
	}
	log_set_level(LOG_ERROR);
}

void rig_fini(struct rig *r)
{
	char text[100];

	rig_close(r);
	for (unsigned i = 0; i < RIG_SLOTS; i++)
		free(r->slot[i].buf);
	free(r->at_flush);
	munmap(r->m, sizeof(*r->m));
	snprintf(text, sizeof(text), "rm -rf %s", r->dir);
	CHECK_EQ(system(text), 0);
}

void rig_add_image(struct rig *r, const char *name, const char *format, const char *backing, unsigned n)
{
	struct err err = ERR_INIT;
	const char *path = rig_path(r, name);
	struct blk_create c = { .path = path, .format = format, .size = RIG_SIZE, .backing = backing,
				.backing_format = backing ? r->m->top_format : NULL };
	struct blk_options o = { .path = path, .fd = -1, .format = format };
	struct blk *b = NULL;
	uint8_t buf[512];

	if (blk_create(&c, &err) < 0 || blk_open(&b, NULL, &o, &err) < 0)
		FAIL("%s", err.msg);
	for (unsigned i = 0; i < n; i++) {
		uint32_t first = (uint32_t)(rig_random(r) % RIG_SECTORS), len = 1 + rig_random(r) % 40;

		for (uint32_t s = first; s < first + len && s < RIG_SECTORS; s++) {
			r->m->asked[s]++;
			r->m->done[s] = r->m->flushed[s] = r->m->asked[s];
			sector_make(buf, s, r->m->done[s]);
			CHECK_EQ(blk_pwrite(b, s * 512ull, buf, 512), 0);
		}
	}
	blk_close(b);
	snprintf(r->m->top, sizeof(r->m->top), "%s", path);
	snprintf(r->m->top_format, sizeof(r->m->top_format), "%s", format);
}

void rig_open(struct rig *r, const struct aio_ops *aio)
{
	struct err err = ERR_INIT;
	struct blk_options o = { .path = r->m->top, .fd = -1, .format = r->m->top_format };
	struct blk *top = NULL;

	if (!r->loop)
		CHECK_EQ(loop_new(&r->loop, &err), 0);
	if (blk_open_with(&top, r->loop, &o, aio, &err) < 0 || blk_front_new(&r->front, top, &err) < 0)
		FAIL("%s", err.msg);
	r->jobs.is_ending = false;
}

void rig_close(struct rig *r)
{
	if (!r->front)
		return;
	rig_settle(r);
	blk_jobs_end(&r->jobs);
	blk_close(r->front);
	r->front = NULL;
	loop_free(r->loop);
	r->loop = NULL;
}

/* --- a back end ----------------------------------------------------------------------------------- */

struct aio { int event_fd; struct aio_job *first, **tail; uint64_t rng; };

static int random_open(struct aio **out, int event_fd, struct err *err)
{
	struct aio *a = calloc(1, sizeof(*a));

	a->event_fd = event_fd;
	a->tail = &a->first;
	a->rng = 88172645463325252ull;
	*out = a;
	return 0;
}

static void random_signal(struct aio *a)
{
	uint64_t one = 1;

	CHECK_EQ(write(a->event_fd, &one, 8), 8);
}

static void random_submit(struct aio *a, struct aio_job *j)
{
	j->next = NULL;
	*a->tail = j;
	a->tail = &j->next;
	random_signal(a);
}

uint64_t rig_full_inode;

static int64_t random_do(const struct aio_job *j)
{
	struct stat st;

	if (rig_full_inode && (j->op == AIO_WRITEV || j->op == AIO_FALLOCATE) && !fstat(j->fd, &st) &&
	    st.st_ino == rig_full_inode)
		return -ENOSPC;
	return aio_do(j);
}

static void random_reap(struct aio *a)
{
	struct aio_job *j = a->first;

	a->first = NULL;
	a->tail = &a->first;
	for (struct aio_job *next; j; j = next) {
		next = j->next;
		a->rng ^= a->rng << 13;
		a->rng ^= a->rng >> 7;
		a->rng ^= a->rng << 17;
		if (a->rng & 3)
			random_submit(a, j);
		else
			j->done(j, random_do(j));
	}
}

static void random_close(struct aio *a)
{
	CHECK(!a->first);
	free(a);
}

const struct aio_ops rig_random_aio = {
	.name = "random", .has_threads = true, .open = random_open, .submit = random_submit, .reap = random_reap,
	.close = random_close,
};

/* --- the guest ------------------------------------------------------------------------------------ */

static void slot_done(struct blk_req *q, int result)
{
	struct rig_slot *s = q->arg;
	struct rig_model *m = s->rig->m;

	CHECK_EQ(result, 0);
	s->is_busy = false;
	for (uint32_t i = s->first; i < s->first + s->n; i++) {
		if (q->op == BLK_READ)
			CHECK(sector_is(s->buf + (i - s->first) * 512, i, m->done[i]));
		else
			m->done[i] = m->asked[i];
	}
	s->rig->n_written += q->op != BLK_READ;
}

static bool slot_is_free(const struct rig *r, uint32_t first, uint32_t n)
{
	for (unsigned i = 0; i < RIG_SLOTS; i++) {
		const struct rig_slot *s = &r->slot[i];

		if (s->is_busy && first < s->first + s->n && s->first < first + n)
			return false;
	}
	return true;
}

static void slot_send(struct rig_slot *s)
{
	struct rig *r = s->rig;
	uint64_t what = rig_random(r) % 16;
	uint32_t n = 1 + (uint32_t)(rig_random(r) % RIG_SLOT_SECTORS),
		first = (uint32_t)(rig_random(r) % (RIG_SECTORS - n));

	if (!slot_is_free(r, first, n))
		return;
	s->first = first;
	s->n = n;
	s->is_busy = true;
	s->iov = (struct iovec){ s->buf, n * 512 };
	s->r = (struct blk_req){ .op = what < 3 && !r->is_write_only ? BLK_READ :
				what < 5 && !r->is_write_only ? BLK_ZEROES : BLK_WRITE,
				 .off = first * 512ull, .len = n * 512ull, .iov = &s->iov, .n_iov = 1,
					.done = slot_done,
				 .arg = s, .may_unmap = what & 1 };
	for (uint32_t i = first; i < first + n && s->r.op != BLK_READ; i++) {
		uint32_t version = (r->m->asked[i] & ~RIG_ZERO) + 1;

		r->m->asked[i] = s->r.op == BLK_ZEROES ? version | RIG_ZERO : version;
		sector_make(s->buf + (i - first) * 512, i, r->m->asked[i]);
	}
	blk_submit(r->front, &s->r);
}

static void flush_done(struct blk_req *q, int result)
{
	struct rig *r = q->arg;

	CHECK_EQ(result, 0);
	r->is_flushing = false;
	memcpy(r->m->flushed, r->at_flush, sizeof(r->m->flushed));
}

static void flush_send(struct rig *r)
{
	memcpy(r->at_flush, r->m->done, sizeof(r->m->done));
	r->flush = (struct blk_req){ .op = BLK_FLUSH, .done = flush_done, .arg = r };
	r->is_flushing = true;
	blk_submit(r->front, &r->flush);
}

void rig_turn(struct rig *r)
{
	for (unsigned i = 0; i < RIG_SLOTS && !r->is_quiet; i++)
		if (!r->slot[i].is_busy)
			slot_send(&r->slot[i]);
	if (!r->is_flushing && !r->is_quiet && !(rig_random(r) % 8))
		flush_send(r);
	CHECK(loop_run_once(r->loop, 2) >= 0);
}

void rig_settle(struct rig *r)
{
	r->is_quiet = true;
	for (bool busy = true; busy;) {
		busy = r->is_flushing;
		for (unsigned i = 0; i < RIG_SLOTS; i++)
			busy |= r->slot[i].is_busy;
		if (busy)
			loop_run_once(r->loop, 2);
	}
}

/* --- jobs ----------------------------------------------------------------------------------------- */

struct blk_job_image rig_open_file(struct rig *r, const char *name, const char *format)
{
	const char *path = rig_path(r, name);
	struct blk_job_image i = { .fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), .path = path,
				  .format = format };

	CHECK(i.fd >= 0);
	return i;
}

struct blk_job_image rig_new_file(struct rig *r, const char *name, const char *format)
{
	struct blk_job_image i = rig_open_file(r, name, format);

	CHECK_EQ(ftruncate(i.fd, 0), 0);
	i.is_empty = true;
	return i;
}

struct starting { bool is_over; struct err err; };

static void started(void *arg, const struct err *err)
{
	struct starting *s = arg;

	s->is_over = true;
	if (err)
		s->err = *err;
}

void rig_start(struct rig *r, const struct blk_job_args *a, unsigned n)
{
	struct starting s = { 0 };

	if (blk_jobs_start(&r->jobs, a, n, started, &s, &s.err) < 0)
		FAIL("%s", s.err.msg);
	while (!s.is_over)
		rig_turn(r);
	if (s.err.code)
		FAIL("%s", s.err.msg);
	r->n_started += n;
	if (!r->jobs.first) {           /* a moment */
		snprintf(r->m->top, sizeof(r->m->top), "%s", blk_name(r->front));
		snprintf(r->m->top_format, sizeof(r->m->top_format), "%s", blk_format(r->front));
	}
}

const char *rig_start_fails(struct rig *r, const struct blk_job_args *a)
{
	static struct starting s;

	s = (struct starting){ 0 };
	if (blk_jobs_start(&r->jobs, a, 1, started, &s, &s.err) == 0)
		while (!s.is_over)
			rig_turn(r);
	if (!s.err.code)
		FAIL("the job has begun");
	return s.err.msg;
}

void rig_until(struct rig *r, const unsigned *counter, unsigned n, uint64_t n_writes)
{
	uint64_t end = r->n_written + n_writes, late = loop_now_ns() + 60000000000ull;

	while (*counter < n || r->n_written < end) {
		if (r->n_failed && counter != &r->n_failed)
			FAIL("a job failed: %s", r->why);
		CHECK(loop_now_ns() < late);
		rig_turn(r);
	}
}

/* --- judging -------------------------------------------------------------------------------------- */

static void verify(struct rig *r, struct blk *b, bool is_exact)
{
	uint8_t *buf = malloc(1 << 20);

	CHECK(blk_size(b) >= RIG_SIZE);
	for (uint32_t s = 0; s < RIG_SECTORS; s++) {
		uint32_t from = is_exact ? r->m->done[s] : r->m->flushed[s], to = is_exact ? from : r->m->asked[s];
		const uint8_t *p = buf + s % 2048 * 512;
		bool is_fine = false;

		if (s % 2048 == 0)
			CHECK_EQ(blk_pread(b, s * 512ull, buf, 1 << 20), 0);
		if (is_exact || from == to) {
			is_fine = sector_is(p, s, from);
		} else {
			for (uint32_t v = from & ~RIG_ZERO; !is_fine && v <= (to & ~RIG_ZERO); v++)
				is_fine = sector_is(p, s, v) || sector_is(p, s, RIG_ZERO);
		}
		if (!is_fine)
			FAIL("sector %u is (%u, %u), not of version %x to %x", s, get_le32(p), get_le32(p + 4), from,
			     to);
	}
	free(buf);
}

void rig_verify(struct rig *r)
{
	rig_settle(r);
	verify(r, r->front, true);
}

void rig_check_image(const char *path, const char *format)
{
	struct blk_options o = { .path = path, .fd = -1, .format = format, .is_readonly = true,
				.has_no_backing = true };
	struct err err = ERR_INIT;
	struct blk_check c = { 0 };
	struct blk *b = NULL;

	if (blk_open(&b, NULL, &o, &err) < 0)
		FAIL("%s", err.msg);
	int r = blk_check(b, BLK_FIX_NOTHING, &c, &err);

	if (r < 0 && r != -ENOTSUP)
		FAIL("%s", err.msg);
	CHECK_EQ(c.n_errors, 0);
	blk_close(b);
}

void rig_verify_image(struct rig *r, const char *name, const char *format, bool is_exact)
{
	const char *path = name[0] == '/' ? name : rig_path(r, name);
	struct blk_options o = { .path = path, .fd = -1, .format = format, .is_readonly = true };
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	if (blk_open(&b, NULL, &o, &err) < 0)
		FAIL("%s", err.msg);
	verify(r, b, is_exact);
	blk_close(b);
	rig_check_image(path, format);
}
