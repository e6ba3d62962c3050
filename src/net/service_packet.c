/* SPDX-License-Identifier: Apache-2.0 */
#include "net/service_packet.h"

#include <stdbool.h>
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"

enum {
	ETH_LEN = 14, ETH_IP = 0x0800, ETH_ARP = 0x0806, ETH_IP6 = 0x86dd,
	ARP_LEN = 28, ARP_REQUEST = 1, ARP_REPLY = 2,
	IP_LEN = 20, IP_LEN_MAX = 60, IP_TCP = 6, IP_MORE_OR_OFFSET = 0x3fff, IP_DONT_FRAGMENT = 0x4000,
	IP6_LEN = 40, IP6_DST = 24,
	TCP_LEN = 20, TCP_OPT_END = 0, TCP_OPT_NOP = 1, TCP_OPT_MSS = 2, TCP_FLAGS = 0x1f,
	DATA_MAX = 1400,
};

/* Of nobody: it is locally administered, and no address of this host's. */
static const uint8_t mac_of_service[6] = { 0x02, 0x00, 0xa9, 0xfe, 0xa9, 0xfe };

/* --- reading ---------------------------------------------------- */

/* The first bytes of the frame; *LEN of all. */
static size_t gather(uint8_t *frame, const struct iovec *iov, int n_iov, size_t *len)
{
	size_t at = 0;

	*len = 0;
	for (int i = 0; i < n_iov; i++) {
		size_t n = iov[i].iov_len < PACKET_FRAME_MAX - at ? iov[i].iov_len : PACKET_FRAME_MAX - at;

		memcpy(frame + at, iov[i].iov_base, n);
		at += n;
		*len += iov[i].iov_len;
	}
	return at;
}

static enum packet_kind read_arp(struct packet *p, const uint8_t *frame, size_t len)
{
	static const uint8_t head[6] = { 0, 1, 8, 0, 6, 4 };    /* Ethernet, IPv4 */
	const uint8_t *arp = frame + ETH_LEN;

	if (len < ETH_LEN + ARP_LEN || memcmp(arp, head, sizeof(head)) != 0 || get_be16(arp + 6) != ARP_REQUEST ||
	    get_be32(arp + 24) != PACKET_ADDRESS)
		return PACKET_OTHER;
	memcpy(p->ends.guest_mac, arp + 8, 6);
	memcpy(p->ends.our_mac, mac_of_service, 6);
	p->ends.guest_ip = get_be32(arp + 14);
	p->is_arp = 1;
	return PACKET_ARP;
}

/* The maximum that a SYN tells; 0: none. OPT has LEN bytes. */
static unsigned read_mss(const uint8_t *opt, size_t len)
{
	for (size_t at = 0; at < len && opt[at] != TCP_OPT_END;) {
		if (opt[at] == TCP_OPT_NOP) {
			at++;
			continue;
		}
		if (at + 2 > len || opt[at + 1] < 2 || opt[at + 1] > len - at)
			return 0;
		if (opt[at] == TCP_OPT_MSS && opt[at + 1] == 4)
			return get_be16(opt + at + 2);
		at += opt[at + 1];
	}
	return 0;
}

static enum packet_kind read_tcp(struct packet *p, const uint8_t *tcp, size_t len)
{
	size_t head = len >= TCP_LEN ? (size_t)(tcp[12] >> 4) * 4 : 0;

	if (head < TCP_LEN || head > len)
		return PACKET_DROP;
	p->ends.guest_port = get_be16(tcp);
	p->seq = get_be32(tcp + 4);
	p->ack = get_be32(tcp + 8);
	p->flags = tcp[13] & TCP_FLAGS;
	p->window = get_be16(tcp + 14);
	p->mss = p->flags & TCP_SYN ? read_mss(tcp + TCP_LEN, head - TCP_LEN) : 0;
	p->data = tcp + head;
	p->len = len - head;
	return get_be16(tcp + 2) == PACKET_PORT ? PACKET_TCP : PACKET_DROP;
}

static enum packet_kind read_ip(struct packet *p, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + ETH_LEN;

	if (len < ETH_LEN + IP_LEN || get_be32(ip + 16) != PACKET_ADDRESS)
		return PACKET_OTHER;
	size_t head = (size_t)(ip[0] & 15) * 4, total = get_be16(ip + 2);
	if (ip[0] >> 4 != 4 || head < IP_LEN || total < head || total > len - ETH_LEN || get_be16(ip + 6) & IP_MORE_OR_OFFSET || ip[9] != IP_TCP)
		return PACKET_DROP;
	p->ends.guest_ip = get_be32(ip + 12);
	return read_tcp(p, ip + head, total - head);
}

