/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_server_priv.h - between the files of the NBD server; and the numbers of the protocol. */
#ifndef BLK_NBD_SERVER_PRIV_H
#define BLK_NBD_SERVER_PRIV_H

#include "blk/blk_ops.h"
#include "blk/nbd_server.h"
#include "util/endian.h"
#include "util/loop.h"

/* --- the protocol ("Values") -------------------------------------------------------------------- */

#define NBD_MAGIC 0x4e42444d41474943ull                 /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC 0x49484156454f5054ull          /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC 0x0003e889045565a9ull
enum {
	NBD_REQUEST_MAGIC = 0x25609513, NBD_REQUEST_EXT_MAGIC = 0x21e41c71,
	NBD_SIMPLE_MAGIC = 0x67446698, NBD_CHUNK_MAGIC = 0x668e33ef, NBD_CHUNK_EXT_MAGIC = 0x6e8a278c,
};
enum { NBD_HELLO_FIXED = 1, NBD_HELLO_NO_ZEROES = 2 };
enum {
	NBD_HAS_FLAGS = 1, NBD_READ_ONLY = 2, NBD_SEND_FLUSH = 4, NBD_SEND_FUA = 8, NBD_SEND_TRIM = 32,
	NBD_SEND_WRITE_ZEROES = 64, NBD_SEND_DF = 128, NBD_CAN_MULTI_CONN = 256,
};
enum nbd_option {
	NBD_OPT_EXPORT_NAME = 1, NBD_OPT_ABORT, NBD_OPT_LIST, NBD_OPT_STARTTLS = 5, NBD_OPT_INFO, NBD_OPT_GO,
	NBD_OPT_STRUCTURED_REPLY, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, NBD_OPT_EXTENDED_HEADERS,
};
enum {
	NBD_REP_ACK = 1, NBD_REP_SERVER = 2, NBD_REP_INFO = 3, NBD_REP_META_CONTEXT = 4,
	NBD_REP_ERR_UNSUP = (int)0x80000001, NBD_REP_ERR_INVALID = (int)0x80000003,
		NBD_REP_ERR_UNKNOWN = (int)0x80000006,
	NBD_REP_ERR_TOO_BIG = (int)0x80000009, NBD_REP_ERR_EXT_HEADER_REQD = (int)0x8000000a,
};
enum { NBD_INFO_EXPORT = 0, NBD_INFO_NAME = 1, NBD_INFO_BLOCK_SIZE = 3 };
enum nbd_command {
	NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_DISC, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES,
	NBD_CMD_BLOCK_STATUS,
};
enum { NBD_FLAG_FUA = 1, NBD_FLAG_NO_HOLE = 2, NBD_FLAG_DF = 4, NBD_FLAG_REQ_ONE = 8, NBD_FLAG_PAYLOAD_LEN = 32 };
enum { NBD_CHUNK_NONE = 0, NBD_CHUNK_DATA = 1, NBD_CHUNK_STATUS = 5, NBD_CHUNK_STATUS_EXT = 6,
       NBD_CHUNK_ERROR = 0x8001 };
enum { NBD_CHUNK_DONE = 1 };
enum { NBD_STATE_HOLE = 1, NBD_STATE_ZERO = 2, NBD_STATE_DIRTY = 1 };
enum { NBD_CONTEXT_ALLOCATION = 1, NBD_CONTEXT_BITMAP = 2 };    /* ids of ours */

/* --- bounds ----------------------------------------------------------------------------------------- */

enum {
	NBD_PAYLOAD_MAX = 32 << 20,     /* of one request */
	NBD_BYTES_MAX = 64 << 20,       /* of all requests of a client */
	NBD_SERVER_BYTES_MAX = 256 << 20,       /* of all clients, but that each may have one request */
	NBD_REQUESTS_MAX = 128,
	NBD_OPTION_MAX = 64 << 10,      /* data of an option */
	NBD_OPTIONS_MAX = 1000,         /* before the client has to choose */
	NBD_EXTENTS_MAX = 2048,         /* per reply about status */
	NBD_RX_LEN = 256 << 10,
	NBD_KEPT_MAX = 256 << 10,       /* a buffer that is used again */
	NBD_SERVER_KEPT_MAX = 8 << 20,  /* all of these, while no request has them */
	NBD_HEAD_MAX = 160,
};
#define NBD_HANDSHAKE_NS 10000000000ull

