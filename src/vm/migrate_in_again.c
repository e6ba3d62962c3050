/* SPDX-License-Identifier: Apache-2.0 */
/* Post-copy at the destination, when the machine runs: memory comes until all is there, and if the connection breaks the source comes
 * again. */
#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "mem/lazy.h"
#include "util/log.h"
#include "vm/machine_priv.h"
#include "vm/migrate_in_priv.h"

enum { AGAIN_MS = 500 };

/* Is the one at FD the source, which goes on? Then it has been told what is owed. */
static int incoming_meet_again(struct incoming *in, struct migrate_link *l, struct err *err)
{
	struct migrate_record rec;
	struct migrate_hello theirs;
	int r;

	l->timeout_ms = INCOMING_HELLO_MS;
	r = migrate_hello(l, false, 0, (uint32_t)getpid(), NULL, &theirs, err);
	if (!r)
		r = migrate_recv(l, MIGRATE_BIT(MIGRATE_RECOVER), &rec, err);
	if (!r && (rec.len != MIGRATE_TOKEN_LEN || CRYPTO_memcmp(rec.p, in->sides.plan.token, MIGRATE_TOKEN_LEN)))
		r = err_set(err, -EPERM, "it does not belong to this machine");
	if (r < 0)
		return r;
	l->timeout_ms = MIGRATE_TIMEOUT_MS;
	migrate_sides_again(&in->sides);
	r = migrate_sides_accept(&in->sides, in->listener, err);
	if (!r)
		r = migrate_fill_tell(&in->fill, l, err);
	return r ? r : migrate_send(l, MIGRATE_BUILT, NULL, 0, NULL, 0, err);
}

/* The connection L, taken, is the one over which the two talk from now on. -ECANCELED: the machine is about to go. */
static int incoming_swap(struct incoming *in, const struct migrate_link *l)
{
	pthread_mutex_lock(&in->swap_lock);
	bool is_cancelled = in->is_cancelled;
	migrate_link_fini(&in->link);
	in->link = *l;
	pthread_mutex_unlock(&in->swap_lock);
	return is_cancelled ? -ECANCELED : 0;
}

/* Wait for the source to connect again. */
static int incoming_wait_again(struct incoming *in, struct err *err)
{
	for (;;) {
		struct pollfd p = { .fd = in->listener, .events = POLLIN };
		struct err why = ERR_INIT;
		struct migrate_link l;

		pthread_mutex_lock(&in->swap_lock);
		bool is_cancelled = in->is_cancelled;
		pthread_mutex_unlock(&in->swap_lock);
		if (is_cancelled)
			return err_set(err, -ECANCELED, "the machine ends");
		if (poll(&p, 1, AGAIN_MS) <= 0)
			continue;
		int fd = migrate_accept(in->listener, err);
		if (fd < 0)
			return fd;
		migrate_link_init(&l, fd);
		int r = incoming_meet_again(in, &l, &why);
		if (!r)
			return incoming_swap(in, &l) < 0 ? err_set(err, -ECANCELED, "the machine ends") : 0;
		log_warn("somebody who has connected is turned away: %s", why.msg);
		migrate_send_fail(&l, &why);
		migrate_link_fini(&l);
	}
}

int incoming_fill(struct incoming *in, struct err *err)
{
	for (;;) {
		struct err why = ERR_INIT;

		if (!migrate_fill_run(&in->fill, &why)) {
			(void)migrate_send(&in->link, MIGRATE_COMPLETE, NULL, 0, NULL, 0, NULL);
			return 0;
		}
		log_error("the connection to the machine's source broke: %s. Whoever needs memory that is still there (%" PRIu64 " MiB) waits for it: "
			  "'migrate-recover' at the source goes on. If its process has ended, the machine is lost", why.msg,
			  lazy_left(in->fill.lazy) >> (20 - GMEM_PAGE_SHIFT));
		atomic_store(&in->m->is_cut_off, true);
		migrate_link_cancel(&in->link);         /* the source is to hear of it, too */
		int r = incoming_wait_again(in, err);
		if (!r)
			r = migrate_fill_connect(&in->fill, &in->link, &in->sides.side[0].link, err);
		if (r < 0)
			return r;
		atomic_store(&in->m->is_cut_off, false);
	}
}
