/* SPDX-License-Identifier: Apache-2.0 */
/* The records of a migration, and the end of one at its source whatever the other side does. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hlt_machine.h"
#include "mem/gmem.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "util/loop.h"
#include "vm/handover.h"
#include "vm/machine_priv.h"
#include "vm/migrate.h"
#include "vm/migrate_link.h"
#include "vm/migrate_lanes.h"
#include "vm/migrate_mem.h"
#include "vm/migrate_sides.h"

/* --- records --- */

static void make_pair(struct migrate_link *a, struct migrate_link *b)
{
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	migrate_link_init(a, sv[0]);
	migrate_link_init(b, sv[1]);
}

TEST(records_come_as_they_were_sent)
{
	struct migrate_link a, b;
	struct migrate_record rec;
	struct err e = ERR_INIT;

	make_pair(&a, &b);
	CHECK_EQ(migrate_send(&a, MIGRATE_STATE, "abc", 3, "defg", 4, &e), 0);
	CHECK_EQ(migrate_send(&a, MIGRATE_COMMIT, NULL, 0, NULL, 0, &e), 0);
	CHECK_EQ(migrate_recv(&b, MIGRATE_BIT(MIGRATE_STATE), &rec, &e), 0);
	CHECK(rec.type == MIGRATE_STATE && rec.len == 7 && !memcmp(rec.p, "abcdefg", 7));
	CHECK_EQ(migrate_recv(&b, MIGRATE_BIT(MIGRATE_COMMIT), &rec, &e), 0);
	CHECK_EQ(rec.len, 0);
	migrate_link_fini(&a);
	CHECK_EQ(migrate_recv(&b, MIGRATE_BIT(MIGRATE_DONE), &rec, &e), -EPIPE);
	migrate_link_fini(&b);
}

/* What comes of 12 bytes of head and LEN of payload. */
static int receive_raw(uint32_t type, uint32_t len, uint32_t crc, const char *payload, unsigned wanted, struct err *e)
{
	struct migrate_head h = { le32_of(type), le32_of(len), le32_of(crc) };
	struct migrate_record rec;
	struct migrate_link a, b;

	make_pair(&a, &b);
	CHECK_EQ(write(a.fd, &h, sizeof(h)), sizeof(h));
	CHECK_EQ(write(a.fd, payload, strlen(payload)), strlen(payload));
	migrate_link_fini(&a);
	*e = (struct err)ERR_INIT;
	int r = migrate_recv(&b, wanted, &rec, e);
	migrate_link_fini(&b);
	return r;
}

TEST(a_record_that_is_wrong_is_refused)
{
	unsigned all = ~0u;
	struct err e;

	CHECK_EQ(receive_raw(0, 0, 0, "", all, &e), -EPROTO);
	CHECK_EQ(receive_raw(MIGRATE_N_TYPES, 0, 0, "", all, &e), -EPROTO);
	CHECK_EQ(receive_raw(0xffffffff, 0, 0, "", all, &e), -EPROTO);
	CHECK_EQ(receive_raw(MIGRATE_STATE, (64 << 20) + 1, 0, "", all, &e), -EPROTO);
	CHECK_EQ(receive_raw(MIGRATE_READY, 1, 0, "x", all, &e), -EPROTO);
	CHECK_EQ(receive_raw(MIGRATE_STATE, 1, 0, "x", MIGRATE_BIT(MIGRATE_PAGES), &e), -EPROTO);
	CHECK_HAS(e.msg, "out of order");
	CHECK_EQ(receive_raw(MIGRATE_STATE, 1, 12345, "x", all, &e), -EPROTO);
	CHECK_HAS(e.msg, "damaged");
	CHECK_EQ(receive_raw(MIGRATE_STATE, 64 << 20, 0, "x", all, &e), -EPIPE);        /* memory only for what came */
	CHECK(receive_raw(MIGRATE_PAGES, 100, 0, "x", all, &e) == -EPIPE);
}

