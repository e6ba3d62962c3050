/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_link.h - the connection of a migration: records, one after the other, over a stream socket.
 *
 * Calls wait, for a bounded time without any progress, and so are made by a thread of their own (one at a
 * time); migrate_link_cancel() may come from any thread and makes all of them fail. The peer is hostile:
 * types and lengths are checked before anything is read, and memory grows with what has really come. */
#ifndef VM_MIGRATE_LINK_H
#define VM_MIGRATE_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "vm/migrate_format.h"

struct err;

struct migrate_link {
	int fd;                         /* owned; a connected stream socket */
	unsigned timeout_ms;            /* without progress */
	_Atomic bool is_cancelled;
	_Atomic bool gives_up;          /* any thread: who waits to send or receive waits no more */
	_Atomic uint64_t sent;          /* bytes */
	uint8_t *buf;                   /* payload of the last record received */
	size_t cap;
};

enum { MIGRATE_TIMEOUT_MS = 60000 };

/* FD is taken. */
void migrate_link_init(struct migrate_link *l, int fd);
void migrate_link_fini(struct migrate_link *l);         /* closes; zeroed with fd -1 is fine */
void migrate_link_cancel(struct migrate_link *l);

/* Send a record: a payload of A_LEN bytes at A and then B_LEN at B. -ETIMEDOUT, -ECANCELED, -EPIPE ... */
int migrate_send(struct migrate_link *l, enum migrate_type type, const void *a, size_t a_len, const void *b, size_t b_len,
		 struct err *err);
/* The sentence of ERR, for the other side to show. Best effort. */
void migrate_send_fail(struct migrate_link *l, const struct err *err);

struct migrate_record {
	enum migrate_type type;
	const uint8_t *p;               /* BORROWED until the next one */
	size_t len;
};
/* The next record, of one of the types in WANTED (bits). What the peer says with MIGRATE_FAIL becomes ERR, with
 * -EREMOTEIO; -EPIPE: the connection is closed; -EPROTO: nonsense; -ETIMEDOUT; -ECANCELED; -errno. */
int migrate_recv(struct migrate_link *l, unsigned wanted, struct migrate_record *out, struct err *err);
/* Wait up to MS milliseconds: is a record of TYPE, without a payload, the next, and all of it here? Then migrate_recv() does not wait. */
bool migrate_link_has(const struct migrate_link *l, enum migrate_type type, unsigned ms);
/* WHY is how a call has failed. Did the other side say why, before it closed the connection? Then that is WHY. */
void migrate_recv_why(struct migrate_link *l, struct err *why);
#define MIGRATE_BIT(type) (1u << (type))

/* The same with descriptors beside the record (Unix sockets): N of them, of which the receiver owns *N afterwards, also
 * when it fails. FDS has room for MIGRATE_FDS_MAX. */
int migrate_send_fds(struct migrate_link *l, enum migrate_type type, const void *p, size_t len, const int *fds, unsigned n,
		     struct err *err);
int migrate_recv_fds(struct migrate_link *l, unsigned wanted, struct migrate_record *out, int *fds, unsigned *n,
		     struct err *err);

/* HELLO both ways; each gets the other's. LIFE may be NULL. At the destination *LIFE is the reading end of a pipe, whose writing end nobody
 * else has: it goes along, over a Unix socket. At the source *LIFE is what came, owned; -1: nothing did. */
int migrate_hello(struct migrate_link *l, bool is_source, uint64_t ram, uint32_t pid, int *life, struct migrate_hello *theirs,
		  struct err *err);

/* Is the peer a process of this host and of USER (or root)? In a jail nobody can ask who one is: USER is who this process was before. */
bool migrate_peer_is_own(const struct migrate_link *l, uid_t user);

#endif
