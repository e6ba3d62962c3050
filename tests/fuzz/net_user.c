/* SPDX-License-Identifier: Apache-2.0 */
/* The framing towards passt, which is another program: what it says is not believed. The backend's
 * file is compiled into this one, so that a socket pair can stand where passt would be.
 * Input: steps of one byte, see step(). */
#include "../../src/net/user.c"

#include "fuzz.h"

struct peer {
	struct net_client c;
	bool is_busy;
	size_t n_received;
};

static bool peer_can_receive(struct net_client *c)
{
	return !container_of(c, struct peer, c)->is_busy;
}

static void peer_receive(struct net_client *c, const uint8_t *frame, size_t len)
{
	struct peer *p = container_of(c, struct peer, c);
	uint8_t sum = 0;

	FUZZ_CHECK(!p->is_busy && len >= 1 && len <= USER_FRAME_MAX);
	for (size_t i = 0; i < len; i++)
		sum ^= frame[i];
	p->n_received += len + (sum & 1);
	p->is_busy = p->n_received % 7 == 0;
}

static void peer_writable(struct net_client *c) {}

static void send_frame(struct user *u, size_t len)
{
	static uint8_t frame[2 * USER_FRAME_MAX];
	struct iovec iov[2] = { { frame, len / 3 }, { frame + len / 3, len - len / 3 } };
	int r = net_user_ops.send(&u->net, iov, 2);

	FUZZ_CHECK(r <= 0);
	FUZZ_CHECK(len && len <= USER_FRAME_MAX ? r != -EMSGSIZE : r == -EMSGSIZE || r == -EPIPE);
}

static void step(struct user *u, struct peer *p, int passt, struct fuzz *f)
{
	uint8_t op = fuzz_u8(f), drain[4096];
	size_t got;
	const uint8_t *bytes;

	switch (op & 7) {
	case 0: case 1: case 2: /* passt writes bytes as they are */
		bytes = fuzz_take(f, op >> 3, &got);
		if (got && send(passt, bytes, got, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return;
		break;
	case 3: {               /* a well-formed frame of zeroes */
		static const uint8_t zeroes[USER_FRAME_MAX];
		uint8_t len[USER_LEN];
		uint16_t n = fuzz_u16(f);

		put_be32(len, n);
		if (send(passt, len, USER_LEN, MSG_DONTWAIT | MSG_NOSIGNAL) == USER_LEN &&
		    send(passt, zeroes, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return;
		break;
	}
	case 4:
		send_frame(u, (size_t)fuzz_u16(f) << (op >> 7));
		break;
	case 5:                 /* the device has room again */
		p->is_busy = false;
		net_user_ops.rx_resume(&u->net);
		break;
	case 6:                 /* passt reads what was sent */
		while (recv(passt, drain, sizeof(drain), MSG_DONTWAIT) > 0)
			;
		break;
	default:
		break;
	}
	loop_run_once(u->net.loop, 0);
	FUZZ_CHECK(u->rx_len <= sizeof(u->rx_buf) && u->tx_off + u->tx_len <= sizeof(u->tx_buf));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	struct peer p = { .c = { peer_can_receive, peer_receive, peer_writable } };
	struct user *u = calloc(1, sizeof(*u));
	struct loop *loop = NULL;
	int pair[2];

	FUZZ_CHECK(u && loop_new(&loop, NULL) == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	u->net = (struct net){ .ops = &net_user_ops, .loop = loop, .client = &p.c };
	u->pidfd.fd = u->errors.fd = -1;
	u->retry_ns = USER_RETRY_MAX_NS;        /* later than the end: no process is started */
	loop_timer_init(loop, &u->rx_again, user_rx_again);
	loop_timer_init(loop, &u->retry, user_retry);
	FUZZ_CHECK(fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0 && user_watch(u, &u->sock, &pair[0], user_event) == 0);
	for (unsigned i = 0; i < 256 && f.left; i++)
		step(u, &p, pair[1], &f);
	net_user_ops.close(&u->net);
	close(pair[1]);
	loop_free(loop);
	return 0;
}