TEST(the_other_sides_reason_is_told_without_what_a_terminal_would_obey)
{
	static const char text[] = "no \33[2Jdisk";
	struct migrate_link a, b;
	struct migrate_record rec;
	struct err e = ERR_INIT, why = ERR_INIT;

	make_pair(&a, &b);
	err_set(&why, -EIO, "%s", text);
	migrate_send_fail(&a, &why);
	CHECK_EQ(migrate_recv(&b, MIGRATE_BIT(MIGRATE_READY), &rec, &e), -EREMOTEIO);
	CHECK_HAS(e.msg, "no ?[2Jdisk");
	migrate_link_fini(&a);
	migrate_link_fini(&b);
}

/* --- descriptors --- */

TEST(what_is_handed_over_arrives_in_its_place)
{
	struct migrate_link a, b;
	struct handed out, in;
	struct err e = ERR_INIT;
	char byte = 0;
	int p[2];

	make_pair(&a, &b);
	CHECK_EQ(pipe(p), 0);
	handed_init(&out);
	out.log = p[1];
	out.net[CONFIG_NETS_MAX - 1] = p[0];
	out.console[CONFIG_CONSOLES_MAX - 1][HANDED_PTY] = p[1];
	out.options = strdup("{}");
	CHECK_EQ(handover_send(&a, &out, &e), 0);
	CHECK_EQ(handover_receive(&b, &in, &e), 0);
	CHECK(in.memory < 0 && in.control < 0 && in.janitor < 0 && in.net[0] < 0 && in.console[0][0] < 0);
	CHECK_STR(in.options, "{}");
	CHECK_EQ(write(in.log, "x", 1), 1);
	CHECK_EQ(read(in.net[CONFIG_NETS_MAX - 1], &byte, 1), 1);
	CHECK(byte == 'x' && in.console[CONFIG_CONSOLES_MAX - 1][HANDED_PTY] >= 0);
	handed_close(&in);
	CHECK_EQ(in.log, -1);
	handed_fini(&out);
	migrate_link_fini(&a);
	migrate_link_fini(&b);
}

static void hand_over_rows(const void *rows, size_t len, unsigned n_fds)
{
	int fds[2] = { STDERR_FILENO, STDERR_FILENO };
	struct migrate_link a, b;
	struct err e = ERR_INIT;
	struct handed in;

	make_pair(&a, &b);
	CHECK_EQ(migrate_send_fds(&a, MIGRATE_HANDS, rows, len, fds, n_fds, &e), 0);
	CHECK_EQ(handover_receive(&b, &in, &e), -EPROTO);
	CHECK_HAS(e.msg, "makes no sense");
	migrate_link_fini(&a);
	migrate_link_fini(&b);
}

TEST(descriptors_that_make_no_sense_are_refused_and_closed)
{
	int before = dup(STDERR_FILENO), after;

	hand_over_rows("\1\0\0", 3, 0);
	hand_over_rows("\1\0\0\0\4\0\0\0", 8, 0);                    /* fewer than it says */
	hand_over_rows("\0\0\0\0", 4, 1);                              /* more */
	hand_over_rows("\1\0\0\0\0\0\0\0", 8, 1);                    /* no such role */
	hand_over_rows("\1\0\0\0\5\377\0\0", 8, 1);                  /* no such network */
	hand_over_rows("\1\0\0\0\6\0\4\0", 8, 1);                    /* no such part */
	hand_over_rows("\2\0\0\0\4\0\0\0\4\0\0\0", 12, 2);          /* one place twice */
	hand_over_rows("\377\377\377\377", 4, 1);
	after = dup(STDERR_FILENO);
	CHECK_EQ(after, before + 1);
}

/* --- memory --- */

static int receive_pages(struct migrate_receiver *r, uint64_t off, uint32_t len, uint32_t packing, const void *p, size_t n)
{
	uint8_t buf[3 * GMEM_PAGE_SIZE];
	struct migrate_pages h = { le64_of(off), le32_of(len), le32_of(packing) };
	struct migrate_record rec = { MIGRATE_PAGES, buf, sizeof(h) + n };
	struct err e = ERR_INIT;

	memcpy(buf, &h, sizeof(h));
	if (n)
		memcpy(buf + sizeof(h), p, n);
	int rc = migrate_receive_pages(r, &rec, &e);
	CHECK_EQ(rc < 0, e.msg[0] != 0);
	return rc;
}

