/* SPDX-License-Identifier: Apache-2.0 */
/* The source's side of disks that go along. The bulk is copied before memory is; then the guest's writes go to both sides at once, so
 * that nothing is left when it stands still. The connection of each speaks NBD from JOIN on, which the job does. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include "util/log.h"
#include "util/str.h"
#include "vm/machine_priv.h"
#include "vm/migrate_disks.h"
#include "vm/migrate_lanes.h"

enum {
	LOOK_MS = 250,                  /* how often the thread that waits looks what the other side says */
	ALIVE_LOOKS = 40,               /* of those until it says that it is here */
	LATER_SHARE = 2,                /* beside memory, disks take one part in so many of the bandwidth */
};

/* --- which --- */

unsigned migrate_disks_count(const char *names)
{
	unsigned n = names && *names;

	for (const char *p = names; p && *p; p++)
		n += *p == ',';
	return n;
}

static int disks_add(struct migrate_disks *d, const char *name, struct err *err)
{
	int i = machine_find_disk(d->m, name, err);

	if (i < 0)
		return i;
	if (migrate_disks_has(d, (unsigned)i))
		return err_set(err, -EINVAL, "disk '%s' is named twice", name);
	if (blk_is_readonly(d->m->blk[i]))
		return err_set(err, -EROFS, "disk '%s' is read-only: the other side must have it already", name);
	d->disk[d->n++] = (unsigned)i;
	return 0;
}

int migrate_disks_init(struct migrate_disks *d, struct machine *m, const char *names, struct err *err)
{
	char name[CONFIG_DISK_NAME_MAX + 1];
	int r = 0;

	*d = (struct migrate_disks){ .m = m };
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->changed, &attr);
	pthread_condattr_destroy(&attr);
	for (unsigned i = 0; i < MIGRATE_DISKS_MAX; i++)
		migrate_link_init(&d->link[i], -1);
	while (!r && names && *names) {
		size_t n = strcspn(names, ",");

		if (n >= sizeof(name) || d->n == MIGRATE_DISKS_MAX)
			return err_set(err, -EINVAL, "'%.64s' is no list of disks", names);
		snprintf(name, sizeof(name), "%.*s", (int)n, names);
		r = disks_add(d, name, err);
		names += n + (names[n] == ',');
	}
	return r;
}

void migrate_disks_fini(struct migrate_disks *d)
{
	if (!d->m)
		return;
	for (unsigned i = 0; i < d->n; i++)
		migrate_link_fini(&d->link[i]);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
	d->m = NULL;
}

bool migrate_disks_has(const struct migrate_disks *d, unsigned i)
{
	for (unsigned k = 0; k < d->n; k++) {
		if (d->disk[k] == i)
			return true;
	}
	return false;
}

void migrate_disks_take(struct migrate_disks *d, const int *fd)
{
	for (unsigned i = 0; i < d->n; i++)
		d->link[i].fd = fd[i];
}

int migrate_disks_announce(struct migrate_disks *d, const struct migrate_lanes *lanes, struct migrate_link *first, struct err *err)
{
	struct migrate_disk_row row[MIGRATE_DISKS_MAX] = { 0 };
	const struct machine *m = d->m;
	char buf[CONFIG_DISK_NAME_MAX + 1];
	unsigned n = m->cfg->n_disks;

	for (unsigned i = 0; i < n; i++) {
		bool comes = migrate_disks_has(d, i);

		snprintf(row[i].name, sizeof(row[i].name), "%s", config_disk_name(m->cfg, i, buf));
		row[i].size = le64_of(blk_size(m->blk[i]));
		row[i].flags = le32_of(comes ? MIGRATE_DISK_COMES : m->cfg->disks[i].is_readonly ? MIGRATE_DISK_READONLY : 0);
	}
	int r = migrate_send(first, MIGRATE_DISKS, row, n * sizeof(row[0]), NULL, 0, err);
	for (unsigned i = 0; !r && i < d->n; i++)
		r = migrate_lanes_say_join(lanes, &d->link[i], MIGRATE_JOIN_DISK + d->disk[i], err);
	return r;
}

/* --- jobs, on the loop thread --- */

static void disks_job_id(const struct migrate_disks *d, unsigned i, char id[BLK_JOB_ID_MAX + 1])
{
	char buf[CONFIG_DISK_NAME_MAX + 1];

	snprintf(id, BLK_JOB_ID_MAX + 1, "migrate.%s", config_disk_name(d->m->cfg, d->disk[i], buf));
}

