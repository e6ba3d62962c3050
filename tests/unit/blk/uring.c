/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of a disk: nobody waits for what has come; in the hands of a guest that has taken over the process it reads and writes, and does nothing else. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "blk/aio.h"
#include "util/err.h"

enum { DEPTH = 128 };

/* A ring that anybody in this process can reach: the back end's, which there is one of, found by what it is called. */
static int find_ring(void)
{
	char path[64], name[64];

	for (int fd = 3; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ssize_t n = readlink(path, name, sizeof(name) - 1);

		name[n > 0 ? n : 0] = '\0';
		if (!strcmp(name, "anon_inode:[io_uring]"))
			return fd;
	}
	FAIL("there is no ring");
}

/* Map the back end's ring as this one's own. How a ring of its depth lies in memory, another says. */
static void take_over(struct io_uring *ring, int fd)
{
	struct io_uring_params p = { 0 };
	struct io_uring other;

	CHECK_EQ(io_uring_queue_init_params(DEPTH, &other, &p), 0);
	io_uring_queue_exit(&other);
	memset(ring, 0, sizeof(*ring));
	CHECK_EQ(io_uring_queue_mmap(fd, &p, ring), 0);
	ring->ring_fd = ring->enter_ring_fd = fd;
}

static int result_of(struct io_uring *ring, void (*prepare)(struct io_uring_sqe *sqe, void *arg), void *arg)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;

	CHECK(sqe);
	prepare(sqe, arg);
	CHECK(io_uring_submit(ring) == 1);
	CHECK_EQ(io_uring_wait_cqe(ring, &cqe), 0);
	int r = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return r;
}

static void make_socket(struct io_uring_sqe *sqe, void *arg)
{
	(void)arg;
	io_uring_prep_rw(IORING_OP_SOCKET, sqe, AF_INET, NULL, 0, SOCK_DGRAM);
}

static void open_file(struct io_uring_sqe *sqe, void *arg)
{
	io_uring_prep_openat(sqe, AT_FDCWD, arg, O_RDONLY, 0);
}

static void send_byte(struct io_uring_sqe *sqe, void *arg)
{
	io_uring_prep_send(sqe, *(int *)arg, "", 1, 0);
}

static void read_zeroes(struct io_uring_sqe *sqe, void *arg)
{
	int fd = open("/dev/zero", O_RDONLY);

	io_uring_prep_readv(sqe, fd, arg, 1, 0);
}

static void read_zeroes_on_a_thread(struct io_uring_sqe *sqe, void *arg)
{
	read_zeroes(sqe, arg);
	sqe->flags |= IOSQE_ASYNC;
}

TEST(a_ring_that_is_taken_over_makes_no_socket_opens_no_file_and_sends_nothing)
{
	int event = eventfd(0, EFD_CLOEXEC), sv[2];
	struct iovec iov = { (char[16]){ "not zeroes" }, 16 };
	struct err err = ERR_INIT;
	struct io_uring ring;
	struct aio *a = NULL;

	if (aio_uring.open(&a, event, &err) < 0)
		SKIP("there is no io_uring here");
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	take_over(&ring, find_ring());
	CHECK_EQ(result_of(&ring, read_zeroes, &iov), 16);
	CHECK_STR(iov.iov_base, "");
	CHECK_EQ(result_of(&ring, make_socket, NULL), -EACCES);
	CHECK_EQ(result_of(&ring, open_file, "/etc/passwd"), -EACCES);
	CHECK_EQ(result_of(&ring, send_byte, &sv[0]), -EACCES);
	CHECK_EQ(result_of(&ring, read_zeroes_on_a_thread, &iov), -EACCES);
	CHECK(io_uring_register_eventfd(&ring, event) < 0);     /* nor does it become another one */
	aio_uring.close(a);
}

/* --- waiting --------------------------------------------------------------------------------- */

enum { N_JOBS = 3 * DEPTH, PATIENCE_MS = 5000, ROUNDS = 5000, WIDTH = 3 };

struct waiter {
	struct aio *a;
	int event;
	unsigned n_done, n_wanted;      /* the first job's DONE waits for so many */
	struct aio_job job[N_JOBS];
};
static struct waiter waiter;

/* As blk_ctx_poll() does: look, then wait for the event, then look. */
static void wait_for_jobs(struct waiter *w, unsigned n)
{
	while (w->n_done < n) {
		struct pollfd p = { .fd = w->event, .events = POLLIN };
		eventfd_t count;

		aio_uring.reap(w->a);
		if (w->n_done >= n)
			break;
		CHECK(poll(&p, 1, PATIENCE_MS) == 1);
		CHECK_EQ(eventfd_read(w->event, &count), 0);
	}
}

static void job_done(struct aio_job *j, int64_t result)
{
	struct waiter *w = &waiter;

	CHECK(result >= 0);
	w->n_done++;
	if (j == &w->job[0])
		wait_for_jobs(w, w->n_wanted);
}

static bool waiter_open(struct waiter *w)
{
	struct err err = ERR_INIT;

	w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return aio_uring.open(&w->a, w->event, &err) == 0;
}

TEST(a_completion_may_wait_for_a_job_for_which_the_ring_had_no_room)
{
	struct waiter *w = &waiter;
	struct iovec iov = { (char[16]){ 0 }, 16 };
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	if (!waiter_open(w))
		SKIP("there is no io_uring here");
	w->n_wanted = N_JOBS;
	for (unsigned i = 0; i < N_JOBS; i++) {
		w->job[i] = (struct aio_job){ .op = AIO_READV, .fd = fd, .iov = &iov, .n_iov = 1, .done = job_done };
		aio_uring.submit(w->a, &w->job[i]);
	}
	wait_for_jobs(w, N_JOBS);
	CHECK_EQ(w->n_done, N_JOBS);
	aio_uring.close(w->a);
}

/* The kernel's threads end some while others are being reaped: each has to be seen then, or to signal the event. */
TEST(what_ends_while_the_event_is_switched_on_again_is_not_waited_for)
{
	struct waiter *w = &waiter;
	FILE *file = tmpfile();

	if (!waiter_open(w))
		SKIP("there is no io_uring here");
	for (unsigned round = 0; round < ROUNDS; round++) {
		w->n_done = w->n_wanted = 0;
		for (unsigned i = 0; i < WIDTH; i++) {
			w->job[i] = (struct aio_job){ .op = AIO_FDATASYNC, .fd = fileno(file), .done = job_done };
			aio_uring.submit(w->a, &w->job[i]);
		}
		wait_for_jobs(w, WIDTH);
	}
	aio_uring.close(w->a);
	fclose(file);
}
