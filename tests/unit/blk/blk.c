/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/blk_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/loop.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "test.h"
#include "util/err.h"

/* A loop of one descriptor per image: enough for what blk asks of it. */
struct loop { struct loop_fd *h[4]; };

int loop_fd_add(struct loop *l, struct loop_fd *h, int fd, unsigned events,
		void (*fn)(struct loop_fd *h, unsigned events))
{
	h->fd = fd;
	h->fn = fn;
	h->events = events;
	h->loop = l;
	for (h->slot = 0; l->h[h->slot]; h->slot++)
		;
	l->h[h->slot] = h;
	return 0;
}

void loop_fd_del(struct loop_fd *h)
{
	if (h->loop)
		h->loop->h[h->slot] = NULL;
	h->loop = NULL;
}

int loop_fd_mod(struct loop_fd *h, unsigned events)
{
	h->events = events;
	return 0;
}

/* Nothing here has limits or jobs: no timer is ever set. */
void loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(struct loop_timer *t)) { t->fn = fn; }
void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns) { FAIL("a timer is set"); }
void loop_timer_cancel(struct loop_timer *t) { }
uint64_t loop_now_ns(void) { return 0; }

static struct loop loop;

static void turn(void)
{
	struct pollfd p[4];
	struct loop_fd *h[4];
	int n = 0;

	for (int i = 0; i < 4; i++)
		if (loop.h[i]) {
			h[n] = loop.h[i];
			p[n++] = (struct pollfd){ .fd = loop.h[i]->fd, .events = POLLIN };
		}
	CHECK(poll(p, (nfds_t)n, 5000) > 0);
	for (int i = 0; i < n; i++)
		if (p[i].revents)
			h[i]->fn(h[i], LOOP_IN);
}

static char path[64];

static void remove_image(void)
{
	unlink(path);
}

