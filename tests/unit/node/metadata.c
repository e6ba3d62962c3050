/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata service: requests as guests send them, tokens, the tree of answers. Who gets them: tests/e2e/test_metadata.py. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include "node/metadata.h"
#include "util/cleanup.h"
#include "util/json.h"

static const uint8_t key[METADATA_KEY_LEN] = "0123456789abcdef0123456789abcde";
static const char uid[] = "00112233445566ff";

static int parse(struct metadata_request *rq, const char *text)
{
	return metadata_parse(rq, text, strlen(text));
}

TEST(requests_are_read)
{
	struct metadata_request rq;

	CHECK_EQ(parse(&rq, "GET /latest/user-data?x=1 HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"), 1);
	CHECK_EQ(rq.method, METADATA_GET);
	CHECK_STR(rq.path, "/latest/user-data");
	CHECK(!rq.has_token && !rq.has_ttl && !rq.is_forwarded);
	CHECK_EQ(parse(&rq, "HEAD http://169.254.169.254/ HTTP/1.0\r\n\r\n"), 1);
	CHECK_EQ(rq.method, METADATA_HEAD);
	CHECK_STR(rq.path, "/");
	CHECK_EQ(parse(&rq, "PUT /latest/api/token HTTP/1.1\r\nx-AWS-ec2-metadata-token-TTL-seconds: \t60 \r\n"
			    "x-forwarded-for: 10.0.0.1\r\n\r\nbody"), 1);
	CHECK_EQ(rq.method, METADATA_PUT);
	CHECK(rq.has_ttl && rq.is_forwarded);
	CHECK_EQ(rq.ttl, 60);
	CHECK_EQ(parse(&rq, "get / HTTP/1.1\r\n\r\n"), 1);
	CHECK_EQ(rq.method, METADATA_OTHER);
}

