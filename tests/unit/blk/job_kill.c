/* SPDX-License-Identifier: Apache-2.0 */
/* The process of a disk with a job is killed at its N-th write, flush or change of the file, half-way through it, for N
 * from the first to the last. What the guest has flushed is there afterwards, each sector is one that was asked for,
 * and no image is wrong. */
#include "job_rig.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "blk/commit.h"
#include "test.h"

/* --- a back end that dies -------------------------------------------------------------------------- */

struct aio { int event_fd; struct aio_job *first, **tail; };

static unsigned kill_at, n_ops;

static int kill_open(struct aio **out, int event_fd, struct err *err)
{
	struct aio *a = calloc(1, sizeof(*a));

	a->event_fd = event_fd;
	a->tail = &a->first;
	*out = a;
	return 0;
}

static void die_in(struct aio_job *j)
{
	struct iovec half = { j->iov ? j->iov->iov_base : NULL, j->iov ? j->iov->iov_len / 1024 * 512 : 0 };
	struct aio_job part = { .op = AIO_WRITEV, .fd = j->fd, .off = j->off, .iov = &half, .n_iov = 1 };

	if (j->op == AIO_WRITEV && half.iov_len && n_ops % 3)
		aio_do(&part);
	raise(SIGKILL);
}

static void kill_submit(struct aio *a, struct aio_job *j)
{
	uint64_t one = 1;

	if ((j->op == AIO_WRITEV || j->op == AIO_FDATASYNC || j->op == AIO_FALLOCATE) && ++n_ops == kill_at)
		die_in(j);
	j->result = aio_do(j);
	j->next = NULL;
	*a->tail = j;
	a->tail = &j->next;
	CHECK_EQ(write(a->event_fd, &one, 8), 8);
}

static void kill_reap(struct aio *a)
{
	struct aio_job *j = a->first;

	a->first = NULL;
	a->tail = &a->first;
	for (struct aio_job *next; j; j = next) {
		next = j->next;
		j->done(j, j->result);
	}
}

static void kill_close(struct aio *a)
{
	free(a);
}

static const struct aio_ops kill_aio = {
	.name = "kill", .has_threads = true, .open = kill_open, .submit = kill_submit, .reap = kill_reap,
		.close = kill_close,
};

/* --- what is done and killed ------------------------------------------------------------------------ */

enum { WRITES = 12 };

struct scene {
	const char *name;
	void (*make)(struct rig *r);            /* images, in the process that stays */
	void (*run)(struct rig *r);             /* the disk is open; until all is over */
	void (*find)(struct rig *r);            /* which image is the top, after a death; NULL: r->m->top tells */
	bool is_offline;                        /* RUN opens the disk */
	bool has_log;                           /* it is opened for writing before it can be looked at */
};

static void make_chain(struct rig *r)
{
	rig_add_image(r, "base", "qcow2", NULL, 12);
	rig_add_image(r, "mid", "qcow2", "base", 8);
	rig_add_image(r, "top", "qcow2", "mid", 5);
}

static void job(struct rig *r, struct blk_job_args a)
{
	a.front = r->front;
	if (!a.target.path)
		a.target.fd = -1;
	a.overlay.fd = -1;
	rig_until(r, &r->n_completed, 0, WRITES);
	rig_start(r, &a, 1);
	if (a.id)
		rig_until(r, &r->n_completed, 1, WRITES);
	rig_until(r, &r->n_completed, 0, WRITES);
}

static void run_overlay(struct rig *r)
{
	job(r, (struct blk_job_args){ .kind = "overlay", .target = rig_new_file(r, "over", "qcow2") });
}

static bool image_opens(struct rig *r, const char *name)
{
	struct blk_options o = { .path = rig_path(r, name), .fd = -1, .format = "qcow2", .is_readonly = true };
	struct blk *b = NULL;
	int rc = blk_open(&b, NULL, &o, NULL);

	blk_close(b);
	return !rc;
}

static void find_overlay(struct rig *r)
{
	if (image_opens(r, "over"))
		strcpy(r->m->top, rig_path(r, "over"));
}

static void run_stream(struct rig *r)
{
	job(r, (struct blk_job_args){ .kind = "stream", .id = "s" });
}

