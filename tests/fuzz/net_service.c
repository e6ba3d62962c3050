/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata service as a hostile guest sees it: frames of its making, sockets that somebody gives, reads and leaves, a device without
 * room, and time. The service's file is compiled into this one, to be looked into.
 * Input: steps of one byte, see step(). */
#include "../../src/net/service.c"

#include "fake_loop.h"
#include "fuzz.h"
#include "util/endian.h"

enum { ETH = 14, IP = 20, TCP = 20, STEPS = 256, HOSTS = NET_SERVICE_SOCKETS + NET_SERVICE_CONNS, SENT_MAX = 64 };

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 1, 2, 3 }, router_mac[6] = { 0x52, 0x55, 0, 9, 9, 9 };

struct rig {
	struct net_client client;
	struct loop *loop;
	struct net_service *s;
	unsigned room;                  /* frames that the device still takes */
	unsigned n_sent;                /* since the last step */
	bool is_inside;                 /* of net_service_takes(), from where nothing may come back */
	int host[HOSTS];                /* who has given sockets; -1: nobody */
	uint32_t seq, ack;              /* of a guest that talks as it should */
};

static uint16_t sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static bool can_receive(struct net_client *c)
{
	return container_of(c, struct rig, client)->room;
}

/* Whatever the guest has said, it is told whole frames that are its own. */
static void receive(struct net_client *c, const uint8_t *frame, size_t len)
{
	struct rig *r = container_of(c, struct rig, client);
	const uint8_t *ip = frame + ETH, *tcp = ip + IP;

	FUZZ_CHECK(!r->is_inside && r->room && len >= ETH + 28 && len <= PACKET_FRAME_MAX);
	r->room--;
	r->n_sent++;
	if (get_be16(frame + 12) == 0x0806) {
		FUZZ_CHECK(len == ETH + 28 && get_be16(ip + 6) == 2 && get_be32(ip + 14) == PACKET_ADDRESS);
		return;
	}
	FUZZ_CHECK(get_be16(frame + 12) == 0x0800 && len >= ETH + IP + TCP && get_be16(ip + 2) == len - ETH);
	FUZZ_CHECK(ip[0] == 0x45 && ip[8] && get_be32(ip + 12) == PACKET_ADDRESS && sum(ip, IP, 0) == 0xffff);
	size_t n = len - ETH - IP, head = (size_t)(tcp[12] >> 4) * 4;
	FUZZ_CHECK(head >= TCP && head <= n && get_be16(tcp) == PACKET_PORT);
	FUZZ_CHECK(sum(tcp, n, 6 + (uint32_t)n + sum(ip + 12, 8, 0)) == 0xffff);
	r->ack = get_be32(tcp + 4) + (uint32_t)(n - head) + (tcp[13] & (TCP_SYN | TCP_FIN) ? 1 : 0);
}

/* A frame of the guest's in a piece of memory of its own length, cut in two. */
static void send_frame(struct rig *r, const uint8_t *frame, size_t len, size_t cut)
{
	uint8_t *exact = malloc(len + !len);
	struct iovec iov[2] = { { exact, cut % (len + 1) }, { exact + cut % (len + 1), len - cut % (len + 1) } };

	FUZZ_CHECK(exact);
	memcpy(exact, frame, len);
	r->is_inside = true;
	(void)net_service_takes(r->s, iov, 2);
	r->is_inside = false;
	free(exact);
}

/* A segment that is right but for what the input says: its flags, where it begins, what it acknowledges, what it carries. */
static void send_segment(struct rig *r, struct fuzz *f)
{
	uint8_t frame[PACKET_FRAME_MAX] = { 0 }, *ip = frame + ETH, *tcp = ip + IP, flags = fuzz_u8(f), how = fuzz_u8(f);
	size_t options = how & 0x80 ? 4 : 0, len = how & 0x40 ? fuzz_u8(f) : how >> 4 & 3;

	memcpy(frame, router_mac, 6);
	memcpy(frame + 6, guest_mac, 6);
	put_be16(frame + 12, 0x0800);
	ip[0] = 0x45;
	put_be16(ip + 2, (uint16_t)(IP + TCP + options + len));
	ip[8] = 64;
	ip[9] = 6;
	put_be32(ip + 12, 0x0a00020f);
	put_be32(ip + 16, PACKET_ADDRESS);
	put_be16(tcp, (uint16_t)(40000 + (how & 3) * (how >> 2 & 3)));
	put_be16(tcp + 2, PACKET_PORT);
	put_be32(tcp + 4, r->seq + (flags & 0x20 ? (uint32_t)(int8_t)fuzz_u8(f) : 0));
	put_be32(tcp + 8, r->ack + (flags & 0x40 ? (uint32_t)(int16_t)fuzz_u16(f) : 0));
	tcp[12] = (uint8_t)((TCP + options) / 4 << 4);
	tcp[13] = flags & 0x1f;
	put_be16(tcp + 14, flags & 0x80 ? fuzz_u16(f) : 0xffff);
	fuzz_fill(f, tcp + TCP, options);
	fuzz_fill(f, tcp + TCP + options, len);
	send_frame(r, frame, ETH + IP + TCP + options + len, how);
	if (!(flags & 0x20))
		r->seq += (uint32_t)len + (flags & (TCP_SYN | TCP_FIN) ? 1 : 0);
}

