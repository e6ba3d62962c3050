/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums: RFC 1071. Headers: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP). What a segment inherits from the large
 * one: VIRTIO 1.2, 5.1.6.2, and Linux, Documentation/networking/segmentation-offloads.rst. */
#include "net/offload.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include "net/net.h"
#include "util/endian.h"

enum { /* virtio_net_hdr, 5.1.6 */
	HDR_FLAGS = 0, HDR_GSO_TYPE = 1, HDR_GSO_SIZE = 4, HDR_CSUM_START = 6, HDR_CSUM_OFFSET = 8,
	F_NEEDS_CSUM = 1, GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80,
};
enum {
	ETH_LEN = 14, ETH_TYPE = 12, VLAN_LEN = 4, TYPE_VLAN = 0x8100, TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd,
	IPV4_MIN = 20, IPV4_LENGTH = 2, IPV4_ID = 4, IPV4_CSUM = 10, IPV4_ADDRESSES = 12,
	IPV6_LEN = 40, IPV6_LENGTH = 4, IPV6_ADDRESSES = 8,
	PROTO_TCP = 6, TCP_MIN = 20, TCP_SEQ = 4, TCP_OFFSET = 12, TCP_FLAGS = 13, TCP_CSUM = 16,
	TCP_FIN = 1, TCP_PSH = 8, TCP_CWR = 0x80,
	HEADERS_MAX = 256,
};

/* A large TCP segment: where its parts begin in the frame. */
struct large {
	const uint8_t *frame;
	size_t len;
	bool is_v6;
	size_t ip, tcp, payload;
	size_t mss;
};

static uint32_t sum_add(uint32_t sum, const uint8_t *p, size_t len)
{
	uint64_t s = sum;

	for (; len >= 2; p += 2, len -= 2)
		s += get_be16(p);
	if (len)
		s += (uint32_t)*p << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint32_t)s;
}

/* The driver has put the sum of the pseudo header into the field. */
static int complete_checksum(const uint8_t *hdr, uint8_t *frame, size_t len)
{
	size_t start = get_le16(hdr + HDR_CSUM_START), at = start + get_le16(hdr + HDR_CSUM_OFFSET);

	if (start >= len || at + 2 > len)
		return -EINVAL;
	uint16_t sum = (uint16_t)~sum_add(0, frame + start, len - start);

	put_be16(frame + at, sum ? sum : 0xffff);       /* in UDP 0 stands for none; elsewhere both are the same */
	return 0;
}

static int large_parse_ip(struct large *g, uint8_t type)
{
	uint16_t ether = get_be16(g->frame + ETH_TYPE);

	g->ip = ETH_LEN;
	if (ether == TYPE_VLAN && g->len >= ETH_LEN + VLAN_LEN) {
		ether = get_be16(g->frame + ETH_TYPE + VLAN_LEN);
		g->ip += VLAN_LEN;
	}
	const uint8_t *ip = g->frame + g->ip;

	g->is_v6 = type == GSO_TCPV6;
	if (ether != (g->is_v6 ? TYPE_IPV6 : TYPE_IPV4) || g->len < g->ip + (g->is_v6 ? IPV6_LEN : IPV4_MIN))
		return -EINVAL;
	/* Behind extension headers of IPv6, too, the checksum says where TCP begins. */
	size_t least = g->is_v6 ? IPV6_LEN : (size_t)(ip[0] & 0xf) * 4;
	if (least < IPV4_MIN || g->tcp < g->ip + least || (!g->is_v6 && (g->tcp != g->ip + least || ip[9] != PROTO_TCP)))
		return -EINVAL;
	return 0;
}

