/* SPDX-License-Identifier: Apache-2.0 */
/* frames.h - messages over a Unix stream socket, with descriptors beside them.
 *
 * A message is a little-endian u32 length and that many bytes. Descriptors (SCM_RIGHTS) travel
 * with the first bytes of the message that they belong to. The peer is hostile: lengths,
 * descriptors and what waits to be written have bounds, and nothing here blocks. One thread. */
#ifndef UTIL_FRAMES_H
#define UTIL_FRAMES_H

#include <stddef.h>
#include <stdint.h>

enum { FRAMES_FDS_MAX = 24 };           /* descriptors that may wait for their message */

struct frames {
	int fd;                         /* non-blocking, borrowed */
	size_t in_max, out_max;         /* longest message that is read; bytes that may wait to be written */
	uint8_t *in;                    /* in_max + 4 bytes */
	size_t in_len, in_taken;        /* bytes in it; those of messages that have been handed out */
	struct {
		int fd;
		size_t at;              /* the byte in IN that it came with */
	} fds[FRAMES_FDS_MAX];
	unsigned n_fds;
	uint8_t *out;
	size_t out_pos, out_len, out_cap;
};

/* -ENOMEM. */
int frames_init(struct frames *f, int fd, size_t in_max, size_t out_max);
void frames_fini(struct frames *f);     /* closes descriptors that nobody has taken; zeroed is fine */

/* Read what is there. 1: something came; 0: nothing now; -EPIPE: the peer has closed; -EMFILE: too
 * many descriptors; -errno. Messages handed out before are gone. */
int frames_read(struct frames *f);
/* The next whole message, valid until frames_read(). 1; 0: not there yet; -EMSGSIZE: longer than in_max.
 * FDS (FRAMES_FDS_MAX) and *N_FDS: its descriptors, the caller's from now on. */
int frames_next(struct frames *f, const uint8_t **msg, size_t *len, int *fds, unsigned *n_fds);

/* Queue a message. -ENOBUFS when more than out_max would wait; -ENOMEM. */
int frames_queue(struct frames *f, const void *msg, size_t len);
/* Write what the socket takes. 1: nothing waits any more; 0: something does; -errno. */
int frames_flush(struct frames *f);

/* For a client with a blocking socket: send a message with N descriptors; 0 or -errno. */
int frames_send(int fd, const void *msg, size_t len, const int *fds, unsigned n);
/* The next message, to be freed, with a NUL after it. 1; 0: the peer has closed; -EMSGSIZE: longer than MAX. */
int frames_receive(int fd, size_t max, char **msg, size_t *len);

#endif