TEST(more_is_waited_for_but_not_for_ever)
{
	static const char whole[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	struct metadata_request rq;
	char long_head[METADATA_HEAD_MAX], long_path[METADATA_PATH_MAX + 64];

	for (size_t len = 0; len < sizeof(whole) - 1; len++)
		CHECK_EQ(metadata_parse(&rq, whole, len), 0);
	CHECK_EQ(metadata_parse(&rq, whole, sizeof(whole) - 1), 1);
	memset(long_head, 'x', sizeof(long_head));
	CHECK_EQ(metadata_parse(&rq, long_head, sizeof(long_head)), -431);
	snprintf(long_path, sizeof(long_path), "GET /%0*d HTTP/1.1\r\n\r\n", METADATA_PATH_MAX, 0);
	CHECK_EQ(parse(&rq, long_path), -414);
	snprintf(long_path, sizeof(long_path), "GET /%0*d HTTP/1.1\r\n\r\n", METADATA_PATH_MAX - 1, 0);
	CHECK_EQ(parse(&rq, long_path), 1);
}

TEST(what_is_no_request_is_refused)
{
	static const char *const bad[] = {
		"\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1 \r\n\r\n",
		"GET x HTTP/1.1\r\n\r\n", "GET http://host HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
		"GET / HTTP/1.1\r\n: x\r\n\r\n", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "GET / HTTP/1.1\nA: b\r\n\r\n",
		"GET / HTTP/1.1\r\nA: \001\r\n\r\n", "GET /\303\244 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
	};
	static const char zero[] = "GET /\0x HTTP/1.1\r\n\r\n";
	struct metadata_request rq;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(parse(&rq, bad[i]), -400);
	CHECK_EQ(metadata_parse(&rq, zero, sizeof(zero) - 1), -400);
}

/* Bytes of a good request changed and cut, in memory of just their size. */
TEST(whatever_comes_is_borne)
{
	static const char good[] = "PUT http://169.254.169.254/latest/api/token?x HTTP/1.1\r\nHost: 169.254.169.254\r\n"
				   "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\nX-aws-ec2-metadata-token: abc\r\n\r\n";
	static const char bytes[] = "\r\n: /?\t0\0\377";
	struct metadata_request rq;
	unsigned n_good = 0;

	srand(20261122);
	for (unsigned k = 0; k < 20000; k++) {
		size_t len = sizeof(good) - 1 - (size_t)(rand() % 4 ? 0 : rand() % 20);
		AUTO(free) char *head = malloc(len);

		CHECK(head);
		memcpy(head, good, len);
		for (int i = rand() % 3; i > 0; i--)
			head[(size_t)rand() % len] = bytes[(size_t)rand() % (sizeof(bytes) - 1)];
		int r = metadata_parse(&rq, head, len);
		CHECK(r == 0 || r == 1 || r == -400 || r == -414);
		n_good += r == 1;
		if (r == 1) {
			CHECK_EQ(rq.path[0], '/');
			CHECK(rq.ttl <= METADATA_TTL_MAX);
			CHECK_STR(rq.token, "");
		}
	}
	CHECK(n_good > 1000);
}

static unsigned ttl_of(const char *text)
{
	struct metadata_request rq;
	char head[256];

	snprintf(head, sizeof(head), "PUT / HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds:%s\r\n\r\n", text);
	CHECK_EQ(parse(&rq, head), 1);
	CHECK(rq.has_ttl);
	return rq.ttl;
}

TEST(a_time_to_live_is_a_number_of_seconds)
{
	static const char *const bad[] = { "", "0", "-1", "+1", "1.5", "0x10", "21601", "4294967297", "99999999999999999999", "1 2",
					   "5\r\nX-aws-ec2-metadata-token-ttl-seconds: 6" };

	CHECK_EQ(ttl_of("1"), 1);
	CHECK_EQ(ttl_of(" 21600"), METADATA_TTL_MAX);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(ttl_of(bad[i]), 0);
}

TEST(a_token_is_that_of_one_instance_and_ends)
{
	char token[METADATA_TOKEN_LEN + 1], changed[METADATA_TOKEN_LEN + 1], head[256];
	static const uint8_t other_key[METADATA_KEY_LEN] = "x";
	struct metadata_request rq;

	metadata_token(token, key, uid, 1000);
	CHECK_EQ(strlen(token), METADATA_TOKEN_LEN);
	CHECK(metadata_token_holds(token, key, uid, 999));
	CHECK(!metadata_token_holds(token, key, uid, 1000));
	CHECK(!metadata_token_holds(token, key, "00112233445566fe", 1));
	CHECK(!metadata_token_holds(token, other_key, uid, 1));
	CHECK(!metadata_token_holds("", key, uid, 1));
	for (size_t i = 0; i < METADATA_TOKEN_LEN; i++) {
		memcpy(changed, token, sizeof(changed));
		changed[i] = changed[i] == '1' ? '2' : '1';
		CHECK(!metadata_token_holds(changed, key, uid, 1));
	}
	snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nx-aws-ec2-metadata-token: %s\r\n\r\n", token);
	CHECK_EQ(parse(&rq, head), 1);
	CHECK_STR(rq.token, token);
	snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nx-aws-ec2-metadata-token: %sx\r\n\r\n", token);
	CHECK_EQ(parse(&rq, head), 1);
	CHECK(rq.has_token);
	CHECK_STR(rq.token, "");
}

/* --- the tree ---------------------------------------------------- */

static const struct metadata_port ports[] = {
	{ .index = 0, .mac = "06:00:00:00:00:01", .domain = "lan", .four = "10.1.2.3", .six = "fd00::3", .subnet = "10.1.2.0/24",
	  .subnet6 = "fd00::/64" },
	{ .index = 2, .mac = "06:00:00:00:00:02", .domain = "lab", .four = "10.9.0.7", .subnet = "10.9.0.0/24" },
};

static char *get(const char *spec, const char *path)
{
	AUTO(json_decref) json_t *doc = json_loads(spec, 0, NULL);
	struct metadata_about a = { .uid = uid, .name = "web", .project = "shop", .created = "2026-11-21T16:00:00Z", .spec = doc,
				    .ports = ports, .n_ports = 2, .here = 0 };
	char *text = NULL;
	size_t len = 0;
	int r = metadata_get(&a, path, &text, &len);

	CHECK(doc);
	if (r < 0)
		CHECK_EQ(r, -ENOENT);
	else
		CHECK_EQ(strlen(text), len);
	return text;
}

static const char full[] = "{\"ssh_keys\": [\"ssh-ed25519 AAAA a\", \"ssh-rsa BBBB b\"], \"user_data\": \"#!/bin/sh\\necho\\n\","
			   " \"image\": \"debian\"}";

static void check_text(const char *spec, const char *path, const char *wanted)
{
	AUTO(free) char *text = get(spec, path);

	CHECK(text);
	CHECK_STR(text, wanted);
}

TEST(leaves_are_told)
{
	static const char mac[] = "/latest/meta-data/network/interfaces/macs/06:00:00:00:00:02/";
	char path[256];

	check_text(full, "/latest/meta-data/instance-id", "i-00112233445566ff");
	check_text(full, "/2021-03-23/meta-data/local-hostname", "web.lan");
	check_text(full, "/latest/meta-data/hostname", "web.lan");
	check_text(full, "/latest/meta-data/local-ipv4", "10.1.2.3");
	check_text(full, "/latest/meta-data/mac", "06:00:00:00:00:01");
	check_text(full, "/latest/meta-data/public-keys/1/openssh-key", "ssh-rsa BBBB b");
	check_text(full, "/latest/user-data", "#!/bin/sh\necho\n");
	snprintf(path, sizeof(path), "%sdevice-number", mac);
	check_text(full, path, "2");
	snprintf(path, sizeof(path), "%ssubnet-ipv4-cidr-block", mac);
	check_text(full, path, "10.9.0.0/24");
	snprintf(path, sizeof(path), "%slocal-hostname", mac);
	check_text(full, path, "web.lab");
}

TEST(what_is_below_is_listed)
{
	static const char macs[] = "06:00:00:00:00:01/\n06:00:00:00:00:02/";

	check_text(full, "/", "latest");
	check_text(full, "/latest", "dynamic\nmeta-data\nuser-data");
	check_text("{}", "/latest/", "dynamic\nmeta-data");
	check_text("{}", "/latest/meta-data/",
		   "ami-launch-index\nhostname\ninstance-action\ninstance-id\nipv6\nlocal-hostname\nlocal-ipv4\nmac\nnetwork/\nplacement/");
	check_text(full, "/latest/meta-data/public-keys/", "0=key-0\n1=key-1");
	check_text(full, "/latest/meta-data/public-keys/0", "openssh-key");
	check_text(full, "/latest/meta-data/network/interfaces/macs", macs);
	check_text(full, "/latest/meta-data/network/interfaces/macs/", macs);
	check_text(full, "/latest/meta-data/placement/", "availability-zone\nregion");
}

TEST(nothing_else_is_there)
{
	static const char *const none[] = {
		"/x", "/latest/x", "/latest/meta-data/x", "/latest/meta-data/instance-id/", "/latest/meta-data/instance-id/x", "/latestx",
		"/latest/meta", "/latest/meta-data/public-keys", "/latest/user-data", "/2021-3-23/meta-data", "//latest/meta-data",
		"/latest//meta-data", "/latest/../latest/meta-data", "/latest/meta-data/network/interfaces/macs/06:00:00:00:00:02/ipv6s",
	};

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		AUTO(free) char *text = get("{}", none[i]);

		CHECK(!text);
	}
}

TEST(the_document_is_json)
{
	AUTO(free) char *text = get(full, "/latest/dynamic/instance-identity/document");
	AUTO(json_decref) json_t *doc = text ? json_loads(text, 0, NULL) : NULL;

	CHECK(doc);
	CHECK_STR(json_string_value(json_object_get(doc, "instanceId")), "i-00112233445566ff");
	CHECK_STR(json_string_value(json_object_get(doc, "privateIp")), "10.1.2.3");
	CHECK_STR(json_string_value(json_object_get(doc, "accountId")), "shop");
	CHECK_STR(json_string_value(json_object_get(doc, "imageId")), "debian");
}