struct nbd_conn;

/* A request, or an answer in the handshake. Pool of the connection; its buffer stays with it. */
struct nbd_req {
	struct blk_req r;
	struct iovec iov;
	struct nbd_conn *c;
	struct nbd_req *next;           /* free, or to be sent */
	uint64_t cookie, off, len;
	uint16_t type, flags;
	bool is_request;                /* it counts */
	int refusal;                    /* a write that is answered with this once its payload is there */
	uint8_t *buf;                   /* LEN bytes for READ and WRITE */
	size_t cap;
	uint8_t head[NBD_HEAD_MAX];     /* the answer: this, then BODY_LEN bytes of BUF */
	size_t head_len, body_len;
};

enum nbd_state { NBD_HELLO, NBD_OPTIONS, NBD_TRANSMISSION };

struct nbd_conn {
	struct nbd_server *s;
	struct nbd_conn *next, *prev;
	struct loop_fd h;               /* .fd is the socket, ours; -1: closed */
	struct loop_timer deadline;     /* of the handshake */
	enum nbd_state state;
	bool has_no_zeroes, is_structured, is_extended;
	bool has_allocation, has_bitmap;        /* contexts that were chosen */
	bool is_ending;                 /* no more is read; closed when all is sent */
	bool in_batch;                  /* what is answered goes out at its end */
	bool is_parsing;
	unsigned n_options, n_requests;
	uint64_t n_bytes;               /* of buffers of requests */
	uint8_t *rx;                    /* NBD_RX_LEN: bytes from RX_AT to RX_END are not yet used */
	size_t rx_at, rx_end;
	struct nbd_req *filling;        /* its payload is coming, FILLED bytes are there */
	size_t filled;
	struct nbd_req *out, **out_tail;        /* to be sent */
	size_t out_sent;                /* bytes of the first */
	struct nbd_req *free;
};

struct nbd_server {
	struct nbd_server_config c;     /* strings are copies */
	char *path;                     /* of the Unix socket; NULL: TCP */
	uint64_t size;
	struct loop_fd listener;
	struct nbd_conn *conns;
	unsigned n_conns;
	uint64_t n_bytes, n_kept;       /* of buffers: of requests, and that wait to be used again */
	bool is_closing;
	struct co_mutex partial_lock;   /* parts of sectors are written one after the other */
	uint8_t *bitmap;                /* NULL: none */
	uint32_t bitmap_granularity;
};

/* nbd_server.c */
struct nbd_req *nbd_req_get(struct nbd_conn *c, size_t cap);    /* NULL: no memory */
void nbd_req_put(struct nbd_req *q);
/* Q's head and body go out; then it is free. */
void nbd_send(struct nbd_req *q);
void nbd_flush_out(struct nbd_conn *c);
void nbd_conn_end(struct nbd_conn *c);          /* after what is to be sent */
void nbd_conn_kill(struct nbd_conn *c);         /* at once */
void nbd_conn_watch(struct nbd_conn *c);        /* for what it can go on with */
void nbd_conn_done(struct nbd_conn *c);         /* a request is over: it may go now, or read on */

/* Use what was received: >= 0 the bytes that were used, 0: more are needed; -1: the connection is dead. */
/* nbd_server_handshake.c */
ssize_t nbd_handshake(struct nbd_conn *c, const uint8_t *p, size_t len);
uint16_t nbd_export_flags(const struct nbd_conn *c);
void nbd_greet(struct nbd_conn *c);
/* nbd_server_io.c */
ssize_t nbd_request(struct nbd_conn *c, const uint8_t *p, size_t len);
void nbd_payload_is_there(struct nbd_req *q);
/* nbd_server_status.c: in a coroutine; 0 or -errno; on success the answers are sent. */
int nbd_co_status(struct nbd_req *q);

/* An answer to Q: HEAD for TYPE with LEN bytes behind it, a chunk of a structured reply (nbd_server_io.c). */
size_t nbd_put_chunk(const struct nbd_req *q, uint8_t *head, unsigned flags, unsigned type, uint64_t len);

#endif