static void make_image(uint64_t size)
{
	const char *dir = getenv("TMPDIR");

	snprintf(path, sizeof(path), "%.40s/viv-blk-XXXXXX", dir ? dir : "/tmp");
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	atexit(remove_image);
	CHECK_EQ(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static struct blk *open_image(const struct blk_options *o)
{
	struct blk_options with = *o;
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	with.path = path;
	with.fd = -1;
	with.format = "raw";
	if (blk_open(&b, &loop, &with, &err) < 0)
		FAIL("%s", err.msg);
	return b;
}

static void set_result(struct blk_req *r, int result)
{
	*(int *)r->arg = result;
}

enum { PENDING = 12345 };

static int do_op(struct blk *b, enum blk_op op, uint64_t off, void *buf, uint64_t len)
{
	int result = PENDING;
	struct iovec iov = { buf, len };
	struct blk_req r = { .op = op, .off = off, .len = len, .iov = &iov, .n_iov = buf ? 1 : 0,
			     .done = set_result, .arg = &result };

	blk_submit(b, &r);
	CHECK_EQ(result, PENDING);      /* never from inside blk_submit */
	while (result == PENDING)
		turn();
	return result;
}

static uint64_t seed = 88172645463325252ull;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

enum { MODEL_SIZE = 2 << 20, BATCH = 8, MAX_IOV = 100 };

struct scribble {
	struct blk_req r;
	struct iovec iov[MAX_IOV];
	uint8_t *buf;
	int result;
};

/* One random request in its own slice of the disk, so that a batch may run in any order. */
static void scribble_start(struct blk *b, struct scribble *s, uint64_t lo, uint64_t span, uint8_t *model)
{
	static const enum blk_op ops[] = { BLK_READ, BLK_WRITE, BLK_WRITE, BLK_ZEROES, BLK_DISCARD, BLK_FLUSH };
	uint64_t off = rnd(span / 512) * 512, len = 512 * (1 + rnd((span - off) / 512));
	unsigned n = 0;

	s->result = PENDING;
	s->r = (struct blk_req){ .op = ops[rnd(6)], .off = lo + off, .len = len, .iov = s->iov,
				 .may_unmap = rnd(2), .done = set_result, .arg = &s->result };
	for (uint64_t at = 0; at < len; n++) {
		uint64_t piece = n == MAX_IOV - 1 ? len - at : 1 + rnd(len / 8 + 700);

		piece = piece > len - at ? len - at : piece;
		s->iov[n] = (struct iovec){ s->buf + at, piece };
		at += piece;
	}
	s->r.n_iov = (int)n;
	if (s->r.op == BLK_WRITE) {
		for (uint64_t i = 0; i < len; i++)
			s->buf[i] = (uint8_t)rnd(256);
		memcpy(model + lo + off, s->buf, len);
	} else if (s->r.op == BLK_ZEROES || (s->r.op == BLK_DISCARD && blk_can_discard(b))) {
		memset(model + lo + off, 0, len);       /* a hole of a file reads as zeroes */
	}
	blk_submit(b, &s->r);
}

static void scribble(const char *aio, bool is_direct)
{
	static uint8_t model[MODEL_SIZE], back[MODEL_SIZE];
	static struct scribble s[BATCH];

	make_image(MODEL_SIZE);
	struct blk *b = open_image(&(struct blk_options){ .aio = aio, .is_direct = is_direct });

	for (int i = 0; i < BATCH; i++)
		s[i].buf = aligned_alloc(4096, MODEL_SIZE / BATCH);
	for (int round = 0; round < 60; round++) {
		for (int i = 0; i < BATCH; i++)
			scribble_start(b, &s[i], (uint64_t)i * (MODEL_SIZE / BATCH), MODEL_SIZE / BATCH, model);
		while (blk_in_flight(b))
			turn();
		for (int i = 0; i < BATCH; i++) {
			CHECK_EQ(s[i].result, 0);
			if (s[i].r.op == BLK_READ)
				CHECK_MEM(s[i].buf, model + s[i].r.off, s[i].r.len);
		}
	}
	CHECK_EQ(do_op(b, BLK_FLUSH, 0, NULL, 0), 0);
	blk_close(b);
	b = open_image(&(struct blk_options){ .aio = aio, .is_readonly = true });
	CHECK_EQ(do_op(b, BLK_READ, 0, back, MODEL_SIZE), 0);
	CHECK_MEM(back, model, MODEL_SIZE);
	blk_close(b);
	for (int i = 0; i < BATCH; i++)
		free(s[i].buf);
}

static bool has_uring(void)
{
	AUTO_FD int fd = eventfd(0, EFD_CLOEXEC);
	struct aio *a = NULL;

	if (aio_uring.open(&a, fd, NULL) < 0)
		return false;
	aio_uring.close(a);
	return true;
}

TEST_SLOW(scribble_with_threads_equals_memory) { scribble("threads", false); }
TEST_SLOW(scribble_with_threads_and_direct_io_equals_memory) { scribble("threads", true); }
TEST_SLOW(scribble_with_io_uring_equals_memory)
{
	if (!has_uring())
		SKIP("this host has no io_uring");
	scribble("io_uring", false);
}
TEST_SLOW(scribble_with_io_uring_and_direct_io_equals_memory)
{
	if (!has_uring())
		SKIP("this host has no io_uring");
	scribble("io_uring", true);
}

TEST(more_requests_than_the_ring_holds_all_end)
{
	static struct blk_req r[1000];
	static int result[1000];
	static uint8_t buf[1000][512];
	static struct iovec iov[1000];

	make_image(sizeof(buf));
	struct blk *b = open_image(&(struct blk_options){ 0 });

	for (int i = 0; i < 1000; i++) {
		memset(buf[i], i, 512);
		iov[i] = (struct iovec){ buf[i], 512 };
		result[i] = PENDING;
		r[i] = (struct blk_req){ .op = BLK_WRITE, .off = (uint64_t)i * 512, .len = 512, .iov = &iov[i],
					 .n_iov = 1, .done = set_result, .arg = &result[i] };
		blk_submit(b, &r[i]);
	}
	blk_close(b);           /* waits */
	for (int i = 0; i < 1000; i++)
		CHECK_EQ(result[i], 0);
}

TEST(requests_outside_the_disk_are_refused)
{
	uint8_t buf[1024];

	make_image(4096);
	struct blk *b = open_image(&(struct blk_options){ 0 });

	CHECK_EQ(blk_size(b), 4096);
	CHECK_EQ(do_op(b, BLK_READ, 4096, buf, 512), -EINVAL);
	CHECK_EQ(do_op(b, BLK_WRITE, 3584, buf, 1024), -EINVAL);
	CHECK_EQ(do_op(b, BLK_READ, UINT64_MAX - 511, buf, 1024), -EINVAL);
	CHECK_EQ(do_op(b, BLK_ZEROES, 0, NULL, UINT64_MAX), -EINVAL);
	CHECK_EQ(do_op(b, BLK_READ, 4096, buf, 0), 0);
	blk_close(b);
}

TEST(a_vector_that_does_not_add_up_is_refused)
{
	uint8_t buf[1024];
	int result = PENDING;
	struct iovec iov[2] = { { buf, 512 }, { buf, SIZE_MAX } };
	struct blk_req r = { .op = BLK_READ, .len = 1024, .iov = iov, .n_iov = 2, .done = set_result, .arg = &result };

	make_image(4096);
	struct blk *b = open_image(&(struct blk_options){ 0 });

	blk_submit(b, &r);
	blk_close(b);
	CHECK_EQ(result, -EINVAL);
}

TEST(a_read_only_image_takes_no_writes)
{
	uint8_t buf[512] = { 0 };

	make_image(4096);
	struct blk *b = open_image(&(struct blk_options){ .is_readonly = true });

	CHECK(blk_is_readonly(b));
	CHECK(!blk_can_discard(b));
	CHECK_EQ(do_op(b, BLK_WRITE, 0, buf, 512), -EROFS);
	CHECK_EQ(do_op(b, BLK_ZEROES, 0, NULL, 512), -EROFS);
	CHECK_EQ(do_op(b, BLK_DISCARD, 0, NULL, 512), -EROFS);
	CHECK_EQ(do_op(b, BLK_READ, 0, buf, 512), 0);
	CHECK_EQ(do_op(b, BLK_FLUSH, 0, NULL, 0), 0);
	blk_close(b);
}

TEST(discard_gives_blocks_back_to_the_host)
{
	static uint8_t buf[1 << 20];
	struct stat before, after;

	make_image(sizeof(buf));
	struct blk *b = open_image(&(struct blk_options){ 0 });

	if (!blk_can_discard(b))
		SKIP("the file system of temporary files makes no holes");
	memset(buf, 1, sizeof(buf));
	CHECK_EQ(do_op(b, BLK_WRITE, 0, buf, sizeof(buf)), 0);
	CHECK_EQ(do_op(b, BLK_FLUSH, 0, NULL, 0), 0);
	stat(path, &before);
	CHECK_EQ(do_op(b, BLK_DISCARD, 0, NULL, sizeof(buf)), 0);
	stat(path, &after);
	CHECK(after.st_blocks < before.st_blocks);
	CHECK_EQ(after.st_size, before.st_size);
	blk_close(b);
}

/* A loop device over a new file of SIZE bytes; it goes with this process. */
static void make_device(uint64_t size, char *device, size_t cap)
{
	struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);

	if (n < 0)
		SKIP("not permitted to make a loop device");
	make_image(size);
	snprintf(device, cap, "/dev/loop%d", n);
	int file = open(path, O_RDWR | O_CLOEXEC), dev = open(device, O_RDWR | O_CLOEXEC);

	if (file < 0 || dev < 0 || ioctl(dev, LOOP_SET_FD, file) < 0)
		SKIP("not permitted to set up a loop device");
	CHECK_EQ(ioctl(dev, LOOP_SET_STATUS64, &info), 0);
}

TEST(a_block_device_discards_and_makes_zeroes)
{
	static uint8_t buf[1 << 20];
	struct stat before, after;
	struct err err = ERR_INIT;
	struct blk *b = NULL;
	char device[32];

	make_device(sizeof(buf), device, sizeof(device));
	if (blk_open(&b, &loop, &(struct blk_options){ .path = device, .fd = -1, .is_direct = true }, &err) < 0)
		FAIL("%s", err.msg);
	CHECK_EQ(blk_size(b), sizeof(buf));
	memset(buf, 1, sizeof(buf));
	CHECK_EQ(do_op(b, BLK_WRITE, 0, buf, sizeof(buf)), 0);
	CHECK_EQ(do_op(b, BLK_FLUSH, 0, NULL, 0), 0);
	stat(path, &before);
	CHECK_EQ(do_op(b, BLK_DISCARD, 0, NULL, sizeof(buf) / 2), 0);
	CHECK_EQ(do_op(b, BLK_FLUSH, 0, NULL, 0), 0);
	stat(path, &after);
	CHECK(after.st_blocks < before.st_blocks);
	CHECK_EQ(do_op(b, BLK_ZEROES, sizeof(buf) / 2, NULL, 4096), 0);
	CHECK_EQ(do_op(b, BLK_READ, 0, buf, sizeof(buf)), 0);
	for (size_t i = 0; i < sizeof(buf); i++)
		CHECK_EQ(buf[i], i >= sizeof(buf) / 2 + 4096);
	CHECK_EQ(do_op(b, BLK_DISCARD, sizeof(buf), NULL, 512), -EINVAL);
	blk_close(b);
}

TEST(an_image_that_shrank_under_us_is_an_error_and_not_a_hang)
{
	uint8_t buf[1024];

	make_image(4096);
	struct blk *b = open_image(&(struct blk_options){ 0 });

	CHECK_EQ(truncate(path, 512), 0);
	CHECK_EQ(do_op(b, BLK_READ, 0, buf, 1024), -EIO);
	blk_close(b);
}

TEST(a_size_that_is_no_multiple_of_512_is_refused_with_the_remedy)
{
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	make_image(1000);
	CHECK_EQ(blk_open(&b, &loop, &(struct blk_options){ .path = path, .fd = -1 }, &err), -EINVAL);
	CHECK_HAS(err.msg, "truncate -s 1024");
	CHECK(!b);
}

TEST(what_cannot_be_opened_is_named)
{
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	CHECK_EQ(blk_open(&b, &loop, &(struct blk_options){ .path = "/nonexistent/x", .fd = -1 }, &err), -ENOENT);
	CHECK_HAS(err.msg, "'/nonexistent/x'");
	CHECK_EQ(blk_open(&b, &loop, &(struct blk_options){ .path = "/", .is_readonly = true, .fd = -1 }, &err), -EINVAL);
	CHECK_HAS(err.msg, "neither a file nor a block device");
	CHECK_EQ(blk_open(&b, &loop, &(struct blk_options){ .path = "/", .format = "vhd", .fd = -1 }, &err), -EINVAL);
	CHECK_HAS(err.msg, "'vhd'");
	CHECK_EQ(blk_open(&b, &loop, &(struct blk_options){ .path = "/", .aio = "magic", .fd = -1 }, &err), -EINVAL);
	CHECK_HAS(err.msg, "'magic'");
	CHECK(!loop.h[0]);
}

TEST(a_descriptor_is_taken_on_success_only)
{
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	make_image(1000);
	int fd = open(path, O_RDWR);

	CHECK_EQ(blk_open(&b, &loop, &(struct blk_options){ .fd = fd }, &err), -EINVAL);
	CHECK(fcntl(fd, F_GETFL) >= 0);
	CHECK_EQ(ftruncate(fd, 1024), 0);
	CHECK_EQ(blk_open(&b, &loop, &(struct blk_options){ .fd = fd }, &err), 0);
	CHECK_EQ(blk_size(b), 1024);
	blk_close(b);
	CHECK(fcntl(fd, F_GETFL) < 0);
	fd = open(path, O_RDONLY);
	CHECK_EQ(blk_open(&b, &loop, &(struct blk_options){ .fd = fd }, &err), -EACCES);
	CHECK_HAS(err.msg, "not open for reading and writing");
}

/* Try to open the image in another process; its sentence, or "" when that worked. */
static void open_elsewhere(bool is_readonly, char *msg, size_t len)
{
	int pipe_fd[2];

	CHECK_EQ(pipe(pipe_fd), 0);
	pid_t pid = fork();

	if (!pid) {
		struct loop own = { { NULL } };
		struct err err = ERR_INIT;
		struct blk *b = NULL;

		/* Descriptors of the parent share its lock, but closing them here does not drop it. */
		blk_open(&b, &own, &(struct blk_options){ .path = path, .fd = -1, .is_readonly = is_readonly }, &err);
		if (write(pipe_fd[1], err.msg, strlen(err.msg) + 1) < 0)
			_exit(1);
		_exit(0);
	}
	memset(msg, 0, len);
	CHECK(read(pipe_fd[0], msg, len - 1) > 0);
	waitpid(pid, NULL, 0);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

TEST(a_second_writer_is_refused_and_told_who_has_it)
{
	char msg[512], pid[32];

	make_image(4096);
	struct blk *b = open_image(&(struct blk_options){ 0 });

	snprintf(pid, sizeof(pid), "(pid %d)", getpid());
	open_elsewhere(false, msg, sizeof(msg));
	CHECK_HAS(msg, path);
	CHECK_HAS(msg, "is in use by another process");
	CHECK_HAS(msg, pid);
	open_elsewhere(true, msg, sizeof(msg));
	CHECK_HAS(msg, "is in use by another process");
	blk_close(b);
	open_elsewhere(false, msg, sizeof(msg));
	CHECK_STR(msg, "");
}

TEST(readers_share_an_image_but_keep_writers_out)
{
	char msg[512];

	make_image(4096);
	struct blk *b = open_image(&(struct blk_options){ .is_readonly = true });

	open_elsewhere(true, msg, sizeof(msg));
	CHECK_STR(msg, "");
	open_elsewhere(false, msg, sizeof(msg));
	CHECK_HAS(msg, "is in use by another process");
	blk_close(b);
}

/* A locked descriptor of the image that nobody has: it is on its way through the socket SOCK. */
static void send_locked(int sock)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} u = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { (char[]){ "x" }, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u.space) };
	int fd = open(path, O_RDWR | O_CLOEXEC);

	CHECK_EQ(fcntl(fd, F_OFD_SETLK, &fl), 0);
	memcpy(CMSG_DATA(&u.head), &fd, sizeof(fd));
	CHECK_EQ(sendmsg(sock, &msg, 0), 1);
	close(fd);
}

