/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of instances: what a document says, as a machine takes it, and what is none. */
#include "test.h"

#include <jansson.h>
#include "node/instance_limits.h"
#include "util/cleanup.h"
#include "util/cpu_list.h"
#include "util/err.h"
#include "util/json.h"

static char *settings(const char *spec)
{
	AUTO(json_decref) json_t *doc = json_loads(spec, 0, NULL);

	CHECK(doc);
	return limits_settings(doc);
}

TEST(what_is_not_said_is_no_limit)
{
	AUTO(free) char *text = settings("{\"memory\": 1048576, \"image\": \"base\", \"disks\": []}");

	CHECK_STR(text, "cpu-limit=none,balloon=0,disk.disk0.iops=0,disk.disk0.bps=0");
}

TEST(a_disk_has_its_own_limit_or_that_of_all)
{
	AUTO(free) char *text = settings("{\"memory\": 134217728, \"limits\": {\"cpu\": \"0.5\", \"memory\": 100000000, \"iops\": 300},"
					 "\"disks\": [{\"volume\": \"v\"}, {\"volume\": \"w\", \"iops\": 7, \"bps\": 4096}]}");

	CHECK_STR(text, "cpu-limit=0.5,balloon=34213888,disk.disk0.iops=300,disk.disk0.bps=0,disk.disk1.iops=7,disk.disk1.bps=4096");
}

static bool is_list(const char *text, const char *members)
{
	cpu_set_t set;
	struct err err = ERR_INIT;

	if (cpu_list_parse(&set, text, &err) < 0) {
		CHECK(err.msg[0]);
		return false;
	}
	for (int k = 0; k < 10; k++)
		CHECK_EQ(!!CPU_ISSET(k, &set), members[k] == '1');
	return true;
}

TEST(lists_of_processors_are_those_of_linux)
{
	CHECK(is_list("0", "1000000000"));
	CHECK(is_list("0-3,6", "1111001000"));
	CHECK(is_list("6,2-2,2", "0010001000"));
	CHECK(is_list("0-1023", "1111111111"));
	for (const char *const *bad = (const char *const[]){ "", ",", "1,", ",1", "3-1", "1-", "-1", "0-1024", "1 ", " 1", "a", "0x1", "1--2",
							       "99999999999999999999", NULL }; *bad; bad++)
		CHECK(!is_list(*bad, "0000000000"));
}
