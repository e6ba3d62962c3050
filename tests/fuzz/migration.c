/* SPDX-License-Identifier: Apache-2.0 */
/* What a destination of a migration reads. Input: steps; each is a record of a chosen type whose payload are the bytes that
 * follow, with a right checksum or not, or raw bytes. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "fuzz.h"
#include "mem/gmem.h"
#include "mem/lazy.h"
#include "util/err.h"
#include "vm/migrate_link.h"
#include "vm/migrate_mem.h"
#include "vm/migrate_post.h"
#include "vm/migrate_sides.h"
#include "vm/state_file.h"

enum { PAYLOAD_MAX = 4096, RAM = 1 << 20 };

static void write_all(int fd, const uint8_t *p, size_t len)
{
	FUZZ_CHECK(send(fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len);
}

static void send_step(struct fuzz *f, struct migrate_link *l)
{
	unsigned how = fuzz_u8(f), n = fuzz_u16(f) % PAYLOAD_MAX;
	struct migrate_pages h;
	size_t got;

	if (how & 1) {
		const uint8_t *p = fuzz_take(f, n, &got);

		write_all(l->fd, p, got);
	} else if (how & 2) {           /* memory at a place that may exist */
		h = (struct migrate_pages){ le64_of((uint64_t)fuzz_u16(f) << 12), le32_of((uint32_t)fuzz_u8(f) << 12),
					    le32_of(fuzz_u8(f) & 3) };
		const uint8_t *p = fuzz_take(f, n, &got);
		(void)migrate_send(l, MIGRATE_PAGES, &h, sizeof(h), p, got, NULL);
	} else {
		unsigned type = fuzz_u8(f);
		const uint8_t *p = fuzz_take(f, n, &got);

		(void)migrate_send(l, (enum migrate_type)type, p, got, NULL, 0, NULL);
	}
}

static void read_sections(const struct migrate_record *rec)
{
	struct state_file *s = NULL;
	struct err err = ERR_INIT;

	if (state_file_of_sections(&s, rec->p, rec->len, RAM, "it", &err) == 0)
		state_file_close(s);
	else
		FUZZ_CHECK(err.msg[0]);
}

static void read_plan(const struct migrate_record *rec)
{
	struct migrate_sides s;
	struct err err = ERR_INIT;

	migrate_sides_init(&s);
	int r = migrate_sides_plan(&s, rec, &err);
	FUZZ_CHECK(r < 0 ? !s.n && err.msg[0] : (s.n || le32_get(s.plan.flags) & MIGRATE_PLAN_DISKS) && s.n < MIGRATE_STREAMS_MAX);
	migrate_sides_fini(&s);
}

static void read_disks(const struct migrate_record *rec)
{
	struct migrate_sides s;
	struct err err = ERR_INIT;

	migrate_sides_init(&s);
	int r = migrate_sides_disks(&s, rec, &err);
	FUZZ_CHECK(r < 0 ? !s.n_disks && err.msg[0] : s.n_disks && s.n_disks <= MIGRATE_DISKS_MAX);
	for (unsigned i = 0; i < s.n_disks; i++)
		FUZZ_CHECK(memchr(s.disk[i].name, 0, sizeof(s.disk[i].name)) && s.disk[i].name[0]);
	migrate_sides_fini(&s);
}

static void owe(struct migrate_fill *fill, const struct migrate_record *rec)
{
	struct err err = ERR_INIT;
	int r = migrate_fill_owe(fill, rec, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	FUZZ_CHECK(lazy_left(fill->lazy) <= RAM / GMEM_PAGE_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	struct gmem *mem = NULL;
	struct migrate_link out, in;
	struct migrate_record rec;
	int sv[2], r = 0;

	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv) && !gmem_new(&mem, RAM, NULL));
	migrate_link_init(&out, sv[0]);
	migrate_link_init(&in, sv[1]);
	struct migrate_receiver receiver = { .mem = mem };
	struct migrate_fill fill;
	FUZZ_CHECK(!migrate_fill_init(&fill, mem, NULL, -1, NULL));
	for (int i = 0; f.left && i < 16; i++)
		send_step(&f, &out);
	migrate_link_fini(&out);
	while (!r) {
		struct err err = ERR_INIT;

		r = migrate_recv(&in, ~0u, &rec, &err);
		FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
		FUZZ_CHECK(in.cap <= 2 << 20);
		if (!r && rec.type == MIGRATE_PAGES)
			r = migrate_receive_pages(&receiver, &rec, &err);
		else if (!r && rec.type == MIGRATE_OWED)
			owe(&fill, &rec);
		else if (!r && rec.type == MIGRATE_PLAN)
			read_plan(&rec);
		else if (!r && rec.type == MIGRATE_DISKS)
			read_disks(&rec);
		else if (!r)
			read_sections(&rec);
	}
	FUZZ_CHECK(receiver.bytes % GMEM_PAGE_SIZE == 0);
	migrate_receiver_fini(&receiver);
	migrate_fill_fini(&fill);
	migrate_link_fini(&in);
	gmem_free(mem);
	return 0;
}
