/* SPDX-License-Identifier: Apache-2.0 */
#include "saved_file.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "test.h"
#include "util/err.h"

int saved_new_file(void)
{
	int fd = memfd_create("state", 0);

	CHECK(fd >= 0);
	return fd;
}

void saved_make(struct saved *s, enum state_packing packing, const struct state_seal *seal)
{
	struct state_sections sections = { .buf = NULL };
	struct state_progress progress = { .done = 0 };
	struct err e = ERR_INIT;

	CHECK_EQ(gmem_new(&s->mem, SAVED_RAM, &e), 0);
	memset(s->mem->host, 1, 5000);
	memset(s->mem->host + (1 << 20) - 4096, 2, 200000);
	s->mem->host[SAVED_RAM - 1] = 3;
	state_sections_add(&sections, "one", "hello", 5);
	state_sections_add(&sections, "empty", NULL, 0);
	s->fd = saved_new_file();
	CHECK_EQ(state_write(s->fd, s->mem, packing, seal, &sections, &progress, &e), 0);
	state_sections_fini(&sections);
	s->len = (uint64_t)lseek(s->fd, 0, SEEK_END);
}

void saved_fini(struct saved *s)
{
	gmem_free(s->mem);
	close(s->fd);
}

struct state_file *saved_open(int fd, const struct blk_secret *secret, struct err *e)
{
	struct state_file *f = NULL;

	return state_file_open(&f, dup(fd), secret, "it", e) < 0 ? NULL : f;
}

void saved_check_sections(struct state_file *f)
{
	struct err err = ERR_INIT;
	size_t len;

	CHECK_EQ(state_file_all_used(f, &err), -EPROTO);
	CHECK_HAS(err.msg, "'one'");
	const uint8_t *p = state_file_get(f, "one", &len);
	CHECK(len == 5 && !memcmp(p, "hello", 5));
	CHECK(state_file_get(f, "empty", &len) && len == 0);
	CHECK(!state_file_get(f, "on", &len) && !state_file_get(f, "ones", &len));
	CHECK_EQ(state_file_all_used(f, NULL), 0);
}
