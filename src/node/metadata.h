/* SPDX-License-Identifier: Apache-2.0 */
/* metadata.h - what a machine asks at http://169.254.169.254 about itself, as in EC2: the requests, the tokens of the second
 * version of that service (IMDSv2), and the tree of answers. Who asks is decided elsewhere, by the address that a request comes
 * from: see network_metadata.c. Pure functions; any thread.
 *
 * Guests are hostile, and so may be who makes one of them ask: nothing here depends on the length of a request but the time to
 * read it once. */
#ifndef NODE_METADATA_H
#define NODE_METADATA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "node/doc.h"
#include "node/port.h"
#include "node/subnet.h"

#define METADATA_ADDRESS "169.254.169.254"

enum {
	METADATA_PORT = 254,            /* of the node's address on the bridge; only root may listen there */
	METADATA_HEAD_MAX = 4096,       /* bytes of a request */
	METADATA_PATH_MAX = 255,
	METADATA_KEY_LEN = 32,
	METADATA_TOKEN_LEN = 80,
	METADATA_TTL_MAX = 21600,       /* seconds that a token holds */
};

/* --- metadata_request.c ---------------------------------------------------- */

enum metadata_method { METADATA_GET, METADATA_HEAD, METADATA_PUT, METADATA_OTHER };

struct metadata_request {
	enum metadata_method method;
	char path[METADATA_PATH_MAX + 1];       /* begins with '/', without what is behind '?' */
	bool has_token, has_ttl, is_forwarded;
	char token[METADATA_TOKEN_LEN + 1];     /* "": none that could be one of ours */
	unsigned ttl;                           /* seconds; 0: no number that may be */
};

/* Read the head of a request (RFC 9112) of which LEN bytes have come; a body is not looked at. 1: it is in RQ; 0: more must
 * come; else the status of HTTP to refuse it with, negated. */
int metadata_parse(struct metadata_request *rq, const char *head, size_t len);

/* A token that the instance UID can use until EXPIRES (of loop_now_ns()). */
void metadata_token(char token[METADATA_TOKEN_LEN + 1], const uint8_t key[METADATA_KEY_LEN], const char *uid, uint64_t expires);
bool metadata_token_holds(const char *token, const uint8_t key[METADATA_KEY_LEN], const char *uid, uint64_t now);

/* --- metadata_tree.c ---------------------------------------------------- */

/* One interface of the machine. */
struct metadata_port {
	unsigned index;
	char mac[PORT_MAC_LEN + 1], domain[DOC_NAME_MAX + 1];
	char four[SUBNET_TEXT_LEN], six[SUBNET_TEXT_LEN];               /* "": none */
	char subnet[SUBNET_TEXT_LEN], subnet6[SUBNET_TEXT_LEN];
};

/* A machine. All is borrowed. */
struct metadata_about {
	const char *uid, *name, *project, *created;
	const json_t *spec;
	const struct metadata_port *ports;
	size_t n_ports, here;           /* HERE: by which of them it asks */
};

/* What stands at PATH, from malloc(), LEN bytes and a NUL. -ENOENT: nothing; -ENOMEM. */
int metadata_get(const struct metadata_about *a, const char *path, char **out, size_t *len);

#endif
