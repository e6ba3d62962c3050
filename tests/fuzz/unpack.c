/* SPDX-License-Identifier: Apache-2.0 */
/* The decompressors of a bzImage's payload, with a limit of 1 MiB. Input: the payload. */
#include "fuzz.h"
#include "util/err.h"
#include "vm/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	enum { LIMIT = 1 << 20 };
	struct err err = ERR_INIT;
	uint8_t *out = NULL;
	size_t out_len = 0;

	unpack_format(data, len);
	int r = unpack_payload(&out, &out_len, data, len, LIMIT, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	FUZZ_CHECK(r < 0 ? !out : out && out_len <= LIMIT);
	free(out);
	return 0;
}
