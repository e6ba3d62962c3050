/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_socket_priv.h - between nbd_socket.c (requests) and nbd_socket_handshake.c. Loop thread. */
#ifndef BLK_NBD_SOCKET_PRIV_H
#define BLK_NBD_SOCKET_PRIV_H

#include "blk/core_priv.h"
#include "blk/nbd_server_priv.h"        /* the numbers of the protocol */
#include "blk/nbd_socket.h"
#include "blk/proto/proto.h"
#include "util/co.h"
#include "util/loop.h"

struct nbd_socket_cmd;

struct nbd_socket {
	struct blk *b;
	int fd;                         /* -1: none */
	int dialer;                     /* -1: none; who connects anew */
	bool is_kept;                   /* blk_nbd_socket_keep() */
	bool has_unflushed;             /* something was written since the last flush */
	uint64_t given_up_ns;           /* no attempt to connect before this */
	struct blk_watch dialer_watch;  /* until the node is kept */
	bool is_dialer_watched;
	struct blk_watch watch;
	bool is_watched;
	bool is_open;                   /* the handshake is over */
	int error;                      /* -errno: there is no connection any more */
	uint16_t flags;                 /* what the export can, NBD_SEND_* */
	struct loop_timer silence;      /* armed while the server owes something */
	struct co_mutex sending;        /* one request at a time, or mending */
	struct co *waiting;             /* for the socket; one, under SENDING or in the handshake */
	struct nbd_socket_cmd *cmds;    /* under way */
	uint64_t last_cookie;
	uint8_t head[16];               /* of a reply, HEAD_LEN bytes are there */
	size_t head_len;
	struct nbd_socket_cmd *filling; /* its data is coming, FILLED bytes are there; NULL: none */
	size_t filled;
};

/* The server must say something from now on. */
void nbd_socket_listen(struct nbd_socket *n);
void nbd_socket_event(struct loop_fd *h, unsigned events);
/* Coroutines: all of it, or -errno. Receiving is for the handshake. */
int nbd_socket_co_send(struct nbd_socket *n, const void *head, size_t head_len, const void *body, size_t body_len);
int nbd_socket_co_receive(struct nbd_socket *n, void *buf, size_t len);

/* No connection any more, for that reason. N may be closed by it. */
void nbd_socket_lose(struct nbd_socket *n, int error);

/* nbd_socket_mend.c, coroutines: the first connection; and another one in the place of a lost one. -errno: there is none. */
int nbd_socket_co_connect(struct nbd_socket *n, struct err *err);
int nbd_socket_co_mend(struct nbd_socket *n);
void nbd_socket_part(struct nbd_socket *n);     /* hang up */
void nbd_socket_forget_dialer(struct nbd_socket *n);    /* its end does not matter */

/* Agree with the server about the export that ADDRESS names; sets the size and limits of N's node. */
int nbd_socket_co_handshake(struct nbd_socket *n, const char *address, struct err *err);

#endif