static void send_raw(struct rig *r, struct fuzz *f)
{
	uint8_t frame[PACKET_FRAME_MAX + 64] = { 0 }, how = fuzz_u8(f);
	size_t len = how & 0x80 ? sizeof(frame) : (size_t)(how & 0x7f);

	fuzz_fill(f, frame, len < 0x80 ? len : 0x80);
	if (how & 1) {                  /* for the service, as far as that goes */
		put_be16(frame + 12, how & 2 ? 0x0806 : how & 4 ? 0x86dd : 0x0800);
		put_be32(frame + ETH + (how & 2 ? 24 : how & 4 ? 36 : 16), PACKET_ADDRESS);
	}
	send_frame(r, frame, len, how);
}

static void give(struct rig *r)
{
	int pair[2];
	unsigned i = 0;

	while (i < HOSTS && r->host[i] >= 0)
		i++;
	if (i == HOSTS)
		return;
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	if (net_service_give(r->s, pair[1]) == 0) {
		r->host[i] = pair[0];
		return;
	}
	close(pair[0]);
	close(pair[1]);
}

/* What somebody who has given a socket does with the other end. */
static void be_host(struct rig *r, struct fuzz *f)
{
	uint8_t what = fuzz_u8(f), buf[4096];
	int *fd = &r->host[what % HOSTS];
	size_t len = what & 0x20 ? sizeof(buf) : 32;

	if (*fd < 0)
		return;
	if (what & 0x80) {
		close(*fd);
		*fd = -1;
	} else if (what & 0x40) {
		memset(buf, what, sizeof(buf));
		if (send(*fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return;
	} else {
		while (recv(*fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
	}
}

static void check(const struct rig *r)
{
	FUZZ_CHECK(r->n_sent <= SENT_MAX && r->s->n_sockets <= NET_SERVICE_SOCKETS && r->s->n_aside <= ASIDE_MAX);
	for (unsigned i = 0; i < NET_SERVICE_CONNS; i++) {
		const struct conn *c = &r->s->conn[i];

		if (c->state == CONN_FREE) {
			FUZZ_CHECK(c->io.fd < 0 && !c->is_watched);
			continue;
		}
		/* What is on its way is in the buffer, but for the beginning and the end. */
		FUZZ_CHECK(c->io.fd >= 0 && c->len <= BUF_MAX && c->nxt - c->una <= c->max - c->una && c->max - c->una <= c->len + 1);
		FUZZ_CHECK(c->resends <= RESENDS_MAX + 1 && c->mss >= 64 && c->mss <= MSS_MAX);
	}
}

static void step(struct rig *r, struct fuzz *f)
{
	uint8_t op = fuzz_u8(f);

	switch (op & 7) {
	case 0: case 1: case 2:
		send_segment(r, f);
		break;
	case 3: send_raw(r, f); break;
	case 4: give(r); break;
	case 5: be_host(r, f); break;
	case 6:
		r->room = op >> 3;
		net_service_resume(r->s);
		break;
	default:
		fake_loop_advance((uint64_t)1000000 << (op >> 4));
		break;
	}
	r->n_sent = 0;
	if (!(op & 8) || (op & 7) > 5)
		loop_run_once(r->loop, 0);
	check(r);
}

/* A guest that says nothing any more holds nothing after a while, whether or not it takes what it is told. */
static void all_ends(struct rig *r)
{
	for (unsigned i = 0; i < 1000; i++) {
		bool is_busy = false;

		for (unsigned k = 0; k < NET_SERVICE_CONNS; k++)
			is_busy |= r->s->conn[k].state != CONN_FREE;
		if (!is_busy)
			return;
		r->room = SENT_MAX;
		r->n_sent = 0;
		net_service_resume(r->s);
		fake_loop_advance((uint64_t)TICK_MS * 1000000);
		loop_run_once(r->loop, 0);
		check(r);
	}
	FUZZ_CHECK(!"a connection stays for ever");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	struct rig r = { .client = { can_receive, receive, NULL }, .room = SENT_MAX, .seq = 1000 };

	fake_loop_reset();
	memset(r.host, -1, sizeof(r.host));
	FUZZ_CHECK(loop_new(&r.loop, NULL) == 0);
	r.s = net_service_new(r.loop, &r.client);
	FUZZ_CHECK(r.s);
	for (unsigned i = 0; i < STEPS && f.left; i++)
		step(&r, &f);
	all_ends(&r);
	net_service_free(r.s);
	for (unsigned i = 0; i < HOSTS; i++)
		if (r.host[i] >= 0)
			close(r.host[i]);
	loop_free(r.loop);
	return 0;
}
