/* SPDX-License-Identifier: Apache-2.0 */
/* Which rule drops a packet? */
#include "test.h"

#include "node/nft_walk.h"
#include "util/json.h"

static const struct nft_packet way_out = { "forward", "vb0", "eth0", "10.0.0.2", "198.51.100.1", "tcp", 40000, 443, "new" };
static const struct nft_packet dhcp = { "input", "vb0", NULL, "0.0.0.0", "255.255.255.255", "udp", 68, 67, "new" };

#define CHAIN(family_, name_, hook_, policy_) \
	"{\"chain\":{\"family\":\"" family_ "\",\"table\":\"t\",\"name\":\"" name_ "\",\"type\":\"filter\",\"hook\":\"" hook_ \
	"\",\"policy\":\"" policy_ "\"}}"
#define DO(chain_, handle_, statements_) \
	"{\"rule\":{\"family\":\"ip\",\"table\":\"t\",\"chain\":\"" chain_ "\",\"handle\":" handle_ ",\"expr\":[" statements_ "]}}"
#define RULE(chain_, handle_, match_, statements_) DO(chain_, handle_, match_ "," statements_)
#define META(op_, key_, right_) \
	"{\"match\":{\"op\":\"" op_ "\",\"left\":{\"meta\":{\"key\":\"" key_ "\"}},\"right\":" right_ "}}"
#define PAYLOAD(proto_, field_, right_) \
	"{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"" proto_ "\",\"field\":\"" field_ "\"}},\"right\":" right_ "}}"

/* Of the chains and rules in TEXT: the handle of the rule that drops P, 0 for a policy, -1 for none. */
static int dropped_by(const char *text, const struct nft_packet *p, bool *is_certain)
{
	char all[4096];
	struct nft_block b = { .handle = -1 };

	snprintf(all, sizeof(all), "{\"nftables\":[%s]}", text);
	AUTO(json_decref) json_t *rules = json_loads(all, 0, NULL);
	CHECK(rules);
	bool is_dropped = nft_walk(rules, "viv_", p, &b);
	if (is_certain)
		*is_certain = b.is_certain;
	return is_dropped ? (int)b.handle : -1;
}

TEST(nothing_drops_nothing)
{
	CHECK_EQ(dropped_by("", &way_out, NULL), -1);
	CHECK_EQ(dropped_by(CHAIN("ip", "f", "forward", "accept"), &way_out, NULL), -1);
	/* Another hook, another family, a table of ours. */
	CHECK_EQ(dropped_by(CHAIN("ip", "f", "input", "drop"), &way_out, NULL), -1);
	CHECK_EQ(dropped_by(CHAIN("ip6", "f", "forward", "drop"), &way_out, NULL), -1);
	CHECK_EQ(dropped_by("{\"chain\":{\"family\":\"inet\",\"table\":\"viv_x\",\"name\":\"f\",\"type\":\"filter\","
			    "\"hook\":\"forward\",\"policy\":\"drop\"}}", &way_out, NULL), -1);
	CHECK_EQ(dropped_by("1,[],\"x\",{\"rule\":7},{\"chain\":{}}", &way_out, NULL), -1);
}

TEST(a_policy_drops_what_no_rule_accepts)
{
	static const char policy[] = CHAIN("ip", "f", "forward", "drop");
	char text[2048];

	CHECK_EQ(dropped_by(policy, &way_out, NULL), 0);
	snprintf(text, sizeof(text), "%s,%s", policy, RULE("f", "5", META("==", "iifname", "\"vb*\""), "{\"accept\":null}"));
	CHECK_EQ(dropped_by(text, &way_out, NULL), -1);
	snprintf(text, sizeof(text), "%s,%s", policy, RULE("f", "5", META("!=", "iifname", "\"vb0\""), "{\"accept\":null}"));
	CHECK_EQ(dropped_by(text, &way_out, NULL), 0);
	snprintf(text, sizeof(text), "%s,%s", policy, RULE("f", "5", META("==", "iifname", "{\"set\":[\"docker0\",\"vb0\"]}"),
							   "{\"counter\":null},{\"accept\":null}"));
	CHECK_EQ(dropped_by(text, &way_out, NULL), -1);
}

