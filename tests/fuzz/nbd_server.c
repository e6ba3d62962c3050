/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the NBD server. Input: a byte that says how far the handshake has come before the rest is sent - not
 * at all, with simple replies, structured ones and contexts, extended headers - then what the client sends, in
 * portions. The disk is 1 MiB in memory. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "blk/blk_ops.h"
#include "blk/nbd_server.h"
#include "fuzz.h"
#include "image_rig.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/loop.h"

enum { DISK = 1 << 20, ROUNDS_MAX = 4000 };

static struct blk *open_disk(struct loop *loop)
{
	struct blk_options o = { .fd = memfd_create("disk", MFD_CLOEXEC), .format = "raw" };
	struct blk *b = NULL;

	FUZZ_CHECK(o.fd >= 0 && ftruncate(o.fd, DISK) == 0 && blk_open_with(&b, loop, &o, &rig_now_aio, NULL) == 0);
	return b;
}

/* Let the server do what it has to do, and throw away what it says. It must come to rest. */
static void serve(struct loop *loop, int fd)
{
	static uint8_t sink[1 << 16];
	unsigned idle = 0;

	for (unsigned i = 0; idle < 3; i++) {
		FUZZ_CHECK(i < ROUNDS_MAX);
		loop_run_once(loop, 0);
		ssize_t n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);

		idle = n > 0 ? 0 : idle + 1;
	}
}

static void feed(struct loop *loop, int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			/* It reads no more only when it has as much as it may have, and goes on then. */
			serve(loop, fd);
			n = send(fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		if (n <= 0)
			return;
		p += n;
		len -= (size_t)n;
	}
	serve(loop, fd);
}

static void option(struct loop *loop, int fd, uint32_t number, const void *data, uint32_t len)
{
	uint8_t head[16];

	put_be64(head, 0x49484156454f5054);
	put_be32(head + 8, number);
	put_be32(head + 12, len);
	feed(loop, fd, head, sizeof(head));
	feed(loop, fd, data, len);
}

/* 1: simple replies, 2: structured ones with base:allocation, 3: extended headers with it. */
static void negotiate(struct loop *loop, int fd, unsigned how)
{
	static const uint8_t hello[4] = { 0, 0, 0, 3 }, go[6] = { 0 };
	static const uint8_t context[] = "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation";

	if (!how)
		return;
	feed(loop, fd, hello, sizeof(hello));
	if (how > 1) {
		option(loop, fd, how == 2 ? 8 : 11, NULL, 0);
		option(loop, fd, 10, context, sizeof(context) - 1);
	}
	option(loop, fd, 7, go, sizeof(go));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	struct nbd_server *server = NULL;
	struct loop *loop = NULL;
	uint8_t mode = fuzz_u8(&f);
	int fd[2];

	FUZZ_CHECK(loop_new(&loop, NULL) == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
	struct blk *b = open_disk(loop);
	struct nbd_server_config c = { .loop = loop, .blk = b, .name = "x", .is_readonly = mode & 4 };

	FUZZ_CHECK(nbd_server_open(&server, &c, NULL) == 0 && nbd_server_add(server, fd[0], NULL) == 0);
	negotiate(loop, fd[1], mode & 3);
	while (f.left) {
		size_t got, portion = mode & 8 ? 1 + fuzz_u8(&f) : f.left;
		const uint8_t *p = fuzz_take(&f, portion, &got);

		feed(loop, fd[1], p, got);
	}
	FUZZ_CHECK(nbd_server_clients(server) <= 1 && blk_size(b) == DISK);
	close(fd[1]);
	if (mode & 16)
		serve(loop, -1);
	nbd_server_close(server);
	blk_close(b);
	loop_free(loop);
	return 0;
}
