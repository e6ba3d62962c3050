/* SPDX-License-Identifier: Apache-2.0 */
/* download.h - images that come from web servers: by `viv disk fetch`, a process of its own as import.h has them. What has come is in the image's
 * directory: "fetched.part", until it is whole and has the checksum that it shall have: "fetched", until it is converted: "upload",
 * as if a client had sent it. Loop thread. */
#ifndef NODE_DOWNLOAD_H
#define NODE_DOWNLOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "api/schema.h"

struct err;
struct import;
struct node;
struct node_config;

/* The member 'download' of a source. */
extern const struct schema download_schema;
/* That as it stands in a spec; NULL: there is none. */
const json_t *download_of(const json_t *spec);
/* May SPEC's download be? True of a spec that has none. WHERE gets the field. -EINVAL, -ENOSPC. */
int download_check(struct node *n, const json_t *spec, char *where, size_t cap, struct err *err);

/* What C says of servers to N, or -EINVAL. */
int download_config(struct node *n, const struct node_config *c, struct err *err);
void download_forget(struct node *n);

/* Has one for IM ended well? */
bool download_is_whole(const struct import *im);
/* Is what SPEC describes fetched, by its 'download' or from a 'catalogue'? */
bool download_is_wanted(const json_t *spec);
/* Begin what SPEC says, or go on, or, when it is whole, see to it that it lies where it is converted from: 1. */
int download_start(struct import *im, struct node *n, const json_t *spec, struct err *err);

/* --- what 'viv disk fetch' and its like are told */

enum { DOWNLOAD_ARGS_MAX = 40 };

/* The words of a command line; each its own, from malloc(). */
struct words {
	char *at[DOWNLOAD_ARGS_MAX + 1];
	unsigned n;
	bool is_short;                  /* of memory */
};
/* "viv disk VERB", and which servers may be asked. */
void words_begin(struct words *w, const struct node *n, const char *verb);
void words_add(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void words_free(struct words *w);

#endif
