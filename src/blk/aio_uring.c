/* SPDX-License-Identifier: Apache-2.0 */
/* aio_uring.c - host I/O through io_uring: one ring per image, completions signalled to the
 * loop by an eventfd. What does not fit the ring waits in a list. Loop thread only. */
#include "blk/aio.h"

#include <errno.h>
#include <liburing.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/err.h"

enum {
	URING_DEPTH = 128,
	URING_ROUNDS = 32,      /* of completing and submitting before the loop has its turn */
};

struct aio {
	struct io_uring ring;
	bool has_ring;
	bool is_reaping;                /* what is submitted now is told to the kernel at the end of the round */
	unsigned in_ring;
	struct aio_job *waiting, **waiting_tail;        /* beyond URING_DEPTH, or refused for now */
	int event_fd;
	struct aio_now now;
};

/* What is asked of a ring, ever; each is in kernels from 5.6 on. */
static const uint8_t ops[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE };

static bool uring_has_ops(struct io_uring *ring)
{
	struct io_uring_probe *p = io_uring_get_probe_ring(ring);
	bool has = p;

	for (unsigned i = 0; has && i < ARRAY_LEN(ops); i++)
		has = io_uring_opcode_supported(p, ops[i]);
	if (p)
		io_uring_free_probe(p);
	return has;
}

/* Nothing else from now on: a ring makes sockets, connects, opens and sends without a system call that a jail's filter would see. */
static int uring_restrict(struct io_uring *ring)
{
	struct io_uring_restriction only[ARRAY_LEN(ops)] = { 0 };

	for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
		only[i] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = ops[i] };
	/* liburing 2.3 declares functions for these two that its shared library does not have. */
	if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, only, ARRAY_LEN(only)) < 0 ||
	    syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -errno;
	return 0;
}

static void uring_close(struct aio *a)
{
	if (!a)
		return;
	if (a->has_ring)
		io_uring_queue_exit(&a->ring);
	free(a);
}

static int uring_setup(struct aio *a, struct err *err)
{
	int r = io_uring_queue_init(URING_DEPTH, &a->ring, IORING_SETUP_R_DISABLED);    /* 5.10 */

	if (r < 0)
		return err_set(err, r, "io_uring does not work here: %s; use threads", strerror(-r));
	a->has_ring = true;
	if (!uring_has_ops(&a->ring))
		return err_set(err, -EOPNOTSUPP, "io_uring of this kernel is too old; use threads");
	r = io_uring_register_eventfd(&a->ring, a->event_fd);
	if (r < 0)
		return err_set(err, r, "io_uring takes no eventfd: %s; use threads", strerror(-r));
	r = uring_restrict(&a->ring);
	if (r < 0)
		return err_set(err, r, "io_uring cannot be kept to reading and writing: %s; use threads", strerror(-r));
	return 0;
}

static int uring_open(struct aio **out, int event_fd, struct err *err)
{
	struct aio *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	a->event_fd = event_fd;
	a->waiting_tail = &a->waiting;
	int r = uring_setup(a, err);

	if (r < 0)
		uring_close(a);
	else
		*out = a;
	return r;
}

static void uring_prepare(struct io_uring_sqe *sqe, const struct aio_job *j)
{
	switch (j->op) {
	case AIO_READV:
		io_uring_prep_readv(sqe, j->fd, j->iov, (unsigned)j->n_iov, j->off);
		break;
	case AIO_WRITEV:
		io_uring_prep_writev(sqe, j->fd, j->iov, (unsigned)j->n_iov, j->off);
		break;
	case AIO_FDATASYNC:
		io_uring_prep_fsync(sqe, j->fd, IORING_FSYNC_DATASYNC);
		break;
	case AIO_FALLOCATE:
		io_uring_prep_fallocate(sqe, j->fd, j->mode, (off_t)j->off, (off_t)j->len);
		break;
	case AIO_BLKDISCARD:
	case AIO_CALL:
		io_uring_prep_nop(sqe);         /* not given to us: has_threads is false */
		break;
	}
}