TEST(pages_land_where_they_say_or_nowhere)
{
	AUTO(gmem_free) struct gmem *mem = NULL;
	uint8_t page[2 * GMEM_PAGE_SIZE];

	memset(page, 7, sizeof(page));
	CHECK_EQ(gmem_new(&mem, 1 << 20, NULL), 0);
	struct migrate_receiver r = { .mem = mem };
	CHECK_EQ(receive_pages(&r, 8192, 4096, MIGRATE_RAW, page, 4096), 0);
	CHECK(mem->host[8192] == 7 && mem->host[12287] == 7 && !mem->host[8191] && !mem->host[12288]);
	CHECK_EQ(receive_pages(&r, 8192, 4096, MIGRATE_ZERO, NULL, 0), 0);
	CHECK(!mem->host[8192]);
	CHECK_EQ(receive_pages(&r, 1 << 20, 4096, MIGRATE_RAW, page, 4096), -EPROTO);
	CHECK_EQ(receive_pages(&r, (1 << 20) - 4096, 8192, MIGRATE_RAW, page, 8192), -EPROTO);
	CHECK_EQ(receive_pages(&r, UINT64_MAX - 4095, 4096, MIGRATE_RAW, page, 4096), -EPROTO);
	CHECK_EQ(receive_pages(&r, 100, 4096, MIGRATE_RAW, page, 4096), -EPROTO);
	CHECK_EQ(receive_pages(&r, 0, 0, MIGRATE_RAW, page, 0), -EPROTO);
	CHECK_EQ(receive_pages(&r, 0, 4096, MIGRATE_RAW, page, 4095), -EPROTO);
	CHECK_EQ(receive_pages(&r, 0, 4096, MIGRATE_ZERO, page, 1), -EPROTO);
	CHECK_EQ(receive_pages(&r, 0, 4096, 77, page, 4096), -EPROTO);
	CHECK_EQ(receive_pages(&r, 0, 4096, MIGRATE_ZSTD, page, 4096), -EPROTO);
	CHECK_EQ(receive_pages(&r, 0, 4096, MIGRATE_LZ4, page, 10), -EPROTO);
	migrate_receiver_fini(&r);
}

struct carried {
	struct migrate_link out[MIGRATE_STREAMS_MAX], in[MIGRATE_STREAMS_MAX];
	struct migrate_sides sides;
	struct migrate_lanes lanes;
	unsigned n;
};

static void carry_open(struct carried *c, struct gmem *mem, enum migrate_packing packing, uint64_t bandwidth, unsigned n)
{
	int fds[MIGRATE_STREAMS_MAX];

	c->n = n;
	for (unsigned i = 0; i < n; i++)
		make_pair(&c->out[i], &c->in[i]);
	CHECK_EQ(migrate_lanes_init(&c->lanes, &(struct migrate_lanes_config){
		.mem = mem, .first = &c->out[0], .packing = packing, .bandwidth = bandwidth, .n = n,
	}, NULL), 0);
	for (unsigned i = 1; i < n; i++)
		fds[i - 1] = c->out[i].fd;
	if (n > 1)
		migrate_lanes_take(&c->lanes, fds);
	migrate_sides_init(&c->sides);
}

static void carry_close(struct carried *c)
{
	migrate_lanes_fini(&c->lanes);
	migrate_sides_fini(&c->sides);
	migrate_link_fini(&c->out[0]);
	migrate_link_fini(&c->in[0]);
}

