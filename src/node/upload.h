/* SPDX-License-Identifier: Apache-2.0 */
/* upload.h - images and volumes whose content a client sends: in parts, after interruptions, and restarts of the daemon.
 *
 * What has come is in the file "upload" of a directory of the owner's, in the pool where the result will be. The status tells how
 * much of it is safe (on the disk), and that is where it goes on: what the file has beyond that is cut off. A part is answered when
 * its end is safe, and the store knows. When nothing has come for a while, the document is taken away.
 *
 * Loop thread. The bytes come by a thread of the body's own (api/http.h), which waits for the disk. */
#ifndef NODE_UPLOAD_H
#define NODE_UPLOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "api/schema.h"
#include "node/doc.h"

struct api_call;
struct controlled;
struct err;
struct node;
struct upload_stream;

enum {
	UPLOAD_STREAMS_MAX = 16,        /* at once, on the node */
	UPLOAD_KEEP_S = 24 * 3600,      /* without a byte, unless it is said */
	UPLOAD_KERNEL_UNIT = 512,       /* where archives may begin */
	UPLOAD_NOTE_MS = 1000,          /* between two changes of the status while bytes come */
};

#define UPLOAD_FILE "upload"

/* The member 'upload' of a source. */
extern const struct schema upload_schema;
/* What a part of one is answered with. */
extern const struct schema upload_answer_schema;
/* That as it stands in a spec; NULL: nobody sends it. */
const json_t *upload_of(const json_t *spec);
/* Is FORMAT (NULL: any) one that disks have? -EINVAL. */
int upload_check_format(const char *format, struct err *err);
/* May SPEC's upload be, to the pool POOL? True of a spec that has none. WHERE gets the field. -EINVAL, -ENOSPC. */
int upload_check(struct node *n, const json_t *spec, const char *pool, char *where, size_t cap, struct err *err);

/* Embedded in its owner's struct, behind the struct controlled. */
struct upload {
	struct controlled *c;           /* the owner's; borrowed */
	uint64_t size;                  /* of what is sent; 0: nothing is */
	uint64_t received;              /* safe */
	uint64_t until_ns;              /* of the monotonic clock: then it goes, if nothing comes */
	json_int_t keep_s;
	bool is_told;                   /* the status says when it goes, as this daemon sees it */
	bool is_refused;                /* what came was of no use, and the state says why: */
	int64_t refused_at;             /* while the document was at this revision; 0: of any */
	bool is_over;                   /* it has become what it was sent for */
	struct upload_stream *stream;   /* somebody sends; NULL: nobody */
};

/* SPEC is the owner's; STATUS what was last known, or NULL. */
void upload_init(struct upload *u, struct controlled *c, const json_t *spec, const json_t *status);
/* A step of the owner, whose document is at REVISION, while it has not become anything. True: the content is all there. CHECK_DELETE
 * says whether the owner may go when it has expired. */
bool upload_step(struct upload *u, int64_t revision, int (*check_delete)(struct node *n, const json_t *doc, struct err *err));
/* What has come is of no use as it is, and the owner's state says why: it may be sent anew, from the start, or the document changed. */
void upload_refuse(struct upload *u);
/* The owner goes: nobody shall send any more. True: nobody does. */
bool upload_stop(struct upload *u);
void upload_add_status(const struct upload *u, json_t *status);

/* Where a client's bytes go. */
struct upload_place {
	struct upload *upload;
	char pool[DOC_NAME_MAX + 1], pool_uid[DOC_UID_LEN + 1];
	char pool_path[STORE_KEY_MAX];
	char dir[STORE_KEY_MAX + 64];   /* made if it is not there */
};
/* The body of C to P. Answers. */
void upload_receive(struct api_call *c, const struct upload_place *p);

/* --- between upload.c and upload_receive.c */

/* What the client has sent, all of it safe or not. */
uint64_t upload_stream_sent(const struct upload_stream *s);
uint64_t upload_stream_safe(const struct upload_stream *s);
bool upload_stream_is_over(const struct upload_stream *s);
void upload_stream_stop(struct upload_stream *s);
/* Answer, and free. */
void upload_stream_answer(struct upload_stream *s);

#endif
