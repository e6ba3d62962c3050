/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_priv.h - packets and connections, for vsock.c (rings) and vsock_conn.c (connections). Everything is guarded by
 * the device lock. */
#ifndef VIRTIO_VSOCK_PRIV_H
#define VIRTIO_VSOCK_PRIV_H

#include "util/checked.h"
#include "util/endian.h"
#include "util/loop.h"
#include "virtio/device.h"
#include "virtio/vsock.h"

struct vsock_hdr {                      /* 5.10.6 */
	le64 src_cid, dst_cid;
	le32 src_port, dst_port, len;
	le16 type, op;
	le32 flags, buf_alloc, fwd_cnt;
};
_Static_assert(sizeof(struct vsock_hdr) == 44, "5.10.6");

enum { VSOCK_STREAM = 1, VSOCK_CID_HOST = 2 };
enum vsock_op {
	OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST,
};
enum { SHUTDOWN_RECEIVE = 1, SHUTDOWN_SEND = 2, SHUTDOWN_BOTH = 3 };
enum { RX = 0, TX = 1, EVENT = 2, N_QUEUES = 3 };
enum { VSOCK_IOV_MAX = 64, VSOCK_BUCKETS = 256, VSOCK_RESETS_MAX = 64 };

/* States of a connection:
 *
 *	host connects:  CONNECTING --RESPONSE--> OPEN
 *	guest connects: (REQUEST) -------------> OPEN
 *	OPEN --both directions shut down, all is written--> GONE, when its RST has been sent
 *	any --RST--> freed */
enum vsock_state { VSOCK_CONNECTING, VSOCK_OPEN, VSOCK_GONE };

struct vsock_conn {
	struct vsock_conn *next;        /* in its bucket */
	struct vsock_conn *next_ready, *prev_ready;     /* among those with something to send */
	struct virtio_vsock *v;
	uint32_t host_port, guest_port;
	enum vsock_state state;
	struct loop_fd host;            /* fd owned */
	uint8_t pending;                /* bits 1 << op: packets to be sent */
	uint8_t guest_shut, host_shut;  /* SHUTDOWN_*: by the guest, and told to it by us */
	bool is_ready;                  /* in the list */
	bool has_data;                  /* the host's end may be read */
	bool is_host_gone;              /* both directions of its end are closed: not watched any more */
	bool is_host_eof;               /* all that it had has been read */
	bool is_told_end;               /* it has been told that the guest sends no more */
	uint32_t peer_alloc, peer_fwd;  /* the guest's room, and what it has consumed */
	uint32_t tx_cnt;                /* bytes sent to it */
	uint32_t rx_cnt, fwd_cnt, told_fwd;     /* bytes it has sent; that the host took; as told */
	uint64_t deadline_ns;           /* CONNECTING, or shut down by us: given up then; 0: none */
	uint8_t *buf;                   /* ring of VIRTIO_VSOCK_BUF bytes that the host has not taken; NULL: never needed */
	size_t buf_pos, buf_len;
};

/* A host's program that waits for the guest. */
struct vsock_waiter {
	struct vsock_waiter *next;
	struct virtio_vsock *v;
	struct loop_fd host;            /* fd owned; watched for its end */
	uint32_t port;
};

struct vsock_reset {
	uint32_t host_port, guest_port;
	uint16_t type;
};

struct vsock_dev_state {
	uint8_t wants_reset;            /* connections have gone: the driver is to be told */
};

struct virtio_vsock {
	struct virtio_dev dev;
	struct vsock_dev_state s;
	uint32_t guest_cid;
	struct vsock_conn *bucket[VSOCK_BUCKETS];
	unsigned n_conns;
	struct vsock_conn *ready, *ready_tail;
	struct vsock_waiter *waiters;   /* oldest first */
	unsigned n_waiters;
	uint32_t next_port;             /* for connections of the host */
	struct vsock_reset resets[VSOCK_RESETS_MAX];    /* answers to what belongs to no connection */
	unsigned n_resets;
	bool is_tx_stopped;             /* until there is room for more of them */
	struct loop_timer deadlines;
};

static inline struct virtio_vsock *vsock_of(struct virtio_dev *d)
{
	return container_of(d, struct virtio_vsock, dev);
}

/* --- vsock_conn.c --- */
/* Packet H with its payload in C from byte sizeof(*H) on. */
void vsock_take_packet(struct virtio_vsock *v, const struct vsock_hdr *h, const struct vq_chain *c);
/* Fill in what connection K has to send next: header H, and up to ROOM bytes at IOV. The bytes of payload; -EAGAIN:
 * nothing. */
ssize_t vsock_next_packet(struct vsock_conn *k, struct vsock_hdr *h, const struct iovec *iov, int n_iov, size_t room);
/* After vsock_next_packet(): does it have more to say? Otherwise it leaves the list, or for ever. */
void vsock_settle(struct vsock_conn *k);
void vsock_close_all(struct virtio_vsock *v);
void vsock_drop_waiters(struct virtio_vsock *v);
void vsock_deadlines(struct loop_timer *t);
/* The rings may be used (again): look at all that the hosts' ends have. */
void vsock_go_on(struct virtio_vsock *v);

/* --- vsock.c --- */
/* Send what is ready, as far as there are buffers. */
void vsock_send(struct virtio_vsock *v);

#endif