/* All of A's memory to B's over N connections, with what is written in between. */
static void carry_memory(enum migrate_packing packing, unsigned n)
{
	AUTO(gmem_free) struct gmem *a = NULL, *b = NULL;
	struct migrate_record rec;
	struct err e = ERR_INIT;
	struct carried c;

	CHECK_EQ(gmem_new(&a, 4 << 20, NULL), 0);
	CHECK_EQ(gmem_new(&b, 4 << 20, NULL), 0);
	carry_open(&c, a, packing, 0, n);
	struct migrate_sender *s = &c.lanes.sender;
	struct migrate_receiver r = { .mem = b };
	for (unsigned i = 1; i < n; i++)
		c.sides.side[c.sides.n++].link = c.in[i];
	CHECK_EQ(migrate_sides_start(&c.sides, b, &c.in[0], &e), 0);
	for (uint64_t off = 1 << 20; off < (1 << 20) + (1 << 16); off += 2)
		a->host[off] = (uint8_t)(off >> 5);
	CHECK_EQ(gmem_log_start(a, &e), 0);
	CHECK(migrate_sender_take_all(s) >= 1 << 16);
	CHECK_EQ(migrate_lanes_round(&c.lanes, true, &e), 0);
	CHECK_EQ(migrate_sender_take_dirty(s), 0);
	CHECK_EQ(gmem_fill(a, 1 << 20, 0, 4096), 0);
	CHECK_EQ(gmem_fill(a, 3 << 20, 9, 5000), 0);
	CHECK_EQ(gmem_fill(a, (2 << 20) - 4096, 3, 8192), 0);   /* beyond the end of a word, another lane's */
	CHECK_EQ(migrate_sender_take_dirty(s), 5 * 4096);
	CHECK_EQ(gmem_fill(a, 2 << 20, 5, 1), 0);
	CHECK(migrate_sender_take_more(s) >= 5 * 4096);
	CHECK_EQ(migrate_lanes_round(&c.lanes, false, &e), 0);
	CHECK(s->pages_zero > 0);
	/* So many that each connection has its thread, and as zeroes so little that it fits into the sockets. */
	CHECK_EQ(gmem_fill(a, (2 << 20) + 8192, 0, (1 << 20) - 8192), 0);
	CHECK_EQ(gmem_fill(a, (3 << 20) + 8192, 0, (1 << 20) - 8192), 0);
	CHECK_EQ(migrate_sender_take_dirty(s), (2 << 20) - 4 * 4096);
	CHECK_EQ(migrate_lanes_round(&c.lanes, false, &e), 0);
	CHECK_EQ(migrate_lanes_end(&c.lanes, &e), 0);
	gmem_log_stop(a);
	CHECK(migrate_lanes_sent(&c.lanes) > 0);
	shutdown(c.out[0].fd, SHUT_WR);
	while (!migrate_recv(&c.in[0], MIGRATE_BIT(MIGRATE_PAGES) | MIGRATE_BIT(MIGRATE_ALIVE), &rec, &e))
		CHECK(rec.type == MIGRATE_ALIVE || !migrate_receive_pages(&r, &rec, &e));
	CHECK_EQ(e.code, -EPIPE);
	CHECK_EQ(migrate_sides_wait(&c.sides, &e), 0);
	CHECK(!memcmp(a->host, b->host, a->size));
	migrate_receiver_fini(&r);
	carry_close(&c);
}

TEST(memory_arrives_raw) { carry_memory(MIGRATE_RAW, 1); }
TEST(memory_arrives_through_zstd) { carry_memory(MIGRATE_ZSTD, 1); }
TEST(memory_arrives_through_lz4) { carry_memory(MIGRATE_LZ4, 1); }
TEST(memory_arrives_over_several_connections)
{
	carry_memory(MIGRATE_RAW, 2);
	carry_memory(MIGRATE_LZ4, 3);
}

TEST(a_limit_of_bandwidth_is_kept_by_all_connections_together)
{
	for (unsigned n = 1; n <= 3; n++) {
		AUTO(gmem_free) struct gmem *a = NULL;
		struct err e = ERR_INIT;
		struct carried c;

		CHECK_EQ(gmem_new(&a, 4 << 20, NULL), 0);
		carry_open(&c, a, MIGRATE_RAW, 400 << 10, n);
		for (unsigned i = 0; i < 4; i++)        /* each fits into a socket in any case */
			memset(a->host + (i << 18), 1, 30 << 10);
		uint64_t begin = loop_now_ns();
		migrate_sender_take_all(&c.lanes.sender);
		CHECK_EQ(migrate_lanes_round(&c.lanes, true, &e), 0);
		CHECK(loop_now_ns() - begin >= 200000000u);
		migrate_sender_set_bandwidth(&c.lanes.sender, 0);
		carry_close(&c);
		for (unsigned i = 1; i < n; i++)
			migrate_link_fini(&c.in[i]);
	}
}

