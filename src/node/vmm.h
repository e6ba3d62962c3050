/* SPDX-License-Identifier: Apache-2.0 */
/* vmm.h - the daemon's end of a machine's control socket (docs/api/control.md). Nothing here waits. Loop thread. */
#ifndef NODE_VMM_H
#define NODE_VMM_H

#include <jansson.h>
#include "util/cleanup.h"
#include "util/err.h"

struct loop;
struct vmm;

struct vmm_ops {
	/* "started", "stopped", ... with EVENT as it came. */
	void (*event)(void *arg, const char *name, const json_t *event);
	/* The connection is gone; every request that waited has been answered with -ECONNRESET. The last call but
	 * those of vmm_close(), which is the owner's to make. */
	void (*gone)(void *arg);
};

/* Connect to PATH and ask for events. -ENOENT, -ECONNREFUSED: nobody listens there (yet). */
int vmm_open(struct vmm **out, struct loop *l, const char *path, const struct vmm_ops *ops, void *arg, struct err *err);
/* Requests that wait are answered with -ECANCELED. NULL is fine. */
void vmm_close(struct vmm *v);
DEFINE_AUTO(struct vmm *, vmm_close)

/* R: 0 with RESULT (borrowed), or negative with its sentence in ERR. May call vmm_close(). */
typedef void (*vmm_reply_fn)(void *arg, int r, const json_t *result, const struct err *err);

/* Send REQUEST with PARAMS (taken, NULL: none). REPLY (NULL: nobody asks) is always called, later. */
void vmm_request(struct vmm *v, const char *request, json_t *params, vmm_reply_fn reply, void *arg);

/* The negative errno that CODE names ("EBUSY"), as answers do; -EIO: none. Any thread. */
int vmm_errno(const char *code);

#endif
