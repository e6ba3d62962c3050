/* SPDX-License-Identifier: Apache-2.0 */
/* dial.h - connections that can be made anew after the process has given up the right to make any.
 *
 * A jailed viv-vmm may not open sockets. So a dialer is a small process, split off when the disk is opened, that can
 * do one thing: connect to the addresses that were found then, and hand over the socket. It ends when its owner does.
 * Blocking calls of any thread, one at a time. */
#ifndef BLK_PROTO_DIAL_H
#define BLK_PROTO_DIAL_H

#include <stdint.h>
#include "util/cleanup.h"

struct blk_dialer;
struct err;

/* Whom to call: HOST and PORT by TCP; or with HOST NULL, the Unix socket PATH. Borrowed during the call. */
struct blk_dial {
	const char *host, *path;
	uint16_t port;
	unsigned silent_s;              /* TCP: a host that has been silent for so many seconds is gone; 0: 20 */
};
/* Does not connect yet. */
int blk_dialer_new(struct blk_dialer **out, const struct blk_dial *to, struct err *err);
void blk_dialer_free(struct blk_dialer *d);     /* NULL is fine */
/* A connected socket (blocking, close on exec), or -errno: of connecting, -ETIMEDOUT; -EPIPE: the process is gone. */
int blk_dialer_connect(struct blk_dialer *d, int timeout_ms);
/* The socket to the process, SOCK_SEQPACKET, for who is to own it: another process, that has been handed it. D is freed. */
int blk_dialer_part(struct blk_dialer *d);
/* blk_dialer_connect() for who owns that socket. */
int blk_dialer_ask(int sock, int timeout_ms);
/* Have the kernel end the TCP connection FD, with ETIMEDOUT, when the other host has confirmed nothing for SILENT_S seconds.
 * The sockets of a dialer are so already. */
void blk_dialer_keep(int fd, unsigned silent_s);

#endif
