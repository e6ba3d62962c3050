/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_server.h - a disk for other programs and hosts, over the NBD protocol ("The NBD protocol",
 * doc/proto.md of the project nbd).
 *
 * The fixed newstyle handshake with export names, information, structured replies, block status of
 * base:allocation and of a dirty bitmap, and extended headers. Left out: TLS, so a TCP address is for a
 * network whose users may all use the disk. Clients are hostile: every length has a bound, and each client
 * holds at most NBD_BYTES_MAX of memory. Loop thread. */
#ifndef BLK_NBD_SERVER_H
#define BLK_NBD_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/blk.h"

enum { NBD_CLIENTS_MAX = 64, NBD_NAME_MAX = 4096 };

struct nbd_server;
struct nbd_server_config {
	struct loop *loop;
	struct blk *blk;                /* opened with LOOP; borrowed; used by nobody else meanwhile */
	const char *address;            /* "unix:PATH", "tcp:[HOST:]PORT" (without HOST: this host alone) */
	const char *name;               /* of the export; "" is the usual default */
	const char *bitmap;             /* offered as qemu:dirty-bitmap:NAME, as it is now; NULL: none */
	bool is_readonly;
};

/* Serve until nbd_server_close(). -EADDRINUSE, -EINVAL (address), -ENOENT (bitmap), ... */
int nbd_server_open(struct nbd_server **out, const struct nbd_server_config *c, struct err *err);
/* Ends all connections, waits for their requests, and flushes. NULL is fine. */
void nbd_server_close(struct nbd_server *s);
DEFINE_AUTO(struct nbd_server *, nbd_server_close)
unsigned nbd_server_clients(const struct nbd_server *s);
/* Speak with whoever is at the other end of FD, which is taken: a socket of an inherited connection, a
 * test's. */
int nbd_server_add(struct nbd_server *s, int fd, struct err *err);

#endif
