/* SPDX-License-Identifier: Apache-2.0 */
/* control_disk.h - handlers of the requests about disks and their jobs, for the table in control_requests.c; what the
 * requests take is in control_disk_params.c. */
#ifndef VM_CONTROL_DISK_H
#define VM_CONTROL_DISK_H

#include "vm/control_priv.h"

struct blk;

/* control_disk.c */
/* The limits of a disk, those that it has, as an object. */
json_t *control_disk_limits(const struct blk *front);

/* control_job.c */
int control_disk_info(struct control_call *call, struct err *err);
int control_image_add(struct control_call *call, struct err *err);
int control_image_drop(struct control_call *call, struct err *err);
int control_snapshot(struct control_call *call, struct err *err);
int control_resize(struct control_call *call, struct err *err);
int control_stream(struct control_call *call, struct err *err);
int control_commit(struct control_call *call, struct err *err);
int control_mirror(struct control_call *call, struct err *err);
int control_backup(struct control_call *call, struct err *err);
int control_bitmap_add(struct control_call *call, struct err *err);
int control_bitmap_remove(struct control_call *call, struct err *err);
int control_bitmap_clear(struct control_call *call, struct err *err);
int control_snapshot_create(struct control_call *call, struct err *err);
int control_snapshot_delete(struct control_call *call, struct err *err);
int control_jobs(struct control_call *call, struct err *err);
int control_job_pause(struct control_call *call, struct err *err);
int control_job_resume(struct control_call *call, struct err *err);
int control_job_cancel(struct control_call *call, struct err *err);
int control_job_complete(struct control_call *call, struct err *err);
int control_job_set(struct control_call *call, struct err *err);

extern const struct control_param control_disk_params[], control_image_params[],
	control_image_id_params[], control_snapshot_params[], control_resize_params[], control_stream_params[],
	control_commit_params[], control_mirror_params[], control_backup_params[], control_bitmap_params[],
	control_bitmap_name_params[], control_inside_params[], control_inside_delete_params[], control_job_params[],
	control_job_complete_params[], control_job_set_params[];

#endif
