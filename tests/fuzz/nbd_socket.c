/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server to which a disk is copied. Input: a byte that says whether a good handshake comes before the rest, then
 * what the server sends, all of it before anything is asked. */
#include <sys/socket.h>
#include <unistd.h>
#include "blk/core_priv.h"
#include "blk/nbd_socket.h"
#include "fuzz.h"
#include "image_rig.h"
#include "util/co.h"
#include "util/err.h"
#include "util/loop.h"

enum { PIECE = 64 << 10, OPS = 5 };

static const uint8_t handshake[] =
	"NBDMAGICIHAVEOPT\0\3"
	"\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\3\0\0\0\14" "\0\0" "\0\0\0\0\0\x10\0\0" "\0\x6d"
	"\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\1\0\0\0\0";

struct session {
	struct blk_ctx *ctx;
	int fd;
	struct blk *b;
	unsigned n_begun, n_live;
	struct co_queue ended;
};

static void use(void *arg)
{
	static uint8_t buf[OPS][PIECE];
	struct session *s = arg;
	unsigned n = s->n_begun++;
	int r = 0;

	switch (n) {
	case 0:
	case 1:
		r = blk_co_pread(s->b, n * PIECE, buf[n], PIECE);
		break;
	case 2:
		r = blk_co_pwrite(s->b, 512, buf[n], PIECE);
		break;
	case 3:
		r = blk_co_zeroes(s->b, 0, PIECE, true);
		break;
	default:
		r = blk_co_flush(s->b);
		break;
	}
	FUZZ_CHECK(r <= 0);
	s->n_live--;
	co_queue_wake_all(&s->ended);
}

static int run(void *arg)
{
	struct session *s = arg;
	struct err err = ERR_INIT;
	int r = blk_nbd_co_open_socket(&s->b, s->ctx, s->fd, "nbd://host/x", &err);

	FUZZ_CHECK(r == 0 || (r < 0 && err.msg[0]));
	if (r < 0)
		return 0;
	for (int i = 0; i < OPS; i++) {
		s->n_live++;
		FUZZ_CHECK(co_start(use, s) == 0);
	}
	while (s->n_live)
		co_queue_wait(&s->ended);
	blk_co_close(s->b);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	struct loop *loop = NULL;
	struct session s = { .fd = -1 };
	bool is_agreed = fuzz_u8(&f) & 1;
	int fd[2];

	FUZZ_CHECK(loop_new(&loop, NULL) == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
	FUZZ_CHECK(blk_ctx_new(&s.ctx, loop, &rig_now_aio, NULL) == 0);
	if (is_agreed)
		FUZZ_CHECK(send(fd[1], handshake, sizeof(handshake) - 1, 0) == sizeof(handshake) - 1);
	(void)!send(fd[1], f.at, f.left, MSG_DONTWAIT);
	shutdown(fd[1], SHUT_WR);
	s.fd = fd[0];
	FUZZ_CHECK(blk_ctx_run(s.ctx, run, &s) == 0);
	blk_ctx_put(s.ctx);
	close(fd[0]);
	close(fd[1]);
	loop_free(loop);
	return 0;
}
