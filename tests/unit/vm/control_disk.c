/* SPDX-License-Identifier: Apache-2.0 */
/* Requests about disks, sent to a whole machine whose disks are written through their fronts. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "blk/blk.h"
#include "hlt_machine.h"
#include "util/err.h"
#include "util/frames.h"
#include "util/loop.h"
#include "vm/control.h"

enum { DISK = 4 << 20 };

struct rig {
	struct hlt_machine h;
	struct control *control;
	int fd, events;                 /* clients: one asks, the other listens */
	char path[64];
	unsigned n_disks;
};

static const char *in_dir(struct rig *r, const char *name)
{
	snprintf(r->path, sizeof(r->path), "%s/%s", r->h.dir, name);
	return r->path;
}

static bool has_input(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static json_t *rig_receive(struct rig *r, int fd)
{
	char *text = NULL;
	size_t len;

	hlt_machine_run_until(&r->h, has_input, &fd);
	CHECK(frames_receive(fd, 1 << 20, &text, &len) > 0);
	json_t *doc = json_loadb(text, len, 0, NULL);

	CHECK(doc);
	free(text);
	return doc;
}

/* A machine with N qcow2 disks d0, d1, ... */
static void rig_init(struct rig *r, unsigned n)
{
	struct err e = ERR_INIT;
	char text[200], name[16];
	int sv[2];

	memset(r, 0, sizeof(*r));
	hlt_machine_init(&r->h);
	r->n_disks = n;
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		struct blk_create c = { .path = in_dir(r, name), .format = "qcow2", .size = DISK };

		CHECK_EQ(blk_create(&c, &e), 0);
		snprintf(text, sizeof(text), "{\"disks\":[{\"path\":\"%s\"%s}]}", r->path, i ? "" : ",\"name\":\"root\"");
		CHECK_EQ(config_load_text(&r->h.cfg, text, strlen(text), &e), 0);
	}
	hlt_machine_build(&r->h);
	struct control_config cc = { .loop = r->h.loop, .cfg = &r->h.cfg };

	CHECK_EQ(control_open(&r->control, &cc, &e), 0);
	CHECK_EQ(control_serve(r->control, r->h.m, &e), 0);
	machine_start(r->h.m);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
		CHECK_EQ(control_add_client(r->control, sv[1], &e), 0);
		*(i ? &r->events : &r->fd) = sv[0];
	}
	CHECK_EQ(frames_send(r->events, "{\"request\":\"events\"}", 20, NULL, 0), 0);
	json_decref(rig_receive(r, r->events));
}

static void rig_fini(struct rig *r)
{
	char text[80];

	close(r->fd);
	close(r->events);
	machine_stop(r->h.m);
	control_close(r->control);
	snprintf(text, sizeof(text), "rm -f %s/[a-z]*[0-9]", r->h.dir);
	CHECK_EQ(system(text), 0);
	hlt_machine_fini(&r->h);
}

