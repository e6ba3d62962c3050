/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vcpu.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "util/fatal.h"
#include "util/log.h"
#include "util/prompt.h"

enum vcpu_state {
	VCPU_PAUSED,            /* waits for the controller */
	VCPU_RUNNING,           /* in the engine */
	VCPU_STUCK,             /* shut down or failed: waits, whatever the others do */
	VCPU_ENDED,             /* the thread is about to return */
	VCPU_N_STATES
};

/* What the controller wants of all. */
enum vcpus_want { WANT_PAUSE, WANT_RUN, WANT_END };

static const char *const state_names[] = { "paused", "running", "stuck", "ended" };

/* to[]: bit set of the states that may follow. */
static const uint8_t edges[VCPU_N_STATES] = {
	[VCPU_PAUSED] = 1 << VCPU_RUNNING | 1 << VCPU_ENDED,
	[VCPU_RUNNING] = 1 << VCPU_PAUSED | 1 << VCPU_STUCK | 1 << VCPU_ENDED,
	[VCPU_STUCK] = 1 << VCPU_PAUSED | 1 << VCPU_ENDED,
	[VCPU_ENDED] = 0,
};

struct vcpu_thread {
	struct vcpus *all;
	unsigned n;
	pthread_t thread;
	bool is_started;
	bool has_begun, is_ready, is_prompt;    /* its own */
	enum vcpu_state state;          /* guarded by all->lock */
};

struct vcpus {
	struct vcpus_config cfg;
	pthread_mutex_t lock;           /* guards want and the states */
	pthread_cond_t changed;         /* any of them */
	enum vcpus_want asked;          /* by the controller */
	unsigned rests;                 /* of enum vcpus_rest */
	bool are_ready, are_prompt;     /* they are to be */
	enum vcpus_want want;           /* follows from both */
	struct vcpu_thread t[];
};

static void vcpu_set_state_locked(struct vcpu_thread *t, enum vcpu_state to)
{
	if (t->state == to)
		return;
	assert(edges[t->state] >> to & 1);
	log_debug("vcpu %u: %s -> %s", t->n, state_names[t->state], state_names[to]);
	t->state = to;
	pthread_cond_broadcast(&t->all->changed);
}

/* Before it first enters the engine; the lock is not held. */
static int vcpu_begin(struct vcpu_thread *t, struct err *err)
{
	int r = t->has_begun || !t->all->cfg.begin ? 0 : t->all->cfg.begin(err);

	t->has_begun = r == 0;
	return r;
}

/* The same ahead of time. If it fails it will once more, and then somebody is told. */
static void vcpu_get_ready_locked(struct vcpu_thread *t)
{
	t->is_ready = true;
	pthread_mutex_unlock(&t->all->lock);
	(void)vcpu_begin(t, NULL);
	pthread_mutex_lock(&t->all->lock);
}

/* Wait, in state IN, until the controller wants something else than what KEEPS says. */
static enum vcpus_want vcpu_wait_locked(struct vcpu_thread *t, enum vcpu_state in, enum vcpus_want keeps)
{
	vcpu_set_state_locked(t, in);
	while (t->all->want == keeps) {
		if (t->all->are_ready && !t->is_ready)
			vcpu_get_ready_locked(t);
		else
			pthread_cond_wait(&t->all->changed, &t->all->lock);
	}
	return t->all->want;
}

/* One stay in the engine; the lock is dropped meanwhile. */
static void vcpu_run_locked(struct vcpu_thread *t)
{
	struct vcpus *all = t->all;
	struct err err = ERR_INIT;
	bool is_prompt = all->are_prompt;

	vcpu_set_state_locked(t, VCPU_RUNNING);
	pthread_mutex_unlock(&all->lock);
	if (t->is_prompt != is_prompt)
		thread_be_prompt(is_prompt);
	t->is_prompt = is_prompt;
	enum cpu_exit_reason why = CPU_EXIT_ERROR;
	if (vcpu_begin(t, &err) == 0)
		why = all->cfg.ops->run(all->cfg.ops->vcpu(all->cfg.vm, t->n), &err);
	if (why != CPU_EXIT_KICK)
		all->cfg.stuck(all->cfg.arg, t->n, why, &err);
	pthread_mutex_lock(&all->lock);
	if (why != CPU_EXIT_KICK)
		vcpu_wait_locked(t, VCPU_STUCK, WANT_RUN);
}

static void *vcpu_main(void *arg)
{
	struct vcpu_thread *t = arg;
	struct vcpus *all = t->all;
	void *stack = fatal_stack_new();
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", t->n);
	pthread_setname_np(pthread_self(), name);
	pthread_mutex_lock(&all->lock);
	while (all->want != WANT_END) {
		if (all->want == WANT_PAUSE)
			vcpu_wait_locked(t, VCPU_PAUSED, WANT_PAUSE);
		else
			vcpu_run_locked(t);
	}
	vcpu_set_state_locked(t, VCPU_ENDED);
	pthread_mutex_unlock(&all->lock);
	fatal_stack_free(stack);
	return NULL;
}

