/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/migrate_sides.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include "util/cleanup.h"
#include "util/log.h"
#include "vm/migrate.h"

enum { JOIN_MS = 5000, STRANGERS_MAX = 16 };

void migrate_sides_init(struct migrate_sides *s)
{
	*s = (struct migrate_sides){ .n = 0 };
	for (unsigned i = 0; i < MIGRATE_STREAMS_MAX - 1; i++)
		s->side[i].link.fd = -1;
	memset(s->disk_fd, -1, sizeof(s->disk_fd));
}

int migrate_sides_plan(struct migrate_sides *s, const struct migrate_record *rec, struct err *err)
{
	if (rec->len != sizeof(s->plan))
		return err_set(err, -EPROTO, "the other side says nonsense about its connections");
	memcpy(&s->plan, rec->p, sizeof(s->plan));
	uint32_t n = le32_get(s->plan.n_streams), flags = le32_get(s->plan.flags);
	if (n < (flags & MIGRATE_PLAN_DISKS ? 1 : 2) || n > MIGRATE_STREAMS_MAX ||
	    flags & ~(uint32_t)(MIGRATE_PLAN_POSTCOPY | MIGRATE_PLAN_DISKS) || (flags & MIGRATE_PLAN_POSTCOPY && n < 2))
		return err_set(err, -EPROTO, "the other side wants what this one does not know (%u connections, flags 0x%x)", n, flags);
	s->n = n - 1;
	return 0;
}

static bool disk_row_is_fine(const struct migrate_disk_row *r)
{
	const char *end = memchr(r->name, '\0', sizeof(r->name));

	return end && end > r->name && !(le64_get(r->size) % 512) && le64_get(r->size) <= INT64_MAX &&
	       le32_get(r->flags) <= MIGRATE_DISK_READONLY && !le32_get(r->reserved);
}

int migrate_sides_disks(struct migrate_sides *s, const struct migrate_record *rec, struct err *err)
{
	size_t n = rec->len / sizeof(s->disk[0]);
	bool is_fine = n && n <= MIGRATE_DISKS_MAX && !(rec->len % sizeof(s->disk[0])), any = false;

	if (is_fine)
		memcpy(s->disk, rec->p, rec->len);
	for (size_t i = 0; is_fine && i < n; i++) {
		is_fine = disk_row_is_fine(&s->disk[i]);
		any |= le32_get(s->disk[i].flags) == MIGRATE_DISK_COMES;
	}
	if (!is_fine || !any)
		return err_set(err, -EPROTO, "the other side says nonsense about its disks");
	s->n_disks = (unsigned)n;
	return 0;
}

/* How many connections there are besides the first. */
static unsigned sides_expected(const struct migrate_sides *s)
{
	unsigned n = s->n;

	for (unsigned i = 0; i < s->n_disks; i++)
		n += le32_get(s->disk[i].flags) == MIGRATE_DISK_COMES;
	return n;
}

static bool side_is_awaited(const struct migrate_sides *s, uint32_t n)
{
	uint32_t disk = n - MIGRATE_JOIN_DISK;

	if (n < MIGRATE_JOIN_DISK)
		return n && n <= s->n && s->side[n - 1].link.fd < 0;
	return disk < s->n_disks && le32_get(s->disk[disk].flags) == MIGRATE_DISK_COMES && s->disk_fd[disk] < 0;
}

/* Which one has connected, from 1 on; -errno. */
static int side_learn(const struct migrate_sides *s, struct migrate_link *l, struct err *err)
{
	struct migrate_record rec;
	struct migrate_join join;
	int r;

	l->timeout_ms = JOIN_MS;
	r = migrate_recv(l, MIGRATE_BIT(MIGRATE_JOIN), &rec, err);
	if (r < 0)
		return r;
	if (rec.len != sizeof(join))
		return err_set(err, -EPROTO, "it says nonsense");
	memcpy(&join, rec.p, sizeof(join));
	uint32_t n = le32_get(join.n);
	if (CRYPTO_memcmp(join.token, s->plan.token, sizeof(join.token)) || !side_is_awaited(s, n))
		return err_set(err, -EPERM, "it does not belong to the machine that comes");
	return (int)n;
}