static struct blk_job *disks_job(const struct migrate_disks *d, unsigned i)
{
	char id[BLK_JOB_ID_MAX + 1];

	disks_job_id(d, i, id);
	return d->state[i] == MIGRATE_DISK_COPIES || d->state[i] == MIGRATE_DISK_READY ? blk_job_find(&d->m->jobs, id, NULL) : NULL;
}

/* What one of N disks may take of BANDWIDTH. */
static uint64_t disks_share(uint64_t bandwidth, unsigned n)
{
	uint64_t share = n ? bandwidth / n : bandwidth;

	return bandwidth && !share ? 1 : share;
}

void migrate_disks_start(struct migrate_disks *d, uint64_t bandwidth, void (*done)(void *arg, const struct err *err), void *arg)
{
	char id[MIGRATE_DISKS_MAX][BLK_JOB_ID_MAX + 1], path[MIGRATE_DISKS_MAX][CONFIG_DISK_NAME_MAX + 64];
	char buf[CONFIG_DISK_NAME_MAX + 1];
	struct blk_job_args a[MIGRATE_DISKS_MAX];
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < d->n; i++) {
		disks_job_id(d, i, id[i]);
		snprintf(path[i], sizeof(path[i]), "nbd+unix:///%s?socket=migration", config_disk_name(d->m->cfg, d->disk[i], buf));
		a[i] = (struct blk_job_args){
			.kind = "mirror", .id = id[i], .front = d->m->blk[d->disk[i]], .speed = disks_share(bandwidth, d->n),
			.target = { .fd = d->link[i].fd, .path = path[i], .format = "raw", .is_socket = true }, .overlay.fd = -1,
			.sync = BLK_SYNC_FULL, .mode = BLK_MODE_AUTO, .stays_ready = true, .keeps_source = true,
		};
	}
	if (blk_jobs_start(&d->m->jobs, a, d->n, done, arg, &err) < 0)
		done(arg, &err);
}

void migrate_disks_set_bandwidth(struct migrate_disks *d, uint64_t bandwidth)
{
	unsigned n_copying = 0;

	for (unsigned i = 0; i < d->n; i++)
		n_copying += d->state[i] == MIGRATE_DISK_COPIES;
	for (unsigned i = 0; i < d->n; i++) {
		struct blk_job *j = disks_job(d, i);

		if (j)
			blk_job_set_speed(j, n_copying ? disks_share(bandwidth, n_copying) : disks_share(bandwidth / LATER_SHARE, d->n));
	}
}

void migrate_disks_follow(struct migrate_disks *d)
{
	for (unsigned i = 0; i < d->n; i++) {
		struct blk_job *j = disks_job(d, i);

		if (j)
			(void)blk_job_set_mode(j, BLK_MODE_BLOCKING, NULL);
	}
}

int migrate_disks_complete(struct migrate_disks *d, struct err *err)
{
	int r = 0;

	d->is_completing = true;
	for (unsigned i = 0; !r && i < d->n; i++) {
		struct blk_job *j = disks_job(d, i);

		r = j ? blk_job_complete(j, true, err) : err_set(err, -EIO, "the copy of a disk has ended");
	}
	return r;
}

/* Somebody at the other end may be silent: then a job waits for it, unless there is nobody. */
void migrate_disks_stop(struct migrate_disks *d)
{
	for (unsigned i = 0; i < d->n; i++) {
		struct blk_job *j = disks_job(d, i);

		if (!j)
			continue;
		blk_job_cancel(j);
		shutdown(d->link[i].fd, SHUT_RDWR);
	}
}

static void disks_failed_locked(struct migrate_disks *d, const char *name, enum blk_job_event ev, const struct err *why)
{
	if (d->err.code || d->is_cancelled)     /* jobs end because their connections were cut */
		return;
	if (ev == BLK_JOB_FAILED)
		err_set(&d->err, why->code, "disk '%s': %s", name, why->msg);
	else
		err_set(&d->err, -ECANCELED, "disk '%s': somebody has ended the job that copies it", name);
}

