/* SPDX-License-Identifier: Apache-2.0 */
/* machine_job.h - a worker has a machine that runs copy one of its disks into a file that it is handed: a job of the machine's
 * (docs/design/block-jobs.md), followed for a task. One thread. */
#ifndef NODE_MACHINE_JOB_H
#define NODE_MACHINE_JOB_H

#include "node/machine_talk.h"
#include "node/task.h"

struct machine_job {
	struct talk talk;
	struct task *task;              /* hears how far it is, and says when it is unwanted; borrowed */
	const char *id;                 /* of the job, and of the image that is handed over */
	bool is_ready, is_completed, is_over;   /* as events tell */
	char reason[300];
	uint64_t before, all;           /* of what TASK counts: what was done before this, and all that there is */
};

/* Connect to the socket at CONTROL; machine_job_close() in any case. */
int machine_job_open(struct machine_job *k, struct task *t, const char *id, const char *control, struct err *err);
void machine_job_close(struct machine_job *k);
/* What a daemon that was killed has left in the machine goes. -EAGAIN: the machine has gone. */
int machine_job_clear(struct machine_job *k, struct err *err);
/* Have REQUEST ("disk-mirror") fill a new image of FORMAT at PATH, whose directory is there, from DISK; PARAMS (taken) go along. */
int machine_job_begin(struct machine_job *k, const char *request, const char *disk, const char *path, const char *format, json_t *params,
		      struct err *err);
/* Until it is over; READY (NULL: none) is called once when it is ready, and says how that went. -ECANCELED, -EIO with the reason. */
int machine_job_follow(struct machine_job *k, int (*ready)(void *arg, struct err *err), void *arg, struct err *err);
/* Does nobody want it any more, or does the daemon end? */
bool machine_job_is_unwanted(const struct machine_job *k);

#endif
