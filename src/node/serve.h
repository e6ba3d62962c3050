/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - where the daemon can be reached: its Unix socket, and addresses with TLS. Loop thread. */
#ifndef NODE_SERVE_H
#define NODE_SERVE_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct node;
struct node_config;

/* Begin to serve N's API at RUN/api.sock and all that C says. */
int serve_open(struct node *n, const struct node_config *c, struct err *err);
/* The URL of the I-th address with TLS, with the port that it has got. NULL: there are fewer. */
const char *serve_url(const struct node *n, unsigned i, char *buf, size_t cap);

/* "https://10.0.0.1:8443", "https://[::1]:8443", or with '*' for an address, into ADDRESS ("": all) and PORT (8443 unless given).
 * -EINVAL. */
int serve_parse(const char *url, char *address, size_t cap, uint16_t *port, struct err *err);

#endif
