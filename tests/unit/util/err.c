/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include "util/err.h"

TEST(set_formats_and_returns_the_code)
{
	struct err e = ERR_INIT;

	CHECK_EQ(err_set(&e, -ENOENT, "no disk '%s'", "a.img"), -ENOENT);
	CHECK_EQ(e.code, -ENOENT);
	CHECK_STR(e.msg, "no disk 'a.img'");
	CHECK_EQ(err_set(NULL, -EINVAL, "nobody listens"), -EINVAL);
}

TEST(set_takes_the_sentence_that_is_there)
{
	struct err err = ERR_INIT;

	err_set(&err, -ENOENT, "there is no pool '%s'", "p");
	CHECK_EQ(err_set(&err, -EINVAL, "really: %s", err.msg), -EINVAL);
	CHECK_EQ(err.code, -EINVAL);
	CHECK_STR(err.msg, "really: there is no pool 'p'");
}

TEST(wrap_puts_the_object_in_front)
{
	struct err e = ERR_INIT;

	err_set(&e, -EIO, "short read");
	CHECK_EQ(err_wrap(&e, -EIO, "disk '%s'", "a.img"), -EIO);
	CHECK_STR(e.msg, "disk 'a.img': short read");
}

TEST(wrap_of_an_unset_error_names_the_errno)
{
	struct err e = ERR_INIT;

	err_wrap(&e, -ENOENT, "disk");
	CHECK_STR(e.msg, "disk: No such file or directory");
}

TEST(long_sentences_are_cut_not_overrun)
{
	struct err e = ERR_INIT;
	char big[2000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_set(&e, -EIO, "%s", big);
	err_wrap(&e, -EIO, "a");
	CHECK_EQ(strlen(e.msg), sizeof(e.msg) - 1);
	CHECK_MEM(e.msg, "a: x", 4);
	err_wrap(&e, -EIO, "%s", big);
	CHECK_EQ(strlen(e.msg), sizeof(e.msg) - 1);
}
