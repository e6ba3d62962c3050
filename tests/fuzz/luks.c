/* SPDX-License-Identifier: Apache-2.0 */
/* A LUKS header: opened without its key, checked, told about, repaired; then opened with a passphrase if its key slots
 * ask for little work. Input: a byte, even: the rest is the start of the file; odd: the rest is the JSON of a LUKS2
 * header that is right in all else. */
#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/luks/luks.h"
#include "blk/secret.h"
#include "fuzz.h"
#include "util/endian.h"
#include "util/err.h"

enum { FILE_LEN = 20 << 20, HDR_LEN = 16 << 10, BIN_LEN = 4096, EASY_ITERATIONS = 100 };

static void make_luks2(uint8_t *head, const uint8_t *json, size_t len)
{
	unsigned n = 32;

	memset(head, 0, HDR_LEN);
	memcpy(head, "LUKS\xba\xbe\0\2", 8);
	put_be64(head + 8, HDR_LEN);
	strcpy((char *)head + 72, "sha256");
	memcpy(head + BIN_LEN, json, len < HDR_LEN - BIN_LEN ? len : HDR_LEN - BIN_LEN - 1);
	FUZZ_CHECK(EVP_Digest(head, HDR_LEN, head + 448, &n, EVP_sha256(), NULL));
}

static int image_fd(const uint8_t *data, size_t len)
{
	static uint8_t head[HDR_LEN];
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (data[0] & 1) {
		make_luks2(head, data + 1, len - 1);
		data = head;
		len = sizeof(head);
	} else {
		data++;
		len--;
	}
	FUZZ_CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len && !ftruncate(fd, FILE_LEN));
	return fd;
}

static struct blk *open_image(const uint8_t *data, size_t len, struct blk_options o)
{
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	o.fd = image_fd(data, len);
	o.format = "luks";
	o.is_confined = true;
	o.aio = "threads";
	int r = blk_open(&b, NULL, &o, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	if (r < 0)
		close(o.fd);
	return b;
}

/* Would a passphrase be tried quickly? */
static bool is_easy(struct blk *b)
{
	struct blk_luks_slot slots[LUKS_SLOTS_MAX];
	unsigned n = 0;

	FUZZ_CHECK(!blk_luks_slots(b, slots, &n, NULL) && n <= LUKS_SLOTS_MAX);
	for (unsigned i = 0; i < n; i++)
		if (slots[i].iterations > EASY_ITERATIONS || slots[i].memory_kib > 1024)
			return false;
	return n && n < 4;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct blk_secret word = { (uint8_t *)"fuzz", 4 };
	struct blk_check c = { .report = NULL };
	json_t *info = NULL;
	bool try_key;

	if (!len)
		return 0;
	struct blk *b = open_image(data, len, (struct blk_options){ .has_no_key = true, .is_readonly = true });

	if (!b)
		return 0;
	try_key = is_easy(b);
	FUZZ_CHECK(blk_size(b) <= FILE_LEN && !blk_info(b, false, &info, NULL));
	json_decref(info);
	blk_close(b);
	b = open_image(data, len, (struct blk_options){ .is_repairing = true });
	if (b) {
		blk_check(b, BLK_FIX_ALL, &c, NULL);
		blk_close(b);
	}
	if (try_key)
		blk_close(open_image(data, len, (struct blk_options){ .secrets = &word, .n_secrets = 1 }));
	return 0;
}
