/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_fork.h - what `viv-vmm ctl SOCKET fork` consists of: ctl_fork.c is the whole, ctl_fork_disks.c the images, ctl_fork_copy.c the
 * processes. One thread. */
#ifndef VM_CTL_FORK_H
#define VM_CTL_FORK_H

#include "vm/ctl_priv.h"

/* --- ctl_fork_disks.c --- */
struct ctl_fork_disks {
	const char *socket, *folder;    /* of new images; NULL: that of the disk's image */
	json_t *disks;                  /* as `info` tells, before anything; borrowed */
	char *base[CONFIG_DISKS_MAX];   /* what each writable disk was; owned, NULL: a readonly one */
	char *fresh[CONFIG_DISKS_MAX];  /* what it goes on in; owned, NULL: none was made */
};
/* The machine is paused: give each of its writable disks a new image, so that what they are stands still. What failed is to be undone
 * by ctl_fork_unsplit(). */
int ctl_fork_split(struct ctl_fork_disks *d, const struct ctl_guard *g, struct err *err);
/* Nothing stands on what the disks were: the machine goes on in that, with what was written meanwhile, and the new images are removed. One
 * that cannot be is told in ERR, behind what is there. */
void ctl_fork_unsplit(struct ctl_fork_disks *d, struct err *err);
/* The value of --disk for disk I of the copy called NAME, whose own image is made; to be freed. NULL and a sentence. */
char *ctl_fork_disk(const struct ctl_fork_disks *d, unsigned i, const char *name, struct err *err);
/* Remove the images that ctl_fork_disk() has made for the first N disks of the copy called NAME. */
void ctl_fork_undisk(const struct ctl_fork_disks *d, unsigned n, const char *name);
void ctl_fork_disks_fini(struct ctl_fork_disks *d);

/* --- ctl_fork_copy.c --- */
struct ctl_fork {
	const char *socket;
	unsigned n;
	char **options;                 /* for the copies, after "--" */
	int n_options;
	int state;                      /* a memory file */
	json_t *info;                   /* of the machine */
	struct ctl_fork_disks disks;
};
/* Nobody listens where the copies will, or a sentence. */
int ctl_fork_check_sockets(const struct ctl_fork *f, struct err *err);
/* Start all copies, and print those that run; of others nothing is left. *N_RUN: how many. -errno and the first reason. */
int ctl_fork_start(const struct ctl_fork *f, const struct ctl_guard *g, unsigned *n_run, struct err *err);

#endif
