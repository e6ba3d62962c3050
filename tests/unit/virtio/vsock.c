/* SPDX-License-Identifier: Apache-2.0 */
/* The socket device before a driver that keeps the rules, and one that does not. */
#include "virtio/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "driver.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/vsock_priv.h"

enum { CID = 42, PORT = 1000, N_RX = 16, RX_LEN = 4096, ALLOC = 1 << 20 };

static gpa_t rx_gpa[64];

static void give_rx(struct rig *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct buf b = { rig_alloc(r, RX_LEN), RX_LEN, true };

		rx_gpa[ring_add(r, RX, &b, 1)] = b.gpa;
	}
	ring_kick(r, RX);
}

static void up(struct rig *r)
{
	rig_init(r);
	CHECK_EQ(virtio_vsock_new(&r->d, &r->env, CID, NULL), 0);
	rig_up(r, 0, 64);
	give_rx(r, N_RX);
}

/* The next packet for the guest; its payload at *DATA. False: there is none. */
static bool next(struct rig *r, struct vsock_hdr *h, const uint8_t **data)
{
	uint32_t id, len;

	rig_spin(r);
	if (!ring_used(r, RX, &id, &len))
		return false;
	memcpy(h, rig_ptr(r, rx_gpa[id]), sizeof(*h));
	*data = (const uint8_t *)rig_ptr(r, rx_gpa[id]) + sizeof(*h);
	CHECK_EQ(len, sizeof(*h) + le32_get(h->len));
	CHECK_EQ(le64_get(h->src_cid), VSOCK_CID_HOST);
	CHECK_EQ(le64_get(h->dst_cid), CID);
	return true;
}

static struct vsock_hdr expect(struct rig *r, enum vsock_op op)
{
	const uint8_t *data;
	struct vsock_hdr h;

	CHECK(next(r, &h, &data));
	CHECK_EQ(le16_get(h.op), op);
	return h;
}

static void expect_nothing(struct rig *r)
{
	const uint8_t *data;
	struct vsock_hdr h;

	CHECK(!next(r, &h, &data));
}

/* The guest sends. */
static void say(struct rig *r, enum vsock_op op, uint32_t host_port, uint32_t flags, uint32_t alloc, uint32_t fwd, const void *p, uint32_t len)
{
	struct vsock_hdr h = {
		.src_cid = le64_of(CID), .dst_cid = le64_of(VSOCK_CID_HOST), .src_port = le32_of(PORT), .dst_port = le32_of(host_port),
		.len = le32_of(len), .type = le16_of(VSOCK_STREAM), .op = le16_of((uint16_t)op), .flags = le32_of(flags),
		.buf_alloc = le32_of(alloc), .fwd_cnt = le32_of(fwd),
	};
	struct buf b = { rig_alloc(r, sizeof(h) + len), (uint32_t)sizeof(h) + len, false };
	uint32_t id, used;

	memcpy(rig_ptr(r, b.gpa), &h, sizeof(h));
	if (len)
		memcpy((uint8_t *)rig_ptr(r, b.gpa) + sizeof(h), p, len);
	ring_add(r, TX, &b, 1);
	ring_kick(r, TX);
	CHECK(ring_used(r, TX, &id, &used));
}

static void pair(int sv[2])
{
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	fcntl(sv[1], F_SETFL, O_NONBLOCK);
}

/* A connection that the host made and the guest accepted with ALLOC bytes of room; the host's port. */
static uint32_t connected(struct rig *r, int sv[2], uint32_t alloc)
{
	char line[32] = "";

	pair(sv);
	CHECK_EQ(virtio_vsock_connect(r->d, sv[1], PORT, NULL), 0);
	struct vsock_hdr h = expect(r, OP_REQUEST);
	uint32_t port = le32_get(h.src_port);
	CHECK_EQ(le32_get(h.dst_port), PORT);
	CHECK_EQ(le32_get(h.buf_alloc), VIRTIO_VSOCK_BUF);
	say(r, OP_RESPONSE, port, 0, alloc, 0, NULL, 0);
	CHECK(recv(sv[0], line, sizeof(line) - 1, MSG_DONTWAIT) > 0);
	char want[32];
	snprintf(want, sizeof(want), "OK %u\n", port);
	CHECK_STR(line, want);
	return port;
}

static bool is_closed(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_DONTWAIT) == 0;
}

