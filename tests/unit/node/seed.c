/* SPDX-License-Identifier: Apache-2.0 */
/* What instances are told about themselves: what may be said, and the disk that says it. The kernel's view of that disk is
 * in tests/e2e/test_seed.py. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "node/seed.h"
#include "util/err.h"
#include "util/json.h"

static int check(const char *spec, char where[64])
{
	AUTO(json_decref) json_t *doc = json_loads(spec, 0, NULL);

	CHECK(doc);
	return seed_check(doc, where, 64, NULL);
}

TEST(keys_and_data_are_looked_at)
{
	char where[64];

	CHECK_EQ(check("{}", where), 0);
	CHECK_EQ(check("{\"user_data\": \"\"}", where), 0);
	CHECK_EQ(check("{\"user_data\": \"#cloud-config\\n{}\"}", where), 0);
	CHECK_EQ(check("{\"user_data\": \"#!/bin/sh\"}", where), 0);
	CHECK_EQ(check("{\"user_data\": \"rm -rf /\"}", where), -EINVAL);
	CHECK_STR(where, "spec.user_data");
	CHECK_EQ(check("{\"ssh_keys\": [\"ssh-ed25519 AAAA me\"]}", where), 0);
	CHECK_EQ(check("{\"ssh_keys\": [\"ssh-ed25519 AAAA\", \"\"]}", where), -EINVAL);
	CHECK_STR(where, "spec.ssh_keys[1]");
	CHECK_EQ(check("{\"ssh_keys\": [\"ssh-rsa A\\nruncmd: x\"]}", where), -EINVAL);
	CHECK_EQ(check("{\"ssh_keys\": [\"ssh-rsa \\\"\"]}", where), -EINVAL);
	CHECK_EQ(check("{\"ssh_keys\": [7]}", where), -EINVAL);
}

TEST(who_is_told_nothing_gets_no_disk)
{
	AUTO(json_decref) json_t *plain = json_pack("{s:s}", "kernel", "/k");
	AUTO(json_decref) json_t *image = json_pack("{s:s}", "image", "debian");
	AUTO(json_decref) json_t *keys = json_pack("{s:s, s:[s]}", "kernel", "/k", "ssh_keys", "ssh-rsa A");

	CHECK(!seed_is_wanted(plain) && seed_is_wanted(image) && seed_is_wanted(keys));
}

TEST(the_disk_has_a_label_and_the_files)
{
	char path[] = "/tmp/viv-seed-XXXXXX";
	static uint8_t disk[128 * 2048];
	int fd = mkstemp(path);
	AUTO(json_decref) json_t *spec = json_pack("{s:s, s:[s]}", "user_data", "#!/bin/true\n", "ssh_keys", "ssh-rsa AAAA me");

	CHECK(fd >= 0);
	close(fd);
	CHECK_EQ(seed_write(path, "web", "0123456789abcdef", spec, NULL), 0);
	FILE *f = fopen(path, "r");
	CHECK(f);
	size_t len = fread(disk, 1, sizeof(disk), f);
	fclose(f);
	unlink(path);
	CHECK_EQ(len, 28 * 2048);
	CHECK(!memcmp(disk + 16 * 2048, "\1CD001\1", 7) && !memcmp(disk + 32768 + 40, "cidata ", 7));
	CHECK(!memcmp(disk + 17 * 2048, "\2CD001\1", 7) && !memcmp(disk + 17 * 2048 + 88, "%/E", 3));
	CHECK(!memcmp(disk + 18 * 2048, "\377CD001\1", 7));
	static const char meta[] = "instance-id: i-0123456789abcdef\nlocal-hostname: web\npublic-keys:\n  - \"ssh-rsa AAAA me\"\n";
	CHECK(!strncmp((char *)disk + 25 * 2048, meta, sizeof(meta) - 1));
	/* As long as that of the longest name. */
	CHECK_EQ(strlen((char *)disk + 25 * 2048), sizeof(meta) - 1 + 63 - strlen("web") + 2);
	CHECK(!strncmp((char *)disk + 26 * 2048, "version: 2\n", 11));
	CHECK_STR((char *)disk + 27 * 2048, "#!/bin/true\n");
	CHECK_EQ(seed_write("/nonexistent/x", "web", "0", spec, NULL), -ENOENT);
}