/* Send TEXT (with ' for "), with the descriptor FD unless -1; the answer as a whole. */
static json_t *rig_request(struct rig *r, const char *text, int fd)
{
	char buf[1000];

	snprintf(buf, sizeof(buf), "%s", text);
	for (char *p = buf; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	CHECK_EQ(frames_send(r->fd, buf, strlen(buf), &fd, fd >= 0), 0);
	return rig_receive(r, r->fd);
}

static void rig_do(struct rig *r, const char *text, int fd)
{
	json_t *doc = rig_request(r, text, fd), *error = json_object_get(doc, "error");

	if (error)
		FAIL("%s: %s", text, json_string_value(json_object_get(error, "message")));
	json_decref(doc);
}

static void rig_refused(struct rig *r, const char *text, int fd, const char *says)
{
	json_t *doc = rig_request(r, text, fd), *error = json_object_get(doc, "error");

	if (!error)
		FAIL("%s is not refused", text);
	CHECK_HAS(json_string_value(json_object_get(error, "message")), says);
	json_decref(doc);
}

/* KEY of disk I as `info` tells; of its limits. */
static json_int_t rig_limit(struct rig *r, unsigned i, const char *key)
{
	json_t *doc = rig_request(r, "{'request':'info'}", -1);
	json_t *disk = json_array_get(json_object_get(json_object_get(doc, "result"), "disks"), i);
	json_int_t v = json_integer_value(json_object_get(json_object_get(disk, "limits"), key));

	json_decref(doc);
	return v;
}

TEST(limits_are_set_on_a_running_machine_all_or_none)
{
	struct rig r;

	rig_init(&r, 2);
	rig_do(&r, "{'request':'set','params':{'setting':'disk.root.iops=500,disk.disk1.bps=1M,disk.disk1.bps-burst=2M'}}", -1);
	CHECK_EQ(rig_limit(&r, 0, "iops"), 500);
	CHECK_EQ(rig_limit(&r, 1, "bps"), 1 << 20);
	CHECK_EQ(rig_limit(&r, 1, "bps-burst"), 2 << 20);
	CHECK_EQ(rig_limit(&r, 1, "bps-burst-seconds"), 1);
	static const struct { const char *setting, *says; } bad[] = {
		{ "disk.root.iops=7,disk.root.iops-burst=5", "iops-burst: must be above iops" },
		{ "disk.root.iops=7,disk.disk7.iops=5", "there is no disk 'disk7'" },
		{ "disk.root.iops=7,disk.root.iop=5", "a disk has no limit 'iop'" },
		{ "disk.root.iops=7,memori=5", "'memori' cannot be set" },
		{ "disk.root.iops=much", "iops: " },
		{ "disk.root.iops", "needs a value" },
		{ "", "" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[200];

		snprintf(text, sizeof(text), "{'request':'set','params':{'setting':'%s'}}", bad[i].setting);
		if (*bad[i].setting)
			rig_refused(&r, text, -1, bad[i].says);
	}
	CHECK_EQ(rig_limit(&r, 0, "iops"), 500);
	rig_do(&r, "{'request':'set','params':{'setting':'disk.root.iops=0'}}", -1);
	CHECK_EQ(rig_limit(&r, 0, "iops"), 0);
	rig_fini(&r);
}

TEST(limits_and_names_come_from_the_configuration)
{
	struct config c;
	struct err e = ERR_INIT;
	enum config_action action;
	char buf[CONFIG_DISK_NAME_MAX + 1];
	char *args[] = { "viv-vmm", "--kernel", "k", "--disk", "path=a,iops=500,iops-burst=900,iops-burst-seconds=5,bps-read=10M",
			 "--disk", "path=b,name=data" };

	CHECK_EQ(config_init(&c, &e), 0);
	CHECK_EQ(config_parse_args(&c, &action, 7, args, &e), 0);
	CHECK_EQ(config_validate(&c, &e), 0);
	CHECK_EQ(c.disks[0].limits.v[BLK_LIMIT_IOPS].rate, 500);
	CHECK_EQ(c.disks[0].limits.v[BLK_LIMIT_IOPS].burst, 900);
	CHECK_EQ(c.disks[0].limits.v[BLK_LIMIT_IOPS].burst_s, 5);
	CHECK_EQ(c.disks[0].limits.v[BLK_LIMIT_BPS_READ].rate, 10 << 20);
	CHECK_STR(config_disk_name(&c, 0, buf), "disk0");
	CHECK_STR(config_disk_name(&c, 1, buf), "data");
	c.disks[0].limits.v[BLK_LIMIT_IOPS].burst = 1;
	CHECK_EQ(config_validate(&c, &e), -EINVAL);
	CHECK_HAS(e.msg, "disks[0]: iops-burst");
	c.disks[0].limits.v[BLK_LIMIT_IOPS].burst = 900;
	free(c.disks[1].name);
	c.disks[1].name = strdup("disk0");
	e = (struct err)ERR_INIT;
	CHECK_EQ(config_validate(&c, &e), -EINVAL);
	CHECK_HAS(e.msg, "disk 0 is 'disk0' already");
	strcpy(c.disks[1].name, "a.b");
	e = (struct err)ERR_INIT;
	CHECK_EQ(config_validate(&c, &e), -EINVAL);
	CHECK_HAS(e.msg, "letters, digits");
	config_fini(&c);
}

/* --- jobs ---------------------------------------------------------------------------------------- */

static void hand_over(struct rig *r, const char *id, const char *file, const char *more)
{
	char text[400];
	int fd = open(in_dir(r, file), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	snprintf(text, sizeof(text), "{'request':'image-add','params':{'id':'%s','path':'%s'%s}}", id, r->path, more);
	rig_do(r, text, fd);
	close(fd);
}

/* Bytes of disk I's chain; the name of the top. */
static unsigned chain_len(struct rig *r, const char *disk, char top[64])
{
	char text[100];
	unsigned n = 0;

	snprintf(text, sizeof(text), "{'request':'disk-info','params':{'disk':'%s'}}", disk);
	json_t *doc = rig_request(r, text, -1);

	for (json_t *o = json_object_get(doc, "result"); o; o = json_object_get(o, "backing"))
		if (!n++)
			snprintf(top, 64, "%s", json_string_value(json_object_get(o, "filename")));
	json_decref(doc);
	return n;
}

/* Wait for the event that job ID has STATUS; others are passed over. */
static void wait_job(struct rig *r, const char *id, const char *status)
{
	for (;;) {
		json_t *doc = rig_receive(r, r->events);
		const char *job = json_string_value(json_object_get(doc, "job")), *is = json_string_value(json_object_get(doc, "status"));
		bool found = job && !strcmp(job, id) && !strcmp(is, status);

		if (job && !strcmp(is, "failed") && !found)
			FAIL("%s", json_string_value(json_object_get(doc, "reason")));
		json_decref(doc);
		if (found)
			return;
	}
}

TEST(snapshots_of_several_disks_are_taken_at_once_or_not_at_all)
{
	char top[64];
	struct rig r;

	rig_init(&r, 2);
	hand_over(&r, "a", "a0", ",'new':true");
	hand_over(&r, "b", "b0", ",'new':true");
	rig_refused(&r, "{'request':'disk-snapshot','params':{'disks':'root=a,disk1=c'}}", -1, "there is no image 'c'");
	rig_refused(&r, "{'request':'disk-snapshot','params':{'disks':'root=a,disk1'}}", -1, "needs a new image");
	rig_refused(&r, "{'request':'disk-snapshot','params':{'disks':'root=a,root=b'}}", -1, "has a job");
	CHECK_EQ(chain_len(&r, "root", top), 1);
	rig_do(&r, "{'request':'disk-snapshot','params':{'disks':'root=a,disk1=b'}}", -1);
	CHECK_EQ(chain_len(&r, "root", top), 2);
	CHECK_STR(top, in_dir(&r, "a0"));
	CHECK_EQ(chain_len(&r, "disk1", top), 2);
	CHECK_STR(r.h.cfg.disks[1].path, in_dir(&r, "b0"));
	/* The images are used up. One that is not empty makes both fail. */
	rig_refused(&r, "{'request':'image-drop','params':{'id':'a'}}", -1, "there is no image 'a'");
	hand_over(&r, "c", "c0", ",'new':true");
	hand_over(&r, "d", "a0", ",'new':true");
	rig_refused(&r, "{'request':'disk-snapshot','params':{'disks':'root=c,disk1=d'}}", -1, "'");
	CHECK_EQ(chain_len(&r, "root", top), 2);
	rig_do(&r, "{'request':'image-drop','params':{'id':'c'}}", -1);
	rig_fini(&r);
}

TEST(a_stream_is_told_of_in_events)
{
	char top[64];
	struct rig r;

	rig_init(&r, 1);
	hand_over(&r, "a", "a0", ",'new':true");
	rig_do(&r, "{'request':'disk-snapshot','params':{'disks':'root=a'}}", -1);
	rig_refused(&r, "{'request':'disk-stream','params':{'disk':'root','base':'nothing'}}", -1, "no image 'nothing'");
	rig_refused(&r, "{'request':'job-cancel','params':{'id':'x'}}", -1, "there is no job 'x'");
	json_t *doc = rig_request(&r, "{'request':'disk-stream','params':{'disk':'root','id':'s','speed':'1M'}}", -1);

	CHECK(json_object_get(doc, "result"));
	json_decref(doc);
	wait_job(&r, "s", "started");
	doc = rig_request(&r, "{'request':'jobs'}", -1);
	json_t *job = json_array_get(json_object_get(json_object_get(doc, "result"), "jobs"), 0);

	CHECK_STR(json_string_value(json_object_get(job, "disk")), "root");
	CHECK_EQ(json_integer_value(json_object_get(job, "speed")), 1 << 20);
	json_decref(doc);
	rig_do(&r, "{'request':'job-pause','params':{'id':'s'}}", -1);
	wait_job(&r, "s", "paused");
	rig_refused(&r, "{'request':'save'}", open("/dev/null", O_RDWR), "empty regular file");
	rig_do(&r, "{'request':'job-resume','params':{'id':'s'}}", -1);
	wait_job(&r, "s", "resumed");
	rig_do(&r, "{'request':'job-set','params':{'id':'s','speed':0}}", -1);
	wait_job(&r, "s", "completed");
	CHECK_EQ(chain_len(&r, "root", top), 1);
	CHECK_STR(top, in_dir(&r, "a0"));
	rig_fini(&r);
}

TEST(a_disk_is_made_larger)
{
	struct rig r;

	rig_init(&r, 1);
	rig_do(&r, "{'request':'disk-resize','params':{'disk':'root','size':'8M'}}", -1);
	rig_refused(&r, "{'request':'disk-resize','params':{'disk':'root','size':'4M'}}", -1, "cannot become smaller");
	json_t *doc = rig_request(&r, "{'request':'info'}", -1);

	CHECK_EQ(json_integer_value(json_object_get(json_array_get(json_object_get(json_object_get(doc, "result"), "disks"), 0),
						    "size")), 8 << 20);
	json_decref(doc);
	rig_fini(&r);
}

TEST(snapshots_inside_are_taken_on_all_disks_or_on_none)
{
	struct rig r;

	rig_init(&r, 2);
	rig_do(&r, "{'request':'snapshot-create','params':{'disks':'disk1','name':'a'}}", -1);
	rig_refused(&r, "{'request':'snapshot-create','params':{'disks':'root,disk1','name':'a'}}", -1, "has a snapshot 'a' already");
	rig_refused(&r, "{'request':'snapshot-delete','params':{'disks':'root','name':'a'}}", -1, "'a'");
	rig_do(&r, "{'request':'snapshot-delete','params':{'disks':'disk1','name':'a'}}", -1);
	rig_do(&r, "{'request':'snapshot-create','params':{'disks':'root,disk1','name':'a'}}", -1);
	rig_do(&r, "{'request':'snapshot-delete','params':{'disks':'root,disk1','name':'a'}}", -1);
	rig_fini(&r);
}

TEST(a_mirror_a_backup_and_a_commit_are_asked_for)
{
	char top[64];
	struct rig r;

	rig_init(&r, 2);
	hand_over(&r, "t", "t0", ",'new':true,'format':'raw'");
	rig_do(&r, "{'request':'disk-mirror','params':{'disks':'root=t','id':'m','wait':true,'mode':'blocking'}}", -1);
	wait_job(&r, "m", "ready");
	rig_do(&r, "{'request':'job-complete','params':{'id':'m'}}", -1);
	wait_job(&r, "m", "completed");
	CHECK_EQ(chain_len(&r, "root", top), 1);
	CHECK_STR(top, in_dir(&r, "t0"));
	CHECK_STR(r.h.cfg.disks[0].path, top);
	CHECK_STR(r.h.cfg.disks[0].format, "raw");
	rig_refused(&r, "{'request':'bitmap-add','params':{'disks':'root','name':'x'}}", -1, "keeps no dirty bitmaps");
	rig_do(&r, "{'request':'bitmap-add','params':{'disks':'disk1','name':'x','granularity':'4K'}}", -1);
	hand_over(&r, "f", "f0", ",'new':true");
	hand_over(&r, "g", "g0", ",'new':true");
	rig_do(&r, "{'request':'disk-backup','params':{'disks':'root=f,disk1=g','id':'b'}}", -1);
	wait_job(&r, "b.root", "completed");
	hand_over(&r, "o", "o0", ",'new':true");
	rig_do(&r, "{'request':'disk-snapshot','params':{'disks':'root=o'}}", -1);
	CHECK_EQ(chain_len(&r, "root", top), 2);
	rig_do(&r, "{'request':'disk-commit','params':{'disk':'root'}}", -1);
	wait_job(&r, "commit.root", "completed");
	CHECK_EQ(chain_len(&r, "root", top), 1);
	CHECK_STR(top, in_dir(&r, "t0"));
	rig_refused(&r, "{'request':'disk-commit','params':{'disk':'root'}}", -1, "has no backing image");
	rig_fini(&r);
}

/* --- connections ---------------------------------------------------------------------------------- */

static void socket_refused(struct rig *r, const char *more, const char *says)
{
	char text[400];
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	snprintf(text, sizeof(text), "{'request':'image-add','params':{'id':'n'%s}}", more);
	rig_refused(r, text, sv[0], says);
	close(sv[0]);
	close(sv[1]);
}

TEST(a_connection_is_an_image_for_one_request)
{
	struct rig r;
	int sv[2];

	rig_init(&r, 2);
	socket_refused(&r, "", "'");
	socket_refused(&r, ",'path':'/tmp/x'", "'/tmp/x'");
	socket_refused(&r, ",'path':'http://host/x'", "only be read");
	socket_refused(&r, ",'path':'nbd://host/x','format':'qcow2'", "the format is raw");
	socket_refused(&r, ",'path':'nbd://host/x','new':true", "no image is made");
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	rig_do(&r, "{'request':'image-add','params':{'id':'n','path':'nbd://host/x'}}", sv[0]);
	close(sv[0]);
	rig_refused(&r, "{'request':'disk-mirror','params':{'disks':'root=n,disk1=n','stay':true}}", -1, "named for two disks");
	/* Whoever is there does not speak NBD. What was said on the connection cannot be said again. */
	CHECK_EQ(write(sv[1], "220 mail.example.com ESMTP ready\r\n", 34), 34);
	rig_refused(&r, "{'request':'disk-backup','params':{'disks':'root=n'}}", -1, "does not speak NBD");
	rig_refused(&r, "{'request':'disk-backup','params':{'disks':'root=n'}}", -1, "there is no image 'n'");
	close(sv[1]);
	rig_fini(&r);
}
