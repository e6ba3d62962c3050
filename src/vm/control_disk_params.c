/* SPDX-License-Identifier: Apache-2.0 */
/* What the requests about disks and jobs take. */
#include "vm/control_disk.h"

#define END { .name = NULL }
#define DISK { "disk", CONTROL_STRING, true, "DISK", "its name, as `info` tells", NULL }
#define DISKS { "disks", CONTROL_STRING, true, "DISK=IMAGE[,DISK=IMAGE...]", \
		"disks, each with an image that has been handed over; all at the same instant", NULL }
#define ID { "id", CONTROL_STRING, false, "id=NAME", \
	     "of the job; unless given its kind and the disk, as in stream.disk0. With several disks, .DISK is added", NULL }
#define SPEED { "speed", CONTROL_SIZE, false, "speed=SIZE", "bytes per second at most; 0, no limit, unless given", NULL }
#define MODE { "mode", CONTROL_CHOICE, false, "mode=auto|background|blocking", \
	       "blocking: the guest's writes end when the target has them too, so that the job gets ready whatever the guest writes; " \
	       "auto, unless given: background at first, blocking when twice as much as there was has been copied", \
	       "auto background blocking" }
#define WAIT { "wait", CONTROL_BOOL, false, "--wait", "when it is ready, follow until `job-complete`; else it completes at once", NULL }
#define JOB { "id", CONTROL_STRING, true, "JOB", "its id", NULL }
#define BACKING { "backing", CONTROL_STRING, false, "backing=NAME", \
		  "what is recorded as backing image; unless given the path of the image that it is", NULL }

const struct control_param control_disk_params[] = { DISK, END };

const struct control_param control_image_params[] = {
	{ "id", CONTROL_STRING, true, "ID", "what later requests call it", NULL },
	{ "file", CONTROL_IMAGE, true, "FILE|URL", "an image, open for reading and writing; or a socket that is connected "
	  "to an NBD server, which `viv-vmm ctl` makes of nbd://HOST[:PORT]/EXPORT and nbd+unix:///EXPORT?socket=PATH", NULL },
	{ "path", CONTROL_STRING, false, "path=PATH", "the file's name, which goes into images that stand on it, or the address behind the "
	  "socket, which has the export's name; `viv-vmm ctl` says it",
	  NULL },
	{ "format", CONTROL_STRING, false, "format=FORMAT", "raw, qcow2 or another; it is never guessed; qcow2 unless given, and raw behind an NBD "
	  "server, where nothing else can be", NULL },
	{ "new", CONTROL_BOOL, false, "--new", "the file is empty, and the request that uses it makes an image in it, as large as the "
	  "disk; `viv-vmm ctl` makes the file, which must not be there", NULL },
	{ "backing", CONTROL_STRING, false, "backing=NAME", "with new: the name of its backing image", NULL },
	{ "backing-format", CONTROL_STRING, false, "backing-format=FORMAT", "of that", NULL },
	END,
};

const struct control_param control_image_id_params[] = {
	{ "id", CONTROL_STRING, true, "ID", "what it was called when it was handed over", NULL },
	END,
};

#define QUIESCE { "quiesce", CONTROL_BOOL, false, "--quiesce", "the guest agent freezes the guest's file systems meanwhile, so that what is " \
	"taken is whole; they are thawed whatever happens", NULL }

const struct control_param control_snapshot_params[] = { DISKS, QUIESCE, END };

const struct control_param control_resize_params[] = {
	DISK,
	{ "size", CONTROL_SIZE, true, "SIZE", "bytes, a multiple of 512, not less than it has", NULL },
	END,
};

const struct control_param control_stream_params[] = {
	DISK, ID,
	{ "base", CONTROL_STRING, false, "base=NAME|DEPTH", "the image of the chain that stays as backing image: by name or depth (the "
	  "top has 0); all are pulled in unless given", NULL },
	BACKING, SPEED, END,
};

const struct control_param control_commit_params[] = {
	DISK, ID,
	{ "top", CONTROL_STRING, false, "top=NAME|DEPTH", "the image that is pushed down, with those between; the top of the disk unless "
	  "given", NULL },
	{ "base", CONTROL_STRING, false, "base=NAME|DEPTH", "the image below that takes it; the last of the chain unless given", NULL },
	{ "base-image", CONTROL_STRING, false, "base-image=IMAGE", "the base once more, open for writing; needed unless this process "
	  "may write it anyway, as after a snapshot of its own", NULL },
	{ "overlay-image", CONTROL_STRING, false, "overlay-image=IMAGE", "the same of the image right above the one that is pushed down, "
	  "where that is not the top of the disk", NULL },
	BACKING, SPEED, MODE, WAIT, END,
};

const struct control_param control_mirror_params[] = {
	DISKS, ID,
	{ "sync", CONTROL_CHOICE, false, "sync=full|top|none", "full: all of the disk; top: what its top image holds; none: what is "
	  "written from now on; full unless given", "full top none" },
	SPEED, MODE, WAIT,
	{ "stay", CONTROL_BOOL, false, "--stay", "in the end the disk stays where it is, and the target is what the disk was then; else "
	  "the target is the disk's image from then on", NULL },
	END,
};

const struct control_param control_backup_params[] = {
	DISKS, ID,
	{ "bitmap", CONTROL_STRING, false, "bitmap=NAME", "only what this dirty bitmap says has changed; all unless given", NULL },
	SPEED, QUIESCE, END,
};

const struct control_param control_bitmap_params[] = {
	{ "disks", CONTROL_STRING, true, "DISK[,DISK...]", "at the same instant", NULL },
	{ "name", CONTROL_STRING, true, "NAME", "of the bitmap", NULL },
	{ "granularity", CONTROL_SIZE, false, "granularity=SIZE", "bytes that a bit stands for, a power of 2; 64K unless given", NULL },
	END,
};

const struct control_param control_bitmap_name_params[] = {
	{ "disks", CONTROL_STRING, true, "DISK[,DISK...]", "at the same instant", NULL },
	{ "name", CONTROL_STRING, true, "NAME", "of the bitmap", NULL },
	END,
};

const struct control_param control_inside_params[] = {
	{ "disks", CONTROL_STRING, true, "DISK[,DISK...]", "of the format qcow2", NULL },
	{ "name", CONTROL_STRING, true, "NAME", "of the snapshot", NULL },
	QUIESCE,
	END,
};

const struct control_param control_inside_delete_params[] = {
	{ "disks", CONTROL_STRING, true, "DISK[,DISK...]", "of the format qcow2", NULL },
	{ "name", CONTROL_STRING, true, "NAME", "of the snapshot, or its id", NULL },
	END,
};

const struct control_param control_job_params[] = { JOB, END };

const struct control_param control_job_complete_params[] = {
	JOB,
	{ "stay", CONTROL_BOOL, false, "--stay", "a mirror: the disk stays where it is", NULL },
	END,
};

const struct control_param control_job_set_params[] = {
	JOB,
	{ "speed", CONTROL_SIZE, false, "speed=SIZE", "bytes per second at most; 0: no limit", NULL },
	{ "mode", CONTROL_CHOICE, false, "mode=auto|background|blocking", "as `disk-mirror` has it", "auto background blocking" },
	END,
};
