/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup_place.c - where the daemon may make groups.
 *
 * Below its own. Where systemd runs it owns the tree (its CGROUP_DELEGATION.md): a part is another's that it has marked as given away, and
 * no other, though root could write all of them. In the unified hierarchy a group whose members shall have controllers has no processes of
 * its own but those in groups below it, so the daemon goes into one, 'daemon', beside those of its machines. They stand beside it and
 * not in a group of their own, as systemd takes the controllers from a service's group before it starts a process there, which the kernel
 * refuses when a group below hands them on; then the service could not be started again while machines run. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "node/cgroup_priv.h"
#include "util/log.h"

static const char own_leaf[] = "daemon";

struct looking {
	struct cgroup_self self;
	char *why;
	bool is_delegated;
};

static bool folder_of(const struct looking *l, const char *controller, char folder[CGROUP_PATH_MAX])
{
	return cgroup_folder(l->self.cgroup, l->self.mountinfo, controller, folder, CGROUP_PATH_MAX);
}

static bool has_mark(const struct looking *l, const char *controller)
{
	char folder[CGROUP_PATH_MAX], value[8];

	return folder_of(l, controller, folder) && (getxattr(folder, "trusted.delegate", value, sizeof(value)) > 0 ||
						    getxattr(folder, "user.delegate", value, sizeof(value)) > 0);
}

/* Without systemd whoever may write does. */
static bool is_delegated(const struct looking *l)
{
	return access("/run/systemd/system", F_OK) < 0 || has_mark(l, "") || has_mark(l, "name=systemd");
}

static bool find(const struct looking *l, const char *controller, struct cgroup_place *p)
{
	*p = (struct cgroup_place){ .has_pids = controller[0] };
	if (!folder_of(l, controller, p->folder))
		return false;
	if (!l->is_delegated)
		snprintf(l->why, CGROUP_WHY_MAX, "systemd has not delegated '%.150s'; see Delegate= in vivd.service", p->folder);
	else if (!cgroup_is_writable(p->folder))
		snprintf(l->why, CGROUP_WHY_MAX, "'%.150s' cannot be written", p->folder);
	else
		return true;
	return false;
}

void cgroup_place_enable(struct cgroup_place *p)
{
	int r = p->is_enabled_here ? cgroup_write(p->folder, "cgroup.subtree_control", "+pids") : 0;

	if (r < 0 && !p->was_told) {
		p->was_told = true;
		log_warn("control groups of machines have no bound of processes: '%s' gives them no controller: %s%s", p->folder, strerror(-r),
			 r == -EBUSY ? "; other processes are in it" : "");
	}
	p->has_pids |= p->is_enabled_here && !r;
}

/* Version 2: out of the way of controllers for others. */
static void move_to_leaf(const struct cgroup_place *p)
{
	char leaf[CGROUP_PATH_MAX + 16], events[CGROUP_PATH_MAX + 16];

	/* The root, which has no such file, may have both. */
	snprintf(events, sizeof(events), "%s/cgroup.events", p->folder);
	snprintf(leaf, sizeof(leaf), "%s/%s", p->folder, own_leaf);
	if (access(events, F_OK) < 0)
		return;
	int r = mkdir(leaf, 0755) < 0 && errno != EEXIST ? -errno : cgroup_write(leaf, "cgroup.procs", "0");
	if (r < 0)
		log_warn("this daemon cannot move into the control group '%s': %s", leaf, strerror(-r));
}

/* Has version 2 the controller, and not version 1? */
static bool has_controller(const struct cgroup_place *p, const char *name)
{
	char text[256], *rest = text, *word;

	cgroup_read(p->folder, "cgroup.controllers", text, sizeof(text));
	while ((word = strsep(&rest, " \n")) != NULL)
		if (!strcmp(word, name))
			return true;
	return false;
}

unsigned cgroup_places_find(struct cgroup_place places[CGROUP_HIERARCHIES], char why[CGROUP_WHY_MAX])
{
	struct looking l = { .why = why };
	unsigned n = 0;

	snprintf(why, CGROUP_WHY_MAX, "none are mounted that could have them");
	if (cgroup_self_read(&l.self) < 0)
		return 0;
	l.is_delegated = is_delegated(&l);
	if (find(&l, "", &places[n])) {
		move_to_leaf(&places[n]);
		places[n].is_enabled_here = has_controller(&places[n], "pids");
		cgroup_place_enable(&places[n++]);
	}
	if (find(&l, "pids", &places[n]))
		n++;
	cgroup_self_free(&l.self);
	return n;
}