TEST(the_host_connects_and_bytes_go_both_ways_as_far_as_there_is_credit)
{
	const uint8_t *data;
	struct vsock_hdr h;
	struct rig r;
	char buf[64];
	int sv[2];

	up(&r);
	CHECK_EQ(rig_read(&r, R_CFG, 4), CID);
	uint32_t port = connected(&r, sv, 5);
	say(&r, OP_RW, port, 0, 5, 0, "hello", 5);
	CHECK_EQ(recv(sv[0], buf, sizeof(buf), MSG_DONTWAIT), 5);
	CHECK_MEM(buf, "hello", 5);
	CHECK_EQ(send(sv[0], "good day", 8, 0), 8);
	CHECK(next(&r, &h, &data));
	CHECK_EQ(le16_get(h.op), OP_RW);
	CHECK_EQ(le32_get(h.len), 5);
	CHECK_EQ(le32_get(h.fwd_cnt), 5);
	CHECK_MEM(data, "good ", 5);
	expect_nothing(&r);
	say(&r, OP_CREDIT_UPDATE, port, 0, 5, 4, NULL, 0);
	CHECK(next(&r, &h, &data));
	CHECK_MEM(data, "day", 3);
	CHECK_EQ(le32_get(h.len), 3);
	say(&r, OP_CREDIT_REQUEST, port, 0, 5, 5, NULL, 0);
	expect(&r, OP_CREDIT_UPDATE);
	/* Its counters are nonsense: no credit, no harm. */
	say(&r, OP_CREDIT_UPDATE, port, 0, 5, 4000000000u, NULL, 0);
	CHECK_EQ(send(sv[0], "more", 4, 0), 4);
	expect_nothing(&r);
	CHECK_EQ(virtio_vsock_count(r.d), 1);
	close(sv[0]);
	rig_down(&r);
}

TEST(a_guest_that_sends_more_than_its_credit_loses_the_connection)
{
	static uint8_t piece[32768];
	struct rig r;
	int sv[2];

	up(&r);
	uint32_t port = connected(&r, sv, ALLOC);
	/* The host's program reads nothing: its socket fills, then our ring. */
	unsigned n = 0, sent = 0;
	struct vsock_hdr h;
	const uint8_t *data;
	for (; n < 200; n++) {
		say(&r, OP_RW, port, 0, ALLOC, 0, piece, sizeof(piece));
		sent += sizeof(piece);
		bool is_reset = false;
		while (next(&r, &h, &data)) {
			is_reset |= le16_get(h.op) == OP_RST;
			give_rx(&r, 1);
		}
		if (is_reset)
			break;
	}
	CHECK(n < 200 && sent > VIRTIO_VSOCK_BUF);
	CHECK_EQ(virtio_vsock_count(r.d), 0);
	close(sv[0]);
	rig_down(&r);
}

TEST(a_slow_host_gives_credit_back_when_it_reads)
{
	static uint8_t piece[32768];
	struct vsock_hdr h;
	const uint8_t *data;
	unsigned sent = 0, fwd = 0;
	struct rig r;
	int sv[2], small = 4096;

	up(&r);
	uint32_t port = connected(&r, sv, ALLOC);
	setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (; sent + sizeof(piece) - fwd <= VIRTIO_VSOCK_BUF; sent += (unsigned)sizeof(piece)) {
		say(&r, OP_RW, port, 0, ALLOC, 0, piece, sizeof(piece));
		while (next(&r, &h, &data)) {
			CHECK_EQ(le16_get(h.op), OP_CREDIT_UPDATE);
			fwd = le32_get(h.fwd_cnt);
		}
	}
	for (unsigned got = 0; got < sent;) {
		ssize_t n = recv(sv[0], piece, sizeof(piece), MSG_DONTWAIT);

		got += n > 0 ? (unsigned)n : 0;
		while (next(&r, &h, &data))
			fwd = le32_get(h.fwd_cnt);
	}
	CHECK(sent - fwd <= VIRTIO_VSOCK_BUF / 2);
	close(sv[0]);
	rig_down(&r);
}

TEST(the_guest_connects_to_who_waits_and_is_refused_otherwise)
{
	char line[64] = "";
	struct rig r;
	int a[2], b[2];

	up(&r);
	say(&r, OP_REQUEST, 77, 0, ALLOC, 0, NULL, 0);
	struct vsock_hdr h = expect(&r, OP_RST);
	CHECK_EQ(le32_get(h.src_port), 77);
	CHECK_EQ(le32_get(h.dst_port), PORT);
	pair(a);
	pair(b);
	CHECK_EQ(virtio_vsock_wait(r.d, a[1], 77, NULL), 0);
	CHECK_EQ(virtio_vsock_wait(r.d, b[1], 77, NULL), 0);
	close(a[0]);            /* the first has gone */
	rig_spin(&r);
	say(&r, OP_REQUEST, 77, 0, ALLOC, 0, NULL, 0);
	expect(&r, OP_RESPONSE);
	CHECK(recv(b[0], line, sizeof(line) - 1, MSG_DONTWAIT) > 0);
	CHECK_STR(line, "CONNECTED 1000\n");
	say(&r, OP_REQUEST, 77, 0, ALLOC, 0, NULL, 0);          /* once more: nonsense */
	expect(&r, OP_RST);
	CHECK(is_closed(b[0]));
	CHECK_EQ(virtio_vsock_count(r.d), 0);
	close(b[0]);
	rig_down(&r);
}

