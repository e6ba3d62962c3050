/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata service as a guest sees it: one that talks as it should, one that loses and repeats, and one that makes things up. */
#include "net/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "net/net.h"
#include "net/service_packet.h"
#include "test.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/loop.h"

enum { ETH = 14, IP = 20, TCP = 20, FRAMES = 64, GUEST_PORT = 40000 };

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 1, 2, 3 }, router_mac[6] = { 0x52, 0x55, 0, 9, 9, 9 };

struct rig {
	struct net_client client;
	struct loop *loop;
	struct net_service *s;
	bool is_full;                   /* the client takes nothing */
	unsigned n;
	struct { uint8_t data[PACKET_FRAME_MAX]; size_t len; } got[FRAMES];
	uint32_t seq, ack;              /* of the guest */
};

static bool can_receive(struct net_client *c)
{
	return !container_of(c, struct rig, client)->is_full;
}

static void receive(struct net_client *c, const uint8_t *frame, size_t len)
{
	struct rig *r = container_of(c, struct rig, client);

	CHECK(r->n < FRAMES && len <= PACKET_FRAME_MAX);
	memcpy(r->got[r->n].data, frame, len);
	r->got[r->n++].len = len;
}

static void up(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	CHECK_EQ(loop_new(&r->loop, NULL), 0);
	r->client = (struct net_client){ can_receive, receive, NULL };
	r->s = net_service_new(r->loop, &r->client);
	CHECK(r->s);
	r->seq = 1000;
}

static void down(struct rig *r)
{
	net_service_free(r->s);
	loop_free(r->loop);
}

/* Our end of a socket that waits to be used. */
static int give(struct rig *r)
{
	int pair[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_EQ(net_service_give(r->s, pair[1]), 0);
	return pair[0];
}

static void run(struct rig *r)
{
	for (unsigned i = 0; i < 4; i++)
		(void)loop_run_once(r->loop, 5);
}

static bool send_frame(struct rig *r, uint8_t *frame, size_t len)
{
	/* In two pieces, as rings have it. */
	struct iovec iov[] = { { frame, len / 3 }, { frame + len / 3, len - len / 3 } };

	return net_service_takes(r->s, iov, 2);
}

static size_t make(uint8_t *frame, uint16_t port, uint16_t to, unsigned flags, uint32_t seq, uint32_t ack, const char *data)
{
	size_t len = strlen(data);
	uint8_t *ip = frame + ETH, *tcp = ip + IP;

	memset(frame, 0, ETH + IP + TCP);
	memcpy(frame, router_mac, 6);
	memcpy(frame + 6, guest_mac, 6);
	put_be16(frame + 12, 0x0800);
	ip[0] = 0x45;
	put_be16(ip + 2, (uint16_t)(IP + TCP + len));
	ip[8] = 64;
	ip[9] = 6;
	put_be32(ip + 12, 0x0a00020f);
	put_be32(ip + 16, PACKET_ADDRESS);
	put_be16(tcp, port);
	put_be16(tcp + 2, to);
	put_be32(tcp + 4, seq);
	put_be32(tcp + 8, ack);
	tcp[12] = 5 << 4;
	tcp[13] = (uint8_t)flags;
	put_be16(tcp + 14, 4000);
	memcpy(tcp + TCP, data, len);
	return ETH + IP + TCP + len;
}

static void says(struct rig *r, unsigned flags, const char *data)
{
	uint8_t frame[PACKET_FRAME_MAX];

	CHECK(send_frame(r, frame, make(frame, GUEST_PORT, PACKET_PORT, flags, r->seq, r->ack, data)));
	run(r);
}

static unsigned flags_of(const struct rig *r, unsigned i) { return r->got[i].data[ETH + IP + 13]; }
static uint32_t seq_of(const struct rig *r, unsigned i) { return get_be32(r->got[i].data + ETH + IP + 4); }
static uint32_t ack_of(const struct rig *r, unsigned i) { return get_be32(r->got[i].data + ETH + IP + 8); }

static size_t data_of(const struct rig *r, unsigned i, const char **data)
{
	const uint8_t *tcp = r->got[i].data + ETH + IP;
	size_t head = (size_t)(tcp[12] >> 4) * 4;

	*data = (const char *)tcp + head;
	return r->got[i].len - ETH - IP - head;
}

static uint16_t sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void is_whole(const struct rig *r, unsigned i)
{
	const uint8_t *ip = r->got[i].data + ETH, *tcp = ip + IP;
	size_t len = r->got[i].len - ETH - IP;

	CHECK_EQ(get_be16(ip + 2), IP + len);
	CHECK_EQ(sum(ip, IP, 0), 0xffff);
	CHECK_EQ(sum(tcp, len, 6 + (uint32_t)len + sum(ip + 12, 8, 0)), 0xffff);
	CHECK(!memcmp(r->got[i].data, guest_mac, 6) && !memcmp(r->got[i].data + 6, router_mac, 6));
}

static void shake_hands(struct rig *r)
{
	says(r, TCP_SYN, "");
	CHECK_EQ(r->n, 1);
	CHECK_EQ(flags_of(r, 0), TCP_SYN | TCP_ACK);
	CHECK_EQ(ack_of(r, 0), r->seq + 1);
	is_whole(r, 0);
	r->seq++;
	r->ack = seq_of(r, 0) + 1;
	r->n = 0;
	says(r, TCP_ACK, "");
	CHECK_EQ(r->n, 0);
}

TEST(a_request_and_its_answer_go_through_one_socket)
{
	struct rig r;
	char buf[64] = "";
	const char *data;

	up(&r);
	int fd = give(&r);
	shake_hands(&r);
	says(&r, TCP_PSH | TCP_ACK, "GET /");
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 5);
	CHECK(!memcmp(buf, "GET /", 5));
	CHECK_EQ(r.n, 1);
	CHECK_EQ(ack_of(&r, 0), r.seq + 5);
	r.seq += 5;
	r.n = 0;
	CHECK_EQ(write(fd, "\001answer", 7), 7);
	close(fd);
	run(&r);
	CHECK_EQ(r.n, 2);
	CHECK_EQ(data_of(&r, 0, &data), 6);
	CHECK(!memcmp(data, "answer", 6));
	CHECK_EQ(r.got[0].data[ETH + 8], 1);    /* how far it may go */
	is_whole(&r, 0);
	CHECK(flags_of(&r, 1) & TCP_FIN);
	r.ack += 7;
	r.n = 0;
	says(&r, TCP_FIN | TCP_ACK, "");
	CHECK_EQ(r.n, 1);
	CHECK_EQ(ack_of(&r, 0), r.seq + 1);
	/* It is over: what comes now is of nobody. */
	r.seq++;
	r.n = 0;
	says(&r, TCP_ACK, "late");
	CHECK(flags_of(&r, 0) & TCP_RST);
	down(&r);
}

