/* SPDX-License-Identifier: Apache-2.0 */
/* instance_order.h - who starts first when the node does, and how all end when it ends. Loop thread. */
#ifndef NODE_INSTANCE_ORDER_H
#define NODE_INSTANCE_ORDER_H

#include <stdbool.h>
#include <jansson.h>

struct instance;
struct node;

/* What the document of I says of it now; a step has begun. */
void instance_order_note(struct instance *i, const json_t *doc);
/* May I be started? While the node itself is starting, those with a lower 'start_order' have to run first, or fail, or take too long. */
bool instance_order_may_start(struct instance *i);
/* May it be stopped, with the node? Those with a higher one end first. */
bool instance_order_may_stop(struct instance *i);

/* All machines are shut down, without their documents being changed, and none is started any more. DONE is called when the last
 * has ended. Twice is once. */
void node_drain(struct node *n, void (*done)(void *arg), void *arg);

#endif
