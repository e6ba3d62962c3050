/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h - what the node counts, for Prometheus and its like: GET /v1/metrics in the text format, version 0.0.4.
 * Loop thread. */
#ifndef NODE_METRICS_H
#define NODE_METRICS_H

struct api_call;
struct node;

/* A request is about to be answered with STATUS. */
void metrics_count(struct node *n, int status);
void metrics_show(struct api_call *c);

#endif
