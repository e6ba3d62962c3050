/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums and segments that a driver has left to its device. Frames are judged by adding their words up once more. */
#include "net/offload.h"

#include <errno.h>
#include <string.h>
#include "net/net.h"
#include "test.h"
#include "util/endian.h"

enum { FRAMES_MAX = 80, IP = 14, PAYLOAD = 3001, MSS = 1000 };

static struct {
	uint8_t frame[FRAMES_MAX][2000];
	size_t len[FRAMES_MAX];
	unsigned n, room;
} wire;

int net_send(struct net *n, const struct iovec *iov, int n_iov)
{
	if (!wire.room)
		return -EAGAIN;
	wire.room--;
	size_t len = 0;
	for (int i = 0; i < n_iov; i++) {
		memcpy(wire.frame[wire.n] + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	wire.len[wire.n++] = len;
	return 0;
}

static uint32_t words(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += (uint32_t)p[i] << (i % 2 ? 0 : 8);
	return sum;
}

static uint32_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* A TCP frame of PAYLOAD bytes, and the header that asks for segments; its length. */
static size_t make(uint8_t hdr[12], uint8_t *f, bool is_v6)
{
	size_t tcp = IP + (is_v6 ? 40 : 20), len = tcp + 20 + PAYLOAD;

	memset(hdr, 0, 12);
	hdr[0] = 1;
	hdr[1] = is_v6 ? 4 : 1;
	put_le16(hdr + 2, (uint16_t)(tcp + 20));
	put_le16(hdr + 4, MSS);
	put_le16(hdr + 6, (uint16_t)tcp);
	put_le16(hdr + 8, 16);
	for (size_t i = 0; i < len; i++)
		f[i] = (uint8_t)(i * 7);
	put_be16(f + 12, is_v6 ? 0x86dd : 0x800);
	if (is_v6) {
		f[IP] = 0x60;
		f[IP + 6] = 6;
	} else {
		f[IP] = 0x45;
		f[IP + 9] = 6;
		put_be16(f + IP + 4, 0xffff);   /* the identification wraps */
	}
	put_be32(f + tcp + 4, 0xfffffff0);
	f[tcp + 12] = 0x50;
	f[tcp + 13] = 0x99;                     /* FIN, PSH, ACK, CWR */
	return len;
}

static void check_segment(unsigned i, bool is_v6, const uint8_t *payload)
{
	const uint8_t *f = wire.frame[i];
	size_t tcp = IP + (is_v6 ? 40 : 20), n = i < 3 ? MSS : PAYLOAD - 3 * MSS, tcp_len = 20 + n;

	CHECK_EQ(wire.len[i], tcp + tcp_len);
	CHECK_MEM(f + tcp + 20, payload + i * MSS, n);
	CHECK_EQ(get_be32(f + tcp + 4), (uint32_t)(0xfffffff0 + i * MSS));
	CHECK_EQ(f[tcp + 13], 0x10 | (i == 3 ? 9 : 0) | (i ? 0 : 0x80));
	CHECK_EQ(fold(words(f + tcp, tcp_len, words(f + IP + (is_v6 ? 8 : 12), is_v6 ? 32 : 8, 6 + (uint32_t)tcp_len))), 0xffff);
	if (is_v6) {
		CHECK_EQ(get_be16(f + IP + 4), tcp_len);
		return;
	}
	CHECK_EQ(get_be16(f + IP + 2), 20 + tcp_len);
	CHECK_EQ(get_be16(f + IP + 4), (uint16_t)(0xffff + i));
	CHECK_EQ(fold(words(f + IP, 20, 0)), 0xffff);
}

TEST(a_large_segment_becomes_small_ones_that_are_right)
{
	static uint8_t f[4096];
	uint8_t hdr[12];

	for (int is_v6 = 0; is_v6 < 2; is_v6++) {
		size_t len = make(hdr, f, is_v6);
		unsigned sent = 0;

		wire.n = 0;
		wire.room = 2;                  /* the network is full in between */
		CHECK_EQ(net_offload_send(NULL, hdr, f, len, &sent), -EAGAIN);
		CHECK_EQ(sent, 2);
		wire.room = FRAMES_MAX;
		CHECK_EQ(net_offload_send(NULL, hdr, f, len, &sent), 0);
		CHECK_EQ(wire.n, 4);
		for (unsigned i = 0; i < 4; i++)
			check_segment(i, is_v6, f + len - PAYLOAD);
	}
}

TEST(a_checksum_is_completed_and_a_frame_without_wishes_goes_as_it_is)
{
	uint8_t hdr[12] = { 1 }, f[60] = { 0 };
	unsigned sent = 0;

	wire.room = FRAMES_MAX;
	memset(f + 34, 0xab, sizeof(f) - 34);
	put_be16(f + 40, 0x1234);               /* the sum of the pseudo header */
	put_le16(hdr + 6, 34);
	put_le16(hdr + 8, 6);
	uint32_t want = fold(words(f + 34, sizeof(f) - 34, 0)) ^ 0xffff;
	CHECK_EQ(net_offload_send(NULL, hdr, f, sizeof(f), &sent), 0);
	CHECK_EQ(get_be16(wire.frame[0] + 40), want);
	hdr[0] = 0;
	CHECK_EQ(net_offload_send(NULL, hdr, f, sizeof(f), &sent), 0);
	CHECK_MEM(wire.frame[1], f, sizeof(f));
}

TEST(wishes_without_sense_are_refused)
{
	static const struct { uint8_t at, value; } bad[] = {
		{ 0, 0 }, { 1, 2 }, { 1, 3 }, { 1, 4 }, { 4, 47 }, { 5, 0 }, { 6, 0 }, { 6, 33 }, { 6, 200 }, { 7, 200 }, { 8, 6 },
	};
	static uint8_t f[4096];
	uint8_t hdr[12];
	unsigned sent = 0;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t len = make(hdr, f, false);

		put_le16(hdr + 4, bad[i].at == 5 ? 40 : MSS);
		hdr[bad[i].at] = bad[i].value;
		hdr[5] = bad[i].at == 4 ? 0 : hdr[5];
		CHECK_EQ(net_offload_send(NULL, hdr, f, len, &sent), -EINVAL);
	}
	size_t len = make(hdr, f, false);

	for (size_t cut = 0; cut <= 54; cut++)          /* no payload, or not even headers */
		CHECK_EQ(net_offload_send(NULL, hdr, f, cut, &sent), -EINVAL);
	f[IP + 20 + 12] = 0x40;                         /* a TCP header shorter than one */
	CHECK_EQ(net_offload_send(NULL, hdr, f, len, &sent), -EINVAL);
	len = make(hdr, f, false);
	f[IP] = 0x41;
	CHECK_EQ(net_offload_send(NULL, hdr, f, len, &sent), -EINVAL);
	hdr[1] = 0;                                     /* a checksum outside */
	put_le16(hdr + 6, (uint16_t)(len - 1));
	CHECK_EQ(net_offload_send(NULL, hdr, f, len, &sent), -EINVAL);
	CHECK_EQ(wire.n, 0);
}
