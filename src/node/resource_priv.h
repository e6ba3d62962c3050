/* SPDX-License-Identifier: Apache-2.0 */
/* resource_priv.h - what resource.c and list.c share. */
#ifndef NODE_RESOURCE_PRIV_H
#define NODE_RESOURCE_PRIV_H

#include "node/resource.h"

enum { RESOURCE_SPACE_LEN = 2 * API_PARAM_LEN };

/* The kind that C's route is about: the last one that its path names. */
const struct resource *resource_of(const struct api_call *c);
/* What stands between kind and name in the keys of what C is about; BUF may be used for it. */
const char *resource_space_of(const struct api_call *c, const struct resource *r, char buf[RESOURCE_SPACE_LEN]);
/* May those be in keys? -EINVAL. */
int resource_check_space(const struct api_call *c, const struct resource *r, struct err *err);

#endif