TEST(when_one_connection_breaks_all_of_them_end)
{
	AUTO(gmem_free) struct gmem *a = NULL;
	struct err e = ERR_INIT;
	struct carried c;

	CHECK_EQ(gmem_new(&a, 16 << 20, NULL), 0);
	memset(a->host, 1, a->size);
	carry_open(&c, a, MIGRATE_RAW, 20 << 20, 3);
	migrate_link_fini(&c.in[2]);
	migrate_sender_take_all(&c.lanes.sender);
	CHECK_EQ(migrate_lanes_round(&c.lanes, true, &e), -EPIPE);
	carry_close(&c);
	migrate_link_fini(&c.in[1]);
}

TEST(what_a_further_connection_brings_is_judged)
{
	AUTO(gmem_free) struct gmem *b = NULL;
	struct migrate_link out[2], in[2];
	struct migrate_record rec;
	struct migrate_sides s;
	struct err e = ERR_INIT;

	CHECK_EQ(gmem_new(&b, 1 << 20, NULL), 0);
	migrate_sides_init(&s);
	for (unsigned i = 0; i < 2; i++)
		make_pair(&out[i], &in[i]);
	s.side[s.n++].link = in[1];
	CHECK_EQ(migrate_sides_start(&s, b, &in[0], &e), 0);
	CHECK_EQ(migrate_send(&out[1], MIGRATE_COMMIT, NULL, 0, NULL, 0, &e), 0);
	CHECK_EQ(migrate_recv(&in[0], MIGRATE_BIT(MIGRATE_STATE), &rec, &e), -EPIPE);   /* who waits there is woken */
	e = (struct err)ERR_INIT;
	CHECK_EQ(migrate_sides_wait(&s, &e), -EPROTO);
	CHECK_HAS(e.msg, "out of order");
	e = (struct err)ERR_INIT;
	CHECK_EQ(migrate_recv(&out[1], 0, &rec, &e), -EREMOTEIO);                       /* and the source hears why */
	migrate_sides_fini(&s);
	migrate_link_fini(&in[0]);
	migrate_link_fini(&out[0]);
	migrate_link_fini(&out[1]);
}

static int plan(uint32_t n, uint32_t flags, size_t len)
{
	struct migrate_plan p = { .n_streams = le32_of(n), .flags = le32_of(flags) };
	struct migrate_record rec = { MIGRATE_PLAN, (const uint8_t *)&p, len };
	struct migrate_sides s;
	struct err e = ERR_INIT;

	migrate_sides_init(&s);
	int r = migrate_sides_plan(&s, &rec, &e);
	CHECK_EQ(r < 0, e.msg[0] != 0);
	CHECK_EQ(s.n, r < 0 ? 0 : n - 1);
	return r;
}

TEST(a_plan_of_connections_is_within_bounds)
{
	CHECK_EQ(plan(2, 0, sizeof(struct migrate_plan)), 0);
	CHECK_EQ(plan(8, 0, sizeof(struct migrate_plan)), 0);
	CHECK_EQ(plan(9, 0, sizeof(struct migrate_plan)), -EPROTO);
	CHECK_EQ(plan(1, 0, sizeof(struct migrate_plan)), -EPROTO);
	CHECK_EQ(plan(0, 0, sizeof(struct migrate_plan)), -EPROTO);
	CHECK_EQ(plan(2, 0x80000000, sizeof(struct migrate_plan)), -EPROTO);
	CHECK_EQ(plan(2, 0, 7), -EPROTO);
	CHECK_EQ(plan(1, MIGRATE_PLAN_DISKS, sizeof(struct migrate_plan)), 0);
	CHECK_EQ(plan(1, MIGRATE_PLAN_DISKS | MIGRATE_PLAN_POSTCOPY, sizeof(struct migrate_plan)), -EPROTO);
}

