/* SPDX-License-Identifier: Apache-2.0 */
/* resource_priv.h - what resource.c, resource_change.c, list.c and kinds with changes of their own share. */
#ifndef NODE_RESOURCE_PRIV_H
#define NODE_RESOURCE_PRIV_H

#include "node/ops.h"
#include "node/quota.h"
#include "node/resource.h"

enum { RESOURCE_SPACE_LEN = 2 * API_PARAM_LEN };

/* A change on its way to the disk. */
struct resource_change {
	struct api_call *c;
	const struct resource *r;
	char key[STORE_KEY_MAX + 1];
	int status;                     /* of the answer when it is done */
	unsigned tries;
	struct node *node;              /* C may have gone when this ends */
	struct quota_claim *claims;     /* what it asks for, until documents say so */
	struct ops ops;                 /* the commit: first its own document */
	json_t *plan;                   /* what else would be changed, for a dry run; NULL: nothing */
	bool is_new, is_delete;
	void (*again)(struct resource_change *ch);      /* somebody else was quicker: the same from the start */
};

/* What the schema of R has by default goes into DOC, which is checked by that as a whole. */
int resource_fill_in(const struct resource *r, json_t *doc, char *where, size_t cap, struct err *err);

/* The kind that C's route is about: the last one that its path names. */
const struct resource *resource_of(const struct api_call *c);
/* What stands between kind and name in the keys of what C is about; BUF may be used for it. */
const char *resource_space_of(const struct api_call *c, const struct resource *r, char buf[RESOURCE_SPACE_LEN]);
/* Has D the labels that SELECTOR ("a=b,c=d", "a" for any value) asks for? */
bool resource_is_selected(const struct store_doc *d, const char *selector);
/* May those be in keys? -EINVAL. */
int resource_check_space(const struct api_call *c, const struct resource *r, struct err *err);

#endif
