/* SPDX-License-Identifier: Apache-2.0 */
/* What a client sends to the control socket, up to the handlers. Input: bytes of the connection; each 0xff 0xff
 * at the front of a piece of 64 bytes sends a descriptor along. */
#include <sys/socket.h>
#include <unistd.h>
#include "fuzz.h"
#include "util/frames.h"
#include "vm/control_priv.h"

/* One message, in every state of the machine. */
static void check_message(const uint8_t *msg, size_t len, unsigned n_fds)
{
	json_t *doc = json_loadb((const char *)msg, len, JSON_REJECT_DUPLICATES, NULL);

	for (unsigned s = 0; s < MACHINE_N_STATES; s++) {
		const struct control_request *row = NULL;
		json_t *params = NULL;
		struct err err = ERR_INIT;
		int r = control_check(doc, (enum machine_state)s, n_fds, &row, &params, &err);

		FUZZ_CHECK((r < 0) == (err.msg[0] != 0) && (r < 0) == !params);
		/* What waits in line waits for the end of a reset, too, and is judged again when its turn comes. */
		bool may_wait = r >= 0 && s == MACHINE_RESETTING && control_turn(row, params);
		FUZZ_CHECK(r < 0 || (json_is_object(params) && row->run && (row->states >> s & 1 || may_wait)));
		json_decref(params);
	}
	json_decref(doc);
}

static int drain(struct frames *f)
{
	int fds[FRAMES_FDS_MAX], r;
	unsigned n_fds;
	const uint8_t *msg;
	size_t len;

	while ((r = frames_next(f, &msg, &len, fds, &n_fds)) > 0) {
		check_message(msg, len, n_fds);
		for (unsigned i = 0; i < n_fds; i++)
			close(fds[i]);
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	enum { PIECE = 64 };
	struct fuzz f = { data, len };
	struct frames frames;
	int sv[2], r = 0;

	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv) && !frames_init(&frames, sv[1], 4096, 4096));
	while (f.left && r >= 0) {
		size_t n;
		const uint8_t *p = fuzz_take(&f, PIECE, &n);
		bool has_fd = n > 2 && p[0] == 0xff && p[1] == 0xff;
		union { char buf[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } c = { .buf = "" };
		struct iovec iov = { (void *)(p + 2 * has_fd), n - 2 * (size_t)has_fd };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

		if (has_fd) {
			m.msg_control = c.buf;
			m.msg_controllen = sizeof(c.buf);
			*CMSG_FIRSTHDR(&m) = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
			memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &sv[0], sizeof(int));
		}
		FUZZ_CHECK(sendmsg(sv[0], &m, 0) == (ssize_t)iov.iov_len);
		r = frames_read(&frames);
		FUZZ_CHECK(frames.in_len <= 4096 + 4);
		if (r > 0)
			r = drain(&frames);
	}
	frames_fini(&frames);
	close(sv[0]);
	close(sv[1]);
	return 0;
}
