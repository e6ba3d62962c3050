/* SPDX-License-Identifier: Apache-2.0 */
/* pool_dir.h - the directory of a pool, as the file system has it: the marker that tells it from an empty mount point,
 * locks, room. Calls wait for the file system, which may be one of a network. Any thread.
 *
 *	PATH/.viv-pool          the marker: which pool it is, and how disks lie in it
 *	PATH/.viv-pool.host     whose: the one daemon that uses it
 *	PATH/volumes/...        (disk_files.h)
 *	PATH/instances/UID/root.qcow2
 *	PATH/bases/BASE/        what linked clones share (bases.h) */
#ifndef NODE_POOL_DIR_H
#define NODE_POOL_DIR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct err;

#define POOL_MARKER ".viv-pool"
#define POOL_HOST ".viv-pool.host"

/* How disks lie in it. It is chosen when the pool is made, and stands in the marker. */
enum pool_driver {
	POOL_DRIVER_DIR,        /* files in directories */
	POOL_DRIVER_BTRFS,      /* each disk in a subvolume of its own */
};

enum { POOL_TYPE_MAX = 32 };

/* What is found of a pool when it is looked at for the first time. */
struct pool_facts {
	enum pool_driver driver;
	bool shares;                    /* a copy of a file can share blocks with it (reflink) */
	char file_system[POOL_TYPE_MAX];        /* "xfs"; "": not known */
};

struct pool_space {
	uint64_t size;          /* bytes of the file system */
	uint64_t used;
	uint64_t free;          /* of them for the daemon */
};

enum pool_level { POOL_ROOMY, POOL_TIGHT, POOL_FULL };

/* May a pool be at PATH: absolute, plain, not "/"? Only the text is looked at. -EINVAL. */
int pool_dir_check_path(const char *path, struct err *err);
/* Is one of two such paths in the other, or the other? */
bool pool_dir_overlap(const char *a, const char *b);

/* Make the directory PATH, which is there, that of the pool UID: locks are tried, the marker comes last. DRIVER is one by name, or "auto".
 * May be repeated, and may have been cut off anywhere. -ENOENT, -EEXIST: it is another pool's; -EPERM: others may change it; -ENOLCK:
 * no locks; -EINVAL: the driver is not for that file system. */
int pool_dir_make(const char *path, const char *uid, const char *driver, struct err *err);
const char *pool_driver_name(enum pool_driver d);
/* The directory of the pool UID ("": without a marker); while the descriptor is open it is not unmounted. -ESTALE: that is not
 * there now. */
int pool_dir_open(const char *path, const char *uid, struct err *err);
/* Take marker and empty directories away; -ENOTEMPTY: there are files. What is not there is fine. */
int pool_dir_unmake(const char *path, const char *uid, struct err *err);

/* --- pool_host.c --- */

/* Who the daemon with the directory DATA_DIR is to others: host and directory. From malloc(); NULL: out of memory. */
char *pool_host_name(const char *data_dir);
/* DIR, the directory of a pool, is used by the daemon WHO alone; nobody's becomes its. -EBUSY: it is another's; -EAGAIN: one is
 * just taking it. */
int pool_host_claim(int dir, const char *who, struct err *err);

int pool_dir_facts(int dir, struct pool_facts *out, struct err *err);
int pool_dir_space(int dir, struct pool_space *out, struct err *err);
/* How full is that, with warnings from WARN percent and nothing new from LIMIT on? A level is left a percent below where it begins. */
enum pool_level pool_dir_level(const struct pool_space *s, unsigned warn, unsigned limit, enum pool_level was);
unsigned pool_dir_percent(const struct pool_space *s);

/* Do locks of the three kinds (open file description, record, whole file) hold in DIR? -ENOLCK with the sentence. */
int pool_dir_try_locks(int dir, struct err *err);
/* The option by which the mount MAJOR:MINOR of MOUNTINFO (proc(5)) keeps locks from other hosts: "nolock"; "": none. */
void pool_dir_lock_option(FILE *mountinfo, unsigned major, unsigned minor, char *option, size_t cap);
/* The type of the file system of the mount ID of MOUNTINFO ("nfs4"; "": there is none), and whether users other than who has mounted it
 * may use it, which FUSE says by an option of its own. */
void pool_dir_mount_type(FILE *mountinfo, uint64_t id, char type[POOL_TYPE_MAX], bool *is_for_others);

#endif