/* Tell the kernel of what is queued. -EAGAIN and -EBUSY pass when completions are reaped, and
 * with none in flight the next submit() or reap() tries again. */
static void uring_kick(struct aio *a)
{
	int r;

	do {
		r = io_uring_submit(&a->ring);
	} while (r == -EINTR);
	if ((r < 0 || io_uring_sq_ready(&a->ring)) && a->in_ring == io_uring_sq_ready(&a->ring)) {
		uint64_t one = 1;

		/* Nothing in flight will wake the loop: come back by ourselves. */
		if (write(a->event_fd, &one, sizeof(one)) < 0)
			return;
	}
}

/* Move waiting jobs into the ring while there is room. */
static void uring_fill(struct aio *a)
{
	while (a->waiting && a->in_ring < URING_DEPTH) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&a->ring);
		struct aio_job *j = a->waiting;

		if (!sqe)
			break;
		a->waiting = j->next;
		if (!a->waiting)
			a->waiting_tail = &a->waiting;
		uring_prepare(sqe, j);
		io_uring_sqe_set_data(sqe, j);
		a->in_ring++;
	}
	if (io_uring_sq_ready(&a->ring) && !a->is_reaping)
		uring_kick(a);
}

static void uring_submit(struct aio *a, struct aio_job *j)
{
	j->next = NULL;
	*a->waiting_tail = j;
	a->waiting_tail = &j->next;
	uring_fill(a);
}

static int64_t uring_now(struct aio *a, const struct aio_job *j)
{
	return aio_now(&a->now, j);
}

/* Call DONE of all that is in the completion queue. DONE may reap, too. */
static unsigned uring_complete(struct aio *a)
{
	struct io_uring_cqe *cqe;
	unsigned n = 0;

	while (io_uring_peek_cqe(&a->ring, &cqe) == 0) {
		struct aio_job *j = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&a->ring, cqe);
		a->in_ring--;
		n++;
		j->done(j, result);     /* may submit more */
	}
	return n;
}

/* Completions signal the event from now on. Those before may not have: who has called this looks at the queue before it waits for the event.
 * The kernel puts a completion into the queue, then reads the flag with a fence in between; so here the flag has to be out before the
 * queue is looked at, which neither the toggle nor the look sees to: a processor may do the later load first. Then both would miss each other,
 * and a disk that nothing else is asked for would stand still for ever. */
static void uring_event_on(struct aio *a)
{
	io_uring_cq_eventfd_toggle(&a->ring, true);
	atomic_thread_fence(memory_order_seq_cst);
}

/* A round completes and then submits what that brought, in one call. What the page cache answers is complete
 * at once: it is looked for without the event and the loop in between, for some rounds. */
static void uring_reap(struct aio *a)
{
	bool is_outermost = !a->is_reaping;
	uint64_t one = 1;

	if (!is_outermost) {            /* somebody waits in DONE for another job: tell the kernel of it now */
		uring_event_on(a);
		unsigned n = uring_complete(a);

		uring_fill(a);          /* that one may wait for room in the ring */
		if (io_uring_sq_ready(&a->ring))
			uring_kick(a);
		if (n + uring_complete(a) && write(a->event_fd, &one, sizeof(one)) < 0)
			return;
		return;
	}
	a->is_reaping = true;
	io_uring_cq_eventfd_toggle(&a->ring, false);
	for (unsigned round = 0; round < URING_ROUNDS && uring_complete(a); round++) {
		uring_fill(a);
		if (io_uring_sq_ready(&a->ring))
			uring_kick(a);
	}
	uring_event_on(a);
	a->is_reaping = false;
	uring_fill(a);
	/* What came while the event was off signals nothing by itself. */
	if (io_uring_cq_ready(&a->ring) && write(a->event_fd, &one, sizeof(one)) < 0)
		return;
}

const struct aio_ops aio_uring = {
	.name = "io_uring",
	.open = uring_open,
	.submit = uring_submit,
	.now = uring_now,
	.reap = uring_reap,
	.close = uring_close,
};
