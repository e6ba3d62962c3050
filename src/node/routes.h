/* SPDX-License-Identifier: Apache-2.0 */
/* routes.h - the table of all that the API offers. */
#ifndef NODE_ROUTES_H
#define NODE_ROUTES_H

#include "api/route.h"

/* Ends with a NULL path. */
extern const struct route node_routes[];

/* As it is served, but for who is asked. */
extern const struct api_config node_api;

/* What this node is and has; the OpenAPI document. */
void node_show(struct api_call *c);
void node_show_openapi(struct api_call *c);

#endif