TEST(ends_are_passed_on_after_what_came_before)
{
	char buf[8];
	struct rig r;
	int sv[2];

	up(&r);
	uint32_t port = connected(&r, sv, ALLOC);
	say(&r, OP_RW, port, 0, ALLOC, 0, "last", 4);
	say(&r, OP_SHUTDOWN, port, SHUTDOWN_SEND, ALLOC, 0, NULL, 0);
	CHECK_EQ(recv(sv[0], buf, sizeof(buf), MSG_DONTWAIT), 4);
	CHECK(is_closed(sv[0]));
	CHECK_EQ(send(sv[0], "still", 5, 0), 5);
	expect(&r, OP_RW);
	shutdown(sv[0], SHUT_WR);
	struct vsock_hdr h = expect(&r, OP_SHUTDOWN);
	CHECK_EQ(le32_get(h.flags) & SHUTDOWN_SEND, SHUTDOWN_SEND);
	say(&r, OP_SHUTDOWN, port, SHUTDOWN_BOTH, ALLOC, 0, NULL, 0);
	expect(&r, OP_RST);
	CHECK_EQ(virtio_vsock_count(r.d), 0);
	close(sv[0]);
	/* The host closes at once; the guest answers with a reset, which is not answered. */
	port = connected(&r, sv, ALLOC);
	close(sv[0]);
	h = expect(&r, OP_SHUTDOWN);
	CHECK_EQ(le32_get(h.flags), SHUTDOWN_BOTH);
	say(&r, OP_RST, port, 0, ALLOC, 0, NULL, 0);
	expect_nothing(&r);
	CHECK_EQ(virtio_vsock_count(r.d), 0);
	rig_down(&r);
}

TEST(strangers_are_reset_and_resets_are_not_answered)
{
	struct rig r;

	up(&r);
	say(&r, OP_RW, 5, 0, ALLOC, 0, "x", 1);
	expect(&r, OP_RST);
	say(&r, OP_RST, 5, 0, ALLOC, 0, NULL, 0);
	expect_nothing(&r);
	/* Without buffers they wait. */
	while (true) {
		struct vsock_hdr h;
		const uint8_t *data;

		say(&r, OP_RW, 6, 0, ALLOC, 0, "x", 1);
		if (!next(&r, &h, &data))
			break;
	}
	give_rx(&r, 1);
	expect(&r, OP_RST);
	expect_nothing(&r);
	CHECK(!rig_is_broken(&r));
	rig_down(&r);
}

TEST(after_a_restore_the_driver_is_told_and_connections_have_gone)
{
	struct virtio_section sec[VIRTIO_SECTIONS_MAX];
	struct rig r;
	uint32_t id, len;

	up(&r);
	struct buf b = { rig_alloc(&r, 4), 4, true };
	*(uint32_t *)rig_ptr(&r, b.gpa) = 0xffffffff;
	ring_add(&r, EVENT, &b, 1);
	ring_kick(&r, EVENT);
	CHECK(!ring_used(&r, EVENT, &id, &len));
	CHECK_EQ(virtio_sections(r.d, sec), 3);
	CHECK_EQ(virtio_restored(r.d, NULL), 0);
	rig_spin(&r);
	CHECK(ring_used(&r, EVENT, &id, &len));
	CHECK_EQ(len, 4);
	CHECK_EQ(*(uint32_t *)rig_ptr(&r, b.gpa), 0);
	rig_down(&r);
}

TEST(a_driver_that_goes_takes_its_connections_along)
{
	struct err err = ERR_INIT;
	struct rig r;
	int sv[2];

	up(&r);
	(void)connected(&r, sv, ALLOC);
	rig_write(&r, R_STATUS, 1, 0);
	rig_spin(&r);
	CHECK_EQ(virtio_vsock_count(r.d), 0);
	CHECK(is_closed(sv[0]));
	close(sv[0]);
	pair(sv);
	CHECK_EQ(virtio_vsock_connect(r.d, sv[1], 5, &err), -ENOTCONN);
	close(sv[0]);
	close(sv[1]);
	CHECK_EQ(virtio_vsock_new(&r.d, &r.env, 2, &err), -EINVAL);
	rig_down(&r);
}
