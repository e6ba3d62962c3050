/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h - TLS 1.3 (RFC 8446) with certificates at both sides, for a process that does nothing else: it carries bytes between a
 * connection and a socket of this host. Each side shows a certificate that the other's authority has signed; the side that connects
 * also looks at the name in it. */
#ifndef VM_TLS_H
#define VM_TLS_H

#include "util/cleanup.h"

struct err;
struct tls;
struct tls_conn;

/* FOLDER has ca.pem (whose signature counts), cert.pem (ours, with what leads to an authority) and key.pem. */
int tls_open(struct tls **out, const char *folder, struct err *err);
void tls_close(struct tls *t);
DEFINE_AUTO(struct tls *, tls_close)

/* Greet who is at the other end of FD (borrowed, non-blocking from now on). PEER: we have connected, and this name or address
 * must be in its certificate; NULL: it has connected to us. -EACCES: it is not who it should be, or thinks that of us;
 * -ETIMEDOUT. */
int tls_greet(struct tls_conn **out, const struct tls *t, int fd, const char *peer, struct err *err);
/* Carry bytes between the connection C and the stream socket PLAIN (borrowed, non-blocking from now on), until both have nothing to
 * say any more or one breaks. */
void tls_carry(struct tls_conn *c, int plain);
void tls_conn_free(struct tls_conn *c);         /* the descriptor stays open */
DEFINE_AUTO(struct tls_conn *, tls_conn_free)

#endif