/* The same address in another's clothes: mapped into IPv6, or translated by the network's NAT64. */
static enum packet_kind read_ip6(const uint8_t *frame, size_t len)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }, nat64[12] = { 0, 0x64, 0xff, 0x9b };
	const uint8_t *to = frame + ETH_LEN + IP6_DST;

	if (len < ETH_LEN + IP6_LEN || get_be32(to + 12) != PACKET_ADDRESS)
		return PACKET_OTHER;
	return !memcmp(to, mapped, sizeof(mapped)) || !memcmp(to, nat64, sizeof(nat64)) ? PACKET_DROP : PACKET_OTHER;
}

enum packet_kind packet_read(struct packet *p, uint8_t frame[PACKET_FRAME_MAX], const struct iovec *iov, int n_iov)
{
	size_t whole, len = gather(frame, iov, n_iov, &whole);

	*p = (struct packet){ .flags = 0 };
	if (len < ETH_LEN)
		return PACKET_OTHER;
	memcpy(p->ends.our_mac, frame, 6);
	memcpy(p->ends.guest_mac, frame + 6, 6);
	switch (get_be16(frame + 12)) {
	case ETH_ARP:
		return read_arp(p, frame, len);
	case ETH_IP6:
		return read_ip6(frame, len);
	case ETH_IP: {
		enum packet_kind k = read_ip(p, frame, len);

		/* Longer than what any network here carries: not all of it was looked at. */
		return k == PACKET_TCP && whole > len ? PACKET_DROP : k;
	}
	default:
		return PACKET_OTHER;
	}
}

/* --- writing ---------------------------------------------------- */

static uint32_t sum_of(const uint8_t *data, size_t len, uint32_t sum)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += get_be16(data + i);
	return len & 1 ? sum + ((uint32_t)data[len - 1] << 8) : sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void write_eth(uint8_t *frame, const struct packet_ends *e, unsigned type)
{
	memcpy(frame, e->guest_mac, 6);
	memcpy(frame + 6, e->our_mac, 6);
	put_be16(frame + 12, (uint16_t)type);
}

static size_t write_arp(uint8_t *frame, const struct packet *p)
{
	static const uint8_t head[8] = { 0, 1, 8, 0, 6, 4, 0, ARP_REPLY };
	uint8_t *arp = frame + ETH_LEN;

	write_eth(frame, &p->ends, ETH_ARP);
	memcpy(arp, head, sizeof(head));
	memcpy(arp + 8, p->ends.our_mac, 6);
	put_be32(arp + 14, PACKET_ADDRESS);
	memcpy(arp + 18, p->ends.guest_mac, 6);
	put_be32(arp + 24, p->ends.guest_ip);
	return ETH_LEN + ARP_LEN;
}

static size_t write_tcp(uint8_t *tcp, const struct packet *p, uint32_t pseudo)
{
	size_t head = TCP_LEN + (p->mss ? 4u : 0), len = p->len < DATA_MAX ? p->len : DATA_MAX;

	memset(tcp, 0, head);
	put_be16(tcp, PACKET_PORT);
	put_be16(tcp + 2, p->ends.guest_port);
	put_be32(tcp + 4, p->seq);
	put_be32(tcp + 8, p->ack);
	tcp[12] = (uint8_t)(head / 4 << 4);
	tcp[13] = (uint8_t)p->flags;
	put_be16(tcp + 14, (uint16_t)p->window);
	if (p->mss) {
		tcp[20] = TCP_OPT_MSS;
		tcp[21] = 4;
		put_be16(tcp + 22, (uint16_t)p->mss);
	}
	if (len)
		memcpy(tcp + head, p->data, len);
	put_be16(tcp + 16, fold(sum_of(tcp, head + len, pseudo + (uint32_t)(head + len))));
	return head + len;
}

size_t packet_write(uint8_t frame[PACKET_FRAME_MAX], const struct packet *p)
{
	uint8_t *ip = frame + ETH_LEN;

	if (p->is_arp)
		return write_arp(frame, p);
	write_eth(frame, &p->ends, ETH_IP);
	memset(ip, 0, IP_LEN);
	ip[0] = 0x45;
	put_be16(ip + 6, IP_DONT_FRAGMENT);
	ip[8] = p->ttl;
	ip[9] = IP_TCP;
	put_be32(ip + 12, PACKET_ADDRESS);
	put_be32(ip + 16, p->ends.guest_ip);
	size_t len = write_tcp(ip + IP_LEN, p, sum_of(ip + 12, 8, IP_TCP));
	put_be16(ip + 2, (uint16_t)(IP_LEN + len));
	put_be16(ip + 10, fold(sum_of(ip, IP_LEN, 0)));
	return ETH_LEN + IP_LEN + len;
}
