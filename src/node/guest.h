/* SPDX-License-Identifier: Apache-2.0 */
/* guest.h - what is asked of the system inside an instance, by its guest agent. Loop thread. */
#ifndef NODE_GUEST_H
#define NODE_GUEST_H

#include "api/schema.h"

struct api_call;

extern const struct schema guest_exec_schema, guest_write_schema;

/* GET /v1/instances/{name}/guest: which system it is, and its addresses. */
void guest_show(struct api_call *c);
/* POST /v1/instances/{name}/exec: run a program, wait for its end. */
void guest_exec(struct api_call *c);
/* GET and POST /v1/instances/{name}/file: a piece of a file. */
void guest_read(struct api_call *c);
void guest_write(struct api_call *c);

#endif
