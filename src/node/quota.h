/* SPDX-License-Identifier: Apache-2.0 */
/* quota.h - how much a project may have: instances, processors, memory, disk. What counts is what documents ask for, of
 * instances that are off, too, so what was admitted can also be started.
 *
 * A request that asks for more makes a claim, which counts until its change is durable and the documents count themselves: two
 * requests at once do not get the same room. Loop thread. */
#ifndef NODE_QUOTA_H
#define NODE_QUOTA_H

#include <jansson.h>
#include <stddef.h>
#include "api/schema.h"

struct api_call;
struct err;
struct node;
struct quota_claim;

/* The member 'quota' of a project's spec. */
extern const struct schema quota_schema;

/* May the document KEY, of kind KIND, be DOC instead of OLD (NULL: it is new) in its project? Only what grows is asked for.
 * A claim, if anything is limited, is put before those of *CLAIMS; WHERE gets the path of what is too much. -EDQUOT. */
int quota_claim(struct node *n, const char *key, const char *kind, const json_t *doc, const json_t *old, struct quota_claim **claims,
		char *where, size_t cap, struct err *err);
/* The same of several instances of PROJECT at once: PAIRS is a list of [DOC, OLD]. The sentence names the one that is too much. */
int quota_claim_instances(struct node *n, const char *project, const json_t *pairs, struct quota_claim **claims, struct err *err);
/* All of *CLAIMS, which is NULL then. */
void quota_release_all(struct node *n, struct quota_claim **claims);

/* GET /v1/projects/{project}/usage */
void quota_show_usage(struct api_call *c);

#endif
