/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_guard.h - which addresses a file may be fetched from. Who may name a file to a daemon could else have it ask what only that can
 * reach: itself, its neighbours, the metadata service of a cloud. The question is asked of each connection, behind the names: what a
 * name means, or where a server sends one, changes nothing. Any thread. */
#ifndef CLI_FETCH_GUARD_H
#define CLI_FETCH_GUARD_H

#include <stdbool.h>
#include <sys/socket.h>
#include "node/subnet.h"

struct err;

enum { FETCH_ALLOWED_MAX = 16 };

struct fetch_guard {
	bool is_public_only;            /* else all are fine */
	struct subnet allowed[FETCH_ALLOWED_MAX];       /* these all the same */
	unsigned n_allowed;
	char refused[SUBNET_TEXT_LEN];  /* the last one that was */
};

/* -EINVAL: NET is none, or there are too many. */
int fetch_guard_allow(struct fetch_guard *g, const char *net, struct err *err);
/* May one connect to SA? With is_public_only: if it is allowed, or is an address of the Internet (IANA's registries of special-purpose addresses,
 * RFC 6890) and not one of this host's. */
bool fetch_guard_admits(struct fetch_guard *g, const struct sockaddr *sa);

#endif
