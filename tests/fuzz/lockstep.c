/* SPDX-License-Identifier: Apache-2.0 */
/* The translator and the interpreter over any bytes as guest code (x86_guest.h), in lockstep: they must not differ.
 * A thread kicks now and then, because a guest may halt for good. */
#include <pthread.h>
#include <unistd.h>
#include "cpu/bt/lockstep.h"
#include "util/err.h"

#define GUEST_ENGINE cpu_lockstep
#define GUEST_FEATURES x86_features_bt
#include "x86_guest.h"

enum { ROUNDS = 40, STEPS = 4, KICK_US = 20000 };

static void *kick_for_ever(void *arg)
{
	for (;;) {
		usleep(KICK_US);
		cpu_lockstep.kick(g.v);
	}
	return arg;
}

static void start_kicking(void)
{
	static bool has_started;
	pthread_t t;

	if (!has_started)
		FUZZ_CHECK(pthread_create(&t, NULL, kick_for_ever, NULL) == 0);
	has_started = true;
}

/* The machine lives as long as the process, in memory that the leak detector does not look at. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	guest_load(data, len);
	start_kicking();
	for (unsigned n = 0; n < ROUNDS && g.c->s.mp_state == X86_MP_RUNNABLE; n++) {
		struct err err = ERR_INIT;

		disturb();
		enum cpu_exit_reason r = lockstep_run_some(g.v, STEPS, &err);

		if (r == CPU_EXIT_ERROR)
			fprintf(stderr, "%s\n", err.msg);
		FUZZ_CHECK(r != CPU_EXIT_ERROR);
		if (r == CPU_EXIT_SHUTDOWN)
			break;
	}
	return 0;
}