/* As one of a process that was killed, or of a worker of the kernel that has told that it is through. */
TEST(a_lock_that_no_process_holds_any_more_is_waited_for)
{
	int sock[2], go[2];
	char byte;

	make_image(4096);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, sock), 0);
	CHECK_EQ(pipe(go), 0);
	pid_t pid = fork();
	if (!pid)       /* with its end, all that is in the socket goes */
		_exit(read(go[0], &byte, 1) != 1);
	send_locked(sock[0]);
	close(sock[0]);
	close(sock[1]);
	CHECK_EQ(write(go[1], "x", 1), 1);
	blk_close(open_image(&(struct blk_options){ 0 }));
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	close(go[0]);
	close(go[1]);
}

/* A back end that notes what it is asked and answers from a script. */
struct fake_step {
	enum aio_op op;
	int mode;
	uint64_t off, len;      /* as seen */
	int64_t answer;         /* bytes or -errno; FAKE_ALL: everything */
};
enum { FAKE_ALL = 1 << 30 };

static struct fake_step *script;
static int script_at, fake_event;
static struct aio_job *fake_job;

static int fake_open(struct aio **out, int event_fd, struct err *err)
{
	fake_event = event_fd;
	*out = NULL;
	return 0;
}

static void fake_submit(struct aio *a, struct aio_job *j)
{
	uint64_t one = 1;
	struct fake_step *s = &script[script_at++];

	CHECK(!fake_job);
	CHECK_EQ(j->op, s->op);
	if (j->op != AIO_FDATASYNC) {
		CHECK_EQ(j->off, s->off);
		CHECK_EQ(j->len, s->len);
	}
	if (j->op == AIO_FALLOCATE)
		CHECK_EQ(j->mode, s->mode);
	j->result = s->answer == FAKE_ALL ? (int64_t)(j->op <= AIO_WRITEV ? j->len : 0) : s->answer;
	fake_job = j;
	CHECK(write(fake_event, &one, sizeof(one)) == sizeof(one));
}

