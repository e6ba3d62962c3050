/* SPDX-License-Identifier: Apache-2.0 */
/* fetch.h - a file from a web server, which goes on where it was after interruptions of all kinds.
 *
 * What has come is in PATH.part. PATH.from says how much of that is safe (on the disk), which file it is of (its ETag or date: RFC 9110, section
 * 8.8) and from which address; an If-Range request (section 13.1.5) goes on with just that file. Main thread. */
#ifndef CLI_FETCH_H
#define CLI_FETCH_H

#include <stdint.h>

struct err;
struct fetch_guard;
struct progress;

struct fetch_spec {
	const char *url;
	const char *path;               /* the file appears there when it is whole, checked and on the disk */
	const char *checksum;           /* "sha256:0123...", "sha512:..."; NULL: any will do, and the address has to be https:// */
	const char *ca;                 /* PEM file with authorities, besides those of the system's folder; NULL: none */
	struct fetch_guard *guard;
	uint64_t size_max;              /* of the file; 0: any */
	unsigned tries;                 /* without a byte more; 0: as many as one has patience for with a disk */
	struct progress *progress;
};

/* -EINVAL: no such address; -EEXIST: PATH is there; -EACCES: refused by the guard, by the server, or its certificate; -EBADMSG: another checksum, what has
 * come is removed; -EFBIG; -ENOSPC; -EINTR: the same goes on from there, as after most other errors. */
int fetch_file(const struct fetch_spec *s, struct err *err);

#endif
