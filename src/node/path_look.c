/* SPDX-License-Identifier: Apache-2.0 */
#include "node/path_look.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "node/node.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

struct look {
	char *path;
	path_look_fn look;
	void (*done)(void *arg, int r, const struct err *err);          /* NULL: it has been called */
	void *arg;
	struct loop_timer late;
};

static void look_free(struct look *l)
{
	loop_timer_cancel(&l->late);
	free(l->path);
	free(l);
}

static void tell(struct look *l, int r, const struct err *err)
{
	void (*done)(void *arg, int r, const struct err *err) = l->done;

	l->done = NULL;
	if (done)
		done(l->arg, r, err);
}

/* The thread goes on waiting; what it finds then is nobody's concern. */
static void late(struct loop_timer *t)
{
	struct look *l = container_of(t, struct look, late);
	struct err err = ERR_INIT;

	err_set(&err, -ETIMEDOUT, "the file system of '%s' has not answered for %d s; is the server there that it comes from?", l->path,
		PATH_LOOK_MS / 1000);
	tell(l, -ETIMEDOUT, &err);
}

static int run(void *arg, struct err *err)
{
	const struct look *l = arg;

	return l->look(l->path, err);
}

static void looked(void *arg, int r, const struct err *err)
{
	tell(arg, r, err);
	look_free(arg);
}

int path_look(struct node *n, const char *path, path_look_fn look, void (*done)(void *arg, int r, const struct err *err), void *arg,
	      struct err *err)
{
	struct look *l = calloc(1, sizeof(*l));

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	loop_timer_init(n->loop, &l->late, late);
	l->path = strdup(path);
	l->look = look;
	l->done = done;
	l->arg = arg;
	if (!l->path || work_start(n->lookers, run, looked, l) < 0) {
		look_free(l);
		return err_set(err, -ENOMEM, "out of memory");
	}
	loop_timer_set(&l->late, loop_now_ns() + PATH_LOOK_MS * 1000000ull);
	return 0;
}