static void disks_sum(struct migrate_disks *d, uint64_t *more)
{
	uint64_t done = 0, total = 0;

	for (unsigned i = 0; i < d->n; i++) {
		done += d->disk_done[i];
		total += d->disk_total[i];
	}
	*more = done - atomic_load(&d->done);
	atomic_store(&d->done, done);
	atomic_store(&d->total, total);
}

bool migrate_disks_told(struct migrate_disks *d, const struct blk_job_info *info, enum blk_job_event ev, const struct err *why,
			uint64_t *more)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];
	unsigned i = 0;

	while (i < d->n && d->m->blk[d->disk[i]] != info->front)
		i++;
	if (i == d->n)
		return false;
	d->disk_done[i] = info->done;
	d->disk_total[i] = info->total;
	disks_sum(d, more);
	pthread_mutex_lock(&d->lock);
	if (ev == BLK_JOB_STARTED) {
		d->state[i] = MIGRATE_DISK_COPIES;
		d->n_live++;
	} else if (ev == BLK_JOB_READY) {
		d->state[i] = MIGRATE_DISK_READY;
		d->n_ready++;
	} else if (ev == BLK_JOB_COMPLETED || ev == BLK_JOB_CANCELLED || ev == BLK_JOB_FAILED) {
		d->state[i] = MIGRATE_DISK_ENDED;
		d->n_live--;
		if (ev != BLK_JOB_COMPLETED || !d->is_completing)
			disks_failed_locked(d, config_disk_name(d->m->cfg, d->disk[i], buf), ev, why);
	}
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
	return true;
}

/* --- waiting, on the thread --- */

struct err migrate_disks_why(struct migrate_disks *d)
{
	struct err why = ERR_INIT;

	if (!d->n)
		return why;
	pthread_mutex_lock(&d->lock);
	why = d->err;
	pthread_mutex_unlock(&d->lock);
	return why;
}

void migrate_disks_cancel(struct migrate_disks *d)
{
	if (!d->n)
		return;
	pthread_mutex_lock(&d->lock);
	d->is_cancelled = true;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < d->n; i++)     /* nor does a job */
		shutdown(d->link[i].fd, SHUT_RDWR);
}

void migrate_disks_abandon(struct migrate_disks *d)
{
	migrate_disks_cancel(d);
	if (!d->n)
		return;
	pthread_mutex_lock(&d->lock);
	d->is_over = true;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

/* The other side says nothing now unless it gives up. LOOK counts. */
static int disks_look(struct migrate_link *first, unsigned look, struct err *err)
{
	struct pollfd p = { .fd = first->fd, .events = POLLIN };
	struct migrate_record rec;

	if (poll(&p, 1, 0) > 0)
		return migrate_recv(first, 0, &rec, err);
	return look % ALIVE_LOOKS ? 0 : migrate_send(first, MIGRATE_ALIVE, NULL, 0, NULL, 0, err);
}

static bool disks_are_there_locked(const struct migrate_disks *d, bool at_end)
{
	return at_end ? !d->n_live : d->n_ready == d->n;
}

static int disks_wait(struct migrate_disks *d, struct migrate_link *first, bool at_end, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&d->lock);
	for (unsigned look = 0; !r && !d->err.code && !d->is_cancelled && !disks_are_there_locked(d, at_end); look++) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_MS * 1000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		(void)pthread_cond_timedwait(&d->changed, &d->lock, &until);
		pthread_mutex_unlock(&d->lock);
		r = disks_look(first, look, err);
		pthread_mutex_lock(&d->lock);
	}
	if (!r && d->is_cancelled)
		r = err_set(err, -ECANCELED, "the migration was cancelled");
	else if (!r && d->err.code)
		r = err_set(err, d->err.code, "%s", d->err.msg);
	pthread_mutex_unlock(&d->lock);
	return r;
}

int migrate_disks_wait_ready(struct migrate_disks *d, struct migrate_link *first, struct err *err)
{
	return disks_wait(d, first, false, err);
}

int migrate_disks_wait_complete(struct migrate_disks *d, struct migrate_link *first, struct err *err)
{
	return disks_wait(d, first, true, err);
}

void migrate_disks_wait_gone(struct migrate_disks *d)
{
	if (!d->n)
		return;
	pthread_mutex_lock(&d->lock);
	while (d->n_live && !d->is_over)
		pthread_cond_wait(&d->changed, &d->lock);
	pthread_mutex_unlock(&d->lock);
}
