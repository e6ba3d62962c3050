/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/migrate_step.h"

#include <errno.h>
#include "util/loop.h"

void migrate_steps_init(struct migrate_steps *s, struct loop *loop)
{
	*s = (struct migrate_steps){ .loop = loop };
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
}

void migrate_steps_fini(struct migrate_steps *s)
{
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
}

static void step_run(void *arg)
{
	struct migrate_steps *s = arg;

	pthread_mutex_lock(&s->lock);
	bool is_over = s->is_over;
	pthread_mutex_unlock(&s->lock);
	if (!is_over)
		s->fn(s->arg);
}

int migrate_step(struct migrate_steps *s, void (*fn)(void *arg), void *arg, struct err *err)
{
	struct err why = ERR_INIT;

	pthread_mutex_lock(&s->lock);
	s->is_done = s->is_over;
	s->err = (struct err)ERR_INIT;
	s->fn = fn;
	s->arg = arg;
	if (!s->is_over && loop_call(s->loop, step_run, s) < 0) {
		err_set(&s->err, -ENOMEM, "out of memory");
		s->is_done = true;
	}
	while (!s->is_done && !s->is_over)
		pthread_cond_wait(&s->changed, &s->lock);
	if (!s->is_done || s->is_over)
		err_set(&s->err, -ECANCELED, "the machine has ended");
	why = s->err;
	pthread_mutex_unlock(&s->lock);
	return why.code ? err_set(err, why.code, "%s", why.msg) : 0;
}

void migrate_step_done(struct migrate_steps *s, const struct err *err)
{
	pthread_mutex_lock(&s->lock);
	if (err)
		s->err = *err;
	s->is_done = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

void migrate_steps_end(struct migrate_steps *s)
{
	pthread_mutex_lock(&s->lock);
	s->is_over = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}
