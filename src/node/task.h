/* SPDX-License-Identifier: Apache-2.0 */
/* task.h - what takes long and has an end: a document that tells how far it is and how it went.
 *
 * A request that begins such a thing answers with the task's document (202). The task goes on when the client leaves, and
 * after a restart of the daemon it is begun again; so an operation must be one that may be repeated. It waits until it
 * can begin (prepare), works on another thread (run), and ends (finish). Loop thread, but for run(). */
#ifndef NODE_TASK_H
#define NODE_TASK_H

#include <stdatomic.h>
#include "api/route.h"
#include "node/controller.h"
#include "util/err.h"

struct task;
struct works;

enum {
	TASKS_MAX = 500,                /* kept; then the oldest that have ended are forgotten */
	TASK_LOG_LINES = 50,            /* kept of one */
};

struct task_op {
	const char *operation;          /* "cloneInstance": the route's */
	/* Can it begin? 1: yes; 0: not yet, ask again soon; negative: never, with the sentence. It is asked again after a 0. */
	int (*prepare)(struct task *t, const json_t *params, struct err *err);
	/* The work, on another thread. T belongs to it but for what is atomic. -ECANCELED when T->stop is set. -EAGAIN: prepare anew. */
	int (*run)(struct task *t, struct err *err);
	/* The work has ended well: what there is to be told, as a new reference. May be NULL. 1: it goes on until task_over(). */
	int (*finish)(struct task *t, const json_t *params, json_t **result, struct err *err);
	/* It has not ended well, or somebody does not want it any more: what it, or an attempt before a crash, may have left, for tidy(),
	 * from malloc(). NULL: nothing. May be NULL. */
	void *(*leftover)(struct task *t, const json_t *params);
	/* Take that away, on another thread; LEFT is freed afterwards. */
	int (*tidy)(void *left, struct err *err);
	/* It has ended in any way, and that is durable. Frees DATA. */
	void (*release)(struct task *t);
	bool is_careful;                /* also one that is cancelled before it begins, or deleted, runs (with T->stop set), to tidy up */
};

struct task {
	struct controlled c;            /* first */
	const struct task_op *op;
	void *data;                     /* the operation's own, from prepare() to release() */
	atomic_bool stop;               /* somebody wants it to end */
	atomic_ullong done, total;      /* bytes, or whatever it counts; TOTAL 0: unknown */
	json_t *log, *result;
	struct works *works;            /* who runs it, as prepare() says; NULL: the node's */
	bool is_running, is_ended, is_released;
	bool is_removing;               /* what it has left */
	void *left;
	struct err err;                 /* why that is, and the code of it */
	int code;
};

/* Begin the operation of C's route with PARAMS (taken), in the project of C, and answer with the task. */
void task_begin(struct api_call *c, json_t *params);
/* The end of one whose finish() has returned 1: R, and with a negative one the sentence. */
void task_over(struct task *t, int r, const struct err *err);
/* The same of nobody's request: by the daemon itself. */
int task_begin_own(struct node *n, const char *operation, const char *project, json_t *params);
/* Is there one that has not ended whose MEMBER of the params, or of one of their 'volumes', is TEXT? NAME gets its name. */
bool task_is_there(struct node *n, const char *project, const char *member, const char *text, char name[DOC_NAME_MAX + 1]);
/* For its worker, as files_copy() has it: ARG is the task, of which DONE of TOTAL is done. False: nobody wants it any more, or the daemon ends. */
bool task_tell(void *arg, uint64_t done, uint64_t total);
/* A line of its log. */
void task_say(struct task *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

extern const struct schema task_schema;
extern const struct controller_kind task_kind;
/* Ends with NULL. (task_ops.c) */
extern const struct task_op *const task_ops[];

void task_cancel(struct api_call *c);           /* POST /v1/tasks/{name}/cancel */

#endif
