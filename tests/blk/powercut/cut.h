/* SPDX-License-Identifier: Apache-2.0 */
/* cut.h - what the files are after a power cut, and whether that is allowed. */
#ifndef POWERCUT_CUT_H
#define POWERCUT_CUT_H

#include "guest.h"
#include "recorder.h"

/* What was done to a file before this time is in it when the power goes at a cut. */
struct durable { uint64_t at[FILES + 1]; };

/* What becomes of the pieces that may or may not be in the file. */
enum mood { ALL, NONE, SOME, TORN, BUT_ONE, ONE, SUBSET };
struct outcome {
	enum mood mood;
	uint64_t which;                 /* BUT_ONE, ONE: number of the piece; SUBSET: a bit for each */
};

void cut_durable(uint64_t cut, struct durable *d);
/* Done to a file by the cut, and maybe not in it. */
bool event_is_open(const struct event *e, uint64_t cut, const struct durable *d);
/* The files of the image as they are after a cut at time CUT, in g->cut_folder. */
void cut_make(struct guest *g, uint64_t cut, const struct outcome *o);
/* The image there opens, passes a check, holds what it may hold, and goes on working (verify.c). */
void cut_verify(struct guest *g, uint64_t cut);

/* Cut at g->cuts moments; at all moments (moments.c). */
void cut_anywhere(struct guest *g);
void cut_everywhere(struct guest *g);

#endif