static void run_stream_to_base(struct rig *r)
{
	job(r, (struct blk_job_args){ .kind = "stream", .id = "s", .base = "2" });
}

static void run_mirror(struct rig *r)
{
	job(r, (struct blk_job_args){ .kind = "mirror", .id = "m", .target = rig_new_file(r, "copy", "qcow2") });
}

static void run_mirror_top(struct rig *r)
{
	struct blk_job_args a = { .kind = "mirror", .id = "m", .sync = BLK_SYNC_TOP, .mode = BLK_MODE_BLOCKING,
				  .target = rig_new_file(r, "copy", "qcow2") };

	a.target.backing = "mid";
	a.target.backing_format = "qcow2";
	job(r, a);
}

static void run_commit(struct rig *r)
{
	job(r, (struct blk_job_args){ .kind = "commit", .id = "c", .top = "1", .target = rig_open_file(r, "base",
												       "qcow2") });
}

static void run_commit_top(struct rig *r)
{
	job(r, (struct blk_job_args){ .kind = "commit", .id = "c", .target = rig_open_file(r, "base", "qcow2") });
}

/* Two images over one, of a format that knows its parent by an identity of its content or of itself. */
static void make_pair(struct rig *r, const char *format)
{
	rig_add_image(r, "base", format, NULL, 12);
	rig_add_image(r, "other", format, "base", 0);
	rig_add_image(r, "top", format, "base", 30);
}

static void make_vmdk(struct rig *r)
{
	make_pair(r, "vmdk");
}

static void make_vhdx(struct rig *r)
{
	make_pair(r, "vhdx");
}

static void make_vpc(struct rig *r)
{
	make_pair(r, "vpc");
}

static void run_commit_pair(struct rig *r)
{
	job(r, (struct blk_job_args){ .kind = "commit", .id = "c", .target = rig_open_file(r, "base", r->m->top_format) });
}

static void commit_offline(struct rig *r, const struct aio_ops *aio)
{
	struct blk_options o = { .path = rig_path(r, "top"), .fd = -1, .format = r->m->top_format, .is_backing_writable = true };
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	if (blk_open_with(&b, NULL, &o, aio, &err) < 0 || blk_commit(b, NULL, &err) < 0)
		FAIL("%s", err.msg);
	blk_close(b);
}

static void run_commit_offline(struct rig *r)
{
	commit_offline(r, &kill_aio);
}

static void run_backup(struct rig *r)
{
	struct blk_job_args b = { .kind = "bitmap-add", .front = r->front, .bitmap = "day", .target.fd = -1,
				 .overlay.fd = -1 };

	rig_start(r, &b, 1);
	job(r, (struct blk_job_args){ .kind = "backup", .id = "b", .bitmap = "day", .target = rig_new_file(r, "copy",
													   "qcow2") });
}

static void run_resize(struct rig *r)
{
	job(r, (struct blk_job_args){ .kind = "resize", .size = RIG_SIZE + (8 << 20) });
}

static void run_snapshot_inside(struct rig *r)
{
	job(r, (struct blk_job_args){ .kind = "snapshot-create", .snapshot = "s" });
	job(r, (struct blk_job_args){ .kind = "snapshot-delete", .snapshot = "s" });
}

/* The process that dies; true: it did not, there were not so many operations. */
static bool die_at(const struct scene *s, struct rig *r, unsigned n)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		kill_at = n;
		if (!s->is_offline)
			rig_open(r, &kill_aio);
		s->run(r);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		FAIL("%s: with %u operations the job does not end well", s->name, n);
	CHECK(WIFEXITED(status) || WTERMSIG(status) == SIGKILL);
	return WIFEXITED(status);
}

static void open_once(struct rig *r, const char *name)
{
	struct blk_options o = { .path = name[0] == '/' ? name : rig_path(r, name), .fd = -1, .format = r->m->top_format };
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	if (blk_open(&b, NULL, &o, &err) < 0)
		FAIL("%s", err.msg);
	blk_close(b);
}