static int large_parse(struct large *g, const uint8_t *hdr, const uint8_t *frame, size_t len)
{
	*g = (struct large){ .frame = frame, .len = len, .tcp = get_le16(hdr + HDR_CSUM_START), .mss = get_le16(hdr + HDR_GSO_SIZE) };
	if (!(hdr[HDR_FLAGS] & F_NEEDS_CSUM) || g->mss < NET_SEGMENT_MIN || len < ETH_LEN ||
	    get_le16(hdr + HDR_CSUM_OFFSET) != TCP_CSUM || large_parse_ip(g, hdr[HDR_GSO_TYPE] & ~GSO_ECN) < 0 ||
	    g->tcp + TCP_MIN > len)
		return -EINVAL;
	size_t tcp_len = (size_t)(frame[g->tcp + TCP_OFFSET] >> 4) * 4;

	g->payload = g->tcp + tcp_len;
	return tcp_len < TCP_MIN || g->payload >= len || g->payload > HEADERS_MAX ? -EINVAL : 0;
}

/* Headers of segment I, whose payload has LEN bytes, in OUT. */
static void large_headers(const struct large *g, unsigned i, size_t len, bool is_last, uint8_t out[static HEADERS_MAX])
{
	uint8_t *ip = out + g->ip, *tcp = out + g->tcp;
	size_t tcp_len = g->payload - g->tcp + len;

	memcpy(out, g->frame, g->payload);
	if (g->is_v6) {
		put_be16(ip + IPV6_LENGTH, (uint16_t)(g->tcp - g->ip - IPV6_LEN + tcp_len));
	} else {
		put_be16(ip + IPV4_LENGTH, (uint16_t)(g->tcp - g->ip + tcp_len));
		put_be16(ip + IPV4_ID, (uint16_t)(get_be16(ip + IPV4_ID) + i));
		put_be16(ip + IPV4_CSUM, 0);
		put_be16(ip + IPV4_CSUM, (uint16_t)~sum_add(0, ip, g->tcp - g->ip));
	}
	put_be32(tcp + TCP_SEQ, get_be32(tcp + TCP_SEQ) + i * (uint32_t)g->mss);
	if (!is_last)
		tcp[TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
	if (i)
		tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
	put_be16(tcp + TCP_CSUM, 0);
	uint32_t sum = sum_add(PROTO_TCP + (uint32_t)tcp_len, ip + (g->is_v6 ? IPV6_ADDRESSES : IPV4_ADDRESSES), g->is_v6 ? 32 : 8);

	sum = sum_add(sum, tcp, g->payload - g->tcp);
	/* Headers have an even length, so the payload's sum can be added as it is. */
	put_be16(tcp + TCP_CSUM, (uint16_t)~sum_add(sum, g->frame + g->payload + i * g->mss, len));
}

static int send_segments(struct net *n, const struct large *g, unsigned *sent)
{
	size_t whole = g->len - g->payload;
	unsigned count = (unsigned)((whole + g->mss - 1) / g->mss);     /* at most 64 KiB by NET_SEGMENT_MIN */

	for (; *sent < count; ++*sent) {
		uint8_t head[HEADERS_MAX];
		size_t at = *sent * g->mss, len = whole - at < g->mss ? whole - at : g->mss;

		large_headers(g, *sent, len, *sent + 1 == count, head);
		struct iovec iov[2] = { { head, g->payload }, { (uint8_t *)(uintptr_t)g->frame + g->payload + at, len } };
		int r = net_send(n, iov, 2);
		if (r == -EAGAIN)
			return r;
	}
	return 0;
}

int net_offload_send(struct net *n, const uint8_t *hdr, uint8_t *frame, size_t len, unsigned *sent)
{
	uint8_t type = hdr[HDR_GSO_TYPE] & (uint8_t)~GSO_ECN;
	struct large g;

	if (type == GSO_NONE) {
		int r = hdr[HDR_FLAGS] & F_NEEDS_CSUM ? complete_checksum(hdr, frame, len) : 0;

		return r ? r : net_send(n, &(struct iovec){ frame, len }, 1);
	}
	if ((type != GSO_TCPV4 && type != GSO_TCPV6) || large_parse(&g, hdr, frame, len) < 0)
		return -EINVAL;
	return send_segments(n, &g, sent);
}