static void fake_reap(struct aio *a)
{
	struct aio_job *j = fake_job;

	fake_job = NULL;
	if (j)
		j->done(j, j->result);
}

static void fake_close(struct aio *a)
{
}

static const struct aio_ops fake_aio = {
	.name = "fake", .open = fake_open, .submit = fake_submit, .reap = fake_reap, .close = fake_close,
};

static struct blk *open_fake(struct fake_step *steps)
{
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	script = steps;
	make_image(1 << 20);
	CHECK_EQ(blk_open_with(&b, &loop, &(struct blk_options){ .path = path, .fd = -1, .format = "raw" }, &fake_aio,
			       &err), 0);
	return b;
}

TEST(short_transfers_are_continued_and_flush_follows_as_fdatasync)
{
	static uint8_t buf[4096];
	struct blk *b = open_fake((struct fake_step[]){
		{ AIO_WRITEV, 0, 8192, 4096, 1000 },
		{ AIO_WRITEV, 0, 9192, 3096, -EINTR },
		{ AIO_WRITEV, 0, 9192, 3096, FAKE_ALL },
		{ AIO_FDATASYNC, 0, 0, 0, FAKE_ALL },
		{ AIO_READV, 0, 0, 4096, 1 },
		{ AIO_READV, 0, 1, 4095, -EIO },
	});

	CHECK_EQ(do_op(b, BLK_WRITE, 8192, buf, 4096), 0);
	CHECK_EQ(script_at, 3);
	CHECK_EQ(do_op(b, BLK_FLUSH, 0, NULL, 0), 0);
	CHECK_EQ(script_at, 4);
	CHECK_EQ(do_op(b, BLK_READ, 0, buf, 4096), -EIO);
	CHECK_EQ(script_at, 6);
	blk_close(b);
}

