/* SPDX-License-Identifier: Apache-2.0 */
/* Where a process's control groups are, by the kernel's texts. */
#include "test.h"

#include <stdlib.h>
#include "util/cgroup.h"

/* systemd of Debian 12: the unified hierarchy alone. */
static const char unified_groups[] = "0::/system.slice/vivd.service\n";
static const char unified_mounts[] =
	"24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n"
	"29 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

/* Both versions. */
static const char both_groups[] = "9:name=systemd:/init.scope\n8:pids:/a\n4:memory:/b/c\n2:cpu,cpuacct:/d\n0::/\n";
static const char both_mounts[] =
	"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
	"32 31 0:29 / /sys/fs/cgroup/cpu\\040,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
	"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 master:1 - cgroup cgroup rw,memory\n"
	"39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
	"40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n"
	"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

static const char *folder(const char *groups, const char *mounts, const char *controller)
{
	static char text[CGROUP_PATH_MAX];

	return cgroup_folder(groups, mounts, controller, text, sizeof(text)) ? text : "none";
}

TEST(a_group_is_below_the_mount_of_its_hierarchy)
{
	CHECK_STR(folder(unified_groups, unified_mounts, ""), "/sys/fs/cgroup/system.slice/vivd.service");
	CHECK_STR(folder(unified_groups, unified_mounts, "pids"), "none");
	CHECK_STR(folder(both_groups, both_mounts, ""), "/sys/fs/cgroup/unified");
	CHECK_STR(folder(both_groups, both_mounts, "pids"), "/sys/fs/cgroup/pids/a");
	CHECK_STR(folder(both_groups, both_mounts, "memory"), "/sys/fs/cgroup/memory/b/c");
	CHECK_STR(folder(both_groups, both_mounts, "cpuacct"), "/sys/fs/cgroup/cpu ,cpuacct/d");
	CHECK_STR(folder(both_groups, both_mounts, "name=systemd"), "/sys/fs/cgroup/systemd/init.scope");
}

TEST(a_part_of_a_name_is_no_name)
{
	CHECK_STR(folder(both_groups, both_mounts, "pid"), "none");
	CHECK_STR(folder(both_groups, both_mounts, "acct"), "none");
	CHECK_STR(folder(both_groups, both_mounts, "cpua"), "none");
	CHECK_STR(folder(both_groups, both_mounts, "systemd"), "none");
	/* Options that are no controllers, of which there is no group. */
	CHECK_STR(folder(both_groups, both_mounts, "xattr"), "none");
}

/* What a container sees that has a view of the tree which begins at its own group, or a mount of a part of it. */
TEST(what_is_mounted_may_begin_below_the_root)
{
	static const char mounts[] = "9 8 0:3 /docker/1a /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n"
				     "7 8 0:3 /docker/1a2b /sys/fs/cgroup/of\\134it rw - cgroup cgroup rw,pids\n";

	CHECK_STR(folder("3:pids:/docker/1a\n", mounts, "pids"), "/sys/fs/cgroup/pids");
	CHECK_STR(folder("3:pids:/docker/1a/x\n", mounts, "pids"), "/sys/fs/cgroup/pids/x");
	CHECK_STR(folder("3:pids:/docker/1a2b/x\n", mounts, "pids"), "/sys/fs/cgroup/of\\it/x");
	CHECK_STR(folder("3:pids:/docker\n", mounts, "pids"), "none");
	CHECK_STR(folder("3:pids:/docker/1a2bc\n", mounts, "pids"), "none");
	CHECK_STR(folder("3:pids:/../other\n", mounts, "pids"), "none");
	CHECK_STR(folder("0::/../..\n", unified_mounts, ""), "none");
}

TEST(texts_that_are_cut_off_or_odd_are_refused)
{
	static const char *const odd[] = { "", "\n\n", "0", "0:", "0:\n:", "::", "8:pids\n", "8:pids:" };
	size_t whole = (size_t)(strstr(both_mounts, "rw,pids") + strlen("rw,pids") - both_mounts);
	char text[24], small[8];

	for (unsigned k = 0; k < sizeof(odd) / sizeof(odd[0]); k++) {
		CHECK_STR(folder(odd[k], both_mounts, "memory"), "none");
		CHECK_STR(folder(both_groups, odd[k], "memory"), "none");
	}
	for (unsigned n = 0; n < sizeof(both_mounts) - 1; n++) {
		char *cut = strndup(both_mounts, n);

		(void)folder(both_groups, cut, "");
		CHECK_STR(folder(both_groups, cut, "pids"), n < whole ? "none" : "/sys/fs/cgroup/pids/a");
		free(cut);
	}
	CHECK(!cgroup_folder(both_groups, both_mounts, "pids", small, sizeof(small)));
	CHECK(!cgroup_folder(both_groups, both_mounts, "pids", text, 21));
	CHECK(cgroup_folder(both_groups, both_mounts, "pids", text, 22));
}
