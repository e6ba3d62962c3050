/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_part.h - what there is of a file that is being fetched, and what it is of: PATH.part and PATH.from (see fetch.h). Main thread. */
#ifndef CLI_FETCH_PART_H
#define CLI_FETCH_PART_H

#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"

struct err;

enum { FETCH_TAG_MAX = 256 };

struct fetch_part {
	const char *path, *url;         /* borrowed */
	char *part, *from;              /* names, from malloc() */
	int fd, note;                   /* of them; PART is locked; -1: not open */
	uint64_t at;                    /* bytes that are there */
	uint64_t safe;                  /* and on the disk */
	char tag[FETCH_TAG_MAX];        /* of the file that they are of: what If-Range takes; "": it cannot be continued */
};

/* Open what there is of URL for PATH; what is of something else goes. -EBUSY: another process fetches it. P is for fetch_part_close() in any case. */
int fetch_part_open(struct fetch_part *p, const char *path, const char *url, struct err *err);
/* From the beginning, with a file known by TAG. */
int fetch_part_restart(struct fetch_part *p, const char *tag, struct err *err);
int fetch_part_write(struct fetch_part *p, const char *data, size_t n, struct err *err);
/* What is there is on the disk. */
int fetch_part_sync(struct fetch_part *p, struct err *err);
/* It is whole: it gets its name. -EEXIST: there is one by that name. */
int fetch_part_finish(struct fetch_part *p, struct err *err);
/* It is of no use. */
void fetch_part_discard(struct fetch_part *p);
void fetch_part_close(struct fetch_part *p);

static inline void auto_fetch_part_close(struct fetch_part *p)
{
	fetch_part_close(p);
}

#endif