TEST(what_is_lost_is_sent_again_and_what_is_repeated_counts_once)
{
	struct rig r;
	char buf[64];
	const char *data;

	up(&r);
	int fd = give(&r);
	shake_hands(&r);
	says(&r, TCP_PSH | TCP_ACK, "abc");
	says(&r, TCP_PSH | TCP_ACK, "abcde");
	r.seq += 10;                    /* a hole before it */
	says(&r, TCP_PSH | TCP_ACK, "xyz");
	CHECK_EQ(recv(fd, buf, sizeof(buf), 0), 5);
	CHECK_EQ(ack_of(&r, r.n - 1), r.seq - 5);
	r.seq -= 5;
	r.n = 0;
	CHECK_EQ(write(fd, "\100word", 5), 5);
	for (unsigned i = 0; i < 200 && r.n < 2; i++)
		(void)loop_run_once(r.loop, 20);
	CHECK(r.n >= 2);
	CHECK_EQ(seq_of(&r, 0), seq_of(&r, 1));
	CHECK_EQ(data_of(&r, 1, &data), 4);
	CHECK(!memcmp(data, "word", 4));
	close(fd);
	down(&r);
}

TEST(what_is_lost_is_sent_again_while_the_guest_talks_all_the_time)
{
	struct rig r;

	up(&r);
	int fd = give(&r);
	shake_hands(&r);
	CHECK_EQ(write(fd, "\100word", 5), 5);
	run(&r);
	CHECK_EQ(r.n, 1);
	uint32_t seq = seq_of(&r, 0);
	bool is_repeated = false;
	for (unsigned i = 0; i < 400 && !is_repeated; i++) {
		r.n = 0;
		says(&r, TCP_ACK, "");          /* lasts about 20 ms */
		for (unsigned k = 0; k < r.n; k++)
			is_repeated |= seq_of(&r, k) == seq;
	}
	CHECK(is_repeated);
	close(fd);
	down(&r);
}

TEST(a_client_that_takes_nothing_is_waited_for)
{
	struct rig r;

	up(&r);
	int fd = give(&r);
	r.is_full = true;
	says(&r, TCP_SYN, "");
	CHECK_EQ(r.n, 0);
	r.is_full = false;
	net_service_resume(r.s);
	run(&r);
	CHECK_EQ(r.n, 1);
	CHECK_EQ(flags_of(&r, 0), TCP_SYN | TCP_ACK);
	close(fd);
	down(&r);
}

