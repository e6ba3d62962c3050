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
#include "vm/migrate_mem.h"

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

/* All of A's memory to B's, with what is written in between. */
static void carry_memory(enum migrate_packing packing)
{
	AUTO(gmem_free) struct gmem *a = NULL, *b = NULL;
	struct migrate_link out, in;
	struct migrate_sender s;
	struct migrate_record rec;
	struct err e = ERR_INIT;

	CHECK_EQ(gmem_new(&a, 4 << 20, NULL), 0);
	CHECK_EQ(gmem_new(&b, 4 << 20, NULL), 0);
	make_pair(&out, &in);
	struct migrate_receiver r = { .mem = b };
	CHECK_EQ(migrate_sender_init(&s, &out, a, packing, 0, &e), 0);
	for (uint64_t off = 1 << 20; off < (1 << 20) + (1 << 16); off += 2)
		a->host[off] = (uint8_t)(off >> 5);
	CHECK_EQ(gmem_log_start(a, &e), 0);
	CHECK(migrate_sender_take_all(&s) >= 1 << 16);
	CHECK_EQ(migrate_sender_round(&s, true, &e), 0);
	CHECK_EQ(migrate_sender_take_dirty(&s), 0);
	CHECK_EQ(gmem_fill(a, 1 << 20, 0, 4096), 0);
	CHECK_EQ(gmem_fill(a, 3 << 20, 9, 5000), 0);
	CHECK_EQ(migrate_sender_take_dirty(&s), 3 * 4096);
	CHECK_EQ(gmem_fill(a, 2 << 20, 5, 1), 0);
	gmem_log_fetch_more(a, s.bitmap);
	CHECK_EQ(migrate_sender_round(&s, false, &e), 0);
	CHECK_EQ(s.pages_zero > 0, true);
	gmem_log_stop(a);
	shutdown(out.fd, SHUT_WR);
	while (!migrate_recv(&in, MIGRATE_BIT(MIGRATE_PAGES), &rec, &e))
		CHECK_EQ(migrate_receive_pages(&r, &rec, &e), 0);
	CHECK_EQ(e.code, -EPIPE);
	CHECK(!memcmp(a->host, b->host, a->size));
	migrate_sender_fini(&s);
	migrate_receiver_fini(&r);
	migrate_link_fini(&out);
	migrate_link_fini(&in);
}

TEST(memory_arrives_raw) { carry_memory(MIGRATE_RAW); }
TEST(memory_arrives_through_zstd) { carry_memory(MIGRATE_ZSTD); }
TEST(memory_arrives_through_lz4) { carry_memory(MIGRATE_LZ4); }

TEST(a_limit_of_bandwidth_is_kept)
{
	AUTO(gmem_free) struct gmem *a = NULL;
	struct migrate_link out, in;
	struct migrate_sender s;
	struct err e = ERR_INIT;

	CHECK_EQ(gmem_new(&a, 4 << 20, NULL), 0);
	make_pair(&out, &in);
	CHECK_EQ(migrate_sender_init(&s, &out, a, MIGRATE_RAW, 400 << 10, &e), 0);
	memset(a->host, 1, 120 << 10);  /* fits into the socket in any case */
	uint64_t begin = loop_now_ns();
	migrate_sender_take_all(&s);
	CHECK_EQ(migrate_sender_round(&s, true, &e), 0);
	CHECK(loop_now_ns() - begin >= 200000000u);
	migrate_sender_fini(&s);
	migrate_link_fini(&out);
	migrate_link_fini(&in);
}

/* --- how a source ends: the other side is a thread that follows the protocol up to a point --- */

struct peer {
	struct migrate_link link;
	bool is_direct;                 /* says its own process number, which the socket confirms */
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

	if (p->last == MIGRATE_HELLO ||
	    migrate_hello(&p->link, false, 0, p->is_direct ? (uint32_t)getpid() : 0, &theirs, NULL) < 0)
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
	struct migrate_options mo = { .packing = MIGRATE_RAW, .pause_ns = 100000000, .may_throttle = true, .done = migrated,
				      .arg = o };
	struct err e = ERR_INIT;
	int sv[2];

	*o = (struct outcome){ .is_done = false };
	hlt_machine_init(h);
	hlt_machine_build(h);
	machine_start(h->m);
	if (is_paused)
		machine_hold(h->m, MACHINE_HOLD_USER);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	mo.fd = sv[0];
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
	goes_on_when((struct peer){ .last = MIGRATE_COMMIT, .is_direct = true }, -EPIPE);
}

TEST(the_source_ends_when_the_other_side_confirms)
{
	struct peer p = { .last = MIGRATE_COMMIT, .confirms = true };
	struct hlt_machine h;
	struct outcome o;

	start_peer(&h, &p, &o, false);
	hlt_machine_run_until(&h, is_over, &h);
	CHECK(o.is_done && !o.err.code && o.result.pages && o.result.pause_ns && o.result.rounds);
	CHECK_EQ(machine_get_state(h.m), MACHINE_ENDED);
	finish(&h, &p);
}

TEST(a_source_in_doubt_waits_for_its_user)
{
	struct peer p = { .last = MIGRATE_COMMIT };
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
	struct migrate_options mo = { .fd = -1, .packing = MIGRATE_RAW };
	struct hlt_machine h;
	struct err e = ERR_INIT;
	struct outcome o;

	start_peer(&h, &p, &o, false);
	CHECK_EQ(migration_start(h.m, &mo, &e), -EBUSY);
	hlt_machine_run_until(&h, is_done, &o);
	finish(&h, &p);
}
