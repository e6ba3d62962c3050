/* SPDX-License-Identifier: Apache-2.0 */
/* volume_measure.h - how much room volumes take in a pool, looked at once a minute by its threads. Loop thread. */
#ifndef NODE_VOLUME_MEASURE_H
#define NODE_VOLUME_MEASURE_H

#include "node/pool.h"

enum { VOLUME_MEASURE_S = 60 };

/* Look at those in the pool NAME, which is at REF; their statuses tell. One look at a time is the caller's business: DONE(ARG), unless NULL,
 * comes when it is over. -ENOMEM, -ECANCELED: it has not begun, and DONE does not come. */
int volumes_measure(struct node *n, const char *name, const struct pool_ref *ref, void (*done)(void *arg), void *arg);

#endif
