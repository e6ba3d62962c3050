/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets that are sealed before they go into the store. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/files.h"
#include "node/vault.h"
#include "util/err.h"

static const char secret[] = "twenty bytes of this";
enum { LEN = sizeof(secret) - 1 };

struct rig {
	struct vault *v;
	char dir[64], path[96], sealed[VAULT_SEALED_MAX], out[LEN + 1];
	struct err err;
};

static void reopen(struct rig *r, bool rotates)
{
	vault_close(r->v);
	r->v = NULL;
	if (vault_open(&r->v, r->path, rotates, &r->err) < 0)
		FAIL("%s", r->err.msg);
}

static void setup(struct rig *r)
{
	*r = (struct rig){ .v = NULL };
	strcpy(r->dir, "/tmp/viv-vault-XXXXXX");
	CHECK(mkdtemp(r->dir));
	snprintf(r->path, sizeof(r->path), "%s/keys", r->dir);
	reopen(r, false);
	CHECK_EQ(vault_seal(r->v, r->sealed, secret, LEN, "alice", &r->err), 0);
}

static void teardown(struct rig *r)
{
	vault_close(r->v);
	CHECK_EQ(files_remove(r->dir, NULL), 0);
}

static int unseal(struct rig *r, const char *sealed, const char *bound)
{
	memset(r->out, 0, sizeof(r->out));
	return vault_unseal(r->v, r->out, LEN, sealed, bound);
}

static off_t size_of(const struct rig *r)
{
	struct stat st;

	CHECK(!stat(r->path, &st));
	CHECK_EQ(st.st_mode & 0777, 0600);
	return st.st_size;
}

TEST(what_is_sealed_opens_again_and_tells_nothing)
{
	struct rig r;
	char again[VAULT_SEALED_MAX];

	setup(&r);
	CHECK(!strstr(r.sealed, "twenty") && strlen(r.sealed) < VAULT_SEALED_MAX);
	CHECK_EQ(vault_seal(r.v, again, secret, LEN, "alice", &r.err), 0);
	CHECK(strcmp(again, r.sealed));
	reopen(&r, false);
	CHECK_EQ(unseal(&r, r.sealed, "alice"), 0);
	CHECK_STR(r.out, secret);
	CHECK(vault_is_current(r.v, r.sealed));
	teardown(&r);
}

TEST(what_was_changed_or_put_elsewhere_does_not_open)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(unseal(&r, r.sealed, "bob"), -EBADMSG);
	CHECK_EQ(vault_unseal(r.v, r.out, LEN - 1, r.sealed, "alice"), -EBADMSG);
	for (size_t i = 0; r.sealed[i]; i++) {
		char was = r.sealed[i];

		r.sealed[i] = was == 'A' ? 'B' : 'A';
		int got = unseal(&r, r.sealed, "alice");
		/* Of the last character some bits count for nothing: then it is another way to write the same. */
		CHECK(got == -EBADMSG || got == -ENOKEY || (!got && r.sealed[i + 1] == '=' && !strcmp(r.out, secret)));
		r.sealed[i] = was;
	}
	CHECK_EQ(unseal(&r, "", "alice"), -ENOKEY);
	CHECK_EQ(unseal(&r, "v1:", "alice"), -ENOKEY);
	r.sealed[12] = 0;
	CHECK_EQ(unseal(&r, r.sealed, "alice"), -EBADMSG);
	teardown(&r);
}

TEST(a_new_key_seals_and_those_before_open_until_they_are_forgotten)
{
	struct rig r;
	char fresh[VAULT_SEALED_MAX];

	setup(&r);
	off_t one = size_of(&r);
	reopen(&r, true);
	CHECK_EQ(size_of(&r), 2 * one);
	CHECK(!vault_is_current(r.v, r.sealed));
	CHECK_EQ(unseal(&r, r.sealed, "alice"), 0);
	CHECK_EQ(vault_seal(r.v, fresh, secret, LEN, "alice", &r.err), 0);
	CHECK_EQ(vault_forget(r.v, &r.err), 0);
	CHECK_EQ(size_of(&r), one);
	reopen(&r, false);
	CHECK_EQ(unseal(&r, r.sealed, "alice"), -ENOKEY);
	CHECK_EQ(unseal(&r, fresh, "alice"), 0);
	teardown(&r);
}

TEST(a_file_that_is_open_to_others_or_damaged_is_refused_and_left)
{
	struct rig r;
	struct vault *v = NULL;

	setup(&r);
	off_t size = size_of(&r);
	CHECK(!chmod(r.path, 0640));
	CHECK_EQ(vault_open(&v, r.path, false, &r.err), -EPERM);
	CHECK(strstr(r.err.msg, "chmod 600"));
	CHECK(!chmod(r.path, 0600) && !truncate(r.path, size - 1));
	r.err = (struct err)ERR_INIT;
	CHECK_EQ(vault_open(&v, r.path, true, &r.err), -EBADMSG);
	CHECK(strstr(r.err.msg, r.path));
	CHECK_EQ(size_of(&r), size - 1);
	CHECK(!truncate(r.path, 0));
	CHECK_EQ(vault_open(&v, r.path, false, &r.err), -EBADMSG);
	teardown(&r);
}
