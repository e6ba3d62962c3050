/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup_priv.h - control groups, as their files share them: cgroup_place.c looks where they may be made, cgroup.c makes,
 * ends and removes them for machines. */
#ifndef NODE_CGROUP_PRIV_H
#define NODE_CGROUP_PRIV_H

#include "node/cgroup.h"
#include "util/cgroup.h"

enum { CGROUP_WHY_MAX = 300 };

/* Below which groups are made: the daemon's own in one hierarchy. */
struct cgroup_place {
	char folder[CGROUP_PATH_MAX];
	bool has_pids;                  /* groups have a bound of tasks, */
	bool is_enabled_here;           /* or would have, if the daemon's own gave them the controller: version 2, below the root */
	bool was_told;                  /* that it cannot */
};

/* --- cgroup_place.c --- */

/* Fill PLACES; how many there are. Of version 2 the daemon moves into a leaf, where its group is to have controllers for others. 0: WHY
 * says it. */
unsigned cgroup_places_find(struct cgroup_place places[CGROUP_HIERARCHIES], char why[CGROUP_WHY_MAX]);
/* Groups in P get the controllers that there are, if they do not have them yet. */
void cgroup_place_enable(struct cgroup_place *p);

#endif