static int64_t now_answer;
static int n_now;

static int64_t fake_now(struct aio *a, const struct aio_job *j)
{
	n_now++;
	return now_answer > 0 ? (int64_t)j->len : now_answer;
}

static const struct aio_ops fake_aio_now = {
	.name = "fake", .open = fake_open, .submit = fake_submit, .now = fake_now, .reap = fake_reap, .close = fake_close,
};

static struct blk *open_fake_now(struct fake_step *steps)
{
	struct blk *b = NULL;

	script = steps;
	make_image(1 << 20);
	CHECK_EQ(blk_open_with(&b, &loop, &(struct blk_options){ .path = path, .fd = -1, .format = "raw" }, &fake_aio_now,
			       NULL), 0);
	return b;
}

TEST(a_small_transfer_is_done_at_once_and_told_of_later)
{
	static uint8_t buf[4096];
	struct iovec iov = { buf, sizeof(buf) };
	int result = PENDING;
	struct blk_req r = { .op = BLK_WRITE, .off = 4096, .len = 4096, .iov = &iov, .n_iov = 1, .done = set_result,
			     .arg = &result };
	struct blk *b = open_fake_now(NULL);

	now_answer = 1;
	blk_submit(b, &r);
	CHECK_EQ(n_now, 1);
	CHECK_EQ(result, PENDING);
	turn();
	CHECK_EQ(result, 0);
	result = PENDING;
	blk_batch_begin(b);
	blk_submit(b, &r);
	CHECK_EQ(result, PENDING);
	blk_batch_end(b);
	CHECK_EQ(result, 0);
	CHECK_EQ(blk_in_flight(b), 0);
	blk_close(b);
}

