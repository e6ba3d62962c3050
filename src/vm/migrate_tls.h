/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_tls.h - migrations through TLS. It is spoken by a process of its own, in the jail, at each side: so neither the key nor the
 * library is where a guest is. What that process is given and gives are plain stream sockets of this host. */
#ifndef VM_MIGRATE_TLS_H
#define VM_MIGRATE_TLS_H

#include <stdbool.h>
#include <sys/types.h>
#include "vm/migrate_format.h"

struct err;

struct migrate_tls {
	const char *folder;             /* of certificates and key: see tls.h */
	const char *peer;               /* what the certificate at the other side must name; NULL at the side that listens */
	bool has_jail;
};

/* FD are N connections (at most MIGRATE_STREAMS_MAX). Each is replaced by a socket to the new process, which has greeted
 * the other side over all of them and carries bytes until they end. */
int migrate_tls_connect(int *fd, unsigned n, const struct migrate_tls *t, struct err *err);
/* LISTENER (taken on success) is replaced by a socket from which migrate_accept() takes connections that have been greeted. *HELPER is the
 * number of the process that does so. */
int migrate_tls_listen(int *listener, const struct migrate_tls *t, pid_t *helper, struct err *err);

#endif