static int disks(const struct migrate_disk_row *rows, size_t len)
{
	struct migrate_record rec = { MIGRATE_DISKS, (const uint8_t *)rows, len };
	struct migrate_sides s;
	struct err e = ERR_INIT;

	migrate_sides_init(&s);
	int r = migrate_sides_disks(&s, &rec, &e);
	CHECK_EQ(r < 0, e.msg[0] != 0);
	CHECK_EQ(s.n_disks, r < 0 ? 0 : len / sizeof(rows[0]));
	return r;
}

static int disk_row(const char *name, uint64_t size, uint32_t flags, uint32_t reserved)
{
	struct migrate_disk_row rows[2] = {
		{ .name = "a", .size = le64_of(512), .flags = le32_of(MIGRATE_DISK_COMES) },
		{ .size = le64_of(size), .flags = le32_of(flags), .reserved = le32_of(reserved) },
	};

	memcpy(rows[1].name, name, strnlen(name, sizeof(rows[1].name)));
	return disks(rows, sizeof(rows));
}

TEST(what_is_said_about_disks_makes_sense_or_is_refused)
{
	struct migrate_disk_row rows[MIGRATE_DISKS_MAX + 1] = { { .name = "" } };

	CHECK_EQ(disk_row("b", 1 << 20, 0, 0), 0);
	CHECK_EQ(disk_row("b", 1 << 20, MIGRATE_DISK_READONLY, 0), 0);
	CHECK_EQ(disk_row("", 1 << 20, 0, 0), -EPROTO);
	CHECK_EQ(disk_row("01234567890123456789012345678901", 512, 0, 0), -EPROTO);    /* nothing ends it */
	CHECK_EQ(disk_row("b", 513, 0, 0), -EPROTO);
	CHECK_EQ(disk_row("b", 1ull << 63, 0, 0), -EPROTO);
	CHECK_EQ(disk_row("b", 512, 3, 0), -EPROTO);
	CHECK_EQ(disk_row("b", 512, 0, 1), -EPROTO);
	for (unsigned i = 0; i <= MIGRATE_DISKS_MAX; i++)
		rows[i] = (struct migrate_disk_row){ .name = "x", .size = le64_of(512), .flags = le32_of(MIGRATE_DISK_COMES) };
	CHECK_EQ(disks(rows, MIGRATE_DISKS_MAX * sizeof(rows[0])), 0);
	CHECK_EQ(disks(rows, sizeof(rows)), -EPROTO);
	CHECK_EQ(disks(rows, sizeof(rows[0]) - 1), -EPROTO);
	CHECK_EQ(disks(rows, 0), -EPROTO);
	rows[0].flags = le32_of(0);
	CHECK_EQ(disks(rows, sizeof(rows[0])), -EPROTO);      /* none comes: then this is not said */
}

/* --- how a source ends: the other side is a thread that follows the protocol up to a point --- */

struct peer {
	struct migrate_link link;
	bool tells_life;                /* by a pipe, which closes with the connection */
	bool lives_on;                  /* that does not */
	int life;
	enum migrate_type last;         /* that it receives before it does what it does */
	const char *says;               /* NULL: closes */
	bool confirms;
	pthread_t thread;
};

static bool peer_receives(struct peer *p, enum migrate_type type, unsigned also)
{
	struct migrate_record rec;

	do {
		if (migrate_recv(&p->link, MIGRATE_BIT(type) | also, &rec, NULL) < 0)
			return false;
	} while (rec.type != type);
	return p->last != type;
}

static bool peer_sends(struct peer *p, enum migrate_type type)
{
	return migrate_send(&p->link, type, NULL, 0, NULL, 0, NULL) == 0;
}

