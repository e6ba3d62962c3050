/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_socket.h - a disk of an NBD server at the other end of a socket that somebody else has connected.
 *
 * For a process that can make no connection and load no library, as a machine in its jail: the target of a block job.
 * What is handed over is that socket, or one to a process that connects when it is asked (proto/dial.h), which can be
 * asked again. The handshake is done here. There is no TLS. When the connection breaks, the server says nothing for
 * NBD_SOCKET_SILENCE_S or what it says is not understood, all that is under way and all that comes fails; unless the
 * node is kept, as a machine's disk: then requests wait while the connection is made anew, for NBD_SOCKET_MEND_S, and
 * are sent again. A server's bytes are hostile: they say which request has ended and what was read, and can do nothing else. */
#ifndef BLK_NBD_SOCKET_H
#define BLK_NBD_SOCKET_H

#include <stdbool.h>

struct blk;
struct blk_ctx;
struct err;

enum { NBD_SOCKET_SILENCE_S = 30, NBD_SOCKET_MEND_S = 30 };

/* Is ADDRESS one that a socket may be connected to: nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH? 0;
 * -ENOTSUP, -EINVAL: a sentence says what it is instead. Any thread. */
int blk_nbd_socket_check(const char *address, struct err *err);

/* Coroutine, on the thread of C, which has a loop. A protocol node for the export that ADDRESS names, for reading and
 * writing; FD, a connected stream socket on which nothing was said or one to a dialer, is borrowed. -EROFS: the export is only for
 * reading; -EPROTO, -ETIMEDOUT, -ECONNRESET, -ENOENT (or what the server refuses). */
int blk_nbd_co_open_socket(struct blk **out, struct blk_ctx *c, int fd, const char *address, struct err *err);

/* B, such a node: can it connect anew? */
bool blk_nbd_socket_can_mend(const struct blk *b);
/* From now on it does. */
void blk_nbd_socket_keep(struct blk *b);

#endif
