/* SPDX-License-Identifier: Apache-2.0 */
#include "hlt_machine.h"

#include <stdlib.h>
#include <unistd.h>
#include "test.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"

static const uint8_t code[] = {
	0x48, 0xff, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00,         /* incq 0x200000 */
	0xe6, 0xe9,                                             /* out %al, $0xe9 */
	0xeb, 0xf4,                                             /* jmp to the first */
};

enum { LOAD = 0x100000, AT = 0x1000 };

static void write_kernel(const char *path)
{
	uint8_t file[AT + sizeof(code)] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 };
	uint8_t *ph = file + 64;

	put_le16(file + 16, 2);         /* executable, x86-64 */
	put_le16(file + 18, 62);
	put_le32(file + 20, 1);
	put_le64(file + 24, LOAD);
	put_le64(file + 32, 64);
	put_le16(file + 52, 64);
	put_le16(file + 54, 56);
	put_le16(file + 56, 1);
	put_le32(ph, 1);                /* PT_LOAD, all rights */
	put_le32(ph + 4, 7);
	put_le64(ph + 8, AT);
	put_le64(ph + 16, LOAD);
	put_le64(ph + 24, LOAD);
	put_le64(ph + 32, sizeof(code));
	put_le64(ph + 40, sizeof(code));
	put_le64(ph + 48, 0x1000);
	memcpy(file + AT, code, sizeof(code));
	FILE *f = fopen(path, "w");
	CHECK(f && fwrite(file, sizeof(file), 1, f) == 1 && !fclose(f));
}

void hlt_machine_init(struct hlt_machine *h)
{
	struct err e = ERR_INIT;
	char path[64];

	memset(h, 0, sizeof(*h));
	strcpy(h->dir, "/tmp/viv-test-XXXXXX");
	CHECK(mkdtemp(h->dir));
	snprintf(path, sizeof(path), "%s/kernel", h->dir);
	write_kernel(path);
	CHECK_EQ(config_init(&h->cfg, &e), 0);
	static const char *const defaults = "{ \"memory\": \"16M\", \"engine\": \"interp\", \"jail\": false,"
					    "  \"consoles\": [ { \"target\": \"none\" } ] }";
	CHECK_EQ(config_load_text(&h->cfg, defaults, strlen(defaults), &e), 0);
	h->cfg.kernel = strdup(path);
	log_set_level(LOG_ERROR);
}

void hlt_machine_build(struct hlt_machine *h)
{
	struct err e = ERR_INIT;

	if (config_validate(&h->cfg, &e) < 0 || loop_new(&h->loop, &e) < 0 || machine_new(&h->m, &h->cfg, h->loop, &e) < 0)
		FAIL("no machine: %s", e.msg);
}

void hlt_machine_fini(struct hlt_machine *h)
{
	machine_free(h->m);
	loop_free(h->loop);
	unlink(h->cfg.kernel);
	rmdir(h->dir);
	config_fini(&h->cfg);
}

void hlt_machine_run_until(struct hlt_machine *h, bool (*fn)(void *arg), void *arg)
{
	uint64_t end = loop_now_ns() + 5000000000u;

	while (!fn(arg)) {
		if (loop_now_ns() > end)
			FAIL("what the test waits for does not happen");
		CHECK(loop_run_once(h->loop, 20) >= 0);
	}
}