/* L, taken, is connection N. */
static void sides_take(struct migrate_sides *s, unsigned n, struct migrate_link *l)
{
	if (n >= MIGRATE_JOIN_DISK) {           /* from here on it speaks NBD */
		(void)fcntl(l->fd, F_SETFL, O_NONBLOCK);
		s->disk_fd[n - MIGRATE_JOIN_DISK] = take_fd(&l->fd);
		migrate_link_fini(l);
		return;
	}
	l->timeout_ms = INT32_MAX;      /* it may have nothing to carry; the first connection tells */
	s->side[n - 1].link = *l;
}

int migrate_sides_accept(struct migrate_sides *s, int listener, struct err *err)
{
	unsigned n_strangers = 0, expected = sides_expected(s);

	for (unsigned have = 0; have < expected;) {
		struct pollfd p = { .fd = listener, .events = POLLIN };
		struct migrate_link l;
		struct err why = ERR_INIT;
		int fd = -EAGAIN;

		if (poll(&p, 1, JOIN_MS) > 0)
			fd = migrate_accept(listener, err);
		if (fd < 0)
			return fd == -EAGAIN ? err_set(err, -ETIMEDOUT, "the further connections of the other side do not come") : fd;
		migrate_link_init(&l, fd);
		int n = side_learn(s, &l, &why);
		if (n > 0) {
			sides_take(s, (unsigned)n, &l);
			have++;
			continue;
		}
		log_warn("somebody who has connected is turned away: %s", why.msg);
		migrate_link_fini(&l);
		if (++n_strangers == STRANGERS_MAX)
			return err_set(err, -ETIMEDOUT, "the further connections of the other side do not come, only strangers");
	}
	return 0;
}

void migrate_sides_again(struct migrate_sides *s)
{
	migrate_sides_fini(s);
	s->n = 1;
}

static void *side_main(void *arg)
{
	struct migrate_side *s = arg;
	struct migrate_record rec = { .type = MIGRATE_PAGES };
	int r = 0;

	pthread_setname_np(pthread_self(), "incoming-lane");
	while (!r && rec.type == MIGRATE_PAGES) {
		r = migrate_recv(&s->link, MIGRATE_BIT(MIGRATE_PAGES) | MIGRATE_BIT(MIGRATE_END), &rec, &s->err);
		if (!r && rec.type == MIGRATE_PAGES)
			r = migrate_receive_pages(&s->receiver, &rec, &s->err);
	}
	if (r < 0) {
		if (r != -EREMOTEIO)
			migrate_send_fail(&s->link, &s->err);
		shutdown(s->first->fd, SHUT_RD);        /* what is to be said there can be said */
	}
	return NULL;
}

int migrate_sides_start(struct migrate_sides *s, struct gmem *mem, struct migrate_link *first, struct err *err)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct migrate_side *d = &s->side[i];

		d->receiver = (struct migrate_receiver){ .mem = mem };
		d->first = first;
		d->err = (struct err)ERR_INIT;
		int r = pthread_create(&d->thread, NULL, side_main, d);
		if (r)
			return err_set(err, -r, "cannot start a thread: %s", strerror(r));
		d->has_thread = true;
	}
	return 0;
}

static void sides_join(struct migrate_sides *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		if (s->side[i].has_thread)
			pthread_join(s->side[i].thread, NULL);
		s->side[i].has_thread = false;
	}
}

int migrate_sides_wait(struct migrate_sides *s, struct err *err)
{
	sides_join(s);
	for (unsigned i = 0; i < s->n; i++) {
		const struct err *why = &s->side[i].err;

		if (why->code)
			return err_set(err, why->code, "%s", why->msg);
	}
	return 0;
}

void migrate_sides_cancel(struct migrate_sides *s)
{
	for (unsigned i = 0; i < s->n; i++)
		migrate_link_cancel(&s->side[i].link);
}

void migrate_sides_fini(struct migrate_sides *s)
{
	migrate_sides_cancel(s);
	sides_join(s);
	for (unsigned i = 0; i < s->n; i++) {
		migrate_receiver_fini(&s->side[i].receiver);
		migrate_link_fini(&s->side[i].link);
	}
	for (unsigned i = 0; i < s->n_disks; i++)
		auto_fd(&s->disk_fd[i]);
	s->n = s->n_disks = 0;
}