int vcpus_new(struct vcpus **out, const struct vcpus_config *cfg, struct err *err)
{
	AUTO(vcpus_free) struct vcpus *v = calloc(1, sizeof(*v) + cfg->n * sizeof(v->t[0]));

	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	v->cfg = *cfg;
	pthread_mutex_init(&v->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&v->changed, &attr);
	pthread_condattr_destroy(&attr);
	for (unsigned i = 0; i < cfg->n; i++) {
		v->t[i] = (struct vcpu_thread){ .all = v, .n = i };
		int r = pthread_create(&v->t[i].thread, NULL, vcpu_main, &v->t[i]);

		if (r)
			return err_set(err, -r, "cannot start the thread of processor %u: %s", i, strerror(r));
		v->t[i].is_started = true;
	}
	*out = take_ptr(&v);
	return 0;
}

static bool vcpus_any_running_locked(const struct vcpus *v)
{
	for (unsigned i = 0; i < v->cfg.n; i++) {
		if (v->t[i].is_started && v->t[i].state == VCPU_RUNNING)
			return true;
	}
	return false;
}

/* Make every thread leave the engine. A kick is remembered by the engine, but one that falls
 * between two stays can be used up by the first, so it is repeated until all have left. */
static void vcpus_leave_engine_locked(struct vcpus *v)
{
	enum { REPEAT_NS = 10 * 1000 * 1000, NS_PER_S = 1000000000 };

	while (vcpus_any_running_locked(v)) {
		struct timespec ts;

		for (unsigned i = 0; i < v->cfg.n; i++) {
			if (v->t[i].state == VCPU_RUNNING)
				v->cfg.ops->kick(v->cfg.ops->vcpu(v->cfg.vm, i));
		}
		clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_nsec += REPEAT_NS;
		ts.tv_sec += ts.tv_nsec / NS_PER_S;
		ts.tv_nsec %= NS_PER_S;
		pthread_cond_timedwait(&v->changed, &v->lock, &ts);
	}
}

static void vcpus_apply_locked(struct vcpus *v)
{
	enum vcpus_want want = v->asked == WANT_RUN && v->rests ? WANT_PAUSE : v->asked;

	v->want = want;
	pthread_cond_broadcast(&v->changed);
	if (want != WANT_RUN)
		vcpus_leave_engine_locked(v);
	/* A stuck one must have seen the pause before it could be told to run again. */
	for (unsigned i = 0; want == WANT_PAUSE && i < v->cfg.n; i++) {
		while (v->t[i].is_started && v->t[i].state != VCPU_PAUSED)
			pthread_cond_wait(&v->changed, &v->lock);
	}
}

static void vcpus_set_want(struct vcpus *v, enum vcpus_want want)
{
	pthread_mutex_lock(&v->lock);
	v->asked = want;
	vcpus_apply_locked(v);
	pthread_mutex_unlock(&v->lock);
}

void vcpus_rest(struct vcpus *v, enum vcpus_rest why, bool on)
{
	pthread_mutex_lock(&v->lock);
	v->rests = on ? v->rests | why : v->rests & ~(unsigned)why;
	vcpus_apply_locked(v);
	pthread_mutex_unlock(&v->lock);
}

void vcpus_get_ready(struct vcpus *v)
{
	pthread_mutex_lock(&v->lock);
	v->are_ready = true;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

void vcpus_be_prompt(struct vcpus *v, bool on)
{
	pthread_mutex_lock(&v->lock);
	v->are_prompt = on;
	for (unsigned i = 0; i < v->cfg.n; i++) {       /* it looks when it enters the engine again */
		if (v->t[i].state == VCPU_RUNNING)
			v->cfg.ops->kick(v->cfg.ops->vcpu(v->cfg.vm, i));
	}
	pthread_mutex_unlock(&v->lock);
}

uint64_t vcpus_cpu_ns(const struct vcpus *v)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < v->cfg.n; i++) {
		struct timespec ts;
		clockid_t clock;

		if (v->t[i].is_started && !pthread_getcpuclockid(v->t[i].thread, &clock) && !clock_gettime(clock, &ts))
			sum += (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	}
	return sum;
}

void vcpus_pause(struct vcpus *v)
{
	vcpus_set_want(v, WANT_PAUSE);
}

void vcpus_resume(struct vcpus *v)
{
	vcpus_set_want(v, WANT_RUN);
}

void vcpus_free(struct vcpus *v)
{
	if (!v)
		return;
	vcpus_set_want(v, WANT_END);
	for (unsigned i = 0; i < v->cfg.n; i++) {
		if (v->t[i].is_started)
			pthread_join(v->t[i].thread, NULL);
	}
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
	free(v);
}