TEST(rules_are_told_by_what_they_look_at)
{
	static const char base[] = CHAIN("ip", "f", "forward", "accept");
	static const struct { const char *rule; int dropped; } cases[] = {
		{ RULE("f", "7", PAYLOAD("ip", "saddr", "{\"prefix\":{\"addr\":\"10.0.0.0\",\"len\":8}}"), "{\"drop\":null}"), 7 },
		{ RULE("f", "7", PAYLOAD("ip", "saddr", "{\"prefix\":{\"addr\":\"11.0.0.0\",\"len\":8}}"), "{\"drop\":null}"), -1 },
		{ RULE("f", "7", PAYLOAD("ip", "daddr", "\"198.51.100.1\""), "{\"reject\":{\"type\":\"icmpx\"}}"), 7 },
		{ RULE("f", "7", PAYLOAD("tcp", "dport", "{\"range\":[400,500]}"), "{\"drop\":null}"), 7 },
		{ RULE("f", "7", PAYLOAD("tcp", "dport", "{\"set\":[80,{\"range\":[1,10]}]}"), "{\"drop\":null}"), -1 },
		{ RULE("f", "7", PAYLOAD("udp", "dport", "443"), "{\"drop\":null}"), -1 },
		{ RULE("f", "7", META("==", "l4proto", "\"udp\""), "{\"drop\":null}"), -1 },
		/* What is not understood is taken not to match. */
		{ RULE("f", "7", "{\"xt\":null}", "{\"drop\":null}"), -1 },
		{ RULE("f", "7", META("==", "mark", "1"), "{\"drop\":null}"), -1 },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[2048];

		snprintf(text, sizeof(text), "%s,%s", base, cases[i].rule);
		CHECK_EQ(dropped_by(text, &way_out, NULL), cases[i].dropped);
	}
}

TEST(jumps_come_back_and_gotos_do_not)
{
	static const char base[] = CHAIN("ip", "f", "forward", "accept");
	char text[2048];

	snprintf(text, sizeof(text), "%s,%s,%s,%s", base, DO("f", "1", "{\"jump\":{\"target\":\"g\"}}"),
		 DO("g", "2", "{\"return\":null}"), DO("f", "3", "{\"drop\":null}"));
	CHECK_EQ(dropped_by(text, &way_out, NULL), 3);
	snprintf(text, sizeof(text), "%s,%s,%s,%s", base, DO("f", "1", "{\"goto\":{\"target\":\"g\"}}"),
		 DO("g", "2", "{\"return\":null}"), DO("f", "3", "{\"drop\":null}"));
	CHECK_EQ(dropped_by(text, &way_out, NULL), -1);
	/* A chain that jumps to itself, which nft refuses, ends all the same. */
	snprintf(text, sizeof(text), "%s,%s", base, DO("f", "1", "{\"jump\":{\"target\":\"f\"}}"));
	CHECK_EQ(dropped_by(text, &way_out, NULL), -1);
}

TEST(what_might_have_passed_is_not_certain)
{
	static const char base[] = CHAIN("inet", "f", "input", "drop");
	bool is_certain = false;
	char text[1024];

	CHECK_EQ(dropped_by(base, &dhcp, &is_certain), 0);
	CHECK(is_certain);
	snprintf(text, sizeof(text), "%s,{\"rule\":{\"family\":\"inet\",\"table\":\"t\",\"chain\":\"f\",\"handle\":1,"
		 "\"expr\":[{\"xt\":null},{\"accept\":null}]}}", base);
	CHECK_EQ(dropped_by(text, &dhcp, &is_certain), 0);
	CHECK(!is_certain);
	/* What is for the host goes out by no interface. */
	snprintf(text, sizeof(text), "%s,{\"rule\":{\"family\":\"inet\",\"table\":\"t\",\"chain\":\"f\",\"handle\":1,"
		 "\"expr\":[" META("!=", "oifname", "\"eth0\"") ",{\"accept\":null}]}}", base);
	CHECK_EQ(dropped_by(text, &dhcp, NULL), 0);
}
