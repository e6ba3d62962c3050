/* SPDX-License-Identifier: Apache-2.0 */
/* test.h - unit tests: each case runs in its own process with a timeout.
 *
 *	TEST(name_is_a_sentence) { CHECK_EQ(1 + 1, 2); }
 *
 * A program is one or more files of TEST()s linked with test.c, which has main(): no argument
 * runs all and prints TAP; `--list`; `NAME...` runs those in this order. A case fails when a
 * CHECK does not hold, it dies of a signal or takes longer than its time (10 s, or
 * VIV_TEST_TIMEOUT seconds; TEST_SLOW: 6 times that). SKIP("reason") ends a case that this
 * host cannot run; the reason is shown. */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct test_case {
	const char *name;
	void (*fn)(void);
	int factor;             /* of the time limit */
	struct test_case *next;
};
void test_register(struct test_case *t);

/* Registration by constructor is for tests only: the order does not matter here. */
#define TEST_WITH_(name_, factor_)                                                              \
	static void name_(void);                                                                \
	static struct test_case test_case_##name_ = { #name_, name_, factor_, NULL };           \
	__attribute__((constructor)) static void test_register_##name_(void)                    \
	{                                                                                       \
		test_register(&test_case_##name_);                                              \
	}                                                                                       \
	static void name_(void)
#define TEST(name_) TEST_WITH_(name_, 1)
#define TEST_SLOW(name_) TEST_WITH_(name_, 6)

/* Print the place and the text, end the case as failed or skipped. */
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *reason);

#define SKIP(reason) test_skip(reason)
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond)                                                     \
	do {                                                            \
		if (!(cond))                                            \
			FAIL("%s does not hold", #cond);                \
	} while (0)
#define CHECK_EQ(a, b)                                                                          \
	do {                                                                                    \
		int64_t a_ = (int64_t)(a), b_ = (int64_t)(b);                                   \
		if (a_ != b_)                                                                   \
			FAIL("%s is %" PRId64 " (0x%" PRIx64 "), not %" PRId64 " (0x%" PRIx64 ")", \
			     #a, a_, (uint64_t)a_, b_, (uint64_t)b_);                           \
	} while (0)
#define CHECK_STR(a, b)                                                                         \
	do {                                                                                    \
		const char *a_ = (a), *b_ = (b);                                                \
		if (!a_ || strcmp(a_, b_))                                                      \
			FAIL("%s is \"%s\", not \"%s\"", #a, a_ ? a_ : "(null)", b_);           \
	} while (0)
#define CHECK_MEM(a, b, len)                                                                    \
	do {                                                                                    \
		if (memcmp((a), (b), (len)))                                                    \
			FAIL("%s differs from %s", #a, #b);                                     \
	} while (0)
/* The sentence of an error contains TEXT. */
#define CHECK_HAS(a, text)                                                                      \
	do {                                                                                    \
		const char *a_ = (a);                                                           \
		if (!strstr(a_, (text)))                                                        \
			FAIL("%s is \"%s\", which does not contain \"%s\"", #a, a_, (text));    \
	} while (0)

#endif