/* Committing again goes on where the other left off; then it is the child of what it has changed, and its sibling is not. */
static void commit_again(struct rig *r)
{
	struct blk_options o = { .path = rig_path(r, "other"), .fd = -1, .format = r->m->top_format, .is_readonly = true };
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	commit_offline(r, NULL);
	rig_verify_image(r, "top", r->m->top_format, true);
	rig_verify_image(r, "base", r->m->top_format, true);
	if (strcmp(r->m->top_format, "vpc")) {
		CHECK_EQ(blk_open(&b, NULL, &o, &err), -EINVAL);
		CHECK(strstr(err.msg, "has been changed since"));
	}
}

static void kill_everywhere(const struct scene *s)
{
	unsigned n_deaths = 0;
	bool is_over = false;

	for (unsigned n = 1; !is_over; n += s->is_offline ? 1 : 1 + n / 9) {
		struct rig r;

		rig_init(&r, 7);
		r.is_write_only = true;
		s->make(&r);
		is_over = die_at(s, &r, n);
		if (s->find && !is_over)
			s->find(&r);
		if (s->has_log && n % 2) {
			open_once(&r, "base");
			open_once(&r, r.m->top);
		}
		if (!s->has_log || n % 2)
			rig_verify_image(&r, r.m->top, r.m->top_format, false);
		if (s->is_offline)
			commit_again(&r);
		n_deaths += !is_over;
		rig_fini(&r);
	}
	CHECK(n_deaths > (s->is_offline ? 5 : 15));
}

static const struct scene scenes[] = {
	{ .name = "overlay", .make = make_chain, .run = run_overlay, .find = find_overlay },
	{ .name = "stream", .make = make_chain, .run = run_stream },
	{ .name = "stream to base", .make = make_chain, .run = run_stream_to_base },
	{ .name = "mirror", .make = make_chain, .run = run_mirror },
	{ .name = "mirror of the top", .make = make_chain, .run = run_mirror_top },
	{ .name = "commit", .make = make_chain, .run = run_commit },
	{ .name = "commit of the top", .make = make_chain, .run = run_commit_top },
	{ .name = "backup", .make = make_chain, .run = run_backup },
	{ .name = "resize", .make = make_chain, .run = run_resize },
	{ .name = "snapshot inside", .make = make_chain, .run = run_snapshot_inside },
	{ .name = "commit of vmdk", .make = make_vmdk, .run = run_commit_offline, .is_offline = true },
	{ .name = "commit of vhdx", .make = make_vhdx, .run = run_commit_offline, .is_offline = true, .has_log = true },
	{ .name = "commit of vpc", .make = make_vpc, .run = run_commit_offline, .is_offline = true },
	{ .name = "live commit of vmdk", .make = make_vmdk, .run = run_commit_pair },
};

TEST_SLOW(a_snapshot_outlives_its_process) { kill_everywhere(&scenes[0]); }
TEST_SLOW(a_stream_outlives_its_process) { kill_everywhere(&scenes[1]); }
TEST_SLOW(a_stream_to_a_base_outlives_its_process) { kill_everywhere(&scenes[2]); }
TEST_SLOW(a_mirror_outlives_its_process) { kill_everywhere(&scenes[3]); }
TEST_SLOW(a_mirror_of_the_top_outlives_its_process) { kill_everywhere(&scenes[4]); }
TEST_SLOW(a_commit_outlives_its_process) { kill_everywhere(&scenes[5]); }
TEST_SLOW(a_commit_of_the_top_outlives_its_process) { kill_everywhere(&scenes[6]); }
TEST_SLOW(a_backup_outlives_its_process) { kill_everywhere(&scenes[7]); }
TEST_SLOW(a_new_size_outlives_its_process) { kill_everywhere(&scenes[8]); }
TEST_SLOW(a_snapshot_inside_outlives_its_process) { kill_everywhere(&scenes[9]); }
TEST_SLOW(a_commit_of_vmdk_goes_on_after_a_death) { kill_everywhere(&scenes[10]); }
TEST_SLOW(a_commit_of_vhdx_goes_on_after_a_death) { kill_everywhere(&scenes[11]); }
TEST_SLOW(a_commit_of_vpc_goes_on_after_a_death) { kill_everywhere(&scenes[12]); }
TEST_SLOW(a_live_commit_of_vmdk_outlives_its_process) { kill_everywhere(&scenes[13]); }
