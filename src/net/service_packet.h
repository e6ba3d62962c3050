/* SPDX-License-Identifier: Apache-2.0 */
/* service_packet.h - frames to and from the metadata service of a guest (service.h): Ethernet, ARP (RFC 826), IPv4 (RFC 791), TCP (RFC
 * 9293). Pure functions. */
#ifndef NET_SERVICE_PACKET_H
#define NET_SERVICE_PACKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { PACKET_FRAME_MAX = 2048, PACKET_PORT = 80 };
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };

#define PACKET_ADDRESS 0xa9fea9feu      /* 169.254.169.254 */

/* Who talks with whom. */
struct packet_ends {
	uint8_t guest_mac[6], our_mac[6];
	uint32_t guest_ip;
	uint16_t guest_port;
};

/* A segment, or what is to be one; of an ARP request, to be answered, the ends alone. */
struct packet {
	struct packet_ends ends;
	unsigned is_arp : 1;
	unsigned flags;                 /* TCP_* */
	uint32_t seq, ack;
	unsigned window, mss;           /* MSS 0: it does not say */
	uint8_t ttl;                    /* to be sent */
	const uint8_t *data;
	size_t len;
};

enum packet_kind {
	PACKET_OTHER,                   /* nothing of ours */
	PACKET_ARP,                     /* who has the address? */
	PACKET_TCP,                     /* for the port */
	PACKET_DROP,                    /* for the address, and of no use */
};

/* What the frame is. Its beginning is copied to FRAME, which P's data is in. */
enum packet_kind packet_read(struct packet *p, uint8_t frame[PACKET_FRAME_MAX], const struct iovec *iov, int n_iov);
/* P as a frame, whose length is returned. P's data has at most 1400 bytes. */
size_t packet_write(uint8_t frame[PACKET_FRAME_MAX], const struct packet *p);

#endif
