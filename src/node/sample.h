/* SPDX-License-Identifier: Apache-2.0 */
/* sample.h - what has been measured is written down by another thread, which looks at the storage as well: a disk that is slow or
 * gone holds up nothing but this. Of one history one sample is on its way at a time; those that come meanwhile are left out. Loop thread. */
#ifndef NODE_SAMPLE_H
#define NODE_SAMPLE_H

#include <stdbool.h>
#include "node/history.h"

struct works;
struct node;
struct sample;

/* Embedded in who measures. */
struct sampler {
	struct node *node;
	bool is_file_system;            /* storage is that of a file system, not of one file */
	struct sample *under_way;       /* NULL: none */
	bool is_failing;                /* the last one could not be written */
	double storage;                 /* bytes that are taken; 0: not known yet */
	double share;                   /* of the file system */
};

void sampler_init(struct sampler *s, struct node *n, bool is_file_system);
/* What is on its way is not told any more. */
void sampler_stop(struct sampler *s);
/* Look at what the file (or file system of) STORAGE takes, then, if HISTORY is not NULL, write U of the last SECONDS into that file.
 * Both are copied; STORAGE may be NULL: nothing is taken. WORKS is who waits for its file system; NULL: who writes histories. */
void sampler_take(struct sampler *s, struct works *works, const char *storage, const char *history, double seconds, const struct usage *u);

#endif