static void peer_follow(struct peer *p)
{
	struct migrate_hello theirs;
	int ends[2] = { -1, -1 };

	p->life = -1;
	if (p->last == MIGRATE_HELLO || (p->tells_life && pipe(ends) < 0))
		return;
	p->life = ends[1];
	int r = migrate_hello(&p->link, false, 0, 0, p->tells_life ? &ends[0] : NULL, &theirs, NULL);
	if (ends[0] >= 0)
		close(ends[0]);
	if (r < 0)
		return;
	if (!peer_receives(p, MIGRATE_MACHINE, 0) || !peer_sends(p, MIGRATE_BUILT) ||
	    !peer_receives(p, MIGRATE_STATE, MIGRATE_BIT(MIGRATE_PAGES)) || !peer_sends(p, MIGRATE_READY))
		return;
	peer_receives(p, MIGRATE_COMMIT, 0);
}

static void *peer_main(void *arg)
{
	struct peer *p = arg;
	struct err e = ERR_INIT;

	peer_follow(p);
	if (p->says) {
		err_set(&e, -EIO, "%s", p->says);
		migrate_send_fail(&p->link, &e);
	}
	if (p->confirms)
		peer_sends(p, MIGRATE_DONE);
	migrate_link_fini(&p->link);
	if (p->life >= 0 && !p->lives_on)
		close(p->life);
	return NULL;
}

struct outcome {
	bool is_done;
	struct migrate_result result;
	struct err err;
};

static void migrated(void *arg, const struct migrate_result *result, const struct err *err)
{
	struct outcome *o = arg;

	o->is_done = true;
	o->result = *result;
	if (err)
		o->err = *err;
}

static bool is_done(void *arg)
{
	return ((struct outcome *)arg)->is_done;
}

static bool is_over(void *arg)
{
	return !((struct hlt_machine *)arg)->m->migration;
}

static void start_peer(struct hlt_machine *h, struct peer *p, struct outcome *o, bool is_paused)
{
	struct migrate_options mo = { .n_fds = 1, .packing = MIGRATE_RAW, .pause_ns = 100000000, .may_throttle = true,
				      .throttle_max = 99, .done = migrated, .arg = o };
	struct err e = ERR_INIT;
	int sv[2];

	*o = (struct outcome){ .is_done = false };
	hlt_machine_init(h);
	hlt_machine_build(h);
	machine_start(h->m);
	if (is_paused)
		machine_hold(h->m, MACHINE_HOLD_USER);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	mo.fd[0] = sv[0];
	migrate_link_init(&p->link, sv[1]);
	CHECK_EQ(pthread_create(&p->thread, NULL, peer_main, p), 0);
	if (migration_start(h->m, &mo, &e) < 0)
		FAIL("%s", e.msg);
}

static void finish(struct hlt_machine *h, struct peer *p)
{
	machine_stop(h->m);
	hlt_machine_fini(h);
	pthread_join(p->thread, NULL);
}

static uint64_t counter(const struct hlt_machine *h)
{
	uint64_t v;

	CHECK_EQ(gmem_read(h->m->mem, HLT_COUNTER, &v, 8), 0);
	return v;
}

static void must_run(struct hlt_machine *h)
{
	uint64_t then = counter(h), end = loop_now_ns() + 5000000000u;

	CHECK_EQ(machine_get_state(h->m), MACHINE_RUNNING);
	CHECK(!atomic_load(&h->m->mem->is_logging));
	while (counter(h) == then)
		CHECK(loop_now_ns() < end);
}

static void goes_on_when(struct peer p, int code)
{
	struct hlt_machine h;
	struct outcome o;

	start_peer(&h, &p, &o, false);
	hlt_machine_run_until(&h, is_over, &h);
	/* A socket that is closed with bytes unread is reset. */
	CHECK(o.is_done && (o.err.code == code || (code == -EPIPE && o.err.code == -ECONNRESET)));
	must_run(&h);
	finish(&h, &p);
}

TEST(the_source_goes_on_when_the_other_side_breaks_off_early)
{
	goes_on_when((struct peer){ .last = MIGRATE_HELLO }, -EPIPE);
	goes_on_when((struct peer){ .last = MIGRATE_MACHINE }, -EPIPE);
	goes_on_when((struct peer){ .last = MIGRATE_STATE }, -EPIPE);
}