TEST(what_cannot_be_done_at_once_goes_the_long_way)
{
	static uint8_t buf[128 << 10];
	struct blk *b = open_fake_now((struct fake_step[]){
		{ AIO_WRITEV, 0, 0, 4096, FAKE_ALL },           /* it would have waited */
		{ AIO_WRITEV, 0, 0, 4096, -ENOSPC },            /* whatever was wrong is found there */
		{ AIO_WRITEV, 0, 512, 4096, FAKE_ALL },         /* a part of a page may have to be read */
		{ AIO_READV, 0, 0, 128 << 10, FAKE_ALL },       /* large */
	});

	now_answer = -EAGAIN;
	CHECK_EQ(do_op(b, BLK_WRITE, 0, buf, 4096), 0);
	now_answer = -EIO;
	CHECK_EQ(do_op(b, BLK_WRITE, 0, buf, 4096), -ENOSPC);
	CHECK_EQ(n_now, 2);
	now_answer = 1;
	CHECK_EQ(do_op(b, BLK_WRITE, 512, buf, 4096), 0);
	CHECK_EQ(do_op(b, BLK_READ, 0, buf, sizeof(buf)), 0);
	CHECK_EQ(n_now, 2);
	CHECK_EQ(script_at, 4);
	blk_close(b);
}

