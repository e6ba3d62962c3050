/* SPDX-License-Identifier: Apache-2.0 */
/* why.h - why an instance is as it is, in sentences made of what is recorded and measured. Loop thread. */
#ifndef NODE_WHY_H
#define NODE_WHY_H

struct api_call;

/* GET /v1/instances/{name}/why: {"name", "state", "facts": [{"about": "state", "text": "..."}, ...]}. */
void instance_why(struct api_call *c);

#endif
