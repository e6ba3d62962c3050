/* SPDX-License-Identifier: Apache-2.0 */
/* control_migrate.h - the requests of the control socket that send a machine elsewhere. */
#ifndef VM_CONTROL_MIGRATE_H
#define VM_CONTROL_MIGRATE_H

#include "vm/control_priv.h"

extern const struct control_param control_migrate_params[], control_migrate_set_params[], control_upgrade_params[];

int control_migrate(struct control_call *call, struct err *err);
int control_upgrade(struct control_call *call, struct err *err);
int control_migration(struct control_call *call, struct err *err);
/* How far it is, for "info"; a new reference, NULL: nothing is under way. */
json_t *control_migration_now(const struct machine *m);
extern const struct control_param control_migrate_recover_params[];
int control_migrate_recover(struct control_call *call, struct err *err);
int control_migrate_postcopy(struct control_call *call, struct err *err);
int control_migrate_set(struct control_call *call, struct err *err);
int control_migrate_cancel(struct control_call *call, struct err *err);

#endif