TEST(after_a_failed_fdatasync_no_flush_succeeds)
{
	struct blk *b = open_fake((struct fake_step[]){ { AIO_FDATASYNC, 0, 0, 0, -EIO } });

	CHECK_EQ(do_op(b, BLK_FLUSH, 0, NULL, 0), -EIO);
	CHECK_EQ(do_op(b, BLK_FLUSH, 0, NULL, 0), -EIO);
	CHECK_EQ(script_at, 1);
	blk_close(b);
}

TEST(zeroes_fall_back_to_writing_them)
{
	struct blk *b = open_fake((struct fake_step[]){
		{ AIO_FALLOCATE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 512, 200 << 10, -EOPNOTSUPP },
		{ AIO_FALLOCATE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 512, 200 << 10, -EOPNOTSUPP },
		{ AIO_WRITEV, 0, 512, 200 << 10, 100 << 10 },
		{ AIO_WRITEV, 0, 512 + (100 << 10), 100 << 10, FAKE_ALL },
		{ AIO_FALLOCATE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 512, -ENOSPC },
	});
	int result = PENDING;
	struct blk_req r = { .op = BLK_ZEROES, .may_unmap = true, .off = 512, .len = 200 << 10,
			     .done = set_result, .arg = &result };

	blk_submit(b, &r);
	while (result == PENDING)
		turn();
	CHECK_EQ(result, 0);
	CHECK_EQ(do_op(b, BLK_ZEROES, 0, NULL, 512), -ENOSPC);
	CHECK_EQ(script_at, 5);
	blk_close(b);
}

TEST(discard_is_advice_that_a_host_may_not_take)
{
	struct blk *b = open_fake((struct fake_step[]){
		{ AIO_FALLOCATE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096, -EOPNOTSUPP },
		{ AIO_FALLOCATE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096, -EIO },
	});

	CHECK_EQ(do_op(b, BLK_DISCARD, 0, NULL, 4096), 0);
	CHECK_EQ(do_op(b, BLK_DISCARD, 0, NULL, 4096), -EIO);
	blk_close(b);
}
