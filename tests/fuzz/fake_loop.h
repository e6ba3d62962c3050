/* SPDX-License-Identifier: Apache-2.0 */
/* fake_loop.h - stands in the place of util/loop.c: timers and calls on a clock that the target
 * moves by hand, without a system call; descriptors are looked at once a round, without waiting. */
#ifndef TESTS_FUZZ_FAKE_LOOP_H
#define TESTS_FUZZ_FAKE_LOOP_H

#include <stdint.h>

/* The clock of loop_now_ns(). */
void fake_loop_reset(void);
void fake_loop_advance(uint64_t ns);

#endif
