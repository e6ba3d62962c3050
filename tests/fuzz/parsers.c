/* SPDX-License-Identifier: Apache-2.0 */
/* The small text parsers: numbers, sizes, key=value lists, MAC addresses and port forwards. Input:
 * which parser, then the text. */
#include "fuzz.h"
#include "net/net.h"
#include "util/err.h"
#include "util/str.h"
#include "vm/config.h"

enum { U64, SIZE, BOOL, PAIRS, DISTANCE, FORWARD, MAC, N_PARSERS };

static void parse_pairs(const char *text, struct err *err)
{
	char key[8], value[24];
	bool has_value;
	int r;

	for (const char *at = text, *was = at; (r = str_next_pair(&at, key, sizeof(key), value, sizeof(value),
								   &has_value, err)) > 0; was = at) {
		FUZZ_CHECK(at > was && at <= text + strlen(text));      /* it moves on and stays inside */
		FUZZ_CHECK(memchr(key, '\0', sizeof(key)) && (!has_value || memchr(value, '\0', sizeof(value))));
	}
	FUZZ_CHECK(!r == !err->msg[0]);
}

static void parse_distance(const char *text)
{
	size_t half = strlen(text) / 2;
	char *a = strndup(text, half);

	FUZZ_CHECK(a);
	FUZZ_CHECK(str_distance(a, a) == 0 || str_distance(a, a) == STR_MAX_DISTANCE);
	FUZZ_CHECK(str_distance(a, text + half) == str_distance(text + half, a));
	FUZZ_CHECK(str_distance(a, text) <= STR_MAX_DISTANCE);
	free(a);
}

static void parse_forward(const char *text, struct err *err)
{
	struct net_forward fwd;

	if (net_forward_parse(&fwd, text, err))
		FUZZ_CHECK(err->msg[0]);
	else
		FUZZ_CHECK(fwd.host_port && fwd.guest_port && memchr(fwd.host_addr, '\0', sizeof(fwd.host_addr)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	unsigned which = fuzz_u8(&f) % N_PARSERS;
	struct err err = ERR_INIT;
	char *text = fuzz_text(&f);
	uint8_t mac[6];
	uint64_t v;
	bool b;

	switch (which) {
	case U64:
		FUZZ_CHECK((str_parse_u64(&v, text, &err) < 0) == (err.msg[0] != 0));
		break;
	case SIZE:
		FUZZ_CHECK((str_parse_size(&v, text, &err) < 0) == (err.msg[0] != 0));
		break;
	case BOOL:
		FUZZ_CHECK((str_parse_bool(&b, text, &err) < 0) == (err.msg[0] != 0));
		break;
	case PAIRS:
		parse_pairs(text, &err);
		break;
	case DISTANCE:
		parse_distance(text);
		break;
	case FORWARD:
		parse_forward(text, &err);
		break;
	case MAC:
		if (!config_parse_mac(mac, text, &err))
			FUZZ_CHECK(!(mac[0] & 1) && strlen(text) == 17);
		break;
	}
	free(text);
	return 0;
}