TEST(without_a_socket_connections_are_refused_and_sockets_are_bounded)
{
	struct rig r;
	int pair[2], ours[NET_SERVICE_SOCKETS];

	up(&r);
	says(&r, TCP_SYN, "");
	CHECK_EQ(r.n, 1);
	CHECK(flags_of(&r, 0) & TCP_RST);
	for (unsigned i = 0; i < NET_SERVICE_SOCKETS; i++)
		ours[i] = give(&r);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_EQ(net_service_give(r.s, pair[1]), -ENOSPC);
	/* Those of somebody who has gone make room. */
	for (unsigned i = 0; i < NET_SERVICE_SOCKETS; i++)
		close(ours[i]);
	CHECK_EQ(net_service_give(r.s, pair[1]), 0);
	close(pair[0]);
	down(&r);
}

TEST(all_for_the_address_ends_here_and_nothing_else_does)
{
	struct rig r;
	uint8_t frame[PACKET_FRAME_MAX] = { 0 };
	size_t len = make(frame, 1, 81, TCP_SYN, 1, 0, "");

	up(&r);
	CHECK(send_frame(&r, frame, len));
	frame[ETH + 9] = 17;
	CHECK(send_frame(&r, frame, len));              /* UDP */
	frame[ETH + 9] = 6;
	put_be16(frame + ETH + 6, 0x2000);
	CHECK(send_frame(&r, frame, len));              /* a fragment */
	put_be16(frame + ETH + 6, 0);
	frame[ETH] = 0x4f;
	CHECK(send_frame(&r, frame, len));              /* options that are not there */
	frame[ETH] = 0x45;
	frame[ETH + 19] ^= 1;
	CHECK(!send_frame(&r, frame, len));             /* its neighbour */
	memset(frame + ETH, 0, 60);
	put_be16(frame + 12, 0x86dd);
	put_be16(frame + ETH + 24 + 10, 0xffff);
	put_be32(frame + ETH + 24 + 12, PACKET_ADDRESS);
	CHECK(send_frame(&r, frame, ETH + 40));         /* mapped into IPv6 */
	frame[ETH + 24] = 0xfd;
	CHECK(!send_frame(&r, frame, ETH + 40));
	run(&r);
	CHECK_EQ(r.n, 0);
	down(&r);
}

TEST(the_address_is_told_to_who_looks_for_it_on_the_link)
{
	static const uint8_t ask[8] = { 0, 1, 8, 0, 6, 4, 0, 1 };
	struct rig r;
	uint8_t frame[ETH + 28] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	up(&r);
	memcpy(frame + 6, guest_mac, 6);
	put_be16(frame + 12, 0x0806);
	memcpy(frame + ETH, ask, sizeof(ask));
	memcpy(frame + ETH + 8, guest_mac, 6);
	put_be32(frame + ETH + 14, 0x0a00020f);
	put_be32(frame + ETH + 24, PACKET_ADDRESS);
	CHECK(send_frame(&r, frame, sizeof(frame)));
	run(&r);
	CHECK_EQ(r.n, 1);
	CHECK_EQ(get_be16(r.got[0].data + ETH + 6), 2);
	CHECK_EQ(get_be32(r.got[0].data + ETH + 14), PACKET_ADDRESS);
	put_be32(frame + ETH + 24, 0x0a000202);
	CHECK(!send_frame(&r, frame, sizeof(frame)));
	down(&r);
}

/* Whatever comes, in whatever order: it ends, and reads nothing behind what there is. */
TEST_SLOW(made_up_segments_do_no_harm)
{
	struct rig r;
	uint8_t frame[PACKET_FRAME_MAX];
	uint32_t dice = 12345;

	up(&r);
	for (unsigned turn = 0; turn < 20000; turn++) {
		size_t len = make(frame, (uint16_t)(1 + turn % 11), PACKET_PORT, (dice >> 8) & 0x1f, dice >> 3 & 0xff, dice >> 5 & 0xff, "some data");

		for (unsigned k = 0; k < 3; k++) {
			dice = dice * 1664525u + 1013904223u;
			if (dice >> 30)
				frame[ETH + dice % (len - ETH)] ^= (uint8_t)(dice >> 16);
		}
		put_be32(frame + ETH + 16, PACKET_ADDRESS);
		len -= dice >> 28 ? 0 : dice % 40;
		uint8_t *exact = malloc(len);   /* so that what is read behind it shows */

		memcpy(exact, frame, len);
		(void)net_service_takes(r.s, &(struct iovec){ exact, len }, 1);
		free(exact);
		if (turn % 50 == 0) {
			int pair[2];

			CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
			CHECK_EQ(write(pair[0], "\100what is said", 13), 13);
			close(pair[0]);
			if (net_service_give(r.s, pair[1]) < 0)
				close(pair[1]);
			r.n = 0;
			(void)loop_run_once(r.loop, 0);
		}
	}
	down(&r);
}
