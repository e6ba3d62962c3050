/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: what was altered shows. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/audit.h"
#include "node/files.h"
#include "util/err.h"

struct rig {
	char dir[64], log[128];
	struct audit *a;
};

static void setup(struct rig *r, unsigned n)
{
	struct err err = ERR_INIT;

	strcpy(r->dir, "/tmp/viv-audit-XXXXXX");
	CHECK(mkdtemp(r->dir));
	snprintf(r->log, sizeof(r->log), "%s/audit-000000000001.log", r->dir);
	if (audit_open(&r->a, r->dir, &err) < 0)
		FAIL("%s", err.msg);
	for (unsigned i = 0; i < n; i++)
		CHECK_EQ(audit_write(r->a, json_pack("{s:s, s:i}", "user", i % 2 ? "bob" : "alice", "i", (int)i), &err), 0);
}

static void teardown(struct rig *r)
{
	audit_close(r->a);
	CHECK_EQ(files_remove(r->dir, NULL), 0);
}

static void patch_file(const char *path, const char *from, const char *to)
{
	char text[65536];
	FILE *f = fopen(path, "r+");
	size_t len = fread(text, 1, sizeof(text) - 1, f);

	text[len] = 0;
	char *at = strstr(text, from);
	CHECK(at && strlen(from) == strlen(to));
	fseek(f, at - text, SEEK_SET);
	fputs(to, f);
	fclose(f);
}

/* What ends up behind the records, by whatever way, when it is opened again. */
static void put_behind(struct rig *r, const char *text, size_t len)
{
	audit_close(r->a);
	int fd = open(r->log, O_WRONLY | O_APPEND);
	CHECK(write(fd, text, len) == (ssize_t)len);
	close(fd);
	CHECK_EQ(audit_open(&r->a, r->dir, NULL), 0);
}

static int64_t bad(const struct rig *r, struct audit_head known)
{
	struct audit_check c;

	CHECK_EQ(audit_verify(&c, r->dir, &known, NULL), 0);
	return c.bad;
}

TEST(records_follow_each_other_also_after_a_restart)
{
	struct rig r;

	setup(&r, 3);
	audit_close(r.a);
	CHECK_EQ(audit_open(&r.a, r.dir, NULL), 0);
	CHECK_EQ(audit_head(r.a).seq, 3);
	CHECK_EQ(audit_write(r.a, json_object(), NULL), 0);
	CHECK_EQ(audit_head(r.a).seq, 4);
	CHECK_EQ(bad(&r, audit_head(r.a)), 0);
	teardown(&r);
}

TEST(an_altered_record_shows)
{
	struct rig r;

	setup(&r, 5);
	patch_file(r.log, "\"i\":3", "\"i\":4");
	CHECK_EQ(bad(&r, audit_head(r.a)), 4);
	teardown(&r);
}

TEST(what_was_cut_off_shows_by_the_head_that_is_known)
{
	struct rig r;
	struct audit_head all, less;

	setup(&r, 2);
	less = audit_head(r.a);
	CHECK_EQ(audit_write(r.a, json_object(), NULL), 0);
	all = audit_head(r.a);
	CHECK_EQ(bad(&r, less), 0);
	audit_close(r.a);
	FILE *f = fopen(r.log, "r+");
	char line[1024];
	CHECK(fgets(line, sizeof(line), f) && fgets(line, sizeof(line), f));
	CHECK(!ftruncate(fileno(f), ftell(f)));
	fclose(f);
	CHECK_EQ(audit_open(&r.a, r.dir, NULL), 0);
	CHECK_EQ(bad(&r, less), 0);
	CHECK_EQ(bad(&r, all), 3);
	/* Other records in the place of those that were cut off. */
	CHECK_EQ(audit_write(r.a, json_pack("{s:s}", "user", "mallory"), NULL), 0);
	CHECK_EQ(bad(&r, all), 3);
	teardown(&r);
}

TEST(half_a_record_at_the_end_is_taken_off)
{
	struct rig r;

	setup(&r, 2);
	put_behind(&r, "{\"user\":", 8);
	CHECK_EQ(audit_write(r.a, json_object(), NULL), 0);
	CHECK_EQ(bad(&r, audit_head(r.a)), 0);
	teardown(&r);
}

TEST(the_last_record_is_found_behind_much_that_is_none_and_before_any_length_of_it)
{
	enum { LONG = 70000 };
	struct audit_head before;
	struct rig r;
	char *line = malloc(LONG);

	setup(&r, 300);
	before = audit_head(r.a);
	audit_close(r.a);
	memset(line, 'x', LONG);
	line[4095] = line[4096] = line[LONG - 1] = '\n';
	int fd = open(r.log, O_WRONLY | O_APPEND);
	CHECK(write(fd, line, LONG) == LONG && write(fd, line, 10) == 10);
	off_t all = lseek(fd, 0, SEEK_END);
	close(fd);
	CHECK_EQ(audit_open(&r.a, r.dir, NULL), 0);
	CHECK_EQ(audit_head(r.a).seq, 300);
	CHECK_STR(audit_head(r.a).hash, before.hash);
	/* Lines stay, and are told; what has no end goes. */
	fd = open(r.log, O_RDONLY);
	CHECK_EQ(lseek(fd, 0, SEEK_END), all - 10);
	close(fd);
	CHECK_EQ(bad(&r, before), 301);
	free(line);
	teardown(&r);
}

TEST(a_file_without_any_record_begins_anew)
{
	struct rig r;

	setup(&r, 0);
	put_behind(&r, "what is this", 12);
	CHECK_EQ(audit_head(r.a).seq, 0);
	CHECK_EQ(audit_write(r.a, json_object(), NULL), 0);
	CHECK_EQ(bad(&r, audit_head(r.a)), 0);
	teardown(&r);
}

TEST(the_last_records_are_read_in_order_from_several_files)
{
	struct rig r;
	json_t *found;

	setup(&r, 4);
	audit_close(r.a);
	/* As if the first file had been full. */
	char next[128];
	snprintf(next, sizeof(next), "%s/audit-000000000005.log", r.dir);
	close(open(next, O_CREAT | O_WRONLY, 0600));
	CHECK_EQ(audit_open(&r.a, r.dir, NULL), 0);
	for (int i = 4; i < 8; i++)
		CHECK_EQ(audit_write(r.a, json_pack("{s:s, s:i}", "user", i % 2 ? "bob" : "alice", "i", i), NULL), 0);
	CHECK_EQ(bad(&r, audit_head(r.a)), 0);
	struct audit_query q = { .dir = r.dir, .limit = 3, .user = "bob" };

	CHECK_EQ(audit_read(&found, &q, NULL), 0);
	CHECK_EQ(json_array_size(found), 3);
	for (size_t i = 0; i < 3; i++)
		CHECK_EQ(json_integer_value(json_object_get(json_array_get(found, i), "i")), 3 + 2 * (int)i);
	json_decref(found);
	q = (struct audit_query){ .dir = r.dir, .limit = 10, .before = 3 };
	CHECK_EQ(audit_read(&found, &q, NULL), 0);
	CHECK_EQ(json_array_size(found), 2);
	json_decref(found);
	teardown(&r);
}