TEST(the_source_goes_on_when_the_other_side_says_no)
{
	goes_on_when((struct peer){ .last = MIGRATE_MACHINE, .says = "no room" }, -EREMOTEIO);
	goes_on_when((struct peer){ .last = MIGRATE_STATE, .says = "no room" }, -EREMOTEIO);
	goes_on_when((struct peer){ .last = MIGRATE_COMMIT, .says = "no disk" }, -EREMOTEIO);
}

TEST(the_source_goes_on_when_a_neighbour_that_had_it_ends)
{
	goes_on_when((struct peer){ .last = MIGRATE_COMMIT, .tells_life = true }, -EPIPE);
}

TEST(the_source_ends_when_the_other_side_confirms)
{
	struct peer p = { .last = MIGRATE_COMMIT, .confirms = true };
	struct hlt_machine h;
	struct outcome o;

	start_peer(&h, &p, &o, false);
	hlt_machine_run_until(&h, is_over, &h);
	CHECK(o.is_done && !o.err.code && o.result.pages && o.result.pause_ns && o.result.rounds);
	const struct migrate_pause *parts = &o.result.pause;
	CHECK_EQ(parts->stop_ns + parts->state_ns + parts->memory_ns + parts->load_ns + parts->start_ns, o.result.pause_ns);
	CHECK_EQ(machine_get_state(h.m), MACHINE_ENDED);
	finish(&h, &p);
}

static void waits_for_its_user(struct peer p)
{
	struct hlt_machine h;
	struct err e = ERR_INIT;
	struct outcome o;

	start_peer(&h, &p, &o, false);
	hlt_machine_run_until(&h, is_done, &o);
	CHECK_EQ(o.err.code, -EINPROGRESS);
	CHECK_EQ(machine_get_state(h.m), MACHINE_PAUSED);
	machine_release(h.m, MACHINE_HOLD_USER);
	CHECK_EQ(machine_get_state(h.m), MACHINE_PAUSED);
	CHECK_EQ(migration_cancel(h.m, &e), -EALREADY);
	CHECK_EQ(migration_resume(h.m, &e), 0);
	must_run(&h);
	CHECK_EQ(migration_resume(h.m, &e), 0);
	finish(&h, &p);
	if (p.life >= 0)
		close(p.life);
}

TEST(a_source_in_doubt_waits_for_its_user)
{
	waits_for_its_user((struct peer){ .last = MIGRATE_COMMIT });
	waits_for_its_user((struct peer){ .last = MIGRATE_COMMIT, .tells_life = true, .lives_on = true });
}

TEST(a_paused_source_is_still_paused_afterwards)
{
	struct peer p = { .last = MIGRATE_STATE };
	struct hlt_machine h;
	struct outcome o;

	start_peer(&h, &p, &o, true);
	hlt_machine_run_until(&h, is_over, &h);
	CHECK_EQ(machine_get_state(h.m), MACHINE_PAUSED);
	machine_release(h.m, MACHINE_HOLD_USER);
	must_run(&h);
	finish(&h, &p);
}

TEST(a_source_may_end_at_any_time)
{
	for (int rounds = 0; rounds < 8; rounds++) {
		struct peer p = { .last = MIGRATE_COMMIT };
		struct hlt_machine h;
		struct outcome o;

		start_peer(&h, &p, &o, false);
		for (int i = 0; i < rounds; i++)
			loop_run_once(h.loop, 1);
		finish(&h, &p);
	}
}

TEST(a_second_migration_is_refused)
{
	struct peer p = { .last = MIGRATE_COMMIT, .confirms = true };
	struct migrate_options mo = { .fd = { -1 }, .n_fds = 1, .packing = MIGRATE_RAW };
	struct hlt_machine h;
	struct err e = ERR_INIT;
	struct outcome o;

	start_peer(&h, &p, &o, false);
	CHECK_EQ(migration_start(h.m, &mo, &e), -EBUSY);
	hlt_machine_run_until(&h, is_done, &o);
	finish(&h, &p);
}
