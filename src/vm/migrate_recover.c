/* SPDX-License-Identifier: Apache-2.0 */
/* The connection broke while the machine ran at the other side and some of its memory was still here: the source of post-copy
 * begins again over new connections. */
#include <errno.h>
#include <string.h>
#include "util/loop.h"
#include "vm/migrate_post.h"
#include "vm/migrate_priv.h"

static void *migration_recover_thread(void *arg)
{
	struct migration *g = arg;

	pthread_setname_np(pthread_self(), "migrate");
	int r = migrate_post_again(g, &g->err);
	if (!r && !atomic_load(&g->done_ns))
		atomic_store(&g->done_ns, loop_now_ns());       /* it runs there after all */
	if (!r)
		r = migrate_step(&g->steps, migrate_step_post, g, &g->err);
	if (!r)
		(void)migrate_post_push(g, &g->err);
	migrate_recv_why(&g->link, &g->err);
	migrate_post_end(g);
	while (loop_call(g->m->loop, migrate_ended, g) < 0)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	return NULL;
}

/* Sockets that nobody has spoken over yet. */
static void recover_links(struct migration *g, const int fd[2])
{
	migrate_link_fini(&g->link);
	migrate_link_fini(&g->lanes.side[0]);
	migrate_link_init(&g->link, fd[0]);
	migrate_link_init(&g->lanes.side[0], fd[1]);
	g->lanes.lane[0].paced = g->lanes.lane[1].paced = 0;
	atomic_store(&g->lanes.sender.is_over, false);
}

int migration_recover(struct machine *m, const struct migrate_options *o, struct err *err)
{
	static const int none[2] = { -1, -1 };
	struct migration *g = m->migration;
	enum migration_phase phase = g ? atomic_load(&g->phase) : MIGRATION_CONNECTING;

	if (!g || g->has_thread || !g->owed || (phase != MIGRATION_CUT && phase != MIGRATION_IN_DOUBT))
		return err_set(err, -ENOENT, "no migration of this machine is cut off while it runs elsewhere");
	if (o->n_fds != 2)
		return err_set(err, -EINVAL, "that takes two connections, not %u", o->n_fds);
	g->sent_before += migrate_lanes_sent(&g->lanes);
	recover_links(g, o->fd);
	g->err = (struct err)ERR_INIT;
	int r = pthread_create(&g->thread, NULL, migration_recover_thread, g);
	if (r) {
		g->link.fd = g->lanes.side[0].fd = -1;
		recover_links(g, none);
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	}
	g->has_thread = true;
	g->o.done = o->done;
	g->o.progress = o->progress;
	g->o.arg = o->arg;
	return 0;
}
